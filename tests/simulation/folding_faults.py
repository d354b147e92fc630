"""Faults of a reader that folds the journal beside the changelogs."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from streams.fold import fold as folding
from streams.fold.table import Write
from streams.subscription.comparison import Comparison
from streams.subscription.delivery import Batch, Subscription
from streams.subscription.journal_fold import JournalFold, Obstacle, TableImage
from streams.subscription.rows import Row
from streams.wire.records import Commit, Seal
from tests.simulation.planting import fault


@fault(3, "who folds the journal begins one commit too late")
def _folded_from_one_commit_too_late() -> AbstractContextManager[Any]:
    real = JournalFold.load

    def load(self: JournalFold, image: TableImage, begin: int, end: int) -> Obstacle | None:
        obstacle = real(self, image, begin, end)
        self._fold.next_offset = self.next_offset + 1
        return obstacle

    return patch.object(JournalFold, "load", load)


@fault(3, "who has folded more than the tables had when they were lost goes on from there", since=8240)
def _loss_of_the_tables_not_noticed() -> AbstractContextManager[Any]:
    return patch.object(Subscription, "is_known_lost", lambda *_: True)


@fault(5, "who folds the journal keeps to an epoch that is over", since=14)
def _old_epoch_folded_on() -> AbstractContextManager[Any]:
    real, is_accepted = JournalFold.step, folding.is_accepted

    def accepts(seal: Seal, commit: Commit) -> bool:
        return is_accepted(seal, commit) and (commit.epoch == seal.epoch or not seal.epoch)

    def step(self: JournalFold, offset: int, value: bytes | None, appended: int) -> list[Write]:
        with patch.object(folding, "is_accepted", accepts):
            return real(self, offset, value, appended)

    return patch.object(JournalFold, "step", step)


@fault(5, "what was folded from the journal is delivered again when a worker has written it", since=8)
def _delivered_again_from_the_changelogs() -> AbstractContextManager[Any]:
    real = Subscription.feed
    folded = Subscription.take_folded
    ahead: set[int] = set()

    def take_folded(self: Subscription, partition: int, writes: list[Write]) -> Any:
        ahead.add(id(self))
        return folded(self, partition, writes)

    def feed(
        self: Subscription, table: str, partition: int, position: int, key: bytes, value: bytes | None, version: int
    ) -> Iterator[Batch]:
        part = self._parts[partition]
        if id(self) in ahead and not self.bootstrapping and not key.startswith(b"~") and value is not None:
            row = Row.parsed(table, key, version, value, None)
            part.pending[table].append((key, part.applied, row))
        yield from real(self, table, partition, position, key, value, version)

    def follows(self: Subscription, key: str, row: Row) -> bool:
        self._versions[row.table, key] = max(row.version, self._versions.get((row.table, key), -1))
        return True

    patches: Mapping[str, Any] = {"take_folded": take_folded, "feed": feed, "_follows": follows}

    @contextmanager
    def all_of_them() -> Iterator[None]:
        with patch.multiple(Subscription, **patches), patch.object(Comparison, "has", lambda *_: False):
            yield

    return all_of_them()
