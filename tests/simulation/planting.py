"""The catalogue of planted faults: `faults`, `routing_faults`, `folding_faults` and `part_faults` enter theirs."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from streams.facets import invariants
from streams.objects.collector import Collector
from streams.objects.reflector import Kind, ReflectorEvent
from tests.simulation.world import Object

Plant = Callable[[], AbstractContextManager[Any]]


class Fault(NamedTuple):
    """A planted fault: the guarantee that it breaks, and how. What it takes to see a rare one comes together first in
    a seed not long after `since`."""

    guarantee: int
    text: str
    plant: Plant
    since: int = 0


PLANTED: dict[str, Fault] = {}


def fault(guarantee: int, text: str, *, since: int = 0) -> Callable[[Plant], Plant]:
    """Enters a fault under its function's name."""

    def register(plant: Plant) -> Plant:
        PLANTED[plant.__name__.strip("_").replace("_", "-")] = Fault(guarantee, text, plant, since)
        return plant

    return register


@contextmanager
def planted(name: str) -> Iterator[None]:
    """With the fault of this name in the code, and without the core's own assertions, for the checkers must see it by
    themselves. With "" nothing is changed."""
    if not name:
        yield
        return
    with ExitStack() as stack:
        for assertion in filter(lambda each: each.startswith("assert_"), dir(invariants)):
            stack.enter_context(patch.object(invariants, assertion, lambda *_: None))
        stack.enter_context(PLANTED[name].plant())
        yield


def instead_at(
    moment: Kind, event_of: Callable[[Object], ReflectorEvent], *, kinds: Iterable[str] = (), missing: bool = False
) -> AbstractContextManager[Any]:
    """At this moment of a relist the collector is told something of each object that was there before it; with
    `missing`, of those that the relist does not show. `kinds` are those concerned (all, if none is named)."""
    real = Collector.ingest
    concerned = frozenset(kinds)
    shown: dict[Collector, dict[tuple[str, str, str], Object]] = {}
    listed: dict[tuple[Collector, str], set[tuple[str, str, str]]] = {}

    def ingest(self: Collector, kind: str, event: ReflectorEvent) -> None:
        held = shown.setdefault(self, {})
        if event.kind is moment and self.commits.synced and (not concerned or kind in concerned):
            seen = listed.get((self, kind), set()) if missing else set()
            for item in [item for key, item in held.items() if key[0] == kind and key not in seen]:
                real(self, kind, event_of(item))
        if event.kind is Kind.INIT:
            listed[self, kind] = set()
        elif event.kind in {Kind.INIT_APPLY, Kind.APPLY, Kind.DELETE}:
            key = kind, event.item["metadata"].get("namespace", ""), event.item["metadata"]["name"]
            held.pop(key, None)
            if event.kind is not Kind.DELETE:
                held[key] = event.item
                listed.setdefault((self, kind), set()).add(key)
        real(self, kind, event)

    return patch.object(Collector, "ingest", ingest)
