"""`facets watch`: publishes clusters' objects to the journal."""

import asyncio
import contextlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from streams.cli.options import (
    Duration,
    bootstrap_option,
    cluster_options,
    create_topics_option,
    http_options,
    routing_options,
)

if TYPE_CHECKING:
    from streams.wire.clusterset_records import DropPolicy

log = logging.getLogger("facets.watch")


@click.command("watch")
@bootstrap_option
@cluster_options("A cluster to watch, by the name that its rows shall carry; repeatable.")
@click.option("--cluster-domain", default="cluster.local", show_default=True, help="DNS domain of the clusters.")
@click.option(
    "--stale-after",
    type=click.FloatRange(min=5),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="Mark a cluster's rows stale if its API server has been unreachable for so long.",
)
@click.option(
    "--accept-older-list",
    is_flag=True,
    help="Accept the API server's list although the journal has newer objects: it was restored from a backup.",
)
@click.option(
    "--lease",
    is_flag=True,
    help="Stand by while another watcher of the cluster holds the lease, and take over when it ends. "
    "The one thing that writes to the cluster.",
)
@click.option("--lease-namespace", default="default", show_default=True, help="Namespace of the lease.")
@click.option(
    "--lease-duration",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    metavar="SECONDS",
    help="How long a lease is good for after the holder's last sign of life.",
)
@click.option(
    "--drop-unavailable-after",
    type=Duration(),
    metavar="DURATION",
    help="Take the endpoints that a cluster exports out of the clusterset once nothing was heard of it for so long. A "
    "ServiceExport's annotation service-facets.io/drop-unavailable-after (a duration, or never) goes before it, and so "
    "does its Namespace's.  "
    "[default: they are kept]",
)
@click.option(
    "--drop-unavailable-floor",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    metavar="PERCENT",
    help="Unless fewer than this share of a set's endpoints would remain.",
)
@create_topics_option
@routing_options
@http_options(6067, "/metrics, /healthz and /readyz", "any free one, as where the default is taken")
def watch_command(
    bootstrap_servers: str,
    kubeconfig: Path | None,
    context: str | None,
    clusters: tuple[str, ...],
    cluster_domain: str,
    stale_after: float,
    accept_older_list: bool,
    lease: bool,
    lease_namespace: str,
    lease_duration: int,
    drop_unavailable_after: float | None,
    drop_unavailable_floor: int,
    create_topics: bool,
    http_host: str,
    http_names: tuple[str, ...],
    http_port: int,
    routing_defaults: dict[str, str],
) -> None:
    """Publish the Services and endpoints of clusters to facets.journal.

    Lists and watches Services, EndpointSlices and Endpoints, Namespaces, and the Gateway API's Gateways, routes and
    policies while they are installed, and appends what changes, as it changes. It reads only (compose/rbac.yaml is
    the role that it needs), but for the lease with --lease. Ctrl-C stops it cleanly; kill it at any time: the next
    one lists anew, and what was deleted meanwhile is noticed.

    \b
    facets watch                                      the kubeconfig's current context
    facets watch --cluster east=prod-eu-1 --cluster west=prod-us-1
    facets watch --cluster east=prod-eu-1 --lease     start it twice: the second stands by

    One watcher a cluster: a second one without --lease takes the cluster over, and the first ends with exit
    code 75. 77: the account lacks a permission; 78: no usable kubeconfig, or topics are missing (facets topics
    create); 69: no broker; 74: a commit was not acknowledged; 124: something was given up to stop in time.
    """
    import uvloop  # noqa: PLC0415

    # The client logs every refused connection; the watcher reports the result once. -vv shows all.
    if logging.getLogger("kafka").level > logging.INFO:
        logging.getLogger("kafka.net").setLevel(logging.CRITICAL)

    from streams.runtime.probes import Readiness, probe_server  # noqa: PLC0415
    from streams.runtime.processes import tune_gc  # noqa: PLC0415
    from streams.runtime.shutdown import leave, set_on_signals  # noqa: PLC0415
    from streams.watch.watcher import WatchOptions, cluster_configs, run_watchers  # noqa: PLC0415

    named = click.get_current_context().get_parameter_source("http_port") is not ParameterSource.DEFAULT
    configs = cluster_configs(kubeconfig=kubeconfig, context=context, clusters=clusters, cluster_domain=cluster_domain)
    options = WatchOptions(
        stale_after=stale_after,
        accept_older_list=accept_older_list,
        lease=lease,
        lease_namespace=lease_namespace,
        lease_duration=lease_duration,
        routing_defaults=routing_defaults,
        create_topics=create_topics,
        drop=_drop_policy(drop_unavailable_after, drop_unavailable_floor),
    )

    async def watch() -> None:
        from streams.watch.progress_bars import ListProgress  # noqa: PLC0415

        stop = asyncio.Event()
        set_on_signals(stop)
        readiness = Readiness({"watchers": lambda: "they are being started"})
        async with probe_server(http_host, http_port, readiness, names=http_names, or_any=not named) as port:
            log.info("metrics and health on http://%s:%d", http_host, port)
            with ListProgress() if sys.stderr.isatty() else contextlib.nullcontext() as progress:
                await run_watchers(
                    configs, bootstrap_servers, stop=stop, options=options, on_progress=progress, readiness=readiness
                )

    tune_gc()
    uvloop.run(watch())
    leave()


def _drop_policy(after: float | None, floor: int) -> "DropPolicy | None":
    from streams.wire.clusterset_records import MAX_DROP_SECONDS, DropPolicy  # noqa: PLC0415

    if after is None:
        if floor:
            raise click.UsageError("--drop-unavailable-floor is nothing without --drop-unavailable-after.")
        return None
    if not 1 <= after <= MAX_DROP_SECONDS:
        raise click.BadParameter("it is not from 1s to 30d.", param_hint="--drop-unavailable-after")
    return DropPolicy(round(after), floor)
