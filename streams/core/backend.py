"""The backend facet: one endpoint set out of a Service's slices, and what changed in it.

An endpoint is held as its canonical JSON bytes from the watcher to the row: sets are compared and joined as
bytes, and an endpoint is decoded only when it is first seen or when two slices claim it.

Rules (kubernetes website #38174, kubernetes #135334, #101935):
- the set is the union of all slices; an endpoint's identity is family, address and the ports of its slice;
- the same Pod (target uid) in two slices: the slice with the newer resourceVersion wins;
- different Pods under one identity: a serving, non-terminating one wins, then the newer;
- legacy Endpoints count only while the Service has no EndpointSlice.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import chain
from typing import Literal, NamedTuple

import msgspec

from streams.core.records import EndpointPort, SliceEndpoint

LEGACY_PREFIX = "Endpoints/"
"""What stands before the name of a legacy Endpoints object where a slice's name is expected."""


class _GroupIn(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    family: Literal["IPv4", "IPv6", "FQDN"]
    ports: msgspec.Raw
    endpoints: list[msgspec.Raw]


class _SourceIn(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    groups: list[_GroupIn]


class _RowGroupIn(msgspec.Struct, gc=False, rename="camel"):
    slice: str
    uid: str
    resource_version: str
    family: Literal["IPv4", "IPv6", "FQDN"]
    ports: msgspec.Raw
    endpoints: list[msgspec.Raw]
    shadowed: list[msgspec.Raw] = []


class Group(NamedTuple):
    """Endpoints that share family and ports. `endpoints` maps canonical bytes to the address, in byte order;
    `signature` is equal for equal ports in any order."""

    family: str
    ports: bytes
    signature: bytes
    endpoints: dict[bytes, str]


class Source(NamedTuple):
    """What one EndpointSlice or legacy Endpoints object says. `head` is the start of its groups' JSON."""

    label: str
    uid: str
    resource_version: str
    revision: int
    groups: tuple[Group, ...]
    chunk: bytes

    @property
    def legacy(self) -> bool:
        """Whether this is a legacy Endpoints object."""
        return self.label.startswith(LEGACY_PREFIX)


Identity = tuple[str, bytes, str]
Shadows = Mapping[str, frozenset[tuple[int, bytes]]]


class Backend(NamedTuple):
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
    """What a new set changes of an old one: (label, group, endpoint bytes) triples, in no order."""

    added: list[tuple[str, Group, bytes]]
    removed: list[tuple[str, Group, bytes]]
    updated: list[tuple[str, Group, bytes]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.updated)


NOTHING = Backend({}, None, {})
NO_DIFFERENCE = Difference([], [], [])

_source_in = msgspec.json.Decoder(_SourceIn)
_row_groups_in = msgspec.json.Decoder(list[_RowGroupIn])
_ports_in = msgspec.json.Decoder(list[EndpointPort])
_endpoint_in = msgspec.json.Decoder(SliceEndpoint)
_encode = msgspec.json.encode


def read_source(label: str, uid: str, resource_version: str, body: bytes, held: Source | None) -> Source:
    """A source from an event's `object`. Endpoints that `held` has too are not validated again.

    Raises msgspec.ValidationError or msgspec.DecodeError for what is not in the schema.
    """
    known = _known(held)
    groups = tuple(
        _group(group.family, bytes(group.ports), group.endpoints, known) for group in _source_in.decode(body).groups
    )
    if len(groups) != 1 and not label.startswith(LEGACY_PREFIX):
        raise msgspec.ValidationError(f"an EndpointSlice has one group, this has {len(groups)} - at `$.groups`")
    return _source(label, uid, resource_version, groups)


def read_row_groups(groups: bytes) -> Backend:
    """The slices that a backend row's `groups` hold (legacy Endpoints are held in a record of their own)."""
    slices: dict[str, Source] = {}
    shadows: dict[str, frozenset[tuple[int, bytes]]] = {}
    for row in _row_groups_in.decode(groups):
        if row.slice.startswith(LEGACY_PREFIX):
            continue
        group = _group(row.family, bytes(row.ports), [*row.endpoints, *row.shadowed], {})
        before = slices.get(row.slice)
        index = len(before.groups) if before else 0
        slices[row.slice] = _source(
            row.slice, row.uid, row.resource_version, (*(before.groups if before else ()), group)
        )
        if row.shadowed:
            dark = frozenset((index, bytes(raw)) for raw in row.shadowed)
            shadows[row.slice] = shadows.get(row.slice, frozenset()) | dark
    return Backend(slices, None, shadows)


def advance(
    old: Backend, changes: Mapping[str, Source | None], legacy: Source | None, *, withdrawn: tuple[bool, bool]
) -> tuple[Backend, Difference]:
    """The backend after `changes` (label to new source, None where deleted) with what it changes of the set.

    `withdrawn` says whether the set was, and is, withheld because there is no Service.
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
        new = Backend(slices, legacy, {})
        return new, _difference(_members(old.slices, changes, {}), _members(slices, changes, {}))
    new = Backend(slices, legacy, {})
    new = new._replace(shadows=shadows_of(new.counted))
    before = {} if withdrawn[0] else _members(old.counted, old.counted, old.shadows)
    after = {} if withdrawn[1] else _members(new.counted, new.counted, new.shadows)
    return new, _difference(before, after)


def size(backend: Backend) -> int:
    """How many endpoints are in the set."""
    held = sum(len(group.endpoints) for source in backend.counted.values() for group in source.groups)
    return held - sum(len(dark) for dark in backend.shadows.values())


def encode_groups(backend: Backend, *, withdrawn: bool) -> bytes:
    """The row's `groups`, ordered by slice. Where the set is withheld, all of it is shadowed."""
    if withdrawn:
        return b",".join(
            _chunk(source, {i: frozenset(group.endpoints) for i, group in enumerate(source.groups)})
            for _, source in sorted(backend.slices.items())
        )
    if not backend.shadows:
        counted = backend.counted
        return b",".join([chunk for label in sorted(counted) if (chunk := counted[label].chunk)])
    chunks = []
    for label, source in sorted(backend.counted.items()):
        dark: dict[int, frozenset[bytes]] = {}
        for index, endpoint in backend.shadows.get(label, ()):
            dark[index] = dark.get(index, frozenset()) | {endpoint}
        chunks.append(_chunk(source, dark) if dark else source.chunk)
    return b",".join(chunks)


def encode_difference(difference: Difference) -> bytes:
    """The row's `change`."""
    if not difference:
        return b'{"added":[],"removed":[],"updated":[]}'
    return b'{"added":[%b],"removed":[%b],"updated":[%b]}' % tuple(map(_change_groups, difference))


def shadows_of(sources: Mapping[str, Source]) -> Shadows:
    """Which endpoints of these sources are not in their merged set."""
    claims: dict[Identity, list[tuple[Source, int, bytes]]] = {}
    for source in sources.values():
        for index, group in enumerate(source.groups):
            for endpoint, address in group.endpoints.items():
                claims.setdefault((group.family, group.signature, address), []).append((source, index, endpoint))
    shadows: dict[str, set[tuple[int, bytes]]] = {}
    for rivals in claims.values():
        if len(rivals) > 1:
            best = _best(rivals)
            for rival in rivals:
                if rival is not best:
                    shadows.setdefault(rival[0].label, set()).add(rival[1:])
    return {label: frozenset(dark) for label, dark in shadows.items()}


def _best(rivals: list[tuple[Source, int, bytes]]) -> tuple[Source, int, bytes]:
    pods: dict[str, tuple[tuple[int, bool, bool, str, bytes], tuple[Source, int, bytes]]] = {}
    for rival in rivals:
        source, _, raw = rival
        endpoint = _endpoint_in.decode(raw)
        live = endpoint.serving and not endpoint.terminating
        rank = (source.revision, live, endpoint.ready, source.label, raw)
        pod = endpoint.target.uid if endpoint.target else ""
        if pod not in pods or rank > pods[pod][0]:
            pods[pod] = (rank, rival)
    return max(pods.values(), key=lambda each: (each[0][1], each[0]))[1]


def _members(
    sources: Mapping[str, Source], labels: Iterable[str], shadows: Shadows
) -> dict[Identity, tuple[str, Group, bytes]]:
    found: dict[Identity, tuple[str, Group, bytes]] = {}
    for label in labels:
        source = sources.get(label)
        if source is None:
            continue
        dark = shadows.get(label, ())
        for index, group in enumerate(source.groups):
            for endpoint, address in group.endpoints.items():
                if not dark or (index, endpoint) not in dark:
                    found[group.family, group.signature, address] = (label, group, endpoint)
    return found


def _difference(
    before: dict[Identity, tuple[str, Group, bytes]], after: dict[Identity, tuple[str, Group, bytes]]
) -> Difference:
    added, updated = [], []
    for identity, (label, group, endpoint) in after.items():
        was = before.get(identity)
        if was is None:
            added.append((label, group, endpoint))
        elif was[2] != endpoint or was[0] != label or was[1].ports != group.ports:
            updated.append((label, group, endpoint))
    removed = [member for identity, member in before.items() if identity not in after]
    return Difference(added, removed, updated)


def _conflicts(slices: dict[str, Source], changes: Iterable[str], old: dict[str, Source]) -> bool:
    """Whether a changed slice claims an endpoint twice, or one that another slice holds."""
    for label in changes:
        source = slices.get(label)
        if source is None:
            continue
        if len(source.groups) > 1:
            return True
        for group in source.groups:
            fresh = set(group.endpoints.values())
            if len(fresh) != len(group.endpoints):
                return True
            was = old[label].groups[0] if label in old else None
            if was is not None and (was.family, was.signature) == (group.family, group.signature):
                fresh.difference_update(was.endpoints.values())
            if not fresh:
                continue
            for other in slices.values():
                if other.label == label:
                    continue
                for rival in other.groups:
                    if (
                        rival.signature == group.signature
                        and rival.family == group.family
                        and not fresh.isdisjoint(rival.endpoints.values())
                    ):
                        return True
    return False


def _known(held: Source | None) -> dict[bytes, str]:
    if held is None:
        return {}
    if len(held.groups) == 1:
        return held.groups[0].endpoints
    return dict(chain.from_iterable(group.endpoints.items() for group in held.groups))


def _group(family: str, ports: bytes, raw: list[msgspec.Raw], known: Mapping[bytes, str]) -> Group:
    endpoints: dict[bytes, str] = {}
    ordered = True
    last = b""
    for each in raw:
        endpoint = bytes(each)
        address = known.get(endpoint)
        if address is None:
            decoded = _endpoint_in.decode(endpoint)
            endpoint = _encode(decoded)
            address = decoded.address
        if endpoint < last:
            ordered = False
        last = endpoint
        endpoints[endpoint] = address
    if not ordered:
        endpoints = dict(sorted(endpoints.items()))
    canonical, signature = _ports(ports)
    return Group(family, canonical, signature, endpoints)


@lru_cache(maxsize=65536)
def _ports(raw: bytes) -> tuple[bytes, bytes]:
    """The ports as canonical JSON in their own order, and in a fixed one."""
    ports = _ports_in.decode(raw)
    encoded = [_encode(port) for port in ports]
    return b"[%b]" % b",".join(encoded), b"[%b]" % b",".join(sorted(encoded))


def _source(label: str, uid: str, resource_version: str, groups: tuple[Group, ...]) -> Source:
    revision = int(resource_version) if resource_version else 0
    bare = Source(label, uid, str(revision), revision, groups, b"")
    return bare._replace(chunk=_chunk(bare, {}))


def _chunk(source: Source, dark: Mapping[int, frozenset[bytes]]) -> bytes:
    head = b'{"slice":%b,"uid":%b,"resourceVersion":"%d"' % (
        _encode(source.label),
        _encode(source.uid),
        source.revision,
    )
    parts = []
    for index, group in enumerate(source.groups):
        hidden = dark.get(index)
        if not hidden:
            shown, tail = b",".join(group.endpoints), b"]}"
        else:
            shown = b",".join([each for each in group.endpoints if each not in hidden])
            tail = b'],"shadowed":[%b]}' % b",".join([each for each in group.endpoints if each in hidden])
        parts.append(
            b'%b,"family":"%b","ports":%b,"endpoints":[%b%b' % (head, group.family.encode(), group.ports, shown, tail)
        )
    return b",".join(parts)


def _change_groups(members: list[tuple[str, Group, bytes]]) -> bytes:
    grouped: dict[tuple[str, str, bytes], list[bytes]] = {}
    for label, group, endpoint in members:
        grouped.setdefault((label, group.family, group.ports), []).append(endpoint)
    return b",".join(
        b'{"slice":%b,"family":"%b","ports":%b,"endpoints":[%b]}'
        % (_encode(label), family.encode(), ports, b",".join(sorted(endpoints)))
        for (label, family, ports), endpoints in sorted(grouped.items())
    )
