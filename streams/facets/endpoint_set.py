"""The backend facet: one endpoint set, merged from a Service's slices, and its changes.

A slice's content is kept as bytes (see `slice_text`), which are compared and joined; an endpoint is decoded only when
two slices claim it.

Rules (kubernetes website #38174, kubernetes #135334, #101935):
- the set is the union of all slices; an endpoint's identity is family, address and the ports of its slice;
- the same Pod (target uid) in two slices: the slice with the newer resourceVersion wins;
- different Pods under one identity: a serving, non-terminating one wins, then the newer;
- legacy Endpoints count only while the Service has no EndpointSlice.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec

from streams.facets import invariants
from streams.facets.slice_text import LEGACY_PREFIX, Group, Source, new_group, new_source
from streams.wire.records import SliceEndpoint


class _RowGroupIn(msgspec.Struct, gc=False, rename="camel"):
    slice: str
    uid: str
    resource_version: str
    family: Literal["IPv4", "IPv6", "FQDN"]
    ports: msgspec.Raw
    endpoints: list[SliceEndpoint]
    shadowed: list[SliceEndpoint] = []


Identity = tuple[bytes, bytes]
"""A layout's kind (family and ports), and an address."""

Shadows = Mapping[str, frozenset[tuple[int, bytes]]]


class EndpointSet(NamedTuple):
    """A Service's sources and which of their endpoints are shadowed by better ones."""

    slices: dict[str, Source]
    legacy: Source | None
    shadows: Shadows

    @property
    def counted(self) -> dict[str, Source]:
        """The sources whose union is the set."""
        if self.slices or self.legacy is None:
            return self.slices
        return {self.legacy.label: self.legacy}


class Difference(NamedTuple):
    """The difference of a new set from an old one: (label, group, endpoint bytes) triples, in no order."""

    added: list[tuple[str, Group, bytes]]
    removed: list[tuple[str, Group, bytes]]
    updated: list[tuple[str, Group, bytes]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.updated)


EMPTY_SET = EndpointSet({}, None, {})
NO_DIFFERENCE = Difference([], [], [])
NO_CHANGE = b'{"added":[],"removed":[],"updated":[]}'

_row_groups_in = msgspec.json.Decoder(list[_RowGroupIn])
_endpoint_in = msgspec.json.Decoder(SliceEndpoint)
_encode = msgspec.json.encode


def read_groups(groups: bytes) -> EndpointSet:
    """The slices that a backend row's `groups` hold (legacy Endpoints have a record of their own)."""
    slices: dict[str, Source] = {}
    shadows: dict[str, frozenset[tuple[int, bytes]]] = {}
    for row in _row_groups_in.decode(groups):
        if row.slice.startswith(LEGACY_PREFIX):
            continue
        siblings = slices[row.slice].groups if row.slice in slices else ()
        group = new_group(row.family, row.ports, [*row.endpoints, *row.shadowed])
        slices[row.slice] = new_source(row.slice, row.uid, row.resource_version, (*siblings, group))
        if row.shadowed:
            shadowed = frozenset((len(siblings), _encode(endpoint)) for endpoint in row.shadowed)
            shadows[row.slice] = shadows.get(row.slice, frozenset()) | shadowed
    return EndpointSet(slices, None, shadows)


def advance(
    old: EndpointSet, changes: Mapping[str, Source | None], legacy: Source | None, *, withdrawn: tuple[bool, bool]
) -> tuple[EndpointSet, Difference]:
    """The backend after `changes` (label to new source, None where deleted) with the difference of the set.

    `withdrawn` says whether the set was, and is now, withheld because there is no Service.
    """
    slices = dict(old.slices)
    for label, source in changes.items():
        if source is None:
            slices.pop(label, None)
        else:
            slices[label] = source
    quick = (
        not old.shadows
        and withdrawn == (False, False)
        and bool(slices)
        and bool(old.slices)
        and not _conflicts(slices, changes, old.slices)
    )
    if quick:
        new = EndpointSet(slices, legacy, {})
        return new, _difference(_members(old.slices, changes, {}), _members(slices, changes, {}))
    new = EndpointSet(slices, legacy, {})
    new = new._replace(shadows=shadows_of(new.counted))
    before = {} if withdrawn[0] else _members(old.counted, old.counted, old.shadows)
    after = {} if withdrawn[1] else _members(new.counted, new.counted, new.shadows)
    return new, _difference(before, after)


def is_empty(endpoints: EndpointSet) -> bool:
    """Whether no endpoint is in the set. (Of several claims to an endpoint, one is never shadowed.)"""
    return not any(group.text for source in endpoints.counted.values() for group in source.groups)


def encode_groups(backend: EndpointSet, *, withdrawn: bool) -> bytes:
    """The row's `groups`, ordered by slice. Where the set is withheld, all of it is shadowed."""
    parts: list[bytes] = []
    counted = backend.slices if withdrawn else backend.counted
    for label in sorted(counted):
        source = counted[label]
        shadows = backend.shadows.get(label, ())
        for index, group in enumerate(source.groups):
            parts += (source.head, group.layout.lead)
            if withdrawn:
                parts += (b'],"shadowed":[', group.text) if group.text else ()
            elif shadows and (shadowed := {endpoint for at, endpoint in shadows if at == index}):
                parts.append(b",".join([endpoint for endpoint in group.endpoints if endpoint not in shadowed]))
                parts += (
                    b'],"shadowed":[',
                    b",".join([endpoint for endpoint in group.endpoints if endpoint in shadowed]),
                )
            else:
                parts.append(group.text)
            parts.append(b"]},")
    return b"".join(parts)[:-1]


def encode_difference(difference: Difference) -> bytes:
    """The row's `change`."""
    if not difference:
        return NO_CHANGE
    return b'{"added":[%b],"removed":[%b],"updated":[%b]}' % tuple(map(_change_groups, difference))


def shadows_of(sources: Mapping[str, Source]) -> Shadows:
    """Which endpoints of these sources are not in their merged set."""
    claims: dict[Identity, list[tuple[Source, int, bytes]]] = {}
    for source in sources.values():
        for index, group in enumerate(source.groups):
            for endpoint, address in group.endpoints.items():
                claims.setdefault((group.layout.kind, address), []).append((source, index, endpoint))
    shadows: dict[str, set[tuple[int, bytes]]] = {}
    for rivals in claims.values():
        if len(rivals) > 1:
            best = _best(rivals)
            for rival in rivals:
                if rival is not best:
                    shadows.setdefault(rival[0].label, set()).add(rival[1:])
    return {label: frozenset(shadowed) for label, shadowed in shadows.items()}


def _best(rivals: list[tuple[Source, int, bytes]]) -> tuple[Source, int, bytes]:
    pods: dict[str, tuple[tuple[int, bool, bool, str, bytes], tuple[Source, int, bytes]]] = {}
    for rival in rivals:
        source, _, raw = rival
        endpoint = _endpoint_in.decode(raw)
        live = endpoint.serving and not endpoint.terminating
        rank_key = (source.revision, live, endpoint.ready, source.label, raw)
        pod = endpoint.target.uid if endpoint.target else ""
        if pod not in pods or rank_key > pods[pod][0]:
            pods[pod] = (rank_key, rival)
    return max(pods.values(), key=lambda ranked: (ranked[0][1], ranked[0]))[1]


def _members(
    sources: Mapping[str, Source], labels: Iterable[str], shadows: Shadows
) -> dict[Identity, tuple[str, Group, bytes]]:
    members: dict[Identity, tuple[str, Group, bytes]] = {}
    claims = shadowed = 0
    for label in labels:
        source = sources.get(label)
        if source is None:
            continue
        shadowed_here = shadows.get(label, ())
        shadowed += len(shadowed_here)
        for index, group in enumerate(source.groups):
            claims += len(group.endpoints)
            for endpoint, address in group.endpoints.items():
                if not shadowed_here or (index, endpoint) not in shadowed_here:
                    members[group.layout.kind, address] = (label, group, endpoint)
    invariants.assert_claimed_once(len(members), claims, shadowed)
    return members


def _difference(
    before: dict[Identity, tuple[str, Group, bytes]], after: dict[Identity, tuple[str, Group, bytes]]
) -> Difference:
    added, updated = [], []
    for identity, (label, group, endpoint) in after.items():
        old = before.get(identity)
        if old is None:
            added.append((label, group, endpoint))
        elif old[2] != endpoint or old[0] != label or old[1].layout.ports != group.layout.ports:
            updated.append((label, group, endpoint))
    removed = [member for identity, member in before.items() if identity not in after]
    return Difference(added, removed, updated)


def _conflicts(slices: dict[str, Source], changes: Iterable[str], old: dict[str, Source]) -> bool:
    """Whether a changed slice claims an endpoint twice, or one that another slice holds."""
    return any(_claims_again(slices, slices[label], old.get(label)) for label in changes if label in slices)


def _claims_again(slices: dict[str, Source], source: Source, old: Source | None) -> bool:
    """Whether the slice claims an endpoint twice (or may: it has several groups), or, anew, one that another holds."""
    if len(source.groups) > 1:
        return True
    for group in source.groups:
        added = set(group.endpoints.values())
        if len(added) != len(group.endpoints):
            return True
        former = old.groups[0] if old is not None else None
        if former is not None and former.layout.kind == group.layout.kind:
            added.difference_update(former.endpoints.values())
        if added and any(
            rival.layout.kind == group.layout.kind and not added.isdisjoint(rival.endpoints.values())
            for other in slices.values()
            if other.label != source.label
            for rival in other.groups
        ):
            return True
    return False


def _change_groups(members: list[tuple[str, Group, bytes]]) -> bytes:
    grouped: dict[tuple[str, str, bytes, bytes], list[bytes]] = {}
    for label, group, endpoint in members:
        layout = group.layout
        grouped.setdefault((label, layout.family, layout.ports, layout.lead), []).append(endpoint)
    return b",".join(
        encode_change(label, lead, sorted(endpoints)) for (label, _, _, lead), endpoints in sorted(grouped.items())
    )


def encode_change(label: str, lead: bytes, endpoints: list[bytes]) -> bytes:
    """Endpoints (in order) of one slice, as a part of the row's `change`; `lead` is their layout's."""
    return b'{"slice":%b%b%b]}' % (_encode(label), lead, b",".join(endpoints))
