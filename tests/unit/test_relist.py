"""A relist of one resource type in the collector: what it changes must reach the journal, once, and in order."""

from typing import Any

import msgspec
import pytest

from streams.objects.collector import Collector
from streams.objects.reflector import Kind, Reflector, ReflectorEvent
from streams.objects.resources import RESOURCES
from streams.wire.records import Commit, Event

AT = "2026-11-24T12:00:00.000Z"


def service(name: str, version: int, port: int = 80) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": f"u-{name}", "resourceVersion": str(version)},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": port}]},
    }


def synced(*items: dict[str, Any]) -> Collector:
    collector = Collector("east", epoch=1, writer="w", seq=0, partitions=1)
    for resource in RESOURCES:
        say(collector, Kind.INIT, of=resource.kind)
    for item in items:
        say(collector, Kind.INIT_APPLY, item)
    for resource in RESOURCES:
        say(collector, Kind.INIT_DONE, version="10", of=resource.kind)
    collector.flush(AT)
    assert collector.settled
    return collector


def say(collector: Collector, kind: Kind, item: Any = None, version: str = "", of: str = "Service") -> None:
    collector.ingest(of, ReflectorEvent(kind, item, version))


def flushed(collector: Collector) -> list[Event]:
    return [
        event
        for record in collector.flush(AT)
        for event in msgspec.json.decode(record.value, type=Commit).events
    ]  # fmt: skip


def test_what_a_relist_saw_before_it_was_cut_off_is_not_lost() -> None:
    collector = synced(service("cart", 5))
    say(collector, Kind.INIT)
    say(collector, Kind.INIT_APPLY, service("cart", 20, port=8080))
    assert flushed(collector) == []
    say(collector, Kind.INIT)
    say(collector, Kind.INIT_APPLY, service("cart", 20, port=8080))
    say(collector, Kind.INIT_DONE, version="21")
    assert [(event.op, event.resource_version) for event in flushed(collector)] == [("apply", "20")]
    assert collector.settled


def test_what_only_the_relist_that_was_cut_off_saw_is_not_told() -> None:
    collector = synced()
    say(collector, Kind.INIT)
    say(collector, Kind.INIT_APPLY, service("cart", 20))
    say(collector, Kind.INIT)
    say(collector, Kind.INIT_DONE, version="30")
    assert flushed(collector) == []
    assert collector.objects == 0


def test_a_relist_that_begins_behind_what_is_held_ends_with_its_newest_state() -> None:
    """Simulation, seed 1172: a lagging server's streaming list catches up before it is complete."""
    collector = synced(service("cart", 9))
    say(collector, Kind.INIT)
    say(collector, Kind.INIT_APPLY, service("cart", 7, port=8080))
    say(collector, Kind.INIT_APPLY, service("cart", 9))
    say(collector, Kind.INIT_DONE, version="12")
    assert [(event.op, event.resource_version) for event in flushed(collector)][-1:] == [("apply", "9")]


def test_a_deletion_inside_a_streaming_list_comes_after_what_it_deletes() -> None:
    collector = synced(service("cart", 5))
    say(collector, Kind.INIT)
    say(collector, Kind.INIT_APPLY, service("cart", 20, port=8080))
    say(collector, Kind.DELETE, service("cart", 22))
    assert flushed(collector) == []
    say(collector, Kind.INIT_DONE, version="23")
    assert [event.op for event in flushed(collector)] == ["apply", "delete"]


def test_a_rejected_object_that_is_gone_at_the_relist_is_deleted() -> None:
    collector = synced(service("cart", 5, port=-1))
    say(collector, Kind.INIT)
    say(collector, Kind.INIT_DONE, version="30")
    assert [(event.op, event.name) for event in flushed(collector)] == [("delete", "cart")]


@pytest.mark.parametrize("held", [True, False])
def test_what_a_refused_list_said_is_no_last_good_state(held: bool) -> None:
    """Simulation, seeds 10005 and 14171: a streaming list says only at its end that it is a lagging server's."""
    collector = synced(*([service("cart", 5)] if held else []))
    say(collector, Kind.INIT)
    say(collector, Kind.INIT_APPLY, service("cart", 3, port=8080))
    say(collector, Kind.INIT)
    say(collector, Kind.INIT_APPLY, service("cart", 12, port=-1))
    say(collector, Kind.INIT_DONE, version="20")
    assert [(event.op, event.resource_version) for event in flushed(collector)] == [("reject", "12")]


def test_nor_is_what_a_first_list_said_that_was_cut_off() -> None:
    collector = Collector("east", epoch=1, writer="w", seq=0, partitions=1)
    for resource in RESOURCES:
        say(collector, Kind.INIT, of=resource.kind)
    say(collector, Kind.INIT_APPLY, service("cart", 3, port=8080))
    assert [event.op for event in flushed(collector)] == ["apply"]
    say(collector, Kind.INIT)
    say(collector, Kind.INIT_APPLY, service("cart", 12, port=-1))
    for resource in RESOURCES:
        say(collector, Kind.INIT_DONE, version="20", of=resource.kind)
    assert [event.op for event in flushed(collector)] == ["delete", "reject"]


def test_what_the_same_list_said_before_is_the_last_good_state() -> None:
    collector = synced(service("cart", 5))
    say(collector, Kind.INIT)
    say(collector, Kind.INIT_APPLY, service("cart", 12, port=8080))
    say(collector, Kind.INIT_APPLY, service("cart", 14, port=-1))
    say(collector, Kind.INIT_DONE, version="20")
    say(collector, Kind.APPLY, service("cart", 21, port=-1), "21")
    assert [(event.op, event.resource_version) for event in flushed(collector)] == [
        ("apply", "12"), ("reject", "14"), ("reject", "21"),
    ]  # fmt: skip


@pytest.mark.parametrize("item", [None, [], "x", {"metadata": 7}, {"metadata": {"annotations": ["x"]}}])
def test_a_bookmark_that_makes_no_sense_is_passed_over(item: Any) -> None:
    reflector = Reflector()
    assert list(reflector.event("BOOKMARK", item)) == []
    assert list(reflector.page({"metadata": {"resourceVersion": "7"}, "items": None}))[-1].kind is Kind.INIT_DONE
    assert list(reflector.event("BOOKMARK", item)) == []


def test_a_relist_before_all_types_were_listed_once_is_no_part_of_the_snapshot() -> None:
    """Half of a list in the snapshot would be a set that never was, at a frontier that it is not of."""
    collector = Collector("east", epoch=1, writer="w", seq=0, partitions=1)
    for resource in RESOURCES:
        say(collector, Kind.INIT, of=resource.kind)
    say(collector, Kind.INIT_DONE, version="10")
    say(collector, Kind.INIT)
    say(collector, Kind.INIT_APPLY, service("cart", 11))
    for resource in RESOURCES[1:]:
        say(collector, Kind.INIT_DONE, version="19", of=resource.kind)
    assert flushed(collector) == []
    assert collector.commits.synced
    assert collector.commits.frontier["services"] == "10"
    say(collector, Kind.INIT_DONE, version="12")
    assert [event.op for event in flushed(collector)] == ["apply"]
    assert collector.commits.frontier["services"] == "12"
