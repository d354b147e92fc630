"""The two clients that write commits: one behaviour."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from streams.kafka.commit_producer import CommitProducer, KafkaPythonProducer, LibrdkafkaProducer
from streams.kafka.errors import BrokerError
from streams.wire.records import JOURNAL
from tests.bench.bench import free_port
from tests.integration.journal import PARTITIONS, clean_topics, read_topic

_KINDS: list[Callable[[str, str], CommitProducer]] = [KafkaPythonProducer, LibrdkafkaProducer]
_DEADLINE = 60


class _Acks:
    """What a producer says of each record, in the order in which it says it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object, int, float]] = []
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def of(self, name: str) -> Callable[[object, int, float], None]:
        def done(error: object, offset: int, appended: float) -> None:
            self._loop.call_soon_threadsafe(self._take, (name, error, offset, appended))

        return done

    def _take(self, told: tuple[str, object, int, float]) -> None:
        self.told.append(told)
        self._news.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(_DEADLINE):
            while len(self.told) < count:
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def _connected(
    kind: Callable[[str, str], CommitProducer], bootstrap_servers: str
) -> AsyncIterator[CommitProducer]:
    """A producer, to an empty journal."""
    clean_topics(bootstrap_servers)
    producer = await asyncio.to_thread(kind, bootstrap_servers, "test")
    try:
        yield producer
    finally:
        await asyncio.to_thread(producer.close, 10)


@pytest.mark.parametrize("kind", _KINDS)
async def test_commits_are_acknowledged_in_order_with_their_offsets_and_times(
    kind: Callable[[str, str], CommitProducer], bootstrap_servers: str
) -> None:
    acks = _Acks()
    names = [f"{number}" for number in range(500)]
    async with _connected(kind, bootstrap_servers) as producer:
        begun = time.time()
        for name in names:
            producer.send(0, b"east", name.encode(), acks.of(name))
        await acks.until(len(names))
        assert [(name, error, offset) for name, error, offset, _ in acks.told] == [
            (name, None, number) for number, name in enumerate(names)
        ]
        assert all(begun - 1 < appended < time.time() + 1 for _, _, _, appended in acks.told)
    assert [record.value for record in read_topic(bootstrap_servers, JOURNAL)] == [name.encode() for name in names]


@pytest.mark.parametrize("kind", _KINDS)
async def test_a_record_that_can_not_be_written_is_told_and_the_next_one_is_written(
    kind: Callable[[str, str], CommitProducer], bootstrap_servers: str
) -> None:
    acks = _Acks()
    async with _connected(kind, bootstrap_servers) as producer:
        try:
            producer.send(PARTITIONS - 1, b"east", b"x" * (18 * 1024 * 1024), acks.of("too large"))
        except Exception as error:
            acks.of("too large")(error, -1, 0.0)
        await acks.until(1)
        producer.send(PARTITIONS - 1, b"east", b"{}", acks.of("fits"))
        await acks.until(2)
    refused, written = acks.told
    assert refused[1] is not None
    assert written[:3] == ("fits", None, 0)


def test_without_a_broker_there_is_no_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.kafka.commit_producer._BOOTSTRAP_SECONDS", 1)
    with pytest.raises(BrokerError, match="no Kafka broker answers"):
        LibrdkafkaProducer(f"127.0.0.1:{free_port()}", "test")
