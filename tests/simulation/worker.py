"""A worker's hold on one partition as a model around the real fold: reading the changelogs back, folding, writing
each topic in order and the topics in any, acknowledging, and the repair of a replaced worker's late rows.

It follows streams.worker.app and changelog.
"""

from collections import deque
from collections.abc import Iterator

import orjson

from streams.facets import changelog_records
from streams.fold.fold import JournalGap, PartitionFold
from streams.fold.table import Write
from streams.wire.keys import PART_PREFIX, SEAL_PREFIX, is_row
from tests.simulation.base import Base, stamp_of
from tests.simulation.kafka import Record

_MAX_IN_FLIGHT = 12
_FETCH = 6


class Fatal(Exception):
    """The worker's process ends: it must not go on."""


class Worker:
    """One assignment of one partition. `done` once its process has ended or it was told that it is replaced."""

    def __init__(self, sim: Base, partition: int) -> None:
        self.sim = sim
        self.rng = sim.rng
        self.partition = partition
        self.done = False
        self.assigned = False
        self.fold = PartitionFold(partition, sim.rules, sim.window_ms // 1000)
        self._queues: dict[str, deque[tuple[Write, int]]] = {
            table: deque() for table in (*sim.table_names, "deadletter")
        }
        self._expected: dict[str, int] = {}
        self._store: dict[str, dict[bytes, bytes]] = {table: {} for table in sim.table_names}
        self._commits = 0
        self._in_flight: dict[int, tuple[int, int]] = {}
        self._repairs: list[tuple[str, int, int, bool]] = []
        self._first = set(sim.table_names)
        self._versions: dict[tuple[str, bytes], int] = {}
        self._slow = self.rng.choice((None, None, *sim.table_names))
        self._working = self._main()

    @property
    def idle(self) -> bool:
        """Whether everything in the journal is folded and written."""
        return self.fold.next_offset == self.sim.journal[self.partition].end and not self._waiting and not self._repairs

    @property
    def _waiting(self) -> list[str]:
        return [table for table, queue in self._queues.items() if queue]

    @property
    def between_two_writes(self) -> bool:
        """Whether some of what one commit made is written, and the rest is not."""
        return any(left < made for left, made in self._in_flight.values())

    def step(self) -> None:
        """Go on to the next point where another process may come between."""
        if self.done:
            return
        try:
            next(self._working)
        except (Fatal, JournalGap):
            self.done = True

    def _main(self) -> Iterator[None]:
        yield from self._assign()
        self.assigned = True
        log = self.sim.journal[self.partition]
        while True:
            self._repair()
            if self._waiting and (self.rng.random() < 0.6 or len(self._in_flight) >= _MAX_IN_FLIGHT):
                for _ in range(self.rng.randrange(1, 8)):
                    if self._waiting:
                        self._send()
            else:
                for _ in range(self.rng.randrange(1, _FETCH)):
                    record = log.read(self.fold.next_offset or 0)
                    if record is None or len(self._in_flight) >= _MAX_IN_FLIGHT:
                        break
                    self._put(self._fold(record))
            yield

    def _fold(self, record: Record) -> list[Write]:
        return self.fold.step(record.offset, record.value, stamp_of(record.ms))

    def _assign(self) -> Iterator[None]:
        newest: dict[tuple[str, bytes], int] = {}
        ends: dict[str, int] = {}
        overwrites: list[Write] = []
        for table in self.sim.table_names:
            log = self.sim.tables[table, self.partition]
            ends[table] = end = log.end
            hiding: dict[bytes, None] = {}
            for record in list(log.records):
                if record.offset >= end:
                    break
                if self._unreadable(table, record):
                    hiding[record.key] = None
                    continue
                hiding.pop(record.key, None)
                self.fold.load(table, record.key, record.value, record.version)
                if record.version >= newest.get((table, record.key), -1):
                    newest[table, record.key] = record.version
                    self._keep(table, record.key, record.value, record.version)
                elif record.key.startswith(SEAL_PREFIX):
                    hiding[record.key] = None
            self._expected[table] = end
            overwrites += [write for key in hiding for write in self._overwrite(table, key)]
            if self.rng.random() < 0.3:
                yield
        resume, writes = self.fold.recover()
        if self.rng.random() < 0.3:
            yield
        first = self.sim.journal[self.partition].begin
        if resume < first:
            if any(self.sim.tables[table, self.partition].end != end for table, end in ends.items()):
                # A predecessor wrote since the changelogs were read: one that the journal's retention has outlived
                # is not awake (see Chaos.outlived).
                raise Fatal
            self.sim.journal_expired(self.partition, first)
            writes = [*writes, *self.fold.expire(first)]
        self._put([*overwrites, *writes])
        while self._waiting:
            self._send()
            if self.rng.random() < 0.2:
                yield

    def _unreadable(self, table: str, record: Record) -> bool:
        end = self.sim.journal[self.partition].end
        return (
            bool(changelog_records.unreadable(table, record.key, record.value, record.version)) or record.version >= end
        )

    def _overwrite(self, table: str, key: bytes) -> list[Write]:
        """The newest record of a key, to be written over what can't be read; a tombstone where there is none."""
        seals = [at for (of, each), at in self._versions.items() if of == table and each.startswith(SEAL_PREFIX)]
        version = self._versions.get((table, key), max(seals, default=0))
        return [Write(table, key, self._store[table].get(key), version)]

    def _keep(self, table: str, key: bytes, value: bytes | None, version: int) -> None:
        self._versions[table, key] = version
        if value is None:
            self._store[table].pop(key, None)
        else:
            self._store[table][key] = value

    def _put(self, writes: list[Write]) -> None:
        self._commits += 1
        for write in writes:
            if write.table in self._store:
                self._keep(write.table, write.key, write.value, write.version)
            self._queues[write.table].append((write, self._commits))
        if writes:
            self._in_flight[self._commits] = (len(writes), len(writes))

    def _send(self) -> None:
        table = self.rng.choice(self._waiting)
        if table == self._slow and self.rng.random() < 0.9:
            # Its topic's partition is led by another broker, which takes its time.
            table = self.rng.choice(self._waiting)
        # A row and its parts are one batch; a repaired part is one alone.
        while self._append(table).key.startswith(PART_PREFIX) and self._queues[table]:
            pass

    def _append(self, table: str) -> Write:
        write, commit = self._queues[table].popleft()
        left, made = self._in_flight.pop(commit)
        if left > 1:
            self._in_flight[commit] = (left - 1, made)
        if table == "deadletter":
            self.sim.letters.append((self.partition, write.version, write.value or b""))
            return write
        offset = self.sim.tables[table, self.partition].append(write.key, write.value, write.version, self.sim.ms)
        expected = self._expected.get(table)
        self._expected[table] = offset + 1
        if expected is not None and offset > expected:
            self._repairs.append((table, expected, offset, table in self._first))
        self._first.discard(table)
        return write

    def _repair(self) -> None:
        """A worker that had been replaced wrote late. Where its row hides a newer one, the newer is written again; and
        so it is where what came in between can't be read. A predecessor's rows the fold makes again itself."""
        repairs, self._repairs = self._repairs, []
        for table, start, end, predecessor in repairs:
            store = self._store[table]
            due = self.fold.next_offset or 0
            garbage: dict[bytes, None] = {}
            for record in self.sim.tables[table, self.partition].records:
                if not start <= record.offset < end:
                    continue
                if self._unreadable(table, record):
                    garbage[record.key] = None
                    continue
                if record.version >= due:
                    if predecessor:
                        continue
                    raise Fatal
                row = store.get(record.key)
                if row != record.value and (is_row(record.key) or record.key.startswith(PART_PREFIX)):
                    version = orjson.loads(row)["version"] if row is not None else due - 1
                    self._put([Write(table, record.key, row, version)])
            for key in garbage:
                self._put(self._overwrite(table, key))
