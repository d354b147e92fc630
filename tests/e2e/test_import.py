"""`facets import` between real API servers with mcs-api's own CRDs: watchers, Kafka, a worker, and what is written.

Two clusters export Services to each other; what each is given is read from its API server.
"""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streams.exit_codes import ExitCode
from tests.e2e.clusterset import HTTP, NAMES, SLICES, ClusterSet, clusterset
from tests.support.controlplane import ControlPlane, mcs
from tests.support.controlplane.mcs import MCS, found, until
from tests.support.facets_processes import free_port

OWN = "service-facets.io/imported-by=facets-import"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSet]:
    """Two clusters without an importer yet."""
    with (
        ControlPlane("east") as east,
        ControlPlane("west") as west,
        clusterset(tmp_path_factory.mktemp("clusterset"), {"east": east, "west": west}) as made,
    ):
        yield made


@pytest.fixture
def importing(both: ClusterSet) -> Iterator[ClusterSet]:
    """The same with an importer that runs."""
    both.start()
    yield both
    if "import" in both.facets.running:
        assert both.end() == 0, both.facets.logs()


def test_what_two_clusters_export_is_one_service_in_both(importing: ClusterSet) -> None:
    importing.namespace("shop")
    importing.service("east", "shop", "cart", ["10.1.0.1", "10.1.0.2"], sessionAffinity="ClientIP")
    labels = {"team": "web", "not": "a label"}
    importing.export("east", "shop", "cart", exportedLabels=labels, exportedAnnotations={"note": "a"})
    importing.until_imported("shop", "cart", {"east": ["10.1.0.1", "10.1.0.2"]})
    item = importing.service_import("west", "shop", "cart")
    assert item["spec"] == {
        "type": "ClusterSetIP",
        "ports": [HTTP],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
        "ipFamilies": ["IPv4"],
        "internalTrafficPolicy": "Cluster",
    }
    assert item["metadata"]["labels"] == {"team": "web", "service-facets.io/imported-by": "facets-import"}
    assert item["metadata"]["annotations"]["note"] == "a"
    status = importing.until(lambda: importing.service_import("west", "shop", "cart").get("status"))
    assert (status["clusters"], status["endpointSliceObjects"]) == ([{"cluster": "east"}], "Present")
    (slice_,) = importing.slices("west", "shop", "cart")
    assert slice_["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "import.service-facets.io"
    assert "kubernetes.io/service-name" not in slice_["metadata"]["labels"]
    (owner,) = slice_["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("ServiceImport", item["metadata"]["uid"])
    # Of the same name, a Node is another cluster's; a zone is not.
    assert [(each.get("nodeName"), each["zone"]) for each in slice_["endpoints"]] == [(None, "z1")] * 2
    (own,) = importing.slices("east", "shop", "cart")
    assert [each["nodeName"] for each in own["endpoints"]] == ["n1"] * 2

    importing.service("west", "shop", "cart", ["10.2.0.1"], sessionAffinity="ClientIP")
    importing.export("west", "shop", "cart", exportedLabels=labels, exportedAnnotations={"note": "a"})
    both = {"east": ["10.1.0.1", "10.1.0.2"], "west": ["10.2.0.1"]}
    importing.until_imported("shop", "cart", both)
    agreed = {"Valid": ("True", "Valid"), "Ready": ("True", "Exported"), "Conflict": ("False", "NoConflicts")}
    for cluster in NAMES:
        importing.until_conditions(cluster, "shop", "cart", **agreed)

    # A change of one cluster's slice is written to its slice alone.
    before = {each["metadata"]["name"]: each for each in importing.slices("west", "shop", "cart")}
    patch = {"endpoints": [{"addresses": ["10.1.0.9"]}]}
    importing.planes["east"].api.patch(f"{SLICES}/namespaces/shop/endpointslices/cart-slice", patch)
    importing.until_imported("shop", "cart", {"east": ["10.1.0.9"], "west": ["10.2.0.1"]})
    after = {each["metadata"]["name"]: each for each in importing.slices("west", "shop", "cart")}
    assert after.keys() == before.keys()
    changed = [name for name in after if version(after[name]) != version(before[name])]
    assert [source(after[name]) for name in changed] == ["east"]

    # Taken back by one, it is still there of the other; by the last, it is gone everywhere.
    importing.unexport("east", "shop", "cart")
    importing.until_imported("shop", "cart", {"west": ["10.2.0.1"]})
    importing.unexport("west", "shop", "cart")
    importing.until_gone("shop", "cart")


def test_conflicts_are_said_of_every_export(importing: ClusterSet) -> None:
    importing.namespace("conflicts")
    importing.service("east", "conflicts", "api", ["10.1.1.1"])
    importing.export("east", "conflicts", "api")
    importing.until_imported("conflicts", "api", {"east": ["10.1.1.1"]})
    importing.until_conditions("east", "conflicts", "api", Conflict=("False", "NoConflicts"))
    # A ServiceExport's age is in whole seconds.
    until(lambda: seconds_of(importing, "east", "conflicts", "api") > 1, "time stands still")
    importing.service("west", "conflicts", "api", ["10.2.1.1"], clusterIP="None", ipFamilyPolicy="SingleStack")
    importing.export("west", "conflicts", "api")
    for cluster in NAMES:
        importing.until_conditions(cluster, "conflicts", "api", Conflict=("True", "TypeConflict"))
        assert importing.service_import(cluster, "conflicts", "api")["spec"]["type"] == "ClusterSetIP"
    importing.unexport("west", "conflicts", "api")
    importing.until_conditions("east", "conflicts", "api", Conflict=("False", "NoConflicts"))
    # A Service that goes takes its export out of the set, and the condition with it.
    importing.planes["east"].api.delete("/api/v1/namespaces/conflicts/services/api")
    importing.until_conditions("east", "conflicts", "api", Valid=("False", "NoService"), Ready=("False", "Pending"))
    assert "Conflict" not in importing.conditions("east", "conflicts", "api")
    importing.until_gone("conflicts", "api")
    importing.export("west", "conflicts", "nothing")
    importing.until_conditions("west", "conflicts", "nothing", Valid=("False", "NoService"))
    importing.service("west", "conflicts", "alias", [], type="ExternalName", externalName="a.example", ports=[])
    importing.export("west", "conflicts", "alias")
    importing.until_conditions("west", "conflicts", "alias", Valid=("False", "InvalidServiceType"))
    assert importing.service_import("west", "conflicts", "alias") is None


def test_ports_are_merged_and_the_oldest_export_has_the_rest(importing: ClusterSet) -> None:
    importing.namespace("merged")
    other = {"name": "other", "port": 142, "protocol": "SCTP"}
    for name, port in (("union", {**HTTP}), ("moved", {**HTTP, "port": 81})):
        importing.service("east", "merged", name, [], trafficDistribution="PreferClose")
        importing.export("east", "merged", name, exportedLabels={"of": "east"}, exportedAnnotations={"of": "east"})
        importing.until_imported("merged", name, {})
        until(lambda name=name: seconds_of(importing, "east", "merged", name) > 1, "time stands still")
        ports = [port, other] if name == "union" else [port]
        importing.service("west", "merged", name, [], ports=ports, trafficDistribution="PreferClose")
        importing.export("west", "merged", name, exportedLabels={"of": "west"}, exportedAnnotations={"of": "west"})
        conflict = ("True", "PortConflict,LabelsConflict,AnnotationsConflict")
        for cluster in NAMES:
            importing.until_conditions(cluster, "merged", name, Conflict=conflict)
            wanted = [HTTP, other] if name == "union" else [HTTP]
            importing.until(
                lambda name=name, cluster=cluster, wanted=wanted: (
                    importing.service_import(cluster, "merged", name)["spec"]["ports"] == wanted
                )
            )
            item = importing.service_import(cluster, "merged", name)
            assert item["spec"]["trafficDistribution"] == "PreferClose"
            assert item["metadata"]["labels"]["of"] == item["metadata"]["annotations"]["of"] == "east"


def test_many_endpoints_are_divided_and_one_that_changes_leaves_the_other_slices(importing: ClusterSet) -> None:
    """More than Kubernetes' own controller puts into a slice, and a row that is written in parts."""
    importing.namespace("large")
    addresses = [f"10.3.{number // 250}.{number % 250 + 1}" for number in range(260)]
    importing.service("east", "large", "web", addresses)
    importing.export("east", "large", "web")
    importing.until_imported("large", "web", {"east": sorted(addresses)})
    before = {each["metadata"]["name"]: each for each in importing.slices("west", "large", "web")}
    assert len(before) > 2
    assert all(len(each["endpoints"]) <= 100 for each in before.values())
    path = f"{SLICES}/namespaces/large/endpointslices/web-slice"
    rest = [{"addresses": [address]} for address in addresses[1:]]
    importing.planes["east"].api.patch(path, {"endpoints": rest})
    importing.until_imported("large", "web", {"east": sorted(addresses[1:])})
    importing.planes["east"].api.patch(path, {"endpoints": [*rest, {"addresses": ["10.3.9.9"]}]})
    importing.until_imported("large", "web", {"east": sorted([*addresses[1:], "10.3.9.9"])})
    middle = {each["metadata"]["name"]: each for each in importing.slices("west", "large", "web")}
    importing.planes["east"].api.patch(path, {"endpoints": rest})
    importing.until_imported("large", "web", {"east": sorted(addresses[1:])})
    after = {each["metadata"]["name"]: each for each in importing.slices("west", "large", "web")}
    assert before.keys() == middle.keys() == after.keys()
    assert sum(version(middle[name]) != version(after[name]) for name in after) == 1


def test_a_clusters_id_is_its_cluster_property(importing: ClusterSet) -> None:
    """Another id is a leave and a join (KEP-2149)."""
    importing.namespace("ids")
    importing.service("west", "ids", "api", ["10.2.7.1"])
    importing.export("west", "ids", "api")
    importing.until_imported("ids", "api", {"west": ["10.2.7.1"]})
    path = "/apis/about.k8s.io/v1beta1/clusterproperties"
    name = "cluster.clusterset.k8s.io"
    importing.planes["west"].api.post(
        path,
        {
            "apiVersion": "about.k8s.io/v1beta1",
            "kind": "ClusterProperty",
            "metadata": {"name": name},
            "spec": {"value": "w-1"},
        },
    )
    importing.until_imported("ids", "api", {"w-1": ["10.2.7.1"]})
    for cluster in NAMES:
        importing.until(
            lambda cluster=cluster: (
                importing.service_import(cluster, "ids", "api")["status"]["clusters"] == [{"cluster": "w-1"}]
            )
        )
    importing.planes["west"].api.delete(f"{path}/{name}")
    importing.until_imported("ids", "api", {"west": ["10.2.7.1"]})


def test_a_headless_service_and_a_namespace_that_comes_later(importing: ClusterSet) -> None:
    importing.namespace("later", "east")
    importing.service("east", "later", "db", ["10.1.2.1"], clusterIP="None")
    importing.export("east", "later", "db")
    importing.until_imported("later", "db", {"east": ["10.1.2.1"]}, "east")
    assert importing.service_import("east", "later", "db")["spec"]["type"] == "Headless"
    path = f"{SLICES}/namespaces/later/endpointslices/db-slice"
    importing.planes["east"].api.patch(path, {"endpoints": [{"addresses": ["10.1.2.1"], "hostname": "db-0"}]})
    importing.until(
        lambda: (
            [end.get("hostname") for each in importing.slices("east", "later", "db") for end in each["endpoints"]]
            == ["db-0"]
        )
    )
    importing.namespace("later", "west")
    importing.until_imported("later", "db", {"east": ["10.1.2.1"]}, "west")
    importing.unexport("east", "later", "db")
    importing.until_gone("later", "db")


def test_somebody_elses_service_import_is_left_alone(importing: ClusterSet) -> None:
    importing.namespace("foreign")
    body = {
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
        "metadata": {"name": "web", "labels": {"by": "hand"}},
        "spec": {"type": "ClusterSetIP", "ports": [{"port": 1, "protocol": "TCP"}]},
    }  # fmt: skip
    made = importing.planes["west"].api.post(f"{MCS}/namespaces/foreign/serviceimports", body)
    importing.service("east", "foreign", "web", ["10.1.3.1"])
    importing.export("east", "foreign", "web")
    importing.until_imported("foreign", "web", {"east": ["10.1.3.1"]}, "east")
    importing.until(lambda: "ServiceImport foreign/web is somebody else's" in importing.facets.logs())
    assert importing.service_import("west", "foreign", "web") == made
    assert not importing.slices("west", "foreign", "web")
    # Once it is gone, the Service is imported there, too.
    importing.planes["west"].api.delete(f"{MCS}/namespaces/foreign/serviceimports/web")
    importing.until_imported("foreign", "web", {"east": ["10.1.3.1"]})


def test_conditions_that_somebody_else_sets_are_left_alone(both: ClusterSet) -> None:
    """Two implementations in one cluster: the Service is imported all the same."""
    both.namespace("others")
    both.service("east", "others", "web", ["10.1.8.1"])
    both.export("east", "others", "web")
    at = "2026-01-01T00:00:00Z"
    theirs = {"type": "Valid", "status": "False", "reason": "Theirs", "message": "", "lastTransitionTime": at}
    path = f"{MCS}/namespaces/others/serviceexports/web"
    both.planes["east"].api.patch(f"{path}/status", {"status": {"conditions": [theirs]}})
    both.start()
    both.until_imported("others", "web", {"east": ["10.1.8.1"]})
    both.until(lambda: "conditions of ServiceExport others/web are set by somebody else" in both.facets.logs())
    assert found(both.planes["east"].api, path)["status"]["conditions"] == [theirs]
    assert both.end() == 0


def test_what_changed_while_no_importer_ran_is_made_up_for(both: ClusterSet) -> None:
    both.start()
    both.namespace("crash")
    for name in ("kept", "taken-back"):
        both.service("east", "crash", name, ["10.1.4.1"])
        both.export("east", "crash", name)
        both.until_imported("crash", name, {"east": ["10.1.4.1"]})
    both.end(how=signal.SIGKILL)
    both.unexport("east", "crash", "taken-back")
    patch = {"endpoints": [{"addresses": ["10.1.4.2"]}]}
    both.planes["east"].api.patch(f"{SLICES}/namespaces/crash/endpointslices/kept-slice", patch)
    both.until(
        lambda: (
            {
                (each["action"], each["kind"], each["cluster"])
                for each in both.dry_run()[1]
                if each["namespace"] == "crash"
            }
            == {("delete", kind, cluster) for kind in ("ServiceImport", "EndpointSlice") for cluster in NAMES}
            | {("update", "EndpointSlice", cluster) for cluster in NAMES}
        )
    )
    assert both.endpoints("west", "crash", "taken-back") == {"east": ["10.1.4.1"]}, "a dry run writes nothing"

    # Two at once write the same.
    both.start("one")
    both.start("two")
    both.until_gone("crash", "taken-back")
    both.until_imported("crash", "kept", {"east": ["10.1.4.2"]})
    both.service("west", "crash", "kept", ["10.2.4.1"])
    both.export("west", "crash", "kept")
    both.until_imported("crash", "kept", {"east": ["10.1.4.2"], "west": ["10.2.4.1"]})
    both.until_conditions("west", "crash", "kept", Valid=("True", "Valid"))
    both.until(lambda: both.dry_run() == (ExitCode.OK, []))
    versions = all_versions(both)
    for name in ("one", "two"):
        assert both.end(name) == 0, both.facets.logs()
    assert all_versions(both) == versions, "two importers went on writing over each other"


def test_a_dry_run_that_finds_no_api_server_ends(both: ClusterSet, tmp_path: Path) -> None:
    gone = tmp_path / "kubeconfig"
    gone.write_text(both.importers.read_text().replace(both.planes["west"].url, f"https://127.0.0.1:{free_port()}"))
    assert both.dry_run("--kubeconfig", str(gone)) == (ExitCode.UNAVAILABLE, [])


def test_the_role_is_no_more_than_what_is_done(importing: ClusterSet) -> None:
    for plane in importing.planes.values():
        may = plane.api_as("norights")
        for path, body in (
            ("/api/v1/namespaces/default/services", {"metadata": {"name": "x"}, "spec": {"ports": [HTTP]}}),
            (f"{MCS}/namespaces/default/serviceexports", {"metadata": {"name": "x"}}),
            ("/api/v1/namespaces", {"metadata": {"name": "x"}}),
        ):
            with pytest.raises(Exception, match="403"):
                may.post(path, body)
        with pytest.raises(Exception, match="403"):
            may.get("/api/v1/services")
        with pytest.raises(Exception, match="403"):
            may.get("/api/v1/secrets")


def test_a_derived_service_has_the_ip_and_is_no_service_of_the_cluster(both: ClusterSet) -> None:
    """Its slices are the endpoints of kube-proxy's Service; the watcher takes neither for the cluster's own."""
    both.namespace("derived")
    both.service("east", "derived", "web", ["10.1.5.1"], ipFamilyPolicy="PreferDualStack")
    both.export("east", "derived", "web")
    both.start("refused", "--cluster-set-ip", "derived", ready=False)
    assert both.facets.running.pop("refused").wait(mcs.DEADLINE) == ExitCode.FORBIDDEN
    for plane in both.planes.values():
        mcs.grant(plane.api, "norights", "service-facets-importer-derived")
    both.start("derived", "--cluster-set-ip", "derived")
    both.until_imported("derived", "web", {"east": ["10.1.5.1"]})
    for cluster, plane in both.planes.items():
        spec = both.until(
            lambda cluster=cluster: (
                (found_spec := both.service_import(cluster, "derived", "web")["spec"]).get("ips") and found_spec
            )
        )
        (made,) = plane.api.get("/api/v1/namespaces/derived/services", labelSelector=OWN)["items"]
        assert spec["ips"] == made["spec"]["clusterIPs"]
        assert spec["ipFamilies"] == made["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
        selector = f"kubernetes.io/service-name={made['metadata']['name']}"
        path = f"{SLICES}/namespaces/derived/endpointslices"
        (slice_,) = plane.api.get(path, labelSelector=selector)["items"]
        assert [each["addresses"] for each in slice_["endpoints"]] == [["10.1.5.1"]]
        # What comes after them in the journal is there: so they would be, too.
        both.service(cluster, "derived", "marker", [])
        both.until(lambda cluster=cluster: "marker" in both.names(cluster, "derived"))
        assert both.names(cluster, "derived") - {"marker"} == ({"web"} if cluster == "east" else set())
    # Another port in place of the one: in the import, the derived Service and the slices.
    moved = {"name": "web", "port": 81, "protocol": "TCP"}
    both.planes["east"].api.patch("/api/v1/namespaces/derived/services/web", {"spec": {"ports": [moved]}})
    ports = [{"name": "web", "port": 8081, "protocol": "TCP"}]
    both.planes["east"].api.patch(f"{SLICES}/namespaces/derived/endpointslices/web-slice", {"ports": ports})
    both.until(lambda: both.service_import("west", "derived", "web")["spec"]["ports"] == [moved])
    path = "/api/v1/namespaces/derived/services"
    west = both.planes["west"].api
    both.until(
        lambda: (
            [
                (port["name"], port["port"])
                for made in west.get(path, labelSelector=OWN)["items"]
                for port in made["spec"]["ports"]
            ]
            == [("web", 81)]
        )
    )
    both.until(lambda: [each["ports"] for each in both.slices("west", "derived", "web")] == [ports])
    both.service("east", "derived", "headless", ["10.1.5.2"], clusterIP="None", ipFamilyPolicy="SingleStack")
    both.export("east", "derived", "headless")
    both.until_imported("derived", "headless", {"east": ["10.1.5.2"]})
    for cluster in NAMES:
        assert "ips" not in both.service_import(cluster, "derived", "headless")["spec"]
    both.unexport("east", "derived", "headless")
    both.unexport("east", "derived", "web")
    both.until_gone("derived", "web")
    for plane in both.planes.values():
        both.until(
            lambda plane=plane: not plane.api.get("/api/v1/namespaces/derived/services", labelSelector=OWN)["items"]
        )
    assert both.end("derived") == 0


def test_crds_that_go_are_waited_for(importing: ClusterSet) -> None:
    """In one cluster the types are removed, and come back: the other goes on, and nothing has to be started again."""
    importing.namespace("crds")
    importing.service("east", "crds", "api", ["10.1.6.1"])
    importing.export("east", "crds", "api")
    importing.until_imported("crds", "api", {"east": ["10.1.6.1"]})
    mcs.uninstall(importing.planes["west"].api)
    importing.until(lambda: "cluster west: it has no ServiceImports and ServiceExports" in importing.facets.logs())
    patch = {"endpoints": [{"addresses": ["10.1.6.2"]}]}
    importing.planes["east"].api.patch(f"{SLICES}/namespaces/crds/endpointslices/api-slice", patch)
    importing.until_imported("crds", "api", {"east": ["10.1.6.2"]}, "east")
    mcs.install(importing.planes["west"].api)
    importing.until_imported("crds", "api", {"east": ["10.1.6.2"]}, "west")


def version(item: dict[str, Any]) -> str:
    return str(item["metadata"]["resourceVersion"])


def source(item: dict[str, Any]) -> str:
    return str(item["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"])


def seconds_of(clusterset: ClusterSet, cluster: str, namespace: str, name: str) -> float:
    """How old a ServiceExport is."""
    item = found(clusterset.planes[cluster].api, f"{MCS}/namespaces/{namespace}/serviceexports/{name}")
    return (datetime.now(UTC) - datetime.fromisoformat(item["metadata"]["creationTimestamp"])).total_seconds()


def all_versions(clusterset: ClusterSet) -> dict[str, str]:
    found_versions = {}
    for cluster, plane in clusterset.planes.items():
        for path in (f"{MCS}/serviceimports", f"{MCS}/serviceexports", f"{SLICES}/endpointslices"):
            for item in plane.api.get(path)["items"]:
                meta = item["metadata"]
                found_versions[f"{cluster} {path} {meta['namespace']}/{meta['name']}"] = version(item)
    return found_versions
