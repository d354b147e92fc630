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

from streams.core.errors import FacetsError
from streams.core.partitioning import partition_of
from streams.core.records import SEAL_PREFIX, Seal, decode_row

_SKIP = 4096
"""How many seals wait in bootstrap before the rows below them are applied."""

_MORE = b'"more":true}'
"""How a seal ends that another cluster's seal of the same offset follows."""

_decode_seal = msgspec.json.Decoder(Seal).decode


class _Stamp(msgspec.Struct):
    previous: int | None


_decode_stamp = msgspec.json.Decoder(_Stamp).decode


class ChangelogGap(Exception):
    """A row does not follow the one that is held: something was missed. Start again from a snapshot."""


class InvalidCursor(FacetsError, ValueError):
    """A cursor that no subscription made."""

    exit_code = 65


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
        except (ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise InvalidCursor(
                f"not a cursor of a facets subscription: {error}", "leave the cursor out, to start from a snapshot"
            ) from None


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


EVERYTHING = Filter()


class Batch(NamedTuple):
    """All rows of one journal offset, complete. Without rows it is progress: nothing changed up to the seal."""

    partition: int
    seal: Seal
    rows: tuple[Row, ...]


class _Sealed(NamedTuple):
    """A seal that has come for a table, not decoded: `position` is the offset in the topic after it."""

    offset: int
    position: int
    cluster: str
    value: bytes


class _Partition:
    __slots__ = ("applied", "more", "pending", "seals")

    def __init__(self, tables: Iterable[str], applied: int) -> None:
        self.applied = applied
        self.more: dict[str, Seal] = {}
        self.pending: dict[str, list[tuple[str, int, Row | None]]] = {table: [] for table in tables}
        self.seals: dict[str, deque[_Sealed]] = {table: deque() for table in tables}


class Subscription:
    """`feed` takes records in the order of each topic partition. In bootstrap the rows make up a snapshot and
    nothing is delivered; once it is `complete()`, `ready()` gives it out, and from then on each seal delivers a batch.
    A subscription from a cursor needs none of that."""

    def __init__(self, tables: Iterable[str], partitions: int, wanted: Filter, cursor: Cursor | None = None) -> None:
        self.tables = tuple(tables)
        self.partitions = partitions
        self.wanted = wanted
        self.bootstrapping = cursor is None
        self.seals: dict[tuple[int, str], Seal] = {}
        self._newest: dict[tuple[int, str], tuple[int, bytes]] = {}
        self._held: dict[tuple[str, str], tuple[int, Row | None]] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self._floor = {p: cursor.applied.get(p, -1) if cursor else -1 for p in range(partitions)}
        self._parts = {p: _Partition(self.tables, self._floor[p]) for p in range(partitions)}
        self._positions: dict[tuple[str, int], int] = dict(cursor.positions) if cursor else {}
        self._at = cursor.at if cursor else ""

    @property
    def cursor(self) -> Cursor:
        """Resume after the last delivered batch."""
        return Cursor(self._at, {p: part.applied for p, part in self._parts.items()}, dict(self._positions))

    def complete(self) -> bool:
        """Whether the rows read are those at the cut: at the newest offset that all tables have sealed.

        They are not where a worker ended between its writes to two tables and stayed away for longer than the resume
        window: compaction may then have taken what lies at the cut, because one table is ahead. More has to be read,
        until a worker has brought the tables level.
        """
        for partition, part in self._parts.items():
            self._skip(partition, part)
        return all(self._whole(part) for part in self._parts.values())

    def _whole(self, part: _Partition) -> bool:
        for queue in part.seals.values():
            if any(seal.offset != due for due, seal in enumerate(queue, part.applied + 1)):
                return False
        for table, pending in part.pending.items():
            first: dict[str, Row | None] = {}
            for key, _, row in pending:
                first.setdefault(key, row)
            for key, row in first.items():
                held = self._held.get((table, key), (0, None))[1]
                if row is not None and _decode_stamp(row.value).previous != (held.version if held else None):
                    return False
        return True

    def ready(self) -> tuple[Row, ...]:
        """End the bootstrap: the rows at the sealed cut, without those of deleted Services."""
        for partition, part in self._parts.items():
            self._skip(partition, part)
        self.bootstrapping = False
        for key, (_, value) in self._newest.items():
            self.seals[key] = seal = _decode_seal(value)
            self._at = max(self._at, seal.at)
        held = [(key, row) for key, (_, row) in sorted(self._held.items()) if row is not None]
        self._versions = {key: row.version for key, row in held}
        self._held, self._newest = {}, {}
        return tuple(row for _, row in held if not is_deleted(row.value))

    def feed(
        self, table: str, partition: int, position: int, key: bytes, value: bytes | None, version: int
    ) -> Iterator[Batch]:
        """Take one record; `position` is its offset in the facet topic, `version` its stamp (a seal's offset).
        Raises ChangelogGap."""
        part = self._parts[partition]
        if key.startswith(SEAL_PREFIX):
            if value is None:
                return
            seal = _Sealed(version, position + 1, key[len(SEAL_PREFIX) :].decode(), value)
            queue = part.seals[table]
            if value.endswith(_MORE):
                if self.bootstrapping:
                    self._note(partition, seal)
                elif version > part.applied:
                    part.more[seal.cluster] = _decode_seal(value)
            elif version > part.applied and (not queue or version > queue[-1].offset):
                queue.append(seal)
                if not self.bootstrapping:
                    yield from self._deliver(partition, part)
                elif len(queue) >= _SKIP:
                    self._skip(partition, part)
            elif self.bootstrapping:
                self._note(partition, seal)
            elif version <= part.applied and _decode_seal(value).at > self._at:
                raise ChangelogGap(f"{table}[{partition}]: a newer seal is of an older journal offset, {version}")
        elif not key.startswith(b"~"):
            name = key.decode()
            cluster, namespace, service = name.split("/")
            if not self.wanted.wants(cluster, namespace, service):
                return
            row = None if value is None else Row(table, cluster, namespace, service, version, value)
            if version > part.applied:
                part.pending[table].append((name, version, row))
            elif self.bootstrapping:
                self._hold(table, name, version, row)

    # ---- bootstrap -----------------------------------------------------------------------------------

    def _skip(self, partition: int, part: _Partition) -> None:
        """Apply all up to the newest offset that every table has sealed. Seals on the way are not looked at: a log
        holds a day of them."""
        if not all(part.seals.values()):
            return
        target = min(queue[-1].offset for queue in part.seals.values())
        for table, queue in part.seals.items():
            while queue and queue[0].offset <= target:
                seal = queue.popleft()
                self._positions[table, partition] = seal.position
                self._note(partition, seal)
            later = []
            for each in part.pending[table]:
                if each[1] > target:
                    later.append(each)
                else:
                    self._hold(table, *each)
            part.pending[table] = later
        part.applied = target

    def _note(self, partition: int, seal: _Sealed) -> None:
        known = self._newest.get((partition, seal.cluster))
        if known is None or known[0] < seal.offset:
            self._newest[partition, seal.cluster] = (seal.offset, seal.value)

    def _hold(self, table: str, key: str, version: int, row: Row | None) -> None:
        held = self._held.get((table, key))
        if held is None or held[0] <= version:
            self._held[table, key] = (version, row)

    # ---- live ----------------------------------------------------------------------------------------

    def _deliver(self, partition: int, part: _Partition) -> Iterator[Batch]:
        while all(part.seals.values()):
            target = min(queue[-1].offset for queue in part.seals.values())
            first = max(queue[0].offset for queue in part.seals.values())
            if first > target:
                return
            for table, queue in part.seals.items():
                while queue and queue[0].offset <= first:
                    last = queue.popleft()
                    self._positions[table, partition] = last.position
                    if last.offset == first:
                        seal = _decode_seal(last.value)
            self.seals[partition, seal.cluster] = seal
            self._at = max(self._at, seal.at)
            part.applied = first
            yield Batch(partition, seal, tuple(self._sealed(part, first)))
            for name in [name for name, seal in part.more.items() if seal.offset <= first]:
                self.seals[partition, name] = seal = part.more.pop(name)
                yield Batch(partition, seal, ())

    def _sealed(self, part: _Partition, offset: int) -> Iterator[Row]:
        for table, pending in part.pending.items():
            later = []
            for each in pending:
                key, version, row = each
                if version > offset:
                    later.append(each)
                elif row is None:
                    self._versions.pop((table, key), None)
                elif self._follows(key, row):
                    yield row
            part.pending[table] = later

    def _follows(self, key: str, row: Row) -> bool:
        held = self._versions.get((row.table, key))
        if held is not None and row.version <= held:
            return False
        previous = _decode_stamp(row.value).previous
        floor = self._floor[partition_of(row.namespace, row.name, self.partitions)]
        if previous != held and not (held is None and previous is not None and previous <= floor):
            raise ChangelogGap(
                f"{row.table} {key}: version {row.version} follows {previous}, but {held} is the last one that came"
            )
        self._versions[row.table, key] = row.version
        return True


def is_deleted(value: bytes) -> bool:
    """Whether a row's state is `deleted`, without decoding it (the state comes before any free text)."""
    return value.find(b'"state":"deleted"', 0, 1024) > 0


def reached(seals: Mapping[tuple[int, str], Seal], partition: int, cluster: str, frontier: str, version: str) -> bool:
    """Whether a partition has sealed everything of a cluster's resource type up to a resourceVersion."""
    seal = seals.get((partition, cluster))
    return seal is not None and int(seal.frontier.get(frontier) or 0) >= int(version)
