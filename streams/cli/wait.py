"""`facets wait`: until a cluster's changes up to a resourceVersion are in the tables."""

import asyncio
import time
from typing import Any

import click

from streams.cli.options import Duration, bootstrap_option, server_option
from streams.cli.output import run
from streams.core.exit_codes import ExitCode
from streams.core.records import TABLES
from streams.core.resources import OPTIONAL, RESOURCES

_RESOURCES = [resource.frontier for resource in (*RESOURCES, *OPTIONAL)]


@click.command("wait")
@click.argument("service", required=False)
@click.option("-n", "--namespace", default="default", show_default=True, help="The Service's namespace.")
@click.option("--cluster", required=True, help="The cluster whose write it was.")
@click.option(
    "--resource-version", required=True, metavar="VERSION", help="metadata.resourceVersion of the object written."
)
@click.option(
    "--resource", type=click.Choice(_RESOURCES), default="endpointslices.discovery.k8s.io", show_default=True,
    help="What kind of object it was; versions compare within one kind only.",
)  # fmt: skip
@click.option("--acked", is_flag=True, help="Until every connected router has acknowledged it, too.")
@server_option
@click.option("--timeout", type=Duration(), default="30s", show_default=True, help="How long to wait.")
@bootstrap_option
def wait_command(
    service: str | None,
    namespace: str,
    cluster: str,
    resource_version: str,
    resource: str,
    acked: bool,
    server: str,
    timeout: float,
    bootstrap_servers: str,
) -> None:
    """Wait until everything up to a resourceVersion is sealed: for SERVICE, or for all Services of the cluster.

    Exit code 0 when it is, 1 when the time is over (and it says how far each partition is). With --acked the routers
    are those that are connected to `facets serve` at --server and follow the Service.

    \b
    facets wait cart -n shop --cluster east --resource services --resource-version 8812
    facets wait cart -n shop --cluster east --resource-version 8815 --acked
    """
    from streams.edges.subscriber import Subscriber  # noqa: PLC0415

    if not resource_version.isdigit():
        raise click.BadParameter(f"{resource_version!r} is not a decimal number", param_hint="--resource-version")

    at: dict[int, str] = {}
    started = time.monotonic()

    async def wait() -> bool:
        try:
            async with asyncio.timeout(timeout), Subscriber(bootstrap_servers, tables=TABLES) as subscriber:
                await subscriber.wait(
                    resource_version, cluster=cluster, resource=resource, namespace=namespace, service=service or "",
                    progress=at.update,
                )  # fmt: skip
        except TimeoutError:
            return False
        return True

    if run(wait()):
        if acked:
            _wait_acked(server, service, namespace, cluster, resource, resource_version, started + timeout)
        return
    click.echo(
        f"facets wait: {cluster} {resource} is not at {resource_version} after {timeout:g} s; by partition: "
        + (", ".join(f"{p}: {version or 'nothing yet'}" for p, version in at.items()) or "nothing read yet"),
        err=True,
    )
    if not any(at.values()):
        click.echo("  remedy: is the name of the cluster right, and does a watcher of it run? facets doctor", err=True)
    raise SystemExit(ExitCode.NEGATIVE)


def _wait_acked(
    server: str, service: str | None, namespace: str, cluster: str, resource: str, version: str, deadline: float
) -> None:
    from streams.edges.propagation_client import fetch  # noqa: PLC0415

    left = max(0.0, deadline - time.monotonic())
    query = {"cluster": cluster, "resource": resource, "resourceVersion": version, "timeout": f"{left:.3f}"}
    if service:
        query |= {"service": service, "namespace": namespace}
    said: dict[str, Any] = run(fetch(server, "/v1/acked", query, left))
    if said["acked"]:
        if not said["clients"]:
            click.echo("facets wait: no router is connected", err=True)
        return
    waiting = ", ".join(said["clients"]) or f"the server itself (partitions {', '.join(said['partitions'])})"
    click.echo(f"facets wait: not acknowledged in time by: {waiting}", err=True)
    click.echo("  remedy: facets status shows what each router refused or has not read", err=True)
    raise SystemExit(ExitCode.NEGATIVE)
