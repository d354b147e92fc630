"""Replay of one partition of the journal, in this process or as one of several."""

from collections.abc import Callable
from typing import NamedTuple

from streams.facets.tables import WHOLE_ROW_TABLES, WHOLE_WORKER_TABLES
from streams.fold.fold import PartitionFold
from streams.history.collectors import RowCollector
from streams.history.coverage import Coverage, CoverageRecorder
from streams.history.queries import Until, time_of
from streams.kafka.range_reader import RangeReader
from streams.subscription.rows import EVERYTHING, Filter, Row
from streams.subscription.set_rows import SetRows
from streams.wire.keys import is_row, parse_row_key
from streams.wire.records import JOURNAL, TABLES

REPORT_EVERY = 500
"""After how many records a replay says how far it is."""


class PartitionReplay(NamedTuple):
    """The retained range of a partition (its first offset, and the one after the last), how far to fold it, and the
    Services and tables whose rows are wanted; `window` is that of tombstones, in seconds. The clusterset's rows follow
    from all clusters': they are not to be had with a selection of clusters. With `joins_sets` its sets are joined with
    what the clusters contribute (`subscription/set_rows`), and come each time that one of both has changed."""

    partition: int
    begin: int
    end: int
    until: Until
    selection: Filter
    window: int
    tables: tuple[str, ...] = TABLES
    joins_sets: bool = True


def replay_partition(
    replay: PartitionReplay, reader: RangeReader, collector: RowCollector, report: Callable[[int], None]
) -> Coverage:
    """Fold a partition, and hand its selected rows to the collector. `report` gets the number of records folded, now
    and then. Raises BrokerError, RangeExpired."""
    partition, selection = replay.partition, replay.selection
    selects = None if selection == EVERYTHING else selection.wants
    rules = WHOLE_ROW_TABLES if set(replay.tables) <= set(TABLES) else WHOLE_WORKER_TABLES
    fold = PartitionFold(partition, rules, replay.window, selects)
    sets = SetRows()
    recorder, begin_at, stopped = CoverageRecorder(), "", False
    for record in reader.records(JOURNAL, partition, replay.begin, replay.end, whole=True):
        begin_at = begin_at or time_of(record.value)
        if replay.until.beyond(partition, record.offset, record.value):
            stopped = True
            break
        rows = [
            Row(write.table, *parse_row_key(write.key.decode()), write.version, write.value or b"")
            for write in fold.step(record.offset, record.value, record.timestamp)
            if write.table in replay.tables and is_row(write.key)
        ]
        for row in sets.join(rows) if replay.joins_sets else rows:
            collector.take(row)
        recorder.note(record.offset, fold.clusters)
        folded = record.offset - replay.begin + 1
        if folded % REPORT_EVERY == 0:
            report(folded)
    report(replay.end - replay.begin)
    return Coverage(replay.begin, begin_at, replay.end, recorder.clusters(fold), stopped)
