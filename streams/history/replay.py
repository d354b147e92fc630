"""Replay: folds the retained journal again, up to a point, into the rows that follow from it."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple, Self, TypeVar

from streams.history.collectors import Place, RowCollector, TableRows
from streams.history.coverage import Coverage
from streams.history.parallel import cores, replay_in_processes
from streams.history.partition_replay import PartitionReplay, replay_partition
from streams.history.queries import Until
from streams.kafka.admin import resume_window
from streams.kafka.range_reader import RangeReader
from streams.runtime.closing import Closing
from streams.runtime.progress import ProgressReport
from streams.subscription.rows import EVERYTHING, Filter, Row
from streams.wire.partitioning import partition_of
from streams.wire.records import JOURNAL, TABLES

PROCESSES_PAY_FROM = 20_000
"""Fewer records are folded in less time than processes take to start."""

_Collector = TypeVar("_Collector", bound=RowCollector)


class Part(NamedTuple):
    """The retained range of a partition: its first offset, and the one after the last."""

    begin: int
    end: int


class Replay(Closing):
    """`collect` and `tables` fold the journal, by partition on as many cores as there are. Use it in a `with`.

    `whole` is False if the journal's beginning has expired: rows then have their original content, but their original
    `version` and `previous` only from the first retained snapshot on.
    """

    def __init__(
        self,
        bootstrap: str,
        progress: ProgressReport = lambda _, __: None,
        *,
        processes: int | None = None,
        processes_pay_from: int = PROCESSES_PAY_FROM,
    ) -> None:
        self._bootstrap = bootstrap
        self._reader = RangeReader(bootstrap)
        self._progress = progress
        self._processes = cores() if processes is None else processes
        self._processes_pay_from = processes_pay_from
        self._window = 0
        self.parts: dict[int, Part] = {}
        self.coverage: dict[int, Coverage] = {}
        """The coverage of each partition that was folded."""

    def __enter__(self) -> Self:
        try:
            count = self._reader.journal_partitions()
            # Deleted rows get their tombstones after the same window as in the worker.
            self._window = resume_window(self._bootstrap)
            begins, ends = self._reader.bounds(JOURNAL, range(count))
            self.parts = {p: Part(begins[p], ends[p]) for p in range(count)}
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Disconnect."""
        self._reader.close()

    @property
    def whole(self) -> bool:
        """Whether the journal still has its beginning."""
        return all(part.begin == 0 for part in self.parts.values())

    def tables(
        self,
        until: Until,
        selection: Filter = EVERYTHING,
        tables: tuple[str, ...] = TABLES,
        *,
        joins_sets: bool = True,
    ) -> dict[Place, Row]:
        """The newest row of each selected Service in each of these tables, without tombstones; `joins_sets` as in
        PartitionReplay. Raises FacetsError."""
        rows: dict[Place, Row] = {}
        for collector in self.collect(TableRows, until, selection, tables, joins_sets=joins_sets):
            rows |= collector.rows
        return rows

    def collect(
        self,
        make_collector: Callable[[], _Collector],
        until: Until,
        selection: Filter = EVERYTHING,
        tables: tuple[str, ...] = TABLES,
        *,
        joins_sets: bool = True,
    ) -> list[_Collector]:
        """The collector of each partition, in their order, with the selected rows. The fewer Services are selected, the
        faster: the changes of others are only decoded. `make_collector` and what it makes are pickled. Raises
        FacetsError."""
        replays = [
            PartitionReplay(p, *self.parts[p], until, selection, self._window, tables, joins_sets)
            for p in self._partitions(selection)
        ]
        total = sum(replay.end - replay.begin for replay in replays)

        def report(folded: int) -> None:
            self._progress(f"folding {JOURNAL}", folded / total if total else 1.0)

        processes = min(self._processes, len(replays)) if total >= self._processes_pay_from else 1
        if processes > 1:
            folded = replay_in_processes(self._bootstrap, replays, make_collector, processes, report)
        else:
            folded = self._replay_here(replays, make_collector, report)
        self.coverage = {partition: coverage for partition, (coverage, _) in folded.items()}
        report(total)
        return [collector for _, collector in folded.values()]

    def _replay_here(
        self,
        replays: Sequence[PartitionReplay],
        make_collector: Callable[[], _Collector],
        report: Callable[[int], None],
    ) -> dict[int, tuple[Coverage, _Collector]]:
        results: dict[int, tuple[Coverage, _Collector]] = {}
        before = 0
        for replay in replays:
            collector, report_here = make_collector(), partial(_report_after, report, before)
            coverage = replay_partition(replay, self._reader, collector, report_here)
            results[replay.partition] = coverage, collector
            before += replay.end - replay.begin
        return results

    def _partitions(self, selection: Filter) -> list[int]:
        """The partitions of the selected Services."""
        if not (selection.namespaces and selection.services):
            return sorted(self.parts)
        count = len(self.parts)
        services = product(selection.namespaces, selection.services)
        return sorted({partition_of(namespace, service, count) for namespace, service in services})


def _report_after(report: Callable[[int], None], before: int, folded: int) -> None:
    report(before + folded)
