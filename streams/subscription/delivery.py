"""A subscriber's state: records of the facet topics in, a snapshot and then sealed batches out.

- Rows wait for the seal that covers them: all rows of one journal offset, of all subscribed tables, come together.
- A row whose version is not higher than the one held is a replaced worker's duplicate and is dropped.
- `previous` must be the version held; otherwise a change was missed, and that is an error (`ChangelogGap`).
- A row in parts is delivered whole; its parts, which come before it, wait for its seal with it. One whose parts are not
  there is a gap, too; in a snapshot it is `unknown`.
- A record that can't be read is skipped and reported to `skipped`: no worker wrote it, so nothing is lost.
- Records that are folded here from the journal (`take_folded`) are as good as the changelogs': whichever come first are
  delivered, the others are duplicates. A cursor names the changelogs' positions, which may be behind what is applied.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, product
from typing import NamedTuple

import msgspec

from streams.facets import invariants, row_parts
from streams.facets.changelog_records import UnreadableRecord, is_row_key, read_record, unreadable
from streams.facets.parsed_rows import Facet
from streams.facets.row_parts import is_head, lacks_parts
from streams.fold.table import Write
from streams.subscription.cursor import Cursor
from streams.subscription.facet_records import Compacted
from streams.subscription.freshness import sealed_at
from streams.subscription.part_store import PartStore
from streams.subscription.rows import Filter, Row
from streams.wire.keys import INTERNAL, PART_PREFIX, SEAL_PREFIX, parse_row_key, row_key, row_key_of
from streams.wire.partitioning import partition_of
from streams.wire.records import CLUSTERSET, Seal
from streams.wire.row_codec import is_deleted, stamp_of

_SKIP = 4096
"""How many seals may wait in bootstrap before the rows below them are applied."""

_NO_END = 2**63
"""The journal's end, if it is not known."""

_FOLDED = -1
"""The position of a seal that was folded here: it has none in its topic."""

_MORE = b'"more":true}'
"""The end of a seal that another cluster's seal of the same offset follows."""

_LOST = b',"lost":true'
"""In the seal of a cluster that is lost: looked for before it is known whether the seal can be read."""

_decode_seal = msgspec.json.Decoder(Seal).decode

_UNKNOWN = Seal("", -1, 0, "", 0, "", "", {}, 0)
"""A cluster's seal before it is known: by a cursor alone."""


class ChangelogGap(Exception):
    """A row does not follow the one that is held: a change was missed. Start again from a snapshot."""


class Batch(NamedTuple):
    """All rows of one journal offset, complete. Without rows it is progress: nothing changed up to the seal."""

    partition: int
    seal: Seal
    rows: tuple[Row, ...]


_RawSeal = tuple[int, int, bytes, bytes]
"""A table's seal, not decoded: the journal offset that it seals, the offset in the topic after it, its key and its
value. A plain tuple, as most records that a bootstrap reads are seals."""


_Pending = tuple[bytes, int, Row | bytes | None]
"""A key with its version, and its row; in place of a row the value of a part, and None for a tombstone."""


class _Partition:
    """`pending` are the rows that wait for their seal, by table; in bootstrap they wait in `gathered`, not decoded.
    `passed` is the offset of each table's newest seal that is not above the cut. `holes` are the tables of whose log
    a part is gone, up to its next seal. `more` are seals that another one of their offset follows, by cluster; in
    bootstrap they wait in `gathered_more`, by key and not decoded. `appended` is the newest of the seals applied."""

    __slots__ = ("appended", "applied", "gathered", "gathered_more", "holes", "more", "passed", "pending", "seals")

    def __init__(self, tables: Iterable[str], applied: int) -> None:
        self.applied = applied
        self.appended = ""
        self.holes: set[str] = set()
        self.more: dict[str, Seal] = {}
        self.gathered_more: dict[bytes, tuple[int, bytes]] = {}
        self.passed = dict.fromkeys(tables, applied)
        self.gathered: dict[str, list[tuple[bytes, int, bytes | None]]] = {table: [] for table in tables}
        self.pending: dict[str, list[_Pending]] = {table: [] for table in tables}
        self.seals: dict[str, deque[_RawSeal]] = {table: deque() for table in tables}


class Subscription:
    """`feed` takes records in the order of each topic partition. In bootstrap the rows make up a snapshot and nothing
    is delivered; once it is `complete()`, `ready()` returns it, and from then on each seal delivers a batch. A
    subscription from a cursor needs none of that.

    In bootstrap only the newest record of each key is checked, and only at the end: if it is `doubtful()`, everything
    has to be read again by a `strict` subscription. `journal_ends` are the offsets of the journal's next commits, as
    far as they are known: no record can be of a later one (`beyond` says when to look them up again). `endless` are the
    partitions without such a limit: their journal is not the one that the tables follow from (it is not mirrored, say,
    or was created anew).
    """

    def __init__(
        self,
        tables: Iterable[str],
        partitions: int,
        row_filter: Filter,
        cursor: Cursor | None = None,
        *,
        strict: bool = False,
        skipped: Callable[[str, int, int, str], None] = lambda *_: None,
    ) -> None:
        self.tables = tuple(tables)
        self.partitions = partitions
        self.row_filter = row_filter
        self.bootstrapping = cursor is None
        self.journal_ends: dict[int, int] = {}
        self.endless: set[int] = set()
        self._seals_within: Counter[int] = Counter()
        self._strict = strict
        self._skipped = skipped
        self._doubtful = False
        self._floor = {p: cursor.applied.get(p, -1) if cursor else -1 for p in range(partitions)}
        self._sealed_to = {(table, p): -1 for table in self.tables for p in range(partitions)}
        self.seals: dict[tuple[int, str], Seal] = {}
        self._lost_from: dict[tuple[int, str], int] = {}
        self._newest: dict[int, dict[bytes, tuple[int, bytes]]] = {p: {} for p in range(partitions)}
        self._rows: dict[str, dict[bytes, tuple[int, bytes | None]]] = {table: {} for table in self.tables}
        self._names: dict[bytes, bool] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self._part_stores = {table: PartStore(table) for table in self.tables if table in row_parts.TABLES}
        self._unloaded = set() if cursor is None else set(product(self._part_stores, range(partitions)))
        self._parts = {p: _Partition(self.tables, self._floor[p]) for p in range(partitions)}
        self._positions: dict[tuple[str, int], int] = dict(cursor.positions) if cursor else {}
        self._at = cursor.at if cursor else ""

    @property
    def cursor(self) -> Cursor:
        """Resume after the last delivered batch."""
        return Cursor(self._at, {p: part.applied for p, part in self._parts.items()}, dict(self._positions))

    def complete(self) -> bool:
        """Whether the rows read are those at the cut: at the newest offset that all tables have sealed.

        They are not if a worker ended between its writes to two tables and stayed away for longer than the resume
        window: one table is ahead, and compaction may have removed its rows at the cut. Nor are they if a table has no
        seal of that offset, because the journal had expired there. More has to be read, until a worker has brought the
        tables level.
        """
        for partition, part in self._parts.items():
            self._apply_sealed(partition, part)
        return all(
            part.passed[table] == part.applied and _follow_each_other(part.applied, queue)
            for part in self._parts.values()
            for table, queue in part.seals.items()
        ) and all(
            self._follows_held_rows(table, gathered) and self._leaves_held_parts(table, gathered)
            for part in self._parts.values()
            for table, gathered in part.gathered.items()
        )

    def _follows_held_rows(self, table: str, gathered: Iterable[tuple[bytes, int, bytes | None]]) -> bool:
        """Whether the first row of each key above the cut replaces the one at the cut."""
        first: dict[bytes, bytes | None] = {}
        for key, _, value in gathered:
            if not key.startswith(PART_PREFIX):
                first.setdefault(key, value)
        for key, value in first.items():
            version, held_value = self._rows[table].get(key, (0, None))
            if value is not None and stamp_of(value).previous != (None if held_value is None else version):
                return False
        return True

    def _leaves_held_parts(self, table: str, gathered: Iterable[tuple[bytes, int, bytes | None]]) -> bool:
        """Whether the rows at the cut have the parts that they name, where there are newer ones above it."""
        held = self._rows[table]
        for key in {row_key_of(key) for key, _, _ in gathered if key.startswith(PART_PREFIX)}:
            _, row = held.get(key, (0, None))
            if row is not None and is_head(table, row):
                prefix = b"%b%b/" % (PART_PREFIX, key)
                parts = {each: (at, value) for each, (at, value) in held.items() if value and each.startswith(prefix)}
                if lacks_parts(row, parts, key.decode()):
                    return False
        return True

    def ready(self) -> tuple[Row, ...]:
        """End the bootstrap: the rows at the sealed cut, without those of deleted Services."""
        for partition, part in self._parts.items():
            self._apply_sealed(partition, part)
        self.bootstrapping = False
        for partition, newest in self._newest.items():
            for _, value in newest.values():
                seal = _decode_seal(value)
                self._keep_seal(partition, seal)
                self._at = max(self._at, sealed_at(seal))
        for part in self._parts.values():
            for _, value in part.gathered_more.values():
                more = _decode_seal(value)
                part.more[more.cluster] = more
            part.gathered_more.clear()
            for table, gathered in part.gathered.items():
                part.pending[table] = [_pending(table, key, version, value, None) for key, version, value in gathered]
                gathered.clear()
        for table, rows_by_key in self._rows.items():
            for key in [key for key in rows_by_key if key.startswith(PART_PREFIX)]:
                self._part_stores[table].put(key, *rows_by_key.pop(key))
        rows = [
            Row.parsed(table, key, version, self._joined(table, key, value), None)
            for table, rows_by_key in sorted(self._rows.items())
            for key, (version, value) in sorted(rows_by_key.items())
            if value is not None
        ]
        self._versions = {(row.table, row_key(row.cluster, row.namespace, row.name)): row.version for row in rows}
        self._rows, self._newest, self._names = {}, {}, {}
        return tuple(row for row in rows if not is_deleted(row.value))

    def has_row(self, cluster: str, namespace: str, name: str) -> bool:
        """Whether a row of the Service is held, even a `deleted` one. Only for a selected Service, after `ready`."""
        return any((table, row_key(cluster, namespace, name)) in self._versions for table in self.tables)

    def feed(
        self, table: str, partition: int, position: int, key: bytes, value: bytes | None, version: int
    ) -> Iterable[Batch]:
        """Take one record; `position` is its offset in the facet topic, `version` its stamp (a seal's offset).
        Raises ChangelogGap."""
        if is_row_key(key, table) and not self._wants(key):
            return ()
        readable, facet = self._read(table, partition, position, key, value, version)
        if not readable:
            return ()
        if self.bootstrapping:
            self.gather(table, partition, ((position, key, value, version),))
            return ()
        return self._feed(table, partition, position, key, value, version, facet)

    def resumes_after(self, table: str, partition: int, sealed: int) -> None:
        """The record before the cursor's position is the seal of this offset."""
        self._sealed_to[table, partition] = sealed

    def skip(self, table: str, partition: int) -> None:
        """The next records of the log are gone. None is missed if its next seal is not above what is applied."""
        self._parts[partition].holes.add(table)

    def has_read(self, partition: int, sealed: Mapping[str, int]) -> bool:
        """Whether the log of each table has been read up to its seal of an offset: what is folded from there on
        may be taken."""
        applied = self._parts[partition].applied
        return all(max(applied, self._sealed_to[table, partition]) >= offset for table, offset in sealed.items())

    def take_folded(self, partition: int, writes: Iterable[Write]) -> Iterable[Batch]:
        """Take the records that a commit makes, as folded here; only those beyond what the tables had sealed when the
        fold began. Raises ChangelogGap."""
        part = self._parts[partition]
        for table, key, value, version in writes:
            if version <= part.applied:
                continue
            if key.startswith(SEAL_PREFIX):
                if value is not None and (not part.seals[table] or version > part.seals[table][-1][0]):
                    self._put_folded_seal(partition, part, table, (version, _FOLDED, key, value))
            elif not self._wants(key):
                continue
            elif self.bootstrapping:
                part.gathered[table].append((key, version, value))
            else:
                part.pending[table].append(_pending(table, key, version, value, None))
        if not self.bootstrapping:
            return self._deliver(partition, part)
        if len(part.seals[self.tables[0]]) >= _SKIP:
            self._apply_sealed(partition, part)
        return ()

    def _put_folded_seal(self, partition: int, part: _Partition, table: str, raw: _RawSeal) -> None:
        version, _, key, value = raw
        if not value.endswith(_MORE):
            part.seals[table].append(raw)
        elif self.bootstrapping:
            part.gathered_more[key] = (version, value)
        else:
            more = _decode_seal(value)
            part.more[more.cluster] = more

    def end(self, partition: int) -> int:
        """The offset of the journal's next commit, as far as it is known and a limit."""
        return _NO_END if partition in self.endless else self.journal_ends.get(partition, _NO_END)

    def beyond(self, table: str, partition: int, version: int) -> bool:
        """Whether a record of this version may be ahead of its journal's known end. Live, offsets are sealed one after
        the other, so only a leap is suspicious."""
        if version < self.journal_ends.get(partition, 0) or partition in self.endless:
            return False
        if self.bootstrapping:
            return True
        sealed = max(self._sealed_to[table, partition], self._parts[partition].applied)
        return version > sealed + 1

    def readable(self, table: str, partition: int, key: bytes, value: bytes | None, version: int) -> bool:
        """Whether a worker can have written the record."""
        return not self._is_ahead(table, partition, version) and not unreadable(table, key, value, version)

    def _is_ahead(self, table: str, partition: int, version: int) -> bool:
        return partition in self.journal_ends and self.beyond(table, partition, version)

    def _read(
        self, table: str, partition: int, position: int, key: bytes, value: bytes | None, version: int
    ) -> tuple[bool, Facet | None]:
        """Whether a record can be read, and the facet if it is a row."""
        why, facet = "", None
        try:
            facet = read_record(table, key, value, version)
        except UnreadableRecord as error:
            why = str(error)
        if not why and self._is_ahead(table, partition, version):
            why = f"its version {version} is ahead of the journal, which ends at {self.journal_ends[partition]}"
        if why:
            self._skipped(table, partition, position, why)
        return not why, facet

    def _feed(
        self,
        table: str,
        partition: int,
        position: int,
        key: bytes,
        value: bytes | None,
        version: int,
        facet: Facet | None,
    ) -> Iterator[Batch]:
        part = self._parts[partition]
        if table in part.holes and version > part.applied:
            raise Compacted(f"{table}[{partition}]: records before offset {position} are gone")
        if key.startswith(SEAL_PREFIX):
            if value is not None:
                yield from self._feed_seal(table, partition, (version, position + 1, key, value))
        elif not self._wants(key):
            return
        elif version > part.applied:
            part.pending[table].append(_pending(table, key, version, value, facet))
        elif key.startswith(PART_PREFIX):
            # Of before the cursor, or folded here.
            self._part_stores[table].put(key, version, value)

    def _feed_seal(self, table: str, partition: int, raw: _RawSeal) -> Iterator[Batch]:
        part = self._parts[partition]
        version, position, _, value = raw
        queue = part.seals[table]
        if value.endswith(_MORE):
            if version > part.applied:
                more = _decode_seal(value)
                part.more[more.cluster] = more
            return
        sealed_before = self._sealed_to[table, partition]
        is_newest = version > sealed_before
        if is_newest:
            self._sealed_to[table, partition] = version
            part.holes.discard(table)
            # What was applied beyond the table was folded here, or where the cursor comes from.
            is_ahead = part.applied > sealed_before
            if is_ahead and _LOST in value and not self.is_known_lost(partition, value, sealed_before):
                raise ChangelogGap(f"{table}[{partition}]: what was folded after {sealed_before} is lost in the tables")
        if version <= part.applied:
            seal = _decode_seal(value)
            # By the watcher's clock alone, a commit that is in the journal twice would have time go backwards.
            if sealed_at(seal) > self._at and not "" < seal.appended <= part.appended:
                raise ChangelogGap(f"{table}[{partition}]: a newer seal is of an older journal offset, {version}")
            if is_newest:
                self._positions[table, partition] = position
        elif not queue or version > queue[-1][0]:
            queue.append(raw)
            yield from self._deliver(partition, part)

    def _keep_seal(self, partition: int, seal: Seal) -> None:
        key = partition, seal.cluster
        self.seals[key] = seal
        part = self._parts[partition]
        part.appended = max(part.appended, seal.appended)
        if not seal.lost:
            self._lost_from.pop(key, None)
        else:
            self._lost_from.setdefault(key, seal.offset)

    def is_known_lost(self, partition: int, value: bytes, sealed: int) -> bool:
        """Whether the seal's cluster was lost already at this offset: then it is no new loss."""
        return self._lost_from.get((partition, _decode_seal(value).cluster), _NO_END) <= sealed

    def _wants(self, key: bytes) -> bool:
        """Whether it is the key of a selected row, or of a part of one."""
        if key.startswith(PART_PREFIX):
            key = row_key_of(key)
        return is_row_key(key, CLUSTERSET) and self.row_filter.wants(*parse_row_key(key.decode()))

    # ---- bootstrap -----------------------------------------------------------------------------------

    # One loop: a log has millions of records, and a call for each would cost more than the rest.
    def gather(  # noqa: C901
        self, table: str, partition: int, records: Iterable[tuple[int, bytes, bytes | None, int]]
    ) -> None:
        """Take records (position, key, value and version as in `feed`) in bootstrap, where later records replace most
        of them: each is checked as little as possible."""
        part = self._parts[partition]
        queue, names, gathered = part.seals[table], self._names, part.gathered[table]
        end = self.end(partition)
        within, sealed_to = 0, self._sealed_to[table, partition]
        for position, key, value, version in records:
            if self._strict:
                if not self._read(table, partition, position, key, value, version)[0]:
                    continue
            elif not 0 <= version < end:
                self._doubtful = True
                within -= key.startswith(SEAL_PREFIX) and version >= end
                continue
            if key.startswith(SEAL_PREFIX):
                within += 1
                if value is None:
                    continue
                if value.endswith(_MORE) and version > part.applied:
                    if version > part.gathered_more.get(key, (-1,))[0]:
                        part.gathered_more[key] = (version, value)
                    continue
                if value.endswith(_MORE) or version <= part.applied or (queue and version <= queue[-1][0]):
                    self._note(partition, version, key, value)
                    continue
                queue.append((version, position + 1, key, value))
                sealed_to = version
                if len(queue) >= _SKIP:
                    self._apply_sealed(partition, part)
            elif not key.startswith(INTERNAL) or key.startswith(PART_PREFIX):
                is_wanted = names.get(key)
                if is_wanted is None:
                    is_wanted = names[key] = self._wants(key)
                if not is_wanted:
                    continue
                if version > part.applied:
                    gathered.append((key, version, value))
                else:
                    self._hold(table, key, version, value)
        self._seals_within[partition] += within
        self._sealed_to[table, partition] = sealed_to

    def of_another_journal(self) -> set[int]:
        """Partitions most of whose seals are ahead of the journal: the tables do not follow from it."""
        return {partition for partition, count in self._seals_within.items() if count < 0}

    def doubtful(self) -> bool:
        """Whether there are records that can't be read: what they hide is unknown. Call it at the end of the bootstrap,
        before `complete`."""
        if not self._doubtful and not self._strict:
            newest_seals = (
                (self.tables[0], key, *record) for seals in self._newest.values() for key, record in seals.items()
            )
            queued_seals = (
                (table, key, version, value)
                for part in self._parts.values()
                for table, queue in part.seals.items()
                for version, _, key, value in queue
            )
            more_seals = (
                (self.tables[0], key, *record)
                for part in self._parts.values()
                for key, record in part.gathered_more.items()
            )
            held_rows = ((table, key, *record) for table, rows in self._rows.items() for key, record in rows.items())
            waiting_rows = (
                (table, key, version, value)
                for part in self._parts.values()
                for table, rows in part.gathered.items()
                for key, version, value in rows
            )
            self._doubtful = any(
                unreadable(table, key, value, version)
                for table, key, version, value in chain(newest_seals, queued_seals, more_seals, held_rows, waiting_rows)
            )
        return self._doubtful

    def _apply_sealed(self, partition: int, part: _Partition) -> None:
        """Apply everything up to the newest offset that every table has sealed. Seals on the way are not decoded: a log
        holds a day of them."""
        if not all(part.seals.values()):
            return
        target = min(queue[-1][0] for queue in part.seals.values())
        invariants.assert_advances(partition, part.applied, target)
        for table, queue in part.seals.items():
            self._pass_seals(table, partition, queue, target)
            self._hold_rows(table, part.gathered[table], target)
        for key, (offset, value) in list(part.gathered_more.items()):
            if offset <= target:
                self._note(partition, offset, key, value)
                del part.gathered_more[key]
        part.applied = target

    def _pass_seals(self, table: str, partition: int, queue: deque[_RawSeal], target: int) -> None:
        while queue and queue[0][0] <= target:
            offset, position, key, value = queue.popleft()
            self._parts[partition].passed[table] = offset
            self._set_position(table, partition, position)
            self._note(partition, offset, key, value)

    def _hold_rows(self, table: str, gathered: list[tuple[bytes, int, bytes | None]], target: int) -> None:
        """Hold the rows up to the target; those above it keep waiting."""
        waiting = []
        for record in gathered:
            if record[1] > target:
                waiting.append(record)
            else:
                self._hold(table, *record)
        gathered[:] = waiting

    def _note(self, partition: int, offset: int, key: bytes, value: bytes) -> None:
        newest = self._newest[partition]
        at, current = newest.get(key, (-1, b""))
        if at < offset or (at == offset and current != value and _LOST in value):
            newest[key] = (offset, value)

    def _hold(self, table: str, key: bytes, version: int, value: bytes | None) -> None:
        current = self._rows[table].get(key)
        if current is None or current[0] <= version:
            self._rows[table][key] = (version, value)

    # ---- live ----------------------------------------------------------------------------------------

    def _deliver(self, partition: int, part: _Partition) -> Iterator[Batch]:
        while (offset := self._next_cut(partition, part)) is not None:
            invariants.assert_advances(partition, part.applied + 1, offset)
            values: dict[bytes, None] = {}
            for table, queue in part.seals.items():
                _, position, _, value = queue.popleft()
                values[value] = values.pop(value, None)
                self._set_position(table, partition, position)
            # They are one, but where the journal expired: the tables that had sealed less have others.
            *others, seal = [_decode_seal(each) for each in values]
            self._keep_seal(partition, seal)
            self._at = max(self._at, sealed_at(seal), *map(sealed_at, others))
            part.applied = offset
            yield Batch(partition, seal, tuple(self._sealed(part, offset)))
            due = [name for name, more in part.more.items() if more.offset <= offset]
            for more in chain((part.more.pop(name) for name in due), others):
                if self._is_newer(partition, more):
                    self._keep_seal(partition, more)
                    yield Batch(partition, msgspec.structs.replace(more, more=True), ())

    def _is_newer(self, partition: int, seal: Seal) -> bool:
        """Whether the seal says more of its cluster than the one that was delivered: a cluster is lost if any table
        says so."""
        known = self.seals.get((partition, seal.cluster), _UNKNOWN)
        return (seal.offset, seal.lost) > (known.offset, known.lost)

    def _next_cut(self, partition: int, part: _Partition) -> int | None:
        """The next offset that every table has sealed, if it is known. Seals before it are passed: a table has none of
        an offset that it lost when the journal expired."""
        while all(part.seals.values()):
            highest = max(queue[0][0] for queue in part.seals.values())
            behind = [(table, queue) for table, queue in part.seals.items() if queue[0][0] < highest]
            if not behind:
                return highest
            if any(queue[-1][0] < highest for _, queue in behind):
                return None
            for table, queue in behind:
                while queue[0][0] < highest:
                    self._set_position(table, partition, queue.popleft()[1])
        return None

    def _set_position(self, table: str, partition: int, position: int) -> None:
        if position != _FOLDED:
            self._positions[table, partition] = position
        else:
            # Of a table that no worker has written yet, all is to be read.
            self._positions.setdefault((table, partition), 0)

    def _sealed(self, part: _Partition, offset: int) -> Iterator[Row]:
        for table, pending in part.pending.items():
            waiting = []
            for pending_row in pending:
                key, version, row = pending_row
                if version > offset:
                    waiting.append(pending_row)
                elif key.startswith(PART_PREFIX):
                    self._part_stores[table].put(key, version, row)  # type: ignore[arg-type]
                elif not isinstance(row, Row):
                    self._versions.pop((table, key.decode()), None)
                elif self._follows(key.decode(), row):
                    yield self._whole(key.decode(), row)
            part.pending[table] = waiting

    def _follows(self, key: str, row: Row) -> bool:
        last_version = self._versions.get((row.table, key))
        if last_version is not None and row.version <= last_version:
            return False
        previous = row.facet.previous
        floor = self._floor[partition_of(row.namespace, row.name, self.partitions)]
        if previous != last_version and not (last_version is None and previous is not None and previous <= floor):
            raise ChangelogGap(
                f"{row.table} {key}: version {row.version} follows {previous}, but the last received is {last_version}"
            )
        self._versions[row.table, key] = row.version
        return True

    def _whole(self, key: str, row: Row) -> Row:
        """The row in its whole form."""
        if not is_head(row.table, row.value):
            return row
        joined = self._part_stores[row.table].join(key, row.value)
        if joined.missing:
            slices = ", ".join(joined.missing)
            text = f"{row.table} {key}: version {row.version} names parts that are not there: {slices}"
            # Those of before a cursor are gone once they, and what replaced them, are older than the window.
            has_resumed = self._floor[partition_of(row.namespace, row.name, self.partitions)] >= 0
            raise Compacted(text) if has_resumed else ChangelogGap(text)
        whole = row._replace(value=joined.row)
        whole.facet = self._part_stores[row.table].facet(key, row.value)
        return whole

    def _joined(self, table: str, key: bytes, value: bytes) -> bytes:
        """The whole form of a row at the cut; one whose parts are lost is `unknown`."""
        return self._part_stores[table].join(key.decode(), value).row if is_head(table, value) else value

    # ---- parts of before a cursor --------------------------------------------------------------------

    def lacks_parts(self, table: str, partition: int, key: bytes, value: bytes | None) -> bool:
        """Whether the record is a row in parts, of which those that were written before the cursor are not held:
        `load_parts` takes them."""
        return (table, partition) in self._unloaded and value is not None and is_head(table, value) and self._wants(key)

    def load_parts(self, table: str, partition: int, records: Iterable[tuple[int, bytes, bytes | None, int]]) -> None:
        """Take the parts among the records (as in `gather`) that the table's log has from its beginning up to here."""
        self._unloaded.discard((table, partition))
        applied = self._parts[partition].applied
        for _, key, value, version in records:
            is_part = key.startswith(PART_PREFIX) and 0 <= version <= applied and self._wants(key)
            if is_part and not unreadable(table, key, value, version):
                self._part_stores[table].put(key, version, value)


def _pending(table: str, key: bytes, version: int, value: bytes | None, facet: Facet | None) -> _Pending:
    is_row = value is not None and not key.startswith(PART_PREFIX)
    return key, version, Row.parsed(table, key, version, value, facet) if is_row else value  # type: ignore[arg-type]


def _follow_each_other(applied: int, queue: Iterable[_RawSeal]) -> bool:
    """Whether the seals above the cut are those of the next offsets, without a hole."""
    return all(seal[0] == due for due, seal in enumerate(queue, applied + 1))


def reached(seals: Mapping[tuple[int, str], Seal], partition: int, cluster: str, frontier: str, version: str) -> bool:
    """Whether a partition has sealed everything of a cluster's resource type up to a resourceVersion."""
    seal = seals.get((partition, cluster))
    return seal is not None and int(seal.frontier.get(frontier) or 0) >= int(version)
