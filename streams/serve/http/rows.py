"""Rows as answers: their types by table, and streaming of many rows."""

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from streams.wire.records import TABLES
from streams.wire.row_forms import row_view

_CHUNK = 64 * 1024
_READ_WITHIN = 60.0

VIEWS: dict[str, Any] = {table: row_view(table, tagged=True) for table in TABLES}
"""A row as it is printed, by table."""

ITEMS: dict[str, Any] = {
    table: msgspec.defstruct(f"{table.capitalize()}Items", [("items", list[view])])  # type: ignore[valid-type]
    for table, view in VIEWS.items()
}
"""Several rows of a table."""


async def stream_items(request: web.Request, texts: Iterable[bytes]) -> web.StreamResponse:
    """Stream rows that are already JSON as an answer of `ITEMS`, in chunks: a table may be large."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-store"})
    await response.prepare(request)
    buffer = bytearray(b'{"items":[')
    first = True
    for text in texts:
        buffer += text if first else b"," + text
        first = False
        if len(buffer) >= _CHUNK:
            async with asyncio.timeout(_READ_WITHIN):
                await response.write(bytes(buffer))
            buffer.clear()
    async with asyncio.timeout(_READ_WITHIN):
        await response.write(bytes(buffer) + b"]}")
    return response
