"""Unreadable records of the facet topics: filtered out, counted, logged, and overwritten by the partition's owner."""

from streams.facets.changelog_records import unreadable
from streams.fold.table import Write
from streams.kafka.skipped_records import report
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import topic_of
from streams.worker.checkpoint import Image


def ahead(version: int, journal_end: int) -> str:
    """Why a record of this version can't follow from the journal; "" if it can."""
    return (
        f"its version {version} is ahead of the journal, which ends at {journal_end}" if version >= journal_end else ""
    )


class LogSieve:
    """Filters out unreadable records of one partition's changelogs. `journal_end` is the offset of its next commit;
    `hiding` are the (table, key) whose last record was filtered out: compaction will remove the ones before it.
    `seals_within` is the number of seals within the journal minus those ahead of it: below 0, it is another journal."""

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
    newest = image.seals[table].get(key) or image.rows[table].get(key)
    if newest is None:
        return Write(table, key, None, max((version for version, _ in image.seals[table].values()), default=0))
    version, value = newest
    return Write(table, key, value, version)
