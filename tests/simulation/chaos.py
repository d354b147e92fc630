"""What goes wrong in a run: each seed draws which kinds of faults it has and how often they come."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import orjson

from streams.facets.changelog_records import BAD_VERSION, NO_VERSION
from streams.wire.keys import SEAL_PREFIX
from tests.simulation.base import PROGRESS
from tests.simulation.watcher import Forgetter, Watcher
from tests.simulation.worker import Worker

if TYPE_CHECKING:
    from tests.simulation.run import Simulation

RETENTION_MS = 90_000
_JUNK = (b"", b"null", b"{", b"\xff\xfe", b'{"cluster":"east"}', b'[1,2,"x"]')


class Chaos:
    """`strike` does one thing; `stop` sets everything right again."""

    def __init__(self, sim: "Simulation") -> None:
        self.sim = sim
        self.rng = rng = sim.rng
        self.rate = rng.choice((0.0, 0.05, 0.12, 0.25))
        kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "watch cut": (6, self._cut),
            "history compacted (410)": (4, self._gone),
            "cluster unreachable": (2, self._down),
            "cluster back": (4, self._up),
            "watcher killed": (3, self._kill_watcher),
            "watcher paused, replaced": (3, self._replace_watcher),
            "stale watcher wakes": (4, self._wake_watcher),
            "rival watcher": (2, self._rival),
            "worker killed": (5, self._kill_worker),
            "rebalance, old worker asleep": (4, self._replace_worker),
            "stale worker wakes": (5, self._wake_worker),
            "worker away": (3, self._lose_worker),
            "changelogs compacted": (5, self._compact),
            "journal expired": (4, self._expire),
            "time passes": (2, self._pass),
            "subscriber leaves": (4, self._leave),
            "subscriber resumes": (8, self._return),
            "bad journal record": (1, self._junk),
        }
        chosen = [name for name in kinds if rng.random() < 0.6]
        self._kinds = [(name, *kinds[name]) for name in chosen]
        # Drawn apart, so that the other runs stay what they were.
        if Random(f"{sim.seed}: forgotten").random() < 0.15:
            self._kinds.append(("cluster to be forgotten", 3, self._forget))
        if Random(f"{sim.seed}: sessions").random() < 0.3:
            self._kinds.append(("session ended", 3, self._end_watcher))
        if Random(f"{sim.seed}: progress").random() < 0.2:
            self._kinds.append(("old progress record once more", 3, self._repeat_progress))
        if Random(f"{sim.seed}: garbage").random() < 0.2:
            self._kinds.append(("garbage in a facet topic", 4, self._pollute))
        self.asleep: list[list[Watcher]] = []
        self.stale: list[tuple[Worker, int]] = []
        self.away: dict[int, int] = {}
        self.crashed: set[int] = set()
        self._awake: list[Worker] = []

    def maybe(self) -> None:
        """A fault, or none."""
        if self._kinds and self.rng.random() < self.rate:
            name, _, fault = self.rng.choices(self._kinds, [weight for _, weight, _ in self._kinds])[0]
            if fault():
                self.sim.note(name)

    def stop(self) -> None:
        """Whatever sleeps wakes up, whatever is away comes back."""
        for server in self.sim.servers.values():
            server.down = False
        while self.asleep:
            self._wake_watcher()
        while self.stale:
            self._wake_worker()
        self.away.clear()
        for each in self.sim.subscribers:
            each.away = False

    def outlived(self, partition: int) -> None:
        """The journal's retention went by: who slept for that long (days) has nothing in hand any more, for a producer
        gives up what it could not send in half a minute."""
        for each in (*(worker for worker, _ in self.stale), *self._awake):
            if each.partition == partition:
                each.done = True
        self.stale = [(worker, since) for worker, since in self.stale if not worker.done]

    # ---- clusters ------------------------------------------------------------------------------------

    def _cut(self) -> bool:
        self.rng.choice(self.sim.watchers).cut()
        return True

    def _gone(self) -> bool:
        """Watches that are cut off now have to list again, unless they had come as far."""
        server = self.rng.choice(list(self.sim.servers.values()))
        for workload in self.sim.gateway_workloads:
            if workload.server is server:
                # What they then find changed.
                for _ in range(self.rng.randrange(6)):
                    workload.act()
        server.compacted = self.rng.choice((server.revision, self.rng.randrange(server.compacted, server.revision + 1)))
        for watcher in self.sim.watchers:
            if watcher.server is server:
                watcher.cut()
        return True

    def _down(self) -> bool:
        self.rng.choice(list(self.sim.servers.values())).down = True
        return True

    def _up(self) -> bool:
        down = [each for each in self.sim.servers.values() if each.down]
        for server in down:
            server.down = False
        return bool(down)

    # ---- watchers ------------------------------------------------------------------------------------

    def _kill_watcher(self) -> bool:
        self._replace_process()
        return True

    def _end_watcher(self) -> bool:
        """One cluster's session ends, and another watcher begins; the process goes on with its other clusters."""
        at = self.rng.randrange(len(self.sim.watchers))
        self.sim.watchers[at].end()
        self.sim.watchers[at] = self.sim.new_watcher(self.sim.watchers[at].server.cluster)
        return True

    def _replace_process(self) -> list[Watcher]:
        """A process is gone, and another one watches its clusters."""
        process = self.rng.choice(self.sim.watchers).process
        mine = [each for each in self.sim.watchers if each.process is process]
        others = [each for each in self.sim.watchers if each.process is not process]
        successor = self.sim.new_process()
        self.sim.watchers = [*others, *(self.sim.new_watcher(each.server.cluster, process=successor) for each in mine)]
        return mine

    def _replace_watcher(self) -> bool:
        self.asleep.append(self._replace_process())
        return True

    def _wake_watcher(self) -> bool:
        if not self.asleep:
            return False
        self.sim.watchers += self.asleep.pop(self.rng.randrange(len(self.asleep)))
        return True

    def _rival(self) -> bool:
        """Two processes are started for one cluster, and nobody ends the other."""
        if len(self.sim.watchers) > 4:
            return False
        self.sim.watchers.append(self.sim.new_watcher(self.rng.choice(list(self.sim.servers))))
        return True

    def _forget(self) -> bool:
        """Its watchers mostly end before; the next one opens it anew."""
        cluster = self.rng.choice(list(self.sim.servers))
        if self.rng.random() < 0.8:
            for watcher in self.sim.watchers:
                if watcher.server.cluster == cluster:
                    watcher.end()
            self.sim.watchers = [each for each in self.sim.watchers if not each.done]
        self.sim.watchers.append(self.sim.new_watcher(cluster, Forgetter))
        return True

    # ---- workers -------------------------------------------------------------------------------------

    def _partition(self) -> int:
        return self.rng.randrange(self.sim.partitions)

    def _kill_worker(self) -> bool:
        self.sim.replace(self._partition())
        return True

    def _replace_worker(self) -> bool:
        partition = self._partition()
        if not self.sim.workers[partition].assigned:
            return False
        self.stale.append((self.sim.replace(partition), self.sim.ms))
        return True

    def _wake_worker(self) -> bool:
        """It goes on for a while with what it had in hand, before it is told that it is replaced."""
        if not self.stale:
            return False
        old, since = self.stale.pop(self.rng.randrange(len(self.stale)))
        if self.sim.ms - since > self.sim.window_ms:
            # A producer gives up what it could not send in half a minute, which is far less than the resume window.
            return False
        self._awake = [old]
        for _ in range(self.rng.randrange(1, 6)):
            old.step()
            if self.rng.random() < 0.5:
                self.sim.workers[old.partition].step()
        self._awake = []
        return True

    def _lose_worker(self) -> bool:
        partition = self._partition()
        self.sim.replace(partition)
        self.away[partition] = self.sim.ms + self.rng.randrange(10_000, 2 * RETENTION_MS)
        return True

    # ---- Kafka and time ------------------------------------------------------------------------------

    def _compact(self) -> bool:
        log = self.sim.tables[self.rng.choice(self.sim.table_names), self._partition()]
        if log.hidden:
            return False  # The owner writes over it within the lag.
        log.compact(self.sim.ms, self.sim.window_ms, self.rng.randrange(1, 4))
        return True

    def _expire(self) -> bool:
        partition = self._partition()
        log = self.sim.journal[partition]
        old = [each.offset for each in log.records[:-1] if each.ms < self.sim.ms - RETENTION_MS]
        if not old:
            return False
        log.expire(self.rng.choice(old) + 1)
        return True

    def _pass(self) -> bool:
        """Time goes by in which little changes."""
        for _ in range(self.rng.randrange(4, 40)):
            self.sim.ms += self.rng.randrange(1500, 4000)
            for watcher in self.sim.watchers:
                watcher.listen()
                for _ in range(3):
                    watcher.write()
            for partition in range(self.sim.partitions):
                self.sim.work(partition)
            if self.rng.random() < 0.5:
                self.rng.choice(self.sim.subscribers).step()
        return True

    def _junk(self) -> bool:
        self.sim.journal[self._partition()].append(b"", self.rng.choice(_JUNK), -1, self.sim.ms)
        return True

    def _repeat_progress(self) -> bool:
        """A progress record of before comes again, as no producer would send it; or one of a cluster that nobody
        knows."""
        log = self.sim.journal[self._partition()]
        records = [each for each in log.records if (each.value or b"").startswith(PROGRESS)]
        if not records:
            return False
        value = self.rng.choice(records).value or b""
        if self.rng.random() < 0.3:
            for name in self.sim.servers:
                value = value.replace(f'"cluster":"{name}"'.encode(), b'"cluster":"nobody"')
        self.sim.checkers.alive.repeated(value)
        log.append(b"", value, -1, self.sim.ms)
        return True

    def _pollute(self) -> bool:
        """A client that is no worker writes to a facet topic: a key, value or stamp that can't be read, or a row or
        seal ahead of its journal."""
        partition, table = self._partition(), self.rng.choice(self.sim.table_names)
        log, end = self.sim.tables[table, partition], self.sim.journal[partition].end
        sound = [each for each in log.records if each.value and each.offset not in log.garbage]
        if not sound or partition in self.away:
            return False
        like = self.rng.choice(sound)
        key, value, version = like.key, like.value or b"", self.rng.randrange(end)
        kind = self.rng.choice(("key", "value", "stamp", "ahead"))
        if kind == "key":
            key = self.rng.choice((b"", b"\xff", b"a/b", b"east/shop/cart/x", b"~seal/\xff", b"~seal/nobody"))
            value = b"{}"
        elif kind == "value":
            value = self.rng.choice((*_JUNK, value[:-1], value.replace(b'"', b"'")))
        elif kind == "stamp":
            version = self.rng.choice((BAD_VERSION, NO_VERSION))
        else:
            said, version = orjson.loads(value), 10**9
            said["offset" if key.startswith(SEAL_PREFIX) else "version"] = version
            value = orjson.dumps(said)
        log.pollute(key, value, version, self.sim.ms)
        return True

    # ---- subscribers ---------------------------------------------------------------------------------

    def _leave(self) -> bool:
        here = [each for each in self.sim.subscribers if not each.away]
        if here:
            self.rng.choice(here).leave()
        return bool(here)

    def _return(self) -> bool:
        away = [each for each in self.sim.subscribers if each.away]
        if away:
            self.rng.choice(away).away = False
        return bool(away)
