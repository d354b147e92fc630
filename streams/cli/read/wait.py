"""`facets wait`: waits until a cluster's changes up to a resourceVersion are in the tables, or until an address is gone
from a Service's endpoints or among them."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import click
import orjson

from streams.cli.names import AddressPorts, ClusterName, ResourceName, ServiceName, ServicePath, namespace_option
from streams.cli.options import Duration, bootstrap_on_demand_option, server_option
from streams.cli.output import run
from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.wire.address_text import format_address

_NAMES_SECONDS = 15.0

_Address = tuple[str, tuple[int, ...]]
"""An IP address, and ports."""


@click.command("wait")
@click.argument("service", required=False, type=ServiceName())
@namespace_option()
@click.option("--cluster", type=ClusterName(), help="The cluster whose write it was.  [required]")
@click.option("--resource-version", metavar="VERSION", help="metadata.resourceVersion of the object written.")
@click.option("--gone", type=AddressPorts(), help="Wait until no new request goes to this address of SERVICE.")
@click.option("--present", type=AddressPorts(), help="Wait until this address is among SERVICE's endpoints.")
@click.option(
    "--resource", type=ResourceName(), default="endpointslices", show_default=True,
    help="What kind of object it was, as kubectl names it; versions compare within one kind only.",
)  # fmt: skip
@click.option("--acked", is_flag=True, help="Wait for every connected router to acknowledge it, too.")
@click.option(
    "--at-least-routers", type=click.IntRange(0), metavar="N",
    help="With --acked and --gone or --present: wait until so many routers follow SERVICE.",
)  # fmt: skip
@server_option
@click.option("--timeout", type=Duration(), default="30s", show_default=True, help="How long to wait.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="With --gone or --present: what each router has, as JSON.",
)  # fmt: skip
@bootstrap_on_demand_option
def wait_command(
    service: ServicePath | None,
    namespace: str | None,
    cluster: str | None,
    resource_version: str | None,
    gone: _Address | None,
    present: _Address | None,
    resource: str,
    acked: bool,
    at_least_routers: int | None,
    server: str,
    timeout: float,
    output: str,
    bootstrap_servers: Callable[[], str],
) -> None:
    """Wait until everything up to a resourceVersion is sealed, or an address is gone from SERVICE's endpoints.

    --resource-version: in all tables (frontend, backend, routing, clusterset), for SERVICE, or for all Services of the
    cluster. With --acked the routers are those that are connected to `facets serve` at --server and follow the Service.

    --gone, --present: by the word of `facets serve` at --server; an endpoint that drains counts as gone, as no new
    request goes to it. With --acked each connected router that follows the Service has acknowledged a set without the
    address (or with it). Requests that were sent before may still be under way: SIGTERM, after a preStop hook, tells
    the application to finish them.

    Exit code 0 when it is so, 75 on timeout (the message says what is missing), 66 if the Service or cluster is
    unknown, 4 when --acked finds no router that follows the Service.

    \b
    facets wait cart -n shop --cluster east --resource svc --resource-version 8812
    facets wait cart -n shop --cluster east --resource-version 8815 --acked
    facets wait cart -n shop --gone 10.1.2.3 --acked --at-least-routers 3
    """
    if (resource_version, gone, present).count(None) != 2:
        raise click.UsageError("give one of --resource-version, --gone and --present")
    if resource_version is None:
        _wait_for_address(service, namespace, cluster, gone, present, acked, at_least_routers, server, timeout, output)
        return
    from streams.subscription.client import Subscriber  # noqa: PLC0415
    from streams.subscription.set_client import written_tables  # noqa: PLC0415

    name, space = "", ""
    if service is not None:
        space, name, clusters = service.resolve(namespace, (cluster,) if cluster else ())
        cluster = next(iter(clusters), None)
    if not cluster:
        raise click.UsageError("missing option '--cluster': the cluster whose write it was")
    if not resource_version.isdecimal():
        raise click.BadParameter(f"{resource_version!r} is not a decimal number", param_hint="--resource-version")

    bootstrap = bootstrap_servers()
    at: dict[int, str] = {}
    started = time.monotonic()

    async def wait() -> bool:
        try:
            async with asyncio.timeout(timeout):
                tables = await asyncio.to_thread(written_tables, bootstrap)
                async with Subscriber(bootstrap, tables=tables) as subscriber:
                    await subscriber.wait(
                        resource_version, cluster=cluster, resource=resource, namespace=space, service=name,
                        progress=at.update,
                    )  # fmt: skip
        except TimeoutError:
            return False
        return True

    if not run(wait()):
        _explain_timeout(bootstrap, name, space, cluster)
        by_partition = ", ".join(f"{p}: {version or 'nothing yet'}" for p, version in at.items()) or "nothing read yet"
        raise FacetsError(
            f"timed out after {timeout:g} s: {cluster} {resource} is not at {resource_version}; "
            f"by partition: {by_partition}",
            "facets doctor shows whether the cluster's watcher and a worker run", ExitCode.GAVE_UP,
        )  # fmt: skip
    if acked:
        _wait_acked(server, name, space, cluster, resource, resource_version, started + timeout)


def _wait_for_address(
    service: ServicePath | None,
    namespace: str | None,
    cluster: str | None,
    gone: _Address | None,
    present: _Address | None,
    acked: bool,
    at_least_routers: int | None,
    server: str,
    timeout: float,
    output: str,
) -> None:
    from streams.serve.propagation_client import fetch  # noqa: PLC0415

    if service is None:
        raise click.UsageError("missing argument 'SERVICE': the Service whose endpoints are looked at")
    space, name, clusters = service.resolve(namespace, (cluster,) if cluster else ())
    text = format_address(*(gone or present or ("", ())))
    what = "gone" if gone else "present"
    query = {
        "service": name, "namespace": space, "address": text, "until": what, "acked": str(acked).lower(),
        "atLeastRouters": str(at_least_routers or 0), "timeout": f"{timeout:.3f}",
    }  # fmt: skip
    if clusters:
        query["cluster"] = clusters[0]
    answer: dict[str, Any] = run(fetch(server, "/v1/wait", query, timeout, allowed=(200, 404)))
    if "error" in answer:
        raise FacetsError(answer["error"], "facets get backend -A lists the Services", ExitCode.UNKNOWN_NAME)
    if output == "json":
        click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    if not answer["done"]:
        raise FacetsError(
            f"timed out after {timeout:g} s: {_missing(answer, text, what, acked, at_least_routers or 0)}",
            f"facets status {name} -n {space} shows what each router has", ExitCode.GAVE_UP,
        )  # fmt: skip
    if acked and not answer["routers"] and at_least_routers is None:
        raise FacetsError(
            f"{text} is {what}; no router that follows {space}/{name} is connected",
            f"facets status --server {server} lists the routers that are; --at-least-routers says how many to wait for",
            ExitCode.NO_ROUTER,
        )  # fmt: skip


def _missing(answer: dict[str, Any], text: str, what: str, acked: bool, at_least: int) -> str:
    """What has not come about."""
    if not answer["sealed"]:
        return f"{text} is not {what}"
    routers = answer["routers"]
    waiting = [router["node"] for router in routers if not router["passed"]]
    if acked and waiting:
        return f"{text} is {what}, but not yet at: {', '.join(sorted(waiting))}"
    return f"{text} is {what}, but only {len(routers)} of {at_least} routers follow the Service"


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
