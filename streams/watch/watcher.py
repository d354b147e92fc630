"""The watcher: writes clusters' objects to the journal, one epoch of each cluster at a time."""

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any, NamedTuple

from streams.exit_codes import ExitCode
from streams.kafka.admin import config, ensure, require
from streams.kafka.journal import EpochGuard, Publisher, Superseded, claim_epoch
from streams.kafka.journal_reader import JournalReader
from streams.kube.api_server import (
    TRANSIENT,
    ApiServer,
    ClusterUnusable,
    Expired,
    ServerBehind,
    ServerBusy,
    Undecodable,
)
from streams.kube.clusters import ClusterConfig, cluster_configs
from streams.kube.lease import DURATION_SECONDS, RENEW_SECONDS, Lease, LeaseLost
from streams.kube.list_watch import SERVER_RETRY, WatchTimes
from streams.objects.collector import Collector
from streams.objects.resources import RESOURCES
from streams.runtime.probes import Readiness
from streams.runtime.retry import retry
from streams.runtime.shutdown import closed
from streams.watch.budget import Budget
from streams.watch.discovery import DISCOVERY_SHARE, Served, discover_at_start
from streams.watch.progress import ProcessProgress
from streams.watch.session import Progress, Session, now
from streams.wire.clusterset_records import DropPolicy
from streams.wire.records import JOURNAL
from streams.wire.topics import JOURNAL_RETENTION_SECONDS

__all__ = ["ClusterConfig", "Progress", "WatchOptions", "cluster_configs", "run_watchers"]

log = logging.getLogger("facets.watch")

SNAPSHOTS_PER_RETENTION = 5
"""At least four are promised; the fifth allows for a late one."""

_CLOSE_SECONDS = 2.0
"""How long a watcher waits for each of its connections to close."""


class WatchOptions(NamedTuple):
    """How to watch; times are in seconds. `accept_older_list` accepts an API server's list although the journal
    has newer objects: it was restored from a backup. `routing_defaults` are `service` or `endpoint`, by direction, for
    Services whose operator sets nothing; `drop` is the policy of ServiceExports that have none of their own, for when
    nothing is heard of the cluster."""

    stale_after: float = 60.0
    accept_older_list: bool = False
    lease: bool = False
    lease_namespace: str = "default"
    lease_duration: int = DURATION_SECONDS
    lease_renew: float = RENEW_SECONDS
    routing_defaults: Mapping[str, str] = MappingProxyType({})
    drop: DropPolicy | None = None
    times: WatchTimes = WatchTimes()
    create_topics: bool = False


async def run_watchers(
    configs: Sequence[ClusterConfig],
    bootstrap: str,
    *,
    stop: asyncio.Event,
    options: WatchOptions | None = None,
    on_progress: Progress | None = None,
    accept_older_list: bool = False,
    readiness: Readiness | None = None,
) -> None:
    """Watch the clusters until `stop`. `accept_older_list` is short for the option of that name; `readiness` gets a
    need for each cluster.

    If another watcher takes a cluster over, only that cluster ends; every other failure ends all.
    Raises FacetsError.
    """
    chosen = options or WatchOptions(accept_older_list=accept_older_list)
    partitions = await asyncio.to_thread(ensure if chosen.create_topics else require, bootstrap)
    retention = _seconds((await asyncio.to_thread(config, bootstrap, JOURNAL)).get("retention.ms", ""))
    journal = _Journal(bootstrap, partitions)
    sharing = _Sharing(DISCOVERY_SHARE * len(configs), has_others=len(configs) > 1)
    watchers = [
        _ClusterWatcher(cluster, journal, retention / SNAPSHOTS_PER_RETENTION, sharing, chosen, on_progress)
        for cluster in configs
    ]
    if readiness is not None:
        readiness.needs = {f"cluster {watcher.name}": watcher.not_ready for watcher in watchers}
    async with journal:
        await _run_all([watcher.run(stop) for watcher in watchers], journal)


async def _run_all(runs: Iterable[Coroutine[Any, Any, None]], journal: "_Journal") -> None:
    """Until all have ended, or the first fails otherwise than by a takeover."""
    running = {asyncio.create_task(run) for run in runs}
    tasks = [*running, progress := asyncio.create_task(journal.run())]
    superseded: Superseded | None = None
    try:
        while running:
            done, _ = await asyncio.wait({*running, progress}, return_when=asyncio.FIRST_COMPLETED)
            running -= done
            for task in done:
                try:
                    await task
                except Superseded as error:
                    superseded = error
                    if running:
                        log.error("%s; the other clusters go on (%s)", error, error.remedy)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if superseded is not None:
        raise superseded


class _Journal:
    """A process's side of the journal, for all of its clusters. It connects when the first one needs it."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self.partitions = partitions
        self.writer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._bootstrap = bootstrap
        self._connecting = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._connected: asyncio.Future[JournalSide] = asyncio.get_running_loop().create_future()

    async def connect(self) -> "JournalSide":
        """Raises BrokerError."""
        async with self._connecting:
            if not self._connected.done():
                publisher = await asyncio.to_thread(Publisher, self._bootstrap, self.writer)
                self._stack.push_async_callback(publisher.close, _CLOSE_SECONDS)
                reader = await asyncio.to_thread(JournalReader, self._bootstrap)
                self._stack.push_async_callback(
                    lambda: closed("the journal's reader to disconnect", reader.close(), _CLOSE_SECONDS)
                )
                progress = ProcessProgress(publisher, reader, self.writer, self.partitions)
                self._connected.set_result(JournalSide(publisher, reader, progress))
        return self._connected.result()

    async def run(self) -> None:
        """Speak for quiet clusters, until cancelled. Raises JournalWriteFailed."""
        side = await asyncio.shield(self._connected)
        await side.progress.run()

    async def __aenter__(self) -> "_Journal":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connected.cancel()
        await self._stack.aclose()


class JournalSide(NamedTuple):
    """What a process has of the journal."""

    publisher: Publisher
    reader: JournalReader
    progress: ProcessProgress


class _Sharing(NamedTuple):
    """What a cluster has of a process: how often (in seconds) its API is looked over, and whether there are others
    whose changes must not wait for its own."""

    discovery_every: float
    has_others: bool


class _ClusterWatcher:
    """One cluster: reach it, stand by for the lease if there is one, open an epoch, and repeat when that is lost."""

    def __init__(
        self,
        cluster: ClusterConfig,
        journal: _Journal,
        snapshot_every: float,
        sharing: "_Sharing",
        options: WatchOptions,
        on_progress: Progress | None,
    ) -> None:
        self._cluster = cluster
        self._journal = journal
        self._snapshot_every = snapshot_every
        self._sharing = sharing
        self._options = options
        self._on_progress = on_progress
        self._epoch = 0
        self._session_now: Session | None = None
        self._waits_for = "its API server has not been reached yet"

    @property
    def name(self) -> str:
        """The cluster's."""
        return self._cluster.name

    def not_ready(self) -> str:
        """Why the cluster's changes don't reach the journal; "" if they do, or if this watcher stands by for the
        lease."""
        return self._waits_for if self._session_now is None else self._session_now.not_ready()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. Raises FacetsError."""
        stopping = asyncio.create_task(stop.wait())
        working = asyncio.create_task(self._work(stop))
        try:
            # A session ends by itself at `stop`; everything before it is simply cancelled.
            await asyncio.wait([stopping, working], return_when=asyncio.FIRST_COMPLETED)
            if not working.done() and not self._epoch:
                working.cancel()
            await asyncio.gather(working, return_exceptions=False)
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
        finally:
            stopping.cancel()
            working.cancel()
            await asyncio.gather(stopping, working, return_exceptions=True)

    async def _work(self, stop: asyncio.Event) -> None:
        options = self._options
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(ApiServer(self._cluster))
            totals, served = await self._reach(server)
            journal = await self._journal.connect()
            lease = None
            if options.lease:
                lease = Lease(
                    server,
                    self._cluster.name,
                    self._journal.writer,
                    namespace=options.lease_namespace,
                    duration=options.lease_duration,
                    renew=options.lease_renew,
                )
                release = lease.release
                stack.push_async_callback(lambda: closed("the lease to be released", release(), _CLOSE_SECONDS))
            while not stop.is_set():
                if lease is not None:
                    self._waits_for = ""
                    await lease.acquire()
                self._waits_for = "its epoch is not opened yet"
                try:
                    await self._session(server, journal, lease, totals, served, stop)
                except LeaseLost as error:
                    log.warning("cluster %s: %s; standing by", self._cluster.name, error)
                except Superseded as error:
                    # If the lease is still held, it is not a takeover but a watcher that doesn't use the lease.
                    if lease is None or lease.is_held:
                        self._waits_for = "another watcher has taken it over"
                        raise
                    log.warning("%s; standing by", error)
                finally:
                    self._epoch = 0
                    self._session_now = None

    async def _session(
        self,
        server: ApiServer,
        journal: JournalSide,
        lease: Lease | None,
        totals: Mapping[str, int | None],
        served: Served,
        stop: asyncio.Event,
    ) -> None:
        options = self._options
        collector = Collector(
            self._cluster.name,
            epoch=0,
            writer=self._journal.writer,
            seq=0,
            partitions=self._journal.partitions,
            cluster_domain=self._cluster.cluster_domain,
            routing_defaults=options.routing_defaults,
            drop=options.drop,
            source=self._cluster.source,
        )
        publisher, reader, progress = journal
        claim = await claim_epoch(publisher, reader, collector, now)
        self._epoch = collector.commits.epoch
        session = Session(
            server,
            publisher,
            collector,
            EpochGuard(publisher, reader, collector, claim),
            progress,
            lease=lease,
            at_least={} if options.accept_older_list else claim.before.frontier,
            served=served,
            stale_after=options.stale_after,
            times=options.times,
            discovery_every=self._sharing.discovery_every,
            snapshot_every=self._snapshot_every,
            totals=totals,
            on_progress=self._on_progress,
            budget=Budget() if self._sharing.has_others else None,
        )
        self._session_now = session
        await session.run(stop)

    async def _reach(self, server: ApiServer) -> tuple[dict[str, int | None], Served]:
        """Check that everything may be listed and watched before an epoch is opened: a watcher that can't work must not
        replace one that can. Returns the number of objects by resource, and the optional types that are served."""
        reported = ""

        async def reach() -> tuple[dict[str, int | None], Served]:
            totals = {resource.frontier: await server.preflight(resource) for resource in RESOURCES}
            return totals, await discover_at_start(server)

        def may_pass(error: Exception) -> bool:
            return isinstance(error, (*TRANSIENT, Expired, ServerBehind, ServerBusy, Undecodable))

        def report(error: Exception, _: float) -> None:
            nonlocal reported
            problem = server.explain(error)
            if problem.lasting:
                raise ClusterUnusable(
                    f"cluster {self._cluster.name}: {problem.problem}", problem.remedy, ExitCode.MISCONFIGURED
                ) from error
            # Each problem is logged once.
            level = logging.DEBUG if problem.problem == reported else logging.WARNING
            reported = problem.problem
            log.log(level, "cluster %s: %s; trying again: %s", self._cluster.name, problem.problem, problem.remedy)

        return await retry(reach, SERVER_RETRY, passes=may_pass, report=report)


def _seconds(milliseconds: str) -> float:
    """A retention.ms in seconds; for -1 (for ever) or an invalid number, the default."""
    return int(milliseconds) / 1000 if milliseconds.isdecimal() else JOURNAL_RETENTION_SECONDS
