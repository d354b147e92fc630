"""Broker, watchers, a worker and a server as one: what `facets up` runs."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table as Grid

from streams.core.errors import FacetsError
from streams.core.exit_codes import ExitCode
from streams.core.records import TABLES
from streams.core.subscription import Row
from streams.edges.demo_server import DemoServer
from streams.edges.embedded_kafka import EmbeddedKafka
from streams.edges.subscriber import Batch, Snapshot, Subscriber
from streams.edges.topics import ensure
from streams.edges.watcher import WatchOptions, cluster_configs, run_watchers

_SETTLE_SECONDS = 20
_STOP_SECONDS = 20


class UpOptions(NamedTuple):
    """What `facets up` was asked for."""

    demo: bool = False
    speed: float = 1.0
    seconds: float | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    clusters: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    bootstrap: str | None = None
    web_port: int = 6066
    xds_port: int = 18000
    http_port: int = 8080
    routing_defaults: Mapping[str, str] = MappingProxyType({})


class Tally:
    """What a subscriber of all tables has seen, for the summary."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.services: dict[str, set[str]] = {}
        self.endpoints: dict[str, dict[str, int]] = {}
        self.changes: dict[str, int] = {}
        self.first = asyncio.Event()

    def take(self, rows: Iterator[Row] | tuple[Row, ...], *, live: bool) -> None:
        """Count these rows; those of a snapshot are no changes."""
        for row in rows:
            key = f"{row.namespace}/{row.name}"
            shown = row.decode()
            gone = shown["state"] == "deleted"
            if row.table == "frontend":
                services = self.services.setdefault(row.cluster, set())
                services.discard(key) if gone else services.add(key)
            elif row.table == "backend":
                sizes = self.endpoints.setdefault(row.cluster, {})
                sizes[key] = len(shown["endpoints"])
            if live:
                self.changes[row.cluster] = self.changes.get(row.cluster, 0) + 1
                self._say(_line(row.table, shown))

    def sealed(self) -> None:
        """A whole cluster has been sealed in this run (what an earlier one left does not count)."""
        if any(self.services.values()):
            self.first.set()

    @property
    def materialized(self) -> bool:
        """Whether tables were made."""
        return self.first.is_set()

    def summary(self) -> Grid:
        """A row for each cluster."""
        grid = Grid("CLUSTER", "SERVICES", "ENDPOINTS", "CHANGES", box=None, pad_edge=False)
        for cluster in sorted(self.services):
            grid.add_row(
                cluster,
                str(len(self.services[cluster])),
                str(sum(self.endpoints.get(cluster, {}).values())),
                str(self.changes.get(cluster, 0)),
            )
        return grid


def _line(table: str, row: dict[str, Any]) -> str:
    """A change as a person reads it."""
    name = f"{row['asOf']['at'][11:19]}  {row['cluster']}  {row['namespace']}/{row['name']}"
    if table == "frontend":
        return (
            f"{name}  frontend {row['state']}: {','.join(row['clusterIPs']) or row['externalName'] or 'no cluster IP'}"
        )
    if table == "routing":
        said = ", ".join(f"{way} {row[way]['decision']} ({row[way]['reason']})" for way in ("gateway", "mesh"))
        return f"{name}  routing {row['state']}: {said}"
    change, endpoints = row["change"], row["endpoints"]
    ready = sum(1 for endpoint in endpoints if endpoint["ready"])
    counts = f"+{len(change['added'])} -{len(change['removed'])} ~{len(change['updated'])}"
    return f"{name}  backend {row['state']}: {counts}, {ready}/{len(endpoints)} ready"


async def run(options: UpOptions, stop: asyncio.Event) -> int:
    """Run until `stop`, the time given, or a part that can't go on; the exit code."""
    console = Console(stderr=True, soft_wrap=True)
    out = Console(soft_wrap=True)
    tally = Tally(lambda line: out.print(line, highlight=False))
    async with contextlib.AsyncExitStack() as stack:
        bootstrap = options.bootstrap
        if bootstrap is None:
            broker = await stack.enter_async_context(EmbeddedKafka())
            bootstrap = broker.bootstrap_servers
        partitions = await asyncio.to_thread(ensure, bootstrap)
        console.print(f"Kafka at {bootstrap}, {partitions} partitions a topic", highlight=False)
        kubeconfig = options.kubeconfig
        if options.demo:
            demo = DemoServer(speed=options.speed)
            await demo.start()
            stack.push_async_callback(demo.stop)
            kubeconfig = demo.kubeconfig
        ending = asyncio.Event()
        web_port, xds_port, http_port = map(_port, (options.web_port, options.xds_port, options.http_port))
        worker = ("work", "--web-port", str(web_port), "--instance", "up")
        server = ("serve", "--xds-port", str(xds_port), "--http-port", str(http_port))
        tasks = {
            "worker": asyncio.create_task(_keep_running(worker, bootstrap, ending)),
            "server": asyncio.create_task(_keep_running(server, bootstrap, ending)),
            "subscriber": asyncio.create_task(_count(bootstrap, tally)),
            "watcher": asyncio.create_task(_watch(options, kubeconfig, bootstrap, ending)),
            "stop": asyncio.create_task(stop.wait()),
        }
        console.print(
            f"Table views at http://127.0.0.1:{web_port}/v1/backend/CLUSTER/NAMESPACE/NAME, "
            f"xDS at 127.0.0.1:{xds_port}, HTTP at http://127.0.0.1:{http_port}; Ctrl-C stops",
            highlight=False,
        )
        done, _ = await asyncio.wait(tasks.values(), timeout=options.seconds, return_when=asyncio.FIRST_COMPLETED)
        failed = {name for name, task in tasks.items() if task in done and name != "stop"}
        if not failed and not tally.materialized:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(tally.first.wait(), _SETTLE_SECONDS)
        ending.set()
        await asyncio.wait({tasks[name] for name in ("watcher", "worker", "server")}, timeout=_STOP_SECONDS)
        for task in tasks.values():
            task.cancel()
        results = await asyncio.gather(*tasks.values(), return_exceptions=True)
        out.print()
        out.print(tally.summary())
        errors = [
            result for result in results
            if isinstance(result, Exception) and not isinstance(result, asyncio.CancelledError)
        ]  # fmt: skip
        if errors:
            raise errors[0]
        if failed:
            console.print(f"facets: error: the {', '.join(sorted(failed))} ended before it was told to")
            return 1
        if options.seconds is not None and not tally.materialized:
            console.print("facets: error: no table was materialized in that time; see the log above, or give it longer")
            return 1
    return 0


async def _watch(options: UpOptions, kubeconfig: Path | None, bootstrap: str, ending: asyncio.Event) -> None:
    configs = cluster_configs(
        kubeconfig=kubeconfig, context=options.context, clusters=options.clusters, every_context=options.demo,
        cluster_domain=options.cluster_domain,
    )  # fmt: skip
    how = WatchOptions(accept_older_list=options.demo, routing_defaults=options.routing_defaults)
    await run_watchers(configs, bootstrap, options=how, stop=ending)


async def _keep_running(command: tuple[str, ...], bootstrap: str, ending: asyncio.Event) -> None:
    """A `facets` command in a process of its own, started again if it dies."""
    while not ending.is_set():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streams.cli", *command, "--bootstrap-servers", bootstrap, start_new_session=True
        )
        exited = asyncio.create_task(process.wait())
        told = asyncio.create_task(ending.wait())
        try:
            await asyncio.wait({exited, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.wait_for(process.wait(), 15)
                except TimeoutError:
                    process.kill()
            told.cancel()
        if not ending.is_set():
            await asyncio.sleep(1)


async def _count(bootstrap: str, tally: Tally) -> None:
    async with Subscriber(bootstrap, tables=TABLES, progress=True) as subscriber:
        async for item in subscriber:
            tally.take(item.rows, live=not isinstance(item, Snapshot))
            if isinstance(item, Batch) and item.seal.frontier:
                tally.sealed()


def _port(wanted: int) -> int:
    """This port, or any free one where it is 0 or taken."""
    for number in (wanted, 0):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", number))
            port: int = free.getsockname()[1]
            return port
    raise FacetsError("no port is free on 127.0.0.1", "end what holds them", ExitCode.UNAVAILABLE)
