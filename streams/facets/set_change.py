"""The difference between two endpoint sets, as a row's `change`.

What is compared is each (family, address, Service port name, protocol, port number): none is removed while another
slice has it. Endpoints of one slice that are added, removed or updated with the same ports are one group of the row.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from streams.facets import invariants
from streams.facets.claims import Shadows
from streams.facets.slice_text import Group, Layout, Source, restricted

Member = tuple[str, Layout, bytes]
"""An endpoint of a set: its source's label, its layout, its bytes."""


class Difference(NamedTuple):
    """The difference of a new set from an old one, in no order. A member's layout has just the ports concerned."""

    added: list[Member]
    removed: list[Member]
    updated: list[Member]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.updated)


class View(NamedTuple):
    """The part of a set that is compared: the sources with these labels."""

    sources: Mapping[str, Source]
    labels: Collection[str]
    shadows: Shadows

    def groups(self) -> Iterator[tuple[str, int, Group]]:
        """The groups, with their source's label and their index in it."""
        for label in self.labels:
            if (source := self.sources.get(label)) is not None:
                for index, group in enumerate(source.groups):
                    yield label, index, group


class _PortMember(NamedTuple):
    label: str
    group_index: int
    layout: Layout
    endpoint: bytes
    claim: bytes


NO_VIEW = View({}, (), {})
NO_DIFFERENCE = Difference([], [], [])
NO_CHANGE = b'{"added":[],"removed":[],"updated":[]}'
_encode = msgspec.json.encode


def difference(before: View, after: View) -> Difference:
    """The difference between two views of a set that have all that may differ."""
    views = (before, after)
    port_lists = {group.layout.ports for view in views for _, _, group in view.groups()}
    any_shadowed = any(view.shadows.get(label) for view in views if view.shadows for label in view.labels)
    # Where all have the same ports and lose none, an endpoint comes and goes with all of them.
    return _of_ports(before, after) if any_shadowed or len(port_lists) > 1 else _of_endpoints(before, after)


def encode_difference(found: Difference) -> bytes:
    """The row's `change`."""
    if not found:
        return NO_CHANGE
    return b'{"added":[%b],"removed":[%b],"updated":[%b]}' % tuple(map(_encode_members, found))


def encode_change(label: str, lead: bytes, endpoints: list[bytes]) -> bytes:
    """Endpoints (in order) of one slice, as a part of the row's `change`; `lead` is their layout's."""
    return b'{"slice":%b%b%b]}' % (_encode(label), lead, b",".join(endpoints))


def _of_endpoints(before: View, after: View) -> Difference:
    old_members, members = _endpoints(before), _endpoints(after)
    added, updated = [], []
    for identity, member in members.items():
        old = old_members.get(identity)
        if old is None:
            added.append(member)
        elif old[2] != member[2] or old[0] != member[0]:
            updated.append(member)
    removed = [member for identity, member in old_members.items() if identity not in members]
    return Difference(added, removed, updated)


def _endpoints(view: View) -> dict[tuple[str, bytes], Member]:
    """The members by family and address, where all have the same ports and none is shadowed."""
    members: dict[tuple[str, bytes], Member] = {}
    claims = 0
    for label, _, group in view.groups():
        layout = group.layout
        family = layout.family
        claims += len(group.endpoints)
        for endpoint, address in group.endpoints.items():
            members[family, address] = (label, layout, endpoint)
    invariants.assert_claimed_once(len(members), claims, 0)
    return members


def _of_ports(before: View, after: View) -> Difference:
    old_members, members = _ports(before), _ports(after)
    added, updated = [], []
    for identity, member in members.items():
        old = old_members.get(identity)
        if old is None:
            added.append(member)
        elif (
            old.endpoint != member.endpoint
            or old.label != member.label
            or old.layout.port_of[old.claim] != member.layout.port_of[member.claim]
        ):
            updated.append(member)
    removed = [member for identity, member in old_members.items() if identity not in members]
    return Difference(_joined(added), _joined(removed), _joined(updated))


def _ports(view: View) -> dict[tuple[bytes, bytes], _PortMember]:
    """The members by claim and address, one for each port."""
    members: dict[tuple[bytes, bytes], _PortMember] = {}
    claims = shadowed = 0
    for label, index, group in view.groups():
        lost = view.shadows.get(label, {})
        layout = group.layout
        claims += len(group.endpoints) * len(layout.claims)
        for endpoint, address in group.endpoints.items():
            kept = lost.get((index, endpoint), layout) if lost else layout
            own = kept.claims if kept is not None else ()
            shadowed += len(layout.claims) - len(own)
            for claim in own:
                members[claim, address] = _PortMember(label, index, layout, endpoint, claim)
    invariants.assert_claimed_once(len(members), claims, shadowed)
    return members


def _joined(members: Iterable[_PortMember]) -> list[Member]:
    """Whole endpoints again, with those of their ports that are named."""
    claims: dict[tuple[str, int, bytes], tuple[Layout, set[bytes]]] = {}
    for label, index, layout, endpoint, claim in members:
        claims.setdefault((label, index, endpoint), (layout, set()))[1].add(claim)
    return [(label, restricted(layout, own), endpoint) for (label, _, endpoint), (layout, own) in claims.items()]


def _encode_members(members: list[Member]) -> bytes:
    grouped: dict[tuple[str, str, bytes, bytes], list[bytes]] = {}
    for label, layout, endpoint in members:
        grouped.setdefault((label, layout.family, layout.ports, layout.lead), []).append(endpoint)
    return b",".join(
        encode_change(label, lead, sorted(endpoints)) for (label, _, _, lead), endpoints in sorted(grouped.items())
    )
