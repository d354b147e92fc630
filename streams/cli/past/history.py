"""`facets history`: lists the rows of a Service over time, each with its cause and change."""

from functools import partial
from pathlib import Path
from typing import Any

import click
import orjson

from streams.cli.names import ServiceName, ServicePath, TableName, clusters_option, namespace_option, readable_tables
from streams.cli.options import Moment, bootstrap_option, index_option
from streams.cli.output import remark, row_line, run
from streams.exit_codes import ExitCode


@click.command("history")
@click.argument("service", required=False, type=ServiceName())
@namespace_option("The Service's namespace.  [default: default; without SERVICE all]")
@clusters_option
@click.option(
    "--table",
    "tables",
    multiple=True,
    type=TableName(),
    help="Only this table: frontend (fe), backend (be), routing (rt) or clusterset (cs); repeatable.",
)
@click.option(
    "--router", metavar="NODE", help="Not the rows, but what this router (its node id) was sent and has acknowledged."
)
@click.option("--since", type=Moment(), help="From this time on (RFC 3339, or how long ago: 15m).")
@click.option("--until", type=Moment(), help="Up to this time.")
@click.option(
    "--last", type=click.IntRange(min=1), default=1000, show_default=True, help="At most so many, the newest."
)
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="How to print it; json is a whole row a line.",
)  # fmt: skip
@index_option("The index from which it is answered, where it has the time (FACETS_INDEX).")
@bootstrap_option
def history_command(
    service: ServicePath | None,
    namespace: str | None,
    clusters: tuple[str, ...],
    tables: tuple[str, ...],
    router: str | None,
    since: str | None,
    until: str | None,
    last: int,
    output: str,
    index: Path,
    bootstrap_servers: str,
) -> None:
    """List the rows of SERVICE over time, and what caused each.

    Without SERVICE, those of all Services. Each row is shown with its change. The rows follow from the retained
    journal, so those that compaction has removed from the tables are included. What clusters export together is a row
    of the clusterset each time that it changes, in whichever of them. Exit code 1 if there is none in the time asked
    for, 3 if the journal does not cover it.

    With --router NODE the steps of a router instead, of all Services or of SERVICE: when it was sent which version, and
    had acknowledged or refused it, by what each `facets serve` has recorded.

    \b
    facets history cart -n shop
    facets history cart -n shop --since 15m -o json | jq .cause
    facets history --cluster east --last 50
    facets history cart -n shop --table clusterset
    facets history --router envoy-7 --since 1h        what was this router told?
    """
    if router is not None:
        if tables or clusters:
            raise click.UsageError("--router: a router's steps are of no table and no cluster: leave these options out")
        _print_steps(router, service, namespace, (since or "", until or ""), last, output, bootstrap_servers)
        return
    from streams.cli.looking_back import looking_back  # noqa: PLC0415
    from streams.history.collectors import LastRows  # noqa: PLC0415
    from streams.history.coverage import NotKnown, check_covered, check_since  # noqa: PLC0415
    from streams.history.queries import Until  # noqa: PLC0415
    from streams.subscription.known_names import check_names  # noqa: PLC0415
    from streams.subscription.rows import Filter  # noqa: PLC0415

    spaces: tuple[str, ...] = (namespace,) if namespace else ()
    names: tuple[str, ...] = ()
    if service is not None:
        space, name, clusters = service.resolve(namespace, clusters)
        spaces, names = (space,), (name,)
    read_tables = readable_tables(tables, clusters)
    make_collector = partial(LastRows, tables, since or "", last)
    newest = make_collector()
    point = Until(at=until or "")
    row_filter = Filter(frozenset(clusters), frozenset(spaces), frozenset(names))
    with looking_back(bootstrap_servers, index, point, row_filter) as past:
        for collector in past.collect(make_collector, point, row_filter, read_tables, since or "", last):
            newest.add(collector)
        run(
            check_names(
                bootstrap_servers, newest.services.values(), clusters=clusters, namespaces=spaces, services=names
            )
        )
        if until is not None:
            remark(check_covered(past.coverage, point, clusters))
        begins = check_since(past.coverage, since) if since is not None else ""
    rows = newest.rows()
    for row in rows:
        decoded = row.decode()
        if output == "json":
            click.echo(orjson.dumps({"table": row.table, **decoded}))
        else:
            click.echo(_line(row.table, decoded))
    if rows:
        remark([begins] if begins else [])
        return
    where = f"service {spaces[0]}/{names[0]}" if names else "any Service"
    if begins:
        raise NotKnown(f"no row of {where} is known since then", begins)
    click.echo(f"No row of {where} in that time.", err=True)
    raise SystemExit(ExitCode.NEGATIVE)


def _print_steps(
    node: str,
    service: ServicePath | None,
    namespace: str | None,
    between: tuple[str, str],
    last: int,
    output: str,
    bootstrap: str,
) -> None:
    from streams.cli.routers import step_line  # noqa: PLC0415
    from streams.history.acks import fold_acks  # noqa: PLC0415
    from streams.history.router_log import RouterSteps  # noqa: PLC0415

    space, name = (namespace or "", "") if service is None else service.resolve(namespace, ())[:2]
    log = RouterSteps(node, (space, name), between, last)
    remark(fold_acks(bootstrap, log, between[1], node))
    steps = log.steps()
    for step in steps:
        click.echo(orjson.dumps(step._asdict()) if output == "json" else step_line(step))
    if log.dropped:
        remark([f"{log.dropped} steps of routers of the same servers could not be recorded: facets_acks_dropped_total"])
    if not steps:
        click.echo(f"Nothing of router {node} in that time.", err=True)
        raise SystemExit(ExitCode.NEGATIVE)


def _line(table: str, row: dict[str, Any]) -> str:
    causes = ", ".join(
        f"{cause['kind']} {cause['name']}{'@' + cause['resourceVersion'] if cause['resourceVersion'] else ''}"
        for cause in row["cause"]
    )
    reason = f"  [{row['reason']}]" if row["reason"] else ""
    return f"{row_line(table, row)}{reason}  <- {causes or 'the cluster itself, or another fold version'}"
