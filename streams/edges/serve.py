"""What `facets serve` runs: a subscriber of all tables, the xDS server, and an HTTP server next to it."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple

from aiohttp import web

from streams.core.errors import FacetsError
from streams.core.records import TABLES
from streams.edges.subscriber import Subscriber
from streams.edges.xds import XdsServer, XdsSettings
from streams.edges.xds_http import add_xds_routes


class ServeSettings(NamedTuple):
    """What is served, from where, and on which addresses. No clusters means all."""

    bootstrap: str
    xds: XdsSettings
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    clusters: tuple[str, ...] = ()
    tables: tuple[str, ...] = TABLES


class Serving(NamedTuple):
    """The ports that are listened on."""

    xds_port: int
    http_port: int


async def serve(
    settings: ServeSettings, stop: asyncio.Event, started: Callable[[Serving], None] = lambda _: None
) -> None:
    """Serve until `stop` is set. Raises FacetsError. Clients are let in when a first snapshot is there: before, they
    would be told nothing."""
    async with Subscriber(
        settings.bootstrap, tables=settings.tables, clusters=settings.clusters, progress=True
    ) as subscriber:
        xds = XdsServer(settings.xds, subscriber.partitions)
        following = asyncio.create_task(xds.follow(subscriber))
        stopped = asyncio.create_task(stop.wait())
        ready = asyncio.create_task(xds.ready.wait())
        try:
            await asyncio.wait({following, stopped, ready}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
            if stopped.done():
                return
            await xds.start()
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(xds.stop)
                http_port = await _listen(settings, xds, stack)
                started(Serving(xds.port, http_port))
                await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    following.result()
        finally:
            for task in (following, stopped, ready):
                task.cancel()
            await asyncio.gather(following, stopped, ready, return_exceptions=True)


async def _listen(settings: ServeSettings, xds: XdsServer, stack: contextlib.AsyncExitStack) -> int:
    app = web.Application()
    add_xds_routes(app, xds)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, settings.http_host, settings.http_port)
    try:
        await site.start()
    except OSError as error:
        raise FacetsError(
            f"can't listen on {settings.http_host}:{settings.http_port}: {error.strerror}",
            "choose another --http-port",
            69,
        ) from error
    return int(runner.addresses[0][1])
