"""Garbage in the facet topics: readers come to what they come to without it, and the owner writes over it."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

import orjson
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.facets.changelog_records import BAD_VERSION, NO_VERSION, unreadable
from streams.fold.table import Write
from streams.kafka.bulk_reader import Chunk
from streams.subscription.cursor import Cursor
from streams.subscription.delivery import Batch, Subscription
from streams.subscription.rows import Filter, Row
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import TABLES, topic_of
from streams.worker.changelog import Fetched
from streams.worker.recovery import Recovered, recover
from streams.worker.unreadable import overwrite
from tests.properties.folding import Log, Logs, compacted, fold, logs_of
from tests.properties.journals import Journal, journals

_AHEAD = 10**9


@st.composite
def garbage(draw: st.DrawFn, logs: Logs, end: int) -> tuple[str, int, Write]:
    """A table, where in its log, and a record that no worker has written."""
    table = draw(st.sampled_from(TABLES))
    log = logs[table]
    position = draw(st.integers(0, len(log)))
    like = draw(st.sampled_from(log))
    version = draw(st.integers(0, end - 1))
    kind = draw(
        st.sampled_from(("stamp", "no stamp", "key", "value", "cut", "another's", "ahead", "ahead of the seal"))
    )
    if kind in {"stamp", "no stamp"}:
        return table, position, like._replace(version=BAD_VERSION if kind == "stamp" else NO_VERSION)
    if kind == "key":
        key = draw(st.sampled_from((b"", b"a/b", b"\xff", b"east/shop/a/b", b"east/SHOP/a", b"~seal/\xff", b"/shop/a")))
        return table, position, Write(table, key, b"{}", version)
    if kind == "cut":
        return table, position, like._replace(value=(like.value or b"{}")[:-1], version=version)
    if kind == "value":
        value = draw(st.sampled_from((b"", b"null", b"{}", b"\xff", b"[" * 2000, b'{"version":1}')))
        return table, position, like._replace(value=value, version=version)
    if kind == "another's":
        other = draw(st.sampled_from([each for each in log if each.key != like.key] or [like._replace(value=b"1")]))
        return table, position, Write(table, like.key, other.value or b"1", version)
    record = orjson.loads(like.value or b"{}")
    record["offset" if like.key.startswith(SEAL_PREFIX) else "version"] = version = _AHEAD if kind == "ahead" else end
    return table, position, like._replace(value=orjson.dumps(record), version=version)


@st.composite
def polluted(draw: st.DrawFn) -> tuple[Logs, Logs, int]:
    """The tables as the fold makes them, the same with garbage in them, and the journal's end."""
    journal: Journal = draw(journals(length=3))
    values = journal.values
    clean = logs_of(fold(values))
    dirty = {table: list(log) for table, log in clean.items()}
    for table, position, record in draw(st.lists(garbage(clean, len(values)), min_size=1, max_size=4)):
        dirty[table].insert(position, record)
    return clean, dirty, len(values)


class Topics:
    """The tables of partition 0, with a ChangelogReader's face."""

    def __init__(self, logs: Logs) -> None:
        self.logs = logs

    async def read(
        self, tables: Sequence[str], partitions: Iterable[int], start: Mapping[tuple[str, int], int]
    ) -> AsyncIterator[Fetched]:
        for table in tables:
            log = self.logs[table]
            yield Fetched(table, 0, 0, len(log), None)
            for at in range(0, len(log), 5):
                yield Fetched(table, 0, 0, len(log), _chunk(table, at, log[at : at + 5]))


def _chunk(table: str, start: int, writes: Log) -> Chunk:
    made = Chunk(TopicPartition(topic_of(table), 0), start + len(writes))
    for offset, write in enumerate(writes, start):
        made.offsets.append(offset)
        made.timestamps.append(0)
        made.keys.append(write.key)
        made.values.append(write.value)
        made.versions.append(write.version)
    return made


async def recovered(logs: Logs, end: int) -> Recovered:
    async def journal_ends(partitions: Iterable[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, end)

    return (await recover(Topics(logs), TABLES, {0}, {}, journal_ends))[0]  # type: ignore[arg-type]


@given(polluted())
async def test_a_worker_comes_back_to_the_same_and_writes_over_what_it_can_not_read(
    found: tuple[Logs, Logs, int],
) -> None:
    clean, dirty, end = found
    expected, image = (await recovered(clean, end)).image, (await recovered(dirty, end)).image
    assert (image.rows, image.seals) == (expected.rows, expected.seals)
    found_again = await recovered(dirty, end)
    # The fold itself writes over what is late.
    for write in [*found_again.overwrites, *(overwrite(image, *at) for at in found_again.late)]:
        dirty[write.table].append(write)
    for table, log in dirty.items():
        for write in {each.key: each for each in log}.values():
            assert not unreadable(table, write.key, write.value, write.version)
            assert write.version < end
    # Nothing of it is left where Kafka keeps the newest of each key.
    assert compacted(dirty) == compacted(clean)
    again = await recovered(dirty, end)
    assert again.overwrites == []
    assert again.image.seals == expected.seals
    rows = {table: {key: each for key, each in held.items() if each[1]} for table, held in again.image.rows.items()}
    assert rows == {
        table: {key: each for key, each in held.items() if each[1]} for table, held in expected.rows.items()
    }


@given(polluted())
def test_a_subscriber_gets_the_same_snapshot(found: tuple[Logs, Logs, int]) -> None:
    clean, dirty, end = found
    assert _snapshot(dirty, end) == _snapshot(clean, end)


def _snapshot(logs: Logs, end: int) -> tuple[Row, ...]:
    for strict in (False, True):
        subscription = Subscription(TABLES, 1, Filter(), strict=strict)
        subscription.journal_ends = {0: end}
        for table, log in logs.items():
            subscription.gather(table, 0, ((i, each.key, each.value, each.version) for i, each in enumerate(log)))
        if strict or not subscription.doubtful():
            break
    assert subscription.complete()
    return subscription.ready()


@given(polluted(), st.data())
def test_a_subscriber_gets_the_same_batches(found: tuple[Logs, Logs, int], data: st.DataObject) -> None:
    clean, dirty, end = found
    assert _batches(dirty, end, data) == _batches(clean, end, data)


def _batches(logs: Logs, end: int, data: st.DataObject) -> list[Batch]:
    """As they come live; the journal's end is only asked for where the subscription wants it."""
    skipped: list[str] = []
    subscription = Subscription(TABLES, 1, Filter(), Cursor("", {}, {}), skipped=lambda *what: skipped.append(what[3]))
    positions = dict.fromkeys(TABLES, 0)
    batches = []
    while left := [table for table in TABLES if positions[table] < len(logs[table])]:
        table = data.draw(st.sampled_from(left))
        for position in range(positions[table], min(len(logs[table]), positions[table] + 5)):
            write = logs[table][position]
            positions[table] += 1
            if subscription.beyond(table, 0, write.version):
                subscription.journal_ends[0] = end
            batches += subscription.feed(table, 0, position, write.key, write.value, write.version)
    return [batch._replace(rows=tuple(sorted(batch.rows))) for batch in batches]
