"""Records of the facet topics that can't be read: kept back, counted, named, and written over by their owner."""

from streams.facets.changelog_records import unreadable
from streams.fold.table import Write
from streams.kafka.skipped_records import report
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import topic_of
from streams.worker.checkpoint import Image


def ahead(version: int, journal_end: int) -> str:
    """Why a record of this version can't be one that the journal made; "" where it can."""
    return (
        f"its version {version} is ahead of the journal, which ends at {journal_end}" if version >= journal_end else ""
    )


class LogSieve:
    """Keeps back what can't be read of one partition's changelogs. `journal_end` is the offset of its next commit;
    `hiding` are the (table, key) of which the last record was kept back: what is before it, compaction will take.
    `seals_within` is how many more seals are of the journal than ahead of it: below 0, it is another one."""

    def __init__(self, partition: int, journal_end: int) -> None:
        self.journal_end = journal_end
        self.seals_within = 0
        self._partition = partition
        self.hiding: set[tuple[str, bytes]] = set()

    def passes(self, table: str, offset: int, key: bytes, value: bytes | None, version: int) -> bool:
        """Whether the record can be read."""
        why = unreadable(table, key, value, version)
        if not why:
            why = ahead(version, self.journal_end)
            if key.startswith(SEAL_PREFIX):
                self.seals_within += -1 if why else 1
        if not why:
            self.hiding.discard((table, key))
            return True
        report(topic_of(table), self._partition, offset, why)
        self.hiding.add((table, key))
        return False


def overwrite(image: Image, table: str, key: bytes) -> Write:
    """The newest record of a key, to be written again; where there is none, a tombstone."""
    held = image.seals[table].get(key) or image.rows[table].get(key)
    if held is None:
        return Write(table, key, None, max((version for version, _ in image.seals[table].values()), default=0))
    version, value = held
    return Write(table, key, value, version)
