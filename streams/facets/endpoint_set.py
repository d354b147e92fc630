"""The backend facet: one endpoint set, merged from a Service's slices.

A slice's content is kept as bytes (see `slice_text`), which are compared and joined; an endpoint is decoded only when
two slices claim it. The set is the union of all slices, with one winner where two claim a port of an address (see
`claims`); legacy Endpoints count only while the Service has no EndpointSlice.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec

from streams.facets.claims import Shadows, conflicts, shadows_after, shadows_of
from streams.facets.set_change import NO_VIEW, Difference, View, difference
from streams.facets.slice_text import LEGACY_PREFIX, Group, Layout, Source, new_group, new_source
from streams.objects.resources import ENDPOINT_SLICES
from streams.wire.endpoint_text import BORDER
from streams.wire.records import Event, Rejection, SliceEndpoint


class _RowGroupIn(msgspec.Struct, gc=False, rename="camel"):
    slice: str
    uid: str
    resource_version: str
    family: Literal["IPv4", "IPv6", "FQDN"]
    ports: msgspec.Raw
    endpoints: list[SliceEndpoint]
    shadowed: list[SliceEndpoint] = []
    partial: bool = False


class EndpointSet(NamedTuple):
    """A Service's sources and which of their endpoints lose ports to better ones."""

    slices: dict[str, Source]
    legacy: Source | None
    shadows: Shadows

    @property
    def counted(self) -> dict[str, Source]:
        """The sources whose union is the set."""
        if self.slices or self.legacy is None:
            return self.slices
        return {self.legacy.label: self.legacy}

    def without_legacy(self) -> "EndpointSet":
        """The set of the slices alone."""
        return EndpointSet(self.slices, None, self.shadows if self.slices else {})


EMPTY_SET = EndpointSet({}, None, {})

_row_groups_in = msgspec.json.Decoder(list[_RowGroupIn])


def read_groups(groups: bytes) -> EndpointSet:
    """The slices that a backend row's `groups` hold (legacy Endpoints have a record of their own)."""
    slices: dict[str, Source] = {}
    any_shadowed = False
    for row in _row_groups_in.decode(groups):
        if row.partial or row.slice.startswith(LEGACY_PREFIX):
            continue
        siblings = slices[row.slice].groups if row.slice in slices else ()
        group = new_group(row.family, row.ports, [*row.endpoints, *row.shadowed])
        slices[row.slice] = new_source(row.slice, row.uid, row.resource_version, (*siblings, group))
        any_shadowed = any_shadowed or bool(row.shadowed)
    # Before fold version 4, rows shadowed nothing among slices of different ports.
    return EndpointSet(slices, None, shadows_of(slices) if any_shadowed or _port_lists_overlap(slices) else {})


def advance(
    old: EndpointSet, changes: Mapping[str, Source | None], legacy: Source | None, *, withdrawn: tuple[bool, bool]
) -> tuple[EndpointSet, Difference]:
    """The backend after `changes` (label to new source, None where deleted) with the difference of the set.

    `withdrawn` says whether the set was, and is now, withheld because of its Service.
    """
    slices = dict(old.slices)
    for label, source in changes.items():
        if source is None:
            slices.pop(label, None)
        else:
            slices[label] = source
    if withdrawn == (False, False) and old.slices and slices:
        shadows: Shadows = {}
        # Of the others all members are the same before and after.
        labels = set(changes)
        if old.shadows or conflicts(slices, changes, old.slices):
            shadows = shadows_after(old.shadows, old.slices, slices, changes.keys())
            labels |= {label for label in {*old.shadows, *shadows} if old.shadows.get(label) != shadows.get(label)}
        new = EndpointSet(slices, legacy, shadows)
        return new, difference(View(old.slices, labels, old.shadows), View(slices, labels, shadows))
    new = EndpointSet(slices, legacy, {})
    new = new._replace(shadows=shadows_of(new.counted))
    before = NO_VIEW if withdrawn[0] else View(old.counted, old.counted, old.shadows)
    after = NO_VIEW if withdrawn[1] else View(new.counted, new.counted, new.shadows)
    return new, difference(before, after)


def current_slice(endpoints: EndpointSet, event: Event) -> Source | None:
    """What is held of the EndpointSlice that the event is of."""
    return endpoints.slices.get(event.name) if event.kind == ENDPOINT_SLICES.kind else None


def is_current(endpoints: EndpointSet, event: Event) -> bool:
    """Whether the EndpointSlice of the event is held with the same uid and resourceVersion."""
    source = current_slice(endpoints, event)
    if source is None or source.revision == 0:
        return False
    return (source.uid, source.resource_version) == (event.uid, event.resource_version)


def unread_slices(endpoints: EndpointSet, rejected: Iterable[Rejection], *, none_left: bool) -> list[Rejection]:
    """The rejected EndpointSlices without which the set is not known: those of which no good state is held, or an
    outdated one, and, where no endpoint is left (`none_left`), all."""
    return [
        rejection
        for rejection in rejected
        if rejection.kind == ENDPOINT_SLICES.kind
        and (none_left or rejection.outdated or rejection.name not in endpoints.slices)
    ]


def is_empty(endpoints: EndpointSet) -> bool:
    """Whether no endpoint is in the set. (Of several claims to a port, one is never shadowed.)"""
    return not any(group.text for source in endpoints.counted.values() for group in source.groups)


def count_endpoints(endpoints: EndpointSet) -> int:
    """How many endpoints the slices have; one that is in two slices counts twice."""
    return sum(group.text.count(BORDER) for source in endpoints.slices.values() for group in source.groups)


def encode_groups(backend: EndpointSet, *, withdrawn: bool) -> bytes:
    """The row's `groups`, ordered by slice. Where the set is withheld, all of it is shadowed."""
    parts: list[bytes] = []
    counted = backend.slices if withdrawn else backend.counted
    for label in sorted(counted):
        source = counted[label]
        shadows = backend.shadows.get(label)
        if not shadows and not withdrawn:
            parts += [b"%b%b%b]}" % (source.head, group.layout.lead, group.text) for group in source.groups]
            continue
        for index, group in enumerate(source.groups):
            lost = {endpoint: kept for (at, endpoint), kept in shadows.items() if at == index} if shadows else {}
            parts += [source.head + text for text in group_texts(group, lost, withdrawn=withdrawn)]
    return b",".join(parts)


def group_texts(group: Group, lost: Mapping[bytes, Layout | None], *, withdrawn: bool) -> list[bytes]:
    """A group of which these endpoints lost ports, as in a row from its source's head on (the first byte is a comma);
    after it a partial group for each list of ports that some of them keep."""
    lead = group.layout.lead
    if withdrawn:
        return [b'%b],"shadowed":[%b]}' % (lead, group.text) if group.text else lead + b"]}"]
    if not lost:
        return [b"%b%b]}" % (lead, group.text)]
    partial: dict[bytes, tuple[Layout, list[bytes]]] = {}
    for endpoint in group.endpoints:
        if (kept := lost.get(endpoint)) is not None:
            partial.setdefault(kept.ports, (kept, []))[1].append(endpoint)
    keeping = b",".join([endpoint for endpoint in group.endpoints if endpoint not in lost])
    shadowed = b",".join([endpoint for endpoint in group.endpoints if endpoint in lost])
    texts = [b'%b%b],"shadowed":[%b]}' % (lead, keeping, shadowed)]
    for ports in sorted(partial):
        layout, endpoints = partial[ports]
        texts.append(b'%b%b],"partial":true}' % (layout.lead, b",".join(endpoints)))
    return texts


def _port_lists_overlap(slices: Mapping[str, Source]) -> bool:
    """Whether slices of different port lists have a port in common."""
    by_ports = {
        (group.layout.family, group.layout.ports): group.layout.claims
        for source in slices.values()
        for group in source.groups
    }
    return len(by_ports) > 1 and sum(map(len, by_ports.values())) != len(frozenset[bytes]().union(*by_ports.values()))
