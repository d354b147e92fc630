"""Rows as answers: their types by table, entity tags, and streaming of many rows."""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from streams.serve.http.feed import ShownRow
from streams.wire.records import FOLDED_TABLES
from streams.wire.row_forms import row_view

_CHUNK = 64 * 1024
_READ_WITHIN = 60.0
_ANY = "*"

VIEWS: dict[str, Any] = {table: row_view(table, tagged=True) for table in FOLDED_TABLES}
"""A row as it is printed, by table."""

IN_BATCH: dict[str, Any] = {
    table: row_view(table, tagged=True, in_batch=True) if table == "backend" else view for table, view in VIEWS.items()
}
"""A row as it is in a batch of changes, by table."""

ITEMS: dict[str, Any] = {
    table: msgspec.defstruct(f"{table.capitalize()}Items", [("items", list[view])])  # type: ignore[valid-type]
    for table, view in VIEWS.items()
}
"""Several rows of a table."""


def entity_tag(rows: Iterable[ShownRow]) -> str:
    """The same for the same rows, from whichever server they come: a row of one version has one content."""
    digest = hashlib.blake2b(digest_size=16)
    for printed, silence, silences in rows:
        row = printed.row
        place = row.table, row.cluster, row.namespace, row.name, row.version
        digest.update(msgspec.json.encode((*place, silence, *silences)))
    return digest.hexdigest()


async def answer_rows(request: web.Request, rows: Sequence[ShownRow]) -> web.StreamResponse:
    """Stream rows as an answer of `ITEMS`, in chunks, as a table may be large; status 304 if the client has them."""
    etag = entity_tag(rows)
    matches = request.if_none_match or ()
    is_held = any(match.value in {etag, _ANY} for match in matches)
    response = web.StreamResponse(status=304 if is_held else 200, headers={"Cache-Control": "no-cache"})
    response.etag = etag
    if not is_held:
        response.content_type = "application/json"
    await response.prepare(request)
    if is_held:
        return response
    buffer = bytearray(b'{"items":[')
    first = True
    for row in rows:
        buffer += row.text if first else b"," + row.text
        first = False
        if len(buffer) >= _CHUNK:
            async with asyncio.timeout(_READ_WITHIN):
                await response.write(bytes(buffer))
            buffer.clear()
    async with asyncio.timeout(_READ_WITHIN):
        await response.write(bytes(buffer) + b"]}")
    return response
