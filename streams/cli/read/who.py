"""`facets who`: finds the Services that have an address, now or at a time."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from streams.cli.columns import fit
from streams.cli.names import AddressPorts, clusters_option
from streams.cli.options import Duration, Moment, bootstrap_option, index_option
from streams.cli.output import no_headers_option, print_grid, remark, run, run_within
from streams.exit_codes import ExitCode
from streams.wire.address_text import format_address
from streams.wire.records import CLUSTERSET
from streams.wire.timestamps import milliseconds

_PORTS_WIDTH = 16

if TYPE_CHECKING:
    from streams.history.queries import Holder
    from streams.subscription.rows import Row


@click.command("who")
@click.argument("address", metavar="IP[:PORT]", type=AddressPorts())
@click.option("--at", type=Moment(), help="At that time (RFC 3339, or how long ago: 15m), from the retained journal.")
@clusters_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "wide", "json"]),
    default="table",
    show_default=True,
    help="How to print it.",
)
@no_headers_option
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="How long to wait for the tables.")
@index_option("The index from which --at is answered, where it has the time (FACETS_INDEX).")
@bootstrap_option
def who_command(
    address: tuple[str, tuple[int, ...]],
    at: str | None,
    clusters: tuple[str, ...],
    output: str,
    no_headers: bool,
    timeout: float,
    index: Path,
    bootstrap_servers: str,
) -> None:
    """Find the Services, in all clusters, that have an IP address.

    As cluster IP, as an endpoint, or (clusterset) as an endpoint of the set that clusters export together, with the
    cluster by which it is in it. With a port, only those that have it there. Exit code 1 if none has, 3 if the journal
    does not cover the time. With --at the answer is the index's (facets index), else the journal is folded again up to
    that time; and the routers are listed that had acknowledged it by then (`yes`), had not (`not yet`), or had it
    although the Service no longer did (`still`).

    \b
    facets who 10.1.2.3
    facets who 10.1.2.3:8080 --at 15m                 whose was it a quarter of an hour ago?
    facets who [fd00::7]:80 --at 2026-11-24T12:00:00Z
    """
    from streams.history.queries import holders, place  # noqa: PLC0415

    ip, ports = address
    routers: list[dict[str, Any]] = []
    if at is None:
        rows: Iterable[Row] = _now(bootstrap_servers, clusters, timeout)
    else:
        rows, routers = _then(bootstrap_servers, index, address, clusters, at)
    found = holders(ip, sorted(rows, key=place), ports)
    matches = [holder for holder in found if not clusters or holder.cluster in clusters]
    if output == "json":
        answer = {"items": [holder._asdict() for holder in matches], **({"routers": routers} if at else {})}
        click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    else:
        if matches:
            print_grid(_lines(matches, wide=output == "wide"), headers=not no_headers)
        if routers:
            click.echo("\nRouters:" if matches else "Routers:")
            print_grid(_router_lines(routers), headers=not no_headers)
    if not matches:
        click.echo(f"No Service has {format_address(ip, ports)}{f' at {at}' if at else ''}.", err=True)
        raise SystemExit(ExitCode.NEGATIVE)


def _lines(matches: "Iterable[Holder]", *, wide: bool) -> list[list[str]]:
    head = ["CLUSTER", "NAMESPACE", "NAME", "STATE", *["VERSION"] * wide, "PORTS", "AS"]
    lines = [
        [
            *(holder.cluster, holder.namespace, holder.name, holder.state),
            *[str(holder.version)] * wide,
            fit(holder.ports.split(",") if holder.ports else [], sys.maxsize if wide else _PORTS_WIDTH),
            holder.held_as if holder.held_as == CLUSTERSET else holder.target or holder.held_as,
        ]
        for holder in matches
    ]
    return [head, *lines]


def _router_lines(routers: list[dict[str, Any]]) -> list[list[str]]:
    head = ["ROUTER", "CLUSTER", "SERVICE", "HAD IT", "VERSION", "ACKNOWLEDGED"]
    return [
        head,
        *(
            [
                each["router"], each["cluster"], f"{each['namespace']}/{each['name']}", each["had"],
                str(each["version"]) if each["version"] >= 0 else "none", each["acked"],
            ]
            for each in routers
        ),
    ]  # fmt: skip


def _then(
    bootstrap: str, index: Path, address: tuple[str, tuple[int, ...]], clusters: tuple[str, ...], at: str
) -> "tuple[Iterable[Row], list[dict[str, Any]]]":
    """The rows that had it, and what the routers of these Services had."""
    from streams.cli.looking_back import looking_back  # noqa: PLC0415
    from streams.cli.routers import had_by  # noqa: PLC0415
    from streams.history.acks import NotRecorded, fold_acks  # noqa: PLC0415
    from streams.history.coverage import NotKnown, check_covered  # noqa: PLC0415
    from streams.history.queries import Until  # noqa: PLC0415
    from streams.history.router_log import RouterLog  # noqa: PLC0415
    from streams.subscription.known_names import check_names  # noqa: PLC0415

    until = Until(at=at)
    with looking_back(bootstrap, index, until) as past:
        holdings = past.holdings(*address, until)
        run(check_names(bootstrap, holdings.clusters.values(), clusters=clusters))
        remark(check_covered(past.coverage, until, clusters))
    log, services = RouterLog(milliseconds(at), services=holdings.services()), holdings.services()
    if services:
        try:
            remark(fold_acks(bootstrap, log, at, services=services))
        except (NotKnown, NotRecorded) as error:
            remark([f"which routers had it is not known: {error}"])
    return holdings.rows.values(), had_by(holdings, log, clusters)


def _now(bootstrap: str, clusters: tuple[str, ...], seconds: float) -> "tuple[Row, ...]":
    from streams.subscription.client import Subscriber  # noqa: PLC0415
    from streams.subscription.known_names import check_names  # noqa: PLC0415
    from streams.subscription.set_client import read_sets  # noqa: PLC0415

    async def snapshot() -> "tuple[Row, ...]":
        async with Subscriber(bootstrap, tables=("frontend", "backend"), clusters=clusters) as subscriber:
            rows = (await subscriber.snapshot()).rows
        await check_names(bootstrap, rows, clusters=clusters)
        return rows + await read_sets(bootstrap)

    return run_within(seconds, snapshot())
