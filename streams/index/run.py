"""`facets index`: builds the index, follows the journal, and builds it again where it can't be gone on with."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.fold.fold import JournalGap
from streams.index.build import (
    Bounds,
    BuildStopped,
    behind,
    catch_up,
    check_log,
    check_position,
    load_indexer,
    progress_of,
    read_kafka,
)
from streams.index.database import IndexUnusable, check_whole, connect, lock_path
from streams.index.partition_indexer import PartitionIndexer
from streams.index.writer import IndexedLog, IndexWriter, create_index
from streams.kafka.errors import BrokerError
from streams.kafka.log_tail import LogTail, log_tail
from streams.runtime.pace import Pace
from streams.runtime.process_lock import LockHeld, Owner, ProcessLock
from streams.runtime.retry import Pauses, RetryPolicy
from streams.wire.records import JOURNAL

log = logging.getLogger("facets.index")

_WRITES_A_SECOND = 2
"""At how many transactions a second what comes is written together."""

_PRUNE_SECONDS = 600.0
_RETRY = RetryPolicy(first=0.5, longest=15.0)


class IndexSettings(NamedTuple):
    """The options of `facets index`; `once`: end when the index is up to date."""

    bootstrap: str
    path: Path
    processes: int
    once: bool = False


Show = Callable[[str, float | None], None]
"""Shows a step of the build, and the fraction that is done."""


async def run_index(settings: IndexSettings, stop: asyncio.Event, show: Show, ready: Callable[[str], None]) -> None:
    """Keep the index until `stop`. `ready` is told when it is up to date. Raises FacetsError."""
    try:
        with ProcessLock(lock_path(settings.path), Owner.this_process()):
            await _keep(settings, stop, show, ready)
    except LockHeld as error:
        owner = f" by process {error.owner.pid}, since {error.owner.since}" if error.owner else ""
        raise FacetsError(
            f"the index {settings.path} is kept already{owner}",
            "readers need no process of their own; another index has a file of its own: --index FILE",
            ExitCode.GAVE_UP,
        ) from None
    except OSError as error:
        raise FacetsError(
            f"the index {settings.path} can't be used: {error.strerror or error}",
            "check its folder, or name another file with --index (FACETS_INDEX)", ExitCode.IO_ERROR,
        ) from error  # fmt: skip


async def _keep(settings: IndexSettings, stop: asyncio.Event, show: Show, ready: Callable[[str], None]) -> None:
    pauses = Pauses(_RETRY)
    is_checked = False
    while not stop.is_set():
        try:
            # In a thread: signals are heard meanwhile.
            log_, bounds = await asyncio.to_thread(_build, settings, stop, show, check=not is_checked)
            is_checked = True
            if settings.once:
                ready(f"the index {settings.path} is up to date")
                return
            await _Follower(settings, log_, bounds, stop, ready, pauses).run()
        except BuildStopped:
            return
        except IndexUnusable as error:
            log.warning("%s: it is built again", error)
            log_, _ = await asyncio.to_thread(read_kafka, settings.bootstrap)
            create_index(settings.path, log_)
        except (KafkaError, JournalGap, BrokerError) as error:
            if not is_checked:
                raise  # It never had a broker: said at once.
            pause = pauses.next(error)
            log.warning("the journal can't be followed (%r): trying again in %.1f s", error, pause)
            await _until(stop, pause)


def _build(settings: IndexSettings, stop: asyncio.Event, show: Show, *, check: bool) -> tuple[IndexedLog, Bounds]:
    """Fold what is there of the journal. Raises IndexUnusable, BuildStopped, FacetsError."""
    of_kafka, bounds = read_kafka(settings.bootstrap)
    if not settings.path.exists():
        create_index(settings.path, of_kafka)
    elif check:
        connection = connect(settings.path, writing=False)
        try:
            check_whole(connection, settings.path)
        finally:
            connection.close()
    with IndexWriter(settings.path) as writer:
        check_log(settings.path, writer.log(), of_kafka)
        positions = {p: position for p in bounds.ends if (position := writer.position(p)) is not None}
    check_position(settings.path, positions, settings.bootstrap, bounds)
    total = behind({p: position.next for p, position in positions.items()}, bounds)
    report = progress_of(total, show, stop.is_set)
    catch_up(settings.path, of_kafka, settings.bootstrap, bounds, settings.processes, report)
    return of_kafka, bounds


class _Follower:
    """Follows the journal's end, in this process."""

    def __init__(
        self,
        settings: IndexSettings,
        of_kafka: IndexedLog,
        bounds: Bounds,
        stop: asyncio.Event,
        ready: Callable[[str], None],
        pauses: Pauses,
    ) -> None:
        self._settings = settings
        self._log = of_kafka
        self._bounds = bounds
        self._stop = stop
        self._ready = ready
        self._pauses = pauses

    async def run(self) -> None:
        """Until it is to stop. Raises IndexUnusable, KafkaError, JournalGap, FacetsError."""
        tail = log_tail(self._settings.bootstrap, "facets-index")
        try:
            await tail.start()
            with IndexWriter(self._settings.path) as writer:
                await self._follow(tail, writer)
        except OffsetOutOfRangeError as error:
            raise IndexUnusable(f"the journal has expired where the index ends ({error})") from error
        finally:
            await tail.stop()

    async def _follow(self, tail: LogTail, writer: IndexWriter) -> None:
        begins = self._bounds.begins
        indexers = {p: load_indexer(writer, self._log, p, begins[p]) for p in begins}
        await tail.assign({TopicPartition(JOURNAL, p): indexer.resume for p, indexer in indexers.items()})
        self._ready(f"the index {self._settings.path} follows the journal")
        pace = Pace(_WRITES_A_SECOND, 1)
        loop = asyncio.get_running_loop()
        pruned = loop.time()
        while not self._stop.is_set():
            await pace.turn()
            for place, records in (await tail.read()).items():
                indexer = indexers[place.partition]
                for record in records:
                    indexer.take(record.offset, record.value, record.timestamp)
                if records:
                    writer.write(place.partition, indexer.batch())
                    self._pauses.reset()
                await asyncio.sleep(0)
            if loop.time() - pruned > _PRUNE_SECONDS:
                pruned = loop.time()
                await self._prune(writer, indexers)

    async def _prune(self, writer: IndexWriter, indexers: Mapping[int, PartitionIndexer]) -> None:
        """Drop what the journal has let go."""
        _, bounds = await asyncio.to_thread(read_kafka, self._settings.bootstrap)
        for partition, indexer in indexers.items():
            position = writer.prune(partition, self._log.partitions, bounds.begins[partition])
            if position is not None:
                indexer.forget_before(position.begin, position.begin_at)


async def _until(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
