"""Reads changelog partitions in bulk, from an offset to their end.

A consumer makes three objects of every record and decompresses small batches at 14 us each (cramjam sets up anew for
every one): 10 us a record (measured), most of the time of a restart and a bootstrap. Here the next fetch is in flight
while one is unpacked, one decompressor serves them all, and records go into columns, which also spares the garbage
collector.
"""

import asyncio
import logging
import struct
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CorruptRecordException, KafkaError, LeaderNotAvailableError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.default_records import DefaultRecordBatch
from zstandard import ZstdDecompressor, ZstdError

from streams.facets.changelog_records import NO_VERSION, version_in
from streams.runtime.retry import RetryPolicy, retry

log = logging.getLogger("facets.kafka")

VERSION_HEADER = "v"
"""The stamp on every record of a changelog: the journal offset that made it."""

_FETCH_BYTES = 16 * 1024 * 1024
_PARTITION_BYTES = 1024 * 1024
_WAIT_MS = 100
_RETRY = RetryPolicy(first=0.1, longest=2.0)
_READ_UNCOMMITTED = 0
_EARLIEST, _LATEST = -2, -1
_NO_LEADER = -1
_T = TypeVar("_T")

# A record batch, version 2 (Kafka's protocol guide, "Record Batch"): base offset, length after it, leader epoch, magic,
# CRC, attributes, last offset delta, and more up to the records.
_BATCH = struct.Struct(">qiibIhi")
_HEAD = 61
_LENGTH_END = 12
_ATTRIBUTES_AT = 21
_CODEC = 0x07
_ZSTD = 4


class Chunk:
    """Records of a partition, in log order, as columns: a version is below 0 for a record without a valid stamp. `next`
    is the offset to continue from, past records that compaction has removed."""

    __slots__ = ("keys", "next", "offsets", "partition", "timestamps", "values", "versions")

    def __init__(self, partition: TopicPartition, following: int) -> None:
        self.partition = partition
        self.next = following
        self.offsets: list[int] = []
        self.timestamps: list[int] = []
        self.keys: list[bytes] = []
        self.values: list[bytes | None] = []
        self.versions: list[int] = []

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[tuple[int, bytes, bytes | None, int]]:
        """Each record's offset, key, value and version."""
        return zip(self.offsets, self.keys, self.values, self.versions, strict=True)


class _Batch(NamedTuple):
    next: int
    codec: int
    data: bytes


class BulkReader:
    """Connected while it is entered; raises KafkaConnectionError if no broker answers then. Later it waits for a broker
    that goes away, and for a partition's next leader."""

    def __init__(self, bootstrap: str) -> None:
        self._client = AIOKafkaClient(bootstrap_servers=bootstrap, client_id="facets-bulk")

    async def __aenter__(self) -> Self:
        try:
            await self._client.bootstrap()
        except BaseException:
            await self._client.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def begins(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset of each partition's first record."""
        return await self._offsets(partitions, _EARLIEST)

    async def ends(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset of each partition's next record."""
        return await self._offsets(partitions, _LATEST)

    async def read(
        self, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> AsyncGenerator[Chunk]:
        """The records of each partition from its start to its end; its last chunk may go beyond. Raises
        OffsetOutOfRangeError and CorruptRecordException."""
        waiting = {partition: at for partition, at in starts.items() if at < ends[partition]}
        fetching = asyncio.ensure_future(self._fetch(waiting))
        try:
            while waiting:
                fetched = await fetching
                results = [(partition, waiting.pop(partition), batches) for partition, batches in fetched.items()]
                for partition, _, batches in results:
                    # Moved to the back of the queue: a fetch has room only for the first ones.
                    if batches[-1].next < ends[partition]:
                        waiting[partition] = batches[-1].next
                fetching = asyncio.ensure_future(self._fetch(dict(waiting)))
                for partition, position, batches in results:
                    # Let the event loop, and the next fetch, run.
                    await asyncio.sleep(0)
                    yield unpack(partition, position, batches)
        finally:
            fetching.cancel()

    # ---- requests ------------------------------------------------------------------------------------

    async def _offsets(self, partitions: Collection[TopicPartition], at: int) -> dict[TopicPartition, int]:
        offsets: dict[TopicPartition, int] = {}

        async def ask(leader: int, targets: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
            answer: Any = await self._client.send(
                leader,
                OffsetRequest(
                    -1, _READ_UNCOMMITTED, _by_topic((partition, (partition.partition, at)) for partition in targets)
                ),
            )
            offsets = {}
            for partition, code, (_, offset) in _of(answer):
                if code:
                    raise for_code(code)(partition)
                offsets[partition] = offset
            return offsets

        while missing := [partition for partition in partitions if partition not in offsets]:
            offsets |= await self._ask(missing, ask)
        return offsets

    async def _fetch(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, list[_Batch]]:
        """Batches of at least one of the partitions, from their positions on."""

        async def ask(leader: int, targets: Sequence[TopicPartition]) -> dict[TopicPartition, list[_Batch]]:
            topics = _by_topic(
                (partition, (partition.partition, positions[partition], _PARTITION_BYTES)) for partition in targets
            )
            answer: Any = await self._client.send(
                leader, FetchRequest(_WAIT_MS, 1, _FETCH_BYTES, _READ_UNCOMMITTED, topics)
            )
            fetched = {}
            for partition, code, fields in _of(answer):
                if for_code(code) is OffsetOutOfRangeError:
                    raise OffsetOutOfRangeError({partition: positions[partition]})
                if code:
                    raise for_code(code)(partition)
                if batches := split(partition, bytes(fields[-1] or b"")):
                    fetched[partition] = batches
            return fetched

        fetched: dict[TopicPartition, list[_Batch]] = {}
        while positions and not fetched:
            fetched = await self._ask(positions, ask)
        return fetched

    async def _ask(
        self,
        partitions: Collection[TopicPartition],
        ask: Callable[[int, Sequence[TopicPartition]], Awaitable[dict[TopicPartition, _T]]],
    ) -> dict[TopicPartition, _T]:
        """The leaders' answers for their partitions; retried until none of them fails."""
        await self._client.set_topics({partition.topic for partition in partitions})
        failed = False

        async def ask_leaders() -> dict[TopicPartition, _T]:
            if failed:
                await self._client.force_metadata_update()
            answers = await asyncio.gather(*(ask(*request) for request in self._by_leader(partitions).items()))
            return {partition: answer for of_leader in answers for partition, answer in of_leader.items()}

        def report(error: Exception, _: float) -> None:
            nonlocal failed
            log.log(logging.DEBUG if failed else logging.WARNING, "Kafka does not answer (%r): trying again", error)
            failed = True

        return await retry(ask_leaders, _RETRY, passes=_is_retriable, report=report)

    def _by_leader(self, partitions: Iterable[TopicPartition]) -> dict[int, list[TopicPartition]]:
        """The partitions of each leader. Raises LeaderNotAvailableError if one has none at the moment."""
        by_leader: dict[int, list[TopicPartition]] = {}
        for partition in partitions:
            leader = self._client.cluster.leader_for_partition(partition)
            if leader is None or leader == _NO_LEADER:
                raise LeaderNotAvailableError(partition)
            by_leader.setdefault(leader, []).append(partition)
        return by_leader


def _is_retriable(error: Exception) -> bool:
    return isinstance(error, KafkaError) and bool(error.retriable)


def _by_topic(requests: Iterable[tuple[TopicPartition, _T]]) -> list[tuple[str, list[_T]]]:
    topics: dict[str, list[_T]] = defaultdict(list)
    for partition, request in requests:
        topics[partition.topic].append(request)
    return list(topics.items())


def _of(answer: Any) -> Iterator[tuple[TopicPartition, int, list[Any]]]:
    """Each partition in an answer, with its error code and the rest."""
    for topic, partitions in answer.topics:
        for partition, code, *fields in partitions:
            yield TopicPartition(topic, partition), code, fields


def split(partition: TopicPartition, data: bytes) -> list[_Batch]:
    """The whole batches in fetched data (whose last may be cut off). Raises CorruptRecordException."""
    batches = []
    at, end = 0, len(data)
    while end - at >= _HEAD:
        base, length, _, magic, _, attributes, delta = _BATCH.unpack_from(data, at)
        whole = at + _LENGTH_END + length
        if magic != 2 or length < _HEAD - _LENGTH_END:
            raise CorruptRecordException(f"{partition}: no record batch of version 2 at offset {base}")
        if whole > end:
            break
        batches.append(_Batch(base + delta + 1, attributes & _CODEC, data[at:whole]))
        at = whole
    return batches


def unpack(partition: TopicPartition, position: int, batches: Sequence[_Batch]) -> Chunk:
    """The records in batches (one at least) from an offset on. Raises CorruptRecordException."""
    chunk = Chunk(partition, batches[-1].next)
    offsets, timestamps = chunk.offsets.append, chunk.timestamps.append
    keys, values, versions = chunk.keys.append, chunk.values.append, chunk.versions.append
    zstd = ZstdDecompressor()
    for _, codec, data in batches:
        batch = DefaultRecordBatch(data)
        if not batch.validate_crc():
            raise CorruptRecordException(f"{partition}: the checksum of a batch at {batch.base_offset} is wrong")
        if batch.is_control_batch:
            continue
        if codec == _ZSTD:
            try:
                records = zstd.decompressobj(read_across_frames=True).decompress(memoryview(data)[_HEAD:])
            except ZstdError as error:
                raise CorruptRecordException(f"{partition}: a batch at {batch.base_offset}: {error}") from error
            # The same batch, as if it had never been compressed.
            attributes = (batch.attributes & ~_CODEC).to_bytes(2, "big")
            head = data[:_ATTRIBUTES_AT] + attributes + data[_ATTRIBUTES_AT + 2 : _HEAD]
            batch = DefaultRecordBatch(head + records)
        for record in batch:
            offset = record.offset
            # A batch is sent whole, whichever of its offsets was requested.
            if offset < position:
                continue
            offsets(offset)
            timestamps(record.timestamp)
            keys(record.key or b"")
            values(record.value)
            versions(stamp_of(record.headers))
    return chunk


def stamp_of(headers: Iterable[tuple[str, bytes | None]]) -> int:
    """The version in a record's headers; NO_VERSION or BAD_VERSION where there is none."""
    for name, value in headers:
        if name == VERSION_HEADER:
            return version_in(value)
    return NO_VERSION
