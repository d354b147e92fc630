"""The HTTP interface of `facets serve` as OpenAPI 3.1; what is in the answers is generated from the record types."""

from typing import Any, Literal

import msgspec

from streams.objects.resources import OPTIONAL, RESOURCES
from streams.wire.json_schema import tidy
from streams.wire.name_syntax import CLUSTER_NAME, KUBERNETES_NAME, RESOURCE_VERSION, NameSyntax
from streams.wire.records import TABLES, Record
from streams.wire.row_forms import row_view

_REF = "#/components/schemas/"
MAX_VALUES = 100
"""How often a repeatable parameter may be given."""

MAX_CURSOR = 32_000
"""The longest cursor, in characters: enough for three tables of 256 partitions."""

CURSOR_FORMAT = "facets-cursor"
"""Cursors are opaque: only one that was given out is one."""

DEFAULT_RESOURCE = "endpointslices.discovery.k8s.io"
_RESOURCES = [resource.frontier for resource in (*RESOURCES, *OPTIONAL)]


class Error(Record, omit_defaults=True):
    """What went wrong; `parameter` names the invalid one."""

    error: str
    parameter: str = ""


class Stale(Record):
    """Why a cluster's rows are stale though they don't say so: nothing has come of it since then. `partitions` are
    those that it is about; a Service is in partition `crc32("namespace/service")` modulo their number."""

    reason: str
    since: str
    partitions: list[int]


class Heartbeat(Record):
    """Data of an event `heartbeat`. `frontiers` are by cluster and resource type: everything up to this
    resourceVersion has been sent. A cluster whose snapshot is not complete has none. `stale` names the clusters that
    have fallen silent; their rows are what was last known."""

    type: Literal["heartbeat"]
    at: str
    frontiers: dict[str, dict[str, str]]
    stale: dict[str, Stale]


class End(Record):
    """Data of an event `end`: the server closes the stream. Reconnect with Last-Event-ID."""

    type: Literal["end"]
    reason: Literal["slow", "shutdown", "unavailable"]
    message: str


class Client(Record):
    """A connected xDS client; `behind` counts the Services whose newest version it has not acknowledged."""

    id: int
    node: str
    peer: str
    agent: str
    variant: Literal["sotw", "delta"]
    traffic: Literal["gateway", "mesh"]
    zone: str
    since: str
    behind: int
    nacks: int
    last_nack: str


class Standing(Record):
    """What a client has of a Service: versions sent and acknowledged (-1: none), and how far behind it is."""

    client: int
    node: str
    sent: int
    acked: int
    behind: int
    behind_milliseconds: int


class PropagatedService(Record):
    """A Service's newest version, and who has it."""

    namespace: str
    name: str
    version: int
    at: str
    partition: int
    clients: list[Standing]


class Frontier(Record):
    """How far a partition is with a cluster: `ageSeconds` is how old the cluster's newest commit is by Kafka's clock
    (null: not known), `stale` says why the cluster is taken for silent (empty: it is not)."""

    partition: int
    cluster: str
    offset: int
    at: str
    frontier: dict[str, str]
    age_seconds: float | None
    stale: str


class Propagation(Record):
    """Who has what."""

    frontiers: list[Frontier]
    clients: list[Client]
    services: list[PropagatedService]


class Acked(Record, omit_defaults=True):
    """Whether every client has acknowledged it, with the clients that follow the Service (without one, all); if not,
    the clients (and partitions of the server's own) that are waited for."""

    acked: bool
    clients: list[str]
    partitions: dict[str, str] = msgspec.field(default_factory=dict)


class Health(Record):
    """The process runs."""

    healthy: bool


class Ready(Record):
    """There is a snapshot of the tables, `at` is how far it goes, and `stale` are the clusters that are silent."""

    ready: bool
    at: str
    stale: list[str]


def openapi(version: str) -> dict[str, Any]:
    """The whole description."""
    views = [row_view(table, tagged=True) for table in TABLES]
    row: Any = views[0]
    for each in views[1:]:
        row |= each
    batch = msgspec.defstruct(
        "BatchEvent",
        [
            ("type", Literal["batch"]), ("partition", int), ("offset", int), ("cluster", str), ("epoch", int),
            ("seq", int), ("at", str), ("phase", str), ("frontier", dict[str, str]), ("rows", list[row]),
        ],
        namespace={"__doc__": "Data of an event `batch`: all rows (that are asked for) of one journal offset. Apply "
                   "them together."},
        forbid_unknown_fields=True,
    )  # fmt: skip
    snapshot = msgspec.defstruct(
        "SnapshotEvent",
        [
            ("type", Literal["snapshot"]), ("reason", Literal["start", "expired", "gap", "lost"]), ("first", bool),
            ("last", bool), ("rows", list[row]),
        ],
        namespace={"__doc__": "Data of an event `snapshot`, a part of all rows. The parts from the `first` to the "
                   "`last` replace everything held; the reason is `start`, or why the changes since the cursor can't "
                   "be had: `expired`, `gap` or `lost`."},
        forbid_unknown_fields=True,
    )  # fmt: skip
    items = [
        msgspec.defstruct(f"{table.capitalize()}Items", [("items", list[view])])  # type: ignore[valid-type]
        for table, view in zip(TABLES, views, strict=True)
    ]
    kinds = [*views, *items, batch, snapshot, Heartbeat, End, Error, Propagation, Acked, Health, Ready]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=f"{_REF}{{name}}")
    schemas["StreamEvent"] = _stream_event(
        BatchEvent="batch", SnapshotEvent="snapshot", Heartbeat="heartbeat", End="end"
    )
    found: dict[str, Any] = tidy(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Service Facets",
                "version": version,
                "description": "The facets of Kubernetes Services over HTTP: changes as server-sent events, look-ups, "
                "and which router has what.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": _paths(),
            "components": {"schemas": dict(sorted(schemas.items()))},
        }
    )
    return found


def _stream_event(**data: str) -> dict[str, Any]:
    """An event of a stream of server-sent events, as OpenAPI 3.2 describes them: an object of its fields."""
    return {
        "description": "An event of /v1/changes; `data` is JSON, of the type that `event` names.",
        "type": "object",
        "properties": {
            "event": {"enum": list(data.values())},
            "id": {"type": "string", "description": "A cursor. A part of a snapshot has none, and an `end`."},
            "data": {"type": "string"},
        },
        "required": ["event", "data"],
        "oneOf": [
            {
                "properties": {
                    "event": {"const": event},
                    "data": {"contentMediaType": "application/json", "contentSchema": {"$ref": f"{_REF}{name}"}},
                }
            }
            for name, event in data.items()
        ],
    }


def _paths() -> dict[str, Any]:
    filters = [_many("cluster", CLUSTER_NAME), _many("namespace", KUBERNETES_NAME), _many("service", KUBERNETES_NAME)]
    cursor = {"type": "string", "maxLength": MAX_CURSOR, "format": CURSOR_FORMAT}
    found: dict[str, Any] = {
        "/v1/changes": _get(
            "followChanges",
            "A snapshot, then each sealed batch as it comes.",
            "Events are `snapshot` (SnapshotEvent), `batch` (BatchEvent), `heartbeat` (Heartbeat) and `end` (End). "
            "Their ids are cursors, as those of `facets follow` are: with Last-Event-ID each change since comes once, "
            "or a snapshot says why not.",
            [
                _repeatable("table", {"type": "string", "enum": list(TABLES)}), *filters,
                {"name": "cursor", "in": "query", "schema": cursor, "description": "As Last-Event-ID."},
                {"name": "Last-Event-ID", "in": "header", "schema": cursor,
                 "description": "Go on after the event with this id."},
            ],
            _answer("The stream.", "text/event-stream", {"$ref": f"{_REF}StreamEvent"}),
        ),
        **{
            f"/v1/facets/{table}": _get(
                f"list{table.capitalize()}", f"All {table} rows.", "", filters, _json(f"{table.capitalize()}Items")
            )
            for table in TABLES
        },
        **{
            f"/v1/facets/{table}/{{namespace}}/{{service}}": _get(
                f"get{table.capitalize()}", f"A Service's {table} in each cluster that has it.", "",
                [_in_path("namespace", KUBERNETES_NAME), _in_path("service", KUBERNETES_NAME)],
                _json(f"{table.capitalize()}Items"),
            )
            for table in TABLES
        },
        "/v1/propagation": _get(
            "getPropagation", "Which router has what.", "",
            [_one("namespace", KUBERNETES_NAME), _one("service", KUBERNETES_NAME)], _json("Propagation"),
        ),
        "/v1/acked": _get(
            "waitAcked", "Wait until every router has acknowledged a write.", "",
            [
                _one("cluster", CLUSTER_NAME, required=True),
                _one("resourceVersion", RESOURCE_VERSION, required=True),
                {"name": "resource", "in": "query", "description": "The type of the object written.",
                 "schema": {"type": "string", "enum": _RESOURCES, "default": DEFAULT_RESOURCE}},
                _one("namespace", KUBERNETES_NAME), _one("service", KUBERNETES_NAME),
                {"name": "timeout", "in": "query", "description": "Seconds.",
                 "schema": {"type": "number", "minimum": 0, "maximum": 3600, "default": 30}},
            ],
            _json("Acked"),
        ),
        "/healthz": _get("getHealth", "Whether the process runs.", "", [], _json("Health")),
        "/readyz": _get("getReadiness", "Whether there is a snapshot of the tables to serve.", "", [], _json("Ready")),
        "/metrics": _get(
            "getMetrics", "Metrics for Prometheus.", "", [],
            _answer("Its text format.", "text/plain", {"type": "string"}),
        ),
        "/openapi.json": _get(
            "getDescription", "This description.", "", [],
            _answer("OpenAPI.", "application/json", {"type": "object"}),
        ),
    }  # fmt: skip
    return found


def _get(
    operation: str, summary: str, text: str, parameters: list[dict[str, Any]], answer: dict[str, Any]
) -> dict[str, Any]:
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            **({"description": text} if text else {}),
            "parameters": parameters,
            "responses": {
                "200": answer,
                "400": _json("Error", "Invalid parameter."),
                "404": _json("Error", "Not found."),
                "503": {
                    **_json("Error", "Not ready, or at its limit: retry later."),
                    "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
                },
            },
        }
    }


def _json(name: str, text: str = "Success.") -> dict[str, Any]:
    return _answer(text, "application/json", {"$ref": f"{_REF}{name}"})


def _answer(text: str, content_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {content_type: {"schema": schema}}}


def _one(name: str, syntax: NameSyntax, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": _name(syntax)}


def _many(name: str, syntax: NameSyntax) -> dict[str, Any]:
    return _repeatable(name, _name(syntax))


def _repeatable(name: str, items: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "description": "Repeatable; without one all.",
        "schema": {"type": "array", "items": items, "maxItems": MAX_VALUES},
    }


def _in_path(name: str, syntax: NameSyntax) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _name(syntax)}


def _name(syntax: NameSyntax) -> dict[str, Any]:
    return {"type": "string", "pattern": syntax.pattern, "minLength": 1, "maxLength": syntax.max_length}
