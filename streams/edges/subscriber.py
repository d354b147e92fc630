"""The subscriber client: a snapshot at a sealed cut, then one sealed batch at a time, from any point in the window."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, OffsetOutOfRangeError

from streams.core.errors import FacetsError
from streams.core.partitioning import partition_of
from streams.core.records import SEAL_PREFIX, Seal, topic_of
from streams.core.rfc3339 import later, write
from streams.core.subscription import Batch as SealedBatch
from streams.core.subscription import ChangelogGap, Cursor, Filter, Row, Subscription, reached
from streams.edges.topics import config, partition_counts

log = logging.getLogger("facets.subscriber")

VERSION_HEADER = "v"
_FETCH_BYTES = 32 * 1024 * 1024
_POLL_MS = 500


class Snapshot(NamedTuple):
    """All rows at a sealed cut. `reason` is `start`, or why the changes between could not be had: `gap` (one was
    missed), `expired` (the cursor is older than the resume window), `lost` (the topics are not those of the cursor)."""

    reason: str
    rows: tuple[Row, ...]
    seals: tuple[Seal, ...]
    cursor: str


class Batch(NamedTuple):
    """The rows of one journal offset, of all subscribed tables. Without rows it is progress."""

    partition: int
    seal: Seal
    rows: tuple[Row, ...]
    cursor: str


class BadRecord(FacetsError):
    """A facet topic holds what no worker writes."""

    exit_code = 65


class Subscriber:
    """Follows facet tables.

        async with Subscriber("localhost:9092", tables=("backend",), namespaces=("shop",)) as subscriber:
            async for item in subscriber:  # one Snapshot, then Batches
                for row in item.rows:
                    print(row.name, [e["address"] for e in row.decode()["endpoints"]])
                save(item.cursor)

    `cursor` resumes after the item that it came with: each change since comes once, or a Snapshot says why not.
    `progress` also yields batches without rows, so that silence is never mistaken for a stall. Raises FacetsError
    when the broker or the topics are not there at the start; later the connection is taken up again by itself.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        tables: Iterable[str] = ("backend",),
        clusters: Iterable[str] = (),
        namespaces: Iterable[str] = (),
        services: Iterable[str] = (),
        cursor: str | None = None,
        progress: bool = False,
    ) -> None:
        self.tables = tuple(tables)
        self.partitions = 0
        self._bootstrap = bootstrap
        self._wanted = Filter(frozenset(clusters), frozenset(namespaces), frozenset(services))
        self._cursor = Cursor.decode(cursor) if cursor else None
        self._progress = progress
        self._consumer: AIOKafkaConsumer | None = None
        self._state: Subscription | None = None
        self._table_of = {topic_of(table): table for table in self.tables}

    async def __aenter__(self) -> Self:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_bytes=2 * _FETCH_BYTES,
            fetch_max_wait_ms=_POLL_MS,
            client_id="facets-subscriber",
        )
        try:
            await consumer.start()
        except (KafkaConnectionError, OSError) as error:
            await consumer.stop()
            raise FacetsError(
                f"no Kafka broker answers at {self._bootstrap}",
                "check --bootstrap-servers / FACETS_BOOTSTRAP_SERVERS, or start one with: facets up",
                69,
            ) from error
        self._consumer = consumer
        try:
            there = await asyncio.to_thread(partition_counts, self._bootstrap)
            for topic in self._table_of:
                if topic not in there:
                    raise FacetsError(f"topic {topic} does not exist at {self._bootstrap}", "facets topics create", 69)
            self.partitions = there[topic_of(self.tables[0])]
        except BaseException:
            await consumer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    def __aiter__(self) -> AsyncIterator[Snapshot | Batch]:
        return self._follow()

    async def snapshot(self) -> Snapshot:
        """One snapshot, as of now."""
        return await self._snapshot("start")

    async def wait(
        self,
        resource_version: str,
        *,
        cluster: str,
        resource: str = "endpointslices.discovery.k8s.io",
        namespace: str = "",
        service: str = "",
    ) -> dict[int, str]:
        """Return when everything of the cluster's `resource` up to this resourceVersion is sealed: in the Service's
        partition, or in all where none is named. For use without iterating; bound it with asyncio.timeout."""
        partitions = [partition_of(namespace, service, self.partitions)] if service else list(range(self.partitions))
        await self._snapshot("start")
        state = self._subscription()
        while True:
            at = {p: _frontier(state, p, cluster, resource) for p in partitions}
            if all(reached(state.seals, p, cluster, resource, resource_version) for p in partitions):
                return at
            async for _ in self._poll():
                pass

    async def _follow(self) -> AsyncIterator[Snapshot | Batch]:
        reason = "start"
        if self._cursor is not None:
            reason = await self._resume(self._cursor)
        if reason:
            yield await self._snapshot(reason)
        while True:
            try:
                async for batch in self._poll():
                    if batch.rows or self._progress:
                        yield Batch(batch.partition, batch.seal, batch.rows, self._subscription().cursor.encode())
            except ChangelogGap as gap:
                log.warning("%s: starting again from a snapshot", gap)
                yield await self._snapshot("gap")
            except OffsetOutOfRangeError:
                yield await self._snapshot("lost")

    async def _resume(self, cursor: Cursor) -> str:
        """Take up the cursor; the reason for a snapshot instead, "" where it holds."""
        consumer = self._reader()
        assigned = self._assigned()
        window = int(
            (await asyncio.to_thread(config, self._bootstrap, topic_of(self.tables[0])))["min.compaction.lag.ms"]
        )
        if cursor.at and later(cursor.at, window / 1000) < write(datetime.now(UTC)):
            return "expired"
        begins, ends = await consumer.beginning_offsets(assigned), await consumer.end_offsets(assigned)
        self._state = Subscription(self.tables, self.partitions, self._wanted, cursor)
        consumer.assign(assigned)
        for each in assigned:
            position = cursor.positions.get((self._table_of[each.topic], each.partition))
            if position is None:
                if begins[each] != ends[each] or begins[each] != 0:
                    position = begins[each]
                    if cursor.applied.get(each.partition, -1) >= 0:
                        return "lost"
                else:
                    position = 0
            if not begins[each] <= position <= ends[each]:
                return "lost"
            consumer.seek(each, position)
        return ""

    async def _snapshot(self, reason: str) -> Snapshot:
        consumer = self._reader()
        self._state = state = Subscription(self.tables, self.partitions, self._wanted)
        assigned = self._assigned()
        consumer.assign(assigned)
        ends = await consumer.end_offsets(assigned)
        begins = await consumer.beginning_offsets(assigned)
        waiting = {each: ends[each] for each in assigned if begins[each] < ends[each]}
        for each in assigned:
            consumer.seek(each, begins[each])
        while waiting:
            async for _ in self._poll():
                pass
            for each in list(waiting):
                if await consumer.position(each) >= waiting[each]:
                    del waiting[each]
        rows = state.ready()
        seals = tuple(seal for _, seal in sorted(state.seals.items()))
        return Snapshot(reason, rows, seals, state.cursor.encode())

    async def _poll(self) -> AsyncIterator[SealedBatch]:
        state = self._subscription()
        try:
            fetched = await self._reader().getmany(timeout_ms=_POLL_MS, max_records=20000)
        except OffsetOutOfRangeError:
            raise
        except KafkaError as error:
            log.warning("reading from %s failed (%s): trying again", self._bootstrap, error)
            await asyncio.sleep(1)
            return
        for each, records in fetched.items():
            table = self._table_of[each.topic]
            for record in records:
                key, value = record.key or b"", record.value
                try:
                    batches = list(
                        state.feed(
                            table, each.partition, record.offset, key, value, _version(record.headers, key, value)
                        )
                    )
                except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
                    raise BadRecord(
                        f"{each.topic}[{each.partition}] offset {record.offset} is no facet record: {error}",
                        "only `facets work` may write there: check who else does",
                    ) from error
                for batch in batches:
                    yield batch

    def _assigned(self) -> list[TopicPartition]:
        return [TopicPartition(topic, p) for topic in self._table_of for p in range(self.partitions)]

    def _reader(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("use `async with Subscriber(...)`")
        return self._consumer

    def _subscription(self) -> Subscription:
        if self._state is None:
            raise RuntimeError("nothing is read yet")
        return self._state


class _Version(msgspec.Struct):
    version: int


def _version(headers: Iterable[tuple[str, bytes]], key: bytes, value: bytes | None) -> int:
    for name, text in headers:
        if name == VERSION_HEADER:
            return int(text)
    if value is None:
        raise ValueError("a tombstone without the version header")
    return -1 if key.startswith(SEAL_PREFIX) else msgspec.json.decode(value, type=_Version).version


def _frontier(state: Subscription, partition: int, cluster: str, resource: str) -> str:
    seal = state.seals.get((partition, cluster))
    return seal.frontier.get(resource, "") if seal else ""
