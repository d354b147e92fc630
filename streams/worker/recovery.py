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
from streams.worker.changelog import ChangelogReader
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
    recovered = {partition: Recovered(image, {}, [], 0) for partition, image in images.items()}
    follow = {
        (table, partition): _Follow(anchor)
        for partition, image in images.items()
        for table in tables
        if (anchor := image.anchor(table)) is not None
    }
    starts = {at: each.due for at, each in follow.items()}
    ends: dict[int, int] = {}
    async for table, partition, begin, end, records in reader.read(tables, images, starts):
        if partition not in recovered:
            continue
        image, late, _, count = recovered[partition]
        going = follow.get((table, partition))
        if records is None:
            wrong = going.wrong_bounds(begin, end) if going else ""
        elif not records:
            continue
        else:
            wrong = going.wrong_records(records) if going else ""
            sieve = sieves.get(partition)
            if not wrong and max(records.versions) >= ends.get(partition, 0):
                # Whatever a commit made was written after it.
                ends |= await journal_ends(images)
                if sieve is not None:
                    sieve.journal_end = ends[partition]
            if not wrong and sieve is None and (min(records.versions) < 0 or max(records.versions) >= ends[partition]):
                del recovered[partition]
                continue
            if not wrong:
                known = going is not None and records.offsets[0] == going.anchor.offset
                image.extend(table, records, late, skip=1 if known else 0, sieve=sieve)
                recovered[partition] = Recovered(image, late, [], count + len(records))
        if wrong:
            log.warning(
                "the checkpoint of partition %d is ignored, everything is read: %s[%d]: %s",
                partition, topic_of(table), partition, wrong,
            )  # fmt: skip
            del recovered[partition]
    found = {}
    for partition, each in recovered.items():
        await asyncio.sleep(0)
        if not each.image.prove():
            found[partition] = each
            sieve = sieves.get(partition)
            seals = [at for at in each.late if at[1].startswith(SEAL_PREFIX)]
            for at in seals:
                del each.late[at]
            hiding = {*seals, *(sieve.hiding if sieve else ())}
            each.overwrites.extend(overwrite(each.image, *at) for at in sorted(hiding))
    return found


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
