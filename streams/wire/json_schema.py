"""JSON Schema and AsyncAPI of everything on the wire, generated from the record types."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from streams.wire import ack_records, clusterset_records, records, routing_records
from streams.wire.ack_records import ACKS
from streams.wire.keys import COMPANION_PREFIX, PART_PREFIX, SEAL_PREFIX
from streams.wire.partitioning import DEFAULT_PARTITIONS
from streams.wire.records import CLUSTERSET, DEAD_LETTER, FOLD_VERSION, FOLDED_TABLES, JOURNAL, TABLES, topic_of
from streams.wire.row_forms import ROW_TYPES, row_view

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFS = "#/$defs/"
_CONTENTS = (
    routing_records.ServiceObject,
    records.SourceContent,
    records.SlicePatch,
    routing_records.RouteContent,
    routing_records.PolicyContent,
    clusterset_records.ExportContent,
)
_PARTITIONING = (
    "A Service's partition, here and in the journal and every facet topic, is crc32(UTF-8 of `namespace/service`) "
    "modulo the number of partitions (CRC-32 IEEE, unsigned). The cluster takes no part in it: one Service of every "
    "cluster, in all tables, is in one partition."
)
_SET_KEY = "[^/]+/[^/]+"
_KEY = f"[^/]+/{_SET_KEY}"
_MORE_MESSAGES = {
    "backend": ("backendHead", "backendPart", "backendChunk", "heldEndpoints"),
    CLUSTERSET: ("clustersetContribution", "clustersetContributionHead", "backendPart", "backendChunk"),
}


class ChannelTopic(NamedTuple):
    """A topic as its AsyncAPI channel describes it; `configs` are Kafka's topic configurations."""

    name: str
    partitions: int
    configs: dict[str, str]


def documents(topics: Iterable[ChannelTopic], version: str) -> dict[str, dict[str, Any]]:
    """All documents by file name."""
    files = {name: _schema(name, title, kind) for name, (title, kind) in _types().items()}
    files["asyncapi.json"] = _asyncapi({topic.name: topic for topic in topics}, version)
    return files


def _types() -> dict[str, tuple[str, Any]]:
    rows = {f"{table}.json": (f"A row of {topic_of(table)}", ROW_TYPES[table]) for table in TABLES}
    views = {
        f"{table}-view.json": (
            f"A row of the {table} table, as the commands and HTTP print it", row_view(table, tagged=False)
        )
        for table in FOLDED_TABLES
    }  # fmt: skip
    commit, event = _commit()
    return {
        "commit.json": (f"A record of {JOURNAL}", commit),
        "progress.json": (f"A record of {JOURNAL} that a watcher writes while little changes", records.Progress),
        "event.json": ("A legacy Endpoints object that the backend table holds beside a Service's slices", event),
        **rows,
        "backend-head.json": (f"A row of {topic_of('backend')} in parts", records.BackendHead),
        "backend-part.json": (
            f"A slice's part of a row of {topic_of('backend')} or {topic_of(CLUSTERSET)}",
            records.BackendPart,
        ),
        "backend-chunk.json": ("A chunk of a part's endpoints", records.BackendChunk),
        **views,
        "clusterset.json": (f"A set, in {topic_of(CLUSTERSET)}", clusterset_records.SetRow),
        "clusterset-contribution.json": (
            f"A cluster's contribution to a set, in {topic_of(CLUSTERSET)}",
            clusterset_records.ContributionRow,
        ),
        "clusterset-contribution-head.json": (
            f"A cluster's contribution in parts, in {topic_of(CLUSTERSET)}",
            clusterset_records.ContributionHead,
        ),
        "seal.json": ("A seal, in every facet topic", records.Seal),
        "deadletter.json": (f"A record of {DEAD_LETTER}", records.DeadLetter),
        "acks.json": (f"A record of {ACKS}", ack_records.AckBatch),
    }


def _commit() -> tuple[Any, Any]:
    """Commit and Event for a schema: their `object` is raw bytes, for which no schema can be generated."""
    event = _with(records.Event, {"object": Any}, {"object": msgspec.UNSET})
    return _with(records.Commit, {"events": list[event]}, {"events": []}), event  # type: ignore[valid-type]


def _with(kind: type[msgspec.Struct], types: dict[str, Any], defaults: dict[str, Any]) -> Any:
    fields: list[Any] = []
    for field in msgspec.structs.fields(kind):
        field_type = types.get(field.name, field.type)
        default = defaults.get(field.name, field.default)
        if default is msgspec.NODEFAULT:
            fields.append((field.encode_name, field_type))
        else:
            fields.append((field.encode_name, field_type, default))
    return msgspec.defstruct(
        kind.__name__, fields, namespace={"__doc__": kind.__doc__}, forbid_unknown_fields=True, kw_only=True
    )


def _schema(name: str, title: str, kind: Any) -> dict[str, Any]:
    (reference, *_), components = msgspec.json.schema_components(
        [kind, *_CONTENTS] if name in {"commit.json", "event.json"} else [kind], ref_template=f"{_DEFS}{{name}}"
    )
    own = components.pop(reference["$ref"].removeprefix(_DEFS))
    schema: dict[str, Any] = {"$schema": _DIALECT, "$id": f"urn:service-facets:{name.removesuffix('.json')}", **own}
    schema["title"] = title
    for holder in (own, *components.values()):
        if "object" in holder["properties"]:
            holder["properties"]["object"] = {
                "anyOf": [{"$ref": f"{_DEFS}{content.__name__}"} for content in _CONTENTS]
            }
    if components:
        schema["$defs"] = components
    tidied: dict[str, Any] = tidy(schema)
    return tidied


def tidy(node: Any) -> Any:
    """The schema with each docstring on one line."""
    if isinstance(node, dict):
        return {
            key: " ".join(value.split()) if key == "description" and isinstance(value, str) else tidy(value)
            for key, value in node.items()
        }
    return [tidy(item) for item in node] if isinstance(node, list) else node


def _asyncapi(topics: dict[str, ChannelTopic], version: str) -> dict[str, Any]:
    tables = {table: topic_of(table) for table in FOLDED_TABLES}
    channels = {
        "journal": _channel(
            topics, JOURNAL, ["commit", "progress"], "What every cluster said, in order: the source of truth."
        )
    }
    for table, topic in tables.items():
        names = [table, "seal", "tombstone", *_MORE_MESSAGES.get(table, ())]
        channels[table] = _channel(
            topics,
            topic,
            names,
            f"The {table} facet of every Service, as a changelog. Rows of one version, in all tables, are applied "
            "together once every table has a seal of that offset or a higher one; a row whose version is not higher "
            "than the one held is a duplicate; one whose `previous` is not the version held shows a gap.",
        )
    channels["deadletter"] = _channel(
        topics, DEAD_LETTER, ["deadletter"], "What could not be used, and why. Nothing is stopped by it."
    )
    channels["acks"] = _channel(
        topics, ACKS, ["acks"], "What each router was sent of each Service, and what it has acknowledged or refused."
    )
    operations = {"watch": _operation("send", "journal", "`facets watch` publishes what a cluster's API server says.")}
    operations["fold"] = _operation("receive", "journal", "`facets work` folds the journal into the tables.")
    for table in tables:
        operations[f"write{table.capitalize()}"] = _operation("send", table, "`facets work` writes rows and seals.")
        operations[f"follow{table.capitalize()}"] = _operation(
            "receive", table, "Subscribers: a snapshot, then batches."
        )
    operations["reject"] = _operation("send", "deadletter", "`facets work` sets aside what it can't use.")
    operations["acknowledge"] = _operation("send", "acks", "`facets serve` records which router has what.")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Service Facets",
            "version": version,
            "description": f"Kubernetes Service facets as data. {_PARTITIONING} Fold version {FOLD_VERSION}: the same "
            "journal makes the same bytes.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": _messages(tables)},
    }


def _messages(tables: dict[str, str]) -> dict[str, Any]:
    seal, companion, part = SEAL_PREFIX.decode(), COMPANION_PREFIX.decode(), PART_PREFIX.decode()
    row = "CLUSTER/NAMESPACE/SERVICE"
    messages = {
        "commit": _message("commit.json", "[^/]+", "The cluster's name.", None, "The changes seen together."),
        "progress": _message(
            "progress.json", "", "None: it is of no one cluster.", None, "All that it covers is as it was."
        ),
        **{
            table: _message(f"{table}.json", _KEY, row, "The row's `version`.", f"A whole row of {topic}.")
            for table, topic in tables.items()
            if table != CLUSTERSET
        },
        CLUSTERSET: _message(
            "clusterset.json", _SET_KEY, "NAMESPACE/SERVICE", "The row's `version`.",
            "The Service of all clusters that export it.",
        ),
        "clustersetContribution": _message(
            "clusterset-contribution.json", _KEY, row, "The row's `version`.",
            "What one cluster contributes to the set: all endpoints that it has there.",
        ),
        "clustersetContributionHead": _message(
            "clusterset-contribution-head.json", _KEY, row, "The row's `version`.",
            "What one cluster contributes of many endpoints: the chunks of its `parts` have its `groups`.",
        ),
        "backendHead": _message(
            "backend-head.json", _KEY, row, "The row's `version`.",
            "The row of a large Service: the chunks of its `parts` have its `groups`.",
        ),
        "backendPart": _message(
            "backend-part.json", f"{part}{_KEY}/[^/]+", f"{part}{row}/SLICE", "The journal offset that wrote it.",
            "A slice of a large Service. It comes before a row that names it, and is applied with it.",
        ),
        "backendChunk": _message(
            "backend-chunk.json", f"{part}{_KEY}/[^/]+/[0-9]+", f"{part}{row}/SLICE/NUMBER",
            "The journal offset that wrote it.",
            "Groups of the part's slice, without its `slice`, `uid` and `resourceVersion`.",
        ),
        "seal": _message(
            "seal.json", f"{seal}[^/]*", f"{seal}CLUSTER", "The seal's `offset`.", "Rows up to it are complete."
        ),
        "heldEndpoints": _message(
            "event.json", f"{companion}{_KEY}", f"{companion}{row}", "The journal offset.",
            "The worker's own: subscribers skip every key that begins with `~` and is no seal.",
        ),
        "deadletter": _message("deadletter.json", ".*", row, "The journal offset.", "What, where and why."),
        "acks": _message("acks.json", ".+", "The server's name.", None, "What one server saw in a moment."),
    }  # fmt: skip
    messages["tombstone"] = {
        "name": "tombstone",
        "summary": "A deleted Service, once its row is older than the resume window.",
        "headers": _headers("The journal offset at which it was removed."),
        "payload": {"type": "null"},
        "bindings": {
            "kafka": {
                "key": {
                    "type": "string",
                    "pattern": f"^((~held/)?{_KEY}|{_SET_KEY}|~part/{_KEY}/[^/]+(/[0-9]+)?)$",
                    "description": row,
                }
            }
        },
    }
    return messages


def _message(schema: str, key: str, key_text: str, header: str | None, summary: str) -> dict[str, Any]:
    return {
        "name": schema.removesuffix(".json"),
        "summary": summary,
        **({"headers": _headers(header)} if header else {}),
        "payload": {"$ref": f"./{schema}"},
        "bindings": {"kafka": {"key": {"type": "string", "pattern": f"^{key}$", "description": key_text}}},
    }


def _headers(text: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["v"],
        "properties": {"v": {"type": "string", "pattern": "^[0-9]+$", "description": f"{text} In decimal."}},
    }


def _channel(topics: dict[str, ChannelTopic], address: str, messages: list[str], text: str) -> dict[str, Any]:
    topic = topics.get(address) or ChannelTopic(address, DEFAULT_PARTITIONS, {})
    configs: dict[str, Any] = {name: int(value) if value.isdigit() else value for name, value in topic.configs.items()}
    if "cleanup.policy" in configs:
        configs["cleanup.policy"] = str(configs["cleanup.policy"]).split(",")
    return {
        "address": address,
        "description": f"{text} {_PARTITIONING}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {"topic": address, "partitions": topic.partitions, "topicConfiguration": configs}},
    }


def _operation(action: str, channel: str, text: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": text}
