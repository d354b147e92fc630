"""Rows in parts are the rows that the same journal makes without: joined by README's rules, by our readers, after a
crash between any two batches, and after compaction."""

from collections.abc import Iterator

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.facets.row_parts import find_in, is_head, join_row
from streams.facets.tables import WHOLE_ROW_TABLES, WHOLE_WORKER_TABLES
from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.subscription.cursor import Cursor
from streams.subscription.delivery import Batch, Subscription
from streams.subscription.rows import EVERYTHING
from streams.wire.keys import PART_PREFIX
from streams.wire.records import CLUSTERSET
from tests.properties.clustersets import History, folded, histories
from tests.properties.folding import TABLES, WINDOW, fold, is_row, logs_of, restarted
from tests.properties.journals import Journal, journals
from tests.properties.readers import read_by_all
from tests.support.parts import PlainParts, merged, small_parts


@pytest.fixture(autouse=True, scope="module")
def _small_parts() -> Iterator[None]:
    with small_parts():
        yield


def fold_whole(values: list[bytes]) -> list[Write]:
    whole = PartitionFold(0, WHOLE_ROW_TABLES, WINDOW)
    return [write for offset, value in enumerate(values) for write in whole.step(offset, value)]


def rows_of(writes: list[Write]) -> list[Write]:
    return [write for write in writes if write.table in TABLES and is_row(write)]


@given(journal=journals())
def test_joined_they_are_the_whole_rows(journal: Journal) -> None:
    wanted = {(write.table, write.key, write.version): write.value for write in rows_of(fold_whole(journal.values))}
    plain, records = PlainParts(), {}
    got = {}
    for write in fold(journal.values):
        if write.table not in TABLES:
            continue
        key = write.key.decode()
        if write.key.startswith(PART_PREFIX):
            plain.take(key, write.value, write.version)
            if write.value is None:
                del records[write.key]
            else:
                records[write.key] = write.version, write.value
        elif is_row(write):
            at = (write.table, write.key, write.version)
            got[at] = value = write.value and join_row(write.table, write.value, find_in(records, key)).row
            if write.value is not None and write.table == "backend":
                assert value is not None
                assert merged(plain.take(key, write.value, write.version)) == merged(orjson.loads(value))
                assert plain.left_over(key) == set()
    assert got == wanted


@given(histories)
def test_a_clusters_contribution_in_parts_is_the_whole_row(drawn: History) -> None:
    journal, _ = folded(drawn)
    whole = PartitionFold(0, WHOLE_WORKER_TABLES, WINDOW)
    wanted = [
        write
        for offset, (value, now) in enumerate(zip(journal.values, journal.times, strict=True))
        for write in whole.step(offset, value, now)
        if write.table == CLUSTERSET
    ]
    plain, records, got = PlainParts(), dict[bytes, tuple[int, bytes]](), []
    for write in journal.writes:
        if write.table != CLUSTERSET:
            continue
        key = write.key.decode()
        if write.key.startswith(PART_PREFIX):
            plain.take(key, write.value, write.version)
            records.pop(write.key, None)
            if write.value is not None:
                records[write.key] = write.version, write.value
            continue
        value = write.value
        if value is not None and is_head(CLUSTERSET, value):
            value = join_row(CLUSTERSET, value, find_in(records, key)).row
            assert merged(plain.take(key, write.value, write.version)) == merged(orjson.loads(value))
            assert plain.left_over(key) == set()
        got.append(write._replace(value=value))
    assert got == wanted


@given(journal=journals(), data=st.data())
def test_a_worker_that_comes_back_between_two_batches_writes_what_is_left(
    journal: Journal, data: st.DataObject
) -> None:
    values = journal.values
    whole = logs_of(fold(values))
    logs = {}
    for table, log in whole.items():
        ends = [at for at in range(len(log) + 1) if at == 0 or not log[at - 1].key.startswith(PART_PREFIX)]
        logs[table] = log[: data.draw(st.sampled_from(ends))]
    again, resume, _ = restarted(logs)
    for table, log in logs_of(
        write for at, value in enumerate(values[resume:], resume) for write in again.step(at, value)
    ).items():
        # The tombstone of a seal may be written again.
        logs[table] = list(dict.fromkeys(logs[table] + log))
    assert logs == whole


@given(journal=journals())
def test_all_readers_read_them(journal: Journal) -> None:
    read_by_all(fold(journal.values))


@given(journal=journals())
def test_what_compaction_leaves_is_enough(journal: Journal) -> None:
    values = journal.values
    logs = logs_of(fold(values))
    kept = {table: list({write.key: write for write in log}.values()) for table, log in logs.items()}
    fold_again, _, _ = restarted(kept)
    whole = PartitionFold(0, WHOLE_ROW_TABLES, WINDOW)
    for offset, value in enumerate(values):
        whole.step(offset, value)
    for table, other in zip(fold_again.tables, whole.tables, strict=True):
        for key in other:
            entry = table.entry(key)
            assert (entry._replace(parts={}) if table.name == "backend" else entry) == other.entry(key)


def test_some_are_in_parts() -> None:
    seen = []

    @given(journal=journals())
    def look(journal: Journal) -> None:
        seen.append(sum(is_head(write.table, write.value) for write in rows_of(fold(journal.values)) if write.value))

    look()
    assert sum(map(bool, seen)) > len(seen) / 4


def batches_of(subscription: Subscription, writes: list[Write], positions: dict[str, int]) -> Iterator[Batch]:
    """What a subscriber gets who reads these records from its positions on, as our client does."""
    read: dict[str, list[tuple[int, bytes, bytes | None, int]]] = {table: [] for table in TABLES}
    for table, key, value, version in writes:
        if table not in TABLES:
            continue
        position = len(read[table])
        if position >= positions.get(table, 0):
            if subscription.lacks_parts(table, 0, key, value):
                subscription.load_parts(table, 0, read[table])
            yield from subscription.feed(table, 0, position, key, value, version)
        read[table].append((position, key, value, version))


@given(journal=journals(), data=st.data())
def test_a_subscriber_goes_on_from_any_cursor(journal: Journal, data: st.DataObject) -> None:
    writes = fold(journal.values)
    first = Subscription(TABLES, 1, EVERYTHING, Cursor("", {}, {}))
    whole = [(batch, first.cursor) for batch in batches_of(first, writes, {})]
    at = data.draw(st.integers(0, len(whole) - 1)) if whole else 0
    if whole:
        cursor = whole[at][1]
        positions = {table: position for (table, _), position in cursor.positions.items()}
        again = Subscription(TABLES, 1, EVERYTHING, cursor)
        assert list(batches_of(again, writes, positions)) == [batch for batch, _ in whole[at + 1 :]]
