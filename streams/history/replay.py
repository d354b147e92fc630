"""Replay: folds the retained journal again, up to a point, into the rows that follow from it."""

from collections.abc import Iterator
from itertools import product
from types import TracebackType
from typing import NamedTuple, Self

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.fold.fold import PartitionFold
from streams.history.coverage import Coverage, CoverageRecorder
from streams.history.queries import Until, time_of
from streams.kafka.admin import config
from streams.kafka.range_reader import RangeReader
from streams.runtime.progress import ProgressReport
from streams.subscription.client import Subscriber
from streams.subscription.delivery import EVERYTHING, Filter, Row
from streams.wire.partitioning import partition_of
from streams.wire.records import JOURNAL, TABLES, topic_of
from streams.wire.row_codec import same_content

Place = tuple[str, str, str, str]
"""A row's table, cluster, namespace and name."""


class Part(NamedTuple):
    """The retained range of a partition: its first offset, and the one after the last."""

    begin: int
    end: int


class Replay:
    """`rows` yields the rows, in the order of each partition. Use it in a `with`.

    `whole` is False if the journal's beginning has expired: rows then have their original content, but their original
    `version` and `previous` only from the first retained snapshot on.
    """

    def __init__(self, bootstrap: str, progress: ProgressReport = lambda _, __: None) -> None:
        self._bootstrap = bootstrap
        self._reader = RangeReader(bootstrap)
        self._progress = progress
        self._window = 0
        self.parts: dict[int, Part] = {}
        self.coverage: dict[int, Coverage] = {}
        """The coverage of each partition that `rows` has folded."""

    def __enter__(self) -> Self:
        try:
            count = self._reader.partitions(JOURNAL)
            if not count:
                raise FacetsError(
                    f"topic {JOURNAL} does not exist at {self._bootstrap}", "facets topics create", ExitCode.UNAVAILABLE
                )
            # Deleted rows get their tombstones after the same window as in the worker.
            settings = config(self._bootstrap, topic_of(TABLES[0]))
            self._window = int(settings.get("min.compaction.lag.ms", "86400000")) // 1000
            begins, ends = self._reader.bounds(JOURNAL, range(count))
            self.parts = {p: Part(begins[p], ends[p]) for p in range(count)}
        except BaseException:
            self._reader.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    @property
    def whole(self) -> bool:
        """Whether the journal still has its beginning."""
        return all(part.begin == 0 for part in self.parts.values())

    def rows(self, until: Until, selection: Filter = EVERYTHING) -> Iterator[Row]:
        """Yield the selected rows: a deleted row has a value, a tombstone's is empty. The fewer Services are selected,
        the faster: the changes of others are only decoded. Raises FacetsError."""
        partitions = self._partitions(selection)
        self.coverage = {}
        total = sum(self.parts[p].end - self.parts[p].begin for p in partitions) or 1
        done = 0
        for partition in partitions:
            begin, end = self.parts[partition]
            fold = PartitionFold(
                partition, window_seconds=self._window, selects=None if selection == EVERYTHING else selection.wants
            )
            recorder, begin_at, stopped = CoverageRecorder(), "", False
            for record in self._reader.records(JOURNAL, partition, begin, end, whole=True):
                begin_at = begin_at or time_of(record.value)
                if until.beyond(partition, record.offset, record.value):
                    stopped = True
                    break
                for write in fold.step(record.offset, record.value, record.timestamp):
                    if write.table in TABLES and not write.key.startswith(b"~"):
                        cluster, namespace, name = write.key.decode().split("/")
                        yield Row(write.table, cluster, namespace, name, write.version, write.value or b"")
                recorder.note(record.offset, fold.clusters)
                done += 1
                if done % 500 == 0:
                    self._progress(f"folding {JOURNAL}", done / total)
            self.coverage[partition] = Coverage(begin, begin_at, end, recorder.clusters(fold.clusters), stopped)
            done = sum(self.parts[p].end - self.parts[p].begin for p in partitions if p <= partition)
        self._progress(f"folding {JOURNAL}", 1.0)

    def _partitions(self, selection: Filter) -> list[int]:
        """The partitions of the selected Services."""
        if not (selection.namespaces and selection.services):
            return sorted(self.parts)
        count = len(self.parts)
        services = product(selection.namespaces, selection.services)
        return sorted({partition_of(namespace, service, count) for namespace, service in services})

    def tables(self, until: Until, selection: Filter = EVERYTHING) -> dict[Place, Row]:
        """The newest row of each selected Service in each table, without tombstones."""
        newest: dict[Place, Row] = {}
        for row in self.rows(until, selection):
            key = (row.table, row.cluster, row.namespace, row.name)
            if row.value:
                newest[key] = row
            else:
                newest.pop(key, None)
        return newest


class Verdict(NamedTuple):
    """How the replayed rows compare with those in the tables: the same bytes, the same content (the journal's beginning
    has expired, or another fold version wrote the row), or wrong."""

    identical: int
    same: int
    wrong: tuple[str, ...]


async def table_rows(bootstrap: str) -> tuple[dict[Place, Row], Until]:
    """The tables at a sealed cut, and the journal offsets of that cut."""
    async with Subscriber(bootstrap, tables=TABLES) as subscriber:
        snapshot = await subscriber.snapshot()
        sealed: dict[int, int] = dict.fromkeys(range(subscriber.partitions), -1)
        for (partition, _), seal in subscriber.sealed().items():
            sealed[partition] = max(sealed[partition], seal.offset)
    rows = {(row.table, row.cluster, row.namespace, row.name): row for row in snapshot.rows}
    return rows, Until(offsets=sealed)


def compare(actual: dict[Place, Row], replayed: dict[Place, Row], *, whole: bool) -> Verdict:
    """Compare the replayed rows with those in the tables."""
    identical = same = 0
    wrong: list[str] = []
    for key in sorted({*actual, *replayed}):
        row, replayed_row = actual.get(key), replayed.get(key)
        name = f"{key[0]} {key[1]}/{key[2]}/{key[3]}"
        if row is None or replayed_row is None:
            wrong.append(f"{name}: {'is not in the table' if row is None else 'does not follow from the journal'}")
        elif row.value == replayed_row.value:
            identical += 1
        elif (not whole or b'"cause":[],' in row.value or _only_change_differs(row, replayed_row)) and same_content(
            row.value, replayed_row.value
        ):
            # A row without a cause was rewritten by another fold version: from the journal alone its version is older.
            # What another version said of the way to the same content stays, as it is written only once.
            same += 1
        else:
            wrong.append(f"{name}: version {row.version} in the table, {replayed_row.version} from the journal")
    return Verdict(identical, same, tuple(wrong))


def _only_change_differs(row: Row, replayed_row: Row) -> bool:
    heads = [each.value.partition(b',"change":') for each in (row, replayed_row)]
    return row.table == "backend" and heads[0][0] == heads[1][0]
