"""Whatever a commit holds, what the fold makes of it can be read by every reader: hostile values in every place."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.objects.collector import Collector
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import OPTIONAL, RESOURCES
from tests.properties.folding import TABLES, new_fold
from tests.properties.readers import read_by_all
from tests.support.routes import annotated, by_cookie, gateway, policy, route, rule, to_gateway, to_service

_AT = "2026-11-23T12:00:00.000Z"
_LATER = "2026-11-25T12:00:00.000Z"
_ALL = (*RESOURCES, *OPTIONAL)
Place = tuple[int, tuple[Any, ...]]
"""A commit, and the way to a value in it."""


def _meta(name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": str(version), **more}


def _slice(version: int, *addresses: str, name: str = "cart-a", family: str = "IPv4") -> dict[str, Any]:
    pod = {"kind": "Pod", "name": "p", "uid": "u"}
    return {
        "kind": "EndpointSlice",
        "metadata": _meta(
            name, version, labels={"kubernetes.io/service-name": "cart"},
            annotations={"endpoints.kubernetes.io/last-change-trigger-time": _AT},
        ),
        "addressType": family,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}],
        "endpoints": [
            {"addresses": [each], "zone": "z1", "nodeName": "n1", "hints": {"forZones": [{"name": "z1"}]}}
            | ({"targetRef": pod} if i == 0 else {})
            for i, each in enumerate(addresses)
        ],
    }  # fmt: skip


def _service(name: str, version: int, **spec: Any) -> dict[str, Any]:
    return {"kind": "Service", "metadata": _meta(name, version), "spec": {"clusterIP": "10.96.0.7", **spec}}


_PORTS = [{"name": "http", "port": 80, "targetPort": "web"}, {"name": "grpc", "port": 81, "targetPort": 8081}]
_PERMANENT = {"lifetimeType": "Permanent"}
_OBJECTS = [
    annotated(
        _service("cart", 1, ports=_PORTS, selector={"app": "cart"}, trafficDistribution="PreferClose"), mesh="endpoint"
    ),
    {**_service("out", 2), "spec": {"type": "ExternalName", "externalName": "db.example", "ports": _PORTS[:1]}},
    _service("old", 3, ports=_PORTS, sessionAffinity="ClientIP"),
    _slice(4, "10.1.0.1", "10.1.0.2"),
    _slice(5, "fd00::1", name="cart-6", family="IPv6"),
    {
        "kind": "Endpoints",
        "metadata": _meta("old", 6),
        "subsets": [{"addresses": [{"ip": "10.1.0.9"}], "ports": [{"name": "http", "port": 1}]}],
    },
    {"kind": "EndpointSlice", "metadata": _meta("bad", 7, labels={"kubernetes.io/service-name": "cart"})},
    gateway(resourceVersion="8"),
    route(
        "way", [to_gateway(), to_service()],
        [rule("cart", "old", persistence=by_cookie("a", absoluteTimeout="1h", cookieConfig=_PERMANENT))],
        resourceVersion="9",
    ),
    policy("sticky", "old", persistence={"type": "Header", "sessionName": "x-session"}, resourceVersion="10"),
]  # fmt: skip


def _commits() -> Iterator[dict[str, Any]]:
    """A snapshot with one of everything, and live commits after it."""
    collector = Collector("east", epoch=1, writer="w", seq=0, partitions=1, resources=_ALL)
    records = collector.begin(_AT)
    for resource in _ALL:
        collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
    for item in copy.deepcopy(_OBJECTS):
        collector.ingest(item["kind"], ReflectorEvent(Kind.INIT_APPLY, item, ""))
    for resource in _ALL:
        collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, "10"))
    records += collector.flush(_AT)
    for item in (
        _slice(11, "10.1.0.1", "10.1.0.3"),
        _service("cart", 12, ports=_PORTS[:1]),
        _slice(13, "10.1.0.1", name="cart-b"),
        _service("fresh", 14, ports=_PORTS),
        _OBJECTS[8],
    ):
        item["metadata"]["resourceVersion"] = str(20 + len(records))
        collector.ingest(item["kind"], ReflectorEvent(Kind.APPLY, copy.deepcopy(item), ""))
        records += collector.flush(_AT)
    collector.commits.stale_since = _AT
    records += collector.heartbeat(_AT)
    collector.commits.stale_since = ""
    records += collector.heartbeat(_AT)
    for item in (_slice(30), _service("out", 31)):
        collector.ingest(item["kind"], ReflectorEvent(Kind.DELETE, copy.deepcopy(item), "40"))
    records += collector.flush(_AT)
    records += collector.heartbeat(_LATER)  # The tombstones are due.
    return (json.loads(record.value) for record in records)


_BASE = list(_commits())


def _places(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield (*at, key)
        yield from _places(node[key], (*at, key))


PLACES = [(number, at) for number, commit in enumerate(_BASE) for at in _places(commit)]
_TEXTS = (
    "\n", "\x00", "\x1b[2J", "\x7f", '"', "\\", "/", "\u2028", "\u202e", "\ufeff", "\U0001f41f", " ", "x" * 70_000,
)  # fmt: skip
_OTHERS = (
    "", "7", "007", "-7", "+7", " 7", "7_0", "\u0663", "9" * 40, "9" * 5000, "1e5", "0x7", "None", "::1%eth0",
    "10.1.0.300", "1.2.3.4", "1.2.3.4 1.2.3.5", "a.example", "2026-11-23T12:00:00+14:00", "20261123T120000Z",
    "2026-11-23",
    "0001-01-01T00:00:00Z", "1h", "9" * 30 + "h", "9" * 400 + "h", -1, 0, 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63,
    2**64, 10**30, -(10**30), 1.5, 1e300, True, None, [], {}, ["a"], {"a": "b"},
)  # fmt: skip
_RAW = (
    b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"', b'"\xed\xa0\x80"', b'"\x01"', b'"a\nb"', b"NaN", b"1e999",
    b"-0", b"01", b"9" * 5000,
    b"[" * 200 + b"]" * 200, b'{"a":' * 900 + b"1" + b"}" * 900, b"[" * 100_000 + b"]" * 100_000,
)  # fmt: skip
"""What a JSON encoder would not write."""
_MARK = "place for what no encoder writes"
Hostile = tuple[Place, Any]


@st.composite
def hostile(draw: st.DrawFn) -> Hostile:
    """A place, and what is put there: something of the like, or anything."""
    number, at = draw(st.sampled_from(PLACES))
    value = _value(number, at)
    appended = st.sampled_from(_TEXTS).map(lambda text: f"{value}{text}") if isinstance(value, str) else st.nothing()
    return (number, at), draw(st.one_of(appended, st.sampled_from(_OTHERS), st.sampled_from(_RAW)))


def _value(number: int, at: tuple[Any, ...]) -> Any:
    node: Any = _BASE[number]
    for step in at:
        node = node[step]
    return node


def _journal(changes: list[Hostile], keys: bool = False) -> list[bytes]:
    commits = copy.deepcopy(_BASE)
    raw: dict[str, bytes] = {}
    for (number, at), value in changes:
        node: Any = commits[number]
        try:
            for step in at[:-1]:
                node = node[step]
            if isinstance(value, bytes):
                mark = f"{_MARK} {len(raw)}"
                raw[json.dumps(mark)] = value
                node[at[-1]] = mark
            elif keys and isinstance(node, dict) and isinstance(value, str):
                node[value] = node.pop(at[-1])
            else:
                node[at[-1]] = copy.deepcopy(value)
        except (KeyError, IndexError, TypeError):
            continue  # An earlier change has taken the place away.
    values = []
    for commit in commits:
        text = json.dumps(commit, separators=(",", ":"), ensure_ascii=False).encode()
        for mark, value in raw.items():
            text = text.replace(mark.encode(), value)
        values.append(text)
    return values


def _folded(values: list[bytes]) -> list[Any]:
    fold = new_fold()
    return [write for offset, value in enumerate(values) for write in fold.step(offset, value)]


def test_the_journal_itself_has_one_of_everything() -> None:
    writes = _folded(_journal([]))
    read_by_all(writes)
    letters = [write for write in writes if write.table == "deadletter"]
    assert [json.loads(letter.value or b"")["name"] for letter in letters] == ["bad"]
    assert any(write.value is None for write in writes)
    assert any(write.key.startswith(b"~held/") for write in writes)


@given(st.lists(hostile(), min_size=1, max_size=3), st.booleans())
def test_every_row_can_be_read_back_by_every_reader(changes: list[Hostile], keys: bool) -> None:
    read_by_all(_folded(_journal(changes, keys)))


def test_a_type_that_can_not_be_listed_for_now_has_no_frontier_and_stops_no_heartbeat() -> None:
    """The watcher names it without a version."""
    read_by_all(_folded(_journal([((number, ("frontier", "namespaces")), "") for number in range(2, len(_BASE))])))


def test_a_name_with_a_line_break_at_its_end_is_no_cluster() -> None:
    """Python's `$` is also before it."""
    writes = _folded(_journal([((number, ("cluster",)), "east\n") for number in range(len(_BASE))]))
    assert {write.table for write in writes if write.key.startswith(b"~seal/")} == set(TABLES)
    assert [write.table for write in writes].count("deadletter") == len(_BASE)
    assert not any(b"east" in write.key for write in writes)
