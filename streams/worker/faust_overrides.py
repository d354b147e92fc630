"""Faust, as far as it is overridden: the one file that uses private parts of it (faust-streaming 0.15.3).

What Faust does here: group membership, assignment, fetching, flow control, tables, routing of look-ups, the web.
What is done around it, and why:

- Its table manager starts with a second's sleep.
- Its recovery reads 4,000 records a second, and what it queued meanwhile is skipped afterwards: tables are read back
  while partitions are assigned (`PartitionFolds.assign`), so Faust finds nothing left to recover.
- The group's committed offset is not the truth about progress: the consumer is put to the fold's own offset.
- Its look-ups are routed by Kafka's hash of the key: here by that of the Service.
- A static member that comes back at another address is given its predecessor's, which it takes for a fault.
- It looks at every assigned partition every seven seconds, and takes it for broken when no stream has read from it for
  five minutes. The changelogs' partitions are assigned, too, and no stream ever reads them. And a journal that was
  silent for as long is taken for stuck with its first new record. So none of its checks is used.
- It waits for as long as the broker is away when it is stopped.

`tests/unit/test_faust_contract.py` fails, naming the part, where a release behaves otherwise.
"""

import logging
import socket
from collections.abc import Mapping
from copy import copy
from typing import Any, Protocol, cast

import faust
from aiohttp.web import SockSite
from faust.app.router import Router
from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.stores import memory
from faust.tables.manager import TableManager
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP
from faust.web.drivers.aiohttp import Web
from yarl import URL

from streams.exit_codes import ExitCode
from streams.runtime import shutdown
from streams.wire.keys import parse_row_key
from streams.wire.partitioning import partition_of
from streams.wire.records import JOURNAL, TABLES, topic_of
from streams.worker.fatal import fatal
from streams.worker.instance_guard import guard_instance
from streams.worker.stall_detector import STALLED_SECONDS, StallDetector

log = logging.getLogger("facets.work")

_CLOSE_SECONDS = 2.0


class PartitionFolds(Protocol):
    """What Faust is to know of the folds. `assignment` is another object after each assignment."""

    assignment: object

    async def assign(self, partitions: set[int]) -> None:
        """Read back the tables of these partitions; from now on they are the assigned ones."""

    def positions(self) -> Mapping[int, int]:
        """The journal offset that each assigned partition needs next."""


class FacetConsumerThread(AIOKafkaConsumerThread):
    """As Faust's, but for its checks and its end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._stalls = StallDetector()

    async def on_start(self) -> None:
        """As Faust does it; a static member also watches that it keeps its place."""
        await super().on_start()
        instance = cast("FacetApp", self.consumer.app).instance
        if instance:
            guard_instance(self._consumer, instance, self._replaced)

    def _replaced(self, host: str) -> None:
        fatal(
            "a newer worker at %s has the name of this one (%s) and took its place: give each its own --instance",
            host, cast("FacetApp", self.consumer.app).instance, code=ExitCode.GAVE_UP,
        )  # fmt: skip

    async def on_thread_stop(self) -> None:
        """Disconnect, within a bound. A consumer that is closed while it reconnects cancels itself: that would end
        this thread, and Faust would wait for it for ever."""
        await super(AIOKafkaConsumerThread, self).on_thread_stop()
        if self._consumer is not None:
            await shutdown.closed("the consumer to leave its group", self._consumer.stop(), _CLOSE_SECONDS)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Say it once when a journal partition is not folded any more."""
        folds = cast("FacetApp", self.consumer.app).folds
        offset = folds.positions().get(tp.partition) if tp.topic == JOURNAL else None
        consumer: Any = self._consumer
        if offset is None or consumer is None:
            return
        end = consumer.highwater(tp) if tp in consumer.assignment() else None
        if end is not None and self._stalls.stalled(now, tp.partition, folds.assignment, offset, end):
            log.error(
                "%s[%d]: nothing was folded for %.0f s at offset %d, though the journal goes on to %d: look at the "
                "broker (facets doctor), and start this worker again",
                JOURNAL, tp.partition, STALLED_SECONDS, offset, end - 1,
            )  # fmt: skip


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
            await app.folds.assign({tp.partition for tp in assigned if tp.topic == JOURNAL})


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
            for partition, offset in app.folds.positions().items()
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
        _, namespace, name = parse_row_key(str(key))
        app = cast("FacetApp", self.app)
        tp = TP(topic_of(table_name), partition_of(namespace, name, app.partitions))
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


class FacetWeb(Web):
    """Answers on a socket that listens already: one that Faust binds later may be another process's by then."""

    def _new_transport_tcp(self) -> SockSite:
        return SockSite(self._runner, cast("FacetApp", self.app).listening)


class FacetApp(faust.App):
    """The app, with the folds of its partitions, and the socket that its web server answers on."""

    folds: PartitionFolds
    partitions: int
    instance: str
    listening: socket.socket

    def _new_web(self) -> FacetWeb:
        return FacetWeb(self)

    def _new_transport(self) -> FacetTransport:
        return FacetTransport(self.conf.broker_consumer, self)


class FacetWorker(faust.Worker):
    """Stops by the process's own signals and deadline: Faust waits for as long as the broker is away."""

    def install_signal_handlers(self) -> None:
        """SIGINT, SIGTERM and SIGHUP stop the app, once."""
        loop = self.loop

        def stop() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._on_sigterm)

        shutdown.handle_signals(stop)

    def on_worker_shutdown(self) -> None:
        """The deadline holds for an app that failed, too."""
        shutdown.begin()

    async def stop(self) -> None:
        """As Faust does it."""
        with shutdown.waiting_for("the worker to leave its group and to disconnect from Kafka"):
            await super().stop()
