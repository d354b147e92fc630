"""A slice of which some endpoints can't be read is the slice without them; no set counts as empty that may not be."""

import copy
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streams.objects.normalize import normalize
from tests.properties.folding import fold
from tests.properties.journals import Journal, journals
from tests.properties.strategies import Object, endpoint_slices

_BROKEN: tuple[Any, ...] = (
    {"addresses": []},
    {"addresses": ["10.0.0.1/32"]},
    {"addresses": ["10.0.0.1"], "conditions": {"ready": "true"}},
    {"addresses": ["fd00::1"], "zone": 1},
    {"addresses": ["10.0.0.1"], "hostname": "Web-0"},
    {"addresses": "10.0.0.1"},
    {},
    None,
    7,
)


@st.composite
def partly_broken(draw: st.DrawFn) -> tuple[Object, Object, int]:
    """A slice, the same with broken endpoints in between, and how many those are."""
    good = draw(endpoint_slices())
    broken = draw(st.lists(st.sampled_from(_BROKEN), max_size=5))
    endpoints = list(good["endpoints"] or [])
    for endpoint in broken:
        endpoints.insert(draw(st.integers(0, len(endpoints))), copy.deepcopy(endpoint))
    return good, {**good, "endpoints": endpoints}, len(broken)


@given(partly_broken())
def test_a_broken_endpoint_costs_itself_alone_and_is_named(slices: tuple[Object, Object, int]) -> None:
    good, odd, broken = slices
    wanted, read = normalize("EndpointSlice", good, "cluster.local"), normalize("EndpointSlice", odd, "cluster.local")
    assert wanted is not None
    assert read is not None
    assert read._replace(message="") == wanted
    assert bool(read.message) == bool(broken)
    assert ("more" in read.message) == (broken > 3)


@given(journals())
def test_an_empty_set_is_known_to_be_empty(journal: Journal) -> None:
    for write in fold(journal.values):
        if write.table != "backend" or write.value is None or write.key.startswith(b"~"):
            continue
        row = orjson.loads(write.value)
        rejected = {each["kind"] for each in row.get("rejected", ())}
        if row["state"] == "empty":
            is_name = row["service"]["type"] == "ExternalName"
            has_slices = any(not group["slice"].startswith("Endpoints/") for group in row["groups"])
            assert is_name or (rejected <= {"Endpoints"} if has_slices else not rejected)
        assert not (row["state"] == "deleted" and "Service" in rejected)
