"""A subscriber as a model around the real subscription: it follows, is cut off, and resumes from a cursor.

It follows streams.subscription.client; `told` gets every snapshot and every batch.
"""

from typing import Any, Protocol

import orjson

from streams.facets.changelog_records import unreadable
from streams.subscription.cursor import Cursor
from streams.subscription.delivery import Batch, ChangelogGap, Subscription
from streams.subscription.facet_records import Compacted
from streams.subscription.rows import Filter, Row
from tests.simulation.base import Base, ms_of
from tests.simulation.kafka import Record

LOADED = "parts of before a cursor read"
_TAIL = 50
_NOBODY = Filter()


class Told(Protocol):
    """What checks the subscriber."""

    def snapshot(self, who: "Subscriber", reason: str, rows: tuple[Row, ...]) -> None:
        """A snapshot came, for this reason."""

    def batch(self, who: "Subscriber", batch: Batch) -> None:
        """A sealed batch came."""

    def saved(self, who: "Subscriber") -> None:
        """It wrote its cursor down."""

    def resumed(self, who: "Subscriber") -> None:
        """It goes on from its cursor."""


class Lost(Exception):
    """The changes since the cursor can't be had; the text is the reason."""


class Subscriber:
    """Follows `tables` of all partitions. `state` is what it has applied; `folds` says whether it folds the journal
    itself, and `may_be_ahead` whether it did when its cursor was written."""

    folds = False
    may_be_ahead = False

    def __init__(self, sim: Base, told: Told, name: str, tables: tuple[str, ...], wanted: Filter = _NOBODY) -> None:
        self.sim = sim
        self.rng = sim.rng
        self.name = name
        self.tables = tables
        self.wanted = wanted
        self.away = False
        self.cursor = ""
        self.state: Subscription | None = None
        self.reason, self.why, self.since = "start", "", 0
        self._begun = 0
        self._told = told
        self._topic_partitions = [(table, p) for table in tables for p in range(sim.partitions)]
        self._next: dict[tuple[str, int], int] = {}
        self._anchors: dict[tuple[str, int], tuple[int, str]] = {}
        self._ends: dict[tuple[str, int], int] = {}

    def save(self) -> None:
        """Write the cursor down."""
        if self.state is not None and not self.state.bootstrapping:
            self.cursor = self.state.cursor.encode()
            self._told.saved(self)

    def leave(self) -> None:
        """The process ends; only the cursor that was written down is left."""
        self.state = None
        self.away = True

    def idle(self) -> bool:
        """Whether all there is was read."""
        return (
            self.state is not None
            and not self.state.bootstrapping
            and all(self._next[each] >= self.sim.tables[each].end for each in self._topic_partitions)
        )

    def step(self) -> None:
        """Read some."""
        if self.away:
            return
        try:
            if self.state is None:
                self._start()
            for _ in range(self.rng.randrange(1, 12)):
                self._read()
        except ChangelogGap as gap:
            self._bootstrap("gap", str(gap))
        except Compacted:
            self._bootstrap("expired", "")
        except Lost as error:
            self._bootstrap(str(error), "")

    def _start(self) -> None:
        if not self.cursor:
            self._bootstrap("start", "")
            return
        self._told.resumed(self)
        cursor = Cursor.decode(self.cursor)
        newest = self._newest_seal()
        if cursor.at and newest and ms_of(newest) - ms_of(cursor.at) > self.sim.window_ms:
            raise Lost("expired")
        self._next, self._anchors, self._ends = {}, {}, {}
        self.state = Subscription(self.tables, self.sim.partitions, self.wanted, cursor)
        for each in self._topic_partitions:
            log = self.sim.tables[each]
            position = cursor.positions.get(each)
            if position is None:
                if cursor.applied.get(each[1], -1) >= 0:
                    raise Lost("lost")
                position = 0
            elif position > log.end:
                raise Lost("lost")
            elif position > 0:
                position -= 1
                self._anchors[each] = (cursor.applied.get(each[1], -1), cursor.at)
            self._next[each] = position

    def _newest_seal(self) -> str:
        seals = (
            _time_of(orjson.loads(record.value))
            for each in self._topic_partitions
            for record in self.sim.tables[each].records[-_TAIL:]
            if record.key.startswith(b"~seal/") and record.value
            if not unreadable(each[0], record.key, record.value, record.version)
        )
        return max(seals, default="")

    def _bootstrap(self, reason: str, why: str) -> None:
        self.reason, self.why, self.since = reason, why, self.sim.ms
        self.state = Subscription(self.tables, self.sim.partitions, self.wanted)
        self._anchors = {}
        self._begun = self.sim.ms
        self._next = dict.fromkeys(self._topic_partitions, 0)
        self._ends = {each: self.sim.tables[each].end for each in self._topic_partitions}

    def _read(self) -> None:
        state = self.state
        if state is None:
            return
        each = self.rng.choice(self._topic_partitions)
        record = self.sim.tables[each].read(self._next[each])
        if record is not None:
            self._feed(state, each, record)
        else:
            self._next[each] = max(self._next[each], self.sim.tables[each].end)
        if not state.bootstrapping:
            return
        read = all(self._next[each] >= end for each, end in self._ends.items())
        if read and self.sim.ms - self._begun > self.sim.window_ms // 2:
            # What was compacted meanwhile may have been replaced by what came after this end.
            self._begun = self.sim.ms
            self._ends = {each: self.sim.tables[each].end for each in self._topic_partitions}
            read = False
        if read and state.complete():
            if self.sim.ms - self.since > self.sim.window_ms:
                # It took longer than tombstones are kept: what was read first may be deleted, and nothing says so.
                self._bootstrap(self.reason, self.why)
                return
            self._told.snapshot(self, self.reason, state.ready())

    def _feed(self, state: Subscription, each: tuple[str, int], record: Record) -> None:
        due = self._next[each]
        self._next[each] = record.offset + 1
        anchor = self._anchors.pop(each, None)
        if record.offset != due and not state.bootstrapping:
            if anchor is not None:
                raise Lost("expired")
            state.skip(*each)
        if anchor is not None:
            if not record.key.startswith(b"~seal/") or not record.value:
                raise Lost("lost")
            seal = orjson.loads(record.value)
            if seal["offset"] > anchor[0] or _time_of(seal) > anchor[1]:
                raise Lost("lost")
            state.resumes_after(*each, seal["offset"])
            return
        table, partition = each
        if state.beyond(table, partition, record.version):
            state.journal_ends[partition] = self.sim.journal[partition].end
        if state.lacks_parts(table, partition, record.key, record.value):
            before = [each for each in self.sim.tables[each].records if each.offset < record.offset]
            self.sim.note(LOADED)
            state.load_parts(table, partition, [(r.offset, r.key, r.value, r.version) for r in before])
        for batch in state.feed(table, partition, record.offset, record.key, record.value, record.version):
            self._told.batch(self, batch)


def _time_of(seal: Any) -> str:
    """By Kafka's clock, where that is known."""
    return str(seal.get("appended") or seal["at"])
