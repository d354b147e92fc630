"""The Faust app: one agent folds the journal into the facet tables, whose changelogs are the facet topics.

What Faust does here: group membership, assignment, fetching, flow control, tables, routing of look-ups, the web.
What is done around it, and why (faust-streaming 0.15.3):

- Its table manager starts with a second's sleep.
- Its recovery reads 4,000 records a second, and what it queued meanwhile is skipped afterwards: tables are read
  back by `recovery.recover` while partitions are assigned, so Faust finds nothing left to recover, and
  the flow is stopped until the rebalance is through.
- The group's committed offset is not the truth about progress: the consumer is put to the fold's own offset.
- An exception in an agent still acknowledges its event: here it ends the process.
- Acknowledgements follow the writes, in order.
"""

import logging
from collections.abc import Mapping
from copy import copy
from typing import Any, cast

import faust
from faust.app.router import Router
from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.sensors.monitor import Monitor
from faust.stores import memory
from faust.tables.manager import TableManager
from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types import TP
from yarl import URL

from streams.runtime.probes import add_probe_routes
from streams.wire.partitioning import partition_of
from streams.wire.records import JOURNAL, TABLES, topic_of
from streams.wire.topics import MAX_MESSAGE_BYTES
from streams.worker.consumer_thread import FacetConsumerThread
from streams.worker.materializer import Materializer, WorkerSettings
from streams.worker.readiness import work_readiness
from streams.worker.row_views import add_views

log = logging.getLogger("facets.work")


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


class FacetTableManager(TableManager):
    """Starts at once: Faust waits a second first, for nothing that it names (the agents are there by then)."""

    async def on_start(self) -> None:
        """As Faust does it, but for the second."""
        await self._update_channels()
        await self.recovery.start()


class FacetConsumer(Consumer):
    """Goes on from the tables' own seals, whatever the group has committed."""

    def _new_consumer_thread(self) -> FacetConsumerThread:
        return FacetConsumerThread(self, loop=self.loop, beacon=self.beacon)

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


class FacetAssignor(PartitionAssignor):
    """Lets a static member come back at another address: it is given what its predecessor was assigned, with that
    one's URL in it, which Faust takes for a fault (and the consumer then waits for ever, without a word)."""

    def on_assignment(self, assignment: Any) -> None:
        """Take the assignment as this worker's own."""
        metadata = ClientMetadata.loads(self._decompress(assignment.user_data))
        before, now = metadata.url, str(self._url)
        if before != now:
            log.info(
                "this worker was at %s before it was started again: other workers look there until a rebalance", before
            )
            metadata.url = now
            assignment = copy(assignment)
            assignment.user_data = self._compress(metadata.dumps())
        super().on_assignment(assignment)
        if before != now:
            places = dict(self.changelog_distribution)
            places[now] = places.pop(before, {})
            self.changelog_distribution = places


class FacetApp(faust.App):
    """The app with its materializer."""

    settings: WorkerSettings
    materializer: Materializer

    def _new_transport(self) -> FacetTransport:
        return FacetTransport(self.conf.broker_consumer, self)


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
        TableManager=FacetTableManager,
        Router=FacetRouter,
        PartitionAssignor=FacetAssignor,
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
        await app.materializer.stop()

    cast(Any, app.on_rebalance_complete).connect(hold)
    cast(Any, app.on_before_shutdown).connect(close)
    add_views(app)
    # Faust's pages answer with its own headers and methods; these are the same in every process.
    add_probe_routes(cast(Any, app.web).web_app, work_readiness(app))
    return app
