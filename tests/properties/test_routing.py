"""The routing table under any history: routes, policies, Gateways, grants, Namespaces and Services that come, change
and go, and are listed anew by new watchers; and workers that are killed at any point."""

from collections.abc import Iterator
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.fold.offline import AuditFold
from streams.objects.collector import Collector
from streams.objects.reflector import Kind, Reflector, ReflectorEvent
from streams.objects.resources import OPTIONAL, RESOURCES
from tests.properties.folding import TABLES, Logs, accepted, compacted, content, fold, logs_of, restarted, rows
from tests.properties.strategies import mutated
from tests.support.routes import (
    Object,
    annotated,
    backend_tls_policy,
    by_cookie,
    gateway,
    grant,
    listener,
    listener_set,
    namespace,
    policy,
    route,
    rule,
    to_gateway,
    to_import,
    to_listener_set,
    to_service,
)

AT = "2026-11-24T12:00:00.000Z"
NAMESPACES = ("shop", "web")
NAMES = ("cart", "tea")
_ALL = (*RESOURCES, *OPTIONAL)

_spaces, _names = st.sampled_from(NAMESPACES), st.sampled_from(NAMES)
_choices = st.dictionaries(st.sampled_from(("gateway", "mesh")), st.sampled_from(("service", "endpoint", "neither")))
_ports = st.sampled_from(([{"name": "http", "port": 80}], [{"name": "http", "port": 80}, {"name": "b", "port": 81}]))
_cookies = st.none() | st.sampled_from(("a", "b")).map(by_cookie)


@st.composite
def services(draw: st.DrawFn) -> Object:
    name, at = draw(_names), draw(_spaces)
    spec = draw(
        st.sampled_from(
            (
                {"clusterIP": "10.96.0.7"},
                {"clusterIP": "None"},
                {"clusterIP": ""},
                {"clusterIP": "10.96.0.7", "sessionAffinity": "ClientIP"},
                {"type": "ExternalName", "externalName": "cart.example.com"},
            )
        )
    )
    meta = {"name": name, "namespace": at, "uid": f"{name}-{draw(st.integers(0, 1))}"}
    item = {"kind": "Service", "metadata": meta, "spec": {**spec, "ports": draw(_ports)}}
    return annotated(item, **draw(_choices))


@st.composite
def routes(draw: st.DrawFn) -> Object:
    sections = st.sampled_from(({}, {}, {"sectionName": "http"}, {"port": 81}))
    to_services = st.builds(lambda name, at, more: to_service(name, namespace=at, **more), _names, _spaces, sections)
    to_imports = st.builds(lambda name, at, more: to_import(name, namespace=at, **more), _names, _spaces, sections)
    to_gateways = st.builds(lambda at, more: to_gateway(namespace=at, **more), _spaces, sections)
    to_sets = _spaces.map(lambda at: to_listener_set("more", namespace=at))
    parents = draw(st.lists(st.one_of(to_gateways, to_services, to_services, to_imports, to_sets), max_size=3))
    backends = st.fixed_dictionaries({"name": _names, "namespace": _spaces, "weight": st.integers(0, 1)})
    backends |= backends | backends.map(lambda backend: to_import(**backend))
    mirrors = _names.map(lambda name: {"name": name}) | _names.map(to_import)
    rules = [
        rule(
            *draw(st.lists(backends, min_size=1, max_size=2)),
            path=draw(st.sampled_from(["/", "/a"])),
            persistence=draw(_cookies),
            filters=[{"requestMirror": {"backendRef": ref}} for ref in draw(st.lists(mirrors, max_size=1))],
        )
        for _ in range(draw(st.integers(0, 2)))
    ]
    hostnames = draw(st.lists(st.sampled_from(("a.example.com", "*.example.com", "b.example.org")), max_size=2))
    created = draw(st.sampled_from(("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")))
    kind = draw(st.sampled_from(("HTTPRoute", "HTTPRoute", "GRPCRoute")))
    name, at = draw(st.sampled_from(("r", "r", "q"))), draw(_spaces)
    item = route(name, parents, rules, kind, namespace=at, creationTimestamp=created)
    return {**item, "spec": {**item["spec"], "hostnames": hostnames}}


@st.composite
def contexts(draw: st.DrawFn) -> Object:
    kinds = ("Namespace", "Gateway", "Gateway", "ListenerSet", "ReferenceGrant", "Policy", "BackendTLSPolicy")
    kind, at = draw(st.sampled_from(kinds)), draw(_spaces)
    if kind == "Namespace":
        return namespace(at, draw(st.sampled_from(({}, {"team": "web"}))), **draw(_choices))
    if kind == "Policy":
        targets = [*draw(st.lists(_names, unique=True)), *map(to_import, draw(st.lists(_names, unique=True)))]
        return policy("p", *targets, persistence=draw(_cookies), namespace=at)
    if kind == "ReferenceGrant":
        sources = draw(st.lists(st.tuples(st.sampled_from(("HTTPRoute", "GRPCRoute")), _spaces)))
        return grant("g", sources, draw(st.lists(_names, unique=True)), imports=draw(st.booleans()), namespace=at)
    if kind == "BackendTLSPolicy":
        created = draw(st.sampled_from(("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")))
        section = draw(st.sampled_from(("", "http")))
        name = draw(st.sampled_from(("p", "q")))
        return backend_tls_policy(name, draw(_names), section=section, namespace=at, creationTimestamp=created)
    selected = {"from": "Selector", "selector": {"matchLabels": {"team": "web"}}}
    namespaces = st.sampled_from(({"from": "All"}, {"from": "Same"}, selected))
    hostname = draw(st.sampled_from(("", "*.example.com")))
    one = listener("http", hostname=hostname, allowedRoutes={"namespaces": draw(namespaces)})
    if kind == "ListenerSet":
        two = listener("more", draw(st.sampled_from((80, 81))), hostname=hostname)
        return listener_set("more", "edge", *draw(st.sampled_from(([two], [one, two]))), namespace=at)
    return gateway("edge", one, allowed=draw(namespaces), namespace=at)


objects = st.one_of(services(), routes(), routes(), contexts())
actions = st.one_of(
    st.tuples(st.just("apply"), objects),
    st.tuples(st.just("apply"), objects),
    st.tuples(st.just("delete"), objects),
    st.tuples(st.just("flush"), st.none()),
    st.tuples(st.just("flush"), st.none()),
    st.tuples(st.just("relist"), st.none()),
)


class History:
    """A cluster's journal in one partition, and what the cluster holds at its end."""

    def __init__(self, said: list[tuple[str, Object | None]]) -> None:
        self.values: list[bytes] = []
        self.world: dict[tuple[str, str, str], Object] = {}
        self._version = 10
        self._epoch = 0
        self._relist()
        for action, item in said:
            if action == "relist":
                self._relist()
            elif action == "flush" or item is None:
                self._flush()
            else:
                self._change(action, item)
        self._flush()

    def _change(self, action: str, item: Object) -> None:
        self._version += 1
        item = {**item, "metadata": {**item["metadata"], "resourceVersion": str(self._version)}}
        item["metadata"].setdefault("namespace", "")
        key = (item["kind"], item["metadata"]["namespace"], item["metadata"]["name"])
        if action == "delete":
            if self.world.pop(key, None) is None:
                return
        else:
            self.world[key] = item
        kind = Kind.APPLY if action == "apply" else Kind.DELETE
        self._collector.ingest(key[0], ReflectorEvent(kind, item, str(self._version)))

    def _relist(self) -> None:
        self._epoch += 1
        self._collector = Collector(
            "east", epoch=self._epoch, writer=f"w{self._epoch}", seq=0, partitions=1, resources=_ALL
        )
        self.values += [record.value for record in self._collector.begin(AT)]
        for resource in _ALL:
            self._collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
            for (kind, _, _), item in self.world.items():
                if kind == resource.kind:
                    self._collector.ingest(kind, ReflectorEvent(Kind.INIT_APPLY, item, ""))
            self._collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, str(self._version)))
            self._flush()

    def _flush(self) -> None:
        self.values += [record.value for record in self._collector.flush(AT)]


histories = st.lists(actions, min_size=10, max_size=25).map(History)


def _stateless(world: Iterator[Object]) -> dict[str, Any]:
    """The routing rows that these objects alone make."""
    audit = AuditFold("east")
    found = {}
    # A Gateway that bears on nothing: that there are Gateways is known.
    for write in audit.take({"kind": "List", "items": [gateway("none", namespace="none"), *world]}):
        if write.table == "routing" and write.value is not None:
            found[write.key.decode()] = orjson.loads(write.value)
    return found


@settings(max_examples=200)
@given(histories)
def test_the_rows_end_as_the_objects_alone_make_them(history: History) -> None:
    """However they came to be: nothing is lost on the way, nothing stays."""
    found = rows(logs_of(fold(history.values)), "routing")
    wanted = _stateless(iter(history.world.values()))
    assert {key: content(row) for key, row in found.items()} == {key: content(row) for key, row in wanted.items()}


@given(histories)
def test_each_row_follows_the_one_before_and_differs_from_it(history: History) -> None:
    held: dict[bytes, Any] = {}
    for write in fold(history.values):
        if write.table == "routing" and write.value is not None and not write.key.startswith(b"~"):
            row, before = orjson.loads(write.value), held.get(write.key)
            assert row["previous"] == (before and before["version"])
            assert before is None or content(row) != content(before)
            assert row["cause"]
            held[write.key] = row


@settings(max_examples=200)
@given(st.lists(objects.flatmap(mutated), min_size=1, max_size=4), st.booleans())
def test_whatever_is_wrong_with_an_object_it_is_taken_or_named(items: list[Any], live: bool) -> None:
    collector = Collector("east", epoch=1, writer="w", seq=0, partitions=1, resources=_ALL)
    values = [record.value for record in collector.begin(AT)]
    for resource in _ALL:
        collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
        if live:
            collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, "1"))
    good = [gateway(), route("good", [to_gateway()], [rule("cart")], namespace="shop")]
    for item in (*good, *items):
        kind = str(item.get("kind")) if isinstance(item, dict) else ""
        if kind in {each.kind for each in _ALL}:
            read = Reflector(streaming=False, namespaced=kind != "Namespace")
            for event in read.page({"metadata": {"resourceVersion": "5"}, "items": [orjson.loads(orjson.dumps(item))]}):
                if event.item is not None:
                    collector.ingest(kind, event)
    if not live:
        for resource in _ALL:
            collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, "9"))
    values += [record.value for record in (*collector.flush(AT), *collector.snapshot(AT))]
    for write in fold(values):
        if write.value is not None:
            orjson.loads(write.value)
    assert "east/shop/cart" in rows(logs_of(fold(values)), "routing")


@settings(max_examples=100)
@given(histories, st.integers(0, 40), st.fixed_dictionaries({table: st.integers(0, 12) for table in TABLES}))
def test_a_worker_killed_anywhere_leaves_no_trace(history: History, steps: int, lost: dict[str, int]) -> None:
    """The tables' logs end at different places, as independent partitions of a producer may."""
    calm = logs_of(fold(history.values))
    rough: Logs = {
        table: log[: max(0, len(log) - lost[table])] for table, log in logs_of(fold(history.values[:steps])).items()
    }
    instance, offset, writes = restarted(rough)
    for each in range(offset, len(history.values)):
        writes += instance.step(each, history.values[each])
    for table, log in logs_of(writes).items():
        rough[table] += log
    assert accepted(rough) == accepted(calm)
    assert compacted(rough) == compacted(calm)
