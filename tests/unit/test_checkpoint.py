"""Checkpoint files: what goes in comes out; what is damaged, another's or compacted is noticed."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from aiokafka import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.fold.fold import PartitionFold
from streams.kafka.bulk_reader import Chunk
from streams.wire.records import FOLD_VERSION, TABLES, topic_of
from streams.worker.changelog import Fetched
from streams.worker.checkpoint import (
    Image,
    UnusableCheckpoint,
    capture,
    decode,
    encode,
    path_of,
    restore,
    save,
)
from streams.worker.recovery import AnotherJournal, Recovered, recover
from tests.integration.journal import Churn
from tests.support.backend_rows import row


class Record(NamedTuple):
    offset: int
    timestamp: int
    key: bytes
    value: bytes | None
    version: int


def record(offset: int, key: bytes, value: bytes | None, version: int, timestamp: int = 1000) -> Record:
    return Record(offset, timestamp + offset, key, value, version)


def chunk(table: str, partition: int, records: Sequence[Record]) -> Chunk:
    """As the reader gives them."""
    made = Chunk(TopicPartition(topic_of(table), partition), records[-1].offset + 1)
    for each in records:
        made.offsets.append(each.offset)
        made.timestamps.append(each.timestamp)
        made.keys.append(each.key)
        made.values.append(each.value)
        made.versions.append(each.version)
    return made


class Log:
    """The changelogs of partition 0, in memory, with a reader's face."""

    def __init__(self) -> None:
        self.records: dict[str, list[Record]] = {table: [] for table in TABLES}
        self.begin = 0

    def append(self, table: str, key: bytes, value: bytes | None, version: int, timestamp: int = 1000) -> None:
        self.records[table].append(record(len(self.records[table]), key, value, version, timestamp))

    async def read(
        self, tables: Sequence[str], partitions: Iterable[int], start: Mapping[tuple[str, int], int] | None = None
    ) -> AsyncIterator[Fetched]:
        for table in tables:
            for partition in partitions:
                log = self.records[table]
                end = log[-1].offset + 1 if log else 0
                yield Fetched(table, partition, self.begin, end, None)
                wanted = [each for each in log if each.offset >= (start or {}).get((table, partition), 0)]
                for at in range(0, len(wanted), 3):
                    yield Fetched(table, partition, self.begin, end, chunk(table, partition, wanted[at : at + 3]))

    async def recover(self, known: Image | None = None) -> Recovered:
        return (await recover(self, TABLES, {0}, {0: known} if known else {}, endless))[0]  # type: ignore[arg-type]


async def endless(partitions: Iterable[int]) -> dict[int, int]:
    """A journal that has every offset."""
    return dict.fromkeys(partitions, 2**62)


NEW, OLD = row(b"a/b/c", 9), row(b"a/b/c", 5)


def contents(image: Image) -> Any:
    return (image.rows, image.seals, image.ends, {table: image.anchor(table) for table in TABLES})


def churned() -> Log:
    """What a fold makes of some churn."""
    churn, fold, log = Churn(seed=5, partitions=1), PartitionFold(0), Log()
    commits = [*churn.start(), *(each for _ in range(60) for each in churn.change())]
    for offset, commit in enumerate(commits):
        for write in fold.step(offset, commit.value):
            log.append(write.table, write.key, write.value, write.version)
    return log


keys = st.one_of(st.binary(max_size=8), st.sampled_from([b"a/b/c", b"~held/a/b/c", b"~seal/east", b"~seal/west"]))
writes = st.lists(
    st.tuples(st.sampled_from(TABLES), keys, st.none() | st.binary(max_size=30), st.integers(0, 2**62)), max_size=40
)


@given(writes)
@settings(max_examples=200, deadline=None)
def test_what_goes_in_comes_out(given_writes: list[tuple[str, bytes, bytes | None, int]]) -> None:
    image, offsets = Image(TABLES), dict.fromkeys(TABLES, 0)
    for table, key, value, version in given_writes:
        image.take(table, offsets[table], 7, key, value, version)
        offsets[table] += 1
    again = decode(encode(capture(image), 3, 8), 3, 8, TABLES)
    assert contents(again) == contents(image)
    assert encode(capture(again), 3, 8) == encode(capture(image), 3, 8)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_file_is_refused(data: st.DataObject) -> None:
    image = Image(TABLES)
    image.take("backend", 0, 7, b"a/b/c", b"{}", 0)
    whole = encode(capture(image), 0, 8)
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        broken = whole[:at]
    else:
        broken = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    with pytest.raises(UnusableCheckpoint):
        decode(broken, 0, 8, TABLES)


@pytest.mark.parametrize(
    ("partition", "partitions", "tables"), [(1, 8, TABLES), (0, 4, TABLES), (0, 8, (*TABLES, "other"))]
)
def test_another_partition_number_or_table_is_refused(partition: int, partitions: int, tables: tuple[str, ...]) -> None:
    whole = encode(capture(Image(TABLES)), 0, 8)
    with pytest.raises(UnusableCheckpoint, match="it is of partition 0 of 8"):
        decode(whole, partition, partitions, tables)


def test_another_fold_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encode(capture(Image(TABLES)), 0, 8)
    monkeypatch.setattr("streams.worker.checkpoint.FOLD_VERSION", 999)
    with pytest.raises(UnusableCheckpoint, match=f"fold {FOLD_VERSION}"):
        decode(whole, 0, 8, TABLES)


def test_a_file_is_written_whole_and_one_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    path = path_of(tmp_path, 3)
    assert restore(path, 3, 8, TABLES) is None
    image = Image(TABLES)
    image.take("backend", 0, 7, b"a/b/c", b"{}", 0)
    for _ in range(2):
        assert save(path, capture(image), 3, 8) == path.stat().st_size
    again = restore(path, 3, 8, TABLES)
    assert again is not None
    assert contents(again) == contents(image)
    assert [each.name for each in path.parent.iterdir()] == ["3.checkpoint"]
    # What a process that was killed while it wrote leaves behind is never read.
    path.with_suffix(".draft").write_bytes(b"half")
    assert restore(path, 3, 8, TABLES) is not None


async def test_tables_that_are_ahead_of_the_journal_are_not_taken_for_garbage() -> None:
    """It was made anew, or lost its end: what the tables hold must not be written over."""

    async def short(partitions: Iterable[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, 3)

    with pytest.raises(AnotherJournal, match=r"ahead of facets\.journal\[0\], which ends at 3"):
        await recover(churned(), TABLES, {0}, {}, short)  # type: ignore[arg-type]


async def test_any_prefix_with_its_tail_is_the_whole() -> None:
    log = churned()
    whole = await log.recover()
    for cut in range(0, len(log.records["backend"]), 7):
        image = Image(TABLES)
        for table in TABLES:
            for each in log.records[table][:cut]:
                version = each.version
                image.take(table, each.offset, each.timestamp, each.key, each.value, version)
        known = decode(encode(capture(image), 0, 8), 0, 8, TABLES)
        tail = await log.recover(known)
        assert contents(tail.image) == contents(whole.image)
        assert tail.records <= sum(max(len(each) - cut + 1, 1) for each in log.records.values())


async def test_a_fold_loaded_from_a_checkpoint_goes_on_as_one_that_was_never_stopped() -> None:
    churn, fold, log = Churn(seed=6, partitions=1), PartitionFold(0), Log()
    offset, image = 0, Image(TABLES)
    for commit in [*churn.start(), *(each for _ in range(40) for each in churn.change())]:
        for write in fold.step(offset, commit.value):
            log.append(write.table, write.key, write.value, write.version)
            if offset < 20:
                image.take(write.table, len(log.records[write.table]) - 1, log.records[write.table][-1].timestamp,
                           write.key, write.value, write.version)  # fmt: skip
        offset += 1
    recovered = (await log.recover(decode(encode(capture(image), 0, 1), 0, 1, TABLES))).image
    again = PartitionFold(0)
    for table in TABLES:
        for key, (version, value) in (*recovered.seals[table].items(), *recovered.rows[table].items()):
            again.load(table, key, value, version)
    assert again.recover() == (offset, [])
    for commit in (each for _ in range(40) for each in churn.change()):
        assert again.step(offset, commit.value) == fold.step(offset, commit.value)
        offset += 1


async def test_a_late_record_hides_a_row_until_it_is_written_again() -> None:
    log = Log()
    image = Image(TABLES)
    log.append("backend", b"a/b/c", NEW, 9)
    image.take("backend", 0, 1000, b"a/b/c", NEW, 9)
    log.append("backend", b"a/b/c", OLD, 5)
    for known in (None, decode(encode(capture(image), 0, 8), 0, 8, TABLES)):
        recovered = await log.recover(known)
        assert recovered.late == {("backend", b"a/b/c"): (OLD, 5)}
        assert recovered.image.rows["backend"] == {b"a/b/c": (9, NEW)}
    log.append("backend", b"a/b/c", NEW, 9)
    assert (await log.recover()).late == {}


async def test_a_late_record_after_a_tombstone_does_not_bring_the_row_back() -> None:
    log, image = Log(), Image(TABLES)
    log.append("backend", b"a/b/c", None, 9)
    image.take("backend", 0, 1000, b"a/b/c", None, 9)
    log.append("backend", b"a/b/c", OLD, 5)
    recovered = await log.recover(decode(encode(capture(image), 0, 8), 0, 8, TABLES))
    assert recovered.late == {("backend", b"a/b/c"): (OLD, 5)}
    assert recovered.image.rows["backend"] == {b"a/b/c": (9, None)}


def test_tombstones_are_forgotten_after_two_sweeps() -> None:
    image = Image(TABLES)
    image.take("backend", 0, 0, b"a/b/c", None, 4)
    image.take("backend", 1, 0, b"~seal/east", b"{}", 5)
    image.sweep()
    image.take("backend", 2, 0, b"a/b/d", None, 6)
    image.take("backend", 3, 0, b"~seal/east", b"{}", 7)
    assert set(image.rows["backend"]) == {b"a/b/c", b"a/b/d"}
    image.sweep()
    assert set(image.rows["backend"]) == {b"a/b/d"}
    image.sweep()
    assert image.rows["backend"] == {}


@pytest.fixture
async def at_ten() -> tuple[Log, Image]:
    """A log of 30 records, and an image of its first ten."""
    log, image = Log(), Image(TABLES)
    for i in range(30):
        key = b"east/shop/s%d" % (i % 4)
        log.append("backend", key, row(key, i), i)
    for each in log.records["backend"][:10]:
        image.take("backend", each.offset, each.timestamp, each.key, each.value, each.version)
    return log, decode(encode(capture(image), 0, 8), 0, 8, TABLES)


async def refused(log: Log, image: Image, caplog: pytest.LogCaptureFixture, why: str) -> bool:
    """Whether the image is refused, for this reason, and everything is read."""
    recovered = await log.recover(image)
    return (
        recovered.image is not image
        and recovered.records == len(log.records["backend"])
        and contents(recovered.image) == contents((await log.recover()).image)
        and why in caplog.text
    )


async def test_only_the_tail_is_read(at_ten: tuple[Log, Image], caplog: pytest.LogCaptureFixture) -> None:
    log, image = at_ten
    recovered = await log.recover(image)
    assert recovered.image is image
    assert recovered.records == 21
    assert caplog.text == ""


async def test_a_topic_made_anew_with_the_same_rows_is_noticed(
    at_ten: tuple[Log, Image], caplog: pytest.LogCaptureFixture
) -> None:
    log, image = at_ten
    log.records["backend"] = [each._replace(timestamp=each.timestamp + 1) for each in log.records["backend"]]
    assert await refused(log, image, caplog, "another record is at offset 9")


async def test_a_log_that_lost_its_end_is_noticed(at_ten: tuple[Log, Image], caplog: pytest.LogCaptureFixture) -> None:
    log, image = at_ten
    log.records["backend"] = log.records["backend"][:9]
    assert await refused(log, image, caplog, "offsets 0 to 8, not 9")


async def test_a_log_that_begins_later_is_noticed(at_ten: tuple[Log, Image], caplog: pytest.LogCaptureFixture) -> None:
    log, image = at_ten
    log.begin, log.records["backend"] = 20, log.records["backend"][20:]
    assert await refused(log, image, caplog, "offsets 20 to 29, not 9")


@pytest.mark.parametrize("gone", [9, 10, 12, 15, 28])
async def test_a_tail_that_was_compacted_is_noticed(
    at_ten: tuple[Log, Image], caplog: pytest.LogCaptureFixture, gone: int
) -> None:
    log, image = at_ten
    del log.records["backend"][gone]
    assert await refused(log, image, caplog, "records after offset 9 are gone")


def test_bodies_of_another_shape_are_refused() -> None:
    whole = encode(capture(Image(TABLES)), 0, 8)
    from hashlib import blake2b

    body = msgspec.msgpack.encode({"not": "this"})
    forged = whole[:20] + blake2b(body, digest_size=32).digest() + body
    with pytest.raises(UnusableCheckpoint, match="can't be read"):
        decode(forged, 0, 8, TABLES)
