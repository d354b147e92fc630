"""`facets status`: which router has what."""

from typing import Any

import click

from streams.cli.options import server_option
from streams.cli.output import print_grid, run
from streams.core.exit_codes import ExitCode


@click.command("status")
@click.argument("service", required=False)
@click.option("-n", "--namespace", help="The Service's namespace.  [default: default; without SERVICE all]")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How to print it."
)
@server_option
def status_command(service: str | None, namespace: str | None, output: str, server: str) -> None:
    """Show the routers that are connected to `facets serve`, and what they have acknowledged.

    For SERVICE each router that follows it: the version sent and the version acknowledged, how many versions it is
    behind, and for how many milliseconds. Without SERVICE all routers, and all Services.

    \b
    facets status
    facets status cart -n shop
    """
    import orjson  # noqa: PLC0415

    from streams.edges.propagation_client import fetch  # noqa: PLC0415

    query = {"service": service, "namespace": namespace or "default"} if service else {"namespace": namespace or ""}
    found: dict[str, Any] = run(fetch(server, "/v1/propagation", query))
    if output == "json":
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    elif service:
        _one(found["services"])
    else:
        _all(found)
    if service and not found["services"]:
        click.echo(f'Error: service "{service}" not found in namespace "{query["namespace"]}"', err=True)
        raise SystemExit(ExitCode.NEGATIVE)


def _one(services: list[dict[str, Any]]) -> None:
    for each in services:
        click.echo(f"{each['namespace']}/{each['name']} is at version {each['version']} ({each['at'] or 'gone'})")
        lines = [
            [at["node"], _version(at["sent"]), _version(at["acked"]), str(at["behind"]), str(at["behindMilliseconds"])]
            for at in each["clients"]
        ]
        if lines:
            print_grid([["CLIENT", "SENT", "ACKED", "BEHIND", "MS"], *lines])
        else:
            click.echo("No router follows it.", err=True)


def _all(found: dict[str, Any]) -> None:
    if not found["clients"]:
        click.echo("No router is connected.", err=True)
    else:
        head = ["CLIENT", "VARIANT", "TRAFFIC", "ZONE", "SINCE", "BEHIND", "NACKS", "LAST NACK"]
        print_grid(
            [
                head,
                *(
                    [
                        *(each["node"], each["variant"], each["traffic"], each["zone"] or "-", each["since"]),
                        *(str(each["behind"]), str(each["nacks"]), each["lastNack"][:60] or "-"),
                    ]
                    for each in found["clients"]
                ),
            ]
        )
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
            ]
        )


def _version(version: int) -> str:
    return str(version) if version >= 0 else "-"
