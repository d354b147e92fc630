"""`facets fold`: runs the fold offline, on objects from files."""

import sys
from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import IO, Any

import click
import orjson

from streams.cli.objects_input import DEFAULT_CLUSTER, ClusterFile, ObjectsInput, inputs_by_cluster
from streams.cli.options import routing_options
from streams.facets.tables import WHOLE_WORKER_TABLES
from streams.fold.offline import AuditFold, OfflineJournal
from streams.fold.table import Write
from streams.subscription.rows import Row
from streams.subscription.set_rows import SetRows
from streams.wire.keys import parse_row_key, row_key
from streams.wire.records import FOLDED_TABLES


class ClusterNameOrFile(click.ParamType):
    """NAME=FILE, or NAME alone: that of the one cluster. Given as the name, and the opened file or None."""

    name = "name[=file]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, IO[bytes] | None]:
        """The name, and the file where there is one."""
        if isinstance(value, str) and value and "=" not in value:
            return value, None
        return ClusterFile().convert(value, param, ctx)


@click.command("fold")
@click.argument("files", type=click.File("rb"), nargs=-1, metavar="[FILE]...")
@click.option("--changes", is_flag=True, help="Print each row as it is written, one a line, instead of the final rows.")
@click.option(
    "--cluster", "clusters", type=ClusterNameOrFile(), multiple=True,
    help="The cluster's name in the rows; or, repeatable, a cluster's name and the file with its objects.  "
    f"[default: {DEFAULT_CLUSTER}]",
)  # fmt: skip
@click.option("--cluster-domain", default="cluster.local", show_default=True, help="DNS domain of the clusters.")
@routing_options
def fold_command(
    files: tuple[IO[bytes], ...],
    changes: bool,
    clusters: tuple[tuple[str, IO[bytes] | None], ...],
    cluster_domain: str,
    routing_defaults: dict[str, str],
) -> None:
    """Fold Kubernetes objects or watch events into facet rows.

    Each FILE (without one, standard input) holds JSON or YAML as kubectl prints it, with --watch too, or manifests:
    Lists, objects and watch events {"type":"ADDED|MODIFIED|DELETED","object":{...}}, any number, one after another.
    The first List is the cluster's state, what follows changes it. As for kubectl, what names no namespace is in
    `default`. Prints the final rows as
    {"frontend": {"namespace/name": row}, "backend": {...}, "routing": {...}, "clusterset": {...}}; deleted Services are
    left out.

    All FILEs are of one cluster. With --cluster NAME=FILE there are several, folded one after another, and the rows of
    a cluster are under "cluster/namespace/name". The clusterset has what they export together (ServiceExport), each
    set with the endpoints of all clusters that count in it, under "namespace/name".

    \b
    kubectl get services,endpointslices,endpoints -A -o json | facets fold
    kubectl get services,namespaces,gateways,httproutes,referencegrants -A -o json | facets fold
    facets fold --changes events.jsonl
    kubectl get endpointslices -A -w -o json | facets fold --changes
    facets fold services.yaml slices.yaml
    facets fold --cluster east=east.json --cluster west=west.json | jq .clusterset

    Objects that can't be read are reported on standard error and skipped.
    """
    inputs = _inputs(files, clusters)
    journal, printer = (
        OfflineJournal(WHOLE_WORKER_TABLES),
        _Printer(changes=changes, several=any(file is not None for _, file in clusters)),
    )
    sources = []
    for name, cluster_files in inputs.items():
        source = ObjectsInput("fold", cluster_files)
        sources.append(source)
        fold = AuditFold(name, cluster_domain, routing_defaults=routing_defaults, journal=journal)
        for writes in source.batches(fold):
            printer.take(writes)
    printer.finish()
    for source in sources:
        source.raise_for_unreadable()


def _inputs(
    files: tuple[IO[bytes], ...], clusters: tuple[tuple[str, IO[bytes] | None], ...]
) -> dict[str, list[IO[bytes]]]:
    """The files of each cluster. Raises click.UsageError if names alone and files are mixed."""
    named = [name for name, file in clusters if file is None]
    if not named:
        return inputs_by_cluster(files, [(name, file) for name, file in clusters if file is not None])
    if len(clusters) > 1:
        raise click.UsageError("--cluster NAME is the one cluster of all FILEs: of several, give --cluster NAME=FILE")
    return inputs_by_cluster(files, (), named[0])


class _Printer:
    """Prints rows as they are written (`changes`), or the newest of each at the end; with `several` clusters, their
    rows have the cluster in their keys."""

    def __init__(self, *, changes: bool, several: bool) -> None:
        self._changes = changes
        self._several = several
        self._rows: dict[str, dict[str, Row]] = {table: {} for table in FOLDED_TABLES}
        self._sets = SetRows()

    def take(self, writes: Iterable[Write]) -> None:
        """Take rows and tombstones, of whole commits."""
        for _, commit in groupby(writes, key=attrgetter("version")):
            rows = [
                Row(write.table, *parse_row_key(write.key.decode()), write.version, write.value or b"")
                for write in commit
            ]
            for row in self._sets.join(rows):
                self._put(row)

    def finish(self) -> None:
        """After the last row."""
        if not self._changes:
            tables = {table: self._final(rows) for table, rows in self._rows.items()}
            sys.stdout.buffer.write(orjson.dumps(tables, option=orjson.OPT_INDENT_2) + b"\n")
        sys.stdout.buffer.flush()

    def _put(self, row: Row) -> None:
        if not self._changes:
            self._rows[row.table][row_key(row.cluster if self._several else "", row.namespace, row.name)] = row
        elif row.value:
            sys.stdout.buffer.write(orjson.dumps({"table": row.table, **row.decode()}) + b"\n")
            sys.stdout.buffer.flush()

    @staticmethod
    def _final(rows: dict[str, Row]) -> dict[str, Any]:
        decoded = {key: row.decode() for key, row in sorted(rows.items()) if row.value}
        return {key: row for key, row in decoded.items() if row["state"] != "deleted"}
