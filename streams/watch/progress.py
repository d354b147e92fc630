"""What a watcher process does once for all of its clusters, while they are quiet: one small record a partition that
shows that it lives, and one look for watchers that take clusters over."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NoReturn

from streams.kafka.commit_producer import DELIVERY_SECONDS
from streams.kafka.errors import BrokerError
from streams.kafka.journal import JournalEnds, Publisher, journal_ends
from streams.kafka.journal_reader import JournalReader
from streams.objects.commits import CommitWriter
from streams.objects.progress import CoveredCluster, ProgressCollector
from streams.watch.pending_write import LATE_SECONDS, PendingWrite
from streams.wire.timestamps import write

log = logging.getLogger("facets.watch")

GUARD_SECONDS = 3.0
_TICK_SECONDS = 1.0

Wake = Callable[[float], None]
"""Is called each second, with the present (monotonic) time."""


class ProcessProgress:
    """Of one process. `write` is the write of its own records that is under way."""

    def __init__(self, publisher: Publisher, reader: JournalReader, writer: str, partitions: int) -> None:
        self.write = PendingWrite(publisher, self._warn_late)
        self._publisher = publisher
        self._reader = reader
        self._partitions = partitions
        self._collector = ProgressCollector(writer, partitions)
        self._wakes: dict[CoveredCluster, Wake] = {}
        self._ends: asyncio.Future[JournalEnds] | None = None
        self._last_at = ""

    def open(self, commits: CommitWriter, wake: Wake) -> CoveredCluster:
        """An epoch of a cluster has begun, in every partition."""
        cluster = self._collector.open(commits)
        self._wakes[cluster] = wake
        return cluster

    def close(self, cluster: CoveredCluster) -> None:
        """The epoch has ended here."""
        self._wakes.pop(cluster, None)
        self._collector.close(cluster)

    async def next_ends(self) -> JournalEnds:
        """The journal's ends, when they are next looked up."""
        if self._ends is None:
            self._ends = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._ends)

    async def run(self) -> NoReturn:
        """Until cancelled. Raises JournalWriteFailed."""
        # Clusters are told the time even while the broker is away.
        tasks = [asyncio.create_task(loop) for loop in (self._tick(), self._speak(), self._guard())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
            raise AssertionError("a loop without an end has ended")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            tick = time.monotonic()
            for wake in list(self._wakes.values()):
                wake(tick)

    async def _speak(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            await self._write(time.monotonic())

    async def _guard(self) -> None:
        while True:
            await asyncio.sleep(GUARD_SECONDS)
            await self._look()

    async def _write(self, tick: float) -> None:
        # It never goes back, even if the clock does.
        self._last_at = max(self._last_at, write(datetime.now(UTC)))
        records = self._collector.records(self._last_at, tick)
        if records:
            await self.write.publish(records)

    async def _look(self) -> None:
        if self._ends is None:
            return
        try:
            ends = await journal_ends(self._publisher, self._reader, self._partitions)
        except BrokerError as error:
            log.debug("the journal's ends are not known: %s", error)
            return
        waiting, self._ends = self._ends, None
        waiting.set_result(ends)

    @staticmethod
    def _warn_late() -> None:
        log.warning(
            "the journal has not acknowledged a record for %.0f s; is the broker there? Trying for %d s",
            LATE_SECONDS, DELIVERY_SECONDS,
        )  # fmt: skip
