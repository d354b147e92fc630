"""Deleted rows, kept until their tombstones are due: once the row is older than the resume window."""

from bisect import insort
from collections.abc import Container, Iterator
from typing import NamedTuple

from streams.wire.timestamps import later


class DeletedRow(NamedTuple):
    """`due` is when its tombstone is due, by its cluster's time."""

    due: str
    table: str
    key: str
    version: int


class Tombstones:
    """The deleted rows of a partition, in the order in which their tombstones are due (so that the order is the
    same after recovery: a cluster's clock may step back)."""

    def __init__(self, window_seconds: int) -> None:
        self._window_seconds = window_seconds
        self._rows: dict[str, list[DeletedRow]] = {}

    def __bool__(self) -> bool:
        """Whether any row awaits its tombstone."""
        return any(self._rows.values())

    def schedule(self, cluster: str, at: str, table: str, key: str, version: int) -> None:
        """A row was deleted at a time of its cluster."""
        row = DeletedRow(later(at, self._window_seconds), table, key, version)
        insort(self._rows.setdefault(cluster, []), row)

    def due(self, cluster: str, at: str, tables: Container[str]) -> Iterator[DeletedRow]:
        """Takes out the rows of these tables whose tombstones are due."""
        rows = self._rows.get(cluster, [])
        skipped = []
        while rows and rows[0].due <= at:
            row = rows.pop(0)
            if row.table in tables:
                yield row
            else:
                skipped.append(row)
        rows[:0] = skipped
