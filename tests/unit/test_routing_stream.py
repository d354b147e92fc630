"""Routes through collector and fold, as changes: which Services they reach, in which commits, and what becomes of them
when what they depend on changes, can't be listed, or goes away."""

from collections.abc import Iterable
from typing import Any

import msgspec
import orjson
import pytest

from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import OPTIONAL, RESOURCES, Resource, best_version
from streams.wire.partitioning import partition_of
from streams.wire.records import Commit, decode_row
from tests.support.routed_service import service
from tests.support.routes import Object, by_cookie, gateway, grant, namespace, route, rule, to_gateway, to_service

AT = "2026-11-24T12:00:{:02}.000Z"
DAY = "2026-11-26T12:00:00.000Z"
BY_KIND = {each.kind: each for each in (*RESOURCES, *OPTIONAL)}


class Watched:
    """A cluster `east`: objects in, the journal's records, and the tables."""

    def __init__(self, *listed: Object, partitions: int = 1, refused: Iterable[str] = (), epoch: int = 1) -> None:
        self.folds = [PartitionFold(each) for each in range(partitions)]
        self.offsets = [0] * partitions
        self.rows: dict[tuple[str, str], Any] = {}
        self.version = 10
        self.relist(*listed, refused=refused, epoch=epoch)

    def relist(self, *listed: Object, refused: Iterable[str] = (), epoch: int) -> list[Write]:
        """A new watcher's epoch; it can't list the kinds in `refused`."""
        self.collector = Collector("east", epoch=epoch, writer=f"w{epoch}", seq=0, partitions=len(self.folds))
        for resource in OPTIONAL:
            if resource.kind in refused:
                self.collector.give_up(resource)
            else:
                self.collector.follow(resource)
        writes = self.journal(self.collector.begin(AT.format(0)))
        for kind in BY_KIND.keys() - refused:
            self.say(Kind.INIT, None, kind)
        for item in listed:
            self.say(Kind.INIT_APPLY, item)
        for kind in BY_KIND.keys() - refused:
            self.say(Kind.INIT_DONE, None, kind)
        return writes + self.flush()

    def say(self, what: Kind, item: Object | None, kind: str = "") -> None:
        self.version += 1
        stamped = item and {**item, "metadata": {**item["metadata"], "resourceVersion": str(self.version)}}
        self.collector.ingest(kind or str(item and item["kind"]), ReflectorEvent(what, stamped, str(self.version)))

    def put(self, *items: Object) -> list[Write]:
        for item in items:
            self.say(Kind.APPLY, item)
        return self.flush()

    def drop(self, *items: Object) -> list[Write]:
        for item in items:
            self.say(Kind.DELETE, item)
        return self.flush()

    def flush(self, at: str = AT.format(1)) -> list[Write]:
        return self.journal(self.collector.flush(at))

    def journal(self, records: list[JournalRecord]) -> list[Write]:
        self.records = [(each.partition, msgspec.json.decode(each.value, type=Commit)) for each in records]
        writes = []
        for record in records:
            offset = self.offsets[record.partition]
            self.offsets[record.partition] += 1
            writes += self.folds[record.partition].step(offset, record.value)
        for write in writes:
            if not write.key.startswith(b"~") and write.table != "deadletter":
                row = None if write.value is None else decode_row(write.table, write.value)
                self.rows[write.table, write.key.decode().removeprefix("east/")] = row
        return writes

    def routing(self, name: str = "shop/cart") -> Any:
        return self.rows["routing", name]

    def reason(self, name: str = "shop/cart", way: str = "gateway") -> str:
        return str(self.routing(name)[way]["reason"])


def made(writes: Iterable[Write], table: str = "routing") -> list[str]:
    """The rows in these writes."""
    return [each.key.decode().removeprefix("east/") for each in writes if each.table == table and each.key[:1] != b"~"]


STICKY = route("r", [to_gateway()], [rule("cart", persistence=by_cookie("a"))])


def slice_of(*addresses: str, owner: str = "cart") -> Object:
    meta = {"name": f"{owner}-a", "namespace": "shop", "uid": "s", "labels": {"kubernetes.io/service-name": owner}}
    endpoints = [{"addresses": [each]} for each in addresses]
    return {"kind": "EndpointSlice", "metadata": meta, "addressType": "IPv4", "ports": [], "endpoints": endpoints}


def test_a_slices_change_writes_no_routing_row() -> None:
    watched = Watched(service(), gateway(), STICKY)
    writes = watched.put(slice_of("10.1.0.1"))
    assert (made(writes, "backend"), made(writes)) == (["shop/cart"], [])
    assert [each.table for each in writes if each.key[:1] == b"~"] == ["frontend", "backend", "routing"]


def test_a_route_reaches_every_service_that_it_names_under_one_number() -> None:
    names = [f"s{i}" for i in range(12)]
    watched = Watched(gateway(), *map(service, names), partitions=4)
    # So much else in one partition that its commit is split: what the route says still comes under one number.
    busy = [each for i in range(20000) if partition_of("shop", each := f"b{i}", 4) == 0][:1200]
    watched.put(*map(service, busy), route("r", [to_gateway(), to_service("s0")], [rule(*names)]))
    told = {
        seq for _, commit in watched.records for event in commit.events for seq in [commit.seq] if event.name == "r"
    }
    assert len(told) == 1
    assert max(commit.seq for _, commit in watched.records) == told.pop()
    assert len(watched.records) > 4
    for name in names:
        assert [each["name"] for each in watched.routing(f"shop/{name}")["routes"]] == ["r"]


def test_a_service_that_a_route_no_longer_names_is_told_so() -> None:
    watched = Watched(service(), service("tea"), gateway(), STICKY)
    assert watched.reason() == "SessionPersistence"
    writes = watched.put(route("r", [to_gateway()], [rule("tea", persistence=by_cookie("a"))]))
    assert sorted(made(writes)) == ["shop/cart", "shop/tea"]
    assert (watched.reason(), watched.reason("shop/tea")) == ("Default", "SessionPersistence")
    assert [(each.op, each.service) for _, commit in watched.records for each in commit.events] == [
        ("delete", "cart"),
        ("apply", "tea"),
    ]
    watched.drop(route("r", [], []))
    assert watched.routing("shop/tea")["routes"] == []


def test_a_change_that_no_facet_uses_is_not_told() -> None:
    watched = Watched(service(), gateway(), STICKY)
    watched.put({**STICKY, "status": {"parents": [{"conditions": []}]}})
    assert watched.records == []
    watched.put({**gateway(), "status": {"addresses": []}})
    assert watched.records == []


def test_what_routes_depend_on_changes_what_they_say() -> None:
    far = route("far", [to_gateway()], [rule({"name": "cart", "namespace": "shop"})], namespace="web")
    watched = Watched(service(), namespace("web"), gateway(namespace="web"), far)
    rules = lambda: [each["reason"] for each in watched.routing()["gateway"]["rules"]]  # noqa: E731
    assert rules() == ["RefNotPermitted"]
    watched.put(grant("g", [("HTTPRoute", "web")]))
    assert rules() == ["Default"]
    watched.drop(grant("g", []))
    assert rules() == ["RefNotPermitted"]
    selected = {"from": "Selector", "selector": {"matchLabels": {"team": "web"}}}
    picky = {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": selected}}
    watched.put(gateway("edge", picky, namespace="web"))
    assert rules() == []
    watched.put(namespace("web", {"team": "web"}))
    assert rules() == ["RefNotPermitted"]
    watched.drop(gateway(namespace="web"))
    assert [each["reason"] for each in watched.routing()["routes"][0]["parents"]] == ["GatewayNotFound"]


def test_a_namespaces_annotation_reaches_its_services_and_no_other_table() -> None:
    watched = Watched(service(), service("cart", "other"), slice_of("10.1.0.1"), namespace("shop"))
    writes = watched.put(namespace("shop", mesh="service"))
    assert [(each.table, each.key) for each in writes if each.key[:1] != b"~"] == [("routing", b"east/shop/cart")]
    assert watched.reason(way="mesh") == "NamespaceAnnotation"
    watched.put(service(sessionAffinity="ClientIP"))
    watched.put(service())
    assert watched.reason(way="mesh") == "NamespaceAnnotation"
    watched.drop(namespace("shop"))
    assert watched.reason(way="mesh") == "Default"


def test_a_type_that_is_installed_later_and_removed() -> None:
    kinds = {each.kind for each in OPTIONAL}
    watched = Watched(service(), refused=kinds)
    for resource in OPTIONAL:
        watched.collector.forget(resource)
    watched.put(service(sessionAffinity="ClientIP"))
    watched.put(service())
    assert watched.routing()["asOf"]["frontier"].keys() == {each.frontier for each in RESOURCES}
    followed: list[Resource] = [BY_KIND[kind] for kind in ("Gateway", "HTTPRoute")]
    for resource in followed:
        watched.collector.follow(resource)
        watched.say(Kind.INIT, None, resource.kind)
    watched.say(Kind.INIT_APPLY, gateway())
    watched.say(Kind.INIT_APPLY, STICKY)
    for resource in followed:
        watched.say(Kind.INIT_DONE, None, resource.kind)
    watched.flush()
    assert watched.reason() == "SessionPersistence"
    assert watched.routing()["asOf"]["frontier"].keys() > {each.frontier for each in followed}
    for resource in reversed(followed):
        watched.collector.forget(resource)
    watched.flush()
    assert (watched.reason(), watched.routing()["routes"]) == ("Default", [])
    assert watched.routing()["asOf"]["frontier"].keys() == {each.frontier for each in RESOURCES}


def test_what_can_not_be_listed_stays_as_it_was_known_and_holds_up_nothing() -> None:
    watched = Watched(service(), gateway(), STICKY)
    watched.relist(service(), gateway(), refused={"HTTPRoute"}, epoch=2)
    assert watched.collector.commits.synced
    watched.put(service(sessionAffinity="ClientIP"))
    assert watched.reason() == "SessionPersistence"
    assert watched.routing()["asOf"]["frontier"]["httproutes.gateway.networking.k8s.io"] == ""
    watched.relist(service(), gateway(), epoch=3)
    assert (watched.reason(), watched.routing()["routes"]) == ("Default", [])


def test_a_list_that_never_ends_holds_up_nothing_once_it_was_given_up() -> None:
    collector = Collector("east", epoch=1, writer="w", seq=0, partitions=1)
    routes = BY_KIND["HTTPRoute"]
    collector.follow(routes)
    for each in (*RESOURCES, routes):
        collector.ingest(each.kind, ReflectorEvent(Kind.INIT, None, ""))
    for each in RESOURCES:
        collector.ingest(each.kind, ReflectorEvent(Kind.INIT_DONE, None, "9"))
    collector.flush(AT.format(1))
    assert not collector.commits.synced
    collector.give_up(routes)
    collector.ingest(routes.kind, ReflectorEvent(Kind.INIT, None, ""))
    collector.flush(AT.format(1))
    assert collector.commits.synced
    assert collector.settled
    assert collector.commits.frontier[routes.frontier] == ""
    collector.ingest(routes.kind, ReflectorEvent(Kind.INIT_DONE, None, "12"))
    collector.flush(AT.format(1))
    assert collector.commits.frontier[routes.frontier] == "12"


@pytest.mark.parametrize(
    ("shown", "change"),
    [
        (gateway("edge", {"name": "tls", "port": 443, "protocol": "TLS"}), service("tea")),
        (grant("g", [("HTTPRoute", "web")]), service("tea")),
        (route("older", [to_service("cart")], [rule("cart", path="/a")], kind="GRPCRoute"), gateway()),
        (service(clusterIP="None"), gateway()),
        (service("tea"), route("r", [to_service("tea")], [rule("cart")])),
    ],
)
def test_what_an_open_relist_shows_counts_for_nothing_that_depends_on_it(shown: Object, change: Object) -> None:
    """Simulation, seeds 7 and 81: routes followed a relist that was not complete, ahead of its type's frontier."""
    mesh = route("mesh", [to_service("cart")], [rule("cart", path="/b")])
    far = route("far", [to_gateway()], [rule({"name": "cart", "namespace": "shop"}, path="/c")], namespace="web")
    watched = Watched(service(), namespace("web"), gateway(), gateway(namespace="web"), STICKY, mesh, far)
    watched.put(change)
    before = [each["parents"] for each in watched.routing()["routes"]], watched.routing()["gateway"]
    watched.say(Kind.INIT, None, shown["kind"])
    watched.say(Kind.INIT_APPLY, shown)
    written = made(watched.put(slice_of("10.1.0.1")))
    # Neither do the objects that a full snapshot names, which is due any time.
    written += made(watched.journal(watched.collector.snapshot(AT.format(2))))
    assert written == []
    watched.say(Kind.INIT, None, shown["kind"])
    assert made(watched.flush()) == []
    assert before == ([each["parents"] for each in watched.routing()["routes"]], watched.routing()["gateway"])


def test_a_relist_holds_up_nothing_that_other_types_say() -> None:
    """What depends on objects of a type whose relist is open is told by what is held of them."""
    watched = Watched(service(), namespace("shop"), gateway(), STICKY)
    for kind in ("Service", "HTTPRoute"):
        watched.say(Kind.INIT, None, kind)
    watched.say(Kind.INIT_APPLY, service(clusterIP="None"))
    assert made(watched.put(namespace("shop", mesh="service"))) == ["shop/cart"]
    assert watched.reason(way="mesh") == "NamespaceAnnotation"
    assert made(watched.drop(gateway())) == ["shop/cart"]
    assert watched.reason() == "Default"
    watched.say(Kind.INIT_DONE, None, "Service")
    watched.flush()
    assert watched.reason() == "Headless"


def test_a_list_of_a_type_that_is_installed_later_counts_when_it_is_complete() -> None:
    routes = BY_KIND["HTTPRoute"]
    watched = Watched(service(), gateway(), refused={"HTTPRoute"})
    watched.collector.forget(routes)
    watched.collector.follow(routes)
    watched.say(Kind.INIT, None, routes.kind)
    watched.say(Kind.INIT_APPLY, STICKY)
    assert made(watched.flush()) == []
    watched.say(Kind.INIT_DONE, None, routes.kind)
    assert made(watched.flush()) == ["shop/cart"]
    assert watched.reason() == "SessionPersistence"


def test_a_snapshot_of_the_same_makes_no_row() -> None:
    watched = Watched(service(), gateway(), STICKY, namespace("shop", mesh="service"))
    assert made(watched.relist(service(), gateway(), STICKY, namespace("shop", mesh="service"), epoch=2)) == []
    assert made(watched.journal(watched.collector.snapshot(AT.format(2)))) == []
    assert made(watched.relist(service(), epoch=3)) == ["shop/cart"]


def test_a_missing_service_is_named_as_long_as_a_route_names_it() -> None:
    watched = Watched(gateway(), STICKY)
    assert (watched.routing()["state"], watched.reason()) == ("empty", "ServiceNotFound")
    assert ("frontend", "shop/cart") not in watched.rows
    watched.put(service())
    assert (watched.routing()["state"], watched.reason()) == ("ready", "SessionPersistence")
    watched.drop(service())
    assert (watched.routing()["state"], watched.reason()) == ("empty", "ServiceNotFound")
    watched.drop(STICKY)
    assert (watched.routing()["state"], watched.routing()["reason"]) == ("deleted", "ServiceNotFound")
    watched.journal(watched.collector.heartbeat(DAY))
    assert watched.routing() is None


def test_routes_of_one_name_in_two_namespaces_are_two() -> None:
    backend = {"name": "cart", "namespace": "shop"}
    other = route("r", [to_gateway()], [rule(backend, path="/o")], namespace="web")
    allowed = grant("g", [("HTTPRoute", "web")])
    watched = Watched(service(), gateway(), gateway(namespace="web"), STICKY, other, allowed)
    assert [each["namespace"] for each in watched.routing()["routes"]] == ["shop", "web"]
    bad = {**other, "spec": {"rules": "none"}}
    watched.put(bad)
    assert [(each["name"], each.get("namespace")) for each in watched.routing()["rejected"]] == [("r", "web")]
    assert watched.routing()["cause"][0]["namespace"] == "web"
    watched.drop(other)
    row = watched.routing()
    assert ([each["namespace"] for each in row["routes"]], "rejected" in row) == (["shop"], False)


def test_a_stale_cluster_says_so_in_routing_rows_too() -> None:
    watched = Watched(service(), gateway(), STICKY)
    watched.collector.commits.stale_since = AT.format(5)
    writes = watched.journal(watched.collector.heartbeat(AT.format(9)))
    assert made(writes) == ["shop/cart"]
    assert (watched.routing()["state"], watched.reason()) == ("stale", "SessionPersistence")


@pytest.mark.parametrize("ahead", [{"backend"}, {"frontend"}, {"frontend", "backend"}, {"routing"}])
def test_after_a_crash_between_tables_a_deletion_is_not_lost(ahead: set[str]) -> None:
    """The rows of a snapshot's end, from which the Service is missing, are written to these tables alone."""
    journal: list[bytes] = []
    logs: dict[str, list[Write]] = {"frontend": [], "backend": [], "routing": []}

    def recorded(offset: int, value: bytes | None) -> list[Write]:
        journal.append(value or b"")
        return steps(offset, value)

    watched = Watched()
    watched.folds[0].step = recorded  # type: ignore[method-assign]
    steps = PartitionFold(0).step
    watched.offsets = [0]
    writes = watched.relist(service(), gateway(), STICKY, epoch=1)
    writes += watched.relist(gateway(), epoch=2)
    for write in writes:
        logs[write.table].append(write)
    last = {table: max(i for i, each in enumerate(log) if each.key[:1] != b"~") for table, log in logs.items()}
    again = PartitionFold(0)
    for table, log in logs.items():
        for write in log if table in ahead else log[: last[table]]:
            again.load(table, write.key, write.value, write.version)
    offset, more = again.recover()
    for each in range(offset, len(journal)):
        more += again.step(each, journal[each])
    for table in logs.keys() - ahead:
        assert [each.value for each in more if each.table == table and each.key[:1] != b"~"] == [
            logs[table][last[table]].value
        ]


def test_the_most_mature_version_that_is_known_is_followed() -> None:
    assert best_version(["v1alpha2", "v1beta1", "v1"]) == "v1"
    assert best_version(["v1alpha2", "v1alpha3"]) == "v1alpha3"
    assert best_version(["v2", "v1alpha2"]) == "v1alpha2"
    assert best_version(["v2", "nonsense"]) is None
    assert OPTIONAL[1].served_as("v1beta1").path == "/apis/gateway.networking.k8s.io/v1beta1/gateways"
    assert OPTIONAL[0].served_as("v1").path == "/api/v1/namespaces"


def test_an_events_bytes_are_the_same_whether_its_service_was_looked_at_again_or_not() -> None:
    """A Service's event without annotations is what it was before there was a routing table."""
    watched = Watched(service(), namespace("shop", mesh="service"))
    watched.put(namespace("shop"))
    watched.put(service())
    (event,) = (each for _, commit in watched.records for each in commit.events)
    assert "routing" not in orjson.loads(bytes(event.object))
