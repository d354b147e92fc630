"""States of one object that bunch up on their way: each is told, where the one before waits for a flush."""

from typing import Any

import msgspec
import pytest

from streams.objects.collector import Collector
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import RESOURCES
from streams.wire.records import Commit

AT = "2026-11-24T12:00:00.000Z"


def collector(*items: dict[str, Any]) -> Collector:
    made = Collector("east", epoch=1, writer="w", seq=0, partitions=4)
    for resource in RESOURCES:
        made.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
    for item in items:
        made.ingest("EndpointSlice", ReflectorEvent(Kind.INIT_APPLY, item, ""))
    for resource in RESOURCES:
        made.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, "10"))
    made.flush(AT)
    return made


def state(name: str, service: str, version: int) -> ReflectorEvent:
    item = {
        "metadata": {"name": name, "namespace": "shop", "uid": f"u-{name}", "resourceVersion": str(version),
                     "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": version % 2 == 0}}],
    }  # fmt: skip
    return ReflectorEvent(Kind.APPLY, item, str(version))


def told(made: Collector, *events: ReflectorEvent) -> list[tuple[int, str, list[tuple[str, str, str, str]]]]:
    """The commits that a watcher makes of these, when they come at once: each one's seq, its slices' frontier, and its
    events: operation, object, Service, resourceVersion."""
    records = []
    for event in events:
        if made.has_pending("EndpointSlice", event):
            records += made.flush(AT)
        made.ingest("EndpointSlice", event)
    decoded = [msgspec.json.decode(record.value, type=Commit) for record in (*records, *made.flush(AT))]
    return [
        (each.seq, each.frontier["endpointslices.discovery.k8s.io"],
         [(event.op, event.name, event.service, event.resource_version) for event in each.events])
        for each in decoded
    ]  # fmt: skip


def test_each_state_has_a_commit_and_what_was_seen_with_it_is_in_the_same() -> None:
    made = collector(state("a", "cart", 5).item, state("b", "cart", 6).item)
    first = made.commits.seq
    came = [("a", 20), ("b", 21), ("a", 22), ("a", 23), ("b", 24)]
    assert told(made, *(state(name, "cart", version) for name, version in came)) == [
        (first + 1, "21", [("patch", "a", "cart", "20"), ("patch", "b", "cart", "21")]),
        (first + 2, "22", [("patch", "a", "cart", "22")]),
        (first + 3, "24", [("patch", "a", "cart", "23"), ("patch", "b", "cart", "24")]),
    ]
    assert told(made) == []


def test_a_slice_that_moves_leaves_one_service_and_comes_to_the_other_at_one_seq() -> None:
    made = collector(state("a", "cart", 5).item)
    first = made.commits.seq
    came = [("cart", 21), ("till", 22), ("till", 23), ("cart", 24)]
    found = told(made, *(state("a", service, version) for service, version in came))
    by_seq = {seq: sorted(event[:3] for each in found if each[0] == seq for event in each[2]) for seq, *_ in found}
    assert by_seq == {
        first + 1: [("patch", "a", "cart")],
        first + 2: [("apply", "a", "till"), ("delete", "a", "cart")],
        first + 3: [("patch", "a", "till")],
        first + 4: [("apply", "a", "cart"), ("delete", "a", "till")],
    }


@pytest.mark.parametrize("item", [None, 7, {}, {"metadata": None}, {"metadata": {"name": 1}}])
def test_what_can_not_be_read_is_no_trouble_here(item: Any) -> None:
    made = collector()
    bad = ReflectorEvent(Kind.MALFORMED, item, "", "no object")
    assert not made.has_pending("EndpointSlice", bad)
    made.ingest("EndpointSlice", bad)
    assert made.has_pending("EndpointSlice", bad)


def test_a_list_is_one_moment() -> None:
    made = collector(state("a", "cart", 5).item)
    made.ingest("EndpointSlice", ReflectorEvent(Kind.INIT, None, ""))
    listed = state("a", "cart", 20)._replace(kind=Kind.INIT_APPLY)
    assert not made.has_pending("EndpointSlice", listed)
    made.ingest("EndpointSlice", listed)
    assert not made.has_pending("EndpointSlice", listed)
