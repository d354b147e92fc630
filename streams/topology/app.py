"""The Faust app: one agent folds the journal into the facet tables, whose changelogs are the facet topics.

What Faust does here: group membership, assignment, fetching, flow control, tables, routing of look-ups, the web.
What is done around it, and why (faust-streaming 0.15.3):

- Its recovery reads 4,000 records a second, and what it queued meanwhile is skipped afterwards: tables are read
  back by `changelog.ChangelogReader` while partitions are assigned, so Faust finds nothing left to recover, and
  the flow is stopped until the rebalance is through.
- The group's committed offset is not the truth about progress: the consumer is put to the fold's own offset.
- An exception in an agent still acknowledges its event: here it ends the process.
- Acknowledgements follow the writes, in order.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import faust
import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.app.router import Router
from faust.sensors.monitor import Monitor
from faust.stores import memory
from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types import TP
from yarl import URL

from streams.core.fold import JournalGap, PartitionFold
from streams.core.partition_state import DEFAULT_WINDOW_SECONDS, Write
from streams.core.partitioning import partition_of
from streams.core.records import JOURNAL, TABLES, topic_of
from streams.topology.changelog import ChangelogReader, ChangelogWriter
from streams.topology.topics import MAX_MESSAGE_BYTES
from streams.topology.views import add_views

log = logging.getLogger("facets.work")

MAX_IN_FLIGHT = 512
"""Commits whose rows are handed to the producer and not yet acknowledged by the broker."""

FATAL_EXIT = 70
"""Exit code of a worker that stops rather than go on wrong (sysexits: internal software error)."""


class WorkerSettings(NamedTuple):
    """`window_seconds` is the resume window; `instance` the static group member (a restarted one is ready at once)."""

    bootstrap: str
    partitions: int
    data_dir: Path
    web_host: str = "127.0.0.1"
    web_port: int = 6066
    instance: str = ""
    group: str = "facets"
    window_seconds: int = DEFAULT_WINDOW_SECONDS


class FacetStore(memory.Store[bytes, bytes]):
    """A table's rows in memory, read back before Faust looks: so it has nothing to recover."""

    def persisted_offset(self, tp: TP) -> int | None:
        """Past any end that the changelog can have: nothing is left for Faust to recover."""
        return 2**62

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """The first table's store reads the partitions of all of them back."""
        app = cast("FacetApp", self.app)
        if self.table_name == TABLES[0]:
            await app.materializer.assign({tp.partition for tp in assigned if tp.topic == JOURNAL})


class FacetTable(faust.Table[bytes, bytes]):
    """A table in a FacetStore."""

    def _new_store(self) -> FacetStore:
        return FacetStore(
            URL("memory://"),
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            value_type=self.value_type,
            loop=self.loop,
            options=self.options,
        )


class FacetConsumer(Consumer):
    """Goes on from the tables' own seals, whatever the group has committed."""

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Changelog partitions stay where they are: they are read elsewhere."""
        journal = {tp: offset for tp, offset in partitions.items() if tp.topic == JOURNAL}
        if journal:
            await super().seek_wait(journal)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Put every journal partition to the offset that its fold needs next."""
        app = cast("FacetApp", self.app)
        positions = {
            TP(JOURNAL, partition): offset
            for partition, offset in app.materializer.positions().items()
            if TP(JOURNAL, partition) in self.assignment()
        }
        if positions:
            await self.seek_wait(positions)
        return positions


class FacetTransport(Transport):
    """Kafka, by FacetConsumer."""

    Consumer = FacetConsumer


class FacetRouter(Router):
    """Routes look-ups to the worker that holds the Service's partition (not Kafka's hash of the row's key)."""

    def key_store(self, table_name: str, key: Any) -> URL:
        """The web address of the worker that holds a row. Raises KeyError while nobody does."""
        _, namespace, name = str(key).split("/")
        app = cast("FacetApp", self.app)
        tp = TP(topic_of(table_name), partition_of(namespace, name, app.settings.partitions))
        return URL(cast(Any, app.assignor)._tps_url[tp])


class FacetApp(faust.App):
    """The app with its materializer."""

    settings: WorkerSettings
    materializer: "Materializer"

    def _new_transport(self) -> FacetTransport:
        return FacetTransport(self.conf.broker_consumer, self)


class Materializer:
    """Folds the assigned partitions and writes what comes out of it."""

    def __init__(self, app: FacetApp, settings: WorkerSettings) -> None:
        self.folds: dict[int, PartitionFold] = {}
        self.writer = ChangelogWriter(settings.bootstrap, self._foreign)
        self._app = app
        self._settings = settings
        self._reader = ChangelogReader(settings.bootstrap)
        self._in_flight: deque[tuple[Any, list[asyncio.Future[None]]]] = deque()
        self._arrived = asyncio.Event()
        self._drained = asyncio.Event()

    def positions(self) -> dict[int, int]:
        """The journal offset that each assigned partition needs next."""
        return {partition: fold.next_offset or 0 for partition, fold in self.folds.items()}

    async def assign(self, partitions: set[int]) -> None:
        """Read back the tables of these partitions. Other workers may have held them in between: always all."""
        self.writer.forget()
        loop = asyncio.get_running_loop()
        started = loop.time()
        await self.writer.start()
        folds = {partition: PartitionFold(partition, TABLES, self._settings.window_seconds) for partition in partitions}
        stores = {table: self._store(table) for table in TABLES}
        for store in stores.values():
            store.data.clear()
        newest: dict[tuple[str, bytes], int] = {}
        records = 0
        async for batch in self._reader.read(TABLES, partitions):
            records += len(batch)
            for table, partition, _, key, value, version in batch:
                folds[partition].load(table, key, value, version)
                if version >= newest.get((table, key), -1):
                    newest[table, key] = version
                    if value is None:
                        stores[table].data.pop(key, None)
                    else:
                        stores[table].data[key] = value
        beginnings = await self._app.consumer.earliest_offsets(*(TP(JOURNAL, p) for p in partitions))
        for partition, fold in folds.items():
            resume, writes = fold.recover()
            first = beginnings.get(TP(JOURNAL, partition)) or 0
            if resume < first:
                log.error(
                    "%s[%d]: offset %d has expired, the journal begins at %d: rows are unknown until the next snapshot",
                    JOURNAL, partition, resume, first,
                )  # fmt: skip
                writes = [*writes, *fold.expire(first)]
            await asyncio.gather(*await self._write(partition, writes))
        self.folds = folds
        log.info(
            "assigned partitions %s: %d records read back in %.2f s",
            sorted(partitions), records, loop.time() - started,
        )  # fmt: skip

    async def run(self, events: AsyncIterator[Any]) -> None:
        """The agent: fold each journal record and write its rows; acknowledge in order, once they are written."""
        acknowledging = asyncio.ensure_future(self._acknowledge())
        try:
            async for event in events:
                message = event.message
                fold = self.folds.get(message.partition)
                if fold is None or fold.next_offset is None or message.offset < fold.next_offset:
                    self._enqueue(event, [])
                    continue
                sent = await self._write(message.partition, fold.step(message.offset, message.value))
                self._enqueue(event, sent)
                while len(self._in_flight) >= MAX_IN_FLIGHT:
                    self._drained.clear()
                    await self._drained.wait()
        except asyncio.CancelledError:
            raise
        except JournalGap as error:
            fatal("%s: a restart goes on from the last seal", error)
        except BaseException:
            log.exception("the fold failed")
            fatal("stopping: nothing is acknowledged that was not folded and written")
        finally:
            acknowledging.cancel()

    async def _write(self, partition: int, writes: list[Write]) -> list[asyncio.Future[None]]:
        for write in writes:
            if write.table == "deadletter":
                log.warning("dead letter from %s[%d] at %d: %s", JOURNAL, partition, write.version, write.key.decode())
                continue
            store = self._store(write.table)
            if write.value is None:
                store.data.pop(write.key, None)
            else:
                store.data[write.key] = write.value
        return await self.writer.send(partition, writes)

    def _store(self, table: str) -> FacetStore:
        return cast(FacetStore, cast(FacetTable, self._app.tables[table]).data)

    def _enqueue(self, event: Any, sent: list[asyncio.Future[None]]) -> None:
        self._in_flight.append((event, sent))
        self._arrived.set()

    async def _acknowledge(self) -> None:
        while True:
            while not self._in_flight:
                self._arrived.clear()
                await self._arrived.wait()
            event, sent = self._in_flight[0]
            try:
                for future in sent:
                    await future
            except KafkaError as error:
                fatal("rows could not be written: %s: check the broker; a restart goes on from the last seal", error)
            self._in_flight.popleft()
            event.ack()
            self._drained.set()

    def _foreign(self, table: str, partition: int, start: int, end: int) -> None:
        log.warning("%s[%d]: offsets %d to %d are another writer's", topic_of(table), partition, start, end - 1)
        task = asyncio.ensure_future(self._repair(table, partition, start, end))
        task.add_done_callback(_report)

    async def _repair(self, table: str, partition: int, start: int, end: int) -> None:
        """A worker that had been replaced wrote late. Where its row hides a newer one, the newer is written again."""
        store = self._store(table)
        fold = self.folds[partition]
        async for batch in self._reader.read(
            (table,), (partition,), {TopicPartition(topic_of(table), partition): start}
        ):
            for record in batch:
                if not start <= record.offset < end:
                    continue
                if record.version >= (fold.next_offset or 0):
                    fatal("%s[%d]: another worker is ahead of this one", topic_of(table), partition)
                row = store.data.get(record.key)
                if row != record.value and not record.key.startswith(b"~"):
                    version = stamp(row) if row is not None else (fold.next_offset or 0) - 1
                    await asyncio.gather(*await self.writer.send(partition, [Write(table, record.key, row, version)]))


def stamp(row: bytes) -> int:
    """The version that a row names."""
    return msgspec.json.decode(row, type=_Stamp).version


class _Stamp(msgspec.Struct):
    version: int


def _report(task: "asyncio.Future[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        fatal("a replaced worker's rows could not be repaired: %s", task.exception())


def fatal(text: str, *parts: object) -> None:
    """Log and end the process at once: a worker that goes on after a fault could tear a set."""
    log.critical(text, *parts)
    logging.shutdown()
    os._exit(FATAL_EXIT)


def create_app(settings: WorkerSettings) -> FacetApp:
    """The worker's Faust app. The topics must exist, all facet topics with as many partitions as the journal."""
    app = FacetApp(
        settings.group,
        broker=URL(f"aiokafka://{settings.bootstrap.replace(',', ';')}"),
        datadir=settings.data_dir,
        store=URL("memory://"),
        processing_guarantee="at_least_once",
        key_serializer="raw",
        value_serializer="raw",
        Table=FacetTable,
        Router=FacetRouter,
        topic_partitions=settings.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.0,
        broker_max_poll_records=500,
        consumer_max_fetch_size=MAX_MESSAGE_BYTES,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.instance or None,
        stream_buffer_maxsize=65536,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        producer_linger=0.0,
        recovery_consistency_check=False,
        web_bind=settings.web_host,
        web_host=settings.web_host,
        web_port=settings.web_port,
        Monitor=Monitor,
    )
    app.settings = settings
    app.materializer = Materializer(app, settings)
    for table in TABLES:
        app.Table(
            table,
            partitions=settings.partitions,
            key_type=bytes,
            value_type=bytes,
            changelog_topic=app.topic(
                topic_of(table),
                key_type=bytes,
                value_type=bytes,
                key_serializer="raw",
                value_serializer="raw",
                partitions=settings.partitions,
                internal=True,
            ),
        )
    journal = app.topic(JOURNAL, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(journal, name="materialize", concurrency=1)
    async def materialize(stream: Any) -> None:
        await app.materializer.run(stream.noack().events())

    async def hold(app: Any, **_: Any) -> None:
        # What is queued from here until the seek would be skipped.
        app.consumer.stop_flow()

    async def close(app: Any, **_: Any) -> None:
        await app.materializer.writer.stop()

    cast(Any, app.on_rebalance_complete).connect(hold)
    cast(Any, app.on_before_shutdown).connect(close)
    add_views(app)
    return app
