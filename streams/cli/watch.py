"""`facets watch`: clusters' objects into the journal."""

import asyncio
import contextlib
import signal
from pathlib import Path

import click

from streams.cli.options import bootstrap_option


@click.command("watch")
@bootstrap_option
@click.option(
    "--kubeconfig", type=click.Path(dir_okay=False, path_type=Path), help="Kubeconfig file.  [default: as kubectl]"
)
@click.option("--context", help="Context of the kubeconfig.  [default: its current one]")
@click.option("--cluster", "clusters", multiple=True, metavar="NAME[=CONTEXT]", help="Name of a cluster; repeatable.")
@click.option("--cluster-domain", default="cluster.local", show_default=True, help="DNS domain of the clusters.")
@click.option(
    "--accept-older-list", is_flag=True, help="The API server was restored from a backup: take its older state."
)
def watch_command(
    bootstrap_servers: str,
    kubeconfig: Path | None,
    context: str | None,
    clusters: tuple[str, ...],
    cluster_domain: str,
    accept_older_list: bool,
) -> None:
    """Publish the Services and endpoints of clusters to facets.journal. Reads only; Ctrl-C stops it cleanly."""
    from streams.edges.watcher import cluster_configs, run_watchers  # noqa: PLC0415

    configs = cluster_configs(
        kubeconfig=kubeconfig, context=context, clusters=clusters, cluster_domain=cluster_domain, every_context=False
    )

    async def watch() -> None:
        stop = asyncio.Event()
        for each in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(each, stop.set)
        await run_watchers(configs, bootstrap_servers, stop=stop, accept_older_list=accept_older_list)

    asyncio.run(watch())
