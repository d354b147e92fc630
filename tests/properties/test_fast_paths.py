"""The fast paths of the commonest change (`single_slice`, and `slice_text.changed` below it) and of an initial list
(`initial_rows`) make what the general path makes."""

import copy
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import msgspec
import orjson
from hypothesis import given
from hypothesis import strategies as st

from streams.facets import row_parts
from streams.facets.slice_text import changed, read_source
from streams.fold.snapshot import OpenSnapshot
from streams.fold.table import TableState
from tests.properties import journals
from tests.properties.folding import fold
from tests.properties.slice_bodies import slice_bodies
from tests.properties.strategies import SERVICES, SLICES, Object, endpoint_slices, legacy_endpoints, services
from tests.support.parts import small_parts

_PORT_LISTS = [[{"port": 80}]] * 8 + [[{"port": 81}], [{"port": 80}, {"name": "b", "port": 81}]]
AT = "2026-11-24T12:00:00.000Z"


@given(slice_bodies())
def test_a_changed_group_is_one_read_anew(bodies: list[bytes]) -> None:
    held = read_source("s1", "u", "1", bodies[0], None)
    for body in bodies[1:]:
        anew = read_source("s1", "u", "2", body, None)
        assert read_source("s1", "u", "2", body, held) == anew
        change = changed(held.groups[0], body)
        if change is not None:
            was, now = held.groups[0].endpoints, anew.groups[0].endpoints
            assert change.removed == [each for each in was if each not in now]
            assert change.added == [each for each in now if each not in was]
        held = anew


@given(slice_bodies(), st.data())
def test_a_damaged_body_is_refused_as_the_general_path_refuses_it(bodies: list[bytes], data: st.DataObject) -> None:
    held = read_source("s1", "u", "1", bodies[0], None)
    body = bodies[-1]
    at = data.draw(st.integers(0, len(body)))
    to = min(len(body), at + data.draw(st.integers(0, 3)))
    damage = data.draw(
        st.sampled_from((b"", b",", b",,", b"]", b"}", b'"', b"\\", b" ", b"1", b"null", b"{}", b"\xff"))
    )
    broken = body[:at] + damage + body[to:]
    try:
        anew = read_source("s1", "u", "2", broken, None)
    except (msgspec.MsgspecError, ValueError):
        anew = None
    try:
        quick = read_source("s1", "u", "2", broken, held)
    except (msgspec.MsgspecError, ValueError):
        quick = None
    assert quick == anew


_HOSTNAMES = st.sampled_from((None, "web-0"))


@st.composite
def _journals(draw: st.DrawFn) -> list[bytes]:
    """One Service, and one event of its slices in each commit."""
    names = SLICES[: draw(st.integers(1, 2))]
    version = 10
    pools = {"IPv4": [f"10.0.0.{i}" for i in range(12)], "FQDN": [f"a{i}.example" for i in range(12)]}
    family = draw(st.sampled_from(("IPv4", "IPv4", "FQDN")))

    def slice_of(name: str) -> Object:
        # Mostly apart from each other, so that there is not always something shadowed.
        pool = pools[family][:6] if name == SLICES[0] else pools[family][5:]
        item = draw(endpoint_slices(name, SERVICES[0], families=(family,), version=str(version)))
        addresses = draw(st.lists(st.sampled_from(pool), unique=draw(st.integers(0, 9)) > 0, max_size=5))
        item["ports"] = copy.deepcopy(draw(st.sampled_from(_PORT_LISTS)))
        item["endpoints"] = [
            {"addresses": [each], "zone": draw(st.sampled_from("ab")), "hostname": draw(_HOSTNAMES)}
            for each in addresses
        ]
        return item

    first = [draw(services(SERVICES[0])), *(slice_of(name) for name in names)]
    events = [[], [journals.apply(item) for item in first], []]
    for _ in range(draw(st.integers(1, 8))):
        version += 1
        events.append([journals.apply(slice_of(draw(st.sampled_from(names))))])
    phases = ["begin", "snapshot", "end"] + ["live"] * len(events)
    return [_commit(seq, phases[seq - 1], each) for seq, each in enumerate(events, 1)]


def _commit(seq: int, phase: str, events: Sequence[dict[str, Any]]) -> bytes:
    return orjson.dumps(
        {
            "cluster": "east", "epoch": 1, "writer": "w", "seq": seq, "at": AT, "phase": phase,
            "frontier": {"services": str(seq)}, "events": list(events),
        }
    )  # fmt: skip


@given(_journals())
def test_a_single_slices_fast_path_makes_the_bytes_of_the_general_path(values: list[bytes]) -> None:
    fast = fold(values)
    with (
        patch.object(TableState, "fold_single", return_value=[]),
        patch("streams.facets.slice_text.changed", return_value=None),
    ):
        assert fold(values) == fast


@given(_journals())
def test_what_is_known_of_a_change_makes_the_parts_that_comparing_the_slices_makes(values: list[bytes]) -> None:
    with small_parts():
        fast = fold(values)
        with patch.object(TableState, "fold_single", return_value=[]):
            assert fold(values) == fast


def test_parts_are_made_of_what_is_known_here_and_not_always() -> None:
    """A comparison of the general path with itself would prove nothing."""
    taken = {True: 0, False: 0}
    real = row_parts._changed_chunks

    def counted(*arguments: Any) -> Any:
        taken[arguments[-1] is not None] += 1
        return real(*arguments)

    @given(_journals())
    def count(values: list[bytes]) -> None:
        fold(values)

    with small_parts(), patch.object(row_parts, "_changed_chunks", counted):
        count()
    assert min(taken.values()) > 20, taken


def test_a_single_slices_fast_path_is_taken_here_and_not_always() -> None:
    """A comparison of the general path with itself would prove nothing."""
    taken = {True: 0, False: 0}
    real = TableState.fold_single

    def counted(*arguments: Any) -> Any:
        writes = real(*arguments)
        taken[bool(writes)] += 1
        return writes

    @given(_journals())
    def count(values: list[bytes]) -> None:
        fold(values)

    with patch.object(TableState, "fold_single", counted):
        count()
    assert min(taken.values()) > 20, taken


@st.composite
def _first_lists(draw: st.DrawFn) -> list[bytes]:
    """A first list of a few Services with their slices, some with legacy Endpoints, and a change after it."""
    events = [journals.apply(draw(services(SERVICES[0])))]
    for service in draw(st.lists(st.sampled_from(SERVICES), min_size=1, unique=True)):
        if draw(st.integers(0, 5)):
            events.append(journals.apply(draw(services(service))))
        for name in SLICES[: draw(st.integers(0, 2))]:
            item = draw(endpoint_slices(f"{service}-{name}", service, version="7"))
            if draw(st.integers(0, 3)):
                # Apart from all others, so that there is not always something shadowed.
                item |= {"addressType": "IPv4", "endpoints": [{"addresses": [f"10.1.0.{len(events)}"]}]}
            events.append(journals.apply(item))
        if draw(st.booleans()):
            events.append(journals.apply(draw(legacy_endpoints(service))))
    if draw(st.integers(0, 5)) == 0:
        events.append(events[0] | {"op": "reject", "message": "no", "resourceVersion": "8"})
    order = draw(st.permutations(events))
    cut = draw(st.integers(0, len(order)))
    stages = [("begin", []), ("snapshot", order[:cut]), ("snapshot", order[cut:]), ("end", [])]
    stages.append(("live", [draw(st.sampled_from(events)) | {"resourceVersion": "9"}]))
    return [_commit(seq, phase, each) for seq, (phase, each) in enumerate(stages, 1)]


@given(st.one_of(_first_lists(), journals.journals().map(lambda journal: journal.values)))
def test_initial_rows_are_those_of_the_general_path(values: list[bytes]) -> None:
    fast = fold(values)
    with patch.object(OpenSnapshot, "prepared", return_value=None):
        assert fold(values) == fast


def test_initial_rows_are_made_here_and_not_always() -> None:
    """A comparison of the general path with itself would prove nothing."""
    taken = {True: 0, False: 0}
    real = OpenSnapshot.prepared

    def counted(*arguments: Any) -> Any:
        prepared = real(*arguments)
        taken[prepared is not None] += 1
        return prepared

    @given(_first_lists())
    def count(values: list[bytes]) -> None:
        fold(values)

    with patch.object(OpenSnapshot, "prepared", counted):
        count()
    assert min(taken.values()) > 20, taken
