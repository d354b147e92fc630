"""`GET /v1/changes`: a snapshot, then the sealed batches, as server-sent events."""

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web

from streams.serve.http.encoding import ROW_FORMS, BatchHead, End, Heartbeat, Selection, SnapshotHead
from streams.serve.http.endpoint import Body, Endpoint, Parameters
from streams.serve.http.parameters import MAX_VALUES, REPEATABLE, ClusterName, CursorText, KubernetesName, Table, one_of
from streams.serve.http.query import BadParameter
from streams.serve.http.rows import IN_BATCH, VIEWS
from streams.subscription.cursor import Cursor, InvalidCursor
from streams.subscription.rows import Filter
from streams.wire.records import TABLES

RowForm = Annotated[
    Literal[ROW_FORMS],  # type: ignore[valid-type]
    one_of(ROW_FORMS),
    msgspec.Meta(
        description="In batches, backend rows whole, or without `endpoints`: apply `change` to the row of version "
        "`previous`. It has no effect on snapshots, nor on rows of other tables."
    ),
]


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """Which rows, and from where on."""

    table: Annotated[
        list[Table],
        msgspec.Meta(max_length=MAX_VALUES, description="Repeatable; without one frontend, backend and routing."),
    ] = []
    cluster: Annotated[list[ClusterName], REPEATABLE] = []
    namespace: Annotated[list[KubernetesName], REPEATABLE] = []
    service: Annotated[list[KubernetesName], REPEATABLE] = []
    rows: RowForm = "whole"
    cursor: Annotated[CursorText, msgspec.Meta(description="As Last-Event-ID.")] | msgspec.UnsetType = msgspec.UNSET


class Headers(msgspec.Struct, forbid_unknown_fields=True):
    """What an EventSource sends when it connects again."""

    last_event_id: (
        Annotated[CursorText, msgspec.Meta(description="Go on after the event with this id.")] | msgspec.UnsetType
    ) = msgspec.field(default=msgspec.UNSET, name="Last-Event-ID")


async def _handle(parts: Any, request: web.Request, parameters: Parameters) -> web.StreamResponse:
    query: Query = parameters.query
    tables = frozenset(query.table or TABLES)
    parts.hub.check_served(tables, query.cluster)
    row_filter = Filter(frozenset(query.cluster), frozenset(query.namespace), frozenset(query.service))
    # Both are decoded: a damaged one is an error even if the other counts.
    header = _cursor("Last-Event-ID", parameters.headers.last_event_id)
    cursor = header or _cursor("cursor", query.cursor)
    response: web.StreamResponse = await parts.hub.follow(request, Selection(tables, row_filter, query.rows), cursor)
    return response


def _cursor(name: str, text: str | msgspec.UnsetType) -> Cursor | None:
    if not text:
        return None
    try:
        return Cursor.decode(text)
    except InvalidCursor:
        raise BadParameter(
            name, f"{name}: the cursor is damaged or isn't one; leave it out to start from a snapshot"
        ) from None


def _with_rows(name: str, head: type[msgspec.Struct], kind: str, views: Mapping[str, Any]) -> Any:
    row: Any = reduce(or_, views.values())
    fields = [("type", Literal[kind]), ("rows", list[row])]
    return msgspec.defstruct(
        name, fields, bases=(head,), namespace={"__doc__": head.__doc__}, forbid_unknown_fields=True, kw_only=True
    )


_DATA: Mapping[str, Any] = {
    "batch": _with_rows("BatchEvent", BatchHead, "batch", IN_BATCH),
    "snapshot": _with_rows("SnapshotEvent", SnapshotHead, "snapshot", VIEWS),
    "heartbeat": Heartbeat,
    "end": End,
}


def _stream() -> Body:
    """An event of a stream of server-sent events, as OpenAPI 3.2 describes them: an object of its fields."""
    schema = {
        "description": "An event of /v1/changes; `data` is JSON, of the type that `event` names.",
        "type": "object",
        "properties": {
            "event": {"enum": list(_DATA)},
            "id": {"type": "string", "description": "A cursor. A part of a snapshot has none, and an `end`."},
            "data": {"type": "string"},
        },
        "required": ["event", "data"],
        "oneOf": [
            {
                "properties": {
                    "event": {"const": event},
                    "data": {
                        "contentMediaType": "application/json",
                        "contentSchema": {"$ref": f"#/components/schemas/{kind.__name__}"},
                    },
                }
            }
            for event, kind in _DATA.items()
        ],
    }
    return Body("text/event-stream", schema, "The stream.", tuple(_DATA.values()), "StreamEvent")


ENDPOINT = Endpoint(
    "/v1/changes",
    "followChanges",
    "A snapshot, then each sealed batch as it comes.",
    _stream(),
    _handle,
    query=Query,
    headers=Headers,
    description="Events are `snapshot` (SnapshotEvent), `batch` (BatchEvent), `heartbeat` (Heartbeat) and `end` (End). "
    "Their ids are cursors, as those of `facets follow` are: with Last-Event-ID each change since comes once, or a "
    "snapshot says why not. A row of the clusterset comes each time that the set changes, or what one of its clusters "
    "contributes: it is whole, with the endpoints of all, and takes no `cluster`.",
    stays=True,
)
