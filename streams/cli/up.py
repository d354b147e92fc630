"""`facets up`: broker, watcher, worker and server in one command."""

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streams.cli.options import routing_options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.edges.up import UpOptions


@click.command("up")
@click.option(
    "--demo", is_flag=True, help="Recorded clusters instead of a kubeconfig's: nothing but this machine is needed."
)
@click.option(
    "--speed", type=click.FloatRange(min=0.1, max=1000), default=1.0, show_default=True, help="How fast the demo plays."
)
@click.option(
    "--for", "seconds", type=click.FloatRange(min=1), metavar="SECONDS",
    help="Stop after this time; exit 0 only if tables were materialized.",
)  # fmt: skip
@click.option(
    "--kubeconfig", type=click.Path(dir_okay=False, path_type=Path), help="Kubeconfig file.  [default: as kubectl]"
)
@click.option("--context", help="Context of the kubeconfig.  [default: its current one]")
@click.option(
    "--cluster", "clusters", multiple=True, metavar="NAME[=CONTEXT]", help="Name of a cluster to watch; repeatable."
)
@click.option("--cluster-domain", default="cluster.local", show_default=True, help="DNS domain of the clusters.")
@click.option(
    "--bootstrap-servers", envvar="FACETS_BOOTSTRAP_SERVERS", help="Kafka's address.  [default: a broker of our own]"
)
@routing_options
@click.option(
    "--web-port",
    type=click.IntRange(0, 65535),
    default=6066,
    show_default=True,
    help="Port of the table views; any free one if it is 0 or taken.",
)
@click.option(
    "--xds-port", type=click.IntRange(0, 65535), default=18000, show_default=True,
    help="Port of the xDS server; any free one if it is 0 or taken.",
)  # fmt: skip
@click.option(
    "--http-port", type=click.IntRange(0, 65535), default=8080, show_default=True,
    help="Port of the HTTP server; any free one if it is 0 or taken.",
)  # fmt: skip
def up_command(
    demo: bool,
    speed: float,
    seconds: float | None,
    kubeconfig: Path | None,
    context: str | None,
    clusters: tuple[str, ...],
    cluster_domain: str,
    bootstrap_servers: str | None,
    web_port: int,
    xds_port: int,
    http_port: int,
    routing_defaults: dict[str, str],
) -> None:
    """Run everything on this machine: Kafka, a watcher, a worker and a server for routers.

    Follows the Services of the current kubeconfig's cluster (reading only), or with --demo two recorded
    clusters. Ctrl-C stops it cleanly and prints what was seen; data is kept for the next run.

    \b
    facets up --demo                   look at it without a cluster
    facets up --context staging        follow a real cluster
    facets get backend -A              in another terminal: what the tables say
    facets follow backend              each sealed change as it comes
    """
    from streams.edges.up import UpOptions, run  # noqa: PLC0415

    options = UpOptions(
        demo=demo,
        speed=speed,
        seconds=seconds,
        kubeconfig=kubeconfig,
        context=context,
        clusters=clusters,
        cluster_domain=cluster_domain,
        bootstrap=bootstrap_servers,
        web_port=web_port,
        xds_port=xds_port,
        http_port=http_port,
        routing_defaults=routing_defaults,
    )
    raise SystemExit(asyncio.run(_until_interrupted(run, options)))


async def _until_interrupted(run: "Callable[[UpOptions, asyncio.Event], Awaitable[int]]", options: "UpOptions") -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(each, stop.set)
    return await run(options, stop)
