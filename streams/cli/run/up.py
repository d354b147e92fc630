"""`facets up`: runs broker, watcher, worker and server in one command."""

import asyncio
from pathlib import Path

import click

from streams.cli.options import routing_options


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
    help="Port of the table views; 0: any free one, as where the default is taken.",
)
@click.option(
    "--xds-port", type=click.IntRange(0, 65535), default=18000, show_default=True,
    help="Port of the xDS server; likewise.",
)  # fmt: skip
@click.option(
    "--http-port", type=click.IntRange(0, 65535), default=8080, show_default=True,
    help="Port of the HTTP server; likewise.",
)  # fmt: skip
@click.option(
    "--watch-port", type=click.IntRange(0, 65535), default=6067, show_default=True,
    help="Port of the watcher's metrics and health; likewise.",
)  # fmt: skip
@click.pass_context
def up_command(
    ctx: click.Context,
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
    watch_port: int,
    routing_defaults: dict[str, str],
) -> None:
    """Run everything on this machine: Kafka, a watcher, a worker, a server for routers and an index of the past.

    Follows the Services of the current kubeconfig's cluster (reading only), or with --demo two recorded
    clusters. Ctrl-C stops it cleanly, within 15 s, and prints what was seen; data is kept for the next run, but for
    the demo's clusters, which end with it. What it starts ends with it, even if it is killed. One of it runs on a data
    folder (FACETS_DATA_DIR) at a time; `facets reset` deletes what is in there.

    \b
    facets up --demo                   look at it without a cluster
    facets up --context staging        follow a real cluster
    facets get backend -A              in another terminal: what the tables say
    facets follow backend              each sealed change as it comes
    """
    from streams.local.ports import WantedPort  # noqa: PLC0415
    from streams.local.up import STOP_SECONDS, UpOptions, run  # noqa: PLC0415
    from streams.runtime import shutdown  # noqa: PLC0415

    def port_option(name: str, number: int) -> WantedPort:
        named = ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        return WantedPort(f"--{name.replace('_', '-')}", number, named)

    options = UpOptions(
        demo=demo,
        speed=speed,
        seconds=seconds,
        kubeconfig=kubeconfig,
        context=context,
        clusters=clusters,
        cluster_domain=cluster_domain,
        bootstrap=bootstrap_servers,
        web_port=port_option("web_port", web_port),
        xds_port=port_option("xds_port", xds_port),
        http_port=port_option("http_port", http_port),
        watch_port=port_option("watch_port", watch_port),
        routing_defaults=routing_defaults,
    )

    async def until_stopped() -> int:
        stop = asyncio.Event()
        shutdown.set_on_signals(stop, STOP_SECONDS)
        return await run(options, stop)

    code = asyncio.run(until_stopped())
    shutdown.leave()
    raise SystemExit(code)
