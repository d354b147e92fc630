"""A subscriber's state: records of the facet topics in, a snapshot and then sealed batches out.

- Rows wait for the seal that covers them: all rows of one journal offset, of all subscribed tables, come together.
- A row whose version is not higher than the one held is a replaced worker's duplicate and is dropped.
- `previous` must be the version held; if it isn't, a change was missed, and that is an error (`ChangelogGap`).
"""

import base64
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from streams.core.partitioning import partition_of
from streams.core.records import SEAL_PREFIX, Seal, decode_row

_decode_seal = msgspec.json.Decoder(Seal).decode


class _Stamp(msgspec.Struct):
    previous: int | None


_decode_stamp = msgspec.json.Decoder(_Stamp).decode


class ChangelogGap(Exception):
    """A row does not follow the one that is held: something was missed. Start again from a snapshot."""


class InvalidCursor(ValueError):
    """A cursor that this subscription did not make."""


class Row(NamedTuple):
    """A facet row as delivered; `value` is its wire form."""

    table: str
    cluster: str
    namespace: str
    name: str
    version: int
    value: bytes

    def decode(self) -> dict[str, Any]:
        """The row as the commands print it."""
        return decode_row(self.table, self.value)


class Cursor(NamedTuple):
    """Where a subscriber stands: for each partition the journal offset that is applied, and for each table the
    offset of its topic to read on from. `at` is the time of the newest seal applied."""

    at: str
    applied: dict[int, int]
    positions: dict[tuple[str, int], int]

    def encode(self) -> str:
        """As opaque text."""
        tables: dict[str, dict[str, int]] = {}
        for (table, partition), position in sorted(self.positions.items()):
            tables.setdefault(table, {})[str(partition)] = position
        body = {"at": self.at, "applied": {str(p): o for p, o in sorted(self.applied.items())}, "tables": tables}
        return base64.urlsafe_b64encode(msgspec.json.encode(body)).decode()

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        """Raises InvalidCursor."""
        try:
            body = msgspec.json.decode(base64.urlsafe_b64decode(text.encode()), type=_CursorBody)
            return cls(
                body.at,
                {int(p): offset for p, offset in body.applied.items()},
                {(table, int(p)): at for table, ps in body.tables.items() for p, at in ps.items()},
            )
        except (ValueError, msgspec.MsgspecError) as error:
            raise InvalidCursor(f"not a cursor of a facets subscription: {error}") from None


class _CursorBody(msgspec.Struct):
    at: str
    applied: dict[str, int]
    tables: dict[str, dict[str, int]]


class Filter(NamedTuple):
    """Which rows are wanted; an empty set means all. Seals are never dropped."""

    clusters: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()

    def wants(self, cluster: str, namespace: str, name: str) -> bool:
        """Whether a row is wanted."""
        return (
            (not self.clusters or cluster in self.clusters)
            and (not self.namespaces or namespace in self.namespaces)
            and (not self.services or name in self.services)
        )


class Batch(NamedTuple):
    """All rows of one journal offset, complete. Without rows it is progress: nothing changed up to the seal."""

    partition: int
    seal: Seal
    rows: tuple[Row, ...]


class _Partition:
    __slots__ = ("applied", "pending", "seals")

    def __init__(self, tables: Iterable[str], applied: int) -> None:
        self.applied = applied
        self.pending: dict[str, list[Row | tuple[str, int]]] = {table: [] for table in tables}
        self.seals: dict[str, deque[tuple[Seal, int]]] = {table: deque() for table in tables}


class Subscription:
    """`feed` takes records in the order of each topic partition. In bootstrap the rows make up `held` and
    nothing is delivered; after `ready()` each seal delivers a batch. A subscription from a cursor needs none."""

    def __init__(self, tables: Iterable[str], partitions: int, wanted: Filter, cursor: Cursor | None = None) -> None:
        self.tables = tuple(tables)
        self.partitions = partitions
        self.wanted = wanted
        self.bootstrapping = cursor is None
        self.held: dict[tuple[str, str], Row] = {}
        self.seals: dict[tuple[int, str], Seal] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self._floor = {p: cursor.applied.get(p, -1) if cursor else -1 for p in range(partitions)}
        self._parts = {p: _Partition(self.tables, self._floor[p]) for p in range(partitions)}
        self._positions: dict[tuple[str, int], int] = dict(cursor.positions) if cursor else {}
        self._at = cursor.at if cursor else ""

    @property
    def cursor(self) -> Cursor:
        """Resume after the last delivered batch."""
        return Cursor(self._at, {p: part.applied for p, part in self._parts.items()}, dict(self._positions))

    def ready(self) -> tuple[Row, ...]:
        """End the bootstrap: the rows at the sealed cut, without those of deleted Services."""
        self.bootstrapping = False
        rows = [row for _, row in sorted(self.held.items()) if b'"state":"deleted"' not in row.value[:1024]]
        self._versions = {key: row.version for key, row in self.held.items()}
        self._floor = {p: part.applied for p, part in self._parts.items()}
        self.held = {}
        return tuple(rows)

    def feed(
        self, table: str, partition: int, position: int, key: bytes, value: bytes | None, version: int
    ) -> Iterator[Batch]:
        """Take one record; `position` is its offset in the facet topic. Raises ChangelogGap."""
        part = self._parts[partition]
        if key.startswith(SEAL_PREFIX):
            if value is None:
                return
            seal = _decode_seal(value)
            queue = part.seals[table]
            if seal.offset > part.applied and (not queue or seal.offset > queue[-1][0].offset):
                queue.append((seal, position + 1))
                yield from self._deliver(partition, part)
            elif self.bootstrapping:
                self.seals.setdefault((partition, seal.cluster), seal)
        elif not key.startswith(b"~"):
            cluster, namespace, name = key.decode().split("/")
            if self.wanted.wants(cluster, namespace, name) and version > part.applied:
                part.pending[table].append(
                    (key.decode(), version) if value is None else Row(table, cluster, namespace, name, version, value)
                )
            elif self.bootstrapping and self.wanted.wants(cluster, namespace, name):
                self._hold(table, key.decode(), version, value)

    def _hold(self, table: str, key: str, version: int, value: bytes | None) -> None:
        held = self.held.get((table, key))
        if held is not None and held.version > version:
            return
        if value is None:
            self.held.pop((table, key), None)
        else:
            cluster, namespace, name = key.split("/")
            self.held[table, key] = Row(table, cluster, namespace, name, version, value)

    def _deliver(self, partition: int, part: _Partition) -> Iterator[Batch]:
        while all(part.seals.values()):
            target = min(queue[-1][0].offset for queue in part.seals.values())
            ahead = [queue[0] for queue in part.seals.values()]
            first = max(seal.offset for seal, _ in ahead)
            if first > target:
                return
            for table, queue in part.seals.items():
                while queue and queue[0][0].offset <= first:
                    seal, self._positions[table, partition] = queue.popleft()
            self.seals[partition, seal.cluster] = seal
            self._at = max(self._at, seal.at)
            part.applied = first
            rows = tuple(self._sealed(part, first))
            if not self.bootstrapping:
                yield Batch(partition, seal, rows)

    def _sealed(self, part: _Partition, offset: int) -> Iterator[Row]:
        for table, pending in part.pending.items():
            later: list[Row | tuple[str, int]] = []
            for row in pending:
                if (row.version if isinstance(row, Row) else row[1]) > offset:
                    later.append(row)
                elif isinstance(row, Row):
                    key = f"{row.cluster}/{row.namespace}/{row.name}"
                    if self.bootstrapping:
                        self._hold(table, key, row.version, row.value)
                    elif self._follows(table, key, row):
                        yield row
                elif self.bootstrapping:
                    self._hold(table, row[0], row[1], None)
                else:
                    self._versions.pop((table, row[0]), None)
            part.pending[table] = later

    def _follows(self, table: str, key: str, row: Row) -> bool:
        held = self._versions.get((table, key))
        if held is not None and row.version <= held:
            return False
        previous = _decode_stamp(row.value).previous
        floor = self._floor[self._partition_of(row)]
        if previous != held and not (held is None and previous is not None and previous <= floor):
            raise ChangelogGap(
                f"{table} {key}: version {row.version} follows {previous}, but {held} is the last one that came"
            )
        self._versions[table, key] = row.version
        return True

    def _partition_of(self, row: Row) -> int:
        return partition_of(row.namespace, row.name, self.partitions)


def reached(seals: Mapping[tuple[int, str], Seal], partition: int, cluster: str, frontier: str, version: str) -> bool:
    """Whether a partition has sealed everything of a cluster's resource type up to a resourceVersion."""
    seal = seals.get((partition, cluster))
    return seal is not None and int(seal.frontier.get(frontier) or 0) >= int(version)
