"""`facets fold`: runs the fold offline, on objects from a file."""

import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any

import click
import orjson

from streams.cli.options import routing_options
from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.fold.offline import AuditFold, UnknownInput
from streams.fold.table import Write
from streams.wire.records import TABLES, decode_row

_MAX_FILE = 2 * 1024 * 1024 * 1024
_NAMED = 20


@click.command("fold")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--changes", is_flag=True, help="Print each row as it is written, one a line, instead of the final rows.")
@click.option("--cluster", default="local", show_default=True, help="The cluster's name in the rows.")
@click.option("--cluster-domain", default="cluster.local", show_default=True, help="DNS domain of the cluster.")
@routing_options
def fold_command(
    file: IO[bytes], changes: bool, cluster: str, cluster_domain: str, routing_defaults: dict[str, str]
) -> None:
    """Fold Kubernetes objects or watch events into facet rows.

    FILE (or standard input) holds a List as kubectl prints it, or one JSON a line: watch events
    {"type":"ADDED|MODIFIED|DELETED","object":{...}} or bare objects. Prints the final rows as
    {"frontend": {"namespace/name": row}, "backend": {...}, "routing": {...}}; deleted Services are left out.

    \b
    kubectl get services,endpointslices,endpoints -A -o json | facets fold
    kubectl get services,namespaces,gateways,httproutes,referencegrants -A -o json | facets fold
    facets fold --changes events.jsonl

    Objects that can't be read are reported on standard error and skipped.
    """
    fold = AuditFold(cluster, cluster_domain, routing_defaults=routing_defaults)
    rows: dict[str, dict[str, bytes]] = {table: {} for table in TABLES}
    out = sys.stdout.buffer
    source = _Input(file)
    for write in source.writes(fold):
        if write.table == "deadletter":
            letter = orjson.loads(write.value or b"{}")
            click.echo(
                f"facets fold: {letter['kind']} {letter['namespace']}/{letter['name']}: {letter['reason']}", err=True
            )
        elif write.key.startswith(b"~"):
            continue
        elif changes:
            if write.value is not None:
                row = {"table": write.table, **decode_row(write.table, write.value)}
                out.write(orjson.dumps(row) + b"\n")
        elif write.value is None:
            rows[write.table].pop(write.key.decode().partition("/")[2], None)
        else:
            rows[write.table][write.key.decode().partition("/")[2]] = write.value
    if fold.unknown_kinds:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(fold.unknown_kinds.items()))
        click.echo(f"facets fold: kinds that no facet uses: {kinds}", err=True)
    if not changes:
        out.write(_final(rows) + b"\n")
    out.flush()
    if source.unreadable:
        raise FacetsError(
            f"{source.unreadable} part(s) of {source.name} could not be read; the rest is folded",
            "give it what `kubectl get services,endpointslices,endpoints -A -o json` prints, or one JSON a line",
            ExitCode.BAD_DATA,
        )


def _final(rows: dict[str, dict[str, bytes]]) -> bytes:
    """The rows of each table as one JSON document, without those of deleted Services."""
    decoded_tables: dict[str, dict[str, Any]] = {}
    for table, encoded in rows.items():
        decoded = {key: decode_row(table, value) for key, value in sorted(encoded.items())}
        decoded_tables[table] = {key: row for key, row in decoded.items() if row["state"] != "deleted"}
    return orjson.dumps(decoded_tables, option=orjson.OPT_INDENT_2)


class _Input:
    """A file's JSON documents: one a line, or a single one over many lines. Other text is reported and skipped."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.name = str(getattr(file, "name", "<stdin>"))
        self.unreadable = 0

    def writes(self, fold: AuditFold) -> Iterator[Write]:
        """Fold the documents, and yield the writes."""
        for place, document in self._documents():
            try:
                yield from fold.take(document)
            except UnknownInput as error:
                self._skip(place, error)
        yield from fold.finish()

    def _documents(self) -> Iterator[tuple[str, Any]]:
        first = b""
        number = 0
        for number, first in enumerate(self._file, 1):  # noqa: B007
            if first.strip():
                break
        if not first.strip():
            return
        try:
            yield f"line {number}", orjson.loads(first)
        except orjson.JSONDecodeError as error:
            rest = self._file.readlines(_MAX_FILE)
            try:
                yield "the document", orjson.loads(first + b"".join(rest))
            except orjson.JSONDecodeError:
                self._skip(f"line {number}", error)
                yield from self._lines(rest, number + 1)
            return
        yield from self._lines(self._file, number + 1)

    def _lines(self, lines: Iterable[bytes], start: int) -> Iterator[tuple[str, Any]]:
        for number, line in enumerate(lines, start):
            if line.strip():
                try:
                    yield f"line {number}", orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    self._skip(f"line {number}", error)

    def _skip(self, place: str, error: Exception) -> None:
        self.unreadable += 1
        if self.unreadable <= _NAMED:
            click.echo(f"facets fold: {self.name}: {place}: {error}", err=True)
