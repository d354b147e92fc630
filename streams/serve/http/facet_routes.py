"""The facets over HTTP: `/v1/changes`, look-ups at `/v1/facets`, and whether the server is well."""

import asyncio
import functools
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from aiohttp import web

from streams.serve.http.encoding import Selection
from streams.serve.http.openapi import openapi
from streams.serve.http.query import NO_SNAPSHOT, BadParameter, Busy, checked, known_only, many
from streams.serve.http.sse import ChangesHub
from streams.subscription.delivery import Filter
from streams.wire.records import TABLES

_CHUNK = 64 * 1024
_READ_WITHIN = 60.0


def add_facet_routes(app: web.Application, hub: ChangesHub) -> None:
    """Add `/v1/changes`, `/v1/facets/TABLE[/NAMESPACE/NAME]` and `/openapi.json`."""

    async def rows(request: web.Request) -> web.StreamResponse:
        known_only(request, "cluster", "namespace", "service")
        table = _table(request)
        _ready(hub)
        names = (frozenset(many(request, name)) for name in ("cluster", "namespace", "service"))
        return await _items(request, hub.feed.rows(Selection(frozenset({table}), Filter(*names))))

    async def row(request: web.Request) -> web.StreamResponse:
        known_only(request)
        table = _table(request)
        namespace, name = (checked(each, request.match_info[each]) for each in ("namespace", "service"))
        _ready(hub)
        found = hub.feed.row(table, namespace, name)
        if not found:
            error = {"error": f"{table} {namespace}/{name} not found in any cluster"}
            return web.json_response(error, status=404)
        return await _items(request, found)

    async def description(request: web.Request) -> web.Response:
        return web.json_response(_description())

    app.router.add_get("/v1/changes", hub.follow, allow_head=False)
    app.router.add_get("/v1/facets/{table}", rows)
    app.router.add_get("/v1/facets/{table}/{namespace}/{service}", row)
    app.router.add_get("/openapi.json", description)


def _table(request: web.Request) -> str:
    table = request.match_info["table"]
    if table not in TABLES:
        raise BadParameter.invalid("table", table, f"one of {', '.join(TABLES)}")
    return table


def _ready(hub: ChangesHub) -> None:
    if not hub.ready:
        raise Busy(NO_SNAPSHOT, 1)


async def _items(request: web.Request, texts: Iterable[bytes]) -> web.StreamResponse:
    """`{"items": [...]}`, in pieces: a table may be large."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-store"})
    await response.prepare(request)
    held = bytearray(b'{"items":[')
    first = True
    for text in texts:
        held += text if first else b"," + text
        first = False
        if len(held) >= _CHUNK:
            async with asyncio.timeout(_READ_WITHIN):
                await response.write(bytes(held))
            held.clear()
    async with asyncio.timeout(_READ_WITHIN):
        await response.write(bytes(held) + b"]}")
    return response


@functools.cache
def _description() -> dict[str, Any]:
    return openapi(version("service-facets"))
