"""Reading changelog partitions in bulk, from an offset to where they end.

A consumer makes three objects of every record and decompresses small batches at 14 us each (cramjam sets up anew for
every one): 10 us a record (measured), most of what a restart and a bootstrap took. Here the next fetch is under way
while one is unpacked, one decompressor serves them all, and what a record says goes into columns, which also spares
the garbage collector.
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
    """Records of a partition, in log order, by what they say: `versions` is below 0 for one without a usable stamp.
    `next` is the offset to read on from, past what compaction has taken."""

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
    """Connected while it is entered; raises KafkaConnectionError when no broker answers then. One that goes away later
    is waited for, and so is a partition's next leader."""

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
        """The offset of each one's first record."""
        return await self._offsets(partitions, _EARLIEST)

    async def ends(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset that each one's next record will have."""
        return await self._offsets(partitions, _LATEST)

    async def read(
        self, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> AsyncGenerator[Chunk]:
        """What each partition holds from its start to its end; the last chunk of one may go beyond. Raises
        OffsetOutOfRangeError and CorruptRecordException."""
        waiting = {each: at for each, at in starts.items() if at < ends[each]}
        fetching = asyncio.ensure_future(self._fetch(waiting))
        try:
            while waiting:
                fetched = await fetching
                found = [(each, waiting.pop(each), batches) for each, batches in fetched.items()]
                for each, _, batches in found:
                    # Now at the end of the order: a fetch has room for the first ones.
                    if batches[-1].next < ends[each]:
                        waiting[each] = batches[-1].next
                fetching = asyncio.ensure_future(self._fetch(dict(waiting)))
                for each, position, batches in found:
                    # The event loop's turn, and the next fetch's.
                    await asyncio.sleep(0)
                    yield unpack(each, position, batches)
        finally:
            fetching.cancel()

    # ---- requests ------------------------------------------------------------------------------------

    async def _offsets(self, partitions: Collection[TopicPartition], at: int) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = {}

        async def ask(leader: int, those: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
            answer: Any = await self._client.send(
                leader, OffsetRequest(-1, _READ_UNCOMMITTED, _by_topic((each, (each.partition, at)) for each in those))
            )
            offsets = {}
            for each, code, (_, offset) in _of(answer):
                if code:
                    raise for_code(code)(each)
                offsets[each] = offset
            return offsets

        while missing := [each for each in partitions if each not in found]:
            found |= await self._ask(missing, ask)
        return found

    async def _fetch(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, list[_Batch]]:
        """Batches of at least one of the partitions, from their positions on."""

        async def ask(leader: int, those: Sequence[TopicPartition]) -> dict[TopicPartition, list[_Batch]]:
            wanted = _by_topic((each, (each.partition, positions[each], _PARTITION_BYTES)) for each in those)
            answer: Any = await self._client.send(
                leader, FetchRequest(_WAIT_MS, 1, _FETCH_BYTES, _READ_UNCOMMITTED, wanted)
            )
            found = {}
            for each, code, rest in _of(answer):
                if for_code(code) is OffsetOutOfRangeError:
                    raise OffsetOutOfRangeError({each: positions[each]})
                if code:
                    raise for_code(code)(each)
                if batches := split(each, bytes(rest[-1] or b"")):
                    found[each] = batches
            return found

        found: dict[TopicPartition, list[_Batch]] = {}
        while positions and not found:
            found = await self._ask(positions, ask)
        return found

    async def _ask(
        self,
        partitions: Collection[TopicPartition],
        ask: Callable[[int, Sequence[TopicPartition]], Awaitable[dict[TopicPartition, _T]]],
    ) -> dict[TopicPartition, _T]:
        """What the leaders answer of their partitions; asked again until none of them fails."""
        await self._client.set_topics({each.topic for each in partitions})
        failed = False

        async def ask_leaders() -> dict[TopicPartition, _T]:
            if failed:
                await self._client.force_metadata_update()
            answers = await asyncio.gather(*(ask(*each) for each in self._by_leader(partitions).items()))
            return {each: answer for of_leader in answers for each, answer in of_leader.items()}

        def report(error: Exception, _: float) -> None:
            nonlocal failed
            log.log(logging.DEBUG if failed else logging.WARNING, "Kafka does not answer (%r): trying again", error)
            failed = True

        return await retry(ask_leaders, _RETRY, passes=_is_retriable, report=report)

    def _by_leader(self, partitions: Iterable[TopicPartition]) -> dict[int, list[TopicPartition]]:
        """The partitions of each leader. Raises LeaderNotAvailableError where one has none now."""
        by_leader: dict[int, list[TopicPartition]] = {}
        for each in partitions:
            leader = self._client.cluster.leader_for_partition(each)
            if leader is None or leader == _NO_LEADER:
                raise LeaderNotAvailableError(each)
            by_leader.setdefault(leader, []).append(each)
        return by_leader


def _is_retriable(error: Exception) -> bool:
    return isinstance(error, KafkaError) and bool(error.retriable)


def _by_topic(asked: Iterable[tuple[TopicPartition, _T]]) -> list[tuple[str, list[_T]]]:
    topics: dict[str, list[_T]] = defaultdict(list)
    for each, what in asked:
        topics[each.topic].append(what)
    return list(topics.items())


def _of(answer: Any) -> Iterator[tuple[TopicPartition, int, list[Any]]]:
    """Each partition in an answer, with its error code and the rest."""
    for topic, partitions in answer.topics:
        for partition, code, *rest in partitions:
            yield TopicPartition(topic, partition), code, rest


def split(partition: TopicPartition, data: bytes) -> list[_Batch]:
    """The whole batches in what was fetched (the last may be cut off). Raises CorruptRecordException."""
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
            # A batch is given whole, whichever of its offsets was asked for.
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
