"""Whether a journal still has the records that its logs have, and whether a log is the one that was signed."""

from collections.abc import Iterable
from typing import NamedTuple

from streams.audit.comparison import Difference, first_difference
from streams.audit.entries import Entry
from streams.audit.journal_log import JournalLog
from streams.audit.log_folder import LogDamaged
from streams.audit.merkle import TILE_WIDTH, leaf_hash, perfect_root
from streams.audit.notes import Checkpoint
from streams.kafka.range_reader import RangeReader
from streams.wire.records import JOURNAL

_RESTORE = "restore the log's folder from a copy"


class Checked(NamedTuple):
    """A partition held against its log of `size` records from offset `first` on: `begin` is the first that was still
    there to be checked, `later` how many records came after the checkpoint."""

    size: int
    first: int
    begin: int
    later: int
    difference: Difference | None

    @property
    def expired(self) -> int:
        """How many of the log's records have expired: they can't be checked any more."""
        return max(0, min(self.begin, self.first + self.size) - self.first)


def check_journal(log: JournalLog, checkpoint: Checkpoint, reader: RangeReader, topic: str = JOURNAL) -> Checked:
    """Hold a partition of a topic, the journal or a copy of it, against the log. Raises LogDamaged where that is not
    the one that was signed, BrokerError."""
    check_log(log, checkpoint)
    size, first = checkpoint.size, log.first_offset(checkpoint.size)
    begins, ends = reader.bounds(topic, [log.partition])
    begin, end = begins[log.partition], ends[log.partition]
    start, stop = max(first, begin), first + size

    def taken() -> Iterable[Entry]:
        return log.entries(size, start - first) if start < stop else ()

    def present() -> Iterable[Entry]:
        return log.journal(reader, start, min(stop, end), topic, whole=False)

    return Checked(size, first, begin, max(0, end - stop), first_difference(taken, present))


def check_log(log: JournalLog, checkpoint: Checkpoint) -> None:
    """Raise LogDamaged unless entries and tiles have the signed root, and the entries are of records in a row."""
    size = checkpoint.size
    read = log.folder.hash_reader(size)
    due: int | None = None
    for index, entry in enumerate(log.entries(size)):
        if leaf_hash(entry.encode()) != read(0, index, 1)[0]:
            raise LogDamaged(
                f"the log in {log.folder.path} was altered: its entry of offset {entry.offset} does not fit its tile, "
                f"{index // TILE_WIDTH}",
                _RESTORE,
            )
        if due is not None and entry.offset != due:
            raise LogDamaged(
                f"the log in {log.folder.path} was altered: offset {entry.offset} is where {due} was", _RESTORE
            )
        due = entry.offset + 1
    _check_levels(log, size)
    if log.folder.root(size) != checkpoint.root:
        raise LogDamaged(
            f"the log in {log.folder.path} was altered: its entries and tiles do not have the root that was signed",
            _RESTORE,
        )


def _check_levels(log: JournalLog, size: int) -> None:
    """Each hash above the leaves is that of the full tile below it."""
    read, first = log.folder.hash_reader(size), log.first_offset(size)
    level = 0
    while tiles := size >> 8 * (level + 1):
        for index in range(tiles):
            if perfect_root(read(level, index * TILE_WIDTH, TILE_WIDTH)) != read(level + 1, index, 1)[0]:
                begin, end = (first + (each << 8 * (level + 1)) for each in (index, index + 1))
                raise LogDamaged(
                    f"the log in {log.folder.path} was altered: what it has of offsets {begin} to {end - 1} is not "
                    f"what is in its tiles of level {level + 1}",
                    _RESTORE,
                )
        level += 1


def check_kept(log: JournalLog, current: Checkpoint, kept: Checkpoint) -> None:
    """Raise LogDamaged unless the log has grown out of what a checkpoint signed that was kept elsewhere."""
    if kept.size > current.size:
        raise LogDamaged(
            f"the log in {log.folder.path} has {current.size} records; the checkpoint that was kept has {kept.size}",
            _RESTORE,
        )
    if log.folder.root(kept.size, current.size) != kept.root:
        raise LogDamaged(
            f"the log in {log.folder.path} was made anew: its first {kept.size} records are not those that were signed "
            "in the checkpoint that was kept",
            _RESTORE,
        )
