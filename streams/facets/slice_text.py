"""The content of an EndpointSlice (or legacy Endpoints object), as canonical JSON bytes from the watcher to the row.

The endpoints of a group are one text: their canonical JSON in byte order, joined by commas. Nearly every event changes
only an endpoint or two of its slice. The difference is found by comparing bytes, and only that is decoded: the rest was
validated before. `"` is escaped inside a JSON string, so the bytes `{"address":"` occur only at the
beginning of an endpoint, and so mark the borders.
"""

from collections.abc import Callable, Mapping, Set
from functools import lru_cache
from operator import ge
from typing import Literal, NamedTuple

import msgspec

from streams.wire.records import EndpointPort, SliceEndpoint
from streams.wire.validation import check_addresses

LEGACY_PREFIX = "Endpoints/"
"""The prefix of a legacy Endpoints object's name where a slice's name is expected."""

BORDER = b'{"address":"'
_COMMA_BORDER = b"," + BORDER
_NEAR = 256
_FEW = 16
_encode = msgspec.json.encode


class _GroupIn(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    family: Literal["IPv4", "IPv6", "FQDN"]
    ports: msgspec.Raw
    endpoints: list[SliceEndpoint]


class _SourceIn(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    groups: list[_GroupIn]


_source_in = msgspec.json.Decoder(_SourceIn)
_ports_in = msgspec.json.Decoder(list[EndpointPort])
_endpoint_in = msgspec.json.Decoder(SliceEndpoint)


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
    """Endpoints of one layout, as one text."""

    __slots__ = ("_endpoints", "layout", "text")

    def __init__(self, layout: Layout, text: bytes) -> None:
        self.layout = layout
        self.text = text
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
    start = _start_of_difference(old, new)
    old_end = _end_of_difference(old, new, start)
    new_end = old_end + len(new) - len(old)
    old_part, new_part = old[start:old_end], new[start:new_end]
    if new_part and (not new_part.startswith(BORDER) or new_part.endswith(b",") != (new_end < len(new))):
        return None
    before, after = pieces(old_part), pieces(new_part)
    if any(map(ge, after, after[1:])):
        return None
    removed, added = _without(before, after), _without(after, before)
    try:
        decoded = [_endpoint_in.decode(endpoint) for endpoint in added]
        check_addresses(group.layout.family, decoded)
    except (msgspec.MsgspecError, ValueError):
        return None
    if [_encode(endpoint) for endpoint in decoded] != added:
        return None
    return GroupChange(Group(group.layout, new), removed, added)


def pieces(text: bytes) -> list[bytes]:
    """The endpoints of a text, which may end with a comma."""
    if not text:
        return []
    first, *others = text.removesuffix(b",").split(_COMMA_BORDER)
    return [first, *[BORDER + other for other in others]]


def address_of(endpoint: bytes) -> bytes:
    """The address as it stands between the quotes."""
    address = endpoint[12 : endpoint.index(b'"', 12)]
    return _encode(_endpoint_in.decode(endpoint).address)[1:-1] if b"\\" in address else address


def _without(endpoints: list[bytes], excluded: list[bytes]) -> list[bytes]:
    lookup = excluded if len(excluded) < _FEW else set(excluded)
    return [endpoint for endpoint in endpoints if endpoint not in lookup]


def _start_of_difference(old: bytes, new: bytes) -> int:
    """Where the differing endpoints begin, in both texts, including the equal endpoint before them, if any, so
    that the order can be checked."""
    differs = _equal_bytes(lambda n: old[:n] == new[:n], min(len(old), len(new)))
    start = max(old.rfind(BORDER, 0, differs), 0)
    return max(old.rfind(BORDER, 0, start), 0)


def _end_of_difference(old: bytes, new: bytes, start: int) -> int:
    """Where the differing endpoints end in the old text, including the equal endpoint after them, if any."""
    size, new_size = len(old), len(new)
    equal = _equal_bytes(lambda n: old[size - n :] == new[new_size - n :], min(size, new_size) - start)
    end = old.find(BORDER, size - equal)
    end = old.find(BORDER, end + 1) if end >= 0 else end
    return size if end < 0 else end


def _equal_bytes(are_equal: Callable[[int], bool], most: int) -> int:
    """How many bytes are equal, at most `_NEAR` too few; `most` is the upper bound."""
    low, high = 0, most + 1
    while high - low > _NEAR:
        middle = (low + high) // 2
        if are_equal(middle):
            low = middle
        else:
            high = middle
    return low


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
