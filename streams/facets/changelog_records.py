"""Which records of a facet topic can be read. The tables follow from the journal, so unreadable records are skipped,
and the worker that owns the partition overwrites them with the right row or seal.
"""

import re

import msgspec

from streams.facets.parsed_rows import Facet, read_row
from streams.facets.reading import read_source_event
from streams.wire.keys import COMPANION_PREFIX, INTERNAL, PART_PREFIX, SEAL_PREFIX, is_set, row_key
from streams.wire.records import CLUSTER_NAME, CLUSTERSET, BackendChunk, BackendPart, Event, Seal
from streams.wire.validation import check_frontier, is_service_key

NO_VERSION = -1
"""The version of a record without a stamp."""

BAD_VERSION = -2
"""The version of a record whose stamp is invalid."""

_MAX_DIGITS = 18
_CLUSTER = re.compile(CLUSTER_NAME)


class UnreadableRecord(ValueError):
    """Why a record can't be read."""


_decode_seal = msgspec.json.Decoder(Seal).decode
_decode_event = msgspec.json.Decoder(Event).decode
_decode_part = msgspec.json.Decoder(BackendPart).decode
_decode_chunk = msgspec.json.Decoder(BackendChunk).decode
_encode = msgspec.json.encode


def version_in(stamp: bytes | None) -> int:
    """The version in a record's header; BAD_VERSION where there is none in it."""
    text = stamp or b""
    return int(text) if text.isdigit() and len(text) <= _MAX_DIGITS else BAD_VERSION


def unreadable(table: str, key: bytes, value: bytes | None, version: int) -> str:
    """Why a record can't be read; "" where it can. A tombstone always can, whatever its key."""
    try:
        read_record(table, key, value, version)
    except UnreadableRecord as error:
        return str(error)
    return ""


def read_record(table: str, key: bytes, value: bytes | None, version: int) -> Facet | None:
    """The facet in a record, None in one that is no row: a seal, a companion, a tombstone. Raises UnreadableRecord."""
    if version < 0:
        raise UnreadableRecord("it has no version stamp" if version == NO_VERSION else "its version stamp is no number")
    if value is None:
        return None
    try:
        if key.startswith(SEAL_PREFIX):
            _check_seal(key, _decode_seal(value), version)
            return None
        if key.startswith(INTERNAL):
            _check_internal(key, value, version)
            return None
        if not is_row_key(key, table):
            raise UnreadableRecord("its key is no CLUSTER/NAMESPACE/NAME")
        row = read_row(table, value)
    except (ValueError, RecursionError) as error:
        raise UnreadableRecord(str(error)) from error
    if row.version != version:
        raise UnreadableRecord(f"the row is of version {row.version}, its stamp of {version}")
    if row_key(row.cluster, row.namespace, row.name).encode() != key:
        raise UnreadableRecord("the row is another Service's")
    return row.facet()


def is_row_key(key: bytes, table: str = "") -> bool:
    """Whether this can be the key of a row (of a table, where those of the clusterset's sets may be among them)."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return False
    if table == CLUSTERSET and is_set(key):
        return is_service_key(f"-/{text}")
    return is_service_key(text) and _CLUSTER.search(text.partition("/")[0]) is not None


def _check_seal(key: bytes, seal: Seal, version: int) -> None:
    if seal.offset != version:
        raise UnreadableRecord(f"it seals {seal.offset}, its stamp is {version}")
    if key != SEAL_PREFIX + seal.cluster.encode():
        raise UnreadableRecord("it is another cluster's seal")
    check_frontier(seal.frontier)


def _check_internal(key: bytes, value: bytes, version: int) -> None:
    if key.startswith(COMPANION_PREFIX):
        if not is_row_key(key[len(COMPANION_PREFIX) :]):
            raise UnreadableRecord("its key is of no Service")
        read_source_event(_decode_event(value), None)
    elif key.startswith(PART_PREFIX):
        _check_part(key, value, version)


def _check_part(key: bytes, value: bytes, version: int) -> None:
    """A part, or a chunk of one: as workers write it, so that its bytes can be joined."""
    *row_key, label, number = [*key[len(PART_PREFIX) :].split(b"/"), b""][:5]
    if key.count(b"/") not in {4, 5} or not is_row_key(b"/".join(row_key)) or not label:
        raise UnreadableRecord("its key is of no part")
    record: BackendPart | BackendChunk
    if key.count(b"/") == 4:
        record = part = _decode_part(value)
        is_own = part.slice.encode() == label and bool(part.chunks)
    else:
        record, is_own = _decode_chunk(value), number.isdigit()
    if not is_own or record.version != version or _encode(record) != value:
        raise UnreadableRecord("it is not as a worker writes it")
