"""The fold run over a journal, and its tables as Kafka would hold them: logs, compaction, crashes."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import TABLES

__all__ = ["TABLES"]

WINDOW = 86400

Log = list[Write]
Logs = dict[str, Log]


def new_fold() -> PartitionFold:
    """A fold with nothing in it."""
    return PartitionFold(0, window_seconds=WINDOW)


def fold(values: Sequence[bytes], start: int = 0) -> list[Write]:
    """All that an undisturbed fold of the journal writes."""
    instance = new_fold()
    return [write for offset, value in enumerate(values, start) for write in instance.step(offset, value)]


def logs_of(writes: Iterable[Write]) -> Logs:
    """The tables' topics."""
    logs: Logs = {table: [] for table in TABLES}
    for write in writes:
        if write.table in logs:
            logs[write.table].append(write)
    return logs


def is_row(write: Write) -> bool:
    """Whether it is a row or its tombstone, and no seal."""
    return not write.key.startswith(b"~")


def compacted(logs: Logs) -> dict[tuple[str, bytes], bytes]:
    """What Kafka keeps: the last record of each key."""
    kept: dict[tuple[str, bytes], bytes | None] = {}
    for table, log in logs.items():
        for write in log:
            kept[table, write.key] = write.value
    return {key: value for key, value in kept.items() if value is not None}


def accepted(logs: Logs) -> dict[tuple[str, bytes], list[tuple[int, bytes | None]]]:
    """What a subscriber takes of each key, seals included: records above the version that it holds."""
    taken: dict[tuple[str, bytes], list[tuple[int, bytes | None]]] = {}
    for table, log in logs.items():
        for write in log:
            if write.key.startswith(b"~") and not write.key.startswith(SEAL_PREFIX):
                continue
            seen = taken.setdefault((table, write.key), [])
            if not seen or seen[-1][0] < write.version:
                seen.append((write.version, write.value))
    return taken


def rows(logs: Logs, table: str) -> dict[str, dict[str, Any]]:
    """The rows of Services that exist, as on the wire, by key."""
    found = {
        key.decode(): orjson.loads(value)
        for (each, key), value in compacted(logs).items()
        if each == table and not key.startswith(b"~")
    }
    return {key: row for key, row in found.items() if row["state"] != "deleted"}


STAMPS = ("version", "previous", "asOf", "cause", "change")
"""What a row says of the way that led to it."""


def content(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its stamps."""
    return {name: value for name, value in row.items() if name not in STAMPS}


def restarted(logs: Logs) -> tuple[PartitionFold, int, list[Write]]:
    """A fold that comes back from the tables."""
    again = new_fold()
    for table, log in logs.items():
        for write in log:
            again.load(table, write.key, write.value, write.version)
    offset, writes = again.recover()
    return again, offset, writes
