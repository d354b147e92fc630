"""`facets get`: rows of a table, as of now."""

import click

from streams.cli.options import Duration, bootstrap_option
from streams.cli.output import TableName, filter_options, print_rows, run_within
from streams.core.exit_codes import ExitCode


@click.command("get")
@click.argument("table", metavar="TABLE[/NAME]")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@filter_options
@click.option(
    "-o", "--output", type=click.Choice(["table", "wide", "json", "yaml"]), default="table", show_default=True,
    help="How to print them.",
)  # fmt: skip
@click.option(
    "--cut", is_flag=True,
    help="All Services of a cluster as they were at one moment: waits until every partition has sealed as much.",
)  # fmt: skip
@click.option("--timeout", type=Duration(), default="30s", show_default=True, help="How long to wait for it all.")
@bootstrap_option
def get_command(
    table: str,
    names: tuple[str, ...],
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    clusters: tuple[str, ...],
    output: str,
    cut: bool,
    timeout: float,
    bootstrap_servers: str,
) -> None:
    """Print the rows of a TABLE (frontend or fe, backend or be), of all Services or of those named.

    The rows are as of each partition's newest seal: an endpoint set is whole, never half applied. Without -n or -A
    the namespace is `default`.

    \b
    facets get backend -A
    facets get frontend cart -n shop -o json
    facets get be/cart -n shop --cluster east -o wide
    """
    from streams.edges.subscriber import Snapshot, Subscriber  # noqa: PLC0415

    kind, _, name = table.partition("/")
    kind = TableName().convert(kind, None, click.get_current_context())
    names = tuple(dict.fromkeys((name, *names) if name else names))
    wanted = () if all_namespaces else namespaces or ("default",)

    async def snapshot() -> Snapshot:
        async with Subscriber(
            bootstrap_servers, tables=(kind,), clusters=clusters, namespaces=wanted, services=names
        ) as subscriber:
            return await subscriber.snapshot(cut=cut)

    remedy = "a cut needs every partition sealed: check watcher and worker with facets doctor" if cut else ""
    found = run_within(timeout, snapshot(), remedy).rows
    rows = sorted((row.decode() for row in found), key=lambda r: (r["namespace"], r["name"], r["cluster"]))
    if rows or output not in {"table", "wide"}:
        print_rows(kind, rows, output)
    missing = [each for each in names if each not in {row["name"] for row in rows}]
    for each in missing:
        click.echo(f'Error: service "{each}" not found{_where(wanted, clusters)}', err=True)
    if missing:
        raise SystemExit(ExitCode.NEGATIVE)
    if not rows:
        click.echo(f"No {kind} rows found{_where(wanted, clusters)}.", err=True)


def _where(namespaces: tuple[str, ...], clusters: tuple[str, ...]) -> str:
    named = (("namespace", namespaces), ("cluster", clusters))
    where = [f"{what} " + " or ".join(f'"{each}"' for each in names) for what, names in named if names]
    return f" in {', '.join(where)}" if where else ""
