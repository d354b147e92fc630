"""One epoch of one cluster: from lists and watches through a bounded queue into the journal, without delay.

While one write is in flight the next batch collects, so batches are small when it is quiet and grow with the load. Only
`_write` appends commits, and after a pause of this process it first makes sure that no other watcher has taken over.
While nothing changes, the process's own records speak for the cluster (`progress`).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from streams.kafka.commit_producer import DELIVERY_SECONDS
from streams.kafka.errors import BrokerError
from streams.kafka.journal import EpochGuard, Publisher
from streams.kube.api_server import ApiServer
from streams.kube.lease import Lease
from streams.kube.list_watch import ListWatch, WatchTimes
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.conflation import Conflation
from streams.objects.progress import CoveredCluster
from streams.objects.reflector import Kind, Reflector, ReflectorEvent
from streams.objects.resources import RESOURCES, Resource
from streams.runtime.retry import RetryPolicy, retry
from streams.runtime.shutdown import give_up, waiting_for
from streams.subscription.freshness import SKEW_SECONDS
from streams.watch import metrics
from streams.watch.budget import Budget
from streams.watch.discovery import OptionalResources, Served
from streams.watch.pending_write import LATE_SECONDS, PendingWrite
from streams.watch.progress import ProcessProgress
from streams.wire.records import DEAD_LETTER
from streams.wire.timestamps import write

log = logging.getLogger("facets.watch")

_GUARD_RETRY = RetryPolicy(first=0.5, longest=2.0)
"""Nothing is written meanwhile, so the pauses are short."""

_LEASE_SECONDS = 1.0
"""How often a cluster whose changes wait for the lease looks for a higher epoch."""

PAUSE_SECONDS = 5.0
PROBE_SECONDS = 5.0
SHUTDOWN_SECONDS = 5.0
MAX_STATES = 15
"""How many queued states of an object get a commit each. A longer backlog collapses."""

_QUEUE_BATCHES = 64
_DRAIN_LISTED = 1000
_DRAIN_EVENTS = 100
"""How many events are taken from the queue without giving other clusters a turn: of first lists, and after them."""

_FLOOD_SECONDS = 60.0
"""How often a cluster is named whose changes wait for its budget."""


def now() -> str:
    """The time, as commits carry it."""
    return write(datetime.now(UTC))


class Progress(Protocol):
    """Is told the progress of a cluster's first lists; `total` is None if the server doesn't tell."""

    def __call__(self, cluster: str, resource: str, listed: int, total: int | None, done: bool) -> None:
        """`listed` objects of the resource have been listed."""


class _Batch(NamedTuple):
    """Events of a resource type, or (`turn`) a call that is queued in order with them."""

    kind: str
    events: list[ReflectorEvent]
    received: float
    turn: Callable[[], None] | None = None


class Session:
    """Runs until its epoch ends. `at_least` names the resourceVersions that the first lists must have reached; without
    a `budget` its changes never wait for those of other clusters."""

    def __init__(
        self,
        server: ApiServer,
        publisher: Publisher,
        collector: Collector,
        guard: EpochGuard,
        progress: ProcessProgress,
        *,
        lease: Lease | None = None,
        at_least: Mapping[str, str] | None = None,
        served: Served | None = None,
        stale_after: float = 60.0,
        times: WatchTimes | None = None,
        discovery_every: float = 0.0,
        snapshot_every: float = 86400.0,
        totals: Mapping[str, int | None] | None = None,
        on_progress: Progress | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._server = server
        self._publisher = publisher
        self._collector = collector
        self._cluster = collector.commits.cluster
        self._guard = guard
        self._progress = progress
        self._covered: CoveredCluster | None = None
        self._lease = lease
        self._budget = budget
        self._held = Conflation()
        self._named_at = float("-inf")
        self._stale_after = stale_after
        self._snapshot_every = snapshot_every
        self._totals = totals or {}
        self._on_progress = on_progress
        at_least = at_least or {}
        self._follows = [
            ListWatch(server, resource, Reflector(at_least=at_least.get(resource.frontier, "")), self, times=times)
            for resource in RESOURCES
        ]
        for resource in (served or {}).values():
            collector.follow(resource)
        self._optional = OptionalResources(
            server, self, self, served or {}, at_least=at_least, synced=lambda: collector.commits.synced, times=times,
            every=discovery_every,
        )  # fmt: skip
        self._queue: asyncio.Queue[_Batch | None] = asyncio.Queue(_QUEUE_BATCHES)
        self._ending = False
        begun = time.monotonic()
        self._pending = PendingWrite(publisher, self._warn_late)
        self._awake = self._ticked = begun
        self._paused = 0.0
        self._snapshot_at = begun + snapshot_every
        self._stale_from = begun
        self._contact = {resource.frontier: (begun, datetime.now(UTC)) for resource in RESOURCES}
        self._confirmed = dict(self._contact)
        self._connected: set[str] = set()
        self._doubtful: set[str] = set()
        self._listing = {resource.frontier: 0 for resource in RESOURCES}
        self._last_at = ""
        self._clock_is_wrong = False
        self._early: list[list[JournalRecord]] = []

    def not_ready(self) -> str:
        """Why the cluster's changes don't reach the journal promptly; "" if they do."""
        collector = self._collector
        if not collector.commits.synced:
            return "its first lists are not complete"
        if collector.commits.stale_since:
            return f"its API server has not been reached since {collector.commits.stale_since}"
        late = max(self._pending.seconds, self._progress.write.seconds)
        return f"the journal has not acknowledged a commit for {late:.0f} s" if late > 2 * LATE_SECONDS else ""

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop`, or the end of the epoch: raises Superseded, LeaseLost, ClusterUnusable,
        JournalWriteFailed."""
        metrics.EPOCH.labels(self._cluster).set(self._collector.commits.epoch)
        self._covered = self._progress.open(self._collector.commits, self._tick)
        pump = asyncio.create_task(self._pump())
        tasks = [asyncio.create_task(list_watch.run()) for list_watch in self._follows]
        tasks += [asyncio.create_task(loop) for loop in (self._watch_epoch(), self._probe(), self._optional.run())]
        if self._lease is not None:
            tasks.append(asyncio.create_task(self._lease.keep()))
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([pump, stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                await task
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._finish(pump)
        finally:
            self._progress.close(self._covered)
            metrics.EPOCH.labels(self._cluster).set(0)
            for task in (pump, stopping, *tasks):
                task.cancel()
            await asyncio.gather(pump, stopping, *tasks, return_exceptions=True)

    async def _finish(self, pump: "asyncio.Task[None]") -> None:
        """Write what is queued; what can't be written is in the next epoch's snapshot."""
        self._ending = True
        if not self._queue.full():
            self._queue.put_nowait(None)
        what = f"the journal to acknowledge the last commits of cluster {self._cluster}"
        with waiting_for(what):
            done, _ = await asyncio.wait([pump], timeout=SHUTDOWN_SECONDS)
        for task in done:
            await task
        if not done:
            give_up(f"{what} (the next watcher's snapshot will hold what was in them)", SHUTDOWN_SECONDS)

    # ---- in: the Sink of ListWatch -----------------------------------------------------------------------

    async def take(self, resource: Resource, events: list[ReflectorEvent]) -> None:
        """Queue the events; waits while the queue is full, which delays the stream."""
        metrics.EVENTS.labels(self._cluster, resource.frontier).inc(len(events))
        if self._on_progress is not None and resource.frontier in self._listing:
            self._show(resource, events)
        await self._queue.put(_Batch(resource.kind, events, time.monotonic()))

    def connected(self, resource: Resource, open_now: bool) -> None:
        """The API server has answered for the resource. Optional ones don't affect the cluster's state."""
        if resource.frontier not in self._contact:
            return
        if open_now:
            self._connected.add(resource.frontier)
            if resource.frontier not in self._doubtful:
                self._contact[resource.frontier] = (time.monotonic(), datetime.now(UTC))
        else:
            self._connected.discard(resource.frontier)

    def confirmed(self, resource: Resource) -> None:
        """The resource's stream is alive."""
        if resource.frontier in self._contact:
            self._doubtful.discard(resource.frontier)
            answered = (time.monotonic(), datetime.now(UTC))
            self._contact[resource.frontier] = self._confirmed[resource.frontier] = answered

    def unconfirmed(self, resource: Resource) -> None:
        """The resource's streams are silent: the server's other answers no longer count as contact."""
        if resource.frontier in self._contact:
            self._doubtful.add(resource.frontier)
            self._contact[resource.frontier] = self._confirmed[resource.frontier]

    async def follow(self, resource: Resource) -> None:
        """An optional type is listed from now on."""
        await self._in_turn(lambda: self._collector.follow(resource))

    async def give_up(self, resource: Resource) -> None:
        """An optional type can't be listed for now."""
        await self._in_turn(lambda: self._collector.give_up(resource))

    async def forget(self, resource: Resource) -> None:
        """An optional type is no longer served."""
        await self._in_turn(lambda: self._collector.forget(resource))

    async def _in_turn(self, turn: Callable[[], None]) -> None:
        await self._queue.put(_Batch("", [], time.monotonic(), turn))

    def trouble(self, resource: Resource, reason: str) -> None:
        """Count a stream that will be opened again."""
        metrics.RECONNECTS.labels(self._cluster, resource.frontier, reason).inc()

    def _show(self, resource: Resource, events: list[ReflectorEvent]) -> None:
        if self._on_progress is None:
            return
        name = resource.frontier
        done = False
        for event in events:
            if event.kind is Kind.INIT:
                self._listing[name] = 0
            elif event.kind is Kind.INIT_APPLY:
                self._listing[name] += 1
            elif event.kind is Kind.INIT_DONE:
                done = True
        self._on_progress(self._cluster, name, self._listing[name], self._totals.get(name), done)
        if done:
            del self._listing[name]

    # ---- out: the only writer --------------------------------------------------------------------------

    async def _pump(self) -> None:
        received: float | None = None
        while True:
            wait = self._wait_seconds()
            batches = await self._next(wait)
            await self._ensure_epoch_current(news=any(batch.events or batch.turn for batch in batches))
            for batch in batches:
                self._receive(batch)
            times = [batch.received for batch in batches if batch.events]
            received = min(times if received is None else [received, *times], default=None)
            if self._wait_seconds():
                self._name_flood()
                # What has its number must not be overtaken by what the process says of the cluster.
                await self._write_early()
                continue
            self._release()
            await self._write(received)
            received = None
            if self._ending and self._queue.empty():
                return

    async def _next(self, wait: float) -> list[_Batch]:
        """The batches in the queue, or the first that arrives; none if there are changes that `wait` for the budget,
        and nothing comes meanwhile."""
        batches: list[_Batch] = []
        count = 0
        if self._queue.empty() and not self._ending:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait or None):
                    first = await self._queue.get()
                if first is not None:
                    batches.append(first)
                    count = len(first.events)
        most = _DRAIN_EVENTS if self._collector.commits.synced else _DRAIN_LISTED
        while count < most and not self._queue.empty():
            more = self._queue.get_nowait()
            if more is not None:
                batches.append(more)
                count += len(more.events)
        if not self._queue.empty():
            await asyncio.sleep(0)
        return batches

    def _wait_seconds(self) -> float:
        """How long changes that are collected have to wait for the cluster's budget."""
        collector = self._collector
        if self._budget is None or self._ending or not (collector.commits.synced and collector.pending):
            return 0.0
        return self._budget.wait_seconds(collector.objects, time.monotonic())

    def _name_flood(self) -> None:
        metrics.DEFERRED.labels(self._cluster).inc()
        now = time.monotonic()
        if now - self._named_at > _FLOOD_SECONDS:
            self._named_at = now
            log.warning(
                "cluster %s: its Services change faster than its share of this process: what waits is written together "
                "(does a controller write an object again and again?)",
                self._cluster,
            )

    async def _ensure_epoch_current(self, *, news: bool) -> None:
        """After a pause, or without the lease, check that the epoch is still ours before anything is written."""
        lease = self._lease
        pause = max(self._paused, time.monotonic() - max(self._awake, self._ticked))
        if pause > PAUSE_SECONDS:
            log.info(
                "cluster %s: %.0f s without a turn; looking for a higher epoch first",
                self._cluster,
                pause,
            )
            self._stale_from = time.monotonic() + self._stale_after
            await self._check()
        self._paused = 0.0
        while lease is not None and not lease.is_held:
            # Events wait until the lease is renewed, and meanwhile the cluster does not pass for alive. Without events
            # it does, as the rows must become stale if it is the API server that is away; whoever has taken the lease
            # meanwhile has opened a higher epoch.
            await self._check()
            if not news or self._ending:
                break
            self._set_blocked(True)
            await asyncio.sleep(_LEASE_SECONDS)
        self._set_blocked(False)
        self._awake = time.monotonic()

    def _set_blocked(self, blocked: bool) -> None:
        if self._covered is not None:
            self._covered.is_blocked = blocked

    async def _check(self) -> None:
        await retry(
            self._guard.check,
            _GUARD_RETRY,
            passes=lambda error: isinstance(error, BrokerError),
            report=lambda error, _: log.warning("cluster %s: %s; trying again", self._cluster, error),
            ending=lambda: self._ending,
        )

    def _receive(self, batch: _Batch) -> None:
        """Ingest events; while changes wait for the budget, hold them instead."""
        if self._covered is not None and any(event.kind is not Kind.BOOKMARK for event in batch.events):
            self._covered.has_news = True
        if batch.turn is None and self._wait_seconds() and self._held.hold(batch.kind, batch.events):
            return
        self._release()
        if batch.turn is not None:
            batch.turn()
        for event in batch.events:
            is_early = self._collector.has_pending(batch.kind, event) and len(self._early) < MAX_STATES
            if is_early and not self._wait_seconds():
                self._early.append(self._flush(self._now()))
            self._ingest(batch.kind, event)

    def _release(self) -> None:
        """Ingest what was held."""
        for kind, event in self._held.release():
            self._ingest(kind, event)

    def _ingest(self, kind: str, event: ReflectorEvent) -> None:
        collector = self._collector
        before = collector.malformed
        collector.ingest(kind, event)
        if collector.malformed != before:
            metrics.MALFORMED.labels(self._cluster, kind).inc(collector.malformed - before)
            log.warning("cluster %s: %s; see topic %s", self._cluster, collector.last_malformed, DEAD_LETTER)

    async def _write(self, received: float | None) -> None:
        collector = self._collector
        at = self._now()
        tick = time.monotonic()
        turned = self._turn_stale(tick)
        was_synced = collector.commits.synced
        records = [record for flushed in self._early for record in flushed] + self._flush(at)
        self._early = []
        if tick >= self._snapshot_at and collector.settled:
            log.info("cluster %s: writing a full snapshot of %d objects", self._cluster, collector.objects)
            records += collector.snapshot(at)
            self._snapshot_at = tick + self._snapshot_every
            if self._covered is not None:
                self._covered.tell_again()
        elif turned:
            records += collector.heartbeat(at)
        if not records:
            return
        await self._publish(records)
        self._account(records, received)
        if collector.commits.synced and not was_synced:
            log.info(
                "cluster %s: epoch %d: %d objects are in the journal",
                self._cluster,
                collector.commits.epoch,
                collector.objects,
            )

    async def _write_early(self) -> None:
        early, self._early = [record for flushed in self._early for record in flushed], []
        if early:
            await self._publish(early)

    async def _publish(self, records: list[JournalRecord]) -> None:
        covered = self._covered
        if covered is not None:
            covered.is_writing = True
        await self._pending.publish(records)
        if covered is not None:
            covered.wrote(records, time.monotonic())
            covered.is_writing = False

    def _flush(self, at: str) -> list[JournalRecord]:
        collector = self._collector
        if self._budget is not None and collector.commits.synced:
            self._budget.spend(collector.pending_services, collector.objects, time.monotonic())
        return collector.flush(at)

    def _account(self, records: list[JournalRecord], received: float | None) -> None:
        collector = self._collector
        done = time.monotonic()
        metrics.COMMITS.labels(self._cluster, "live" if collector.commits.synced else "snapshot").inc(len(records))
        metrics.OBJECTS.labels(self._cluster).set(collector.objects)
        self._check_clock()
        if received is not None:
            metrics.LAG.labels(self._cluster).observe(done - received)

    def _check_clock(self) -> None:
        """Warn, once, if this machine's clock and the broker's differ: the times in all rows are this machine's."""
        skew = self._publisher.skew_seconds
        metrics.CLOCK_SKEW.labels(self._cluster).set(skew)
        wrong = abs(skew) > SKEW_SECONDS
        if wrong and not self._clock_is_wrong:
            way = "ahead of" if skew > 0 else "behind"
            log.warning("cluster %s: this machine's clock is %.1f s %s Kafka's: synchronize both (NTP)",
                        self._cluster, abs(skew), way)  # fmt: skip
        self._clock_is_wrong = wrong

    def _warn_late(self) -> None:
        log.warning(
            "cluster %s: the journal has not acknowledged a commit for %.0f s; is the broker there? Trying for %d s",
            self._cluster,
            LATE_SECONDS,
            DELIVERY_SECONDS,
        )

    def _turn_stale(self, tick: float) -> bool:
        """Set or clear the stale time of the cluster; whether it changed."""
        collector = self._collector
        last_at = min(self._contact.values())[1]
        if not self._will_turn(tick):
            return False
        stale = not collector.commits.stale_since
        collector.commits.stale_since = write(last_at) if stale else ""
        if stale:
            log.warning(
                "cluster %s: out of touch since %s; its rows are marked stale",
                self._cluster,
                write(last_at),
            )
        else:
            log.info("cluster %s: in touch again", self._cluster)
        return True

    def _will_turn(self, tick: float) -> bool:
        commits = self._collector.commits
        stale = tick - min(self._contact.values())[0] > self._stale_after and tick >= self._stale_from
        return stale != bool(commits.stale_since) and (commits.synced or not stale)

    def _tick(self, tick: float) -> None:
        """Each second: note a pause of the process, and write something although no events came, if it's time: the
        cluster turns stale, or a snapshot is due."""
        self._paused = max(self._paused, tick - self._ticked)
        self._ticked = tick
        metrics.CONTACT.labels(self._cluster).set(min(self._contact.values())[1].timestamp())
        has_paused = self._paused > PAUSE_SECONDS
        is_due = has_paused or self._will_turn(tick) or (tick >= self._snapshot_at and self._collector.settled)
        if is_due and self._queue.empty() and not self._pending.is_under_way:
            self._queue.put_nowait(_Batch("", [], tick))

    def _now(self) -> str:
        """The time of a commit; it never goes back, even if the clock does."""
        self._last_at = max(self._last_at, now())
        return self._last_at

    # ---- background loops ---------------------------------------------------------------------------------------

    async def _watch_epoch(self) -> None:
        while True:
            ends = await self._progress.next_ends()
            try:
                await self._guard.check(ends)
            except BrokerError as error:
                log.debug("cluster %s: %s", self._cluster, error)

    async def _probe(self) -> None:
        """Streams of a quiet cluster are silent for up to a minute: probe the server to tell a dead one from a quiet
        one."""
        while True:
            await asyncio.sleep(min(PROBE_SECONDS, self._stale_after / 4))
            old = time.monotonic() - min(15.0, self._stale_after / 3)
            quiet = [name for name in self._connected - self._doubtful if self._contact[name][0] < old]
            if quiet and await self._server.reachable():
                answered = (time.monotonic(), datetime.now(UTC))
                for name in quiet:
                    if name in self._connected - self._doubtful:
                        self._contact[name] = answered
