"""`facets status`: shows which router has which version."""

from datetime import UTC, datetime
from typing import Any

import click

from streams.cli.columns import age
from streams.cli.names import ServiceName, ServicePath, namespace_option
from streams.cli.options import server_option
from streams.cli.output import no_headers_option, print_grid, run
from streams.subscription.names import KnownNames, UnknownName, unknown_name, unknown_names

_NACK = 24
"""How many characters of a router's last NACK are shown; -o json has all of it."""


@click.command("status")
@click.argument("service", required=False, type=ServiceName())
@namespace_option("The Service's namespace.  [default: default; without SERVICE all]")
@click.option("--router", "routers", multiple=True, help="Only this router, by its node id; repeatable.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How to print it."
)
@server_option
@no_headers_option
def status_command(
    service: ServicePath | None,
    namespace: str | None,
    routers: tuple[str, ...],
    output: str,
    server: str,
    no_headers: bool,
) -> None:
    """Show which router has acknowledged what.

    The routers are those that are connected to `facets serve` at --server.

    For SERVICE each router that follows it: the version sent and the version acknowledged, how many versions it is
    behind, and for how many milliseconds; and the addresses that several clusters have. Without SERVICE all clusters
    (with the age of what is furthest behind), all routers, and all Services.

    \b
    facets status
    facets status cart -n shop
    """
    import orjson  # noqa: PLC0415

    from streams.serve.propagation_client import fetch  # noqa: PLC0415

    query = {"namespace": namespace} if namespace else {}
    space, name = "", ""
    if service is not None:
        space, name, _ = service.resolve(namespace, ())
        query = {"service": name, "namespace": space}
    report: dict[str, Any] = run(fetch(server, "/v1/propagation", query))
    if name and not report["services"]:
        everything = run(fetch(server, "/v1/propagation", {}))["services"]
        known = KnownNames(frozenset(), frozenset(("", row["namespace"], row["name"]) for row in everything))
        raise unknown_names(known, (), [space], [name]) or UnknownName(f'service "{name}" not found')
    _choose(report, routers)
    if output == "json":
        click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    elif name:
        _one(report["services"], headers=not no_headers)
    else:
        _all(report, headers=not no_headers)


def _choose(report: dict[str, Any], routers: tuple[str, ...]) -> None:
    """Keep the named routers only. Raises UnknownName."""
    connected = {client["node"] for client in report["clients"]}
    for router in routers:
        if router not in connected:
            raise unknown_name("router", router, connected, " among those connected")
    if routers:
        for entry in (report, *report["services"]):
            entry["clients"] = [client for client in entry["clients"] if client["node"] in routers]


def _one(services: list[dict[str, Any]], *, headers: bool) -> None:
    for row in services:
        click.echo(f"{row['namespace']}/{row['name']} is at version {row['version']} ({row['at'] or 'deleted'})")
        lines = [
            [
                client["node"],
                _version(client["sent"]),
                _version(client["acked"]),
                str(client["behind"]),
                str(client["behindMilliseconds"]),
            ]
            for client in row["clients"]
        ]
        if lines:
            print_grid([["CLIENT", "SENT", "ACKED", "BEHIND", "MS"], *lines], headers=headers)
        else:
            click.echo("No router follows it.", err=True)
        for shared in row["sharedAddresses"]:
            first, *others = shared["clusters"]
            click.echo(
                f"{shared['address']} is in {', '.join(others)} and {first}: "
                f"a router gets its own cluster's, else {first}'s."
            )


def _clusters(frontiers: list[dict[str, Any]], *, headers: bool) -> None:
    by_cluster: dict[str, list[dict[str, Any]]] = {}
    for frontier in frontiers:
        if frontier["cluster"]:
            by_cluster.setdefault(frontier["cluster"], []).append(frontier)
    lines = []
    for cluster, cluster_frontiers in by_cluster.items():
        ages = [frontier["ageSeconds"] for frontier in cluster_frontiers if frontier["ageSeconds"] is not None]
        stale = next((frontier["stale"] for frontier in cluster_frontiers if frontier["stale"]), "")
        lines.append([cluster, f"{max(ages):.1f} s ago" if ages else "-", "stale" if stale else "ok", stale or "-"])
    if lines:
        print_grid([["CLUSTER", "LAST COMMIT", "STATE", "REASON"], *lines], headers=headers)
        click.echo("")


def _all(report: dict[str, Any], *, headers: bool) -> None:
    _clusters(report["frontiers"], headers=headers)
    if not report["clients"]:
        click.echo("No router is connected.", err=True)
    else:
        now = datetime.now(UTC)
        lines = [
            [
                *(
                    client["node"],
                    client["variant"],
                    client["traffic"],
                    client["cluster"] or "<none>",
                    client["zone"] or "<none>",
                ),
                *(
                    age(client["since"], now),
                    str(client["behind"]),
                    str(client["nacks"]),
                    client["lastNack"][:_NACK] or "<none>",
                ),
            ]
            for client in report["clients"]
        ]
        head = ["CLIENT", "VARIANT", "TRAFFIC", "CLUSTER", "ZONE", "AGE", "BEHIND", "NACKS", "LAST-NACK"]
        print_grid([head, *lines], headers=headers)
    if report["services"]:
        click.echo("")
        print_grid(
            [
                ["NAMESPACE", "NAME", "VERSION", "CLIENTS", "ACKED", "BEHIND", "MS"],
                *(
                    [
                        *(row["namespace"], row["name"], _version(row["version"]), str(len(row["clients"]))),
                        str(sum(not client["behind"] for client in row["clients"])),
                        str(max((client["behind"] for client in row["clients"]), default=0)),
                        str(max((client["behindMilliseconds"] for client in row["clients"]), default=0)),
                    ]
                    for row in report["services"]
                ),
            ],
            headers=headers,
        )


def _version(version: int) -> str:
    return str(version) if version >= 0 else "-"
