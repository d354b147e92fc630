"""Folds the assigned partitions: recovery on assignment, writes before acknowledgements, checkpoints, repair."""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from streams.facets import tables
from streams.fold.fold import JournalGap, PartitionFold
from streams.fold.table import Write
from streams.wire.records import FOLDED_TABLES, JOURNAL, topic_of
from streams.wire.topics import DEFAULT_WINDOW_SECONDS
from streams.worker import metrics
from streams.worker.changelog import ChangelogReader, ChangelogWriter, RowsNotWritten
from streams.worker.checkpoint import Image
from streams.worker.fatal import fatal, fatal_error, report_failure
from streams.worker.images import CheckpointSettings, Images
from streams.worker.recovery import AnotherJournal, Recovered, recover
from streams.worker.repair import Gap, Repairs, RowsOfTable

log = logging.getLogger("facets.work")

MAX_IN_FLIGHT = 512
"""The most commits whose rows may be unacknowledged by the broker."""

MAX_WAITING = 32 * 1024 * 1024
"""Bytes of rows unacknowledged by the broker, above which no commit is folded."""


class WorkerSettings(NamedTuple):
    """`web` listens for the table views; `web_host` is the address that other workers are told, `web_names` the names
    that it answers to beside it. `window_seconds` is the resume window; `instance` the static group member (a restarted
    one is ready at once). For `checkpoint_seconds` and `checkpoint_records` see CheckpointSettings.
    """

    bootstrap: str
    partitions: int
    data_dir: Path
    web: socket.socket
    web_host: str = "127.0.0.1"
    web_names: tuple[str, ...] = ()
    instance: str = ""
    group: str = "facets"
    window_seconds: int = DEFAULT_WINDOW_SECONDS
    checkpoint_seconds: float = 60.0
    checkpoint_records: int = 2000

    @property
    def checkpoints(self) -> CheckpointSettings:
        """When and where partitions are checkpointed."""
        return CheckpointSettings(
            self.data_dir, self.partitions, self.checkpoint_seconds, self.checkpoint_records, self.window_seconds
        )


class Materializer:
    """Folds the assigned partitions and writes the resulting records."""

    def __init__(self, settings: WorkerSettings, rows: RowsOfTable) -> None:
        self.folds: dict[int, PartitionFold] = {}
        self.writer = ChangelogWriter(settings.bootstrap, self._written)
        self.assignment: object = None
        self.assigning = "it waits to be assigned partitions"
        self._rows = rows
        self._settings = settings
        self._reader = ChangelogReader(settings.bootstrap)
        self._repairs = Repairs(self._reader, self.writer, rows)
        self._images = Images(settings.checkpoints, self._repairs.under_way)
        self._in_flight: deque[tuple[Any, list[asyncio.Future[None]], float]] = deque()
        self._arrived = asyncio.Event()
        self._drained = asyncio.Event()
        self._unproven: set[tuple[str, int]] = set()

    def unacknowledged_seconds(self) -> float:
        """How long the oldest unacknowledged rows have waited for the broker."""
        if not self._in_flight:
            return 0.0
        return asyncio.get_running_loop().time() - self._in_flight[0][2]

    def positions(self) -> dict[int, int]:
        """The journal offset that each assigned partition needs next."""
        return {partition: fold.next_offset or 0 for partition, fold in self.folds.items()}

    # ---- assignment ----------------------------------------------------------------------------------

    async def assign(self, partitions: set[int]) -> None:
        """Read back the tables of these partitions. Other workers may have had them in between, so even an image in
        memory is only valid up to this worker's last write, and is read on from there."""
        clock = asyncio.get_running_loop().time
        started = clock()
        self.assigning = f"the tables of partitions {sorted(partitions)} are read back"
        await self.writer.start()
        await self.writer.flush()
        images = await self._images.take_images(partitions)
        # The images of partitions under repair were not taken: the read-back covers what their repairs had left. A
        # repair that went on would compare the log with the rows of another assignment.
        await self._repairs.cancel()
        await self.writer.flush()
        rows = sum(image.size for image in images.values())
        recovered = await self._read_back(partitions, images)
        folds = self._load_folds(partitions, recovered)
        writes = await self._resume_folds(folds)
        self._take_over(folds, recovered)
        await self._write_again(recovered, writes)
        log.info(
            "assigned partitions %s: %d rows known from %d checkpoints, %d records read back, in %.2f s",
            sorted(partitions), rows, len(images), sum(result.records for result in recovered.values()),
            clock() - started,
        )  # fmt: skip
        metrics.PARTITIONS.set(len(folds))
        self.assigning = ""

    async def _read_back(self, partitions: set[int], images: dict[int, Image]) -> dict[int, Recovered]:
        try:
            return await recover(self._reader, FOLDED_TABLES, partitions, images, self._reader.journal_ends)
        except AnotherJournal as error:
            fatal_error(error)

    def _load_folds(self, partitions: set[int], recovered: dict[int, Recovered]) -> dict[int, PartitionFold]:
        """Load the folds, and the rows for look-ups, from the recovered images."""
        window = self._settings.window_seconds
        folds = {partition: PartitionFold(partition, tables.WORKER_TABLES, window) for partition in partitions}
        stores = {table: self._rows(table) for table in FOLDED_TABLES}
        for store in stores.values():
            store.clear()
        for partition, (image, late, _, _) in recovered.items():
            fold = folds[partition]
            for table in FOLDED_TABLES:
                for key, (version, value) in (*image.seals[table].items(), *image.rows[table].items()):
                    fold.load(table, key, value, version)
                rows = image.rows[table].items()
                stores[table].update({key: value for key, (_, value) in rows if value is not None})
            for (table, key), hidden in late.items():
                fold.load(table, key, *hidden)
        return folds

    async def _resume_folds(self, folds: dict[int, PartitionFold]) -> dict[int, list[Write]]:
        """Find the journal offset at which each fold resumes; returns the records to write again before that."""
        beginnings = await self._reader.journal_begins(folds)
        writes: dict[int, list[Write]] = {}
        for partition, fold in folds.items():
            resume, writes[partition] = fold.recover()
            first = beginnings.get(partition, 0)
            if resume < first:
                log.error(
                    "%s[%d]: offset %d has expired, the journal begins at %d: rows are unknown until the next snapshot",
                    JOURNAL, partition, resume, first,
                )  # fmt: skip
                writes[partition] += fold.expire(first)
        return writes

    def _take_over(self, folds: dict[int, PartitionFold], recovered: dict[int, Recovered]) -> None:
        """Make these the assigned partitions."""
        self._images.replace({partition: result.image for partition, result in recovered.items()})
        # Until this worker's first record is written, another writer's may have come in between.
        self._unproven = {(table, partition) for table in FOLDED_TABLES for partition in folds}
        self.folds, self.assignment = folds, object()

    async def _write_again(self, recovered: dict[int, Recovered], writes: dict[int, list[Write]]) -> None:
        """Write first the overwrites of hidden and unreadable records, then the folds' own records."""
        for partition, again in writes.items():
            overwrites = self.writer.send(partition, recovered[partition].overwrites)
            try:
                await asyncio.gather(*overwrites, *self._write(partition, again))
            except RowsNotWritten as error:
                fatal_error(error)

    async def stop(self) -> None:
        """Flush, and save checkpoints, except of partitions with repairs in progress: the next start makes those."""
        unrepaired = await self._repairs.cancel()
        await self.writer.stop()
        await asyncio.sleep(0)
        await self._images.save_all(but=unrepaired)

    # ---- the fold ------------------------------------------------------------------------------------

    async def run(self, events: AsyncIterator[Any]) -> None:
        """The agent: fold each journal record and write its rows; acknowledge in order, once they are written."""
        tasks = [asyncio.ensure_future(coroutine) for coroutine in (self._acknowledge(), self._images.keep())]
        for task in tasks:
            task.add_done_callback(report_failure)
        try:
            async for event in events:
                message = event.message
                fold = self.folds.get(message.partition)
                if fold is None or fold.next_offset is None or message.offset < fold.next_offset:
                    self._enqueue(event, [])
                    continue
                # Faust has seconds, where Kafka has milliseconds.
                appended = round((message.timestamp or 0) * 1000)
                futures = self._write(message.partition, fold.step(message.offset, message.value, appended))
                self._enqueue(event, futures)
                metrics.COMMITS.inc()
                # Let the writer run: the stream doesn't yield while it has events.
                await asyncio.sleep(0)
                while len(self._in_flight) >= MAX_IN_FLIGHT or (self._in_flight and self.writer.waiting > MAX_WAITING):
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
            for task in tasks:
                task.cancel()

    def _write(self, partition: int, writes: list[Write]) -> list[asyncio.Future[None]]:
        for write in writes:
            if write.table == "deadletter":
                metrics.DEAD_LETTERS.inc()
                log.warning("dead letter from %s[%d] at %d: %s", JOURNAL, partition, write.version, write.key.decode())
                continue
            if not write.key.startswith(b"~"):
                metrics.ROWS.labels(write.table).inc()
            store = self._rows(write.table)
            if write.value is None:
                store.pop(write.key, None)
            else:
                store[write.key] = write.value
        return self.writer.send(partition, writes)

    def _enqueue(self, event: Any, futures: list[asyncio.Future[None]]) -> None:
        self._in_flight.append((event, futures, asyncio.get_running_loop().time()))
        self._arrived.set()

    async def _acknowledge(self) -> None:
        while True:
            while not self._in_flight:
                self._arrived.clear()
                await self._arrived.wait()
            event, futures, _ = self._in_flight[0]
            try:
                for future in futures:
                    await future
            except RowsNotWritten as error:
                fatal_error(error)
            self._in_flight.popleft()
            event.ack()
            self._drained.set()

    # ---- written records -----------------------------------------------------------------------------

    def _written(self, partition: int, write: Write, offset: int, timestamp: int) -> None:
        """The broker has acknowledged the record; offsets before it that another writer took are repaired."""
        image = self._images.get(partition)
        if image is None or offset < image.ends[write.table]:
            return
        due = image.ends[write.table]
        image.take(write.table, offset, timestamp, write.key, write.value, write.version)
        is_first = (write.table, partition) in self._unproven
        self._unproven.discard((write.table, partition))
        fold = self.folds.get(partition)
        if offset > due and fold is not None:
            log.warning(
                "%s[%d]: offsets %d to %d are another writer's", topic_of(write.table), partition, due, offset - 1
            )
            self._repairs.start(Gap(write.table, partition, due, offset, is_first), fold, image)
