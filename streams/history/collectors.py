"""What is kept of the rows that a replay makes. Collectors are pickled: they cross to other processes and back."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Protocol

from streams.history.queries import holders
from streams.subscription.rows import Row
from streams.wire.partitioning import partition_of

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


class RowsThrough:
    """Of each Service the newest row up to its version in `versions` or, where it has none, in its partition (of so
    many) in `offsets`; and of each Service, whether or not it is among them, the first row. With a cluster only its
    rows and the clusterset's."""

    def __init__(
        self, versions: Mapping[tuple[str, str], int], cluster: str, offsets: Mapping[int, int], partitions: int
    ) -> None:
        self._versions = versions
        self._offsets = offsets
        self._partitions = partitions
        self._cluster = cluster
        self._newest = TableRows()
        self.services: dict[tuple[str, str, str], Row] = {}

    @property
    def rows(self) -> list[Row]:
        """The rows."""
        return list(self._newest.rows.values())

    def take(self, row: Row) -> None:
        """Keep the row in place of the one before it, if it is not beyond its Service's version."""
        self.services.setdefault((row.cluster, row.namespace, row.name), row)
        version = self._versions.get((row.namespace, row.name))
        if version is None:
            version = self._offsets.get(partition_of(row.namespace, row.name, self._partitions), -1)
        if row.version <= version and (not self._cluster or row.cluster in {"", self._cluster}):
            self._newest.take(row)

    def add(self, other: "RowsThrough") -> None:
        """Take what another partition's collector has."""
        self.services |= other.services
        self._newest.rows |= other._newest.rows


class AddressHoldings:
    """Which rows have an address (with ports: at one of them), and from which version on each had it or not."""

    def __init__(self, address: str, ports: tuple[int, ...] = ()) -> None:
        self._address = address
        self._ports = ports
        self._is_ipv6 = ip_address(address).version == 6
        self._changes: dict[Place, list[tuple[int, bool]]] = {}
        self.rows: dict[Place, Row] = {}
        """The newest rows that have it."""
        self.clusters: dict[str, Row] = {}
        """Some row of each cluster."""

    def take(self, row: Row) -> None:
        """Look at the row in place of the one before it."""
        place = (row.table, row.cluster, row.namespace, row.name)
        self.clusters.setdefault(row.cluster, row)
        # An IPv6 address has many forms, but most rows have none.
        may_have = bool(row.value) and not (self._is_ipv6 and b'"IPv6"' not in row.value)
        has = may_have and any(True for _ in holders(self._address, (row,), self._ports))
        if has:
            self.rows[place] = row
        else:
            self.rows.pop(place, None)
        changes = self._changes.get(place)
        if changes is None and has:
            self._changes[place] = [(row.version, True)]
        elif changes is not None and changes[-1][1] != has:
            changes.append((row.version, has))

    def add(self, other: "AddressHoldings") -> None:
        """Take what another partition's collector has."""
        self.rows |= other.rows
        self.clusters |= other.clusters
        self._changes |= other._changes

    def services(self) -> list[tuple[str, str]]:
        """The Services that have it or had it, as namespace and name."""
        return sorted({(namespace, name) for _, _, namespace, name in self._changes})

    def places(self, service: tuple[str, str]) -> list[Place]:
        """A Service's rows that have it or had it."""
        return [place for place in self._changes if place[2:] == service]

    def has(self, place: Place, version: int | None = None) -> bool:
        """Whether a row has it, or had it up to this version."""
        if version is None:
            return place in self.rows
        return next((has for at, has in reversed(self._changes[place]) if at <= version), False)


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
        if (
            not row.value
            or (self._tables and row.table not in self._tables)
            or (at := commit_time(row.value)) < self._since
        ):
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


def commit_time(row: bytes) -> str:
    """The time of the commit that made a row, whole or in parts."""
    # Searched for, not decoded: a replay makes very many rows.
    start = row.index(b'"at":"', row.index(b'"asOf":')) + 6
    return row[start : row.index(b'"', start)].decode()
