"""All rows at the newest sealed state, and a ring of the events since, shared by all clients.

A client has no queue, only its place in the ring: one that is slower than the ring is long loses its place, and resumes
from its cursor. A batch is encoded once, and once more for each subset of its rows that some filter selects.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from streams.serve.http.encoding import (
    BatchHead,
    PrintedRow,
    PrintedSet,
    RowForm,
    Selection,
    batch_head,
    encode,
    event,
    frontiers,
    heartbeat,
    print_in_batch,
    snapshot_end,
    snapshot_part,
    text_of,
    with_rows,
)
from streams.subscription.cursor import Cursor
from streams.subscription.freshness import Place, Silence, clusters_in, overlay_json, sealed_at
from streams.subscription.names import KnownNames
from streams.subscription.rows import Row
from streams.subscription.set_rows import SetRows, overlay_set
from streams.wire.partitioning import partition_of
from streams.wire.records import CLUSTERSET, Record, Seal

_PLACE_BYTES = 48
"""Estimated bytes of a cursor for each of its partitions and positions."""

_SNAPSHOT_AGE = 256
"""How many events old a snapshot may be to be shared with another client, which then reads these events after it."""

Key = tuple[str, str, str, str]


class _Entry:
    """An event of the ring, encoded when the first client gets it. A heartbeat has no partition, and goes to every
    client."""

    __slots__ = ("_all", "_id", "_subsets", "cursor", "head", "offset", "partition", "rows", "size")

    def __init__(self, partition: int, offset: int, head: Record, rows: tuple[PrintedRow, ...], cursor: Cursor) -> None:
        self.partition = partition
        self.offset = offset
        self.head = head
        self.rows = rows
        self.cursor = cursor
        # An estimate of its size when encoded; subsets for filters are added as they are encoded.
        places = len(cursor.applied) + len(cursor.positions)
        self.size = 1024 + _PLACE_BYTES * places + sum(printed.size for printed in rows)
        self._id = ""
        self._all = b""
        self._subsets: dict[tuple[RowForm, tuple[int, ...]], bytes] = {}

    @property
    def id(self) -> str:
        """The cursor as clients get it."""
        if not self._id:
            self._id = self.cursor.encode()
        return self._id

    @property
    def text(self) -> bytes:
        """The whole event."""
        if not self._all:
            self._all = self._print(self.rows, "whole")
        return self._all

    def of(self, selection: Selection) -> bytes:
        """The event with the selected rows, in the selected form; empty if there are none."""
        if self.partition < 0:
            return self.text
        indices = tuple(i for i, printed in enumerate(self.rows) if selection.takes(printed.row))
        form = selection.row_form
        if len(indices) == len(self.rows) and form == "whole":
            return self.text
        if not indices:
            return b""
        subset = form, indices
        if subset not in self._subsets:
            self._subsets[subset] = self._print((self.rows[i] for i in indices), form)
            self.size += len(self._subsets[subset])
        return self._subsets[subset]

    def _print(self, rows: Iterable[PrintedRow], form: RowForm) -> bytes:
        if self.partition < 0:
            return event("heartbeat", encode(self.head), self.id)
        texts = []
        for printed in rows:
            size = printed.size
            texts.append(print_in_batch(printed.text, form))
            self.size += printed.size - size
        return event("batch", with_rows(self.head, texts), self.id)


class ShownRow(NamedTuple):
    """A row as it was shown at one moment; `silence` is why its cluster was considered silent, `silences` why those of
    a set's clusters were that are."""

    printed: PrintedRow
    silence: str
    silences: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> bytes:
        """The row as JSON."""
        if self.silences:
            return overlay_set(self.printed.text, dict(self.silences))
        return overlay_json(self.printed.text, self.silence)


class TableSnapshot(NamedTuple):
    """All rows as they were before the event `place` of the ring."""

    place: int
    cursor: Cursor
    rows: tuple[PrintedRow, ...]

    def events(
        self, reason: str, selection: Selection, size: int, render: Callable[[PrintedRow], bytes] = text_of
    ) -> Iterator[bytes]:
        """The snapshot for one client, in events of about `size` bytes; always at least one. `render` gives a row's
        JSON as it is shown now."""
        first, length = True, 0
        texts: list[bytes] = []
        for printed in self.rows:
            if not selection.takes(printed.row):
                continue
            if length >= size:
                yield snapshot_part(reason, texts, first=first)
                first, texts, length = False, [], 0
            texts.append(render(printed))
            length += len(printed.text)
        yield snapshot_end(reason, texts, self.cursor.encode(), first=first)


class Reader:
    """One client's place: the next event of the ring. After a resumption, `resume_cursor` is what the client already
    had, until the ring is past it."""

    __slots__ = ("generation", "place", "resume_cursor", "selection")

    def __init__(self, selection: Selection, generation: int, place: int, resume_cursor: Cursor | None = None) -> None:
        self.selection = selection
        self.generation = generation
        self.place = place
        self.resume_cursor = resume_cursor


class Lost(Exception):
    """The reader's place is no longer in the ring."""


class Feed:
    """`replace` and `apply` take what a subscriber to all tables delivers; `read` gives a client its next events."""

    def __init__(self, partitions: int, ring_events: int = 8192, ring_bytes: int = 64 * 1024 * 1024) -> None:
        self.partitions = partitions
        self.generation = 0
        self.reason = "start"
        self.seals: dict[tuple[int, str], Seal] = {}
        self.silent: Mapping[Place, Silence] = {}
        self._rows: dict[Key, PrintedRow] = {}
        self._sets = SetRows()
        self._ring: deque[_Entry] = deque()
        self._limits = ring_events, ring_bytes
        self._first = 0
        self._bytes = 0
        self._cursor = Cursor("", {}, {})
        self.at = ""
        self._applied: dict[int, int] = {}
        self._floor: dict[int, int] = {}
        self._floor_at = ""
        self._snapshot: TableSnapshot | None = None
        self._read: tuple[object, int, bytes] = (None, 0, b"")

    # ---- input -------------------------------------------------------------------------------------------

    def replace(self, reason: str, rows: Iterable[Row], seals: Mapping[tuple[int, str], Seal], cursor: Cursor) -> None:
        """Take a snapshot: every existing reader gets one too."""
        self.generation += 1
        self.reason = reason
        self.seals = dict(seals)
        self._sets = SetRows()
        self._rows = {key_of(printed.row): printed for printed in self._join(rows)}
        self._first = self.next
        self._ring.clear()
        self._bytes = 0
        self._cursor, self.at, self._floor_at = cursor, cursor.at, cursor.at
        self._applied, self._floor = dict(cursor.applied), dict(cursor.applied)
        self._snapshot = None

    def apply(self, partition: int, seal: Seal, rows: tuple[Row, ...], cursor: Cursor) -> None:
        """Take a sealed batch."""
        self.seals[partition, seal.cluster] = seal
        self._cursor, self.at = cursor, max(self.at, sealed_at(seal))
        self._applied[partition] = seal.offset
        printed = tuple(self._join(rows))
        if not printed:
            return
        for printed_row in printed:
            if printed_row.is_deleted:
                self._rows.pop(key_of(printed_row.row), None)
            else:
                self._rows[key_of(printed_row.row)] = printed_row
        head = batch_head(partition, seal, quiet=False)
        self._append(_Entry(partition, seal.offset, head, printed, cursor))

    def _join(self, rows: Iterable[Row]) -> Iterator[PrintedRow]:
        """The rows, then the clusterset's sets joined, without a reader's judgement: that is added when it is shown."""
        of_sets: list[Row] = []
        for row in rows:
            if row.table == CLUSTERSET:
                of_sets.append(row.with_silence(""))
            else:
                yield PrintedRow(row.with_silence(""))
        if of_sets:
            yield from map(PrintedSet, self._sets.update(of_sets))

    def beat(self) -> None:
        """A heartbeat for all."""
        head = heartbeat(self.at, frontiers(self.seals, self.partitions), self.silent)
        self._append(_Entry(-1, -1, head, (), self._cursor))

    def _append(self, entry: _Entry) -> None:
        self._ring.append(entry)
        self._bytes += entry.size
        events, limit = self._limits
        while len(self._ring) > events or (self._bytes > limit and len(self._ring) > 1):
            oldest = self._ring.popleft()
            self._first += 1
            self._bytes -= oldest.size
            if oldest.partition >= 0:
                self._floor[oldest.partition] = oldest.offset
            self._floor_at = oldest.cursor.at

    # ---- output --------------------------------------------------------------------------------------------

    @property
    def next(self) -> int:
        """The place after the newest event."""
        return self._first + len(self._ring)

    def snapshot(self) -> TableSnapshot:
        """All rows, as of now or recently."""
        snapshot = self._snapshot
        if snapshot is None or snapshot.place < self._first or self.next - snapshot.place > _SNAPSHOT_AGE:
            snapshot = self._snapshot = TableSnapshot(self.next, self._cursor, tuple(self._rows.values()))
        return snapshot

    def covers(self, applied: Mapping[int, int]) -> bool:
        """Whether everything after these journal offsets is in the ring."""
        return all(applied.get(p, -1) >= self._floor.get(p, -1) for p in range(self.partitions))

    def resumable(self, cursor: Cursor, selection: Selection) -> bool:
        """Whether the ring continues from a cursor. A cursor that is ahead of the ring, of a time that it doesn't know,
        or not of these tables must be checked against the topics."""
        return (
            self.covers(cursor.applied)
            and self._floor_at <= cursor.at <= self.at
            and all(offset <= self._applied.get(p, -1) for p, offset in cursor.applied.items())
            and selection.tables <= {table for table, _ in cursor.positions}
        )

    def offsets_between(self, first: int, place: int) -> dict[int, int]:
        """By partition with events from one place up to another, as far as they are in the ring: the journal offset of
        the last."""
        start, stop = max(first - self._first, 0), place - self._first
        entries = islice(self._ring, start, max(start, stop))
        return {entry.partition: entry.offset for entry in entries if entry.partition >= 0}

    def reader(self, selection: Selection, place: int) -> Reader:
        """A reader of the events after a snapshot."""
        return Reader(selection, self.generation, place)

    def resume(self, selection: Selection, cursor: Cursor) -> Reader:
        """A reader of the events after a cursor that the ring covers."""
        return Reader(selection, self.generation, self._first, cursor)

    def read(self, reader: Reader, size: int) -> bytes:
        """The next events for a client, about `size` bytes; empty if there are none. Raises Lost."""
        if reader.place < self._first or reader.generation != self.generation:
            raise Lost
        if reader.place == self.next:
            return b""
        # Most readers are at the same place, and want the same.
        at = (reader.place, self.next, reader.selection, size)
        if reader.resume_cursor is None and self._read[0] == at:
            _, reader.place, text = self._read
            return text
        whole = self._next(reader, size)
        if reader.resume_cursor is None:
            self._read = (at, reader.place, whole)
        return whole

    def _next(self, reader: Reader, size: int) -> bytes:
        texts: list[bytes] = []
        length = 0
        for i in range(reader.place - self._first, len(self._ring)):
            if length >= size:
                break
            entry = self._ring[i]
            reader.place += 1
            text = (
                self._encode(entry, reader)
                if reader.resume_cursor is None
                else self._encode_beyond(reader, reader.resume_cursor, entry)
            )
            if text:
                texts.append(text)
                length += len(text)
        return texts[0] if len(texts) == 1 else b"".join(texts)

    def _encode(self, entry: _Entry, reader: Reader) -> bytes:
        size = entry.size
        text = entry.of(reader.selection)
        self._bytes += entry.size - size
        return text

    def _encode_beyond(self, reader: Reader, resume_cursor: Cursor, entry: _Entry) -> bytes:
        """An event for a client that already had a part of the ring, with an id that is not behind what it had: the
        server that the client comes from may have delivered the partitions in another order."""
        at = entry.cursor
        if all(at.applied.get(p, -1) >= offset for p, offset in resume_cursor.applied.items()):
            reader.resume_cursor = None
        elif entry.partition < 0:
            return b""
        if entry.partition >= 0 and entry.offset <= resume_cursor.applied.get(entry.partition, -1):
            return b""
        text = self._encode(entry, reader)
        if reader.resume_cursor is None:
            return text
        reader.resume_cursor = _merge(resume_cursor, at)
        return text.replace(b"id: " + entry.id.encode(), b"id: " + reader.resume_cursor.encode().encode(), 1)

    def show(self, printed: PrintedRow) -> ShownRow:
        """A row as of now: `stale` while its cluster is silent."""
        if not self.silent:
            return ShownRow(printed, "")
        row = printed.row
        partition = partition_of(row.namespace, row.name, self.partitions)
        if row.table == CLUSTERSET:
            return ShownRow(printed, "", tuple(sorted(self._silences(printed.text, partition))))
        silence = self.silent.get((partition, row.cluster))
        return ShownRow(printed, silence.reason if silence is not None else "")

    def _silences(self, text: bytes, partition: int) -> Iterator[tuple[str, str]]:
        """The silent clusters of a joined set, with the reasons."""
        for (place, cluster), silence in self.silent.items():
            if place == partition and b'"cluster":"%b"' % cluster.encode() in text:
                yield cluster, silence.reason

    def printed_rows(self, tables: Collection[str]) -> list[PrintedRow]:
        """All rows of some tables, as of now, in no order."""
        return [printed for key, printed in self._rows.items() if key[0] in tables]

    def batches(self, place: int) -> Iterator[tuple[BatchHead, tuple[PrintedRow, ...]]]:
        """The batches with rows from a place of the ring on. Raises Lost."""
        if place < self._first:
            raise Lost
        for entry in islice(self._ring, place - self._first, None):
            if isinstance(entry.head, BatchHead):
                yield entry.head, entry.rows

    def sealed_ends(self) -> dict[int, int]:
        """By partition the journal's offset after the last one that is sealed."""
        ends = dict.fromkeys(range(self.partitions), 0)
        for (partition, _), seal in dict(self.seals).items():  # A copy: it may be asked for in another thread.
            ends[partition] = max(seal.offset + 1, ends[partition])
        return ends

    def known_names(self) -> KnownNames:
        """The clusters, and the Services that the tables have."""
        services = frozenset(key[1:] for key in self._rows if key[1])
        return KnownNames(frozenset(clusters_in(self.seals)), services)

    def rows(self, selection: Selection) -> list[ShownRow]:
        """The selected rows."""
        chosen = [key for key, printed in self._rows.items() if selection.takes(printed.row)]
        return [self.show(self._rows[key]) for key in sorted(chosen)]

    def row(self, table: str, namespace: str, name: str) -> list[ShownRow]:
        """A Service's rows in each cluster that has it; of the clusterset its set."""
        clusters = [""] if table == CLUSTERSET else sorted(clusters_in(self.seals))
        printed_rows = (self._rows.get((table, cluster, namespace, name)) for cluster in clusters)
        return [self.show(printed) for printed in printed_rows if printed is not None]


def key_of(row: Row) -> Key:
    """A row's table, cluster, namespace and name."""
    return row.table, row.cluster, row.namespace, row.name


def _merge(first: Cursor, second: Cursor) -> Cursor:
    """The cursor of a client that has had the events of both."""
    applied = {p: max(first.applied.get(p, -1), second.applied.get(p, -1)) for p in {*first.applied, *second.applied}}
    positions = {
        place: max(first.positions.get(place, 0), second.positions.get(place, 0))
        for place in {*first.positions, *second.positions}
    }
    return Cursor(max(first.at, second.at), applied, positions)
