"""Records of the facet topics as they come from Kafka: their version, and whether they are what they should be."""

from collections.abc import Iterable
from typing import Any

import msgspec
from aiokafka import TopicPartition

from streams.core.errors import FacetsError
from streams.core.exit_codes import ExitCode
from streams.core.records import SEAL_PREFIX, Seal
from streams.topology.bulk_reader import VERSION_HEADER


class BadRecord(FacetsError):
    """A facet topic holds what no worker writes."""

    exit_code = ExitCode.BAD_DATA


def bad_record(partition: TopicPartition, offset: int, error: Exception) -> BadRecord:
    """What a reader is told of a record that is no facet record."""
    return BadRecord(
        f"{partition.topic}[{partition.partition}] offset {offset} is no facet record: {error}",
        "only `facets work` may write there: find out who else does, then make the facet topics anew from the journal",
    )


class Compacted(Exception):
    """Records after the position are gone: the subscriber was away for longer than the resume window."""


class Replaced(Exception):
    """The topic is not the one that the cursor is of."""


def check_anchor(record: Any, anchor: tuple[int, str]) -> None:
    """That this is the seal that a cursor has applied (`anchor`: journal offset, time). Raises Replaced."""
    applied, at = anchor
    if not (record.key or b"").startswith(SEAL_PREFIX) or record.value is None:
        raise Replaced(f"{record.topic}[{record.partition}] offset {record.offset} is not the cursor's seal")
    seal = seal_of(record)
    if seal.offset > applied or seal.at > at:
        raise Replaced(f"{record.topic}[{record.partition}] offset {record.offset} seals {seal.offset} at {seal.at}")


def seal_of(record: Any) -> Seal:
    """The seal in a record."""
    return msgspec.json.decode(record.value, type=Seal)


class _Version(msgspec.Struct):
    version: int


def version_of(headers: Iterable[tuple[str, bytes]], key: bytes, value: bytes | None) -> int:
    """The version that a record's header carries (a seal's offset); without the header, that of the row or seal itself.
    -1 for what is neither. Raises ValueError."""
    for name, text in headers:
        if name == VERSION_HEADER:
            return int(text)
    if value is None:
        if key.startswith(b"~"):
            return -1
        raise ValueError("a tombstone without the version header")
    if key.startswith(SEAL_PREFIX):
        return msgspec.json.decode(value, type=Seal).offset
    return -1 if key.startswith(b"~") else msgspec.json.decode(value, type=_Version).version
