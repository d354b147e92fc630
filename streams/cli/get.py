"""`facets get`: rows of a table, as of now."""

import click

from streams.cli.options import bootstrap_option
from streams.cli.output import TableName, filter_options, print_rows, run
from streams.core.errors import FacetsError


@click.command("get")
@click.argument("table", type=TableName())
@click.argument("name", required=False)
@filter_options
@click.option(
    "-o", "--output", type=click.Choice(["table", "wide", "json", "yaml"]), default="table", show_default=True,
    help="How to print them.",
)  # fmt: skip
@bootstrap_option
def get_command(
    table: str,
    name: str | None,
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    clusters: tuple[str, ...],
    output: str,
    bootstrap_servers: str,
) -> None:
    """Print the rows of TABLE (frontend or backend), or of one Service, as of the newest seal.

    \b
    facets get backend -A
    facets get frontend cart -n shop -o json
    """
    from streams.edges.subscriber import Snapshot, Subscriber  # noqa: PLC0415

    wanted = () if all_namespaces else namespaces or ("default",)

    async def snapshot() -> Snapshot:
        async with Subscriber(
            bootstrap_servers,
            tables=(table,),
            clusters=clusters,
            namespaces=wanted,
            services=(name,) if name else (),
        ) as subscriber:
            return await subscriber.snapshot()

    rows = sorted(
        (row.decode() for row in run(snapshot()).rows), key=lambda r: (r["namespace"], r["name"], r["cluster"])
    )
    if name and not rows:
        where = f" in namespace {', '.join(wanted)}" if wanted else ""
        raise FacetsError(f'service "{name}" not found{where}', "facets get frontend -A lists what there is")
    if not rows and output in {"table", "wide"}:
        click.echo(f"No rows found{' in namespace ' + ', '.join(wanted) if wanted else ''}.", err=True)
        return
    print_rows(table, rows, output)
