"""A watcher process as a model around the real reflectors and collector: streams that break, an epoch that is claimed,
and one writer to the journal that may be killed or put to sleep between any two records.

`_main` follows streams.watch.watcher and session: each `yield` is a point where anything else may happen.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from streams.facets.changelog_records import unreadable
from streams.kafka.epochs import Stamp, Standing, standing_in
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.progress import CoveredCluster
from streams.objects.reflector import Kind, LaggingServer, Reflector, ReflectorEvent
from streams.objects.resources import OPTIONAL, RESOURCES
from streams.wire.keys import SEAL_PREFIX
from streams.wire.partitioning import partition_of
from tests.simulation.base import PROGRESS, Base
from tests.simulation.process import Process
from tests.simulation.world import EXPORT_KINDS, KINDS, ROUTING_KINDS, ApiServer, Object

SERVED = tuple(each for each in OPTIONAL if each.kind in ROUTING_KINDS)
EXPORTED = tuple(each for each in OPTIONAL if each.kind in EXPORT_KINDS)
GUARD_MS = 3000
PAUSE_MS = 5000
STALE_AFTER_MS = 15_000
SNAPSHOT_MS = 20_000
BLOCKED_MS = 12_000
"""For how long the changes of a cluster wait at the most, where they do (for a lease, say)."""

_TAIL = 8
_END = {"k8s.io/initial-events-end": "true"}
_GARBAGE: tuple[Any, ...] = (None, 7, "text", {}, {"metadata": {}}, {"metadata": {"name": 1, "namespace": "shop"}})


class Superseded(Exception):
    """Another watcher has a higher epoch."""


class Connection:
    """An open watch: the revision that was sent, how far its server is behind, and what is left of a list."""

    def __init__(self, position: int, visible: int, lag: int, initial: list[Object] | None) -> None:
        self.position = position
        self.visible = visible
        self.lag = lag
        self.initial = initial


class Watcher:
    """`done` once it has ended; its `process` may go on, with other clusters."""

    def __init__(self, sim: Base, server: ApiServer, process: Process) -> None:
        self.sim = sim
        self.rng = sim.rng
        self.server = server
        self.process = process
        self.writer = process.writer
        self.done = False
        self.covered: CoveredCluster | None = None
        process.sessions[server.cluster] = self
        self.inbox: list[tuple[str, list[ReflectorEvent]]] = []
        self.reflectors: dict[str, Reflector] = {}
        self.collector = Collector(
            server.cluster, epoch=0, writer=process.writer, seq=0, partitions=sim.partitions, resources=RESOURCES
        )
        self._optional = (*(SERVED if sim.gateway_api else ()), *(EXPORTED if sim.exports else ()))
        for resource in self._optional:
            self.collector.follow(resource)
        self._kinds = (*KINDS, *(each.kind for each in self._optional))
        self._connections: dict[str, Connection | None] = dict.fromkeys(self._kinds)
        self._contact = dict.fromkeys(KINDS, sim.ms)
        self._home = partition_of("", server.cluster, sim.partitions)
        self._written = process.written
        self._blocked_until = 0
        self._since = (0, 0)
        self._guarded = self._awake = self._stale_from = sim.ms
        self._snapshot_at = sim.ms + SNAPSHOT_MS
        self._at = ""
        self._writing = self._main()

    @property
    def idle(self) -> bool:
        """Whether all that the API server has is in the journal."""
        return (
            not self.inbox
            and self.collector.settled
            and not self.collector.commits.stale_since
            and all(
                not each.listing and int(each.resource_version) == self.server.revision
                for each in self.reflectors.values()
            )
            and all(int(each) == self.server.revision for each in self.collector.commits.frontier.values())
        )

    def listen(self) -> None:
        """Something comes, or not, of one resource type."""
        if not self.reflectors or self.done:
            return
        for kind in self._some_kinds():
            if kind != self.sim.slow_kind or not self.reflectors[kind].listing or self.rng.random() < 0.1:
                self._listen(kind)

    def write(self) -> None:
        """Go on to the next point where another process may come between."""
        if self.done:
            return
        self.process.write()
        try:
            next(self._writing)
        except Superseded:
            self.end()

    def end(self) -> None:
        """Its session ends; the process says so, if it goes on."""
        self.done = True
        if self.covered is not None:
            self.process.progress.close(self.covered)

    def cut(self) -> None:
        """Connections break."""
        kinds = (*self._some_kinds(), *self._some_kinds()) if self._optional else self._some_kinds()
        for kind in kinds:
            if self._connections[kind] is not None:
                self._close(kind)

    def _some_kinds(self) -> Sequence[str]:
        """One, or several of what there is less of, in any order."""
        kind = self.rng.choice(self._kinds[: len(KINDS) + 1])
        return (kind,) if kind in KINDS else self.rng.choices(self._kinds[len(KINDS) :], k=self.rng.randrange(1, 13))

    # ---- in ------------------------------------------------------------------------------------------

    def _listen(self, kind: str) -> None:
        server, reflector = self.server, self.reflectors[kind]
        if server.down:
            if self._connections[kind] is not None:
                self._close(kind)
            return
        if kind in KINDS:  # The others say nothing of the cluster's state.
            self._contact[kind] = self.sim.ms
        connection = self._connections[kind]
        if self._optional and connection is not None and self._is_quiet(connection):
            return
        try:
            if connection is None:
                request = reflector.request()
                lag = self.sim.lag()
                visible = max(server.revision - lag, min(server.revision, 10))
                if not request.watch:
                    self._page(kind, reflector, request.params.get("continue", ""), visible)
                    return
                connection = self._connect(kind, reflector, dict(request.params), visible, lag)
                if connection is None:
                    return
            self._deliver(kind, reflector, connection)
        except LaggingServer:
            self.sim.note("list refused, its server is behind")
            self._close(kind)

    def _is_quiet(self, connection: Connection) -> bool:
        return connection.initial is None and connection.position == self.server.revision

    def _close(self, kind: str) -> None:
        self._connections[kind] = None
        self.reflectors[kind].interrupted()

    def _gone(self, reflector: Reflector) -> None:
        self.sim.note("410, listed again")
        reflector.expired()

    def _page(self, kind: str, reflector: Reflector, token: str, visible: int) -> None:
        revision, _, index = token.partition(":")
        at, start = (int(revision), int(index)) if token else (visible, 0)
        if token and at < self.server.compacted:
            self._gone(reflector)
            return
        items = self.server.listed(kind, at)
        end = start + self.rng.randrange(1, 5)
        meta = {"resourceVersion": str(at), "continue": f"{at}:{end}" if end < len(items) else ""}
        self._take(kind, list(reflector.page({"metadata": meta, "items": items[start:end]})))

    def _connect(
        self, kind: str, reflector: Reflector, params: dict[str, str], visible: int, lag: int
    ) -> Connection | None:
        asked = int(params["resourceVersion"] or 0)
        initial = None
        if "sendInitialEvents" in params:
            if not self.sim.streaming:
                reflector.unsupported()
                return None
            if visible < asked and self.rng.random() < 0.5:
                reflector.expired()
                return None
            initial = self.server.listed(kind, visible)
            self.rng.shuffle(initial)
            connection = Connection(visible, visible, lag, initial)
        else:
            if asked < self.server.compacted:
                self._gone(reflector)
                return None
            connection = Connection(asked, max(asked, visible), lag, None)
        self._connections[kind] = connection
        return connection

    def _deliver(self, kind: str, reflector: Reflector, connection: Connection) -> None:
        rng, server = self.rng, self.server
        said: list[tuple[str, Any]] = []
        count = rng.randrange(1, 6)
        connection.visible = max(connection.visible, server.revision - connection.lag)
        if rng.random() < 0.3:
            connection.lag = 0
        if connection.initial:
            said = [("ADDED", connection.initial.pop()) for _ in range(min(count, len(connection.initial)))]
        elif connection.position < server.compacted and rng.random() < 0.5:
            self._connections[kind] = None
            self._gone(reflector)
            return
        else:
            said, done = self._events(kind, connection, count)
            if connection.initial is not None:
                if done or rng.random() < 0.5:
                    meta: Object = {"resourceVersion": str(connection.position), "annotations": _END}
                    said.append(("BOOKMARK", {"metadata": meta}))
                    connection.initial = None
            elif done and rng.random() < self.sim.bookmarks:
                connection.position = connection.visible
                said.append(("BOOKMARK", {"metadata": {"resourceVersion": str(connection.visible)}}))
        if self.sim.bad and rng.random() < (0.04 if kind in KINDS else 0.003):
            said.insert(rng.randrange(len(said) + 1), (rng.choice(("ADDED", "MODIFIED")), rng.choice(_GARBAGE)))
        events: list[ReflectorEvent] = []
        for operation, item in said:
            for _ in range(self.sim.times("event")):
                events.extend(reflector.event(operation, item))
        self._take(kind, events)

    def _events(self, kind: str, connection: Connection, count: int) -> tuple[list[tuple[str, Any]], bool]:
        found = self.server.events(kind, connection.position, connection.visible)
        sent = found[:count]
        if sent:
            connection.position = sent[-1][0]
        return [(operation, item) for _, operation, item in sent], len(sent) == len(found)

    def _take(self, kind: str, events: list[ReflectorEvent]) -> None:
        if events:
            self.inbox.append((kind, events))

    # ---- out -----------------------------------------------------------------------------------------

    def _main(self) -> Iterator[None]:
        before = yield from self._claim()
        self.reflectors = {
            each.kind: Reflector(before.frontier.get(each.frontier, ""), self.sim.streaming_first, each.namespaced)
            for each in (*RESOURCES, *self._optional)
        }
        self._contact = dict.fromkeys(KINDS, self.sim.ms)
        self._guarded = self._awake = self._stale_from = self.sim.ms
        sim, covered = self.sim, self.process.progress.open(self.collector.commits)
        self.covered = covered
        while True:
            yield
            if self._is_blocked(covered) or not (self.inbox or self._is_due()):
                continue
            count = self.rng.randrange(1, 40 if self._optional else 6)
            batches, self.inbox = self.inbox[:count], self.inbox[count:]
            if sim.ms - self._awake > PAUSE_MS:
                self._stale_from = sim.ms + STALE_AFTER_MS
                self._check()
            elif sim.ms - self._guarded > GUARD_MS:
                self._check()
            self._awake = sim.ms
            if self.rng.random() < 0.1:
                yield
            early: list[JournalRecord] = []
            for kind, events in batches:
                if any(event.kind is not Kind.BOOKMARK for event in events):
                    covered.has_news = True
                for event in events:
                    if self.collector.has_pending(kind, event):
                        early += self.collector.flush(self._at)
                    self.collector.ingest(kind, event)
            records = self._records(early)
            covered.is_writing = True
            yield from self._publish(records)
            covered.wrote(records, sim.ms / 1000)
            covered.is_writing = False

    def _is_blocked(self, covered: CoveredCluster) -> bool:
        """Whether what has come must not be written yet. Mostly nothing is in the way."""
        rng, ms = self.process.rng, self.sim.ms
        if self.sim.blocks and self.inbox and ms > self._blocked_until and rng.random() < 0.02:
            self._blocked_until = ms + rng.randrange(BLOCKED_MS)
            self.sim.note("changes had to wait")
        covered.is_blocked = self.sim.blocks and bool(self.inbox) and ms < self._blocked_until
        return covered.is_blocked

    def _is_due(self) -> bool:
        """Whether something is to be written although nothing came."""
        return self._will_turn() or (self.sim.ms >= self._snapshot_at and self.collector.settled)

    def _records(self, early: list[JournalRecord]) -> list[JournalRecord]:
        collector, ms = self.collector, self.sim.ms
        self._at = at = self.process.at()
        turned = self._turn_stale()
        records = early + collector.flush(at)
        if ms >= self._snapshot_at and collector.settled:
            records += collector.snapshot(at)
            self._snapshot_at = ms + SNAPSHOT_MS
            if self.covered is not None:
                self.covered.tell_again()
        elif turned:
            records += collector.heartbeat(at)
        return records

    def _will_turn(self) -> bool:
        commits, ms = self.collector.commits, self.sim.ms
        stale = ms - min(self._contact.values()) > STALE_AFTER_MS and ms >= self._stale_from
        return stale != bool(commits.stale_since) and (commits.synced or not stale)

    def _turn_stale(self) -> bool:
        commits = self.collector.commits
        if not self._will_turn():
            return False
        commits.stale_since = "" if commits.stale_since else self.process.clock(min(self._contact.values()))
        return True

    def _publish(self, records: list[JournalRecord]) -> Iterator[None]:
        return self.process.publish(records, self.rng, self.server.cluster.encode())

    # ---- epochs --------------------------------------------------------------------------------------

    def _claim(self) -> Iterator[None]:
        collector, log = self.collector, self.sim.journal[self._home]
        while True:
            self._since = (log.end, self._written[self._home])
            yield
            standing = self._standing()
            yield
            collector.commits.epoch = max(collector.commits.epoch, standing.epoch) + 1
            collector.commits.seq = max(collector.commits.seq, standing.seq)
            since = self._since[0]
            yield from self._publish([collector.begin_in(self._home, self.process.clock())])
            yield
            openers = [
                each["writer"]
                for _, each in self._commits(self._home, since)
                if each["epoch"] >= collector.commits.epoch and log.begin <= since
            ]
            opener = openers[0] if openers else ""
            if opener == self.writer:
                yield from self._publish(collector.begin(self.process.clock()))
                yield
                before = self._standing()
                collector.commits.seq = max(collector.commits.seq, before.seq)
                return standing._replace(frontier=before.frontier or standing.frontier)

    def _standing(self) -> Standing:
        return standing_in(self, self._home, self.sim.partitions, _TAIL)

    def newest_seal(self, partition: int) -> Stamp | None:
        """The cluster's newest seal in the frontend table."""
        seal = self._newest_seal(partition)
        if seal is None:
            return None
        return Stamp(seal["offset"], seal["epoch"], seal["seq"], seal["frontier"], seal.get("closed", False))

    def sealed_to(self, partition: int) -> int:
        """The highest offset that the frontend table has sealed."""
        seals = [
            each for each in self.sim.tables["frontend", partition].records if (each.key or b"").startswith(SEAL_PREFIX)
        ]
        readable = [
            each for each in seals if each.value and not unreadable("frontend", each.key, each.value, each.version)
        ]
        is_sure = len(readable) == len(seals) and all(each.version < self.sim.journal[partition].end for each in seals)
        return max((each.version for each in readable), default=-1) if is_sure else -1

    def _newest_seal(self, partition: int) -> dict[str, Any] | None:
        key = b"~seal/" + self.server.cluster.encode()
        records = [
            each
            for each in self.sim.tables["frontend", partition].records
            if each.key == key and each.value and not unreadable("frontend", key, each.value, each.version)
        ]
        within = [each for each in records if each.version < self.sim.journal[partition].end]
        records = within or records
        if not records:
            return None
        newest: dict[str, Any] = orjson.loads(max(records, key=lambda record: record.version).value or b"")
        return newest

    def bounds(self, partition: int) -> tuple[int, int]:
        """Where a journal partition begins and ends."""
        log = self.sim.journal[partition]
        return log.begin, log.end

    def stamps(self, partition: int, start: int, end: int) -> Iterator[Stamp]:
        """The cluster's commits."""
        for offset, commit in self._commits(partition, start):
            if offset < end:
                yield Stamp(offset, commit["epoch"], commit["seq"], commit["frontier"], commit.get("phase") == "close")

    def _commits(self, partition: int, start: int) -> Iterator[tuple[int, Any]]:
        for record in self.sim.journal[partition].records:
            value = record.value or b""
            if record.offset < start or not (record.key or value.startswith(PROGRESS)):
                continue
            commit = orjson.loads(value)
            for said in commit.get("clusters", (commit,)):
                if said.get("cluster") == self.server.cluster:
                    yield record.offset, {**said, "writer": commit["writer"]}

    def _check(self) -> None:
        log = self.sim.journal[self._home]
        self._guarded = self.sim.ms
        since, written = self._since
        if log.end - since == self._written[self._home] - written:
            self._since = (log.end, self._written[self._home])
            return
        epoch = self.collector.commits.epoch
        read = [each for _, each in self._commits(self._home, since)]
        others = [each for each in read if each["epoch"] > epoch or each.get("phase") != "begin"]
        self._since = (log.end, self._written[self._home])
        if log.begin > since and (seal := self._newest_seal(self._home)) is not None:
            others.append(seal)
        if any(each["epoch"] >= epoch and each["writer"] != self.writer for each in others):
            raise Superseded


class Forgetter(Watcher):
    """`facets clusters forget`: claims an epoch as a watcher does, and closes the cluster in it."""

    def _main(self) -> Iterator[None]:
        yield from self._claim()
        yield from self._publish(self.collector.close(self.process.clock()))
        self.sim.note("cluster forgotten")
        self.done = True
        yield
