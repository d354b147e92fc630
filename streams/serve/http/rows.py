"""Rows as answers: their types by table, entity tags, and streaming of many rows."""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from typing import Any

import msgspec
from aiohttp import ETag, web

from streams.serve.http.feed import Feed, ShownRow
from streams.serve.http.query import NotFound
from streams.subscription.names import unknown_names
from streams.wire.records import CLUSTERSET, FOLDED_TABLES
from streams.wire.row_forms import row_view
from streams.wire.timestamps import write

_CHUNK = 64 * 1024
_READ_WITHIN = 60.0
_ANY = "*"
_NO_TAIL: Mapping[str, Any] = {}
_HEADERS = {"Cache-Control": "no-cache"}

VIEWS: dict[str, Any] = {table: row_view(table, tagged=True) for table in FOLDED_TABLES}
"""A row as it is printed, by table."""

IN_BATCH: dict[str, Any] = {
    table: row_view(table, tagged=True, in_batch=True) if table == "backend" else view for table, view in VIEWS.items()
}
"""A row as it is in a batch of changes, by table."""

ITEMS: dict[str, Any] = {
    table: msgspec.defstruct(
        f"{table.capitalize()}Items",
        [("items", list[view]), ("remarks", list[str] | msgspec.UnsetType, msgspec.UNSET)],  # type: ignore[valid-type]
    )
    for table, view in VIEWS.items()
}
"""Several rows of a table."""

HISTORY: Any = msgspec.defstruct(
    "History",
    [
        ("items", list[reduce(or_, VIEWS.values())]),  # type: ignore[misc]
        ("more", bool),
        ("remarks", list[str]),
    ],
    namespace={
        "__doc__": "Rows of a Service over time, oldest first. `more`: there are older ones. `remarks` are the limits "
        "of what is known of that time."
    },
)
"""Rows of a Service, of all tables."""


def now_text(parts: Any) -> str:
    """The server's time, as records have it."""
    return write(datetime.fromtimestamp(parts.clock(), UTC))


def unknown_name(
    feed: Feed, table: str, clusters: Collection[str], namespace: str, name: str, at: str = ""
) -> NotFound:
    """The error for a Service that has no row of a table ("": of none), with those of nearly its name."""
    where = "no cluster exports it" if table == CLUSTERSET else "not in any cluster"
    problem = f"{table or 'Service'} {namespace}/{name} not found{f' at {at}' if at else ''}: {where}"
    error = unknown_names(feed.known_names(), clusters, [namespace], [name])
    return NotFound(f"{problem}; {error.remedy}" if error is not None and error.remedy else problem)


def entity_tag(rows: Iterable[ShownRow], tail: Mapping[str, Any]) -> str:
    """The same for the same rows, from whichever server they come: a row of one version has one content."""
    digest = hashlib.blake2b(digest_size=16)
    for printed, silence, silences in rows:
        row = printed.row
        place = row.table, row.cluster, row.namespace, row.name, row.version
        digest.update(msgspec.json.encode((*place, silence, *silences)))
    if tail:
        digest.update(msgspec.json.encode(tail))
    return digest.hexdigest()


async def answer_rows(
    request: web.Request,
    rows: Sequence[ShownRow],
    tail: Mapping[str, Any] = _NO_TAIL,
    change: Callable[[bytes], bytes] = bytes,
) -> web.StreamResponse:
    """Stream rows as `items`, in chunks, as a table may be large; status 304 if the client has them. `change` makes of
    a row's text what is shown of it."""
    etag = entity_tag(rows, tail)
    matches = request.if_none_match or ()
    is_held = any(match.value in {etag, _ANY} for match in matches)
    if is_held:
        response = web.StreamResponse(status=304, headers=_HEADERS)
        response.etag = ETag(etag)
        await response.prepare(request)
        return response
    return await stream_items(request, (change(row.text) for row in rows), tail, etag)


async def stream_items(
    request: web.Request, texts: Iterable[bytes], tail: Mapping[str, Any], etag: str = ""
) -> web.StreamResponse:
    """Stream an object with the texts as its `items`, and then the fields of the tail, in chunks: it may be large."""
    response = web.StreamResponse(headers=_HEADERS)
    response.content_type = "application/json"
    if etag:
        response.etag = ETag(etag)
    await response.prepare(request)
    buffer = bytearray(b'{"items":[')
    first = True
    for text in texts:
        buffer += text if first else b"," + text
        first = False
        if len(buffer) >= _CHUNK:
            await _write(response, bytes(buffer))
            buffer.clear()
    end = b"".join(b",%b:%b" % (msgspec.json.encode(name), msgspec.json.encode(value)) for name, value in tail.items())
    await _write(response, b"%b]%b}" % (bytes(buffer), end))
    return response


async def _write(response: web.StreamResponse, text: bytes) -> None:
    async with asyncio.timeout(_READ_WITHIN):
        await response.write(text)
