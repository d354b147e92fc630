"""`facets status`: which router has what."""

from datetime import UTC, datetime
from typing import Any

import click

from streams.cli.columns import age
from streams.cli.names import ServiceName, ServicePath, namespace_option
from streams.cli.options import server_option
from streams.cli.output import no_headers_option, print_grid, run
from streams.subscription.names import KnownNames, UnknownName, unknown_name, unknown_names

_NACK = 24
"""So much of a router's last refusal is shown; -o json has all of it."""


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
    behind, and for how many milliseconds. Without SERVICE all clusters (with the age of what is furthest behind), all
    routers, and all Services.

    \b
    facets status
    facets status cart -n shop
    """
    import orjson  # noqa: PLC0415

    from streams.serve.propagation_client import fetch  # noqa: PLC0415

    query = {"namespace": namespace} if namespace else {}
    space, name = "", ""
    if service is not None:
        space, name, _ = service.placed(namespace, ())
        query = {"service": name, "namespace": space}
    found: dict[str, Any] = run(fetch(server, "/v1/propagation", query))
    if name and not found["services"]:
        everything = run(fetch(server, "/v1/propagation", {}))["services"]
        known = KnownNames(frozenset(), frozenset(("", each["namespace"], each["name"]) for each in everything))
        raise unknown_names(known, (), [space], [name]) or UnknownName(f'service "{name}" not found')
    _choose(found, routers)
    if output == "json":
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    elif name:
        _one(found["services"], headers=not no_headers)
    else:
        _all(found, headers=not no_headers)


def _choose(found: dict[str, Any], routers: tuple[str, ...]) -> None:
    """Leave the named routers only. Raises UnknownName."""
    connected = {each["node"] for each in found["clients"]}
    for router in routers:
        if router not in connected:
            raise unknown_name("router", router, connected, " among those connected")
    if routers:
        for each in (found, *found["services"]):
            each["clients"] = [client for client in each["clients"] if client["node"] in routers]


def _one(services: list[dict[str, Any]], *, headers: bool) -> None:
    for each in services:
        click.echo(f"{each['namespace']}/{each['name']} is at version {each['version']} ({each['at'] or 'deleted'})")
        lines = [
            [at["node"], _version(at["sent"]), _version(at["acked"]), str(at["behind"]), str(at["behindMilliseconds"])]
            for at in each["clients"]
        ]
        if lines:
            print_grid([["CLIENT", "SENT", "ACKED", "BEHIND", "MS"], *lines], headers=headers)
        else:
            click.echo("No router follows it.", err=True)


def _clusters(frontiers: list[dict[str, Any]], *, headers: bool) -> None:
    by_cluster: dict[str, list[dict[str, Any]]] = {}
    for each in frontiers:
        if each["cluster"]:
            by_cluster.setdefault(each["cluster"], []).append(each)
    lines = []
    for cluster, own in by_cluster.items():
        ages = [each["ageSeconds"] for each in own if each["ageSeconds"] is not None]
        stale = next((each["stale"] for each in own if each["stale"]), "")
        lines.append([cluster, f"{max(ages):.1f} s ago" if ages else "-", "stale" if stale else "ok", stale or "-"])
    if lines:
        print_grid([["CLUSTER", "LAST COMMIT", "STATE", "REASON"], *lines], headers=headers)
        click.echo("")


def _all(found: dict[str, Any], *, headers: bool) -> None:
    _clusters(found["frontiers"], headers=headers)
    if not found["clients"]:
        click.echo("No router is connected.", err=True)
    else:
        now = datetime.now(UTC)
        lines = [
            [
                *(each["node"], each["variant"], each["traffic"], each["zone"] or "<none>"),
                *(
                    age(each["since"], now),
                    str(each["behind"]),
                    str(each["nacks"]),
                    each["lastNack"][:_NACK] or "<none>",
                ),
            ]
            for each in found["clients"]
        ]
        head = ["CLIENT", "VARIANT", "TRAFFIC", "ZONE", "AGE", "BEHIND", "NACKS", "LAST-NACK"]
        print_grid([head, *lines], headers=headers)
    if found["services"]:
        click.echo("")
        print_grid(
            [
                ["NAMESPACE", "NAME", "VERSION", "CLIENTS", "ACKED", "BEHIND", "MS"],
                *(
                    [
                        *(each["namespace"], each["name"], _version(each["version"]), str(len(each["clients"]))),
                        str(sum(not at["behind"] for at in each["clients"])),
                        str(max((at["behind"] for at in each["clients"]), default=0)),
                        str(max((at["behindMilliseconds"] for at in each["clients"]), default=0)),
                    ]
                    for each in found["services"]
                ),
            ],
            headers=headers,
        )


def _version(version: int) -> str:
    return str(version) if version >= 0 else "-"
