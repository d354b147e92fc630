"""How partitions come back on assignment: from what is known of them (an image in memory or in a file) and the rest
of their changelogs; or from the whole changelogs, where nothing is known or the log is not the image's."""

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
    """The journal is not the one that the tables follow from: what they hold must neither be taken nor written over."""


class Recovered(NamedTuple):
    """A partition's image up to the end of its changelogs. `late` are the records (value, version) by which a replaced
    worker hides the newest row of a (table, key); `overwrites` is what is to be written over late seals and what can't
    be read; `records` counts what was read from Kafka."""

    image: Image
    late: dict[tuple[str, bytes], tuple[bytes | None, int]]
    overwrites: list[Write]
    records: int


async def recover(
    reader: ChangelogReader,
    tables: Sequence[str],
    partitions: Iterable[int],
    known: Mapping[int, Image],
    journal_ends: JournalEnds,
) -> dict[int, Recovered]:
    """Read partitions back. The images in `known` are changed.

    Most of a log is replaced by later records, so only the newest of each key are looked at. Where one of them can't
    be read, what it hides is needed: the partition is read again from its beginning, each record looked at.
    """
    wanted = sorted(partitions)
    tails = {partition: known[partition] for partition in wanted if partition in known}
    recovered = await _read(reader, tables, tails, journal_ends) if tails else {}
    rest = {partition: Image(tables) for partition in wanted if partition not in recovered}
    if rest:
        recovered |= await _read(reader, tables, rest, journal_ends)
    bad = {partition: Image(tables) for partition in wanted if partition not in recovered}
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
    """Partitions whose logs do not go on from their images, or hold what can't be read, are left out."""
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
    """Partitions that are read back together. `recovered` are those of which nothing was wrong so far."""

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
        """Where the logs are read from, by table and partition: at the last record that the image knows."""
        return {place: follow.due for place, follow in self._follow.items()}

    def check_bounds(self, fetched: Fetched) -> None:
        """Give the partition up if its log can't go on from its image."""
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
            del self.recovered[partition]  # It is read again, each record looked at.
            return
        image, late, overwrites, count = self.recovered[partition]
        known = follow is not None and records.offsets[0] == follow.anchor.offset
        image.extend(table, records, late, skip=1 if known else 0, sieve=sieve)
        self.recovered[partition] = Recovered(image, late, overwrites, count + len(records))

    async def _journal_end(self, partition: int, version: int) -> int:
        """Where the journal ends, as far as it has to be known for a record of this version: whatever a commit made was
        written after it."""
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
        """After the last record: the partitions whose records can all be read, with what is to be written over."""
        readable = {}
        for partition, recovered in self.recovered.items():
            await asyncio.sleep(0)
            if not recovered.image.prove():
                readable[partition] = recovered
                self._find_hidden(partition, recovered)
        return readable

    def _find_hidden(self, partition: int, recovered: Recovered) -> None:
        """Late seals, and what can't be read, hide what compaction would take: that is written again."""
        sieve = self._sieves.get(partition)
        seals = [place for place in recovered.late if place[1].startswith(SEAL_PREFIX)]
        for place in seals:
            del recovered.late[place]
        hiding = {*seals, *(sieve.hiding if sieve else ())}
        recovered.overwrites.extend(overwrite(recovered.image, *place) for place in sorted(hiding))


class _Follow:
    """That a log goes on, without a hole, from the record that an image ends with."""

    def __init__(self, anchor: Anchor) -> None:
        self.anchor = anchor
        self.due = anchor.offset

    def wrong_bounds(self, begin: int, end: int) -> str:
        """Why not, from where the log begins and ends; empty if it may."""
        if not begin <= self.anchor.offset < end:
            return f"the log has offsets {begin} to {end - 1}, not {self.anchor.offset}"
        return ""

    def wrong_records(self, records: Chunk) -> str:
        """Why not, from the next records (one at least); empty if they follow."""
        first, last = records.offsets[0], records.offsets[-1]
        if first != self.due or last - first != len(records) - 1:
            # Of what compaction removes, a tombstone can't be guessed.
            return f"records after offset {self.anchor.offset} are gone"
        if first == self.anchor.offset:
            found = Anchor(first, records.timestamps[0], checksum(records.keys[0], records.values[0]))
            if found != self.anchor:
                return f"another record is at offset {first}: the topic is not the one that it is of"
        self.due = last + 1
        return ""
