"""Fast path for by far the most common change: a new state of one slice, where no endpoint can be claimed twice.

It makes the same set and bytes as `endpoint_set.advance` (a property test compares the two), and returns None where it
might not; the caller then takes the general path.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from streams.facets.endpoint_set import EndpointSet
from streams.facets.set_change import NO_CHANGE, encode_change
from streams.facets.slice_text import (
    Group,
    GroupChange,
    Source,
    address_of,
    base_group,
    changed,
    new_source,
    patched,
    read_patch,
)
from streams.wire.endpoint_text import address_text, last_of
from streams.wire.records import Event
from streams.wire.validation import MAX_ID, is_version


class SliceChange(NamedTuple):
    """The set after the change, what differs in its slice, and the row's `change`."""

    endpoints: EndpointSet
    group_change: GroupChange
    difference: bytes


_Endpoints = tuple[list[bytes], list[bytes], list[bytes]]
"""Those that are added, removed and updated."""


def advance(current: EndpointSet, event: Event) -> SliceChange | None:
    """The set after `event`, of a set without shadows and legacy Endpoints."""
    old = current.slices.get(event.name) if event.kind == "EndpointSlice" else None
    if old is None or len(old.groups) != 1 or len(event.uid) > MAX_ID or not is_version(event.resource_version):
        return None
    change = _change_of(old, event)
    if change is None or not change.group.text:
        return None
    source = new_source(event.name, event.uid, event.resource_version, (change.group,))
    endpoints = _sorted_out(change)
    if source == old or endpoints is None:
        return None
    if endpoints[0] and _may_be_claimed_twice(current.slices, event.name, change.group, endpoints[0]):
        return None
    return SliceChange(
        EndpointSet({**current.slices, event.name: source}, None, {}),
        change,
        _encode(event.name, change.group, endpoints),
    )


def _change_of(old: Source, event: Event) -> GroupChange | None:
    if event.op == "apply":
        return changed(old.groups[0], bytes(event.object))
    if event.op != "patch" or (group := base_group(old, event.uid, event.base)) is None:
        return None
    try:
        return patched(group, read_patch(bytes(event.object)))
    except (msgspec.MsgspecError, ValueError):
        return None


def _sorted_out(change: GroupChange) -> _Endpoints | None:
    """The endpoints of the slice that are added, removed or updated; None if an address is in it twice."""
    _, removed, added = change
    if not added or not removed:
        return added, removed, []
    if len(added) == 1 == len(removed):
        is_same_address = added[0].startswith(address_text(removed[0]))
        return ([], [], added) if is_same_address else (added, removed, [])
    before, after = set(map(address_of, removed)), set(map(address_of, added))
    if len(after) != len(added):
        return None
    return (
        [endpoint for endpoint in added if address_of(endpoint) not in before],
        [endpoint for endpoint in removed if address_of(endpoint) not in after],
        [endpoint for endpoint in added if address_of(endpoint) in before],
    )


def _may_be_claimed_twice(slices: Mapping[str, Source], label: str, group: Group, added: list[bytes]) -> bool:
    """Whether an added address is, or might be, twice in the slice, or in another slice that has one of its ports."""
    text, claims = group.text, group.layout.claims
    if b"\\" in text:
        return True
    rivals = [rival for other in slices.values() if other.label != label for rival in other.groups]
    for endpoint in added:
        begin = address_text(endpoint)
        if last_of(text, begin, last_of(text, begin)) >= 0:
            return True
        for rival in rivals:
            if last_of(rival.text, begin) >= 0 and not claims.isdisjoint(rival.layout.claims):
                return True
    return False


def _encode(label: str, group: Group, endpoints: _Endpoints) -> bytes:
    added, removed, updated = endpoints
    if not (added or removed or updated):
        return NO_CHANGE
    lead = group.layout.lead
    return b'{"added":[%b],"removed":[%b],"updated":[%b]}' % (
        encode_change(label, lead, added) if added else b"",
        encode_change(label, lead, removed) if removed else b"",
        encode_change(label, lead, updated) if updated else b"",
    )
