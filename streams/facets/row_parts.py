"""Rows of large Services' endpoints in parts, so that a change of one endpoint doesn't write all the others.

Such a row is a *head*: it has `parts`, by slice the version of the slice's part, where a whole row has `groups`. A
*part* has what the slice's groups begin with, and the versions of its *chunks*, among which the slice's endpoints are
spread by a hash of their address. (A version is written as the difference from that of who names it: few digits.) Each
has its own key, so that compaction keeps the newest of each. A record is written when its content changes: for one
endpoint its chunk, its slice's part and the head. Those not in use any more get tombstones. Records come before their
head, in one batch of Kafka's: there is never the one without the other.

What is divided, and into how many chunks, follows from the sizes and what was before (so that it doesn't go back and
forth at a limit), and is in the records: every worker makes the same. Joined, the records are the bytes of the whole
row.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol
from zlib import crc32

import msgspec

from streams.facets.changes import local_name_of
from streams.facets.claims import Lost
from streams.facets.endpoint_set import EndpointSet, encode_groups, group_texts
from streams.facets.overlay import explain
from streams.facets.slice_text import Group, GroupChange, Source, address_of, addresses_of
from streams.wire.endpoint_text import pieces, text_difference, without
from streams.wire.keys import chunk_key, part_key
from streams.wire.records import CLUSTERSET, BackendPart, Rejection

TABLES = frozenset({"backend", CLUSTERSET})
"""The tables with such rows."""

PARTS = b',"parts":{'
"""Where a head has its parts. Quotation marks in a JSON string are escaped, and no other object in such a row has this
name."""

_CHUNKS = b',"chunks":'


class Limits(NamedTuple):
    """Sizes are bytes of endpoints as JSON. A row of more than `whole` is divided, one of at most `undivided` is whole
    again. A slice is divided anew where its chunks are not between `smallest` and `largest` on average: into a power
    of two, of at most `aim` each."""

    whole: int = 12 * 1024
    undivided: int = 6 * 1024
    smallest: int = 384
    aim: int = 1024
    largest: int = 1536
    most_chunks: int = 256


LIMITS = Limits()


class Part(NamedTuple):
    """The versions of a slice's part and of its chunks."""

    version: int
    chunks: tuple[int, ...]


Parts = Mapping[str, Part]
"""By slice; none where the row is whole."""

PartRecords = Mapping[bytes, tuple[int, bytes]]
"""The version and value of parts and chunks, by key."""


class Side(Protocol):
    """A set before or after a change; `withdrawn` says whether it is withheld because of its Service."""

    @property
    def endpoints(self) -> EndpointSet:
        """The set."""

    @property
    def withdrawn(self) -> bool:
        """Whether it is withheld."""


KnownChanges = Mapping[str, GroupChange]
"""The slices in which two sets without shadows differ, and how: each of these slices has one group before and after.
None where it is not known."""


class Division(NamedTuple):
    """The parts after a change, and the records (key and value, None for a tombstone) that it makes beside the row."""

    parts: Parts
    records: list[tuple[bytes, bytes | None]]


UNDIVIDED = Division({}, [])


class JoinedPart(NamedTuple):
    """A slice's groups as a whole row has them, without brackets."""

    part: Part
    groups: bytes


class JoinedRow(NamedTuple):
    """A row in its whole form. If parts are `missing`, it is `unknown`, and their slices are rejected."""

    row: bytes
    parts: Parts
    missing: tuple[str, ...] = ()


GetRecord = Callable[[bytes, int], bytes | None]
"""The value of a part or chunk by its key and version, None if it is not there."""

FindPart = Callable[[str, int], JoinedPart | None]
"""The part of a slice and version, None if it, or one of its chunks, is not there."""


class _ChunkGroup(msgspec.Struct, gc=False):
    family: msgspec.Raw
    ports: msgspec.Raw
    endpoints: msgspec.Raw
    shadowed: msgspec.Raw = msgspec.Raw(b"[]")
    partial: bool = False


class _Chunk(msgspec.Struct):
    groups: list[_ChunkGroup]


class _Head(msgspec.Struct):
    version: int
    parts: dict[str, int]


class _Overlaid(msgspec.Struct):
    state: str
    rejected: list[Rejection] = []


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_overlaid = msgspec.json.Decoder(_Overlaid).decode
_decode_part = msgspec.json.Decoder(BackendPart).decode
_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_encode = msgspec.json.encode


# ---- dividing ------------------------------------------------------------------------------------------


def divide(
    key: str, version: int, parts: Parts, before: Side, after: Side, known: KnownChanges | None = None
) -> Division:
    """What a change at this version makes of a row that had these parts."""
    slices = after.endpoints.slices
    if not parts and not slices:
        return UNDIVIDED
    is_divided = _is_divided(slices, divided_before=bool(parts))
    if not parts and not is_divided:
        return UNDIVIDED
    divided: dict[str, Part] = {}
    labels: Iterable[str]
    if known is not None and is_divided and parts.keys() == slices.keys():
        divided.update(parts)
        labels = known
    else:
        labels = sorted({*parts, *slices})
    records: list[tuple[bytes, bytes | None]] = []
    for label in labels:
        own_key, old, source = part_key(key, label), parts.get(label), slices.get(label)
        if source is None or not is_divided:
            if old is not None:
                records += [(chunk_key(own_key, number), None) for number in range(len(old.chunks))]
                records.append((own_key, None))
        elif old is not None and _is_unchanged(label, before, after):
            divided[label] = old
        else:
            content_before = _Content.of(label, before)
            divided[label] = _divide_slice(own_key, version, old, content_before, source, after, records, known)
    return Division(divided, records)


def encode_content(version: int, parts: Parts, endpoints: EndpointSet, *, withdrawn: bool) -> bytes:
    """What a row of this version has of its endpoints: the `parts` of a head, else the `groups`; with their name."""
    if parts:
        return b'"parts":%b' % _encode({label: version - part.version for label, part in parts.items()})
    return b'"groups":[%b]' % encode_groups(endpoints, withdrawn=withdrawn)


class _Content(NamedTuple):
    """All that a slice's records follow from."""

    source: Source
    lost: Lost
    withdrawn: bool

    @classmethod
    def of(cls, label: str, side: Side) -> "_Content | None":
        source = side.endpoints.slices.get(label)
        return None if source is None else cls(source, side.endpoints.shadows.get(label, {}), side.withdrawn)


def _is_divided(slices: Mapping[str, Source], *, divided_before: bool) -> bool:
    size = 0
    for source in slices.values():
        groups = source.groups
        if len(groups) != 1:
            return False
        size += len(groups[0].text)
    return size > (LIMITS.undivided if divided_before else LIMITS.whole)


def _is_unchanged(label: str, before: Side, after: Side) -> bool:
    old, new = before.endpoints, after.endpoints
    return (
        old.slices.get(label) is new.slices[label]
        and before.withdrawn == after.withdrawn
        and (after.withdrawn or old.shadows.get(label) == new.shadows.get(label))
    )


def _divide_slice(
    own_key: bytes,
    version: int,
    old: Part | None,
    content_before: _Content | None,
    source: Source,
    after: Side,
    records: list[tuple[bytes, bytes | None]],
    known: KnownChanges | None,
) -> Part:
    content = _Content(source, after.endpoints.shadows.get(source.label, {}), after.withdrawn)
    count_before = len(old.chunks) if old else 0
    count = _chunk_count(len(source.groups[0].text), count_before)
    versions = [version] * count
    changed: Sequence[int] = range(count)
    if old is not None and content_before is not None and count_before == count:
        versions, changed = list(old.chunks), _changed_chunks(content_before, content, count, known)
    for number, chunk in zip(changed, _chunks(content, count, changed), strict=True):
        versions[number] = version
        records.append((chunk_key(own_key, number), b'%b,"version":%d}' % (chunk, version)))
    records += [(chunk_key(own_key, number), None) for number in range(count, count_before)]
    if (
        old is not None
        and tuple(versions) == old.chunks
        and content_before
        and content_before.source.head == source.head
    ):
        return old
    ages = [version - number for number in versions]
    records.append((own_key, b'%b%b%b,"version":%d}' % (source.head, _CHUNKS, _encode(ages), version)))
    return Part(version, tuple(versions))


def _chunk_count(size: int, count: int) -> int:
    """How many chunks a slice has that had `count`."""
    if count and size <= count * LIMITS.largest and (count == 1 or size >= count * LIMITS.smallest):
        return count
    new = 1
    while size > new * LIMITS.aim and new < LIMITS.most_chunks:
        new *= 2
    return new


def _changed_chunks(before: _Content, after: _Content, count: int, known: KnownChanges | None) -> Sequence[int]:
    """The chunks that differ, of a slice that has as many as before."""
    (old,), (new,) = before.source.groups, after.source.groups
    changed = _divide_like(old, known[after.source.label] if known else _compared(old, new), count)
    if (before.lost, before.withdrawn, old.layout) == (after.lost, after.withdrawn, new.layout):
        return changed
    pairs = zip(_chunks(before, count, range(count)), _chunks(after, count, range(count)), strict=True)
    return [number for number, (chunk_before, chunk) in enumerate(pairs) if chunk_before != chunk]


def _compared(old: Group, new: Group) -> GroupChange:
    difference = text_difference(old.text, new.text)
    before = pieces(old.text[difference.start : difference.old_end])
    after = pieces(new.text[difference.start : difference.new_end])
    return GroupChange(new, without(before, after), without(after, before))


def _divide_like(old: Group, change: GroupChange, count: int) -> list[int]:
    """Divide a group as the one before it, and return which chunks have other endpoints. What both groups have is not
    looked at again."""
    new, removed, added = change
    texts = list(_divided(old, count))
    changes: dict[int, tuple[list[bytes], list[bytes]]] = {}
    for endpoint in removed:
        changes.setdefault(_chunk_of(endpoint, count), ([], []))[0].append(endpoint)
    for endpoint in added:
        changes.setdefault(_chunk_of(endpoint, count), ([], []))[1].append(endpoint)
    for number, (own_removed, own_added) in changes.items():
        texts[number] = b",".join(sorted([*without(pieces(texts[number]), own_removed), *own_added]))
    new.chunks = tuple(texts)
    return sorted(changes)


def _divided(group: Group, count: int) -> tuple[bytes, ...]:
    """The group's endpoints by chunk."""
    if len(group.chunks) != count:
        members: list[list[bytes]] = [[] for _ in range(count)]
        for endpoint, address in zip(pieces(group.text), addresses_of(group.text), strict=True):
            members[crc32(address) % count].append(endpoint)
        group.chunks = tuple(map(b",".join, members))
    return group.chunks


def _chunk_of(endpoint: bytes, count: int) -> int:
    return crc32(address_of(endpoint)) % count


def _chunks(content: _Content, count: int, numbers: Iterable[int]) -> list[bytes]:
    """These of a slice's chunks, up to their version."""
    (group,) = content.source.groups
    divided = _divided(group, count)
    # Of an empty slice the only chunk has its ports.
    return [
        _chunk(content, group, divided[number]) if divided[number] or count == 1 else b'{"groups":[]'
        for number in numbers
    ]


def _chunk(content: _Content, group: Group, text: bytes) -> bytes:
    """The chunk with these of the slice's endpoints, up to its version."""
    if not content.lost and not content.withdrawn:
        return b"%b%b]}]" % (group.layout.body_lead, text)
    own = Group(group.layout, text)
    endpoints = pieces(text) if content.lost else []
    lost = {endpoint: content.lost[0, endpoint] for endpoint in endpoints if (0, endpoint) in content.lost}
    groups = [b"{" + each[1:] for each in group_texts(own, lost, withdrawn=content.withdrawn)]
    return b'{"groups":[%b]' % b",".join(groups)


# ---- joining -------------------------------------------------------------------------------------------


def is_head(table: str, row: bytes) -> bool:
    """Whether the row is in parts."""
    return table in TABLES and PARTS in row


def join_row(table: str, row: bytes, find: FindPart) -> JoinedRow:
    """The whole form of a row. Raises msgspec.MsgspecError."""
    if not is_head(table, row):
        return JoinedRow(row, {})
    before, _, after = row.partition(PARTS)
    named = parts_of(row)
    joined = {label: find(label, version) for label, version in named.items()}
    groups = b",".join([part.groups for part in joined.values() if part is not None])
    whole = b'%b,"groups":[%b]%b' % (before, groups, after[after.index(b"}") + 1 :])
    missing = tuple(label for label, part in joined.items() if part is None)
    parts = {label: part.part for label, part in joined.items() if part is not None}
    return JoinedRow(_damaged(whole, missing) if missing else whole, parts, missing)


def find_in(records: PartRecords, key: str) -> FindPart:
    """Finds the parts of the row with this key among records."""
    get = versioned(records)
    return lambda label, version: join_part(get, part_key(key, label), version)


def find_newest(values: Mapping[bytes, bytes], key: str) -> FindPart:
    """The same among the newest values of all keys: those that the row names."""
    return lambda label, version: join_part(lambda own_key, _: values.get(own_key), part_key(key, label), version)


def versioned(records: PartRecords) -> GetRecord:
    """Gets the records that are of the version that is named."""

    def get(key: bytes, version: int) -> bytes | None:
        found = records.get(key)
        return found[1] if found is not None and found[0] == version else None

    return get


def parts_of(row: bytes) -> dict[str, int]:
    """The versions of a head's parts, by slice. Raises msgspec.MsgspecError."""
    head = _decode_head(row)
    return {label: head.version - age for label, age in head.parts.items()}


def lacks_parts(row: bytes, records: PartRecords, key: str) -> bool:
    """Whether a head names parts, or these name chunks, that are not there. Raises msgspec.MsgspecError."""
    get = versioned(records)
    for label, version in parts_of(row).items():
        own_key = part_key(key, label)
        value = get(own_key, version)
        if value is None:
            return True
        if any(get(chunk_key(own_key, number), named) is None for number, named in enumerate(_chunk_versions(value))):
            return True
    return False


def join_part(get: GetRecord, own_key: bytes, version: int) -> JoinedPart | None:
    """The groups of a slice, from its part and chunks; None unless each is there in the version that is named."""
    value = get(own_key, version)
    if value is None:
        return None
    head, _, _ = value.rpartition(_CHUNKS)
    versions = _chunk_versions(value)
    main: dict[tuple[bytes, bytes], tuple[list[bytes], list[bytes]]] = {}
    partial: dict[tuple[bytes, bytes], list[bytes]] = {}
    for number, named in enumerate(versions):
        chunk = get(chunk_key(own_key, number), named)
        if chunk is None:
            return None
        for group in _decode_chunk(chunk).groups:
            layout = bytes(group.family), bytes(group.ports)
            if group.partial:
                partial.setdefault(layout, []).extend(_endpoints(group.endpoints))
            else:
                endpoints, shadowed = main.setdefault(layout, ([], []))
                endpoints += _endpoints(group.endpoints)
                shadowed += _endpoints(group.shadowed)
    texts = [_group(head, *layout, endpoints, shadowed) for layout, (endpoints, shadowed) in main.items()]
    texts += [_group(head, *layout, partial[layout], [], b',"partial":true') for layout in sorted(partial)]
    return JoinedPart(Part(version, tuple(versions)), b",".join(texts))


def _chunk_versions(value: bytes) -> list[int]:
    part = _decode_part(value)
    return [part.version - age for age in part.chunks]


def _endpoints(array: msgspec.Raw) -> list[bytes]:
    return pieces(bytes(array)[1:-1])


def _group(
    head: bytes, family: bytes, ports: bytes, endpoints: list[bytes], shadowed: list[bytes], last: bytes = b""
) -> bytes:
    # A chunk is in the order of its endpoints' bytes, as the slice is.
    if shadowed:
        last = b',"shadowed":[%b]' % b",".join(sorted(shadowed))
    return b'%b,"family":%b,"ports":%b,"endpoints":[%b]%b}' % (head, family, ports, b",".join(sorted(endpoints)), last)


def _damaged(row: bytes, missing: tuple[str, ...]) -> bytes:
    """The row without the slices that are missing: a set that is not known until they come whole."""
    content = msgspec.json.decode(row)
    overlaid = _decode_overlaid(row)
    marks = [Rejection("EndpointSlice", label, "", "a part of the row is lost", outdated=True) for label in missing]
    others = [each for each in overlaid.rejected if each.kind != "EndpointSlice" or each.name not in missing]
    # In the place in which rows have it.
    fields = {}
    for name, value in content.items():
        fields[name] = value
        if name == "cause":
            fields["rejected"] = sorted([*others, *marks], key=local_name_of)
    if overlaid.state not in {"deleted", "empty"}:
        fields |= {"state": "unknown", "reason": explain(marks[0])}
    return _encode(fields)
