"""The merge of slices into one set, and what changes of it, against a model written from the rules alone."""

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import orjson
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.facets import endpoint_set as sets
from streams.facets.claims import shadows_of
from streams.facets.set_change import Difference, View, encode_difference
from streams.facets.set_change import difference as difference_of
from streams.facets.slice_text import LEGACY_PREFIX, Source, read_source
from streams.objects.normalize import SERVICE_NAME_LABEL, normalize
from streams.wire.records import spread
from tests.properties.model import Members, apply_change, winners
from tests.properties.strategies import NAMESPACE, SERVICES, SLICES, Object, endpoint_slices, legacy_endpoints, versions
from tests.support.endpoints import Endpoint, by_port

SERVICE_HERE = (False, False)


# ---- how the code under test is asked ----------------------------------------------------------------


def _source(item: Object) -> Source:
    normalized = normalize(item["kind"], item, "cluster.local")
    assert normalized is not None
    label = normalized.name if item["kind"] == "EndpointSlice" else LEGACY_PREFIX + normalized.name
    return read_source(label, normalized.uid, normalized.resource_version, normalized.body, None)


def _groups(backend: sets.EndpointSet) -> bytes:
    return b"[%b]" % sets.encode_groups(backend, withdrawn=False)


def _members(backend: sets.EndpointSet) -> Members:
    return by_port(spread(orjson.loads(_groups(backend))))


def _change(difference: Difference) -> dict[str, list[Endpoint]]:
    return {name: spread(groups) for name, groups in orjson.loads(encode_difference(difference)).items()}


def _built(slices: Sequence[Object], legacy: Object | None) -> sets.EndpointSet:
    """The backend from nothing, in one step."""
    backend, _ = sets.advance(
        sets.EMPTY_SET,
        {item["metadata"]["name"]: _source(item) for item in slices},
        _source(legacy) if legacy else None,
        withdrawn=SERVICE_HERE,
    )
    return backend


def _slice(name: str) -> st.SearchStrategy[Object]:
    return versions().flatmap(lambda version: endpoint_slices(name, SERVICES[0], version=version))


def worlds() -> st.SearchStrategy[tuple[list[Object], Object | None]]:
    """A Service's slices, with or without legacy Endpoints."""
    slices = st.lists(st.sampled_from(SLICES), unique=True, max_size=3).flatmap(
        lambda names: st.tuples(*(_slice(name) for name in names)).map(list)
    )
    return st.tuples(slices, st.none() | versions().flatmap(lambda version: legacy_endpoints(SERVICES[0], version)))


Step = tuple[dict[str, Object | None], Object | None]
"""Slices that change (None: deleted), and the legacy Endpoints from then on."""


def steps() -> st.SearchStrategy[list[Step]]:
    """Changes of one Service, in commits of one slice or several."""
    changes = st.lists(st.sampled_from(SLICES), unique=True, min_size=1, max_size=3).flatmap(
        lambda names: st.fixed_dictionaries({name: st.none() | _slice(name) | _slice(name) for name in names})
    )
    return st.lists(st.tuples(changes, st.none() | legacy_endpoints()), min_size=1, max_size=6)


def _advance(old: sets.EndpointSet, step: Step) -> tuple[sets.EndpointSet, Difference]:
    changes, legacy = step
    sources = {name: _source(item) if item else None for name, item in changes.items()}
    return sets.advance(old, sources, _source(legacy) if legacy else None, withdrawn=SERVICE_HERE)


def _lone(name: str, family: str) -> Object:
    return {
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {SERVICE_NAME_LABEL: SERVICES[0]}},
        "addressType": family,
        "endpoints": [{"addresses": ["10.0.0.1"]}],
    }


# ---- properties --------------------------------------------------------------------------------------


_often = settings(max_examples=5 * settings.default.max_examples)
"""For what is quickly tried: slices that share a part of their ports with one another are one case in forty."""


@_often
@given(worlds())
def test_the_set_is_what_the_rules_say(world: tuple[list[Object], Object | None]) -> None:
    """Guarantee 2 of the README."""
    members = _members(_built(*world))
    expected = winners(*world)
    assert members.keys() == expected.keys()
    for identity, endpoint in members.items():
        assert endpoint in expected[identity]


@given(worlds(), st.randoms(use_true_random=False))
def test_the_set_does_not_depend_on_the_order_in_which_slices_come(
    world: tuple[list[Object], Object | None], random: Any
) -> None:
    slices, legacy = world
    expected = _groups(_built(slices, legacy))
    shuffled = list(slices)
    random.shuffle(shuffled)
    backend = sets.EMPTY_SET
    for item in shuffled:
        backend, _ = _advance(backend, ({item["metadata"]["name"]: item}, legacy))
    backend, _ = _advance(backend, ({}, legacy))
    assert _groups(backend) == expected


@given(steps())
def test_in_steps_is_from_scratch_and_changes_lead_from_set_to_set(history: list[Step]) -> None:
    """However the endpoints were spread over slices on the way: apply(diff(a, b), a) == b."""
    backend = sets.EMPTY_SET
    world: dict[str, Object] = {}
    before: Members = {}
    for step in history:
        backend, difference = _advance(backend, step)
        for name, item in step[0].items():
            world.pop(name, None)
            if item is not None:
                world[name] = item
        assert _groups(backend) == _groups(_built(list(world.values()), step[1]))
        after = _members(backend)
        assert apply_change(_change(difference), before) == after
        before = after


# A slice made again with another family names what only looks like the address it had.
@example([({"s1": _lone("s1", "IPv4"), "s2": _lone("s2", "FQDN")}, None), ({"s1": _lone("s1", "FQDN")}, None)])
@given(steps())
def test_what_follows_from_changed_slices_alone_is_what_all_slices_say(history: list[Step]) -> None:
    backend = sets.EMPTY_SET
    for step in history:
        before = backend
        backend, difference = _advance(before, step)
        with patch.object(sets, "conflicts", return_value=True):
            assert _advance(before, step)[0] == backend
        assert backend.shadows == shadows_of(backend.counted)
        views = [View(each.counted, each.counted, each.shadows) for each in (before, backend)]
        assert encode_difference(difference) == encode_difference(difference_of(*views))


@given(steps(), st.integers(0, 5))
def test_a_set_read_back_from_its_row_goes_on_alike(history: list[Step], cut: int) -> None:
    kept = sets.EMPTY_SET
    for number, step in enumerate(history):
        again = kept
        if number == cut:
            again = _read_back(kept)
        (again, said), (kept, meant) = _advance(again, step), _advance(kept, step)
        assert _groups(again) == _groups(kept)
        assert encode_difference(said) == encode_difference(meant)


def _read_back(kept: sets.EndpointSet) -> sets.EndpointSet:
    """As a worker has it that comes back: the slices are in the row, the legacy Endpoints beside it, and what of those
    is shadowed where they count follows from them."""
    again = sets.read_groups(_groups(kept))._replace(legacy=kept.legacy)
    return again if again.slices else again._replace(shadows=shadows_of(again.counted))


@given(worlds())
def test_all_that_the_slices_say_is_held_in_the_row(world: tuple[list[Object], Object | None]) -> None:
    """The next event can be applied from the row alone, and what is shadowed is never in the set."""
    backend = _built(*world)
    if not backend.slices:
        return
    read = sets.read_groups(_groups(backend))
    assert read.slices == backend.slices
    assert read.shadows == backend.shadows


@given(worlds(), st.booleans())
def test_a_withheld_set_comes_and_goes_as_a_whole(world: tuple[list[Object], Object | None], known: bool) -> None:
    slices, legacy = world
    backend = _built(slices, legacy)
    _, gone = sets.advance(backend, {}, backend.legacy, withdrawn=(False, True))
    assert apply_change(_change(gone), _members(backend)) == {}
    shown = orjson.loads(b"[%b]" % sets.encode_groups(backend, withdrawn=True))
    assert spread(shown) == []
    held = sets.read_groups(orjson.dumps(shown))._replace(legacy=backend.legacy) if known else backend
    back, come = sets.advance(held, {}, backend.legacy, withdrawn=(True, False))
    assert apply_change(_change(come), {}) == _members(back) == _members(backend)


@given(_slice("s1"), _slice("s2"))
def test_an_endpoint_that_moves_is_never_removed_while_a_slice_holds_it(first: Object, second: Object) -> None:
    """The new slice says it before the old one lets go: nothing is removed and added again (kubernetes #135334)."""
    second = {**second, **{key: first[key] for key in ("addressType", "ports", "endpoints")}}
    emptied = {**first, "endpoints": []}
    backend = _built([first], None)
    for step in ({"s2": second}, {"s1": emptied}, {"s1": None}):
        backend, difference = _advance(backend, (step, None))
        assert not difference.added
        assert not difference.removed
    together, difference = _advance(_built([first], None), ({"s1": emptied, "s2": second}, None))
    assert not difference.added
    assert not difference.removed
    assert _members(together) == _members(backend)


@given(endpoint_slices(), st.permutations(range(4)))
def test_equal_sets_have_equal_bytes(item: Object, order: list[int]) -> None:
    endpoints = item["endpoints"] or []
    shuffled = {**item, "endpoints": [endpoints[i] for i in order if i < len(endpoints)]}
    assert _source(item) == _source(shuffled)


def test_the_pools_make_the_cases_that_matter() -> None:
    """A model that never sees a conflict proves nothing."""
    assert NAMESPACE
    seen = {"shadowed": 0, "partial": 0, "legacy": 0, "tie": 0}

    @_often
    @given(worlds())
    def count(world: tuple[list[Object], Object | None]) -> None:
        backend = _built(*world)
        seen["shadowed"] += bool(backend.shadows) and bool(backend.slices)
        seen["partial"] += b'"partial":true' in _groups(backend)
        seen["legacy"] += bool(backend.legacy) and not backend.slices
        seen["tie"] += any(len(each) > 1 for each in winners(*world).values())

    count()
    assert min(seen.values()) > 0, seen
