"""`facets import` between real API servers with mcs-api's own CRDs: watchers, Kafka, a worker, and what is written.

Two clusters export Services to each other; what each is given is read from its API server.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3

from streams.exit_codes import ExitCode
from streams.kafka.admin import ensure
from streams.local.kafka.broker import EmbeddedKafka
from tests.e2e.test_spine import Facets, free_port
from tests.support.controlplane import ControlPlane, mcs
from tests.support.controlplane.mcs import MCS, found, until

NAMES = ("east", "west")
SLICES = "/apis/discovery.k8s.io/v1"
OWN = "service-facets.io/imported-by=facets-import"
HTTP = {"name": "http", "port": 80, "protocol": "TCP"}


class ClusterSet:
    """Two clusters, and the processes between them."""

    def __init__(self, facets: Facets, planes: dict[str, ControlPlane], folder: Path) -> None:
        self.facets = facets
        self.planes = planes
        self.kubeconfig = mcs.merged_kubeconfig(folder / "admin", planes.values())
        self.importers = mcs.merged_kubeconfig(folder / "importer", planes.values(), "norights")

    def start(self, name: str = "import", *more: str, ready: bool = True) -> None:
        """Start an importer, by the account that may do only this."""
        clusters, port = [f"--cluster={each}={each}" for each in NAMES], free_port()
        self.facets.start(name, "import", "--kubeconfig", str(self.importers), *clusters, "--http-port", port, *more)
        if ready:
            until(lambda: is_ready(port), lambda: f"not ready\n{self.facets.logs()}")

    def end(self, name: str = "import", how: signal.Signals = signal.SIGTERM) -> int:
        return self.facets.end(name, how)

    def dry_run(self, *more: str) -> tuple[int, list[dict[str, Any]]]:
        """What --dry-run finds: its exit code, and the actions."""
        clusters = [f"--cluster={each}={each}" for each in NAMES]
        command = [sys.executable, "-m", "streams.cli", "import", "--dry-run", "-o", "json", *clusters, *more]
        command += ["--kubeconfig", str(self.importers), "--bootstrap-servers", self.facets.bootstrap]
        done = subprocess.run(command, capture_output=True, timeout=mcs.DEADLINE, check=False)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def namespace(self, name: str, *clusters: str) -> None:
        for cluster in clusters or NAMES:
            self.planes[cluster].api.post("/api/v1/namespaces", {"metadata": {"name": name}})

    def service(self, cluster: str, namespace: str, name: str, addresses: list[str], **spec: Any) -> None:
        """A Service without a selector, and a slice with these addresses."""
        api = self.planes[cluster].api
        body = {"metadata": {"name": name}, "spec": {"ports": [HTTP], **spec}}
        api.post(f"/api/v1/namespaces/{namespace}/services", body)
        if addresses:
            api.post(f"{SLICES}/namespaces/{namespace}/endpointslices", endpoint_slice(name, addresses))

    def export(self, cluster: str, namespace: str, name: str, **spec: Any) -> None:
        body = {
            "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": {"name": name},
            "spec": spec,
        }  # fmt: skip
        self.planes[cluster].api.post(f"{MCS}/namespaces/{namespace}/serviceexports", body)

    def unexport(self, cluster: str, namespace: str, name: str) -> None:
        self.planes[cluster].api.delete(f"{MCS}/namespaces/{namespace}/serviceexports/{name}")

    def service_import(self, cluster: str, namespace: str, name: str) -> Any:
        return found(self.planes[cluster].api, f"{MCS}/namespaces/{namespace}/serviceimports/{name}")

    def slices(self, cluster: str, namespace: str, name: str) -> list[dict[str, Any]]:
        """The slices that were imported of a Service."""
        selector = f"multicluster.kubernetes.io/service-name={name}"
        path = f"{SLICES}/namespaces/{namespace}/endpointslices"
        items: list[dict[str, Any]] = self.planes[cluster].api.get(path, labelSelector=selector)["items"]
        return items

    def endpoints(self, cluster: str, namespace: str, name: str) -> dict[str, list[str]]:
        """The addresses that were imported, by the cluster that has them."""
        by_source: dict[str, list[str]] = {}
        for each in self.slices(cluster, namespace, name):
            source = each["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"]
            by_source.setdefault(source, []).extend(end["addresses"][0] for end in each["endpoints"])
        return {source: sorted(addresses) for source, addresses in by_source.items()}

    def conditions(self, cluster: str, namespace: str, name: str) -> dict[str, tuple[str, str]]:
        """Of a ServiceExport: status and reason by type."""
        item = found(self.planes[cluster].api, f"{MCS}/namespaces/{namespace}/serviceexports/{name}")
        return {
            each["type"]: (each["status"], each["reason"]) for each in (item.get("status") or {}).get("conditions", ())
        }

    def names(self, cluster: str, namespace: str) -> set[str]:
        """The Services that the tables have of a cluster's own."""
        command = [sys.executable, "-m", "streams.cli", "get", "frontend", "-n", namespace, "--cluster", cluster]
        command += ["-o", "json", "--bootstrap-servers", self.facets.bootstrap]
        done = subprocess.run(command, capture_output=True, timeout=mcs.DEADLINE, check=False)
        assert done.returncode in {ExitCode.OK, ExitCode.UNKNOWN_NAME}, done.stderr.decode()
        return {row["name"] for row in json.loads(done.stdout)["items"]} if done.stdout else set()

    def until_conditions(self, cluster: str, namespace: str, name: str, **wanted: tuple[str, str]) -> None:
        """Wait until conditions of a ServiceExport have this status and reason."""
        seen: dict[str, tuple[str, str]] = {}

        def right() -> bool:
            seen.clear()
            seen.update(self.conditions(cluster, namespace, name))
            return seen | wanted == seen

        until(right, lambda: f"not {wanted} but {seen}\n{self.facets.logs()}")

    def until(self, right: Any) -> Any:
        return until(right, lambda: f"not in time\n{self.facets.logs()}")

    def until_imported(self, namespace: str, name: str, endpoints: dict[str, list[str]], *clusters: str) -> None:
        for cluster in clusters or NAMES:
            self.until(lambda cluster=cluster: self.service_import(cluster, namespace, name))
            self.until(lambda cluster=cluster: self.endpoints(cluster, namespace, name) == endpoints)

    def until_gone(self, namespace: str, name: str, *clusters: str) -> None:
        for cluster in clusters or NAMES:
            self.until(lambda cluster=cluster: self.service_import(cluster, namespace, name) is None)
            self.until(lambda cluster=cluster: not self.slices(cluster, namespace, name))


def endpoint_slice(service: str, addresses: list[str]) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{service}-slice", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "nodeName": "n1", "zone": "z1"} for address in addresses],
    }


@pytest.fixture(scope="module")
def clusterset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSet]:
    """Two clusters with the CRDs, each watched; a worker; no importer yet."""
    folder = tmp_path_factory.mktemp("clusterset")
    with ControlPlane("east") as east, ControlPlane("west") as west, EmbeddedKafka(folder / "broker") as broker:
        planes = {"east": east, "west": west}
        facets = Facets(folder, broker.bootstrap_servers)
        ensure(facets.bootstrap)
        for plane in planes.values():
            mcs.install(plane.api)
            mcs.grant(plane.api, "norights", "service-facets-importer")
        made = ClusterSet(facets, planes, folder)
        clusters = [f"--cluster={each}={each}" for each in NAMES]
        facets.start("watch", "watch", "--kubeconfig", str(made.kubeconfig), *clusters, "--http-port", free_port())
        facets.start("work", "work", "--http-port", free_port(), "--data-dir", str(folder / "worker"))
        try:
            yield made
        finally:
            for name in list(facets.running):
                facets.end(name, signal.SIGKILL)


@pytest.fixture
def importing(clusterset: ClusterSet) -> Iterator[ClusterSet]:
    """The same with an importer that runs."""
    clusterset.start()
    yield clusterset
    if "import" in clusterset.facets.running:
        assert clusterset.end() == 0, clusterset.facets.logs()


def test_what_two_clusters_export_is_one_service_in_both(importing: ClusterSet) -> None:
    importing.namespace("shop")
    importing.service("east", "shop", "cart", ["10.1.0.1", "10.1.0.2"], sessionAffinity="ClientIP")
    importing.export("east", "shop", "cart", exportedLabels={"team": "web"}, exportedAnnotations={"note": "a"})
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
    assert item["metadata"]["labels"]["team"] == "web"
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
    importing.export("west", "shop", "cart", exportedLabels={"team": "web"}, exportedAnnotations={"note": "a"})
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
    importing.export("west", "conflicts", "nothing")
    importing.until_conditions("west", "conflicts", "nothing", Valid=("False", "NoService"))
    importing.service("west", "conflicts", "alias", [], type="ExternalName", externalName="a.example", ports=[])
    importing.export("west", "conflicts", "alias")
    importing.until_conditions("west", "conflicts", "alias", Valid=("False", "InvalidServiceType"))
    assert importing.service_import("west", "conflicts", "alias") is None


def test_a_headless_service_and_a_namespace_that_comes_later(importing: ClusterSet) -> None:
    importing.namespace("later", "east")
    importing.service("east", "later", "db", ["10.1.2.1"], clusterIP="None")
    importing.export("east", "later", "db")
    importing.until_imported("later", "db", {"east": ["10.1.2.1"]}, "east")
    assert importing.service_import("east", "later", "db")["spec"]["type"] == "Headless"
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


def test_what_changed_while_no_importer_ran_is_made_up_for(clusterset: ClusterSet) -> None:
    clusterset.start()
    clusterset.namespace("crash")
    for name in ("kept", "taken-back"):
        clusterset.service("east", "crash", name, ["10.1.4.1"])
        clusterset.export("east", "crash", name)
        clusterset.until_imported("crash", name, {"east": ["10.1.4.1"]})
    clusterset.end(how=signal.SIGKILL)
    clusterset.unexport("east", "crash", "taken-back")
    patch = {"endpoints": [{"addresses": ["10.1.4.2"]}]}
    clusterset.planes["east"].api.patch(f"{SLICES}/namespaces/crash/endpointslices/kept-slice", patch)
    clusterset.until(
        lambda: (
            {
                (each["action"], each["kind"], each["cluster"])
                for each in clusterset.dry_run()[1]
                if each["namespace"] == "crash"
            }
            == {("delete", kind, cluster) for kind in ("ServiceImport", "EndpointSlice") for cluster in NAMES}
            | {("update", "EndpointSlice", cluster) for cluster in NAMES}
        )
    )
    assert clusterset.endpoints("west", "crash", "taken-back") == {"east": ["10.1.4.1"]}, "a dry run writes nothing"

    # Two at once write the same.
    clusterset.start("one")
    clusterset.start("two")
    clusterset.until_gone("crash", "taken-back")
    clusterset.until_imported("crash", "kept", {"east": ["10.1.4.2"]})
    clusterset.service("west", "crash", "kept", ["10.2.4.1"])
    clusterset.export("west", "crash", "kept")
    clusterset.until_imported("crash", "kept", {"east": ["10.1.4.2"], "west": ["10.2.4.1"]})
    clusterset.until_conditions("west", "crash", "kept", Valid=("True", "Valid"))
    clusterset.until(lambda: clusterset.dry_run() == (ExitCode.OK, []))
    versions = all_versions(clusterset)
    for name in ("one", "two"):
        assert clusterset.end(name) == 0, clusterset.facets.logs()
    assert all_versions(clusterset) == versions, "two importers went on writing over each other"


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


def is_ready(port: str) -> bool:
    try:
        return bool(urllib3.request("GET", f"http://127.0.0.1:{port}/readyz", retries=False).status == 200)
    except urllib3.exceptions.HTTPError:
        return False


def test_a_derived_service_has_the_ip_and_is_no_service_of_the_cluster(clusterset: ClusterSet) -> None:
    """Its slices are the endpoints of kube-proxy's Service; the watcher takes neither for the cluster's own."""
    clusterset.namespace("derived")
    clusterset.service("east", "derived", "web", ["10.1.5.1"], ipFamilyPolicy="PreferDualStack")
    clusterset.export("east", "derived", "web")
    clusterset.start("refused", "--cluster-set-ip", "derived", ready=False)
    assert clusterset.facets.running.pop("refused").wait(mcs.DEADLINE) == ExitCode.FORBIDDEN
    for plane in clusterset.planes.values():
        mcs.grant(plane.api, "norights", "service-facets-importer-derived")
    clusterset.start("derived", "--cluster-set-ip", "derived")
    clusterset.until_imported("derived", "web", {"east": ["10.1.5.1"]})
    for cluster, plane in clusterset.planes.items():
        spec = clusterset.until(
            lambda cluster=cluster: (
                (found_spec := clusterset.service_import(cluster, "derived", "web")["spec"]).get("ips") and found_spec
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
        clusterset.service(cluster, "derived", "marker", [])
        clusterset.until(lambda cluster=cluster: "marker" in clusterset.names(cluster, "derived"))
        assert clusterset.names(cluster, "derived") - {"marker"} == ({"web"} if cluster == "east" else set())
    clusterset.unexport("east", "derived", "web")
    clusterset.until_gone("derived", "web")
    for plane in clusterset.planes.values():
        clusterset.until(
            lambda plane=plane: not plane.api.get("/api/v1/namespaces/derived/services", labelSelector=OWN)["items"]
        )
    assert clusterset.end("derived") == 0


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
