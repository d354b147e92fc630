"""One seed, one run: what happens is drawn from the seed, and checked as it happens.

python -m tests.simulation --seeds 0:2000
"""

from collections.abc import Callable
from contextlib import nullcontext
from random import Random
from typing import NamedTuple, TypeVar
from unittest.mock import patch

from streams.objects import commits, progress
from streams.subscription.rows import Filter
from tests.simulation import fast_paths
from tests.simulation.base import TABLES, Base, Violation
from tests.simulation.chaos import Chaos
from tests.simulation.checkers import Checkers
from tests.simulation.deliveries import Deliveries
from tests.simulation.export_workload import ExportWorkload
from tests.simulation.gateway_workload import GatewayWorkload
from tests.simulation.journal_reader import JournalReader
from tests.simulation.kafka import Record
from tests.simulation.process import Process
from tests.simulation.subscriber import Subscriber
from tests.simulation.watcher import Watcher
from tests.simulation.worker import Worker
from tests.simulation.world import ApiServer, Workload
from tests.support.parts import small_parts

_Side = TypeVar("_Side", GatewayWorkload, ExportWorkload)

STEPS = 220
_DRAIN = 3_000
_STEPS_AT_A_TIME = 4
"""How much a worker does in peace while the others do one thing: it has most to do."""
HEARD_MS = 4_000
"""Within what time each partition hears of every cluster that is watched."""


class Outcome(NamedTuple):
    """What a run came to; `problem` is empty where every guarantee held."""

    seed: int
    problem: str
    checks: int
    batches: int
    faults: dict[str, int]


class Simulation(Base):
    """The clusters, topics and processes of one run."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, self._appended)
        rng = self.rng
        services = rng.randrange(2, 6)
        count = rng.choice((1, 1, 2))
        self.servers = {name: ApiServer(name) for name in ("east", "west")[: 2 if self.exports else count]}
        self.workloads = [self._workload(server, services) for server in self.servers.values()]
        self._pace = 2 if self.gateway_api else 1
        self.gateway_workloads = self._side_workloads(GatewayWorkload, "Gateway API") if self.gateway_api else []
        self.export_workloads = self._side_workloads(ExportWorkload, "exports") if self.exports else []
        for exporter in self.export_workloads:
            exporter.drops = self.drops
        self.checkers = Checkers(self, self.servers, self.workloads[0].names)
        self.deliveries = Deliveries(self.checkers)
        self._names = 0
        self.watchers: list[Watcher] = []
        self.workers: list[Worker] = [Worker(self, p) for p in range(self.partitions)]
        for workload in (*self.workloads, *self.gateway_workloads, *self.export_workloads):
            workload.start()
        process = self.new_process() if self.shares_process else None
        for name in self.servers:
            self.watchers.append(self.new_watcher(name, process=process))
        self.subscribers = [
            Subscriber(self, self.deliveries, "all", TABLES),
            Subscriber(self, self.deliveries, "backend", ("backend",)),
        ]
        if self.exports:
            self.subscribers.append(Subscriber(self, self.deliveries, "with sets", self.table_names))
        if rng.random() < 0.3:
            one = Filter(services=frozenset(rng.sample(self.workloads[0].names, 1)))
            self.subscribers.append(Subscriber(self, self.deliveries, "filtered", TABLES, one))
        folding = Random(f"{seed}: folding").random() < 0.4
        self.journal_readers = [JournalReader(self, self.deliveries, "folding")] if folding else []
        self.chaos = Chaos(self)
        self.split = rng.choice((500, 500, 500, 2))
        self.checkers.split = self.split < 500

    def _workload(self, server: ApiServer, services: int) -> Workload:
        routing = Random(f"{self.seed}: {server.cluster}: Services' routing") if self.gateway_api else None
        ports = Random(f"{self.seed}: {server.cluster}: ports")
        return Workload(self.rng, server, services, self.note, bad=self.bad, ports=ports, routing=routing)

    def _side_workloads(self, kind: type[_Side], name: str) -> list[_Side]:
        return [
            kind(
                Random(f"{self.seed}: {each.server.cluster}: {name}"), each.server, each.names, self.note, bad=self.bad
            )
            for each in self.workloads
        ]

    def _appended(self, topic: str, partition: int, record: Record) -> None:
        self.checkers.seen(topic, partition, record)

    def new_process(self) -> Process:
        """A watcher process starts."""
        self._names += 1
        return Process(self, f"watcher-{self._names}")

    def new_watcher(self, cluster: str, kind: type[Watcher] = Watcher, process: Process | None = None) -> Watcher:
        """A watcher starts, in a process of its own if none is given."""
        return kind(self, self.servers[cluster], process or self.new_process())

    def made_progress(self, record: bytes, living: dict[str, int]) -> None:
        """A watcher process made a progress record."""
        self.checkers.alive.made(record, living)

    def journal_expired(self, partition: int, first: int) -> None:
        """A worker found that what it has to read next is gone."""
        self.chaos.outlived(partition)
        self.checkers.expired(partition, first, self.window_ms)

    # ---- the run -------------------------------------------------------------------------------------

    def run(self, steps: int) -> None:
        """Faults and changes for so many steps, then peace until all is through. Raises Violation."""
        with (
            patch.object(commits, "MAX_EVENTS", self.split),
            patch.object(progress, "BOOKMARK_SECONDS", 4.0),
            fast_paths.counted(self.note),
            small_parts() if self.divided else nullcontext(),
        ):
            for _ in range(steps):
                self.ms += self.rng.randrange(0, 400)
                self._turn()
                self.chaos.maybe()
            self._drain()
            self._finally()

    def work(self, partition: int) -> None:
        """The partition's worker does something. One that has ended is started again."""
        if self.chaos.away.get(partition, 0) > self.ms:
            return
        if self.workers[partition].done:
            self.replace(partition)
        self.workers[partition].step()

    def replace(self, partition: int) -> Worker:
        """Another worker takes the partition. The old one, as it was."""
        old = self.workers[partition]
        if old.between_two_writes:
            self.note("crash between two writes")
        self.chaos.crashed.add(partition)
        self.workers[partition] = Worker(self, partition)
        return old

    def _turn(self) -> None:
        rng = self.rng
        choice = rng.random()
        if choice < 0.2:
            rng.choice(self.workloads).act()
            if self.gateway_workloads and rng.random() < 0.7:
                rng.choice(self.gateway_workloads).act()
            if self.export_workloads and rng.random() < 0.5:
                rng.choice(self.export_workloads).act()
        elif choice < 0.45:
            for _ in range(self._pace):
                rng.choice(self.watchers).listen()
        elif choice < 0.65:
            for _ in range(self._pace):
                rng.choice(self.watchers).write()
            self._bury()
        elif choice < 0.85:
            self.work(rng.randrange(self.partitions))
        else:
            subscriber = rng.choice(self.subscribers)
            subscriber.step()
            if rng.random() < 0.3:
                subscriber.save()
        for reader in self.journal_readers:
            if reader.rng.random() < 0.3:
                reader.step()

    def _bury(self) -> None:
        """A watcher that gave way is gone; a cluster that has none gets a new one."""
        self.watchers = [each for each in self.watchers if not each.done]
        here = {each.server.cluster for each in self.watchers}
        self.watchers += [self.new_watcher(name) for name in self.servers if name not in here]

    def _drain(self) -> None:
        self.lagging, self.bookmarks, self.blocks = 0.0, 1.0, False
        for workload in (*self.workloads, *self.gateway_workloads, *self.export_workloads):
            workload.heal()
        self.chaos.stop()
        for reader in self.journal_readers:
            reader.stays = True
        for _ in range(_DRAIN):
            # Where there is nothing to read, a watcher waits for a time to come.
            self.ms += 50 if self._all_is_read() else 10
            for watcher in self.watchers:
                for _ in range(self._pace):
                    watcher.listen()
                watcher.write()
            self._bury()
            for partition in range(self.partitions):
                for _ in range(_STEPS_AT_A_TIME):
                    self.work(partition)
            for subscriber in (*self.subscribers, *self.journal_readers):
                if not subscriber.idle():
                    subscriber.step()
            if len(self.watchers) == len(self.servers) and self._settled():
                return
        raise Violation("the run does not come to an end: something waits for ever")

    def _all_is_read(self) -> bool:
        return all(each.idle for each in self.workers) and all(
            each.idle() for each in (*self.subscribers, *self.journal_readers)
        )

    def _settled(self) -> bool:
        if not all(each.idle for each in self.watchers) or not self._all_is_read():
            return False
        if any(log.hidden for log in self.tables.values()):
            return False
        for standing in self.checkers.standing:
            for name, server in self.servers.items():
                frontier = standing[name].frontier if name in standing else {}
                if not frontier or any(int(each) != server.revision for each in frontier.values()):
                    return False
                if standing[name].open or self.ms - standing[name].heard > HEARD_MS or not standing[name].covered:
                    return False
        return True

    def _finally(self) -> None:
        """Subscribers, tables and API servers agree."""
        for partition in range(self.partitions):
            for name, server in self.servers.items():
                standing = self.checkers.standing[partition][name]
                if standing.stale or standing.lost or standing.open or server.down:
                    raise Violation(f"[{partition}]: {name} ends as {standing}")
            for table in self.table_names:
                if self.checkers.seals[table, partition][-1] != self.journal[partition].end - 1:
                    raise Violation(f"{table}[{partition}]: is not sealed up to the journal's end")
        self.checkers.finish(self.chaos.crashed)
        for subscriber in (*self.subscribers, *self.journal_readers):
            everything = {p: log.end for p, log in enumerate(self.journal)}
            if self.deliveries.view(subscriber) != self.deliveries.expected(subscriber, everything):
                raise Violation(f"subscriber {subscriber.name} does not hold what the tables hold")


def simulate(seed: int, steps: int = STEPS, make: Callable[[int], Simulation] = Simulation) -> Outcome:
    """Run one seed. Whatever is raised is the run's problem."""
    simulation = make(seed)
    problem = ""
    try:
        simulation.run(steps)
    except Violation as violation:
        problem = str(violation)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    return Outcome(seed, problem, simulation.checkers.checks, simulation.deliveries.batches, dict(simulation.faults))
