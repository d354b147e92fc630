"""The faults, and the chance by which they come. Each is injected, lasts, and is undone; several may overlap."""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition

from streams.wire.records import JOURNAL
from tests.chaos.cluster import FOLDING, PARTITIONS, Cluster, Part
from tests.chaos.received import Received

log = logging.getLogger("chaos.faults")

LONG_BROKER_SECONDS = 60.0
LONG_BROKER_EVERY = 180.0
NO_WORKER_SECONDS = 60.0
SOON_SECONDS = 3.0


class Fault(NamedTuple):
    """One fault. Times are the wall clock's, in seconds. `detail` is what the measurements need to know of it."""

    kind: str
    target: str
    begun: float
    ended: float
    pid: int
    leader: bool
    partitions: tuple[int, ...]


class Kind(NamedTuple):
    """A kind of fault: `weight` of them are in each bag."""

    name: str
    weight: int
    inject: Callable[["Faults"], bool]


class Faults:
    """Injects faults in threads of their own. `hold` waits until none is under way."""

    def __init__(self, cluster: Cluster, seed: int, seconds: float, on_trouble: Callable[[str], None]) -> None:
        self.done: list[Fault] = []
        self.injected: Counter[str] = Counter()
        self._cluster = cluster
        self._random = random.Random(seed)
        self._bag: list[Kind] = []
        self._busy: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._on_trouble = on_trouble
        self._long_broker_at = time.monotonic() + self._random.uniform(0.15, 0.4) * min(seconds, LONG_BROKER_EVERY)

    def end(self) -> None:
        """Undo what is under way, at once."""
        self._ending.set()
        self.settle(120)

    def settle(self, seconds: float) -> None:
        """Return when no fault is under way."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if self._threads:
            self._on_trouble(f"faults that did not end in {seconds:g} s: {[each.name for each in self._threads]}")

    def pause(self) -> float:
        """How long to wait before the next one."""
        return self._random.uniform(3.0, 7.0)

    def inject(self, left: float) -> str:
        """Begin one; its kind ("" where nothing is free). `left` is how many seconds there are to undo it."""
        if time.monotonic() >= self._long_broker_at and left > LONG_BROKER_SECONDS and self._broker_away():
            self._long_broker_at = time.monotonic() + LONG_BROKER_EVERY
            return "broker gone 60 s"
        # Out of a bag, so that a short run has some of every kind.
        if not self._bag:
            self._bag = [kind for kind in KINDS for _ in range(kind.weight)]
            self._random.shuffle(self._bag)
        for index, kind in enumerate(self._bag):
            if kind.inject(self):
                del self._bag[index]
                return kind.name
        return ""

    # ---- the mechanics ---------------------------------------------------------------------------------

    def _begin(self, kind: str, target: str, body: Callable[[], None], part: Part | None = None) -> bool:
        with self._lock:
            if target in self._busy or self._ending.is_set():
                return False
            self._busy.add(target)
        cluster = self._cluster
        leader = part is not None and part.kind == "watcher" and cluster.leader() is part
        partitions = tuple(cluster.held_by(part)) if part is not None and part.kind == "worker" else ()
        pid = part.pid if part is not None else 0

        def run() -> None:
            begun = time.time()
            try:
                body()
            except Exception as error:
                log.exception("%s of %s", kind, target)
                self._on_trouble(f"{kind} of {target} could not be injected or undone: {error!r}")
            finally:
                with self._lock:
                    self._busy.discard(target)
                    self.done.append(Fault(kind, target, begun, time.time(), pid, leader, partitions))

        self.injected[kind] += 1
        log.info("%s: %s%s", kind, target, " (leader)" if leader else "")
        thread = threading.Thread(target=run, name=f"{kind}: {target}", daemon=True)
        self._threads.append(thread)
        thread.start()
        return True

    def _some(self, kind: str) -> Part | None:
        """A part of this kind, by chance: one that has no fault."""
        parts = [part for part in self._cluster.of_kind(kind) if part.name != FOLDING]
        free = [part for part in parts if part.name not in self._busy]
        return self._random.choice(free) if free else None

    @contextmanager
    def _plane(self) -> Iterator[None]:
        with self._cluster.plane_lock:
            try:
                yield
            finally:
                self._cluster.mend_plane()

    def _last(self, low: float, high: float) -> Callable[[], None]:
        seconds = self._random.uniform(low, high)
        return lambda: void(self._ending.wait(seconds))

    # ---- the kinds -------------------------------------------------------------------------------------

    def kill_watcher(self) -> bool:
        leader = self._cluster.leader()
        part = leader if leader and leader.name not in self._busy else self._some("watcher")
        # Often for longer than the lease lasts, so that the standby has to take over.
        return self._kill(part, self._last(0.2, 3) if self._random.random() < 0.3 else self._last(6, 12))

    def measured(self) -> list[tuple[Callable[[], bool], float]]:
        """Kills that are left alone for so many seconds, to see how long it takes until somebody goes on."""
        return [
            (lambda: self._kill(self._cluster.leader(), self._last(8, 8)), 9.0),
            (lambda: self._kill(self._some("worker"), self._last(0.2, 0.2)), 8.0),
            (lambda: self._kill(self._some("worker"), self._last(14, 14)), 16.0),
        ]

    def no_worker(self) -> bool:
        """No worker for a minute, and no other fault: who folds the journal has all of it meanwhile."""

        def body() -> None:
            workers = self._cluster.of_kind("worker")
            for worker in workers:
                self._cluster.kill(worker)
            self._ending.wait(NO_WORKER_SECONDS)
            ends = journal_ends(self._cluster.bootstrap)
            self._ending.wait(SOON_SECONDS)
            log = self._cluster.folder / f"{FOLDING}.jsonl"
            at = Received(FOLDING, PARTITIONS, lambda _: None).read(log).at
            late = {p: (at.get(p, -1), end) for p, end in ends.items() if at.get(p, -1) < end - 1}
            if late:
                self._on_trouble(
                    f"{SOON_SECONDS:g} s later, without a worker, it stands at (has, journal's end): {late}"
                )
            for worker in workers:
                self._cluster.resume(worker)

        return self._begin("no worker for 60 s", "workers", body)

    def kill_worker(self) -> bool:
        # Back within the group's session, or after it: the other one has its partitions by then.
        return self._kill(
            self._some("worker"), self._last(0.2, 3) if self._random.random() < 0.6 else self._last(8, 16)
        )

    def kill_subscriber(self) -> bool:
        often = self._cluster.parts["often"]
        part = often if often.name not in self._busy and self._random.random() < 0.8 else self._some("subscriber")
        return self._kill(part, self._last(0.1, 6))

    def _kill(self, part: Part | None, last: Callable[[], None]) -> bool:
        if part is None:
            return False

        def body() -> None:
            self._cluster.kill(part)
            last()
            self._cluster.resume(part)

        return self._begin(f"kill {part.kind}", part.name, body, part)

    def stop_watcher(self) -> bool:
        return self._stop("watcher", self._last(7, 14))

    def stop_worker(self) -> bool:
        return self._stop("worker", self._last(12, 20))

    def _stop(self, kind: str, last: Callable[[], None]) -> bool:
        leader = self._cluster.leader() if kind == "watcher" else None
        part = leader if leader and leader.name not in self._busy else self._some(kind)
        if part is None:
            return False

        def body() -> None:
            self._cluster.stop(part)
            last()
            self._cluster.resume(part)

        return self._begin(f"stop {kind}", part.name, body, part)

    def kill_broker(self) -> bool:
        return self._broker("kill broker", self._last(0, 4))

    def _broker_away(self) -> bool:
        return self._broker("broker gone 60 s", self._last(LONG_BROKER_SECONDS, LONG_BROKER_SECONDS))

    def _broker(self, kind: str, last: Callable[[], None]) -> bool:
        def body() -> None:
            self._cluster.broker.kill()
            last()
            self._cluster.broker.start()

        return self._begin(kind, "broker", body)

    def kill_apiserver(self) -> bool:
        return self._kill_component("kube-apiserver", self._last(0, 5))

    def kill_etcd(self) -> bool:
        return self._kill_component("etcd", self._last(0, 5))

    def _kill_component(self, component: str, last: Callable[[], None]) -> bool:
        def body() -> None:
            with self._plane():
                self._cluster.plane.kill(component)
                last()

        return self._begin(f"kill {component}", "control plane", body)

    def pause_apiserver(self) -> bool:
        last = self._last(3, 20)

        def body() -> None:
            with self._plane():
                self._cluster.plane.pause("kube-apiserver")
                try:
                    last()
                finally:
                    self._cluster.plane.cont("kube-apiserver")

        return self._begin("pause kube-apiserver", "control plane", body)

    def compact(self) -> bool:
        def body() -> None:
            with self._plane():
                self._cluster.plane.compact()

        return self._begin("compact etcd", "control plane", body)


def journal_ends(bootstrap: str) -> dict[int, int]:
    """The offset of each journal partition's next record."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    try:
        ends = consumer.end_offsets([TopicPartition(JOURNAL, partition) for partition in range(PARTITIONS)])
        return {each.partition: end for each, end in ends.items()}
    finally:
        consumer.close()


def void(_: object) -> None:
    """For lambdas whose value nobody wants."""


KINDS = (
    Kind("kill watcher", 3, Faults.kill_watcher),
    Kind("kill worker", 4, Faults.kill_worker),
    Kind("kill subscriber", 4, Faults.kill_subscriber),
    Kind("stop watcher", 2, Faults.stop_watcher),
    Kind("stop worker", 2, Faults.stop_worker),
    Kind("kill broker", 2, Faults.kill_broker),
    Kind("kill kube-apiserver", 1, Faults.kill_apiserver),
    Kind("kill etcd", 1, Faults.kill_etcd),
    Kind("pause kube-apiserver", 1, Faults.pause_apiserver),
    Kind("compact etcd", 2, Faults.compact),
)
