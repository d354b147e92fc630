"""A journal whose EndpointSlices come as patches, as watchers write them, is folded to the bytes of one with whole
objects."""

from itertools import pairwise
from typing import Any

import orjson
from hypothesis import event as note_event
from hypothesis import given
from hypothesis import strategies as st

from streams.facets.slice_text import read_patched_source, read_source
from streams.wire.event_encoding import apply_event, patch_event
from tests.properties.folding import fold
from tests.properties.journals import Journal, encode, events_of, journals, with_events
from tests.properties.slice_bodies import slice_bodies
from tests.support.journal_values import service

Event = dict[str, Any]
PATCH = b'"op":"patch"'
SERVICE = service("cart", 4)
Held = dict[tuple[str, str], bytes]


@given(slice_bodies())
def test_a_patched_slice_is_one_read_whole(bodies: list[bytes]) -> None:
    key, service = ("EndpointSlice", "shop", "s1"), ("shop", "cart")
    events = [
        apply_event(key, service, uid="u", version=str(version), body=body) for version, body in enumerate(bodies, 1)
    ]
    held = read_source("s1", "u", "1", bodies[0], None)
    for version, ((before, after), body) in enumerate(zip(pairwise(events), bodies[1:], strict=True), 2):
        whole = read_source("s1", "u", str(version), body, None)
        if (patch := patch_event(before, after)) is not None:
            made = orjson.loads(patch)
            assert (made["op"], made["base"], made["resourceVersion"]) == ("patch", str(version - 1), str(version))
            assert len(patch) < len(after)
            content = orjson.dumps(made["object"])
            assert read_patched_source("s1", "u", str(version), content, held, str(version - 1)) == whole
        held = whole


def patched(journal: Journal) -> list[bytes]:
    """The journal's records, with a patch wherever a watcher would write one."""
    held: dict[str, Held] = {}
    open_snapshots: dict[str, Held] = {}
    values = []
    for offset, commit in enumerate(journal.commits):
        if offset in journal.stale or isinstance(commit, bytes):
            values.append(encode(commit))
            continue
        cluster, phase = commit["cluster"], commit["phase"]
        if phase == "begin":
            open_snapshots[cluster] = {}
        own = open_snapshots.get(cluster, held.get(cluster, {}))
        values.append(encode(with_events(commit, [_patched(own, phase, event) for event in events_of(commit)])))
        if phase == "end":
            held[cluster] = open_snapshots.pop(cluster)
    return values


def _patched(held: Held, phase: str, event: Event) -> Event:
    """The event, or a patch of what is held, which it then replaces. One after a reject is whole."""
    name = (event["name"], event["service"])
    before = held.pop(name, None)
    if event["kind"] != "EndpointSlice" or event["op"] != "apply":
        return event
    held[name] = orjson.dumps(event)
    patch = patch_event(before, held[name]) if before and phase == "live" else None
    return event if patch is None else orjson.loads(patch)


@given(journals())
def test_patches_are_folded_to_the_bytes_of_whole_objects(journal: Journal) -> None:
    assert fold(patched(journal)) == fold(journal.values)


@st.composite
def _evolving_slices(draw: st.DrawFn) -> Journal:
    """Two slices of a Service, of which a few endpoints change each time, in commits of one change or of two."""
    head = {"cluster": "east", "epoch": 1, "writer": "w", "at": "2026-11-24T12:00:00.000Z", "frontier": {}}
    changes = {f"cart-{name}": draw(slice_bodies()) for name in "ab"}
    events = {name: [_slice_event(name, number, body) for number, body in enumerate(bodies, 1)] for name, bodies in
              changes.items()}  # fmt: skip
    commits: list[Any] = [("begin", []), ("snapshot", [SERVICE, *(of_slice.pop(0) for of_slice in events.values())])]
    commits.append(("end", []))
    while any(events.values()):
        names = draw(st.lists(st.sampled_from(sorted(events)), min_size=1, max_size=2))
        commits.append(("live", [events[name].pop(0) for name in names if events[name]]))
    return Journal([{**head, "seq": seq, "phase": phase, "events": of} for seq, (phase, of) in enumerate(commits, 1)])


def _slice_event(name: str, version: int, body: bytes) -> Event:
    event: Event = orjson.loads(
        apply_event(("EndpointSlice", "shop", name), ("shop", "cart"), uid=name, version=str(version), body=body)
    )
    return event


@given(_evolving_slices())
def test_slices_that_change_a_little_are_patched_and_folded_to_the_same_bytes(journal: Journal) -> None:
    values = patched(journal)
    assert fold(values) == fold(journal.values)
    patches = sum(value.count(PATCH) for value in values)
    note_event(f"patches: {min(patches, 3)}")
