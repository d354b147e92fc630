"""Which partitions of the journal are folded beside the changelogs, and which can't be at the moment.

A partition is loaded from its tables (`gather`, `start`), and then folds the journal (`step`) and compares what the
workers write (`compare`). One that can't be folded is followed by the changelogs alone, and loaded again once that may
help (`due`). One whose records have differed is not: the fault would come again, and with it a snapshot each time.
Times are seconds of any clock that only goes forward.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from streams.fold.fold import JournalGap
from streams.fold.table import Write
from streams.subscription.comparison import Cause, TablesDiffer
from streams.subscription.journal_fold import JournalFold, Obstacle, TableImage, is_ours
from streams.wire.records import JOURNAL, TABLES, Seal
from streams.wire.topics import DEFAULT_WINDOW_SECONDS

log = logging.getLogger("facets.subscriber")

_RETRY_SECONDS = 5.0
"""When a partition that can't be folded is loaded again."""

_SELDOM_SECONDS = 60.0
"""The same where only a worker, or someone, can set the tables right."""

_SELDOM = {Obstacle.UNREADABLE, Obstacle.ANOTHER_JOURNAL, Obstacle.UNREACHABLE}

_OBSTACLES = {
    Cause.FAULT: Obstacle.DIFFERENT,
    Cause.FOLD_VERSION: Obstacle.FOLD_VERSION,
    Cause.EXPIRED: Obstacle.EXPIRED,
}


class JournalFollower:
    """`faults` counts records of the workers that differ from those folded here, of the same fold version; `tables` are
    those that are read."""

    def __init__(self, window_seconds: int = DEFAULT_WINDOW_SECONDS, tables: Collection[str] = TABLES) -> None:
        self.faults = 0
        self._tables = tuple(tables)
        self._window_seconds = window_seconds
        self._images: dict[int, TableImage] = {}
        self._folds: dict[int, JournalFold] = {}
        self._obstacles: dict[int, Obstacle] = {}
        self._retry_at: dict[int, float] = {}
        self._ends: dict[int, int] = {}
        self._joined: set[int] = set()

    # ---- the start -----------------------------------------------------------------------------------

    def forget(self, partitions: Iterable[int]) -> None:
        """The tables of these partitions are read anew: `gather` takes their records, then `start`."""
        self._images = {partition: TableImage(self._tables) for partition in partitions}
        for partition in self._images:
            self._drop(partition)

    def gather(
        self,
        table: str,
        partition: int,
        records: Iterable[tuple[int, bytes, bytes | None, int]],
        *,
        end: int = 2**63,
        strict: bool = False,
    ) -> None:
        """Take records of a table's changelog; see `TableImage.gather`."""
        self._images[partition].gather(table, records, end=end, strict=strict)

    def start(self, bounds: Mapping[int, tuple[int, int]], now: float) -> Iterator[int]:
        """Load the partitions whose tables were gathered; yields each when it is done. `bounds` are the offsets of each
        journal partition's first and next record, looked up after the tables were read."""
        images, self._images = self._images, {}
        for partition, image in images.items():
            if self._obstacles.get(partition) is Obstacle.DIFFERENT:
                continue
            begin, end = bounds[partition]
            fold = JournalFold(partition, self._window_seconds, self._tables)
            obstacle = fold.load(image, begin, end)
            if obstacle is not None:
                self._block(partition, obstacle, now)
            else:
                if self._obstacles.pop(partition, None):
                    log.info("%s[%d] is folded from offset %d on", JOURNAL, partition, fold.next_offset)
                self._folds[partition], self._ends[partition] = fold, end
            yield partition

    def give_up(self, now: float) -> None:
        """The journal's bounds are not known: the partitions whose tables were gathered can't be folded."""
        images, self._images = self._images, {}
        for partition in images:
            if self._obstacles.get(partition) is not Obstacle.DIFFERENT:
                self._block(partition, Obstacle.UNREACHABLE, now)

    def join(self, has_read: Callable[[int, Mapping[str, int]], bool]) -> bool:
        """Fold the loaded partitions whose changelogs have been read as far as they were loaded; what they sealed
        before would be left out. Whether there are any that were not folded before."""
        joining = {
            partition
            for partition, fold in self._folds.items()
            if partition not in self._joined and has_read(partition, fold.sealed)
        }
        self._joined |= joining
        return bool(joining)

    def positions(self) -> dict[int, int]:
        """The journal offset that each folded partition needs next."""
        return {partition: self._folds[partition].next_offset for partition in sorted(self._joined)}

    def is_behind(self) -> bool:
        """Whether a partition has not yet come to where the journal ended at the start."""
        return any(self._folds[partition].next_offset < self._ends[partition] for partition in self._joined)

    # ---- following -----------------------------------------------------------------------------------

    def step(self, partition: int, offset: int, value: bytes | None, appended: int, now: float) -> list[Write]:
        """The tables' records that a commit makes; none if the partition isn't folded. Raises TablesDiffer."""
        fold = self._folds.get(partition)
        if fold is None or offset < fold.next_offset:
            return []
        try:
            return fold.step(offset, value, appended)
        except JournalGap as gap:
            log.warning("%s", gap)
        except TablesDiffer as difference:
            self._note(partition, difference, now)
            raise
        except Exception:
            # Workers stop at it, too. Routers have what there was before it.
            log.exception("%s[%d]: offset %d can't be folded", JOURNAL, partition, offset)
        self._block(partition, Obstacle.GAP, now)
        return []

    def has(self, table: str, partition: int, key: bytes, value: bytes | None, version: int) -> bool:
        """Whether `step` has returned the same record, and it waits to be compared."""
        fold = self._folds.get(partition)
        return fold is not None and fold.has(table, key, value, version)

    def compare(self, table: str, partition: int, key: bytes, value: bytes | None, version: int, now: float) -> None:
        """Take a readable record of a changelog. Raises TablesDiffer."""
        fold = self._folds.get(partition)
        if fold is None:
            return
        try:
            fold.comparison.read(table, key, value, version)
        except TablesDiffer as difference:
            self._note(partition, difference, now)
            raise

    def skip(self, table: str, partition: int) -> None:
        """The next records of a table's changelog are gone."""
        if partition in self._folds:
            self._folds[partition].comparison.skip(table)

    def lose(self, partitions: Iterable[int], now: float) -> None:
        """The journal has not the offsets that these partitions need next."""
        for partition in partitions:
            self._block(partition, Obstacle.EXPIRED, now)

    def counts(self) -> dict[int, tuple[int, int]]:
        """By folded partition: how many records were compared and equal, and how many waited too long for that."""
        return {p: (fold.comparison.compared, fold.comparison.dropped) for p, fold in self._folds.items()}

    def due(self, seals: Mapping[tuple[int, str], Seal], now: float) -> Collection[int]:
        """The partitions that should be loaded again. `seals` are the newest by partition and cluster."""
        return [
            partition
            for partition, obstacle in self._obstacles.items()
            if obstacle is not Obstacle.DIFFERENT
            and now >= self._retry_at[partition]
            and is_ours(seal for (p, _), seal in seals.items() if p == partition)
        ]

    def _drop(self, partition: int) -> None:
        self._folds.pop(partition, None)
        self._joined.discard(partition)

    def _block(self, partition: int, obstacle: Obstacle, now: float) -> None:
        self._drop(partition)
        self._retry_at[partition] = now + (_SELDOM_SECONDS if obstacle in _SELDOM else _RETRY_SECONDS)
        if self._obstacles.get(partition) is not obstacle:
            log.warning("%s[%d] is not folded, the changelogs are followed: %s", JOURNAL, partition, obstacle)
        self._obstacles[partition] = obstacle

    def _note(self, partition: int, difference: TablesDiffer, now: float) -> None:
        if difference.cause is Cause.FAULT:
            self.faults += 1
            log.error("%s[%d]: the tables count: %s", JOURNAL, partition, difference)
        self._block(partition, _OBSTACLES[difference.cause], now)
