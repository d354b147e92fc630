"""What `facets serve` runs: one subscriber of all tables, and behind it the xDS server and the HTTP server."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from streams.kafka.admin import resume_window
from streams.kafka.errors import broker_errors
from streams.kafka.range_reader import RangeReader
from streams.runtime.listening import listen_errors
from streams.runtime.own_names import answers_to
from streams.runtime.probes import Readiness, add_probe_routes
from streams.serve.ack_recorder import AckRecorder, find_recorder
from streams.serve.http.endpoints import all_endpoints
from streams.serve.http.endpoints.readiness import Ready
from streams.serve.http.query import NO_SNAPSHOT
from streams.serve.http.routes import add_endpoints, in_json
from streams.serve.http.sse import ChangesHub, SseSettings
from streams.serve.metrics import SHARED_ADDRESSES, UNPLACED_CLIENTS
from streams.serve.page.routes import add_page
from streams.serve.xds.server import XdsServer, XdsSettings
from streams.subscription.client import ClusterStatus, Snapshot, Subscriber
from streams.subscription.cluster_metrics import show_freshness
from streams.subscription.freshness import SILENT_AFTER_SECONDS, clusters_in, of_clusters
from streams.subscription.names import warn_of_unknown
from streams.wire.records import CLUSTERSET, FOLDED_TABLES, TABLES, topic_of
from streams.wire.topics import DEFAULT_WINDOW_SECONDS

log = logging.getLogger("facets.serve")

_HEADER_BYTES = 32 * 1024
"""The longest header allowed: a cursor of many partitions (Last-Event-ID)."""

LINE_BYTES = 128 * 1024
"""The longest request line allowed: every repeatable parameter as often and as long as it may be, and a cursor."""

_END_SECONDS = 5.0

_OLDER_CHECKS = 3
"""How often tables are looked at, a second apart, before they are taken for those of an older version."""


class ServeSettings(NamedTuple):
    """What is served, from where, and on which addresses. No clusters means all. A cluster without a commit for
    `silent_after` seconds (by `clock`) is stale. With `fold_journal` changes are folded from the journal (they don't
    wait for the workers), for which all tables are needed; `window_seconds` is then the workers' resume window. The
    past is looked up in `past_index`, if it is there, else folded."""

    bootstrap: str
    xds: XdsSettings
    http_host: str = "127.0.0.1"
    http_names: tuple[str, ...] = ()
    http_port: int = 8080
    clusters: tuple[str, ...] = ()
    tables: tuple[str, ...] = FOLDED_TABLES
    sse: SseSettings = SseSettings()
    silent_after: float = SILENT_AFTER_SECONDS
    clock: Callable[[], float] = time.time
    fold_journal: bool = True
    window_seconds: int = DEFAULT_WINDOW_SECONDS
    past_index: Path | None = None


class Serving(NamedTuple):
    """The ports that are listened on."""

    xds_port: int
    http_port: int


async def serve(
    settings: ServeSettings, stop: asyncio.Event, started: Callable[[Serving], None] = lambda _: None
) -> None:
    """Serve until `stop` is set. Raises FacetsError. Routers are admitted after the first snapshot: before it, they
    would get an empty answer. Until then HTTP clients are told to retry (503, /readyz)."""
    tables = await _choose_tables(settings)
    async with Subscriber(
        settings.bootstrap,
        tables=tables,
        clusters=settings.clusters,
        progress=True,
        silent_after=settings.silent_after,
        clock=settings.clock,
        fold_journal=settings.fold_journal and set(TABLES) <= set(tables),
        window_seconds=settings.window_seconds,
    ) as subscriber:
        window = await asyncio.to_thread(resume_window, settings.bootstrap, tables[0])
        recorder = await find_recorder(settings.bootstrap, subscriber.partitions)
        acks = None if recorder is None else recorder.buffer
        xds = XdsServer(settings.xds, subscriber.partitions, follows_sets=CLUSTERSET in tables, acks=acks)
        hub = ChangesHub(settings.sse, settings.bootstrap, subscriber.partitions, window, tables, acks)
        async with contextlib.AsyncExitStack() as stack:
            if recorder is not None:
                await stack.enter_async_context(_recording(settings, recorder))
            http_port = await _listen(settings, xds, hub, stack)
            tasks: set[asyncio.Task[Any]] = {
                asyncio.create_task(_follow(subscriber, xds, hub, settings.clusters)),
                asyncio.create_task(stop.wait()),
            }
            ready = asyncio.create_task(xds.ready.wait())
            try:
                await _until_one(tasks | {ready}, tasks)
                if ready.done():
                    await xds.start()
                    stack.push_async_callback(xds.stop)
                    started(Serving(xds.port, http_port))
                    await _until_one(tasks, tasks)
            finally:
                for task in (*tasks, ready):
                    task.cancel()
                await asyncio.gather(*tasks, ready, return_exceptions=True)


@contextlib.asynccontextmanager
async def _recording(settings: ServeSettings, recorder: AckRecorder) -> AsyncIterator[None]:
    """Write which router has what. Streams end before: what they last did is written too. Raises BrokerError."""
    running: asyncio.Task[None] | None = None
    try:
        with broker_errors(settings.bootstrap):
            await recorder.start()
        running = asyncio.create_task(recorder.run())
        running.add_done_callback(_report_end)
        yield
    finally:
        if running is not None:
            running.cancel()
        await recorder.close()


def _report_end(recording: asyncio.Task[None]) -> None:
    """Serving goes on without it."""
    if not recording.cancelled() and (error := recording.exception()) is not None:
        log.error("which router has what is no longer recorded", exc_info=error)


async def _choose_tables(settings: ServeSettings) -> tuple[str, ...]:
    """The tables to follow: without the clusterset where only some clusters are served (a set is of all of them), and
    where workers of an older version have written the tables: one that has no seals would hold up the others."""
    tables = settings.tables
    if CLUSTERSET not in tables:
        return tables
    without = tuple(table for table in tables if table != CLUSTERSET)
    if settings.clusters:
        log.info("the clusterset's names are not served: a set is of all clusters, and --cluster selects some")
        return without
    for number in range(_OLDER_CHECKS):
        # The first worker may be about to write it.
        await asyncio.sleep(1 if number else 0)
        if not await asyncio.to_thread(_has_older_tables, settings.bootstrap):
            return tables
    log.warning(
        "the clusterset's names are not served: workers of an older version have written the tables; "
        "upgrade the workers, then restart facets serve"
    )
    return without


def _has_older_tables(bootstrap: str) -> bool:
    """Whether the tables have records, but the clusterset has none. Raises BrokerError."""
    with RangeReader(bootstrap) as reader:
        return reader.has_records(topic_of(TABLES[0])) and not reader.has_records(topic_of(CLUSTERSET))


async def _until_one(tasks: set[asyncio.Task[Any]], checked: set[asyncio.Task[Any]]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done & checked:
        task.result()


async def _follow(subscriber: Subscriber, xds: XdsServer, hub: ChangesHub, clusters: tuple[str, ...]) -> None:
    """Pass on what the subscriber delivers, for ever. It does not wait in between: what was fetched together is there
    for all clients before any is written to, so that under load each gets more at once."""
    unchecked = True
    async for item in subscriber:
        if isinstance(item, Snapshot):
            seals = subscriber.sealed()
            if unchecked:
                warn_of_unknown(log, clusters, clusters_in(seals))
                unchecked = False
            xds.set_silent(subscriber.silent())
            hub.set_silent(subscriber.silent())
            xds.replace(item.rows, seals)
            hub.replace(item.reason, item.rows, seals, subscriber.position)
        elif isinstance(item, ClusterStatus):
            xds.set_silent(subscriber.silent())
            hub.set_silent(subscriber.silent())
        else:
            xds.apply(item.rows, item.seal, item.partition)
            hub.apply(item.partition, item.seal, item.rows, item.position)


def serve_readiness(xds: XdsServer, hub: ChangesHub, clock: Callable[[], float] = time.time) -> Readiness:
    """Readiness of the server. Silent clusters don't make it unready: their last known rows are served, as stale."""

    def details() -> dict[str, Any]:
        stale = sorted({cluster for _, cluster in hub.feed.silent})
        body: dict[str, Any] = msgspec.to_builtins(Ready(True, hub.feed.at, stale))
        return body

    def refresh() -> None:
        show_freshness(of_clusters(xds.catalog.seals, clock(), xds.silent))
        SHARED_ADDRESSES.set(sum(1 for _ in xds.catalog.shared_addresses()))
        UNPLACED_CLIENTS.set(len(xds.unplaced))

    return Readiness({"tables": lambda: "" if hub.ready else NO_SNAPSHOT}, details=details, refresh=refresh)


async def _listen(settings: ServeSettings, xds: XdsServer, hub: ChangesHub, stack: contextlib.AsyncExitStack) -> int:
    app = web.Application(middlewares=[answers_to((settings.http_host, *settings.http_names)), in_json])
    add_endpoints(app, xds, hub, settings.clock, all_endpoints(), settings.past_index)
    add_probe_routes(app, serve_readiness(xds, hub, settings.clock))
    add_page(app)
    # A request ends with its client: otherwise disconnected clients would count towards the limit.
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=_END_SECONDS,
        max_line_size=LINE_BYTES,
        max_field_size=_HEADER_BYTES,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    stack.push_async_callback(hub.close)
    site = web.TCPSite(runner, settings.http_host, settings.http_port)
    with listen_errors("the HTTP server", settings.http_host, settings.http_port):
        await site.start()
    return int(runner.addresses[0][1])
