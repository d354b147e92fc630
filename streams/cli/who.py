"""`facets who`: which Services have an address, now or at a time."""

from ipaddress import ip_address
from typing import TYPE_CHECKING

import click
import orjson

from streams.cli.options import Duration, Moment, bootstrap_option
from streams.cli.output import print_grid, run_within
from streams.core.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.core.subscription import Row


@click.command("who")
@click.argument("ip", metavar="IP")
@click.option("--at", type=Moment(), help="At that time (RFC 3339, or how long ago: 15m), from the retained journal.")
@click.option("--cluster", "clusters", multiple=True, help="Only this cluster; repeatable.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How to print it."
)
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="How long to wait for the tables.")
@bootstrap_option
def who_command(
    ip: str, at: str | None, clusters: tuple[str, ...], output: str, timeout: float, bootstrap_servers: str
) -> None:
    """Say which Services, in which clusters, have an IP address: as cluster IP, or as an endpoint.

    Exit code 1 if none has. With --at the journal is folded again up to that time.

    \b
    facets who 10.1.2.3
    facets who 10.1.2.3 --at 15m                      whose was it a quarter of an hour ago?
    facets who fd00::7 --at 2026-11-24T12:00:00Z
    """
    from streams.core.lookback import Until, holders, place  # noqa: PLC0415

    try:
        ip_address(ip)
    except ValueError:
        raise click.BadParameter(f"{ip!r} is not an IP address", param_hint="IP") from None
    rows: Iterable[Row]
    if at is None:
        rows = _now(bootstrap_servers, clusters, timeout)
    else:
        from streams.cli.replay import folding  # noqa: PLC0415

        with folding(bootstrap_servers) as replay:
            rows = replay.tables(Until(at=at)).values()
    chosen = sorted((row for row in rows if not clusters or row.cluster in clusters), key=place)
    found = list(holders(ip, chosen))
    if output == "json":
        click.echo(orjson.dumps({"items": [each._asdict() for each in found]}, option=orjson.OPT_INDENT_2).decode())
    elif found:
        head = ["CLUSTER", "NAMESPACE", "NAME", "AS", "PORTS", "STATE", "TARGET", "VERSION"]
        print_grid([head, *([str(cell) or "-" for cell in each] for each in found)])
    if not found:
        click.echo(f"No Service has {ip}{f' at {at}' if at else ''}.", err=True)
        raise SystemExit(ExitCode.NEGATIVE)


def _now(bootstrap: str, clusters: tuple[str, ...], seconds: float) -> "tuple[Row, ...]":
    from streams.edges.subscriber import Subscriber  # noqa: PLC0415

    async def snapshot() -> "tuple[Row, ...]":
        async with Subscriber(bootstrap, tables=("frontend", "backend"), clusters=clusters) as subscriber:
            return (await subscriber.snapshot()).rows

    return run_within(seconds, snapshot())
