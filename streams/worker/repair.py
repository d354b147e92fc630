"""Repairs a changelog into which someone else wrote: a worker that noticed late that it was replaced, or no worker."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import msgspec

from streams.facets.changelog_records import unreadable
from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.kafka.skipped_records import report
from streams.wire.keys import COMPANION_PREFIX, PART_PREFIX, is_row
from streams.wire.records import topic_of
from streams.worker.changelog import ChangelogReader, ChangelogWriter
from streams.worker.checkpoint import Image
from streams.worker.fatal import fatal, report_failure
from streams.worker.unreadable import ahead, overwrite

RowsOfTable = Callable[[str], dict[bytes, bytes]]
"""The rows of a table, as look-ups see them."""


class Gap(NamedTuple):
    """Offsets of a changelog, from `start` up to `end`, that another writer took. `before_first` says that this worker
    had written nothing there before: its predecessor's last records, written after this one read the log, are then
    among them."""

    table: str
    partition: int
    start: int
    end: int
    before_first: bool


class Repairs:
    """The repairs in progress. A partition with one must not be checkpointed: that would hide the damage from the next
    start."""

    def __init__(self, reader: ChangelogReader, writer: ChangelogWriter, rows: RowsOfTable) -> None:
        self._reader = reader
        self._writer = writer
        self._rows = rows
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts: Counter[int] = Counter()

    def under_way(self, partition: int) -> bool:
        """Whether the partition has a repair in progress."""
        return self._counts[partition] > 0

    def start(self, gap: Gap, fold: PartitionFold, image: Image) -> None:
        """Repair the gap, while the fold continues."""
        task = asyncio.ensure_future(self._repair(gap, fold, image))
        self._tasks.add(task)
        self._counts[gap.partition] += 1
        task.add_done_callback(report_failure)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._counts.subtract([gap.partition]))

    async def cancel(self) -> set[int]:
        """Cancel the repairs; returns the partitions that are left unrepaired."""
        unrepaired = {partition for partition, count in self._counts.items() if count}
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return unrepaired

    async def _repair(self, gap: Gap, fold: PartitionFold, image: Image) -> None:
        """If a late row hides a newer one, write the newer one again. Records that a predecessor wrote between this
        worker's reading and its first write are made again by the fold. Unreadable records are overwritten."""
        garbage: dict[bytes, None] = {}
        async for offset, key, value, version in self._records(gap):
            if why := await self._why_unreadable(gap, key, value, version, fold):
                report(topic_of(gap.table), gap.partition, offset, why)
                garbage[key] = None
            elif version < (fold.next_offset or 0):
                image.learn(gap.table, key, value, version)
                await self._uncover(gap, key, value, fold)
            elif not gap.before_first:
                fatal("%s[%d]: another worker is ahead of this one", topic_of(gap.table), gap.partition)
        # Only now: a worker that was replaced unnoticed must not overwrite anything.
        await self._write(gap, [self._newest(image, gap.table, key) for key in garbage])

    async def _records(self, gap: Gap) -> AsyncIterator[tuple[int, bytes, bytes | None, int]]:
        place = (gap.table, gap.partition)
        async for batch in self._reader.read((gap.table,), (gap.partition,), {place: gap.start}):
            for record in batch.records or ():
                if gap.start <= record[0] < gap.end:
                    yield record

    async def _why_unreadable(
        self, gap: Gap, key: bytes, value: bytes | None, version: int, fold: PartitionFold
    ) -> str:
        """Why no worker can have written the record; "" where one can."""
        why = unreadable(gap.table, key, value, version)
        if why or version < (fold.next_offset or 0):
            return why
        return ahead(version, (await self._reader.journal_ends([gap.partition]))[gap.partition])

    async def _uncover(self, gap: Gap, key: bytes, value: bytes | None, fold: PartitionFold) -> None:
        """Write the row, or part, again if the late record differs from it, and so hides it."""
        row = self._rows(gap.table).get(key)
        if row == value or not (is_row(key) or key.startswith(PART_PREFIX)):
            return
        version = stamp(row) if row is not None else (fold.next_offset or 0) - 1
        await self._write(gap, [Write(gap.table, key, row, version)])

    async def _write(self, gap: Gap, writes: list[Write]) -> None:
        await asyncio.gather(*self._writer.send(gap.partition, writes))

    def _newest(self, image: Image, table: str, key: bytes) -> Write:
        """The newest record of a key, to be written again. Records in flight count, which the image does not have
        yet: an older one after them would hide them."""
        value = self._rows(table).get(key)
        if value is None or key.startswith(COMPANION_PREFIX):
            return overwrite(image, table, key)
        return Write(table, key, value, stamp(value))


def stamp(value: bytes) -> int:
    """The version that a row or part names, or the offset that a seal seals."""
    decoded = msgspec.json.decode(value, type=_Stamp)
    return decoded.offset if decoded.version is None else decoded.version


class _Stamp(msgspec.Struct):
    version: int | None = None
    offset: int = 0
