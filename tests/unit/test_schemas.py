"""The schemas in `schemas/`: valid, complete, and true of what the watcher and the worker write."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from streams.cli.admin.schemas import schemas_command
from streams.cli.past.fold import fold_command
from streams.fold.fold import PartitionFold
from streams.objects.collector import Collector
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import OPTIONAL, RESOURCES
from streams.wire.records import TABLES, decode_row
from tests.support.routes import annotated, by_cookie, gateway, namespace, policy, route, rule, to_gateway, to_service

FOLDER = Path(__file__).parents[2] / "schemas"
AT = "2026-11-24T12:00:00.000Z"
_ALL = (*RESOURCES, *OPTIONAL)


def meta(name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": str(version), **more}


OBJECTS: list[dict[str, Any]] = [
    {
        "kind": "Service",
        "metadata": meta("cart", 1),
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80, "targetPort": "web"}], "selector": {"app": "cart"}},
    },
    {"kind": "Service", "metadata": meta("db", 2), "spec": {"type": "ExternalName", "externalName": "db.example"}},
    {
        "kind": "EndpointSlice",
        "metadata": meta("cart-a", 3, labels={"kubernetes.io/service-name": "cart"}),
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": 8080}, {"name": "any", "port": None}],
        "endpoints": [
            {
                "addresses": ["10.1.0.1"],
                "hints": {"forZones": [{"name": "z1"}]},
                "targetRef": {"kind": "Pod", "name": "p", "uid": "u"},
            },
            {"addresses": ["10.1.0.2"], "conditions": {"ready": False, "terminating": True}},
        ],
    },
    {
        "kind": "Endpoints",
        "metadata": meta("cart", 4),
        "subsets": [{"addresses": [{"ip": "10.1.0.9"}], "ports": [{"port": 1}]}],
    },
    {"kind": "EndpointSlice", "metadata": meta("bad", 5, labels={"kubernetes.io/service-name": "cart"})},
    annotated({"kind": "Service", "metadata": meta("tea", 6), "spec": {"clusterIP": "10.96.0.8"}}, mesh="service"),
    namespace("shop", gateway="service", mesh="neither"),
    gateway(),
    route("shop", [to_gateway(), to_service()], [rule("cart", "tea", persistence=by_cookie("a")), rule("gone")]),
    route("web", [to_gateway("none")], [rule({"name": "cart", "namespace": "shop"})], "TCPRoute", namespace="web"),
    {**route("bad", [to_gateway()], []), "spec": {"rules": [{"backendRefs": [{"name": "cart", "port": "x"}]}]}},
    policy("sticky", "tea", persistence={"type": "Header"}),
]
for _place, _item in enumerate(OBJECTS, 1):
    _item["metadata"] = {"resourceVersion": str(_place), **_item["metadata"]}


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((FOLDER / name).read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_what_is_there_is_what_would_be_written(tmp_path: Path) -> None:
    assert CliRunner().invoke(schemas_command, [str(FOLDER), "--check"]).exit_code == 0
    assert CliRunner().invoke(schemas_command, [str(tmp_path)]).exit_code == 0
    (tmp_path / "seal.json").write_text("{}")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "commit.json").unlink()
    result = CliRunner().invoke(schemas_command, [str(tmp_path), "--check"])
    assert result.exit_code == 1
    for name in ("seal.json differs from", "other.json belongs to no", "commit.json is missing"):
        assert name in result.output


def test_everything_written_is_in_the_schemas() -> None:
    collector = Collector("east", epoch=1, writer="w", seq=0, partitions=1, resources=_ALL)
    records = collector.begin(AT)
    for resource in _ALL:
        collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
    for item in OBJECTS:
        collector.ingest(item["kind"], ReflectorEvent(Kind.INIT_APPLY, item, ""))
    for resource in _ALL:
        collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, "5"))
    records += collector.flush(AT)
    collector.commits.stale_since = AT
    records += collector.heartbeat(AT)
    collector.commits.stale_since = ""
    for item in OBJECTS:
        collector.ingest(item["kind"], ReflectorEvent(Kind.DELETE, item, "9"))
    records += collector.flush(AT)
    checks = {name: validator(f"{name}.json") for name in ("commit", "seal", "deadletter", "event", *TABLES)}
    views = {table: validator(f"{table}-view.json") for table in TABLES}
    fold = PartitionFold(0)
    seen: dict[str, int] = {}
    for offset, record in enumerate([*records, records[0]._replace(value=b"{")]):
        if record.value != b"{":
            checks["commit"].validate(json.loads(record.value))
        for write in fold.step(offset, record.value):
            name = (
                "seal"
                if write.key.startswith(b"~seal/")
                else "event"
                if write.key.startswith(b"~held/")
                else write.table
            )
            seen[name] = seen.get(name, 0) + 1
            if write.value is not None:
                checks[name].validate(json.loads(write.value))
                if name in views:
                    views[name].validate(decode_row(name, write.value))
                    # The two forms are told apart: a backend has `groups` in one, `endpoints` in the other.
                    assert views[name].is_valid(json.loads(write.value)) == (name != "backend")
    assert set(seen) == {"seal", "deadletter", "event", *TABLES}


@pytest.mark.parametrize("options", [[], ["--changes"]])
def test_what_is_printed_is_in_the_schemas(options: list[str]) -> None:
    views = {table: validator(f"{table}-view.json") for table in TABLES}
    lines = "\n".join(json.dumps(item) for item in OBJECTS)
    result = CliRunner().invoke(fold_command, [*options, "-"], input=lines)
    assert result.exit_code == 0, result.output
    if options:
        rows = [(row["table"], row) for row in map(json.loads, result.stdout.splitlines())]
    else:
        rows = [(table, row) for table, found in json.loads(result.stdout).items() for row in found.values()]
    assert {table for table, _ in rows} == set(TABLES)
    for table, row in rows:
        views[table].validate(row)


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.json")))
def test_references_lead_somewhere(name: str) -> None:
    document = json.loads((FOLDER / name).read_text())

    def follow(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(reference := node.get("$ref"), str):
                file, _, path = reference.partition("#")
                found = json.loads((FOLDER / file).read_text()) if file else document
                for step in filter(None, path.split("/")):
                    found = found[step]
            for each in node.values():
                follow(each)
        elif isinstance(node, list):
            for each in node:
                follow(each)

    follow(document)


def test_every_topic_is_a_channel_with_its_messages() -> None:
    api = json.loads((FOLDER / "asyncapi.json").read_text())
    assert api["asyncapi"] == "3.0.0"
    assert {channel["address"] for channel in api["channels"].values()} == {
        "facets.journal", "facets.frontend", "facets.backend", "facets.routing", "facets.clusterset",
        "facets.deadletter", "facets.acks",
    }  # fmt: skip
    assert "crc32" in api["info"]["description"]
    of_backend = {"backend", "backendHead", "backendPart", "backendChunk", "seal", "tombstone", "heldEndpoints"}
    assert set(api["channels"]["backend"]["messages"]) == of_backend


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.json")))
def test_defaults_are_what_their_schema_allows(name: str) -> None:
    document = json.loads((FOLDER / name).read_text())
    defs = {key: document[key] for key in ("$defs", "components") if key in document}

    def follow(node: Any) -> None:
        if isinstance(node, dict):
            if "default" in node and node.keys() & {"type", "anyOf", "$ref", "enum"}:
                Draft202012Validator({**node, **defs}).validate(node["default"])
            for each in node.values():
                follow(each)
        elif isinstance(node, list):
            for each in node:
                follow(each)

    follow(document)
