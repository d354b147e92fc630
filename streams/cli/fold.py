"""`facets fold`: the pure core on its own, offline."""

import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any

import click
import orjson

from streams.core.audit import AuditFold, UnknownInput
from streams.core.errors import FacetsError
from streams.core.fold import Write
from streams.core.records import TABLES, decode_row

_MAX_FILE = 2 * 1024 * 1024 * 1024


@click.command("fold")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--changes", is_flag=True, help="Print each row as it is made, one a line, instead of the final rows.")
@click.option("--cluster", default="local", show_default=True, help="The cluster's name in the rows.")
@click.option("--cluster-domain", default="cluster.local", show_default=True, help="DNS domain of the cluster.")
def fold_command(file: IO[bytes], changes: bool, cluster: str, cluster_domain: str) -> None:
    """Fold Kubernetes objects or watch events into facet rows.

    FILE (or standard input) holds a List as kubectl prints it, or one JSON a line: watch events
    {"type":"ADDED|MODIFIED|DELETED","object":{...}} or bare objects. Prints the final rows as
    {"frontend": {"namespace/name": row}, "backend": {...}, "routing": {...}}; Services that are gone are left out.

    \b
    kubectl get services,endpointslices,endpoints -A -o json | facets fold
    facets fold --changes events.jsonl

    Objects that can't be read are named on standard error; the others go on.
    """
    fold = AuditFold(cluster, cluster_domain)
    rows: dict[str, dict[str, bytes]] = {table: {} for table in (*TABLES, "routing")}
    out = sys.stdout.buffer
    for write in _writes(fold, file):
        if write.table == "deadletter":
            letter = orjson.loads(write.value or b"{}")
            click.echo(
                f"facets fold: {letter['kind']} {letter['namespace']}/{letter['name']}: {letter['reason']}", err=True
            )
        elif write.key.startswith(b"~"):
            continue
        elif changes:
            if write.value is not None:
                out.write(orjson.dumps(decode_row(write.table, write.value)) + b"\n")
        elif write.value is None:
            rows[write.table].pop(write.key.decode().partition("/")[2], None)
        else:
            rows[write.table][write.key.decode().partition("/")[2]] = write.value
    if fold.unknown_kinds:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(fold.unknown_kinds.items()))
        click.echo(f"facets fold: kinds that no facet is made of: {kinds}", err=True)
    if not changes:
        shown: dict[str, dict[str, Any]] = {}
        for table, held in rows.items():
            decoded = {key: decode_row(table, value) for key, value in sorted(held.items())}
            shown[table] = {key: row for key, row in decoded.items() if row["state"] != "deleted"}
        out.write(orjson.dumps(shown, option=orjson.OPT_INDENT_2) + b"\n")
    out.flush()


def _writes(fold: AuditFold, file: IO[bytes]) -> Iterator[Write]:
    for place, document in _documents(file):
        try:
            yield from fold.take(document)
        except UnknownInput as error:
            raise FacetsError(
                f"{file.name}: {place}: {error}", "see `facets fold --help` for what it reads", 65
            ) from None
    yield from fold.finish()


def _documents(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """The JSON documents of a file: one a line, or a single one over many lines."""
    first = file.readline()
    while first and not first.strip():
        first = file.readline()
    if not first:
        return
    try:
        yield "line 1", orjson.loads(first)
    except orjson.JSONDecodeError:
        text = first + file.read(_MAX_FILE)
        try:
            yield "the document", orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise _not_json(file, "", error) from None
        return
    yield from _lines(file, file)


def _lines(file: IO[bytes], lines: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(lines, 2):
        if line.strip():
            try:
                yield f"line {number}", orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise _not_json(file, f" line {number}:", error) from None


def _not_json(file: IO[bytes], place: str, error: Exception) -> FacetsError:
    return FacetsError(
        f"{file.name}:{place} is not JSON: {error}",
        "give it what `kubectl get services,endpointslices,endpoints -A -o json` prints, or one JSON a line",
        65,
    )
