"""`facets wait`: until a cluster's changes up to a resourceVersion are in the tables."""

import asyncio

import click

from streams.cli.options import bootstrap_option
from streams.cli.output import run
from streams.core.collector import RESOURCES

_RESOURCES = [resource.frontier for resource in RESOURCES]


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
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait.")
@bootstrap_option
def wait_command(
    service: str | None,
    namespace: str,
    cluster: str,
    resource_version: str,
    resource: str,
    timeout: float,
    bootstrap_servers: str,
) -> None:
    """Wait until everything up to a resourceVersion is sealed: for SERVICE, or for all Services of the cluster.

    Exit code 0 when it is, 1 when the time is over (and it says how far each partition is).

    \b
    facets wait cart -n shop --cluster east --resource services --resource-version 8812
    """
    from streams.edges.subscriber import Subscriber  # noqa: PLC0415

    if not resource_version.isdigit():
        raise click.BadParameter(f"{resource_version!r} is not a decimal number", param_hint="--resource-version")

    async def wait() -> bool:
        async with Subscriber(bootstrap_servers, tables=("frontend", "backend")) as subscriber:
            try:
                async with asyncio.timeout(timeout):
                    await subscriber.wait(
                        resource_version, cluster=cluster, resource=resource, namespace=namespace, service=service or ""
                    )
            except TimeoutError:
                reached = subscriber.frontiers(cluster, resource)
                click.echo(
                    f"facets wait: {cluster} {resource} is not at {resource_version} after {timeout:g} s; "
                    f"by partition it is at: {reached or 'nothing yet: is a watcher of this cluster running?'}",
                    err=True,
                )
                return False
        return True

    raise SystemExit(0 if run(wait()) else 1)
