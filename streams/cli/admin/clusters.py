"""`facets clusters`: lists the clusters, and ends them."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from streams.cli.names import ClusterName
from streams.cli.options import silence_option
from streams.cli.output import print_grid
from streams.exit_codes import ExitCode

if TYPE_CHECKING:
    from streams.subscription.cluster_list import ClusterSummary


_bootstrap = click.option(
    "--bootstrap-servers",
    envvar="FACETS_BOOTSTRAP_SERVERS",
    metavar="HOST:PORT,...",
    help="Kafka's address (FACETS_BOOTSTRAP_SERVERS).  [default: the broker that `facets up` runs here]",
)


@click.group("clusters", invoke_without_command=True)
@click.option("-a", "--all", "ended_too", is_flag=True, help="Also those that have ended.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml", "name"]), default="table", show_default=True,
    help="How to print them.",
)  # fmt: skip
@silence_option
@_bootstrap
@click.pass_context
def clusters_command(
    context: click.Context, ended_too: bool, output: str, silent_after: float, bootstrap_servers: str | None
) -> None:
    """List the clusters that the tables know: source, state, and when each was last heard of.

    A cluster is stale while its watcher writes no commits, or its API server can't be reached.

    \b
    facets clusters
    facets clusters -o name
    facets clusters forget staging       its rows are deleted; a watcher of that name opens it anew
    """
    if context.invoked_subcommand is not None:
        context.obj = bootstrap_servers
        return
    from streams.watch.cluster_registry import list_clusters  # noqa: PLC0415

    summaries = asyncio.run(list_clusters(bootstrap_servers, silent_after))
    _print([cluster for cluster in summaries if ended_too or cluster.state != "ended"], output)


@clusters_command.command("forget")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", type=ClusterName())
@click.option(
    "--force", is_flag=True, help="Even if its watcher is live: that one ends, and must not be started again."
)
@silence_option
@_bootstrap
@click.pass_obj
def forget(
    group_bootstrap: str | None, names: tuple[str, ...], force: bool, silent_after: float, bootstrap_servers: str | None
) -> None:
    """End clusters: their rows are deleted, in the journal and so in every table, and routers are told.

    Refused while a cluster's watcher is live, as the cluster would be back at the watcher's next start. A cluster
    that has ended may be opened again at any time: start a watcher of that name.

    \b
    facets clusters forget staging
    """
    from streams.kafka.address import default_bootstrap  # noqa: PLC0415
    from streams.watch.cluster_registry import ClusterIsLive, forget_cluster  # noqa: PLC0415

    bootstrap = bootstrap_servers or group_bootstrap or default_bootstrap()
    refused = False
    for name in names:
        try:
            ended = asyncio.run(forget_cluster(bootstrap, name, force=force, silent_after=silent_after))
        except ClusterIsLive as error:
            click.echo(f"facets clusters: error: {error}\n  remedy: {error.remedy}", err=True)
            refused = True
        else:
            click.echo(
                f"cluster {name} {'is forgotten: its rows are deleted' if ended else 'has been forgotten before'}"
            )
    if refused:
        raise SystemExit(ExitCode.NEGATIVE)


def _print(clusters: "list[ClusterSummary]", output: str) -> None:
    import msgspec  # noqa: PLC0415

    items: Any = msgspec.to_builtins(clusters)
    if output == "name":
        for cluster in clusters:
            click.echo(cluster.name)
    elif output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode({"items": items}), indent=2))
    elif output == "yaml":
        import yaml  # noqa: PLC0415

        click.echo(yaml.safe_dump({"items": items}, sort_keys=False), nl=False)
    elif clusters:
        head = ["NAME", "SOURCE", "STATE", "LAST COMMIT", "CLOCK", "REASON"]
        print_grid([head, *map(_line, clusters)])
    else:
        click.echo("No clusters: facets watch (or facets up) adds one.", err=True)


def _line(cluster: "ClusterSummary") -> list[str]:
    from streams.subscription.freshness import SKEW_SECONDS  # noqa: PLC0415

    ago = cluster.last_commit or "-" if cluster.age_seconds is None else f"{cluster.age_seconds:.1f} s ago"
    skew = f"{cluster.clock_skew_seconds:+.1f} s" if abs(cluster.clock_skew_seconds) > SKEW_SECONDS else "ok"
    return [cluster.name, cluster.source, cluster.state, ago, skew, cluster.reason or "-"]
