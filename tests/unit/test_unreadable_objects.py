"""An object that can't be read, as a whole or in part: what is not known is `unknown`, never `empty` and never missing,
and what can be read of it counts."""

from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import OPTIONAL
from streams.objects.resources import RESOURCES as REQUIRED
from streams.wire.records import TABLES, decode_row

AT = "2026-11-28T12:00:00.000Z"
RESOURCES = {resource.kind: resource for resource in (*REQUIRED, *OPTIONAL)}
LABEL = "kubernetes.io/service-name"
CLUSTER_IP = "10.96.40.7"

Row = dict[str, Any]


class Atlas:
    """One cluster's objects through the collector and the fold. All that is written is kept."""

    def __init__(self) -> None:
        self.collector = Collector("east", epoch=1, writer="w", seq=0, partitions=1, resources=RESOURCES.values())
        self.fold = PartitionFold(0)
        self.writes: list[Write] = []
        self._version = 1000
        self.journal(self.collector.begin(AT))
        for kind in RESOURCES:
            self.collector.ingest(kind, ReflectorEvent(Kind.INIT, None, ""))
            self.collector.ingest(kind, ReflectorEvent(Kind.INIT_DONE, None, "1"))
        self.journal(self.collector.flush(AT))

    def journal(self, records: Iterable[JournalRecord]) -> list[Write]:
        """The rows that these records make."""
        writes = [write for record in records for write in self.fold.step(self.fold.next_offset or 0, record.value)]
        self.writes += writes
        return [write for write in writes if write.table in TABLES and not write.key.startswith(b"~")]

    def put(self, kind: str, name: str, content: Row, labels: dict[str, str] | None = None) -> None:
        self._take(Kind.APPLY, kind, name, content, labels or {})

    def drop(self, kind: str, name: str, content: Row, labels: dict[str, str] | None = None) -> None:
        self._take(Kind.DELETE, kind, name, content, labels or {})

    def row(self, table: str, name: str = "ledger") -> Row:
        values = [
            each.value for each in self.writes if each.table == table and each.key == f"east/atlas/{name}".encode()
        ]
        assert values, f"there is no {table} row"
        return decode_row(table, values[-1] or b"")

    def states(self) -> list[str]:
        return [self.row(table)["state"] for table in TABLES]

    def letters(self) -> list[Row]:
        return [orjson.loads(each.value or b"") for each in self.writes if each.table == "deadletter"]

    def _take(self, operation: Kind, kind: str, name: str, content: Row, labels: dict[str, str]) -> None:
        self._version += 1
        version = str(self._version)
        meta = {"name": name, "namespace": "atlas", "uid": f"{kind}-{name}", "resourceVersion": version}
        item = {"kind": kind, "metadata": {**meta, "labels": labels}, **content}
        self.collector.ingest(kind, ReflectorEvent(operation, item, version))
        self.journal(self.collector.flush(AT))


def service(**spec: Any) -> Row:
    addresses = {"clusterIP": CLUSTER_IP, "clusterIPs": [CLUSTER_IP]}
    return {"spec": {**addresses, "ports": [{"name": "web", "port": 80}], **spec}}


BAD_SERVICE = service(ports=[{"port": 99999999}])


def slice_of(*addresses: Any, **fields: Any) -> Row:
    ports = [{"name": "web", "port": 8080, "protocol": "TCP"}]
    endpoints = [each if isinstance(each, dict) else {"addresses": [each]} for each in addresses]
    return {"addressType": "IPv4", "ports": ports, "endpoints": endpoints, **fields}


BAD_SLICE = slice_of(ports=[{"port": -1}])
OF_LEDGER = {LABEL: "ledger"}


def atlas(*, with_service: bool = True) -> Atlas:
    cluster = Atlas()
    if with_service:
        cluster.put("Service", "ledger", service())
    return cluster


def shown(row: Row) -> list[str]:
    return [endpoint["address"] for endpoint in row["endpoints"]]


def marked(row: Row) -> list[tuple[str, str]]:
    return [(each["kind"], each["name"]) for each in row.get("rejected", [])]


# ---- not readable at first sight ------------------------------------------------------------------------


def test_a_slice_that_could_never_be_read_makes_the_set_unknown() -> None:
    cluster = atlas()
    assert cluster.row("backend")["state"] == "empty"
    cluster.put("EndpointSlice", "ledger-a", BAD_SLICE, OF_LEDGER)
    row = cluster.row("backend")
    assert (row["state"], shown(row), marked(row)) == ("unknown", [], [("EndpointSlice", "ledger-a")])
    assert row["reason"].startswith("ObjectRejected: EndpointSlice ledger-a at 1002: ports[0].port: -1")
    # What other slices have counts, but may not be all.
    cluster.put("EndpointSlice", "ledger-b", slice_of("10.7.1.6"), OF_LEDGER)
    row = cluster.row("backend")
    assert (row["state"], shown(row)) == ("unknown", ["10.7.1.6"])
    cluster.put("EndpointSlice", "ledger-a", slice_of("10.7.1.5"), OF_LEDGER)
    row = cluster.row("backend")
    assert (row["state"], row["reason"], shown(row)) == ("ready", "", ["10.7.1.5", "10.7.1.6"])


def test_a_slice_that_could_never_be_read_and_is_deleted_leaves_an_empty_set() -> None:
    cluster = atlas()
    cluster.put("EndpointSlice", "ledger-a", BAD_SLICE, OF_LEDGER)
    cluster.drop("EndpointSlice", "ledger-a", BAD_SLICE, OF_LEDGER)
    row = cluster.row("backend")
    assert (row["state"], row["reason"], marked(row)) == ("empty", "NoEndpointSlices", [])


def test_a_slice_that_moves_to_another_service_unread_is_unknown_there_alone() -> None:
    cluster = atlas()
    cluster.put("Service", "till", service())
    cluster.put("EndpointSlice", "x", BAD_SLICE, OF_LEDGER)
    cluster.put("EndpointSlice", "x", BAD_SLICE, {LABEL: "till"})
    assert (cluster.row("backend")["state"], cluster.row("backend", "till")["state"]) == ("empty", "unknown")


def test_a_slice_with_a_last_good_state_keeps_it() -> None:
    cluster = atlas()
    cluster.put("EndpointSlice", "ledger-a", slice_of("10.7.1.5"), OF_LEDGER)
    cluster.put("EndpointSlice", "ledger-a", BAD_SLICE, OF_LEDGER)
    row = cluster.row("backend")
    assert (row["state"], shown(row), marked(row)) == ("ready", ["10.7.1.5"], [("EndpointSlice", "ledger-a")])


def test_a_set_is_not_empty_for_sure_while_a_slice_that_was_can_not_be_read() -> None:
    cluster = atlas()
    cluster.put("EndpointSlice", "ledger-a", slice_of(), OF_LEDGER)
    cluster.put("EndpointSlice", "ledger-a", BAD_SLICE, OF_LEDGER)
    assert cluster.row("backend")["state"] == "unknown"


def test_legacy_endpoints_matter_only_where_there_is_no_slice() -> None:
    cluster = atlas()
    cluster.put("Endpoints", "ledger", {"subsets": 7})
    assert cluster.row("backend")["state"] == "unknown"
    cluster.put("EndpointSlice", "ledger-a", slice_of(), OF_LEDGER)
    assert cluster.row("backend")["state"] == "empty"


def test_an_external_name_has_no_endpoints_whatever_can_not_be_read() -> None:
    cluster = Atlas()
    cluster.put("Service", "ledger", {"spec": {"type": "ExternalName", "externalName": "a.example"}})
    cluster.put("EndpointSlice", "ledger-a", BAD_SLICE, OF_LEDGER)
    row = cluster.row("backend")
    assert (row["state"], row["reason"].partition(";")[0]) == ("empty", "ExternalName")


def test_a_service_that_could_never_be_read_is_unknown_in_every_table() -> None:
    cluster = atlas(with_service=False)
    cluster.put("EndpointSlice", "ledger-a", slice_of("10.7.1.4"), OF_LEDGER)
    cluster.put("Service", "ledger", BAD_SERVICE)
    assert cluster.states() == ["unknown"] * 3
    for table in TABLES:
        row = cluster.row(table)
        assert row["reason"].startswith("ObjectRejected: Service ledger at 1002: spec.ports[0].port: 99999999")
        assert marked(row) == [("Service", "ledger")]
        assert [(each["kind"], each["uid"]) for each in row["cause"]] == [("Service", "Service-ledger")]
    assert (cluster.row("frontend")["uid"], cluster.row("frontend")["dnsName"]) == ("Service-ledger", "")
    assert cluster.row("routing")["gateway"]["reason"] == "ServiceUnreadable"
    cluster.put("Service", "ledger", service())
    assert cluster.states() == ["ready"] * 3
    assert shown(cluster.row("backend")) == ["10.7.1.4"]


def test_a_service_that_could_never_be_read_and_is_deleted_is_deleted() -> None:
    cluster = atlas(with_service=False)
    cluster.put("Service", "ledger", BAD_SERVICE)
    cluster.drop("Service", "ledger", BAD_SERVICE)
    assert cluster.states() == ["deleted"] * 3
    assert cluster.row("frontend")["reason"] == "ServiceNotFound"


def test_a_service_that_is_made_again_and_can_not_be_read_then_is_not_as_it_was() -> None:
    cluster = atlas()
    cluster.drop("Service", "ledger", service())
    cluster.put("Service", "ledger", BAD_SERVICE)
    assert cluster.states() == ["unknown"] * 3
    assert cluster.row("frontend")["clusterIPs"] == []


def test_a_service_with_a_last_good_state_keeps_it() -> None:
    cluster = atlas()
    cluster.put("Service", "ledger", BAD_SERVICE)
    assert cluster.states() == ["ready", "empty", "ready"]
    assert cluster.row("frontend")["clusterIPs"] == [CLUSTER_IP]


ROUTE = {"spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "front"}],
                  "rules": [{"backendRefs": [{"name": "ledger", "port": 80}]}]}}  # fmt: skip
BAD_ROUTE = {"spec": {**ROUTE["spec"], "rules": [{"backendRefs": [{"name": "ledger", "port": 80, "weight": "heavy"}]}]}}


def test_a_route_that_could_never_be_read_makes_the_routing_unknown() -> None:
    cluster = atlas()
    cluster.put("HTTPRoute", "r", BAD_ROUTE)
    row = cluster.row("routing")
    assert (row["state"], marked(row)) == ("unknown", [("HTTPRoute", "r")])
    cluster.put("HTTPRoute", "r", ROUTE)
    assert cluster.row("routing")["state"] == "ready"
    cluster.put("HTTPRoute", "r", BAD_ROUTE)
    row = cluster.row("routing")
    assert (row["state"], marked(row)) == ("ready", [("HTTPRoute", "r")])


@pytest.mark.parametrize("kind", ["Service", "Gateway"])
def test_a_parent_that_could_never_be_read_is_not_missing(kind: str) -> None:
    """The route counts as attached: nothing is known against it."""
    bad = BAD_SERVICE if kind == "Service" else {"spec": {"listeners": 7}}
    group = "" if kind == "Service" else "gateway.networking.k8s.io"
    spec = {**ROUTE["spec"], "parentRefs": [{"group": group, "kind": kind, "name": "front"}]}
    cluster = atlas()
    cluster.put("Gateway", "other", {"spec": {"listeners": []}})
    cluster.put("HTTPRoute", "r", {"spec": spec})
    (parent,) = cluster.row("routing")["routes"][0]["parents"]
    assert parent["reason"] == ("NoMatchingParent" if kind == "Service" else "GatewayNotFound")
    cluster.put(kind, "front", bad)
    (parent,) = cluster.row("routing")["routes"][0]["parents"]
    assert (parent["attached"], parent["reason"]) == (True, "")
    if kind == "Service":
        assert cluster.row("routing", "front")["mesh"]["reason"] == "ServiceUnreadable"
    cluster.drop(kind, "front", bad)
    (parent,) = cluster.row("routing")["routes"][0]["parents"]
    assert not parent["attached"]


# ---- readable in part -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "named"),
    [
        ("10.7.1.256", "endpoints[1].addresses[0]: '10.7.1.256' is not an IP address"),
        ("fd00::1", "endpoints[1].addresses[0]: 'fd00::1' is not of the family IPv4"),
        ({"addresses": []}, "endpoints[1].addresses: is empty"),
        ({"addresses": ["10.7.1.5"], "zone": 1}, "endpoints[1].zone: Expected `str | null`, got `int`"),
        ({"addresses": ["10.7.1.5"], "conditions": {"ready": "yes"}}, "endpoints[1].conditions.ready: "),
        ({"addresses": ["10.7.1.5"], "hostname": "Web.0"}, "endpoints[1].hostname: 'Web.0' is not a DNS label"),
        ({"addresses": ["10.7.1.5"], "hostname": "w" * 64}, f"endpoints[1].hostname: '{'w' * 64}' is not a DNS label"),
    ],
)
def test_an_endpoint_that_can_not_be_read_is_left_out_alone(endpoint: Any, named: str) -> None:
    cluster = atlas()
    cluster.put("EndpointSlice", "ledger-a", slice_of("10.7.1.4", endpoint, "10.7.1.6"), OF_LEDGER)
    row = cluster.row("backend")
    assert (row["state"], shown(row)) == ("ready", ["10.7.1.4", "10.7.1.6"])
    (rejection,) = row["rejected"]
    assert rejection["message"].startswith(named)
    assert [letter["reason"] for letter in cluster.letters()] == [rejection["message"]]
    cluster.put("EndpointSlice", "ledger-a", slice_of("10.7.1.4"), OF_LEDGER)
    assert ("rejected" in cluster.row("backend"), shown(cluster.row("backend"))) == (False, ["10.7.1.4"])


def test_a_slice_of_which_nothing_can_be_read_is_not_empty() -> None:
    cluster = atlas()
    cluster.put("EndpointSlice", "ledger-a", slice_of(*[f"10.7.1.{300 + i}" for i in range(5)]), OF_LEDGER)
    row = cluster.row("backend")
    assert (row["state"], shown(row)) == ("unknown", [])
    assert row["rejected"][0]["message"].endswith("is not an IP address; and 2 more")


def test_a_legacy_address_that_can_not_be_read_is_left_out_alone() -> None:
    cluster = atlas()
    bad = {"ip": "localhost"}, {"ip": "10.7.1.5", "hostname": "-"}, 7
    subsets = [{"addresses": [{"ip": "10.7.1.4"}, *bad], "ports": []}]
    cluster.put("Endpoints", "ledger", {"subsets": subsets})
    row = cluster.row("backend")
    assert (row["state"], shown(row), marked(row)) == ("ready", ["10.7.1.4"], [("Endpoints", "ledger")])
    assert row["rejected"][0]["message"].startswith(
        "subsets[0].addresses[1].ip: 'localhost' is not an IP address; "
        "subsets[0].addresses[2].hostname: '-' is not a DNS label; "
    )


def test_a_cluster_ip_that_can_not_be_read_is_left_out_alone() -> None:
    cluster = atlas(with_service=False)
    cluster.put("EndpointSlice", "ledger-a", slice_of("10.7.1.4"), OF_LEDGER)
    cluster.put("Service", "ledger", service(clusterIPs=[CLUSTER_IP, "fd00::xyz"]))
    row = cluster.row("frontend")
    assert (row["state"], row["clusterIPs"], marked(row)) == ("ready", [CLUSTER_IP], [("Service", "ledger")])
    assert shown(cluster.row("backend")) == ["10.7.1.4"]
    cluster.put("Service", "ledger", service(clusterIP="x", clusterIPs=["x"]))
    assert cluster.row("frontend")["clusterIPs"] == []
    assert cluster.row("routing")["gateway"]["reason"] == "NoClusterIP"


def test_rows_with_what_can_not_be_read_survive_snapshots_and_restarts() -> None:
    items = [("Service", "ledger", service(), {}), ("EndpointSlice", "a", slice_of("10.7.1.4", "x"), OF_LEDGER),
             ("Service", "till", BAD_SERVICE, {}), ("EndpointSlice", "b", BAD_SLICE, {LABEL: "till"})]  # fmt: skip
    cluster = Atlas()
    for item in items:
        cluster.put(*item)
    assert cluster.journal(cluster.collector.snapshot(AT)) == []
    fold = PartitionFold(0)
    for write in cluster.writes:
        if write.table in TABLES:
            fold.load(write.table, write.key, write.value, write.version)
    assert fold.recover() == (cluster.fold.next_offset, [])
    assert fold.tables[1].entry("east/atlas/till").state == "unknown"
    for restarted, running in zip(fold.tables, cluster.fold.tables, strict=True):
        for name in ("ledger", "till"):
            assert restarted.entry(f"east/atlas/{name}") == running.entry(f"east/atlas/{name}")
    cluster.fold = fold
    assert cluster.journal(cluster.collector.snapshot(AT)) == []
