"""Builds the index from the journal, with a process for each core, and goes on from where its file ends."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException, OffsetOutOfRangeError

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.history.parallel import Report, run_in_processes
from streams.history.replay import PROCESSES_PAY_FROM
from streams.index.database import IndexUnusable
from streams.index.partition_indexer import PartitionIndexer, Position
from streams.index.writer import IndexedLog, IndexWriter
from streams.kafka.admin import cluster_id, resume_window
from streams.kafka.bulk_reader import BulkReader
from streams.kafka.range_reader import RangeReader
from streams.runtime.processes import tune_gc
from streams.wire.records import JOURNAL

log = logging.getLogger("facets.index")

_BATCH_BYTES = 128 * 1024 * 1024
"""Of records in memory, after which a process writes a batch: the more, the fewer segments are written twice."""

_REPORT_EVERY = 2000


class PartitionBuild(NamedTuple):
    """A partition to be folded up to the journal's end; `begin` is where the journal begins."""

    path: Path
    log: IndexedLog
    partition: int
    begin: int
    end: int


class Bounds(NamedTuple):
    """Where each partition of the journal begins and ends."""

    begins: dict[int, int]
    ends: dict[int, int]


def read_kafka(bootstrap: str) -> tuple[IndexedLog, Bounds]:
    """What an index of this Kafka is of, and how far the journal goes. Raises FacetsError."""
    with RangeReader(bootstrap, "facets-index") as reader:
        count = reader.journal_partitions()
        bounds = Bounds(*reader.bounds(JOURNAL, range(count)))
    # As in a replay: deleted rows get their tombstones after the worker's window.
    return IndexedLog(cluster_id(bootstrap), count, resume_window(bootstrap)), bounds


def check_log(path: Path, own: IndexedLog, log: IndexedLog) -> None:
    """Raise IndexUnusable if an index is of something else."""
    if own.fold_version != log.fold_version:
        raise IndexUnusable(f"the index {path} is of fold version {own.fold_version}, not {log.fold_version}")
    if own != log:
        raise IndexUnusable(f"the index {path} is of other topics")


def check_position(path: Path, positions: Mapping[int, Position], bootstrap: str, bounds: Bounds) -> None:
    """Raise IndexUnusable unless the index can go on with this journal: the last record that it has of each partition,
    where that is still there, is the same, and none has expired since."""
    with RangeReader(bootstrap, "facets-index") as reader:
        for partition, position in positions.items():
            begin, end, last = bounds.begins[partition], bounds.ends[partition], position.next - 1
            if position.next < begin:
                raise IndexUnusable(f"the journal has expired where the index {path} ends (partition {partition})")
            if position.next > end:
                raise IndexUnusable(f"the index {path} is of another journal: it is ahead of this one")
            if position.checksum is None:
                continue
            for record in reader.records(JOURNAL, partition, max(last, begin), position.next):
                if crc32(record.value or b"") != position.checksum:
                    raise IndexUnusable(f"the index {path} is of another journal (partition {partition}, {last})")


def catch_up(
    path: Path,
    log: IndexedLog,
    bootstrap: str,
    bounds: Bounds,
    processes: int,
    report: Report,
    pay_from: int = PROCESSES_PAY_FROM,
) -> int:
    """Fold the journal up to the bounds; how many records that were. `report` gets the number of records done, and
    ends it by raising. Raises IndexUnusable, FacetsError."""
    with IndexWriter(path) as writer:
        positions = {partition: writer.position(partition) for partition in bounds.ends}
    builds = [
        PartitionBuild(path, log, partition, bounds.begins[partition], end)
        for partition, end in bounds.ends.items()
        if (position := positions[partition]) is None or position.next < end
    ]
    total = behind({p: position.next for p, position in positions.items() if position is not None}, bounds)
    if min(processes, len(builds)) > 1 and total >= pay_from:
        run_in_processes(bootstrap, builds, build_partition, min(processes, len(builds)), report)
    else:
        done = 0
        for build in builds:
            done += build_partition(bootstrap, build, _after(done, report))
    return total


def _after(before: int, report: Report) -> Report:
    return lambda done: report(before + done)


def build_partition(bootstrap: str, build: PartitionBuild, report: Report) -> int:
    """Fold a partition up to the build's end and write what follows; how many records it was. `report` gets that
    number, now and then. Raises IndexUnusable, FacetsError."""
    tune_gc()
    with IndexWriter(build.path) as writer:
        indexer = load_indexer(writer, build.log, build.partition, build.begin)
        return asyncio.run(_read(bootstrap, build, writer, indexer, report))


def load_indexer(writer: IndexWriter, log: IndexedLog, partition: int, begin: int) -> PartitionIndexer:
    """The indexer of a partition that goes on where the file ends. Raises IndexUnusable if the journal, which begins
    at this offset, has not all that it needs."""
    loaded = writer.load(partition, log.partitions)
    indexer = PartitionIndexer(partition, log.partitions, log.window_seconds, begin, loaded)
    if indexer.resume < begin:
        raise IndexUnusable(f"the journal has expired where the index {writer.path} goes on (partition {partition})")
    return indexer


async def _read(
    bootstrap: str, build: PartitionBuild, writer: IndexWriter, indexer: PartitionIndexer, report: Report
) -> int:
    place = TopicPartition(JOURNAL, build.partition)
    done = 0
    try:
        async with (
            BulkReader(bootstrap) as reader,
            aclosing(reader.read({place: indexer.resume}, {place: build.end})) as chunks,
        ):
            async for chunk in chunks:
                for offset, value, appended in zip(chunk.offsets, chunk.values, chunk.timestamps, strict=True):
                    if offset >= build.end:
                        break
                    indexer.take(offset, value, appended)
                    done += 1
                    if done % _REPORT_EVERY == 0:
                        report(done)
                    if indexer.pending_bytes > _BATCH_BYTES:
                        writer.write(build.partition, indexer.batch())
    except OffsetOutOfRangeError as error:
        raise IndexUnusable(f"the journal has expired meanwhile (partition {build.partition})") from error
    except CorruptRecordException as error:
        raise FacetsError(
            f"{JOURNAL}[{build.partition}] can't be read: {error}", "check the broker: facets doctor", ExitCode.BAD_DATA
        ) from error
    writer.write(build.partition, indexer.batch())
    report(done)
    return done


def progress_of(total: int, show: Callable[[str, float | None], None], stopping: Callable[[], bool]) -> Report:
    """A report that shows how far a build is, and ends it when it is to stop."""

    def report(done: int) -> None:
        if stopping():
            raise BuildStopped
        show(f"indexing {JOURNAL}", done / total if total else 1.0)

    return report


class BuildStopped(Exception):
    """The process is to stop: what was written is whole."""


def behind(positions: Mapping[int, int], bounds: Bounds) -> int:
    """How many records of the journal are not in the index."""
    return sum(max(0, end - positions.get(p, bounds.begins[p])) for p, end in bounds.ends.items())
