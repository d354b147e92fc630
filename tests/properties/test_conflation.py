"""What is held back and conflated ends in the same records as if each event had been read in its turn."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streams.objects.collector import Collector
from streams.objects.conflation import Conflation
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import RESOURCES

AT = "2026-11-24T12:00:00.000Z"
_Event = tuple[str, ReflectorEvent]


def _object(kind: str, name: str, uid: int, version: int, address: int) -> dict[str, Any]:
    meta = {"namespace": "shop", "name": name, "uid": f"{name}-{uid}", "resourceVersion": str(version)}
    if kind == "Service":
        address_ = f"10.96.0.{address}"
        spec = {"type": "ClusterIP", "clusterIP": address_, "clusterIPs": [address_], "ports": [{"port": 80}]}
        return {"metadata": meta, "spec": spec}
    return {
        "metadata": {**meta, "labels": {"kubernetes.io/service-name": f"s{address % 2}"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [f"10.0.0.{address}"], "conditions": {"ready": True}}],
    }  # fmt: skip


@st.composite
def events(draw: st.DrawFn) -> list[_Event]:
    """What two watches tell of a few objects, one after the other; some are deleted and made again."""
    told: list[_Event] = []
    uids: dict[tuple[str, str], int] = {}
    count = draw(st.integers(1, 25))
    for version in range(100, 100 + count):
        kind = draw(st.sampled_from(["Service", "EndpointSlice"]))
        name = draw(st.sampled_from(["s0", "s1"])) if kind == "Service" else draw(st.sampled_from(["a", "b", "c"]))
        what = draw(st.sampled_from([Kind.APPLY] * 4 + [Kind.DELETE, Kind.BOOKMARK]))
        if what is Kind.BOOKMARK:
            told.append((kind, ReflectorEvent(what, None, str(version))))
            continue
        uid = uids.get((kind, name), 0)
        item = _object(kind, name, uid, version, draw(st.integers(1, 4)))
        told.append((kind, ReflectorEvent(what, item, str(version))))
        if what is Kind.DELETE:
            uids[kind, name] = uid + 1
    return told


def _collector(before: list[_Event]) -> Collector:
    collector = Collector("east", epoch=1, writer="w", seq=0, partitions=1)
    collector.begin(AT)
    for resource in RESOURCES:
        collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
        collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, "99"))
    for kind, event in before:
        collector.ingest(kind, event)
    collector.flush(AT)
    assert collector.commits.synced
    return collector


def _snapshot(collector: Collector) -> list[bytes]:
    """The objects, in whatever order they came."""
    commits = [orjson.loads(record.value) for record in collector.snapshot(AT)]
    return sorted(orjson.dumps(event) for commit in commits for event in commit.get("events", ()))


def _is_deletion(event: _Event) -> bool:
    return event[1].kind is Kind.DELETE


@given(events(), events())
def test_the_last_states_are_those_of_all_events(before: list[_Event], after: list[_Event]) -> None:
    each_read, conflated, held = _collector(before), _collector(before), Conflation()
    for kind, event in after:
        each_read.ingest(kind, event)
        assert held.hold(kind, [event])
    released = held.release()
    for kind, event in released:
        conflated.ingest(kind, event)
    each_read.flush(AT)
    conflated.flush(AT)
    assert _snapshot(conflated) == _snapshot(each_read)
    assert conflated.commits.frontier == each_read.commits.frontier
    assert [event for event in released if _is_deletion(event)] == [event for event in after if _is_deletion(event)]
    rest = iter(after)
    assert all(any(event == told for told in rest) for event in released), "in another order"
    names = [(kind, event.item["metadata"]["name"]) for kind, event in released if event.kind is Kind.APPLY]
    assert len(names) == len({*names}) or any(event.kind is Kind.DELETE for _, event in released)
    assert not held


@given(events(), st.sampled_from([Kind.INIT, Kind.INIT_APPLY, Kind.INIT_DONE, Kind.MALFORMED]))
def test_a_list_is_read_in_its_turn(told: list[_Event], kind: Kind) -> None:
    held = Conflation()
    assert not held.hold("Service", [*(event for _, event in told), ReflectorEvent(kind, {}, "")])
    assert not held
