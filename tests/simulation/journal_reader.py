"""A reader that folds the journal beside the changelogs, as `facets serve` does, as a model around the real follower.

It follows streams.subscription.client with `fold_journal`. Its cursors are a subscriber's: with one it goes on from the
changelogs alone.
"""

import logging
from random import Random

from streams.subscription.comparison import Cause, TablesDiffer
from streams.subscription.delivery import Subscription
from streams.subscription.journal_follower import JournalFollower
from streams.wire.keys import SEAL_PREFIX
from tests.simulation.base import TABLES, Base, stamp_of
from tests.simulation.kafka import Record
from tests.simulation.subscriber import Subscriber, Told

# What the follower logs is not said of a fault: a run says only what the checkers find.
logging.getLogger("facets").addHandler(logging.NullHandler())

JOURNAL = "journal"
AHEAD = "changes delivered before a worker wrote them"
CORRECTED = "tables that lost what was folded"


class JournalReader(Subscriber):
    """Its chance is its own, so that the other nodes' runs are what they were."""

    may_be_ahead = True

    def __init__(self, sim: Base, told: Told, name: str) -> None:
        super().__init__(sim, told, name, TABLES)
        self.rng = Random(f"{sim.seed}: {name}")
        self.follower = JournalFollower(sim.window_ms // 1000)
        self.stays = False
        self._begin_again()

    def _begin_again(self) -> None:
        self.folds = False
        self._strict = self.rng.random() < 0.5
        self._slow = self.rng.choice((None, None, JOURNAL, *TABLES))

    @property
    def _now(self) -> float:
        return self.sim.ms / 1000

    def leave(self) -> None:
        """The process ends, with or without its cursor."""
        super().leave()
        self.follower = JournalFollower(self.sim.window_ms // 1000)
        if self.rng.random() < 0.5:
            self.cursor = ""

    def idle(self) -> bool:
        """Whether all there is was read."""
        ends = {p: log.end for p, log in enumerate(self.sim.journal)}
        return super().idle() and all(at == ends[p] for p, at in self.follower.positions().items())

    def step(self) -> None:
        """Read some; now and then leave, or come back."""
        if self.away:
            self.away = not self.stays and self.rng.random() < 0.9
            return
        if not self.stays and self.rng.random() < 0.01:
            self.leave()
            return
        try:
            super().step()
            if self.folds and self.state is not None and not self.state.bootstrapping and self.rng.random() < 0.2:
                self._retry(self.state)
        except TablesDiffer as difference:
            self.sim.note(CORRECTED)
            self._bootstrap("different" if difference.cause is Cause.FAULT else "corrected", str(difference))
        if self.rng.random() < 0.2:
            self.save()

    def _bootstrap(self, reason: str, why: str) -> None:
        super()._bootstrap(reason, why)
        self._begin_again()
        self.folds = True
        self._loading = True
        self.follower.forget(range(self.sim.partitions))

    def _start(self) -> None:
        self.folds = False
        super()._start()

    def _read(self) -> None:
        state = self.state
        if state is None:
            return
        if not self.folds:
            super()._read()
            return
        if self._loading:
            self._load(state)
            return
        place = self._choose()
        if place[0] == JOURNAL:
            self._read_journal(state, place[1])
        elif (record := self.sim.tables[place].read(self._next[place])) is not None:
            self._feed(state, place, record)
        if state.bootstrapping and not self.follower.is_behind() and state.complete():
            if self.sim.ms - self.since > self.sim.window_ms:
                self._bootstrap(self.reason, self.why)
                return
            self._told.snapshot(self, self.reason, state.ready())

    def _choose(self) -> tuple[str, int]:
        """What is read next. One consumer reads all, so that no topic falls behind for long."""
        for each in self._topic_partitions:
            record = self.sim.tables[each].read(self._next[each])
            if record is not None and record.ms < self.sim.ms - self.sim.window_ms // 4:
                return each
        places = [*self._topic_partitions, *((JOURNAL, p) for p in self.follower.positions() for _ in TABLES)]
        place = self.rng.choice(places)
        return self.rng.choice(places) if place[0] == self._slow and not self.stays else place

    def _load(self, state: Subscription) -> None:
        """Read the tables up to their ends."""
        each = self.rng.choice(self._topic_partitions)
        record = self.sim.tables[each].read(self._next[each])
        if record is not None and self._next[each] < self._ends[each]:
            end = self.sim.journal[each[1]].end
            entry = (record.offset, record.key, record.value, record.version)
            self.follower.gather(each[0], each[1], [entry], end=end, strict=self._strict)
            self._feed(state, each, record)
        else:
            self._next[each] = max(self._next[each], self._ends[each])
        if all(self._next[each] >= end for each, end in self._ends.items()):
            if self.sim.ms - self._begun > self.sim.window_ms // 2:
                self._bootstrap(self.reason, self.why)
                return
            self._loading = False
            self._start_folds()

    def _start_folds(self) -> None:
        bounds = {p: (log.begin, log.end) for p, log in enumerate(self.sim.journal)}
        for _ in self.follower.start(bounds, self._now):
            pass
        assert self.state is not None
        self.follower.join(self.state.has_read)

    def _retry(self, state: Subscription) -> None:
        self.follower.join(state.has_read)
        partitions = self.follower.due(state.seals, self._now)
        if not partitions:
            return
        self.follower.forget(partitions)
        for table in TABLES:
            for p in partitions:
                records = ((r.offset, r.key, r.value, r.version) for r in self.sim.tables[table, p].records)
                self.follower.gather(table, p, records)
        self._start_folds()

    def _read_journal(self, state: Subscription, partition: int) -> None:
        position = self.follower.positions()[partition]
        record = self.sim.journal[partition].read(position)
        if record is None:
            return
        if record.offset != position:
            self.follower.lose([partition], self._now)
            return
        writes = self.follower.step(partition, record.offset, record.value, stamp_of(record.ms), self._now)
        for batch in state.take_folded(partition, writes):
            self.sim.note(AHEAD)
            self._told.batch(self, batch)

    def _feed(self, state: Subscription, each: tuple[str, int], record: Record) -> None:
        table, partition = each
        if self.folds and not self._loading:
            if record.offset != self._next[each]:
                self.follower.skip(table, partition)
            if state.beyond(table, partition, record.version):
                state.journal_ends[partition] = self.sim.journal[partition].end
            is_same = self.follower.has(table, partition, record.key, record.value, record.version)
            if is_same or state.readable(table, partition, record.key, record.value, record.version):
                self.follower.compare(table, partition, record.key, record.value, record.version, self._now)
            if is_same and not record.key.startswith(SEAL_PREFIX):
                if record.offset != self._next[each] and not state.bootstrapping:
                    state.skip(table, partition)
                self._next[each] = record.offset + 1
                return
        super()._feed(state, each, record)
