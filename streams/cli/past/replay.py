"""`facets replay`: rebuilds the tables as they were, from the retained journal alone."""

import contextlib
from pathlib import Path
from typing import Any

import click

from streams.cli.names import ServiceName, ServicePath, TableName, filter_options, one_namespace, readable_tables
from streams.cli.options import Assigned, Duration, Moment, bootstrap_option, index_option
from streams.cli.output import STYLES, RowPrinter, no_headers_option, remark, run, run_within
from streams.exit_codes import ExitCode

_SHOWN = 20


@click.command("replay")
@click.argument("tables", nargs=-1, type=TableName())
@filter_options
@click.option("--service", "services", type=ServiceName(), multiple=True, help="Only this Service; repeatable.")
@click.option("--at", type=Moment(), help="Up to a time (RFC 3339, or how long ago: 15m).")
@click.option(
    "--seq", "seqs", type=Assigned(), multiple=True, metavar="CLUSTER=SEQ",
    help="Up to a commit of a cluster, in all partitions: a cut that is consistent across its Services; repeatable.",
)  # fmt: skip
@click.option(
    "--offset", "offsets", type=Assigned(numbered=True), multiple=True, metavar="PARTITION=OFFSET",
    help="Up to a journal offset (a row's version) of a partition; repeatable.",
)  # fmt: skip
@click.option(
    "--verify",
    is_flag=True,
    help="Fold up to what the tables have sealed, compare all rows byte for byte, and print only the verdict.",
)
@click.option(
    "-o", "--output", type=click.Choice(STYLES), default="table", show_default=True, help="How to print them."
)
@no_headers_option
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="How long to wait for the tables.")
@index_option("The index from which it is answered, where it has the time or the offsets (FACETS_INDEX).")
@bootstrap_option
def replay_command(
    tables: tuple[str, ...],
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    clusters: tuple[str, ...],
    services: tuple[ServicePath, ...],
    at: str | None,
    seqs: tuple[tuple[str, int], ...],
    offsets: tuple[tuple[int, int], ...],
    verify: bool,
    output: str,
    no_headers: bool,
    timeout: float,
    index: Path,
    bootstrap_servers: str,
) -> None:
    """Print the tables as they were at a point: from the index, or by folding the journal again.

    To its end, or up to a point. TABLES are frontend (fe), backend (be), routing (rt) and clusterset (cs); without one
    all of them (of some clusters: without the clusterset, which is of all).

    The tables follow from the journal alone, so this is what they held. Nothing is written. Without -n all namespaces.
    Exit code 3 if the journal does not cover the point: it begins later, or ends before.

    \b
    facets replay backend --at 15m -n shop
    facets replay --seq east=5120 -o json
    facets replay clusterset --at 15m                 what clusters exported together a quarter of an hour ago
    facets replay --verify                            do the tables follow from the journal, byte for byte?
    """
    from streams.cli.looking_back import folding, looking_back  # noqa: PLC0415
    from streams.history.coverage import check_covered, check_offset  # noqa: PLC0415
    from streams.history.queries import Until, place  # noqa: PLC0415
    from streams.index.past import FoldedPast, Past  # noqa: PLC0415
    from streams.subscription.known_names import check_names  # noqa: PLC0415
    from streams.subscription.rows import Filter  # noqa: PLC0415
    from streams.wire.row_codec import is_deleted  # noqa: PLC0415

    until = Until(at or "", dict(seqs), dict(offsets))
    if verify:
        if any(until) or tables or namespaces or clusters or services:
            raise click.UsageError(
                "--verify compares whole tables, as far as they are sealed: it takes no other option"
            )
        _verify(bootstrap_servers, timeout)
        return
    names, spaces, clusters = one_namespace(services, () if all_namespaces else namespaces, clusters)
    tables = readable_tables(tables, clusters)
    row_filter = Filter(frozenset(clusters), frozenset(spaces), frozenset(names))
    with contextlib.ExitStack() as stack:
        past: Past
        if at is not None and not seqs and not offsets:
            past = stack.enter_context(looking_back(bootstrap_servers, index, until, row_filter))
        else:
            replay = stack.enter_context(folding(bootstrap_servers))
            for partition, offset in offsets:
                if partition not in replay.parts:
                    raise click.BadParameter(f"partition {partition} not found: there are 0 to {len(replay.parts) - 1}")
                check_offset(partition, offset, *replay.parts[partition])
            past = FoldedPast(replay)
        newest = past.rows_at(until, row_filter, tables)
        run(check_names(bootstrap_servers, newest, clusters=clusters, namespaces=spaces, services=names))
        remark(check_covered(past.coverage, until, clusters))
    rows = [row for row in sorted(newest, key=place) if not is_deleted(row.value)]
    _print([(row.table, row.decode()) for row in rows], tables, output, headers=not no_headers)
    if not rows:
        click.echo("No rows.", err=True)


def _print(rows: list[tuple[str, dict[str, Any]]], tables: tuple[str, ...], output: str, *, headers: bool) -> None:
    if output not in {"table", "wide"}:
        RowPrinter(tables[0], output).print([{"table": table, **row} for table, row in rows])
        return
    first = True
    for table in tables:
        table_rows = [row for name, row in rows if name == table]
        if not table_rows:
            continue
        if len(tables) > 1:
            click.echo(f"{'' if first else chr(10)}{table}:")
        RowPrinter(table, output, headers=headers).print(table_rows)
        first = False


def _verify(bootstrap: str, timeout: float) -> None:
    from streams.cli.looking_back import folding  # noqa: PLC0415
    from streams.history.verification import compare, table_rows  # noqa: PLC0415
    from streams.subscription.set_client import written_tables  # noqa: PLC0415
    from streams.wire.row_codec import is_deleted  # noqa: PLC0415

    tables = written_tables(bootstrap)
    actual, sealed = run_within(timeout, table_rows(bootstrap, tables))
    with folding(bootstrap) as replay:
        rows = replay.tables(sealed, tables=tables, joins_sets=False)
        replayed = {key: row for key, row in rows.items() if not is_deleted(row.value)}
        verdict = compare(actual, replayed, whole=replay.whole)
    through = ", ".join(f"{partition}: {offset}" for partition, offset in sorted(sealed.offsets.items()))
    click.echo(f"{verdict.identical} rows of {', '.join(tables)} follow from the journal byte for byte")
    if verdict.same:
        click.echo(
            f"{verdict.same} rows have the same content; their commits have expired, or another version wrote them"
        )
    click.echo(f"sealed up to (by partition): {through}", err=True)
    for problem in verdict.wrong[:_SHOWN]:
        click.echo(problem)
    if verdict.wrong:
        click.echo(f"facets replay: {len(verdict.wrong)} rows do not follow from the journal", err=True)
        click.echo("  remedy: facets doctor; a table is rebuilt from the journal if its topic is deleted", err=True)
        raise SystemExit(ExitCode.NEGATIVE)
