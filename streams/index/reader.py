"""Answers questions to the past from the index's file, with the bytes that a replay of the journal up to that time
makes."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from ipaddress import ip_address
from itertools import groupby, product
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from zstandard import ZstdDecompressor, ZstdError

from streams.facets.row_parts import FindPart, join_part, join_row
from streams.history.collectors import commit_time
from streams.history.coverage import ClusterCoverage, Coverage
from streams.history.queries import Until
from streams.index.database import IndexUnusable, connect, index_errors
from streams.index.partition_indexer import ClusterLine, Position
from streams.index.segments import SegmentDamaged, Version, unpack, unpack_tail
from streams.index.writer import IndexedLog, read_log
from streams.runtime.closing import Closing
from streams.subscription.rows import EVERYTHING, Filter, Row
from streams.subscription.set_rows import SetRows
from streams.wire.keys import is_row, parse_row_key, part_key, progress_name
from streams.wire.partitioning import partition_of
from streams.wire.records import CLUSTERSET, FOLD_VERSION
from streams.wire.row_codec import is_deleted

_decode_points = msgspec.msgpack.Decoder(tuple[list[int], list[str]]).decode

_POINTS_UP_TO = "SELECT first, data FROM points WHERE partition = ? AND first_at <= ? ORDER BY first_at DESC LIMIT 1"
_POINTS_BEFORE = "SELECT first, data FROM points WHERE partition = ? AND first_at < ? ORDER BY first_at DESC LIMIT 1"
_NEXT_POINTS_AFTER = "SELECT first FROM points WHERE partition = ? AND first_at > ? ORDER BY first_at LIMIT 1"
_NEXT_POINTS_FROM = "SELECT first FROM points WHERE partition = ? AND first_at >= ? ORDER BY first_at LIMIT 1"
_NEWEST_SIGN = """
SELECT last_at, writer, covered FROM signs WHERE partition = ? AND name = ? AND first < ? ORDER BY first DESC LIMIT 1
"""
_SERVICE_OF = "SELECT services.* FROM series JOIN services ON services.id = series.service WHERE series.id = ?"
_OWNERS = "SELECT series, since, until FROM addresses WHERE address = ?"


class Moment(NamedTuple):
    """A point as journal offsets: by partition the first that is beyond it; `reached` are the partitions in which a
    record beyond it is in the index."""

    stops: dict[int, int]
    reached: frozenset[int]


class IndexReader(Closing):
    """The file as it is at each question; it belongs to the thread that made it. Use it in a `with`. Raises
    IndexUnusable, FacetsError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = connect(path, writing=False)
        try:
            with index_errors(path):
                self.log: IndexedLog = read_log(dict(self._rows("SELECT name, value FROM meta")), path)
            if self.log.fold_version != FOLD_VERSION:
                raise IndexUnusable(f"the index {path} is of fold version {self.log.fold_version}, not {FOLD_VERSION}")
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # ---- times -----------------------------------------------------------------------------------------

    def positions(self) -> dict[int, Position]:
        """How far each partition is folded."""
        with self._reading():
            return self._positions()

    def covers(self, until: Until, ends: Mapping[int, int] | None = None, selection: Filter = EVERYTHING) -> bool:
        """Whether all up to this point is in the index, of the partitions of the selected Services: each has a record
        beyond it, or all of the journal up to its `ends`. A seq of a cluster is not looked for here."""
        if until.seqs:
            return False
        with self._reading():
            positions = self._positions()
            wanted = self._partitions(selection)
            if not wanted.issubset(positions):
                return False
            behind = wanted - self._moment(until).reached
            return not behind or (ends is not None and all(positions[p].next >= ends[p] for p in behind))

    def coverage(self, until: Until, selection: Filter = EVERYTHING) -> dict[int, Coverage]:
        """What `history.coverage` asks of a replay up to this point, of the partitions of the selected Services."""
        with self._reading():
            moment, positions = self._moment(until), self._positions()
            partitions = sorted(self._partitions(selection) & positions.keys())
            return {p: self._coverage(p, positions[p], moment, until) for p in partitions}

    def _partitions(self, selection: Filter) -> set[int]:
        count = self.log.partitions
        if not (selection.namespaces and selection.services):
            return set(range(count))
        services = product(selection.namespaces, selection.services)
        return {partition_of(namespace, name, count) for namespace, name in services}

    # ---- rows ------------------------------------------------------------------------------------------

    def rows_at(self, tables: Collection[str], selection: Filter, until: Until) -> list[Row]:
        """The newest row of each selected Service in each of these tables up to the point, without tombstones. The
        clusterset's are those of all clusters, joined (`SetRows`): not to be had of a selection of clusters."""
        with self._reading():
            moment = self._moment(until)
            services = self._services(selection)
            return [row for service in services for row in self._rows_at(service, tables, selection, moment)]

    def history(
        self, tables: Collection[str], selection: Filter, until: Until, since: str = "", last: int = 0
    ) -> Iterator[Row]:
        """Every row of the selected Services in these tables up to the point, Service by Service, tombstones as rows
        without a value. Of those before `since` only the last of each is certain to be among them.
        With `last`, of each key only so many may come, the newest by their times (0: all)."""
        with self._reading():
            moment = self._moment(until)
            first = self._moment(Until(at=since), before=True).stops if since else {}
            for service in self._services(selection):
                begin = first.get(service[0] % self.log.partitions, 0)
                yield from self._history(service, tables, selection, moment, begin, last)

    def owners(self, address: str, until: Until, *, ever: bool = False) -> list[Row]:
        """The rows of the Services that have an address at the point (with `ever`, that had it at any time up to it),
        among others of theirs: `queries.holders` says which, and as what."""
        tables = ("frontend", "backend", CLUSTERSET)
        with self._reading():
            moment = self._moment(until)
            owning: list[int] = []
            for series, begin, end in self._rows(_OWNERS, ip_address(address).packed):
                stop = moment.stops.get(series % self.log.partitions, 0)
                if begin < stop and (ever or end is None or end >= stop):
                    owning.append(series)
            found = {service for series in owning for service in self._rows(_SERVICE_OF, series)}
            return [row for service in sorted(found) for row in self._rows_at(service, tables, EVERYTHING, moment)]

    # ---- the file --------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """All that is read in the block is as of one transaction."""
        with index_errors(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            except (SegmentDamaged, ZstdError) as error:
                raise IndexUnusable(f"the index {self.path} is damaged: {error}") from error
            finally:
                self._connection.execute("ROLLBACK")

    def _rows(self, question: str, *values: Any) -> Iterator[Any]:
        return iter(self._connection.execute(question, values))

    def _positions(self) -> dict[int, Position]:
        return {row[0]: Position(*row[1:]) for row in self._rows("SELECT * FROM partitions")}

    def _moment(self, until: Until, *, before: bool = False) -> Moment:
        """The first offsets beyond a point, or with `before` those from which on its time may be found."""
        stops: dict[int, int] = {}
        reached = set()
        for partition, position in self._positions().items():
            stop = position.next
            if until.at and (beyond := self._offset_beyond(partition, until.at, before=before)) is not None:
                stop = beyond
                reached.add(partition)
            if partition in until.offsets and until.offsets[partition] < stop:
                stop = until.offsets[partition] + 1
                reached.add(partition)
            stops[partition] = stop
        return Moment(stops, frozenset(reached))

    def _offset_beyond(self, partition: int, at: str, *, before: bool) -> int | None:
        """The offset of the first record that is later than a time (or, with `before`, not earlier)."""
        chunk, following = (_POINTS_BEFORE, _NEXT_POINTS_FROM) if before else (_POINTS_UP_TO, _NEXT_POINTS_AFTER)
        for first, data in self._rows(chunk, partition, at):
            offsets, times = _decode_points(ZstdDecompressor().decompress(data))
            found = (bisect_left if before else bisect_right)(times, at)
            if found < len(times):
                return int(first + offsets[found])
        return next((int(first) for (first,) in self._rows(following, partition, at)), None)

    def _coverage(self, partition: int, position: Position, moment: Moment, until: Until) -> Coverage:
        stop = moment.stops[partition]
        clusters: dict[str, ClusterCoverage] = {}
        lines = self._rows("SELECT name, seen, since, since_at FROM clusters WHERE partition = ?", partition)
        for line in (ClusterLine(*row) for row in lines):
            if line.seen >= stop or stop <= position.begin:
                continue
            since: tuple[int, str] = -1, ""
            if 0 <= line.since < stop:
                is_pruned = line.since < position.begin
                since = (position.begin, position.begin_at) if is_pruned else (line.since, line.since_at)
            heard = self._last_heard(partition, line.name, stop, until.at)
            clusters[line.name] = ClusterCoverage(since[0], since[1], 0, heard)
        end = position.next
        return Coverage(position.begin, position.begin_at, end, clusters, partition in moment.reached)

    def _last_heard(self, partition: int, cluster: str, stop: int, at: str) -> str:
        """The time of the newest record before an offset that shows the cluster's watcher alive; within what readers
        remark."""
        newest = ""
        for last_at, writer, covered in self._rows(_NEWEST_SIGN, partition, cluster, stop):
            newest = last_at
            if covered:
                progress = self._rows(_NEWEST_SIGN, partition, progress_name(writer), stop)
                newest = max(newest, next((at_ for at_, _, _ in progress), ""))
        return min(newest, at) if at else newest

    def _services(self, selection: Filter) -> list[tuple[int, str, str]]:
        """The selected Services' ids, namespaces and names, by name."""
        if selection.namespaces and selection.services:
            return [
                row
                for namespace in sorted(selection.namespaces)
                for name in sorted(selection.services)
                for row in self._rows("SELECT * FROM services WHERE namespace = ? AND name = ?", namespace, name)
            ]
        return [
            row
            for row in self._rows("SELECT * FROM services ORDER BY namespace, name")
            if (not selection.namespaces or row[1] in selection.namespaces)
            and (not selection.services or row[2] in selection.services)
        ]

    # ---- a Service -------------------------------------------------------------------------------------

    def _series_of(self, service: int) -> dict[tuple[str, bytes], int]:
        lines = self._rows('SELECT "table", key, id FROM series WHERE service = ? ORDER BY id', service)
        return {(table, key.encode()): number for table, key, number in lines}

    def _rows_at(
        self, service: tuple[int, str, str], tables: Collection[str], selection: Filter, moment: Moment
    ) -> list[Row]:
        series = self._series_of(service[0])
        stop = moment.stops[service[0] % self.log.partitions]
        joined = self._joiner(series)
        rows: list[Row] = []
        for (table, key), number in series.items():
            if _is_wanted(table, key, tables, selection):
                found = self._version_at(number, stop)
                if found is not None and found.value is not None:
                    rows.append(joined(table, key, found))
        own = [row for row in rows if row.table != CLUSTERSET]
        return own + _joined_sets([row for row in rows if row.table == CLUSTERSET])

    def _history(
        self,
        service: tuple[int, str, str],
        tables: Collection[str],
        selection: Filter,
        moment: Moment,
        first: int,
        last: int,
    ) -> Iterator[Row]:
        series = self._series_of(service[0])
        stop = moment.stops[service[0] % self.log.partitions]
        joined = self._joiner(series)
        sets: list[Row] = []
        for (table, key), number in series.items():
            if not _is_wanted(table, key, tables, selection):
                continue
            if first and table != CLUSTERSET and (before := self._version_at(number, first)) is not None:
                yield joined(table, key, before)
            # A set is joined with what came long before.
            versions = self._versions(number, first if table != CLUSTERSET else 0, stop)
            if last and table != CLUSTERSET:
                # To put a large row together from its parts takes long.
                versions = iter(_newest(versions, last))
            for found in versions:
                row = joined(table, key, found)
                if table == CLUSTERSET:
                    sets.append(row)
                else:
                    yield row
        newest = SetRows()
        for _, rows in groupby(sorted(sets, key=attrgetter("version")), key=attrgetter("version")):
            yield from newest.take(rows)

    def _joiner(self, series: Mapping[tuple[str, bytes], int]) -> Callable[[str, bytes, Version], Row]:
        """Makes rows of their records, those in parts from their parts at the versions that they name."""

        @cache
        def versions(number: int, stop: int) -> list[Version]:
            return self._segment_at(number, stop)

        def get(table: str) -> Callable[[bytes, int], bytes | None]:
            def value_of(key: bytes, version: int) -> bytes | None:
                number = series.get((table, key))
                found = None if number is None else _last_before(versions(number, version + 1), version + 1)
                return found.value if found is not None and found.version == version else None

            return value_of

        def find(table: str, key: str) -> FindPart:
            value_of = get(table)
            return lambda label, version: join_part(value_of, part_key(key, label), version)

        def row(table: str, key: bytes, found: Version) -> Row:
            text = key.decode()
            value = b"" if found.value is None else join_row(table, found.value, find(table, text)).row
            return Row(table, *parse_row_key(text), found.version, value)

        return row

    def _version_at(self, series: int, stop: int) -> Version | None:
        return _last_before(self._segment_at(series, stop), stop)

    def _segment_at(self, series: int, stop: int) -> list[Version]:
        """The versions of the segment in which a series' last one before an offset is."""
        tail = [
            data for (data,) in self._rows(
                "SELECT data FROM tails WHERE series = ? AND first < ? ORDER BY first", series, stop
            )
        ]  # fmt: skip
        if tail:
            return unpack_tail(tail)
        question = "SELECT data FROM blocks WHERE series = ? AND first < ? ORDER BY first DESC LIMIT 1"
        return next((unpack(data) for (data,) in self._rows(question, series, stop)), [])

    def _versions(self, series: int, first: int, stop: int) -> Iterator[Version]:
        """A series' versions from an offset up to another."""
        blocks = self._rows(
            "SELECT data FROM blocks WHERE series = ? AND last >= ? AND first < ? ORDER BY first", series, first, stop
        )
        tail = self._rows("SELECT data FROM tails WHERE series = ? AND first < ? ORDER BY first", series, stop)
        versions = [version for (data,) in blocks for version in unpack(data)]
        versions += unpack_tail([data for (data,) in tail])
        return (version for version in versions if first <= version.version < stop)


def _is_wanted(table: str, key: bytes, tables: Collection[str], selection: Filter) -> bool:
    if table not in tables or not is_row(key):
        return False
    if table == CLUSTERSET:
        return not selection.clusters
    return selection.wants(*parse_row_key(key.decode()))


def _newest(versions: Iterable[Version], last: int) -> list[Version]:
    """The last of the versions by their rows' times, in their order; a tombstone has no time, and is left out."""
    timed = sorted((commit_time(each.value), each) for each in versions if each.value is not None)
    return sorted(each for _, each in timed[-last:])


def _last_before(versions: list[Version], stop: int) -> Version | None:
    found = bisect_left(versions, stop, key=attrgetter("version"))
    return versions[found - 1] if found else None


def _joined_sets(rows: Iterable[Row]) -> list[Row]:
    """A set (of these rows of one Service of the clusterset) as it was last joined: a contribution that was deleted
    before that is not in it any more."""
    rows = list(rows)
    own = next((row for row in rows if not row.cluster), None)
    if own is not None and is_deleted(own.value):
        rows = [row for row in rows if row.version <= own.version]
    newest = max((row.version for row in rows), default=-1)
    return SetRows().take(row for row in rows if row.version == newest or not is_deleted(row.value))
