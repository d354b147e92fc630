"""Objects that are not as today's API servers write them: what old ones let in, older versions of the API, namesakes of
other groups. Sources are named where they are not kubernetes/kubernetes."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from streams.cli.past.fold import fold_command
from streams.objects.fields import MalformedObject, ip
from streams.wire.records import FOLDED_TABLES

META = {"name": "ledger", "namespace": "atlas", "uid": "u1", "resourceVersion": "1001"}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": META,
    "spec": {"clusterIP": "10.96.40.7", "clusterIPs": ["10.96.40.7"], "ports": [{"name": "web", "port": 80}]},
}


def slice_of(*endpoints: dict[str, Any], version: str = "discovery.k8s.io/v1") -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": "ledger"}
    return {
        "apiVersion": version,
        "kind": "EndpointSlice",
        "metadata": {**META, "name": "ledger-v4", "uid": "u2", "resourceVersion": "1002", "labels": labels},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
    }


def fold(*documents: Any) -> tuple[dict[str, Any], str]:
    """The rows of atlas/ledger by table, and what is printed on standard error."""
    result = CliRunner().invoke(fold_command, input="\n".join(map(json.dumps, documents)))
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    return {table: of_table.get("atlas/ledger") for table, of_table in rows.items()}, result.stderr


def addresses(rows: dict[str, Any]) -> list[str]:
    return [endpoint["address"] for endpoint in rows["backend"]["endpoints"]]


# ---- addresses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        # k8s.io/utils/net ParseIPSloppy: leading zeros are decimal, not octal (#100895, #108074).
        ("10.007.001.005", "10.7.1.5"),
        ("010.000.0000.09", "10.0.0.9"),
        ("172.030.099.099", "172.30.99.99"),
        # net.ParseIP makes no difference between an IPv4 address and its mapped form (KEP-4858).
        ("::ffff:10.7.1.5", "10.7.1.5"),
        ("::FFFF:10.007.1.05", "10.7.1.5"),
        ("::ffff:a07:105", "10.7.1.5"),
        ("FD00:0000::000A", "fd00::a"),
        ("fd00::00000a", "fd00::a"),
        ("64:ff9b::10.7.1.5", "64:ff9b::a07:105"),
    ],
)
def test_an_address_is_read_as_kube_proxy_reads_it(written: str, canonical: str) -> None:
    assert ip(written, "at") == canonical


@pytest.mark.parametrize("written", ["10.7.1", "10.7.1.256", "10.7.1.0x5", "010.7.1.", "fd00::1%eth0", "::1::", "", 7])
def test_what_kube_proxy_does_not_read_is_no_address(written: Any) -> None:
    with pytest.raises(MalformedObject):
        ip(written, "at")


@pytest.mark.parametrize("odd", ["10.007.001.005", "::ffff:10.7.1.5"])
def test_an_old_servers_addresses_are_endpoints(odd: str) -> None:
    rows, _ = fold(SERVICE, slice_of({"addresses": [odd]}, {"addresses": ["10.7.1.6"]}))
    assert (rows["backend"]["state"], addresses(rows)) == ("ready", ["10.7.1.5", "10.7.1.6"])


def test_an_old_servers_cluster_ip_is_read() -> None:
    """#107552: "consumers MUST either interpret these as decimal or discard them"."""
    spec = {**SERVICE["spec"], "clusterIP": "172.030.099.099", "clusterIPs": ["172.030.099.099"]}
    rows, _ = fold({**SERVICE, "spec": spec}, slice_of({"addresses": ["10.7.1.4"]}))
    assert rows["frontend"]["clusterIPs"] == ["172.30.99.99"]
    assert addresses(rows) == ["10.7.1.4"]
    assert rows["routing"]["gateway"]["reason"] == "Default"


# ---- targets --------------------------------------------------------------------------------------------


def test_a_node_has_no_namespace() -> None:
    """The kubelet Service that prometheus-operator keeps (pkg/kubelet/controller.go)."""
    reference = {"kind": "Node", "name": "blue", "uid": "node-uid-blue", "apiVersion": "v1"}
    rows, _ = fold(SERVICE, slice_of({"addresses": ["198.51.100.9"], "nodeName": "blue", "targetRef": reference}))
    target = {"kind": "Node", "namespace": "", "name": "blue", "uid": "node-uid-blue"}
    assert rows["backend"]["endpoints"][0]["target"] == target


# ---- groups and versions of the API ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "node"),
    # `nodeName` is a field of v1beta1 since Kubernetes 1.20.
    [({}, "blue"), ({"nodeName": "green"}, "green")],
)
def test_topology_of_v1beta1_is_zone_and_node(own: dict[str, str], node: str) -> None:
    topology = {"kubernetes.io/hostname": "blue", "topology.kubernetes.io/zone": "z-a"}
    endpoint = {"addresses": ["10.7.1.4"], "topology": topology, **own}
    rows, errors = fold(SERVICE, slice_of(endpoint, version="discovery.k8s.io/v1beta1"))
    (shown,) = rows["backend"]["endpoints"]
    assert (shown["zone"], shown["node"], errors) == ("z-a", node, "")


def test_a_typed_lists_version_is_that_of_its_items() -> None:
    item = slice_of({"addresses": ["10.7.1.4"], "topology": {"topology.kubernetes.io/zone": "z-a"}})
    untyped = {field: value for field, value in item.items() if field not in {"kind", "apiVersion"}}
    listed = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1beta1", "items": [untyped]}
    rows, _ = fold(listed, SERVICE)
    assert rows["backend"]["endpoints"][0]["zone"] == "z-a"


def test_a_version_that_is_not_known_is_named() -> None:
    rows, errors = fold(SERVICE, slice_of({"addresses": ["10.7.1.4"]}, version="discovery.k8s.io/v2"))
    assert rows["backend"]["reason"] == "NoEndpointSlices"
    assert "EndpointSlice of discovery.k8s.io/v2 (1)" in errors


@pytest.mark.parametrize("typed", [{}, {"kind": "", "apiVersion": ""}])
def test_a_foreign_lists_services_are_none(typed: dict[str, str]) -> None:
    """Typed clients clear the kind and apiVersion of each item (client-go#1328): only the list has them."""
    items = [{"metadata": META, "spec": {}, **typed}]
    rows, errors = fold({"kind": "ServiceList", "apiVersion": "serving.knative.dev/v1", "items": items})
    assert rows == dict.fromkeys(FOLDED_TABLES)
    assert "Service of serving.knative.dev/v1 (1)" in errors


def test_foreign_namesakes_in_a_list_are_named() -> None:
    service = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {**META, "name": "picalc"}}
    route = {
        "apiVersion": "policy.linkerd.io/v1beta3",
        "kind": "HTTPRoute",
        "metadata": {**META, "name": "odd"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "ledger"}],
            "rules": [{"backendRefs": [{"name": "ledger", "port": 80}]}],
        },
    }
    rows, errors = fold({"kind": "List", "apiVersion": "v1", "items": [SERVICE, service, route]})
    assert rows["routing"]["routes"] == []
    assert "HTTPRoute of policy.linkerd.io/v1beta3 (1), Service of serving.knative.dev/v1 (1)" in errors
