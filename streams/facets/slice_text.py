"""The content of an EndpointSlice (or legacy Endpoints object), as canonical JSON bytes from the watcher to the row.

The endpoints of a group are one text: their canonical JSON in byte order, joined by commas. Nearly every event changes
only an endpoint or two of its slice. A patch names these; where the whole object comes, bytes are compared. Only what
differs is decoded: the rest was validated before.
"""

import re
from collections.abc import Mapping, Set
from functools import lru_cache
from operator import ge
from typing import Literal, NamedTuple

import msgspec

from streams.wire.endpoint_text import BORDER, edited, endpoint_range, insertion, pieces, text_difference, without
from streams.wire.records import EndpointPort, SliceEndpoint, SlicePatch
from streams.wire.validation import check_addresses

LEGACY_PREFIX = "Endpoints/"
"""The prefix of a legacy Endpoints object's name where a slice's name is expected."""

_encode = msgspec.json.encode
_ADDRESSES = re.compile(re.escape(BORDER) + rb'([^"]*)"').findall
"""The addresses in a text that has no escapes."""


class _GroupIn(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    family: Literal["IPv4", "IPv6", "FQDN"]
    ports: msgspec.Raw
    endpoints: list[SliceEndpoint]


class _SourceIn(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    groups: list[_GroupIn]


_patch_in = msgspec.json.Decoder(SlicePatch)
_source_in = msgspec.json.Decoder(_SourceIn)
_ports_in = msgspec.json.Decoder(list[EndpointPort])
_endpoint_in = msgspec.json.Decoder(SliceEndpoint)


class PatchMismatch(ValueError):
    """A patch that does not fit what is held: the object's newest state is not known."""


Patch = dict[str, SliceEndpoint | None]
"""By address the endpoint that is there now; None: it is gone."""


class Layout(NamedTuple):
    """What endpoints of a group share, as JSON: `ports` in the order given; `lead` precedes the endpoints in a row,
    `body_lead` in an event's object of this one group.

    `claims` are what an address can have only one winner for: one for each (family, port name, protocol, port number),
    or one for the family alone where there are no ports; `port_of` gives a claim's port."""

    family: str
    ports: bytes
    claims: frozenset[bytes]
    port_of: Mapping[bytes, bytes]
    lead: bytes
    body_lead: bytes


class Group:
    """Endpoints of one layout, as one text; `chunks` are the same divided, where a row is in parts."""

    __slots__ = ("_endpoints", "chunks", "layout", "text")

    def __init__(self, layout: Layout, text: bytes) -> None:
        self.layout = layout
        self.text = text
        self.chunks: tuple[bytes, ...] = ()
        self._endpoints: dict[bytes, bytes] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and self.text == other.text and self.layout == other.layout

    __hash__ = None  # type: ignore[assignment]

    @property
    def endpoints(self) -> dict[bytes, bytes]:
        """Each endpoint's bytes, in order, to its address (as in JSON). Computed once, on demand."""
        if self._endpoints is None:
            self._endpoints = {endpoint: address_of(endpoint) for endpoint in pieces(self.text)}
        return self._endpoints


class Source(NamedTuple):
    """The content of an EndpointSlice or legacy Endpoints object. `head` is the start of its groups' JSON in a row."""

    label: str
    uid: str
    resource_version: str
    revision: int
    groups: tuple[Group, ...]
    head: bytes

    @property
    def legacy(self) -> bool:
        """Whether this is a legacy Endpoints object."""
        return self.label.startswith(LEGACY_PREFIX)


class GroupChange(NamedTuple):
    """A group after a change, with the endpoints that are in only one of the two, in byte order."""

    group: Group
    removed: list[bytes]
    added: list[bytes]


def read_source(label: str, uid: str, resource_version: str, body: bytes, current: Source | None) -> Source:
    """A source from an event's `object`. What is also in `current` is not validated again.

    Raises msgspec.ValidationError or msgspec.DecodeError for a schema violation, ValueError for an invalid address.
    """
    if current is not None and len(current.groups) == 1 and (change := changed(current.groups[0], body)) is not None:
        return new_source(label, uid, resource_version, (change.group,))
    decoded = _source_in.decode(body).groups
    for group in decoded:
        check_addresses(group.family, group.endpoints)
    groups = tuple(new_group(group.family, group.ports, group.endpoints) for group in decoded)
    if len(groups) != 1 and not label.startswith(LEGACY_PREFIX):
        raise msgspec.ValidationError(f"an EndpointSlice has one group, this has {len(groups)} - at `$.groups`")
    return new_source(label, uid, resource_version, groups)


def read_patched_source(
    label: str, uid: str, resource_version: str, body: bytes, current: Source | None, base: str
) -> Source:
    """A source from a patch of the object's state `base`, which is `current`.

    Raises PatchMismatch if it is not, and as `read_patch` and `patched` do.
    """
    patch = read_patch(body)
    group = base_group(current, uid, base)
    if group is None:
        held = "nothing" if current is None else f"resourceVersion {current.resource_version} of uid {current.uid}"
        raise PatchMismatch(f"the patch is of resourceVersion {base}, held is {held}")
    return new_source(label, uid, resource_version, (patched(group, patch).group,))


def base_group(current: Source | None, uid: str, base: str) -> Group | None:
    """The endpoints that a patch of `base` applies to; None if they are not held."""
    if current is None or (current.uid, current.resource_version) != (uid, base) or len(current.groups) != 1:
        return None
    return current.groups[0]


def new_source(label: str, uid: str, resource_version: str, groups: tuple[Group, ...]) -> Source:
    """A source of these groups. Raises ValueError for a resourceVersion that is not a number."""
    revision = int(resource_version) if resource_version else 0
    head = b'{"slice":%b,"uid":%b,"resourceVersion":"%d"' % (_encode(label), _encode(uid), revision)
    return Source(label, uid, str(revision), revision, groups, head)


def new_group(family: str, ports: msgspec.Raw, endpoints: list[SliceEndpoint]) -> Group:
    """A group of endpoints in any order; equal ones count once. Raises msgspec.MsgspecError for wrong ports."""
    return Group(_layout(family, bytes(ports)), b",".join(sorted(set(map(_encode, endpoints)))))


def changed(group: Group, body: bytes) -> GroupChange | None:
    """The group after an event with this object; None if all of it has to be decoded."""
    lead = group.layout.body_lead
    if not body.startswith(lead) or not body.endswith(b"]}]}"):
        return None
    old, new = group.text, body[len(lead) : -4]
    start, old_end, new_end = text_difference(old, new)
    old_part, new_part = old[start:old_end], new[start:new_end]
    if new_part and (not new_part.startswith(BORDER) or new_part.endswith(b",") != (new_end < len(new))):
        return None
    before, after = pieces(old_part), pieces(new_part)
    if any(map(ge, after, after[1:])):
        return None
    removed, added = without(before, after), without(after, before)
    try:
        decoded = [_endpoint_in.decode(endpoint) for endpoint in added]
        check_addresses(group.layout.family, decoded)
    except (msgspec.MsgspecError, ValueError):
        return None
    if [_encode(endpoint) for endpoint in decoded] != added:
        return None
    return GroupChange(Group(group.layout, new), removed, added)


def read_patch(body: bytes) -> Patch:
    """A patch's object. Raises msgspec.MsgspecError for a schema violation, ValueError where it names an address
    twice."""
    patch = _patch_in.decode(body)
    new_text: Patch = dict.fromkeys(patch.removed)
    for each in patch.endpoints:
        new_text[each.address] = SliceEndpoint(
            each.address, each.ready, each.serving, each.terminating, each.zone, each.node, each.hints, each.target,
            each.hostname,
        )  # fmt: skip
    if len(new_text) != len(patch.removed) + len(patch.endpoints):
        raise ValueError("the patch names an address twice")
    return new_text


def patched(group: Group, patch: Patch) -> GroupChange:
    """The group after a patch: what it has of an address replaces what was there. Raises PatchMismatch for an address
    of another family, one that is in the group twice, and one to be removed that is not there."""
    removed, added = [], []
    edits: list[tuple[int, int, bytes]] = []
    try:
        check_addresses(group.layout.family, [endpoint for endpoint in patch.values() if endpoint is not None])
        for address, endpoint in patch.items():
            start, end = endpoint_range(group.text, address)
            old, new = group.text[start:end], b"" if endpoint is None else _encode(endpoint)
            if not old and not new:
                raise ValueError(f"the address {address!r:.80} is to be removed, and not there")
            if not old:
                start = end = insertion(group.text, new)
            edits.append((start, end, new))
            if old and old != new:
                removed.append(old)
            if new and old != new:
                added.append(new)
    except ValueError as error:
        raise PatchMismatch(str(error)) from None
    return GroupChange(Group(group.layout, edited(group.text, sorted(edits))), sorted(removed), sorted(added))


def address_of(endpoint: bytes) -> bytes:
    """The address as it stands between the quotes."""
    address = endpoint[12 : endpoint.index(b'"', 12)]
    return _encode(_endpoint_in.decode(endpoint).address)[1:-1] if b"\\" in address else address


def addresses_of(text: bytes) -> list[bytes]:
    """The addresses of a text's endpoints, as `address_of` gives them."""
    return list(map(address_of, pieces(text))) if b"\\" in text else _ADDRESSES(text)


def restricted(layout: Layout, claims: Set[bytes]) -> Layout:
    """The layout with only the ports of these claims of it (at least one)."""
    if claims == layout.claims:
        return layout
    return _layout(
        layout.family, b"[%b]" % b",".join([layout.port_of[each] for each in layout.port_of if each in claims])
    )


@lru_cache(maxsize=65536)
def _layout(family: str, raw: bytes) -> Layout:
    port_of: dict[bytes, bytes] = {}
    for port in _ports_in.decode(raw):
        # Legacy Endpoints may name a port twice.
        port_of.setdefault(family.encode() + _encode((port.name, port.protocol, port.port)), _encode(port))
    ports = b"[%b]" % b",".join(port_of.values())
    lead = b',"family":"%b","ports":%b,"endpoints":[' % (family.encode(), ports)
    if not port_of:
        port_of[family.encode()] = b""
    return Layout(family, ports, frozenset(port_of), port_of, lead, b'{"groups":[{' + lead[1:])
