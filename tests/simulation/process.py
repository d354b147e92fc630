"""A watcher process as a model around the real progress collector: what it writes for all of its clusters, between the
commits of their watchers.

It follows streams.watch.progress. What is true of the clusters when a record is made is noted, for the checkers.
"""

from collections.abc import Iterator
from random import Random
from typing import Protocol

from streams.objects.commits import JournalRecord
from streams.objects.progress import CoveredCluster, ProgressCollector
from tests.simulation.base import Base


class Session(Protocol):
    """A watcher of one cluster in the process."""

    done: bool
    covered: CoveredCluster | None


class Process:
    """`sessions` are its watchers, by cluster; `written` counts its records by partition. Its chance is its own."""

    def __init__(self, sim: Base, writer: str) -> None:
        self.sim = sim
        self.writer = writer
        self.rng = Random(f"{sim.seed}: {writer}")
        self._offset = sim.clock_offset(writer)
        self.progress = ProgressCollector(writer, sim.partitions)
        self.sessions: dict[str, Session] = {}
        self.written = dict.fromkeys(range(sim.partitions), 0)
        self._at = ""
        self._writing = self._main()

    def write(self) -> None:
        """Go on to the next point where another process may come between."""
        next(self._writing)

    def living(self) -> dict[str, int]:
        """The epochs of the clusters that it watches now, without those whose changes wait."""
        return {
            name: session.covered.commits.epoch
            for name, session in self.sessions.items()
            if session.covered is not None and not session.done and not session.covered.is_blocked
        }

    def at(self) -> str:
        """The time of its next record."""
        self._at = max(self._at, self.clock())
        return self._at

    def clock(self, ms: int | None = None) -> str:
        """The time now, or that of `ms`, by the clock of its machine."""
        return self.sim.at((self.sim.ms if ms is None else ms) + self._offset)

    def append(self, record: JournalRecord, key: bytes) -> None:
        """Write a record, now and then twice."""
        for _ in range(self.sim.times("commit")):
            self.sim.journal[record.partition].append(key, record.value, -1, self.sim.ms)
        self.written[record.partition] += 1

    def publish(self, records: list[JournalRecord], rng: Random, key: bytes) -> Iterator[None]:
        """Each partition's records in order, the partitions in any."""
        queues: dict[int, list[JournalRecord]] = {}
        for record in records:
            queues.setdefault(record.partition, []).append(record)
        while queues:
            partition = rng.choice(list(queues))
            record = queues[partition].pop(0)
            if not queues[partition]:
                del queues[partition]
            self.append(record, key)
            if rng.random() < 0.4:
                yield

    def _main(self) -> Iterator[None]:
        while True:
            yield
            # One producer keeps its records in order: these reach the journal before what is made after them.
            for record in self.progress.records(self.at(), self.sim.ms / 1000):
                self.sim.made_progress(record.value, self.living())
                self.append(record, b"")
