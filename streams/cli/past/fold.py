"""`facets fold`: runs the fold offline, on objects from a file."""

import sys
from typing import IO, Any

import click
import orjson

from streams.cli.objects_input import ObjectsInput
from streams.cli.options import routing_options
from streams.fold.offline import AuditFold
from streams.wire.records import TABLES, decode_row


@click.command("fold")
@click.argument("files", type=click.File("rb"), nargs=-1, metavar="[FILE]...")
@click.option("--changes", is_flag=True, help="Print each row as it is written, one a line, instead of the final rows.")
@click.option("--cluster", default="local", show_default=True, help="The cluster's name in the rows.")
@click.option("--cluster-domain", default="cluster.local", show_default=True, help="DNS domain of the cluster.")
@routing_options
def fold_command(
    files: tuple[IO[bytes], ...], changes: bool, cluster: str, cluster_domain: str, routing_defaults: dict[str, str]
) -> None:
    """Fold Kubernetes objects or watch events into facet rows.

    Each FILE (without one, standard input) holds JSON or YAML as kubectl prints it, with --watch too, or manifests:
    Lists, objects and watch events {"type":"ADDED|MODIFIED|DELETED","object":{...}}, any number, one after another.
    The first List is the cluster's state, what follows changes it. As for kubectl, what names no namespace is in
    `default`. Prints the final rows as
    {"frontend": {"namespace/name": row}, "backend": {...}, "routing": {...}}; deleted Services are left out.

    \b
    kubectl get services,endpointslices,endpoints -A -o json | facets fold
    kubectl get services,namespaces,gateways,httproutes,referencegrants -A -o json | facets fold
    facets fold --changes events.jsonl
    kubectl get endpointslices -A -w -o json | facets fold --changes
    facets fold services.yaml slices.yaml

    Objects that can't be read are reported on standard error and skipped.
    """
    fold = AuditFold(cluster, cluster_domain, routing_defaults=routing_defaults)
    rows: dict[str, dict[str, bytes]] = {table: {} for table in TABLES}
    out = sys.stdout.buffer
    source = ObjectsInput("fold", files or (sys.stdin.buffer,))
    for write in source.writes(fold):
        if changes:
            if write.value is not None:
                row = {"table": write.table, **decode_row(write.table, write.value)}
                out.write(orjson.dumps(row) + b"\n")
                out.flush()
        elif write.value is None:
            rows[write.table].pop(write.key.decode().partition("/")[2], None)
        else:
            rows[write.table][write.key.decode().partition("/")[2]] = write.value
    if not changes:
        out.write(_final(rows) + b"\n")
    out.flush()
    source.raise_for_unreadable()


def _final(rows: dict[str, dict[str, bytes]]) -> bytes:
    """The rows of each table as one JSON document, without those of deleted Services."""
    decoded_tables: dict[str, dict[str, Any]] = {}
    for table, encoded in rows.items():
        decoded = {key: decode_row(table, value) for key, value in sorted(encoded.items())}
        decoded_tables[table] = {key: row for key, row in decoded.items() if row["state"] != "deleted"}
    return orjson.dumps(decoded_tables, option=orjson.OPT_INDENT_2)
