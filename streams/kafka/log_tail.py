"""The clients that follow the ends of partitions for a subscriber.

librdkafka is taken where it is installed (the extra `librdkafka`), else aiokafka, which takes twice the time for a
record: it builds and reads each request in Python.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, OffsetOutOfRangeError

from streams.kafka import librdkafka

log = logging.getLogger("facets.subscriber")

_FETCH_BYTES = 32 * 1024 * 1024
_POLL_MS = 500
_POLL_RECORDS = 20_000
_START_SECONDS = 15
_THREAD_SECONDS = 0.2
_AT_ONCE = 1000


class Record(NamedTuple):
    """A record, with the attributes that aiokafka's have; `timestamp` is in milliseconds."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


Records = dict[TopicPartition, list[Any]]


class LogTail(Protocol):
    """Reads assigned partitions, from one task."""

    async def start(self) -> None:
        """Connect. Raises KafkaError."""

    async def stop(self) -> None:
        """Disconnect."""

    async def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from these positions, and nothing else."""

    async def read(self) -> Records:
        """The next records; none after half a second without. Raises OffsetOutOfRangeError, KafkaError."""


def log_tail(bootstrap: str, client_id: str) -> LogTail:
    """One that is not connected yet."""
    if librdkafka.is_installed():
        return LibrdkafkaTail(bootstrap, client_id)
    return AiokafkaTail(bootstrap, client_id)


class AiokafkaTail:
    """See LogTail."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_bytes=2 * _FETCH_BYTES,
            fetch_max_wait_ms=_POLL_MS,
            client_id=client_id,
        )

    async def start(self) -> None:
        """See LogTail."""
        await self.consumer.start()

    async def stop(self) -> None:
        """See LogTail."""
        await self.consumer.stop()

    async def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """See LogTail."""
        self.consumer.assign(list(positions))
        for partition, position in positions.items():
            self.consumer.seek(partition, position)

    async def read(self) -> Records:
        """See LogTail."""
        fetched: Records = await self.consumer.getmany(timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
        return fetched


class LibrdkafkaTail:
    """See LogTail. A thread of ours takes the records from librdkafka's, and hands them over to the event loop."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._config = {
            **librdkafka.client_config(bootstrap, client_id),
            "group.id": client_id,  # Asked for, but without a subscription no group is joined.
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_uncommitted",
            "fetch.wait.max.ms": _POLL_MS,
            "fetch.message.max.bytes": _FETCH_BYTES,
            "fetch.max.bytes": 2 * _FETCH_BYTES,
            "receive.message.max.bytes": 4 * _FETCH_BYTES,
            "check.crcs": True,
        }
        self._consumer: Any = None
        self._thread: threading.Thread | None = None
        self._orders: SimpleQueue[_Order] = SimpleQueue()
        self._has_room = threading.Event()
        self._is_stopping = False
        self._fetched: Records = {}
        self._count = 0
        self._error: Exception | None = None
        self._news = asyncio.Event()
        self._closed = asyncio.Event()

    async def start(self) -> None:
        """See LogTail."""
        from confluent_kafka import Consumer, KafkaException  # noqa: PLC0415

        self._consumer = Consumer(self._config, logger=librdkafka.LOG)
        try:
            await asyncio.to_thread(self._consumer.list_topics, timeout=_START_SECONDS)
        except KafkaException as error:
            raise KafkaConnectionError(str(error)) from error

    async def stop(self) -> None:
        """See LogTail."""
        self._is_stopping = True
        self._has_room.set()
        if self._consumer is not None:
            # By a daemon thread: a broker that does not answer must not keep the process from ending.
            self._start_thread()
            await self._closed.wait()

    async def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """See LogTail."""
        assigned: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._orders.put(_Order(dict(positions), assigned))
        self._has_room.set()
        self._start_thread()
        await assigned

    async def read(self) -> Records:
        """See LogTail."""
        if not self._fetched and self._error is None:
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_MS / 1000):
                    await self._news.wait()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        fetched, self._fetched, self._count = self._fetched, {}, 0
        self._has_room.set()
        return fetched

    def _start_thread(self) -> None:
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, args=(loop,), name="facets-journal-tail", daemon=True)
            self._thread.start()

    # ---- in the event loop, as called by the thread ----------------------------------------------------

    def _begin(self, assigned: "asyncio.Future[None]") -> None:
        """What comes from here on is of the new assignment."""
        self._fetched, self._count, self._error = {}, 0, None
        if not assigned.done():
            assigned.set_result(None)

    def _take(self, records: list[tuple[TopicPartition, Record]], error: Exception | None) -> None:
        for partition, record in records:
            self._fetched.setdefault(partition, []).append(record)
        self._count += len(records)
        self._error = error or self._error
        if self._count >= _POLL_RECORDS:
            self._has_room.clear()
        self._news.set()

    # ---- in the thread ---------------------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # The loop has ended: nobody is waiting.
            while not self._is_stopping:
                while not self._orders.empty():
                    order = self._orders.get()
                    self._consumer.assign([_with_offset(*place) for place in order.positions.items()])
                    loop.call_soon_threadsafe(self._begin, order.assigned)
                first = self._consumer.poll(_THREAD_SECONDS)
                if first is not None:
                    messages = [first, *self._consumer.consume(_AT_ONCE, 0)]
                    loop.call_soon_threadsafe(self._take, *_sorted(messages))
                    self._has_room.wait()
            self._consumer.close()
            loop.call_soon_threadsafe(self._closed.set)


class _Order(NamedTuple):
    positions: Mapping[TopicPartition, int]
    assigned: "asyncio.Future[None]"


def _with_offset(partition: TopicPartition, position: int) -> Any:
    from confluent_kafka import TopicPartition as Assigned  # noqa: PLC0415

    return Assigned(partition.topic, partition.partition, position)


def _sorted(messages: Sequence[Any]) -> tuple[list[tuple[TopicPartition, Record]], Exception | None]:
    """The records, and an error that the subscriber has to know."""
    from confluent_kafka import KafkaError as Code  # noqa: PLC0415

    records: list[tuple[TopicPartition, Record]] = []
    failure: Exception | None = None
    for message in messages:
        error = message.error()
        partition = TopicPartition(message.topic(), message.partition())
        if error is None:
            record = Record(message.offset(), message.timestamp()[1], message.key(), message.value())
            records.append((partition, record))
        elif error.code() in {Code._AUTO_OFFSET_RESET, Code.OFFSET_OUT_OF_RANGE}:
            failure = OffsetOutOfRangeError({partition: message.offset()})
        else:
            # It goes on by itself.
            log.debug("%s[%s]: %s", partition.topic, partition.partition, error)
    return records, failure
