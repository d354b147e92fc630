"""Overrides of Faust: the only file that uses its private parts (faust-streaming 0.15.3).

Faust does group membership, assignment, fetching, flow control, tables, routing of look-ups, and the web server.
What is overridden, and why:

- Its table manager starts with a second's sleep.
- Its recovery reads 4,000 records a second, and events queued meanwhile are skipped afterwards: tables are read back
  while partitions are assigned (`PartitionFolds.assign`), so Faust finds nothing left to recover.
- The group's committed offset does not define progress: the consumer seeks to the fold's own offset.
- It routes look-ups by Kafka's hash of the key: here they go by that of the Service.
- A static member that returns at another address is assigned its predecessor's, which Faust considers an error.
- It checks every assigned partition every seven seconds, and considers it broken if no stream has read from it for five
  minutes. The changelogs' partitions are assigned too, but no stream reads them. And a journal that was silent for that
  long is considered stuck at its first new record. So none of its checks is used.
- When stopped, it waits for as long as the broker is away.
- It fetches whenever a record comes, however many there are a second.

`tests/unit/test_faust_contract.py` fails, naming the part, if a release behaves differently.
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
from streams.runtime.pace import Pace
from streams.wire.keys import parse_row_key
from streams.wire.partitioning import partition_of
from streams.wire.records import JOURNAL, TABLES, topic_of
from streams.worker.fatal import fatal
from streams.worker.instance_guard import guard_instance
from streams.worker.stall_detector import STALLED_SECONDS, StallDetector

log = logging.getLogger("facets.work")

_CLOSE_SECONDS = 2.0

_FETCHES_A_SECOND = 20
"""At how many fetches a second what comes is collected: a fetch, and the requests that write what follows from it, cost
more than a commit. Routers don't wait for it: `serve` folds the journal itself."""

_FETCHES_AT_ONCE = 40

_MANY = 200
"""So many records in one fetch, and the worker is behind: it does not wait."""


class PartitionFolds(Protocol):
    """The folds, as Faust needs them. `assignment` is a new object after each assignment."""

    assignment: object

    async def assign(self, partitions: set[int]) -> None:
        """Read back the tables of these partitions; from now on they are the assigned ones."""

    def positions(self) -> Mapping[int, int]:
        """The journal offset that each assigned partition needs next."""


class FacetConsumerThread(AIOKafkaConsumerThread):
    """Faust's, with other checks and a bounded stop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._stalls = StallDetector()

    async def on_start(self) -> None:
        """As in Faust; a static member also checks that it is not replaced."""
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
        """Disconnect, within a time limit. A consumer that is closed while it reconnects cancels itself: that would end
        this thread, and Faust would wait for it for ever."""
        await super(AIOKafkaConsumerThread, self).on_thread_stop()
        if self._consumer is not None:
            await shutdown.closed("the consumer to leave its group", self._consumer.stop(), _CLOSE_SECONDS)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Log once if a journal partition is no longer folded."""
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
    """A table's rows in memory, read back before Faust's recovery, which then has nothing to do."""

    def persisted_offset(self, tp: TP) -> int | None:
        """An offset beyond any changelog's end: nothing is left for Faust to recover."""
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
    """Starts at once; Faust first sleeps a second, without a stated reason (the agents have started by then)."""

    async def on_start(self) -> None:
        """As in Faust, without the sleep."""
        await self._update_channels()
        await self.recovery.start()


class FacetConsumer(Consumer):
    """Resumes from the tables' own seals, whatever the group has committed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pace = Pace(_FETCHES_A_SECOND, _FETCHES_AT_ONCE)
        self._is_behind = False

    def _new_consumer_thread(self) -> FacetConsumerThread:
        return FacetConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109
        """As in Faust, at a pace: what a fetch, and the requests that follow from it, cost is shared by more commits
        under load."""
        if not self._is_behind:
            await self._pace.turn()
        records: Any = await super()._getmany(active_partitions, timeout)
        self._is_behind = sum(map(len, records.values())) >= _MANY
        return records

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Changelog partitions stay where they are: they are read elsewhere."""
        journal = {tp: offset for tp, offset in partitions.items() if tp.topic == JOURNAL}
        if journal:
            await super().seek_wait(journal)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every journal partition to the offset that its fold needs next."""
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
    """Faust's Kafka transport, with FacetConsumer."""

    Consumer = FacetConsumer


class FacetRouter(Router):
    """Routes look-ups to the worker that holds the Service's partition (not Kafka's hash of the row's key)."""

    def key_store(self, table_name: str, key: Any) -> URL:
        """The web address of the worker that holds a row. Raises KeyError while none does."""
        _, namespace, name = parse_row_key(str(key))
        app = cast("FacetApp", self.app)
        tp = TP(topic_of(table_name), partition_of(namespace, name, app.partitions))
        return URL(cast(Any, app.assignor)._tps_url[tp])


class FacetAssignor(PartitionAssignor):
    """Lets a static member return at another address: it gets its predecessor's assignment, with that one's URL, which
    Faust considers an error (and the consumer then silently waits for ever)."""

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
    """Serves on a socket that is already listening: another process could take the port before Faust binds it."""

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
    """Stops by the process's own signal handlers and deadline: Faust waits for as long as the broker is away."""

    def install_signal_handlers(self) -> None:
        """SIGINT, SIGTERM and SIGHUP stop the app, once."""
        loop = self.loop

        def stop() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._on_sigterm)

        shutdown.handle_signals(stop)

    def on_worker_shutdown(self) -> None:
        """Start the deadline for a failed app, too."""
        shutdown.begin()

    async def stop(self) -> None:
        """As in Faust."""
        with shutdown.waiting_for("the worker to leave its group and to disconnect from Kafka"):
            await super().stop()
