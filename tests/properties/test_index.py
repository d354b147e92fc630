"""The index says what a replay of the journal up to the same point says: whatever the batches, wherever its process was
ended in between, in rows whole and in parts, of single clusters and of what they export together."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.history.collectors import AllRows, LastRows, TableRows
from streams.history.coverage import Coverage, NotKnown, check_covered
from streams.history.partition_replay import PartitionReplay, replay_partition
from streams.history.queries import Holder, Until, holders, place, time_of
from streams.index import partition_indexer
from streams.index.partition_indexer import PartitionIndexer
from streams.index.reader import IndexReader
from streams.index.writer import IndexedLog, IndexWriter, create_index
from streams.kafka.log_tail import Record
from streams.subscription.rows import EVERYTHING, Filter, Row
from streams.wire.records import CLUSTERSET, FOLDED_TABLES
from streams.wire.row_codec import is_deleted
from tests.properties.clustersets import History, folded, histories
from tests.properties.folding import WINDOW
from tests.properties.journals import Journal, journals
from tests.properties.strategies import ADDRESSES, NAMESPACE, SERVICES
from tests.support.parts import small_parts

ENDS = st.lists(st.sampled_from(("batch", "end")), min_size=1, max_size=8)
"""After some of the records: a batch is written, or the process ends after it, and another goes on."""


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    with small_parts(), patch.multiple(partition_indexer, BLOCK_VERSIONS=3, _POINTS=2):
        yield


class Log(NamedTuple):
    """A partition's records, and the times at which the broker took them, as a RangeReader has them."""

    values: Sequence[bytes]
    times: Sequence[int]
    window: int

    def records(self, _: str, __: int, start: int, end: int, *, whole: bool = False) -> Iterator[Record]:
        assert whole
        for offset in range(start, end):
            yield Record(offset, self.times[offset], b"", self.values[offset])


class Replayed(NamedTuple):
    """What a plain fold makes of the records up to a point."""

    newest: dict[tuple[str, str, str, str], Row]
    rows: list[Row]
    coverage: Coverage


def replayed(log: Log, until: Until) -> Replayed:
    replay = PartitionReplay(0, 0, len(log.values), until, EVERYTHING, log.window, FOLDED_TABLES)
    newest, rows = TableRows(), AllRows()
    coverage = replay_partition(replay, log, newest, lambda _: None)  # type: ignore[arg-type]
    replay_partition(replay, log, rows, lambda _: None)  # type: ignore[arg-type]
    return Replayed(newest.rows, rows.rows, coverage)


def index(log: Log, path: Path, ends: Sequence[str], every: int) -> None:
    create_index(path, IndexedLog("kafka", 1, log.window))
    indexer, writer = PartitionIndexer(0, 1, log.window), IndexWriter(path)
    turns = 0
    while indexer.resume < len(log.values):
        offset = indexer.resume
        indexer.take(offset, log.values[offset], log.times[offset])
        if offset % every == 0:
            writer.write(0, indexer.batch())
            turns += 1
            if ends[turns % len(ends)] == "end" and indexer.next == offset + 1:
                # What was taken after the last batch is lost with the process.
                writer.close()
                writer = IndexWriter(path)
                indexer = PartitionIndexer(0, 1, log.window, loaded=writer.load(0, 1))
                if indexer.resume <= offset:
                    ends = ["batch"]  # An open snapshot is read again from its begin.
    writer.write(0, indexer.batch())
    writer.close()


def points(log: Log) -> list[Until]:
    """Each time in the log, and the end."""
    times = sorted({time_of(value) for value in log.values} - {""})
    return [*(Until(at=at) for at in times), *(Until(offsets={0: n}) for n in range(0, len(log.values), 5)), Until()]


def shown(rows: Sequence[Row]) -> list[Row]:
    return sorted((row for row in rows if not is_deleted(row.value)), key=place)


def check(log: Log, ends: Sequence[str], every: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "facets.index"
        index(log, path, ends, every)
        with IndexReader(path) as reader:
            for until in points(log):
                same_as_replayed(reader, log, until)


def same_as_replayed(reader: IndexReader, log: Log, until: Until) -> None:
    expected = replayed(log, until)
    rows = reader.rows_at(FOLDED_TABLES, EVERYTHING, until)
    assert shown(rows) == shown(list(expected.newest.values()))
    single = [row for row in rows if row.table != CLUSTERSET]
    assert sorted(single) == sorted(row for row in expected.newest.values() if row.table != CLUSTERSET)
    history = list(reader.history(FOLDED_TABLES, EVERYTHING, until))
    for service in {(row.namespace, row.name) for row in expected.rows}:
        for table in FOLDED_TABLES:
            for cluster in {row.cluster for row in expected.rows}:
                own = [row for row in expected.rows if (row.namespace, row.name) == service]
                of_table = [row for row in own if (row.table, row.cluster) == (table, cluster)]
                got = [
                    row for row in history
                    if (row.namespace, row.name, row.table, row.cluster) == (*service, table, cluster)
                ]  # fmt: skip
                assert got == of_table
    assert len(history) == len(expected.rows)
    for since in ("", until.at):
        wanted, found = LastRows((), since, 3), LastRows((), since, 3)
        for row in expected.rows:
            wanted.take(row)
        for row in reader.history(FOLDED_TABLES, EVERYTHING, until, since, 3):
            found.take(row)
        assert found.rows() == wanted.rows()
    for address in (*ADDRESSES["IPv4"], *ADDRESSES["IPv6"], "10.1.0.1", "10.96.0.7"):
        assert owners(reader.owners(address, until), address) == owners(list(expected.newest.values()), address)
    known, wanted = remarks(reader.coverage(until), until), remarks({0: expected.coverage}, until)
    if not known.error and is_in_order(log.values):
        assert known == wanted
    else:
        # Which of a cluster's records come before one of a clock that is ahead is not in the index: whether it had
        # been silent may be told differently, but not that it had been where it hadn't.
        assert (known.error, known.since) == (wanted.error, wanted.since)
        assert silences(known).issubset(silences(wanted))
    assert reader.covers(until, {0: len(log.values)})


def owners(rows: list[Row], address: str) -> list[Holder]:
    return list(holders(address, sorted(rows, key=place)))


class Remarks(NamedTuple):
    """What a command says of the point, and since when each cluster is known."""

    error: str
    texts: list[str]
    since: dict[str, tuple[int, str]]


def remarks(parts: dict[int, Coverage], until: Until) -> Remarks:
    since = {name: (cluster.since, cluster.since_at) for name, cluster in parts[0].clusters.items()}
    try:
        return Remarks("", check_covered(parts, until), since)
    except NotKnown as error:
        return Remarks(str(error), [], since)


def silences(said: Remarks) -> set[str]:
    return {text.split()[1] for text in said.texts if "had been silent" in text}


def is_in_order(values: Sequence[bytes]) -> bool:
    times = [at for value in values if (at := time_of(value))]
    return times == sorted(times)


@given(journal=journals(), ends=ENDS, every=st.integers(1, 9))
def test_it_is_the_replay_at_every_point(journal: Journal, ends: list[str], every: int) -> None:
    check(Log(journal.values, [0] * len(journal.values), WINDOW), ends, every)


@given(drawn=histories, ends=ENDS, every=st.integers(1, 9))
def test_of_what_clusters_export_together_too(drawn: History, ends: list[str], every: int) -> None:
    journal, _ = folded(drawn)
    check(Log(journal.values, journal.times, journal.window), ends, every)


@given(journal=journals(), ends=ENDS, every=st.integers(1, 9), share=st.floats(0, 1))
def test_what_the_journal_has_let_go_is_missed_by_nothing_later(
    journal: Journal, ends: list[str], every: int, share: float
) -> None:
    log = Log(journal.values, [0] * len(journal.values), WINDOW)
    begin = int(share * (len(log.values) - 1))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "facets.index"
        index(log, path, ends, every)
        with IndexWriter(path) as writer:
            position = writer.prune(0, 1, begin)
            assert position is not None
            assert (position.begin, position.next) == (begin, len(log.values))
        with IndexReader(path) as reader:
            for offset in range(begin, len(log.values), 3):
                until = Until(offsets={0: offset})
                newest = list(replayed(log, until).newest.values())
                assert shown(reader.rows_at(FOLDED_TABLES, EVERYTHING, until)) == shown(newest)
                for address in ADDRESSES["IPv4"]:
                    assert owners(reader.owners(address, until), address) == owners(newest, address)
            assert not reader.coverage(Until(offsets={0: begin - 1}))[0].clusters


@given(journal=journals(), every=st.integers(1, 9))
def test_of_one_service_it_is_what_the_selection_leaves(journal: Journal, every: int) -> None:
    log = Log(journal.values, [0] * len(journal.values), WINDOW)
    chosen = Filter(frozenset({"east"}), frozenset({NAMESPACE}), frozenset({SERVICES[0]}))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "facets.index"
        index(log, path, ["batch"], every)
        with IndexReader(path) as reader:
            rows = reader.rows_at(("backend", "frontend"), chosen, Until())
    expected = [
        row for row in replayed(log, Until()).newest.values()
        if row.table in {"backend", "frontend"} and chosen.wants(*row[1:4])
    ]  # fmt: skip
    assert sorted(rows) == sorted(expected)
