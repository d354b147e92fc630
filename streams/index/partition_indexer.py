"""Folds one partition of the journal and gathers what the index is to have of it, batch by batch.

What is kept is every record that a worker would write to the tables' topics, rows in parts as well: a change of a large
Service costs what changed here too. A batch is written in one transaction, so that the file is as of one journal offset
at any time; from its newest records the fold is recovered as a worker recovers from its changelogs.
"""

from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

import msgspec
from zstandard import ZstdCompressor

from streams.facets.tables import WORKER_TABLES
from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.history.coverage import GRACE_SECONDS
from streams.history.queries import time_of
from streams.index.addresses import addresses_in, packed
from streams.index.segments import Version, pack_block, pack_tail, unpack_tail
from streams.wire.keys import PART_PREFIX, SEAL_PREFIX, is_progress_name, is_row, parse_row_key, row_key_of
from streams.wire.records import FOLDED_TABLES
from streams.wire.timestamps import later

BLOCK_VERSIONS = 128
"""A tail of so many versions becomes a block: a query unpacks one of them."""

_BLOCK_BYTES = 2 * 1024 * 1024
_POINTS = 512
_SIGN_TABLE = FOLDED_TABLES[0]

_encode = msgspec.msgpack.encode

SeriesKey = tuple[str, bytes]
"""A table, and the key of one of its records."""


class SeriesLine(NamedTuple):
    """A new series: the versions of one key of one table, of a Service."""

    id: int
    service: int
    table: str
    key: str


class SegmentLine(NamedTuple):
    """A segment of a series, with its first and last version."""

    series: int
    first: int
    last: int
    data: bytes


class Sign(NamedTuple):
    """While a cluster (or, by the name of its progress, a watcher) was heard of: from a journal offset and time on, up
    to a time, without a pause that readers would remark, and without its clock going back; by which writer, and whether
    that one's progress covers it."""

    name: str
    first: int
    first_at: str
    last_at: str
    writer: str
    covered: bool


class ClusterLine(NamedTuple):
    """A cluster in a partition: the offset of the first record that names it, and since when it is known (-1, "")."""

    name: str
    seen: int
    since: int
    since_at: str


class Points(NamedTuple):
    """The records that are later than all before them: what a time means as a journal offset. Of `first_at`, the
    first one's time, `data` (msgpack, zstd) has the offsets, as differences, and the times."""

    first: int
    first_at: str
    data: bytes


class Position(NamedTuple):
    """How far a partition is folded: its first record's offset and time, the next offset, the checksum of the last
    record, the latest time, and how many Services and series it has."""

    begin: int = 0
    begin_at: str = ""
    next: int = 0
    checksum: int | None = None
    latest: str = ""
    services: int = 0
    series: int = 0


class Batch(NamedTuple):
    """What a partition's records add to the index. `blocks` replace the tails of their series; `newest` are the records
    of the keys that have no history, for the fold's recovery."""

    position: Position
    services: list[tuple[int, str, str]]
    series: list[SeriesLine]
    blocks: list[SegmentLine]
    tails: list[SegmentLine]
    opened: list[tuple[bytes, int, int]]
    closed: list[tuple[int, bytes, int]]
    newest: list[tuple[str, bytes, int, bytes | None]]
    points: list[Points]
    signs: list[Sign]
    clusters: list[ClusterLine]


class LoadedSeries(NamedTuple):
    """A series as read back: its tail's segments, or else its last block, which is its `newest` version's."""

    line: SeriesLine
    tail: list[bytes]
    newest: Version


class Loaded(NamedTuple):
    """What a partition's indexer goes on from."""

    position: Position
    services: dict[tuple[str, str], int]
    series: list[LoadedSeries]
    newest: list[tuple[str, bytes, int, bytes | None]]
    signs: list[Sign]
    clusters: list[ClusterLine]


class _Series:
    __slots__ = ("addresses", "id", "last", "pending", "pending_bytes", "tail", "tail_bytes", "tail_count")

    def __init__(self, number: int) -> None:
        self.id = number
        self.pending: list[Version] = []
        self.pending_bytes = 0
        self.last = b""
        self.tail: list[bytes] = []
        self.tail_count = 0
        self.tail_bytes = 0
        self.addresses: list[bytes] = []


class PartitionIndexer:
    """Takes a partition's records in order. Begins at the journal's `begin`, or where what was `loaded` ends."""

    def __init__(
        self, partition: int, partitions: int, window_seconds: int, begin: int = 0, loaded: Loaded | None = None
    ) -> None:
        self.partition = partition
        self._partitions = partitions
        self._fold = PartitionFold(partition, WORKER_TABLES, window_seconds)
        self._position = Position(begin=begin, next=begin)
        self._series: dict[SeriesKey, _Series] = {}
        self._services: dict[tuple[str, str], int] = {}
        self._signs: dict[str, Sign] = {}
        self._deadlines: dict[str, str] = {}
        self._clusters: dict[str, ClusterLine] = {}
        self._points: list[tuple[int, str]] = []
        self._clear()
        self.resume = begin
        """The offset of the next record to be taken; before `next` where a snapshot is read again."""
        if loaded is not None:
            self._load(loaded)

    def _clear(self) -> None:
        self._dirty: dict[SeriesKey, _Series] = {}
        self._new_services: list[tuple[int, str, str]] = []
        self._new_series: list[SeriesLine] = []
        self._opened: list[tuple[bytes, int, int]] = []
        self._closed: list[tuple[int, bytes, int]] = []
        self._newest: dict[SeriesKey, tuple[int, bytes | None]] = {}
        self._full_points: list[Points] = []
        self._new_signs: dict[tuple[str, int], Sign] = {}
        self._new_clusters: dict[str, ClusterLine] = {}
        self.pending_bytes = 0
        """About how much memory the records take that are not in a batch yet."""

    @property
    def next(self) -> int:
        """The offset after the last record that is in the index, or will be with the next batch."""
        return self._position.next

    def forget_before(self, begin: int, begin_at: str) -> None:
        """The index has been pruned: it begins at this offset and time now."""
        self._position = self._position._replace(begin=begin, begin_at=begin_at)

    # ---- going on --------------------------------------------------------------------------------------

    def _load(self, loaded: Loaded) -> None:
        self._position = loaded.position
        self._services = dict(loaded.services)
        self._clusters = {line.name: line for line in loaded.clusters}
        self._signs = {sign.name: sign for sign in loaded.signs}
        for line, tail, of_block in loaded.series:
            series = _Series(line.id)
            key = line.table, line.key.encode()
            newest = of_block
            if tail:
                versions = unpack_tail(tail)
                newest = versions[-1]
                series.tail, series.tail_count = list(tail), len(versions)
                series.tail_bytes = sum(len(each.value or b"") for each in versions)
                series.last = newest.value or b""
            if newest.value is not None:
                series.addresses = addresses_in(line.table, newest.value)
                self._fold.load(*key, newest.value, newest.version)
            self._series[key] = series
        for table, own_key, version, value in loaded.newest:
            self._fold.load(table, own_key, value, version)
        self.resume, _ = self._fold.recover()

    # ---- records ---------------------------------------------------------------------------------------

    def take(self, offset: int, value: bytes | None, appended: int) -> None:
        """Fold the next record; `appended` is its Kafka timestamp in milliseconds. Raises JournalGap."""
        writes = self._fold.step(offset, value, appended)
        self.resume = offset + 1
        if offset < self._position.next:
            return  # Of an open snapshot, which is read again after a restart.
        self._note_time(offset, value)
        heard: list[str] = []
        for write in writes:
            if write.key.startswith(SEAL_PREFIX):
                self._newest[write.table, write.key] = write.version, write.value
                if write.table == _SIGN_TABLE and write.value is not None:
                    heard.append(write.key[len(SEAL_PREFIX) :].decode())
            elif is_row(write.key) or write.key.startswith(PART_PREFIX):
                if write.table in FOLDED_TABLES:
                    self._add(write)
            else:
                self._newest[write.table, write.key] = write.version, write.value
        for name in heard:
            if name:
                self._note_sign(offset, name)
        self._position = self._position._replace(next=offset + 1, checksum=crc32(value or b""))

    def _add(self, write: Write) -> None:
        key = write.table, write.key
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._begin_series(write.table, write.key)
        self._dirty[key] = series
        series.pending.append(Version(write.version, write.value))
        size = len(write.value or b"")
        series.pending_bytes += size
        self.pending_bytes += size
        addresses = addresses_in(write.table, write.value) if write.value is not None else []
        if addresses != series.addresses:
            before = {each for address in series.addresses if (each := packed(address)) is not None}
            after = {each for address in addresses if (each := packed(address)) is not None}
            self._opened += [(address, series.id, write.version) for address in after - before]
            self._closed += [(write.version, address, series.id) for address in before - after]
            series.addresses = addresses

    def _begin_series(self, table: str, key: bytes) -> _Series:
        row_key = key if is_row(key) else row_key_of(key)
        service = self._service(*parse_row_key(row_key.decode()).service)
        number = self._position.series * self._partitions + self.partition
        self._position = self._position._replace(series=self._position.series + 1)
        self._new_series.append(SeriesLine(number, service, table, key.decode()))
        return _Series(number)

    def _service(self, namespace: str, name: str) -> int:
        number = self._services.get((namespace, name))
        if number is None:
            number = self._services[namespace, name] = self._position.services * self._partitions + self.partition
            self._position = self._position._replace(services=self._position.services + 1)
            self._new_services.append((number, namespace, name))
        return number

    # ---- times -----------------------------------------------------------------------------------------

    def _note_time(self, offset: int, value: bytes | None) -> None:
        at = time_of(value)
        if not self._position.begin_at:
            self._position = self._position._replace(begin_at=at)
        if at > self._position.latest:
            self._position = self._position._replace(latest=at)
            self._points.append((offset, at))
            if len(self._points) == _POINTS:
                self._full_points.append(_pack_points(self._points))
                self._points = []

    def _note_sign(self, offset: int, name: str) -> None:
        is_progress = is_progress_name(name)
        if not is_progress:
            self._note_cluster(offset, name)
        seal = self._fold.progress.get(name) if is_progress else self._fold.clusters[name].seal
        if seal is None:
            return
        before = self._signs.get(name)
        if (
            before is not None
            and (before.writer, before.covered) == (seal.writer, seal.covered)
            and before.last_at <= seal.at
            and self._is_without_pause(before, seal.at)
        ):
            sign = Sign(name, before.first, before.first_at, seal.at, seal.writer, seal.covered)
        else:
            sign = Sign(name, offset, seal.at, seal.at, seal.writer, seal.covered)
        self._signs[name] = self._new_signs[name, sign.first] = sign

    def _is_without_pause(self, sign: Sign, at: str) -> bool:
        # Times are added to seldom: a deadline holds at least until it is passed.
        if at > self._deadlines.get(sign.name, ""):
            self._deadlines[sign.name] = later(sign.last_at, GRACE_SECONDS)
        return at <= self._deadlines[sign.name]

    def _note_cluster(self, offset: int, name: str) -> None:
        line = self._clusters.get(name)
        if line is not None and line.since >= 0:
            return
        seal = self._fold.clusters[name].seal
        is_known = bool(seal.frontier) and not seal.lost
        if line is None or is_known:
            since = (offset, seal.at) if is_known else (-1, "")
            line = ClusterLine(name, line.seen if line is not None else offset, *since)
            self._clusters[name] = self._new_clusters[name] = line

    # ---- batches ---------------------------------------------------------------------------------------

    def batch(self) -> Batch:
        """What was taken since the last one."""
        blocks: list[SegmentLine] = []
        tails: list[SegmentLine] = []
        for series in self._dirty.values():
            _divide(series, blocks, tails)
        points = self._full_points + ([_pack_points(self._points)] if self._points else [])
        batch = Batch(
            self._position,
            self._new_services,
            self._new_series,
            blocks,
            sorted(tails),
            self._opened,
            self._closed,
            [(*key, *newest) for key, newest in self._newest.items()],
            points,
            list(self._new_signs.values()),
            list(self._new_clusters.values()),
        )
        self._clear()
        return batch


def _divide(series: _Series, blocks: list[SegmentLine], tails: list[SegmentLine]) -> None:
    """Put what is pending of a series into segments."""
    versions, series.pending = series.pending, []
    size, series.pending_bytes = series.pending_bytes, 0
    if series.tail_count + len(versions) >= BLOCK_VERSIONS or series.tail_bytes + size >= _BLOCK_BYTES:
        full, versions = _group(unpack_tail(series.tail) + versions)
        series.tail, series.tail_count, series.tail_bytes = [], 0, 0
        blocks += (_segment(series.id, group, pack_block(group)) for group in full)
        if not versions:
            return
    segment = _segment(series.id, versions, pack_tail(versions, series.last if series.tail else b""))
    series.last = versions[-1].value or b""
    series.tail.append(segment.data)
    series.tail_count += len(versions)
    series.tail_bytes += sum(len(each.value or b"") for each in versions)
    tails.append(segment)


def _group(versions: Iterable[Version]) -> tuple[list[list[Version]], list[Version]]:
    """The versions as groups that are each a block, and those left that are not one yet."""
    full: list[list[Version]] = []
    group: list[Version] = []
    size = 0
    for each in versions:
        group.append(each)
        size += len(each.value or b"")
        if len(group) == BLOCK_VERSIONS or size >= _BLOCK_BYTES:
            full.append(group)
            group, size = [], 0
    return full, group


def _segment(series: int, versions: list[Version], data: bytes) -> SegmentLine:
    return SegmentLine(series, versions[0].version, versions[-1].version, data)


def _pack_points(points: list[tuple[int, str]]) -> Points:
    first, first_at = points[0]
    content = _encode(([offset - first for offset, _ in points], [at for _, at in points]))
    return Points(first, first_at, ZstdCompressor(write_checksum=True).compress(content))
