"""`facets schemas`: writes or checks the wire formats as JSON Schema, AsyncAPI and OpenAPI."""

from importlib.metadata import version
from pathlib import Path

import click
import orjson

from streams.exit_codes import ExitCode
from streams.serve.http.endpoints import all_endpoints
from streams.serve.http.openapi import openapi
from streams.wire.json_schema import ChannelTopic, documents
from streams.wire.topics import Topic, topics


@click.command("schemas")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default="schemas")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a file differs from what would be written.")
def schemas_command(folder: Path, check: bool) -> None:
    """Write the schemas of all records to FOLDER (default: schemas), or check those that are there.

    One JSON Schema (2020-12) a record type, asyncapi.json (AsyncAPI 3), which says what is in which topic, and
    openapi.json (OpenAPI 3.1), which says what `facets serve` answers over HTTP.

    \b
    facets schemas --check
    """
    release = version("service-facets")
    contents = documents(map(_channel, topics()), release) | {"openapi.json": openapi(release, all_endpoints())}
    texts = {name: orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n" for name, document in contents.items()}
    if not check:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_bytes(text)
        click.echo(f"{len(texts)} files written to {folder}/")
        return
    existing = {path.name: path.read_bytes() for path in folder.glob("*.json")} if folder.is_dir() else {}
    problems = [f"{name} is missing" for name in texts if name not in existing]
    problems += [
        f"{name} differs from the record types" for name in texts if existing.get(name, texts[name]) != texts[name]
    ]
    problems += [f"{name} belongs to no record type" for name in existing if name not in texts]
    for problem in sorted(problems):
        click.echo(f"facets schemas: {folder}/{problem}", err=True)
    if problems:
        click.echo("  remedy: facets schemas", err=True)
        raise SystemExit(ExitCode.NEGATIVE)
    click.echo(f"{len(texts)} files in {folder}/ match the record types")


def _channel(topic: Topic) -> ChannelTopic:
    return ChannelTopic(topic.name, topic.partitions, topic.configs)
