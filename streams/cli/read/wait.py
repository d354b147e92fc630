"""`facets wait`: waits until a cluster's changes up to a resourceVersion are in the tables."""

import asyncio
import contextlib
import time
from typing import Any

import click

from streams.cli.names import ClusterName, ResourceName, ServiceName, ServicePath, namespace_option
from streams.cli.options import Duration, bootstrap_option, server_option
from streams.cli.output import run
from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.wire.records import TABLES

_NAMES_SECONDS = 15.0


@click.command("wait")
@click.argument("service", required=False, type=ServiceName())
@namespace_option()
@click.option("--cluster", type=ClusterName(), help="The cluster whose write it was.  [required]")
@click.option(
    "--resource-version", required=True, metavar="VERSION", help="metadata.resourceVersion of the object written."
)
@click.option(
    "--resource", type=ResourceName(), default="endpointslices", show_default=True,
    help="What kind of object it was, as kubectl names it; versions compare within one kind only.",
)  # fmt: skip
@click.option("--acked", is_flag=True, help="Wait for every connected router to acknowledge it, too.")
@server_option
@click.option("--timeout", type=Duration(), default="30s", show_default=True, help="How long to wait.")
@bootstrap_option
def wait_command(
    service: ServicePath | None,
    namespace: str | None,
    cluster: str | None,
    resource_version: str,
    resource: str,
    acked: bool,
    server: str,
    timeout: float,
    bootstrap_servers: str,
) -> None:
    """Wait until everything up to a resourceVersion is sealed.

    In all tables (frontend, backend, routing), for SERVICE, or for all Services of the cluster. Exit code 0
    when it is, 75 on timeout (the message says how far each partition is), 66 if the Service or cluster is
    unknown. With --acked the routers are those that are connected to `facets serve` at
    --server and follow the Service; 4 when there are none.

    \b
    facets wait cart -n shop --cluster east --resource svc --resource-version 8812
    facets wait cart -n shop --cluster east --resource-version 8815 --acked
    """
    from streams.subscription.client import Subscriber  # noqa: PLC0415

    name, space = "", ""
    if service is not None:
        space, name, clusters = service.resolve(namespace, (cluster,) if cluster else ())
        cluster = next(iter(clusters), None)
    if not cluster:
        raise click.UsageError("missing option '--cluster': the cluster whose write it was")
    if not resource_version.isdecimal():
        raise click.BadParameter(f"{resource_version!r} is not a decimal number", param_hint="--resource-version")

    at: dict[int, str] = {}
    started = time.monotonic()

    async def wait() -> bool:
        try:
            async with asyncio.timeout(timeout), Subscriber(bootstrap_servers, tables=TABLES) as subscriber:
                await subscriber.wait(
                    resource_version, cluster=cluster, resource=resource, namespace=space, service=name,
                    progress=at.update,
                )  # fmt: skip
        except TimeoutError:
            return False
        return True

    if not run(wait()):
        _explain_timeout(bootstrap_servers, name, space, cluster)
        by_partition = ", ".join(f"{p}: {version or 'nothing yet'}" for p, version in at.items()) or "nothing read yet"
        raise FacetsError(
            f"timed out after {timeout:g} s: {cluster} {resource} is not at {resource_version}; "
            f"by partition: {by_partition}",
            "facets doctor shows whether the cluster's watcher and a worker run", ExitCode.GAVE_UP,
        )  # fmt: skip
    if acked:
        _wait_acked(server, name, space, cluster, resource, resource_version, started + timeout)


def _explain_timeout(bootstrap: str, service: str, namespace: str, cluster: str) -> None:
    """Raise UnknownName if the wait was for an unknown name."""
    from streams.subscription.known_names import check_names  # noqa: PLC0415

    services = {"namespaces": [namespace], "services": [service]} if service else {}
    with contextlib.suppress(TimeoutError):
        run(asyncio.wait_for(check_names(bootstrap, (), clusters=[cluster], **services), _NAMES_SECONDS))


def _wait_acked(
    server: str, service: str, namespace: str, cluster: str, resource: str, version: str, deadline: float
) -> None:
    from streams.serve.propagation_client import fetch  # noqa: PLC0415

    remaining = max(0.0, deadline - time.monotonic())
    query = {"cluster": cluster, "resource": resource, "resourceVersion": version, "timeout": f"{remaining:.3f}"}
    if service:
        query |= {"service": service, "namespace": namespace}
    answer: dict[str, Any] = run(fetch(server, "/v1/acked", query, remaining))
    if not answer["acked"]:
        waiting = ", ".join(answer["clients"]) or f"the server itself (partitions {', '.join(answer['partitions'])})"
        raise FacetsError(
            f"timed out: sealed, but not acknowledged by: {waiting}",
            "facets status shows what each router refused or has not read", ExitCode.GAVE_UP,
        )  # fmt: skip
    if not answer["clients"]:
        raise FacetsError(
            f"sealed; no router {f'that follows {namespace}/{service} ' if service else ''}is connected",
            f"facets status --server {server} lists the routers that are", ExitCode.NO_ROUTER,
        )  # fmt: skip
