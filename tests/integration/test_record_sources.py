"""Two consumers behind one fetch: neither waits for the other, and none of their records is lost or comes twice."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from streams.kafka import librdkafka
from streams.kafka.admin import ensure
from streams.local.kafka.broker import EmbeddedKafka
from streams.subscription.record_sources import RecordSources
from streams.wire.records import JOURNAL, topic_of

_COMMITS, _ROWS = TopicPartition(JOURNAL, 0), TopicPartition(topic_of("backend"), 0)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of its own: the topics have their real names."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        ensure(kafka.bootstrap_servers, partitions=1)
        yield kafka.bootstrap_servers


@pytest.fixture(autouse=True, params=["librdkafka", "python"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With librdkafka for the journal, and without."""
    if request.param == "python":
        monkeypatch.setattr(librdkafka, "is_installed", lambda: False)


@asynccontextmanager
async def sources(broker: str) -> AsyncIterator[RecordSources]:
    reader = RecordSources(broker)
    await reader.start(journal=True)
    try:
        yield reader
    finally:
        await reader.stop()


async def _write(broker: str, *records: tuple[TopicPartition, bytes]) -> dict[TopicPartition, int]:
    """Append them; the offset of each partition's first."""
    first: dict[TopicPartition, int] = {}
    async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
        for partition, value in records:
            written = await producer.send_and_wait(partition.topic, value, key=b"k", partition=partition.partition)
            first.setdefault(partition, written.offset)
    return first


async def _read(reader: RecordSources, count: int) -> list[tuple[TopicPartition, bytes]]:
    """The next records, at least so many."""
    came: list[tuple[TopicPartition, bytes]] = []
    while len(came) < count:
        for partition, records in (await reader.fetch(in_no_hurry=True)).items():
            came += [(partition, record.value) for record in records]
    return came


async def test_what_was_fetched_before_another_assignment_comes_once_from_its_positions(broker: str) -> None:
    written = [(_COMMITS, b"1"), (_ROWS, b"a"), (_COMMITS, b"2"), (_ROWS, b"b")]
    first = await _write(broker, *written)
    async with sources(broker) as reader:
        await reader.assign(first)
        (await reader.fetch()).clear()
        for _ in range(3):
            await reader.assign(first)
            assert sorted(await _read(reader, len(written))) == sorted(written)


async def test_an_error_of_one_consumer_loses_no_record_of_the_other(broker: str) -> None:
    first = await _write(broker, (_COMMITS, b"3"), (_ROWS, b"c"))
    came: list[bytes] = []

    async def take(reader: RecordSources) -> None:
        came.extend(record.value for records in (await reader.fetch()).values() for record in records)

    async def fail(reader: RecordSources) -> None:
        while True:
            await take(reader)

    async with sources(broker) as reader:
        await reader.assign({_COMMITS: first[_COMMITS], _ROWS: 10**9})
        with pytest.raises(OffsetOutOfRangeError):
            await fail(reader)
        while not came:
            # It is told again, as long as nobody asks for another position.
            with suppress(OffsetOutOfRangeError):
                await take(reader)
    assert came == [b"3"]
