"""Recovers partitions on assignment: from an image (in memory or in a file) and the rest of their changelogs, or from
the whole changelogs, if there is no image or the log is not the image's."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.fold.table import Write
from streams.kafka.bulk_reader import Chunk
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import JOURNAL, topic_of
from streams.worker.changelog import ChangelogReader, Fetched
from streams.worker.checkpoint import Anchor, Image, checksum
from streams.worker.unreadable import LogSieve, overwrite

log = logging.getLogger("facets.work")


JournalEnds = Callable[[Iterable[int]], Awaitable[Mapping[int, int]]]
"""The offset of the next commit in these partitions of the journal."""


class AnotherJournal(FacetsError):
    """The journal is not the one that the tables follow from: they must neither be used nor overwritten."""


class Recovered(NamedTuple):
    """A partition's image up to the end of its changelogs. `late` are the records (value, version) with which a
    replaced worker hides the newest row of a (table, key); `overwrites` are written over late seals and unreadable
    records; `records` is the number of records read from Kafka."""

    image: Image
    late: dict[tuple[str, bytes], tuple[bytes | None, int]]
    overwrites: list[Write]
    records: int


async def recover(
    reader: ChangelogReader,
    tables: Sequence[str],
    partitions: Iterable[int],
    images: Mapping[int, Image],
    journal_ends: JournalEnds,
) -> dict[int, Recovered]:
    """Read partitions back, updating the given `images` in place.

    Most of a log is replaced by later records, so only the newest of each key is checked. If one of those is
    unreadable, the record that it hides is needed: the partition is read again from its beginning, checking each
    record.
    """
    ordered = sorted(partitions)
    tails = {partition: images[partition] for partition in ordered if partition in images}
    recovered = await _read(reader, tables, tails, journal_ends) if tails else {}
    unread = {partition: Image(tables) for partition in ordered if partition not in recovered}
    if unread:
        recovered |= await _read(reader, tables, unread, journal_ends)
    bad = {partition: Image(tables) for partition in ordered if partition not in recovered}
    if bad:
        log.warning("partitions %s hold records that can't be read: every record is looked at", sorted(bad))
        ends = await journal_ends(bad)
        sieves = {partition: LogSieve(partition, ends[partition]) for partition in bad}
        recovered |= await _read(reader, tables, bad, journal_ends, sieves)
        strangers = {partition: sieve for partition, sieve in sieves.items() if sieve.seals_within < 0}
        for partition, sieve in strangers.items():
            raise AnotherJournal(
                f"the tables are ahead of {JOURNAL}[{partition}], which ends at {sieve.journal_end}: it was made anew, "
                "or has lost its end",
                "bring the journal back; or delete the facet topics, which follow from the journal that there is",
                ExitCode.MISCONFIGURED,
            )
    return recovered


async def _read(
    reader: ChangelogReader,
    tables: Sequence[str],
    images: Mapping[int, Image],
    journal_ends: JournalEnds,
    sieves: Mapping[int, LogSieve] = MappingProxyType({}),
) -> dict[int, Recovered]:
    """Read partitions, leaving out those whose logs don't continue their images or have unreadable records."""
    reading = _Reading(tables, images, journal_ends, sieves)
    async for fetched in reader.read(tables, images, reading.starts()):
        if fetched.partition not in reading.recovered:
            continue
        if fetched.records is None:
            reading.check_bounds(fetched)
        elif fetched.records:
            await reading.take(fetched, fetched.records)
    return await reading.finish()


class _Reading:
    """Partitions that are read back together. `recovered` are those without errors so far."""

    def __init__(
        self,
        tables: Sequence[str],
        images: Mapping[int, Image],
        journal_ends: JournalEnds,
        sieves: Mapping[int, LogSieve],
    ) -> None:
        self.recovered = {partition: Recovered(image, {}, [], 0) for partition, image in images.items()}
        self._partitions = tuple(images)
        self._journal_ends = journal_ends
        self._sieves = sieves
        self._ends: dict[int, int] = {}
        self._follow = {
            (table, partition): _Follow(anchor)
            for partition, image in images.items()
            for table in tables
            if (anchor := image.anchor(table)) is not None
        }

    def starts(self) -> dict[tuple[str, int], int]:
        """The offsets to read from, by table and partition: that of the image's last record."""
        return {place: follow.due for place, follow in self._follow.items()}

    def check_bounds(self, fetched: Fetched) -> None:
        """Give the partition up if its log can't continue its image."""
        follow = self._follow.get((fetched.table, fetched.partition))
        if follow is not None:
            self._give_up(fetched, follow.wrong_bounds(fetched.begin, fetched.end))

    async def take(self, fetched: Fetched, records: Chunk) -> None:
        """Take the next records of a log (one at least), or give the partition up."""
        table, partition = fetched.table, fetched.partition
        follow, sieve = self._follow.get((table, partition)), self._sieves.get(partition)
        if follow is not None and (wrong := follow.wrong_records(records)):
            self._give_up(fetched, wrong)
            return
        end = await self._journal_end(partition, max(records.versions))
        if sieve is not None:
            sieve.journal_end = end
        elif min(records.versions) < 0 or max(records.versions) >= end:
            del self.recovered[partition]  # It is read again, checking each record.
            return
        image, late, overwrites, count = self.recovered[partition]
        is_anchor = follow is not None and records.offsets[0] == follow.anchor.offset
        image.extend(table, records, late, skip=1 if is_anchor else 0, sieve=sieve)
        self.recovered[partition] = Recovered(image, late, overwrites, count + len(records))

    async def _journal_end(self, partition: int, version: int) -> int:
        """The journal's end, refreshed if this version is not below it: a commit's records are written after the
        commit."""
        if version >= self._ends.get(partition, version):
            self._ends |= await self._journal_ends(self._partitions)
        return self._ends[partition]

    def _give_up(self, fetched: Fetched, wrong: str) -> None:
        if not wrong:
            return
        log.warning(
            "the checkpoint of partition %d is ignored, everything is read: %s[%d]: %s",
            fetched.partition, topic_of(fetched.table), fetched.partition, wrong,
        )  # fmt: skip
        del self.recovered[fetched.partition]

    async def finish(self) -> dict[int, Recovered]:
        """After the last record: the partitions whose records are all readable, with their overwrites."""
        readable = {}
        for partition, recovered in self.recovered.items():
            await asyncio.sleep(0)
            if not recovered.image.prove():
                readable[partition] = recovered
                self._find_hidden(partition, recovered)
        return readable

    def _find_hidden(self, partition: int, recovered: Recovered) -> None:
        """Late seals and unreadable records hide records that compaction would remove: those are written again."""
        sieve = self._sieves.get(partition)
        seals = [place for place in recovered.late if place[1].startswith(SEAL_PREFIX)]
        for place in seals:
            del recovered.late[place]
        hiding = {*seals, *(sieve.hiding if sieve else ())}
        recovered.overwrites.extend(overwrite(recovered.image, *place) for place in sorted(hiding))


class _Follow:
    """Checks that a log continues, without a hole, from an image's last record."""

    def __init__(self, anchor: Anchor) -> None:
        self.anchor = anchor
        self.due = anchor.offset

    def wrong_bounds(self, begin: int, end: int) -> str:
        """Why the log's bounds don't fit; "" if they do."""
        if not begin <= self.anchor.offset < end:
            return f"the log has offsets {begin} to {end - 1}, not {self.anchor.offset}"
        return ""

    def wrong_records(self, records: Chunk) -> str:
        """Why the next records (one at least) don't follow; "" if they do."""
        first, last = records.offsets[0], records.offsets[-1]
        if first != self.due or last - first != len(records) - 1:
            # Compaction may have removed tombstones.
            return f"records after offset {self.anchor.offset} are gone"
        if first == self.anchor.offset:
            record = Anchor(first, records.timestamps[0], checksum(records.keys[0], records.values[0]))
            if record != self.anchor:
                return f"another record is at offset {first}: the topic is not the one that it is of"
        self.due = last + 1
        return ""
