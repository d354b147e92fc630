"""Folds a partition of the journal from its sealed tables on, with the worker's own core, and compares the results with
what the workers write.

The tables are loaded from their changelogs, as a worker that takes over the partition does. From there on the same
journal gives the same records. Where a worker would have to write something else than the fold of the next commit (its
journal has expired, or another fold version wrote the tables), nothing is folded here: what comes then depends on
where the worker begins.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum

import msgspec

from streams.facets.changelog_records import unreadable
from streams.facets.tables import WORKER_TABLES
from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.subscription.comparison import Comparison
from streams.wire.keys import PROGRESS_PREFIX, SEAL_PREFIX
from streams.wire.records import FOLD_VERSION, TABLES, Seal
from streams.wire.topics import DEFAULT_WINDOW_SECONDS

_decode_seal = msgspec.json.Decoder(Seal).decode


class Obstacle(StrEnum):
    """Why a partition of the journal can't be folded here."""

    FOLD_VERSION = "another fold version writes the tables"
    EXPIRED = "the journal has expired where the tables end"
    ANOTHER_JOURNAL = "the tables do not follow from this journal"
    UNREADABLE = "the tables hold records that can't be read"
    GAP = "a part of the journal was missed"
    UNREACHABLE = "the journal can't be read"
    DIFFERENT = "the tables had other records than were folded"


class TableImage:
    """The newest record of each key of a partition's changelogs, by table, as loaded in log order."""

    def __init__(self, tables: Iterable[str] = TABLES) -> None:
        self.records: dict[str, dict[bytes, tuple[int, bytes | None]]] = {table: {} for table in tables}

    def gather(
        self, table: str, records: Iterable[tuple[int, bytes, bytes | None, int]], *, end: int, strict: bool
    ) -> None:
        """Take records (position, key, value, version) of the journal before its `end`; `strict` checks each."""
        newest = self.records[table]
        for _, key, value, version in records:
            if not 0 <= version < end or (strict and unreadable(table, key, value, version)):
                continue
            if value is None and key.startswith(SEAL_PREFIX) and not key.startswith(PROGRESS_PREFIX):
                continue  # Written over garbage.
            current = newest.get(key)
            if current is None or current[0] <= version:
                newest[key] = (version, value)

    def unreadable(self, end: int) -> bool:
        """Whether there is a record that can't be read, or a row beyond the journal's end: what it hides is unknown."""
        return any(
            unreadable(table, key, value, version) or (version >= end and not key.startswith(SEAL_PREFIX))
            for table, newest in self.records.items()
            for key, (version, value) in newest.items()
        )


class JournalFold:
    """One partition, and of its tables those that are read. `window_seconds` is the workers' resume window."""

    def __init__(
        self, partition: int, window_seconds: int = DEFAULT_WINDOW_SECONDS, tables: Collection[str] = TABLES
    ) -> None:
        self.partition = partition
        self.sealed = dict.fromkeys(tables, -1)
        """The offset that each table had sealed when it was loaded."""
        self.comparison = Comparison(tables)
        self._tables = frozenset(tables)
        self._unsealed: list[Write] = []
        rules = [table for table in WORKER_TABLES if table.name in self._tables]
        self._fold = PartitionFold(partition, rules, window_seconds)

    @property
    def next_offset(self) -> int:
        """The journal offset that `step` needs next."""
        return self._fold.next_offset or 0

    def load(self, image: TableImage, journal_begin: int, journal_end: int) -> Obstacle | None:
        """Take the tables. The journal holds the offsets from its begin to before its end. Returns why they can't be
        folded on, if they can't."""
        if image.unreadable(journal_end):
            return Obstacle.UNREADABLE
        if not all(is_ours(_seals(newest)) for newest in image.records.values()):
            return Obstacle.FOLD_VERSION
        for table, newest in image.records.items():
            for key, (version, value) in newest.items():
                self._fold.load(table, key, value, version)
        sealed = self.sealed = {table.name: table.sealed for table in self._fold.tables}
        if max(sealed.values()) >= journal_end:
            return Obstacle.ANOTHER_JOURNAL
        resume, _ = self._fold.recover()
        if resume < journal_begin:
            return Obstacle.EXPIRED
        for table, newest in image.records.items():
            self.comparison.begin(table, sealed[table])
            for key, (version, value) in newest.items():
                if version > sealed[table]:
                    self.comparison.loaded(table, key, value, version)
                    self._unsealed.append(Write(table, key, value, version))
        return None

    def has(self, table: str, key: bytes, value: bytes | None, version: int) -> bool:
        """Whether `step` has returned the same record, and it waits to be compared."""
        return not self._unsealed and self.comparison.has(table, key, value, version)

    def step(self, offset: int, value: bytes | None, appended: int) -> list[Write]:
        """The tables' records that a commit makes (see `PartitionFold.step`); before the first ones, those that were
        loaded without a seal: they are not made again. Raises JournalGap and TablesDiffer."""
        writes = [write for write in self._fold.step(offset, value, appended) if write.table in self._tables]
        self.comparison.folded(offset, writes)
        unsealed, self._unsealed = self._unsealed, []
        return unsealed + writes


def is_ours(seals: Iterable[Seal]) -> bool:
    """Whether this fold version writes a table, by the newest of its seals. (A record of no cluster has no version.)"""
    newest = max((seal for seal in seals if seal.cluster), key=lambda seal: seal.offset, default=None)
    return newest is None or newest.fold == FOLD_VERSION


def _seals(records: Mapping[bytes, tuple[int, bytes | None]]) -> Iterator[Seal]:
    return (
        _decode_seal(value) for key, (_, value) in records.items() if value is not None and key.startswith(SEAL_PREFIX)
    )
