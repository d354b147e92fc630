"""The facet tables' changelogs: read back in bulk on assignment, written by one idempotent producer.

Faust's own recovery passes records one by one (4,000 a second, measured); reading them here is some eighty times as
fast, and the stamps in them tell where to resume in the journal.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
)

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.fold.table import Write
from streams.kafka.bulk_reader import VERSION_HEADER, BulkReader, Chunk
from streams.runtime.shutdown import closed
from streams.wire.keys import PART_PREFIX
from streams.wire.records import DEAD_LETTER, JOURNAL, topic_of
from streams.wire.topics import MAX_MESSAGE_BYTES

log = logging.getLogger("facets.work")

WRITE_SECONDS = 30.0
"""How long a partition may have no leader before its rows are given up, and how long a request may take. An absent
broker is waited for."""

_BATCH_BYTES = 1024 * 1024

_MOST_BATCH_BYTES = 256 * 1024 * 1024
"""What a row with its parts may have before compression: they are in one batch. After it, MAX_MESSAGE_BYTES holds."""

_RECORD_BYTES = 64
"""More than a record has besides its key and value."""

_FLUSH_SECONDS = 4.0
_CLOSE_SECONDS = 1.0


class RowsNotWritten(FacetsError):
    """Kafka did not accept a commit's records, so no later ones may be written."""

    exit_code = ExitCode.FATAL

    def __init__(self, topic: str, partition: int, error: Exception) -> None:
        leaderless = isinstance(error, NotLeaderForPartitionError | LeaderNotAvailableError)
        reason = "the partition has no leader" if leaderless else str(error) or type(error).__name__
        super().__init__(
            f"{topic}[{partition}]: rows could not be written: {reason}",
            f"see that {topic} is there and each of its partitions has a leader (facets doctor); "
            "a restart goes on from the last seal",
        )


class Fetched(NamedTuple):
    """Records of a changelog partition, in log order. `begin` and `end` are the log's bounds when reading started;
    the first item of each partition has only these, and no records."""

    table: str
    partition: int
    begin: int
    end: int
    records: Chunk | None


class ChangelogReader:
    """Reads changelog partitions, up to their current end."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    async def read(
        self, tables: Sequence[str], partitions: Iterable[int], start: Mapping[tuple[str, int], int] | None = None
    ) -> AsyncGenerator[Fetched]:
        """The records of these partitions, from `start` on (by table and partition; else from the beginning)."""
        names = {topic_of(table): table for table in tables}
        assigned = [TopicPartition(topic, partition) for topic in names for partition in partitions]
        if not assigned:
            return
        async with BulkReader(self._bootstrap) as reader:
            begins, ends = await reader.begins(assigned), await reader.ends(assigned)
            starts = {}
            for topic_partition in assigned:
                table, partition = names[topic_partition.topic], topic_partition.partition
                yield Fetched(table, partition, begins[topic_partition], ends[topic_partition], None)
                starts[topic_partition] = max(begins[topic_partition], (start or {}).get((table, partition), 0))
            async with aclosing(reader.read(starts, ends)) as chunks:
                async for chunk in chunks:
                    topic_partition = chunk.partition
                    yield Fetched(
                        names[topic_partition.topic],
                        topic_partition.partition,
                        begins[topic_partition],
                        ends[topic_partition],
                        chunk,
                    )

    async def journal_begins(self, partitions: Iterable[int]) -> dict[int, int]:
        """The offset of the first commit that these partitions of the journal still have."""
        async with BulkReader(self._bootstrap) as reader:
            begins = await reader.begins([TopicPartition(JOURNAL, partition) for partition in partitions])
        return {topic_partition.partition: begin for topic_partition, begin in begins.items()}

    async def journal_ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """The offset of the next commit in these partitions of the journal. Over a separate connection: on the
        consumer's, the request would queue behind a fetch that waits for records."""
        async with BulkReader(self._bootstrap) as reader:
            ends = await reader.ends([TopicPartition(JOURNAL, partition) for partition in partitions])
        return {topic_partition.partition: end for topic_partition, end in ends.items()}


class ChangelogWriter:
    """Writes rows, seals and dead letters. `on_written` is called for each row and seal that the broker has
    acknowledged: partition, write, offset and time (ms), in log order for each partition of a topic.

    Records that arrive while a partition's batch is in flight go together into its next one, so batches grow with the
    load: a single record has no added latency, and many cost little each.
    """

    def __init__(
        self,
        bootstrap: str,
        on_written: Callable[[int, Write, int, int], None],
        write_seconds: float = WRITE_SECONDS,
    ) -> None:
        self._bootstrap = bootstrap
        self._write_seconds = write_seconds
        self._producer: AIOKafkaProducer | None = None
        self._on_written = on_written
        self._lanes: dict[tuple[str, int], _Lane] = {}

    @property
    def waiting(self) -> int:
        """The bytes of rows that are queued or in flight."""
        return sum(lane.size for lane in self._lanes.values())

    async def start(self) -> None:
        """Connect, if not connected."""
        if self._producer is not None:
            return
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            enable_idempotence=True,
            acks="all",
            # Three times as fast as aiokafka's lz4 (which is in high compression mode), and smaller: measured on rows.
            compression_type="zstd",
            linger_ms=0,
            max_batch_size=_MOST_BATCH_BYTES,
            max_request_size=MAX_MESSAGE_BYTES,
            request_timeout_ms=int(self._write_seconds * 1000),
        )
        await self._producer.start()

    async def stop(self) -> None:
        """Flush and disconnect, within a time limit: rows that are not acknowledged by then are made again at the
        restart."""
        await closed(f"Kafka to acknowledge {self.waiting} bytes of rows", self.flush(), _FLUSH_SECONDS)
        if self._producer is not None:
            await closed("the producer of rows to disconnect", self._producer.stop(), _CLOSE_SECONDS)

    async def flush(self) -> None:
        """Return when all queued records are written, or have failed."""
        under_way = [lane.task for lane in self._lanes.values() if lane.task is not None]
        await asyncio.gather(*under_way, return_exceptions=True)

    def send(self, partition: int, writes: Sequence[Write]) -> "list[asyncio.Future[None]]":
        """Queue the writes, in order. The futures, one for each topic, complete when they are written."""
        if self._producer is None:
            raise RuntimeError("the writer is not started")
        lanes: dict[_Lane, None] = {}
        for write in writes:
            lane = self._lanes.get((write.table, partition))
            if lane is None:
                topic = DEAD_LETTER if write.table == "deadletter" else topic_of(write.table)
                on_written = None if write.table == "deadletter" else partial(self._on_written, partition)
                lane = self._lanes[write.table, partition] = _Lane(self._producer, topic, partition, on_written)
            lane.put(write)
            lanes[lane] = None
        return [lane.mark() for lane in lanes]


class _Lane:
    """One partition of a topic: one batch in flight at a time, with all records queued by then."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topic: str,
        partition: int,
        on_written: Callable[[Write, int, int], None] | None,
    ) -> None:
        self.size = 0
        self.task: asyncio.Task[None] | None = None
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._on_written = on_written
        self._waiting: deque[Write] = deque()
        self._marks: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._written = 0
        self._sending = 0
        self._error: Exception | None = None

    def put(self, write: Write) -> None:
        """Add a record."""
        self._waiting.append(write)
        self.size += len(write.value or b"")

    def mark(self) -> "asyncio.Future[None]":
        """A future that completes when all records queued now are written."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._error is not None:
            _fail(future, self._error)
            return future
        self._marks.append((self._written + self._sending + len(self._waiting), future))
        if self.task is None or self.task.done():
            self.task = asyncio.ensure_future(self._run())
        return future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._send()
        except Exception as error:
            # Nothing may be written after a lost record.
            lost = RowsNotWritten(self._topic, self._partition, error) if isinstance(error, KafkaError) else error
            self._error = lost
            for _, future in self._marks:
                _fail(future, lost)

    async def _send(self) -> None:
        now = int(time.time() * 1000)
        batch = self._producer.create_batch()
        writes = self._take_batch()
        self._sending = len(writes)
        for write in writes:
            stamp = [(VERSION_HEADER, b"%d" % write.version)]
            if batch.append(timestamp=now, key=write.key, value=write.value, headers=stamp) is None:
                raise MessageSizeTooLargeError(f"a batch of more than {_MOST_BATCH_BYTES} bytes")
        answer = await (await self._producer.send_batch(batch, self._topic, partition=self._partition))
        if self._on_written is not None:
            # The broker's time, if the topic is configured so.
            at = answer.timestamp if answer.timestamp_type else now
            for offset, write in enumerate(writes, answer.offset):
                self._on_written(write, offset, at)
        self._sending = 0
        self._written += len(writes)
        self.size -= sum(len(write.value or b"") for write in writes)
        while self._marks and self._marks[0][0] <= self._written:
            _, future = self._marks.popleft()
            if not future.done():
                future.set_result(None)

    def _take_batch(self) -> list[Write]:
        """The records of the next batch. A row and its parts, which come before it, are in one, so that no crash comes
        between them."""
        writes: list[Write] = []
        batch_size = 0
        while self._waiting:
            count = size = 0
            for write in self._waiting:
                count += 1
                size += len(write.key) + len(write.value or b"") + _RECORD_BYTES
                if not write.key.startswith(PART_PREFIX):
                    break
            if writes and batch_size + size > _BATCH_BYTES:
                break
            batch_size += size
            writes += [self._waiting.popleft() for _ in range(count)]
        return writes


def _fail(future: "asyncio.Future[None]", error: Exception) -> None:
    """Set the future's error. It counts as retrieved: the first one ends the process, and later ones add nothing."""
    if not future.done():
        future.set_exception(error)
        future.exception()
