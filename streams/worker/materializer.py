"""Folding the assigned partitions: recovery on assignment, writes before acknowledgements, checkpoints, repair."""

import asyncio
import logging
import socket
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiokafka.errors import KafkaError

from streams.facets.changelog_records import unreadable
from streams.fold.fold import JournalGap, PartitionFold
from streams.fold.table import Write
from streams.kafka.skipped_records import report
from streams.wire.keys import COMPANION_PREFIX
from streams.wire.records import JOURNAL, TABLES, topic_of
from streams.wire.topics import DEFAULT_WINDOW_SECONDS
from streams.worker import metrics
from streams.worker.changelog import ChangelogReader, ChangelogWriter
from streams.worker.checkpoint import Image, UnusableCheckpoint, capture, path_of, restore, save
from streams.worker.fatal import fatal
from streams.worker.recovery import AnotherJournal, recover
from streams.worker.unreadable import ahead, overwrite

log = logging.getLogger("facets.work")

MAX_IN_FLIGHT = 512
"""Commits whose rows are handed to the producer and not yet acknowledged by the broker."""

MAX_WAITING = 32 * 1024 * 1024
"""Bytes of rows handed to the producer and not yet acknowledged by the broker, above which no commit is folded."""


RowsOfTable = Callable[[str], dict[bytes, bytes]]
"""The rows of a table, as look-ups see them."""

Beginnings = Callable[[Iterable[int]], Awaitable[dict[int, int]]]
"""Where partitions of the journal begin."""


class WorkerSettings(NamedTuple):
    """`web` listens for the table views; `web_host` is the address that other workers are told. `window_seconds` is the
    resume window; `instance` the static group member (a restarted one is ready at once).

    A partition is checkpointed `checkpoint_seconds` after its assignment or its last checkpoint, and only once
    `checkpoint_records` were written, and as many as it has rows: each row is saved for at least one that was written.
    """

    bootstrap: str
    partitions: int
    data_dir: Path
    web: socket.socket
    web_host: str = "127.0.0.1"
    instance: str = ""
    group: str = "facets"
    window_seconds: int = DEFAULT_WINDOW_SECONDS
    checkpoint_seconds: float = 60.0
    checkpoint_records: int = 2000


class Materializer:
    """Folds the assigned partitions and writes what comes out of it."""

    def __init__(self, settings: WorkerSettings, rows: RowsOfTable, beginnings: Beginnings) -> None:
        self.folds: dict[int, PartitionFold] = {}
        self.writer = ChangelogWriter(settings.bootstrap, self._written)
        self._images: dict[int, Image] = {}
        self._rows = rows
        self._beginnings = beginnings
        self.assignment: object = None
        self._settings = settings
        self._reader = ChangelogReader(settings.bootstrap)
        self._in_flight: deque[tuple[Any, list[asyncio.Future[None]], float]] = deque()
        self.assigning = "it waits to be assigned partitions"
        self._arrived = asyncio.Event()
        self._drained = asyncio.Event()
        self._unproven: set[tuple[str, int]] = set()
        self._repairing: Counter[int] = Counter()
        self._repairs: set[asyncio.Task[None]] = set()
        self._saved: dict[int, float] = {}
        self._swept: dict[int, float] = {}
        self._saving = asyncio.Lock()

    def unacknowledged_seconds(self) -> float:
        """For how long the oldest rows that are not written yet have waited for the broker."""
        if not self._in_flight:
            return 0.0
        return asyncio.get_running_loop().time() - self._in_flight[0][2]

    def positions(self) -> dict[int, int]:
        """The journal offset that each assigned partition needs next."""
        return {partition: fold.next_offset or 0 for partition, fold in self.folds.items()}

    # ---- assignment ----------------------------------------------------------------------------------

    async def assign(self, partitions: set[int]) -> None:
        """Read back the tables of these partitions. Other workers may have held them in between: so even what was
        held before is only known up to where it was written here, and is read on from there."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        self.assigning = f"the tables of partitions {sorted(partitions)} are read back"
        await self.writer.start()
        await self.writer.flush()
        known = await self._known(partitions)
        await self._save([partition for partition in self._images if partition not in partitions])
        self._images = {}
        rows = sum(len(held) for image in known.values() for held in image.rows.values())
        try:
            recovered = await recover(self._reader, TABLES, partitions, known, self._reader.journal_ends)
        except AnotherJournal as error:
            fatal("%s: %s", error, error.remedy, code=error.exit_code)
        folds = {
            partition: PartitionFold(partition, window_seconds=self._settings.window_seconds)
            for partition in partitions
        }
        stores = {table: self._rows(table) for table in TABLES}
        for store in stores.values():
            store.clear()
        for partition, (image, late, _, _) in recovered.items():
            fold = folds[partition]
            for table in TABLES:
                for key, (version, value) in (*image.seals[table].items(), *image.rows[table].items()):
                    fold.load(table, key, value, version)
                held = image.rows[table].items()
                stores[table].update({key: value for key, (_, value) in held if value is not None})
            for (table, key), hidden in late.items():
                fold.load(table, key, *hidden)
        beginnings = await self._beginnings(partitions)
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
        self._images = {partition: each.image for partition, each in recovered.items()}
        for partition in partitions:
            self._saved.setdefault(partition, loop.time())
        # Until the first record of this worker is written, it is not said that nothing came in between.
        self._unproven = {(table, partition) for table in TABLES for partition in partitions}
        self.folds, self.assignment = folds, object()
        for partition, again in writes.items():
            overwrites = self.writer.send(partition, recovered[partition].overwrites)
            await asyncio.gather(*overwrites, *self._write(partition, again))
        log.info(
            "assigned partitions %s: %d rows known from %d checkpoints, %d records read back, in %.2f s",
            sorted(partitions), rows, len(known), sum(each.records for each in recovered.values()),
            loop.time() - started,
        )  # fmt: skip
        metrics.PARTITIONS.set(len(folds))
        self.assigning = ""

    async def _known(self, partitions: set[int]) -> dict[int, Image]:
        """Images of these partitions, in memory or else in a file."""
        known = {
            partition: image
            for partition, image in self._images.items()
            if partition in partitions and not self._repairing[partition]
        }
        for partition in sorted(partitions.difference(known)):
            path = path_of(self._settings.data_dir, partition)
            try:
                image = await asyncio.to_thread(restore, path, partition, self._settings.partitions, TABLES)
            except UnusableCheckpoint as error:
                log.warning("the checkpoint %s is ignored, everything is read: %s", path, error)
                continue
            if image is not None:
                known[partition] = image
        return known

    # ---- checkpoints ---------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Flush what is written, and keep what is known for the next start. It makes the repairs that are under way: a
        checkpoint would hide from it that there is something to repair."""
        repairs = list(self._repairs)
        unrepaired = {partition for partition, count in self._repairing.items() if count}
        for task in repairs:
            task.cancel()
        await asyncio.gather(*repairs, return_exceptions=True)
        await self.writer.stop()
        await asyncio.sleep(0)
        await self._save([partition for partition in self._images if partition not in unrepaired])

    async def _keep(self) -> None:
        """Write checkpoints while the fold goes on. An image is always that of a prefix of each log, so there is no
        moment at which it can't be captured, but for the repair of a log (see `_repair`)."""
        settings, loop = self._settings, asyncio.get_running_loop()
        while True:
            due = [
                partition
                for partition, image in self._images.items()
                if image.taken >= max(settings.checkpoint_records, image.size)
                and loop.time() >= self._saved[partition] + settings.checkpoint_seconds
            ]
            await self._save(due)
            await asyncio.sleep(min(settings.checkpoint_seconds, 5.0))

    async def _save(self, partitions: list[int]) -> None:
        loop = asyncio.get_running_loop()
        async with self._saving:
            for partition in partitions:
                image = self._images.get(partition)
                if image is None or not image.taken or self._repairing[partition]:
                    continue
                self._saved[partition] = loop.time()
                if loop.time() - self._swept.setdefault(partition, loop.time()) > self._settings.window_seconds:
                    self._swept[partition] = loop.time()
                    image.sweep()
                path = path_of(self._settings.data_dir, partition)
                captured = capture(image)
                try:
                    size = await asyncio.to_thread(save, path, captured, partition, self._settings.partitions)
                except OSError as error:
                    log.warning("no checkpoint of partition %d: %s: a restart reads more", partition, error)
                    continue
                log.debug("checkpoint of partition %d: %d bytes", partition, size)

    # ---- the fold ------------------------------------------------------------------------------------

    async def run(self, events: AsyncIterator[Any]) -> None:
        """The agent: fold each journal record and write its rows; acknowledge in order, once they are written."""
        tasks = [asyncio.ensure_future(each) for each in (self._acknowledge(), self._keep())]
        for task in tasks:
            task.add_done_callback(_report)
        try:
            async for event in events:
                message = event.message
                fold = self.folds.get(message.partition)
                if fold is None or fold.next_offset is None or message.offset < fold.next_offset:
                    self._enqueue(event, [])
                    continue
                # Faust has seconds, where Kafka has milliseconds.
                appended = round((message.timestamp or 0) * 1000)
                sent = self._write(message.partition, fold.step(message.offset, message.value, appended))
                self._enqueue(event, sent)
                metrics.COMMITS.inc()
                # The writer's turn: the stream gives none while it has events.
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

    def _enqueue(self, event: Any, sent: list[asyncio.Future[None]]) -> None:
        self._in_flight.append((event, sent, asyncio.get_running_loop().time()))
        self._arrived.set()

    async def _acknowledge(self) -> None:
        while True:
            while not self._in_flight:
                self._arrived.clear()
                await self._arrived.wait()
            event, sent, _ = self._in_flight[0]
            try:
                for future in sent:
                    await future
            except KafkaError as error:
                fatal("rows could not be written: %s: check the broker; a restart goes on from the last seal", error)
            self._in_flight.popleft()
            event.ack()
            self._drained.set()

    # ---- what is written -----------------------------------------------------------------------------

    def _written(self, partition: int, write: Write, offset: int, timestamp: int) -> None:
        image = self._images.get(partition)
        if image is None or offset < image.ends[write.table]:
            return
        due = image.ends[write.table]
        image.take(write.table, offset, timestamp, write.key, write.value, write.version)
        predecessor = (write.table, partition) in self._unproven
        self._unproven.discard((write.table, partition))
        if offset > due:
            log.warning(
                "%s[%d]: offsets %d to %d are another writer's", topic_of(write.table), partition, due, offset - 1
            )
            task = asyncio.ensure_future(self._repair(write.table, partition, due, offset, predecessor))
            task.add_done_callback(_report)
            self._repairs.add(task)
            task.add_done_callback(self._repairs.discard)
            # Until it is repaired, a checkpoint would hide from the next start that there is something to repair.
            self._repairing[partition] += 1
            task.add_done_callback(lambda _: self._repairing.subtract([partition]))

    async def _repair(self, table: str, partition: int, start: int, end: int, predecessor: bool) -> None:
        """A worker that had been replaced wrote late. Where its row hides a newer one, the newer is written again.
        What a predecessor wrote between this worker's reading and its first write, the fold makes again itself. What
        can't be read is no worker's, and is written over."""
        store = self._rows(table)
        fold, image = self.folds.get(partition), self._images.get(partition)
        if fold is None or image is None:
            return
        garbage: dict[bytes, None] = {}
        async for batch in self._reader.read((table,), (partition,), {(table, partition): start}):
            for offset, key, value, version in batch.records or ():
                if not start <= offset < end:
                    continue
                why = unreadable(table, key, value, version)
                if not why and version >= (fold.next_offset or 0):
                    why = ahead(version, (await self._reader.journal_ends([partition]))[partition])
                if why:
                    report(topic_of(table), partition, offset, why)
                    garbage[key] = None
                    continue
                if version >= (fold.next_offset or 0):
                    if predecessor:
                        continue
                    fatal("%s[%d]: another worker is ahead of this one", topic_of(table), partition)
                image.learn(table, key, value, version)
                row = store.get(key)
                if row != value and not key.startswith(b"~"):
                    newest = stamp(row) if row is not None else (fold.next_offset or 0) - 1
                    await asyncio.gather(*self.writer.send(partition, [Write(table, key, row, newest)]))
        # Only now: a worker that was replaced without noticing must not write over anything.
        overwrites = [self._newest(image, table, key) for key in garbage]
        await asyncio.gather(*self.writer.send(partition, overwrites))

    def _newest(self, image: Image, table: str, key: bytes) -> Write:
        """The newest record of a key, to be written again. What is under way to the broker counts, which the image
        does not know yet: an older one after it would hide it."""
        value = self._rows(table).get(key)
        if value is None or key.startswith(COMPANION_PREFIX):
            return overwrite(image, table, key)
        return Write(table, key, value, stamp(value))


def stamp(value: bytes) -> int:
    """The version that a row names, or the offset that a seal seals."""
    found = msgspec.json.decode(value, type=_Stamp)
    return found.offset if found.version is None else found.version


class _Stamp(msgspec.Struct):
    version: int | None = None
    offset: int = 0


def _report(task: "asyncio.Future[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a task of the worker failed", exc_info=error)
        fatal("stopping: a restart goes on from the last seal")
