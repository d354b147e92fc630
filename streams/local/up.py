"""Broker, watchers, a worker, a server and an index together: what `facets up` runs."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import psutil
from rich.console import Console

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.kafka.admin import ensure
from streams.kafka.journal import Superseded
from streams.kube.clusters import ClusterConfig, cluster_configs
from streams.local.demo_server import DemoServer
from streams.local.kafka.broker import EmbeddedKafka
from streams.local.local_data import SERVER_DETAIL, UP_LOCK
from streams.local.outage import Outage
from streams.local.ports import LOOPBACK, WantedPort, find_port
from streams.local.supervisor import CHILD_STOP_SECONDS, BrokerPart, ChildProcess, Restarts, keep_running
from streams.local.up_sets import SetTally
from streams.local.up_tally import ChangeLines, Tally
from streams.objects.multicluster import DROP_AFTER
from streams.runtime import folders, processes, shutdown
from streams.runtime.probes import Readiness, probe_server
from streams.runtime.process_lock import LockHeld, Owner, ProcessLock
from streams.subscription.client import Batch, Snapshot, Subscriber
from streams.watch.cluster_registry import DEMO, forget_cluster, forget_demo
from streams.watch.watcher import WatchOptions, run_watchers
from streams.wire.records import CLUSTERSET, FOLDED_TABLES

log = logging.getLogger("facets.up")

STOP_SECONDS = 14.0
"""From a signal to the end, whatever hangs: the parts' time to stop, and then the broker's."""

_PARTS_STOP_SECONDS = CHILD_STOP_SECONDS + 0.5
_BROKER_STOP_SECONDS = 3.0
_DEMO_STOP_SECONDS = 1.0
_END_DEMO_SECONDS = 4.0
_SETTLE_SECONDS = 20
_LEFTOVER_SECONDS = 5.0
_BROKER_RESTARTS = Restarts(attempts=5)

_DEMO_DROP = {DROP_AFTER: "4s"}
DEMO_EXPORTS = {
    ("shop", "cart"): _DEMO_DROP,
    ("shop", "web"): _DEMO_DROP,
    ("payments", "ledger"): _DEMO_DROP,
    ("shop", "images"): {},
}
"""What each of the demo's clusters exports; `images` is an ExternalName, which can't be."""

_DEMO_OUTAGE = Outage("west", begins=7, lasts=11, every=90)
_DEMO_STALE_AFTER = 3.0
"""In seconds, so that the outage is seen; a real API server is given a minute."""

_T = TypeVar("_T")


class UpOptions(NamedTuple):
    """The options of `facets up`."""

    demo: bool = False
    speed: float = 1.0
    seconds: float | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    clusters: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    bootstrap: str | None = None
    web_port: WantedPort = WantedPort("--web-port", 6066)
    xds_port: WantedPort = WantedPort("--xds-port", 18000)
    http_port: WantedPort = WantedPort("--http-port", 8080)
    watch_port: WantedPort = WantedPort("--watch-port", 6067)
    routing_defaults: Mapping[str, str] = MappingProxyType({})


class _Stopped(Exception):
    """It was stopped before everything ran."""


async def run(options: UpOptions, stop: asyncio.Event) -> int:
    """Run until `stop`, the time given, or a permanent failure of a part; the exit code. Raises FacetsError."""
    # Checked before anything is started.
    clusters = None if options.demo else _clusters(options, options.kubeconfig)
    owner = Owner.this_process()
    async with contextlib.AsyncExitStack() as stack:
        try:
            lock = stack.enter_context(ProcessLock(folders.data_dir() / UP_LOCK, owner))
        except LockHeld as error:
            raise _already_runs(error.owner) from None
        except OSError as error:
            raise FacetsError(
                f"the data folder {folders.data_dir()} can't be used: {error.strerror or error}",
                "free space, or name another with FACETS_DATA_DIR", ExitCode.IO_ERROR,
            ) from error  # fmt: skip
        try:
            await _unless(stop, asyncio.to_thread(_end_leftovers, lock.previous))
            return await _Up(options, stop, stack, owner, lock).run(clusters)
        except _Stopped:
            return ExitCode.OK


class _Up:
    """One run. `stack` ends what was started, in reverse order."""

    def __init__(
        self, options: UpOptions, stop: asyncio.Event, stack: contextlib.AsyncExitStack, owner: Owner, lock: ProcessLock
    ) -> None:
        self._options = options
        self._stop = stop
        self._stack = stack
        self._owner = owner
        self._lock = lock
        self._ending = asyncio.Event()
        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
        self._out = Console(soft_wrap=True, highlight=False)
        self._tally = Tally(ChangeLines(self._out.print))
        self._sets = SetTally(ChangeLines(self._out.print))
        self._bootstrap = options.bootstrap or ""

    async def run(self, clusters: list[ClusterConfig] | None) -> int:
        """Start everything, wait, stop everything; the exit code."""
        options = self._options
        choices = (options.web_port, options.xds_port, options.http_port, options.watch_port)
        ports = {choice.option: find_port(choice) for choice in choices}
        for _, moved in ports.values():
            if moved:
                log.warning("%s", moved)
        web_port, xds_port, http_port, watch_port = (str(number) for number, _ in ports.values())
        broker = None if options.bootstrap else await self._start_broker()
        partitions = await _unless(self._stop, asyncio.to_thread(ensure, self._bootstrap))
        self._console.print(f"Kafka at {self._bootstrap}, {partitions} partitions a topic")
        if clusters is None:
            demo = DemoServer(speed=options.speed, forever=True, exports=DEMO_EXPORTS, outage=_DEMO_OUTAGE)
            await demo.start()
            self._stack.push_async_callback(self._stop_demo, demo)
            clusters = [cluster._replace(source=DEMO) for cluster in _clusters(options, demo.kubeconfig)]
            self._console.print(f"Demo: {_DEMO_OUTAGE}")
        else:
            await _unless(self._stop, self._end_killed_demo())
        self._owner.details.update({"Kafka": self._bootstrap, SERVER_DETAIL: f"http://127.0.0.1:{http_port}"})
        self._lock.write()
        watch = functools.partial(self._watch, clusters, int(watch_port))
        tasks = self._start_parts(broker, watch, web_port, xds_port, http_port)
        self._console.print(
            f"Table views at http://127.0.0.1:{web_port}/v1/backend/CLUSTER/NAMESPACE/NAME, "
            f"xDS at 127.0.0.1:{xds_port}, HTTP at http://127.0.0.1:{http_port}, "
            f"watcher's health at http://127.0.0.1:{watch_port}/readyz; Ctrl-C stops"
        )
        stopped = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait(
            {*tasks.values(), stopped}, timeout=options.seconds, return_when=asyncio.FIRST_COMPLETED
        )
        failed = [name for name, task in tasks.items() if task in done]
        if not done and not self._tally.materialized:
            settled = asyncio.create_task(self._tally.first.wait())
            await asyncio.wait({stopped, settled}, timeout=_SETTLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            settled.cancel()
        stopped.cancel()
        await self._end(tasks)
        self._out.print()
        self._out.print(self._tally.summary())
        if (sets := self._sets.summary()) is not None:
            self._out.print()
            self._out.print(sets)
        for name in failed:
            await tasks[name]
        if options.seconds is not None and not self._stop.is_set() and not self._tally.materialized:
            raise FacetsError(
                "no table was materialized in that time", "the log above says why; or give it longer (--for)"
            )
        return ExitCode.OK

    def _start_parts(
        self,
        broker: EmbeddedKafka | None,
        watch: Callable[[asyncio.Event], Awaitable[None]],
        web_port: str,
        xds_port: str,
        http_port: str,
    ) -> dict[str, asyncio.Task[None]]:
        kafka = ("--bootstrap-servers", self._bootstrap)
        worker = ChildProcess("worker", ("work", "--http-port", web_port, "--instance", "up", *kafka), self._note)
        server = ChildProcess("server", ("serve", "--xds-port", xds_port, "--http-port", http_port, *kafka), self._note)
        index = ChildProcess("index", ("index", *kafka), self._note)
        parts: dict[str, Callable[[asyncio.Event], Awaitable[None]]] = {
            "watcher": watch,
            "worker": worker.run,
            "server": server.run,
            "subscriber": self._count,
        }
        restarts = dict.fromkeys(parts, Restarts())
        if broker is not None:
            parts["broker"] = BrokerPart(broker, self._note).run
            restarts["broker"] = _BROKER_RESTARTS
        tasks = {
            name: asyncio.create_task(
                keep_running(name, functools.partial(part, self._ending), self._ending, restarts[name])
            )
            for name, part in parts.items()
        }
        return {**tasks, "index": asyncio.create_task(self._keep_index(index))}

    async def _keep_index(self, index: ChildProcess) -> None:
        """Nothing depends on the index: without one, looking back takes longer."""
        try:
            await keep_running("index", functools.partial(index.run, self._ending), self._ending)
        except FacetsError as error:
            log.warning("the index is not kept any more: %s (%s)", error, error.remedy)
            await self._ending.wait()

    async def _start_broker(self) -> EmbeddedKafka:
        broker = EmbeddedKafka()
        # Registered first; stopping does nothing if the start was cancelled, which leaves nothing behind.
        self._stack.push_async_callback(self._stop_broker, broker)
        await _unless(self._stop, broker.__aenter__())
        self._bootstrap = broker.bootstrap_servers
        self._note("broker", broker.pid)
        return broker

    async def _stop_broker(self, broker: EmbeddedKafka) -> None:
        with shutdown.waiting_for("the broker to close its files"):
            await asyncio.to_thread(broker.stop, _BROKER_STOP_SECONDS)

    async def _stop_demo(self, demo: DemoServer) -> None:
        await shutdown.closed("the demo's API servers", demo.stop(), _DEMO_STOP_SECONDS)

    async def _end(self, tasks: Mapping[str, asyncio.Task[None]]) -> None:
        """Stop all parts, and log which ones are waited for."""
        self._ending.set()
        running = {task: name for name, task in tasks.items() if not task.done()}
        self._console.print(f"Stopping: {', '.join(running.values())}")
        tasks["subscriber"].cancel()
        with contextlib.ExitStack() as waits:
            for name in running.values():
                waits.enter_context(shutdown.waiting_for(f"the {name}"))
            await asyncio.wait(running, timeout=_PARTS_STOP_SECONDS)
        for task, name in running.items():
            if not task.done():
                shutdown.give_up(f"the {name}", _PARTS_STOP_SECONDS)
                task.cancel()
        await asyncio.wait(tasks.values(), timeout=1)

    async def _watch(self, clusters: list[ClusterConfig], port: int, ending: asyncio.Event) -> None:
        how = WatchOptions(accept_older_list=self._options.demo, routing_defaults=self._options.routing_defaults)
        if self._options.demo:
            how = how._replace(stale_after=_DEMO_STALE_AFTER)
        readiness = Readiness({"watchers": lambda: "they are being started"})
        try:
            async with probe_server(LOOPBACK, port, readiness, or_any=True):
                await run_watchers(clusters, self._bootstrap, options=how, stop=ending, readiness=readiness)
            if self._options.demo:
                await self._end_demo(clusters)
        except Superseded as error:
            raise FacetsError(
                str(error),
                f"another `facets up` or `facets watch` follows the same cluster into Kafka at {self._bootstrap}: end "
                "one of the two, or give the clusters names of their own (--cluster NAME=CONTEXT)",
                error.exit_code,
            ) from error

    async def _end_demo(self, clusters: list[ClusterConfig]) -> None:
        """End the demo's clusters; if that can't be written now, the next start does it."""
        try:
            async with asyncio.timeout(_END_DEMO_SECONDS):
                await asyncio.gather(
                    *(forget_cluster(self._bootstrap, cluster.name, force=True) for cluster in clusters)
                )
        except (FacetsError, TimeoutError) as error:
            log.warning(
                "the demo's clusters are still there: the next `facets up` ends them (%s)", str(error) or "timed out"
            )

    async def _end_killed_demo(self) -> None:
        """End the clusters of a killed demo, which would otherwise stay beside the user's own for ever."""
        # On a broker of our own no other demo can run.
        names = await forget_demo(self._bootstrap, force=self._options.bootstrap is None)
        if names:
            self._console.print(f"An earlier demo was killed: its clusters {', '.join(names)} are forgotten")

    async def _count(self, ending: asyncio.Event) -> None:
        async with Subscriber(self._bootstrap, tables=FOLDED_TABLES, progress=True) as subscriber:
            async for item in subscriber:
                live = not isinstance(item, Snapshot)
                self._tally.take((row for row in item.rows if row.table != CLUSTERSET), live=live)
                self._sets.take(item.rows, live=live)
                if isinstance(item, Batch) and item.seal.frontier:
                    self._tally.sealed()

    def _note(self, name: str, pid: int) -> None:
        """Note a child process, in case it outlives this one."""
        with contextlib.suppress(OSError, psutil.Error):
            self._owner.note_child(name, pid)
            self._lock.write()


def _clusters(options: UpOptions, kubeconfig: Path | None) -> list[ClusterConfig]:
    return cluster_configs(
        kubeconfig=kubeconfig, context=options.context, clusters=options.clusters, every_context=options.demo,
        cluster_domain=options.cluster_domain,
    )  # fmt: skip


def _already_runs(owner: Owner | None) -> FacetsError:
    problem = "`facets up` already runs here"
    if owner is not None:
        details = "".join(f"; {name} at {value}" for name, value in owner.details.items())
        problem = f"{problem} (process {owner.pid}, since {owner.since}{details})"
    end = f"kill {owner.pid}" if owner is not None else "Ctrl-C where it runs"
    return FacetsError(
        problem,
        f"look at it with: facets get backend -A; end it with: {end}; or give this one a folder of its own: "
        "FACETS_DATA_DIR=FOLDER facets up",
        ExitCode.UNAVAILABLE,
    )


def _end_leftovers(earlier: Owner | None) -> None:
    """End the processes that an earlier run left: they would keep serving old rows on its ports."""
    for name, process in (earlier.living_children() if earlier is not None else {}).items():
        if name == "broker":
            continue  # It will be joined.
        log.warning("the %s of an earlier `facets up` (process %d) still runs: it is ended", name, process.pid)
        processes.end(process.pid, grace=_LEFTOVER_SECONDS)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`. If `stop` is set first, cancels it and raises _Stopped."""
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            raise _Stopped
        return task.result()
    finally:
        stopped.cancel()
