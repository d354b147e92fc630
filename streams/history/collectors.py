"""What is kept of the rows that a replay makes. Collectors are pickled: they cross to other processes and back."""

from typing import Protocol

from streams.subscription.rows import Row

Place = tuple[str, str, str, str]
"""A row's table, cluster, namespace and name."""


class RowCollector(Protocol):
    """Takes the rows of one partition, in their order: a deleted row has a value, a tombstone's is empty."""

    def take(self, row: Row) -> None:
        """Take the next row."""


class AllRows:
    """Each row that was made."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def take(self, row: Row) -> None:
        """Keep the row."""
        self.rows.append(row)


class TableRows:
    """The newest row of each Service in each table, without tombstones."""

    def __init__(self) -> None:
        self.rows: dict[Place, Row] = {}

    def take(self, row: Row) -> None:
        """Keep the row in place of the one before it."""
        place = (row.table, row.cluster, row.namespace, row.name)
        if row.value:
            self.rows[place] = row
        else:
            self.rows.pop(place, None)


class LastRows:
    """The last rows by their times, at most `last`, of these tables (none: of all) and from a time on; and of each
    Service, whether or not a row of it is among them, the first row."""

    def __init__(self, tables: tuple[str, ...], since: str, last: int) -> None:
        self._tables = tables
        self._since = since
        self._last = last
        self._rows: list[tuple[str, int, Row]] = []
        self.services: dict[tuple[str, str, str], Row] = {}

    def take(self, row: Row) -> None:
        """Keep the row, if it may be one of them; a tombstone is not a row."""
        self.services.setdefault((row.cluster, row.namespace, row.name), row)
        if not row.value or (self._tables and row.table not in self._tables) or (at := commit_time(row)) < self._since:
            return
        self._rows.append((at, row.version, row))
        if len(self._rows) > 4 * self._last:
            self._rows = sorted(self._rows)[-self._last :]

    def add(self, other: "LastRows") -> None:
        """Take what another partition's collector has."""
        self.services |= other.services
        self._rows = sorted(self._rows + other._rows)[-self._last :]

    def rows(self) -> list[Row]:
        """The rows, oldest first."""
        return [row for _, _, row in sorted(self._rows)[-self._last :]]


def commit_time(row: Row) -> str:
    """The time of the commit that made a row."""
    # Searched for, not decoded: a replay makes very many rows.
    start = row.value.index(b'"at":"', row.value.index(b'"asOf":')) + 6
    return row.value[start : row.value.index(b'"', start)].decode()
