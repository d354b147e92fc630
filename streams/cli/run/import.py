"""`facets import`: writes what clusters export to each other into the clusters."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from streams.cli.options import bootstrap_option, cluster_options, http_options, silence_option
from streams.exit_codes import ExitCode

if TYPE_CHECKING:
    from streams.importer.member import MemberOptions
    from streams.kube.clusters import ClusterConfig

log = logging.getLogger("facets.import")


@click.command("import")
@bootstrap_option
@cluster_options("A cluster to import into, by the name that its watcher has for it; repeatable.")
@click.option(
    "--cluster-set-ip",
    type=click.Choice(["none", "derived"]),
    default="none",
    show_default=True,
    help="Where a ClusterSetIP comes from: none is claimed, or a derived Service in each cluster has it, which "
    "kube-proxy routes to the imported endpoints.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be written, write nothing, and exit: 1 if anything is.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="How --dry-run prints; json: a line an object.",
)  # fmt: skip
@http_options(6068, "/metrics, /healthz and /readyz")
@silence_option
def import_command(
    bootstrap_servers: str,
    kubeconfig: Path | None,
    context: str | None,
    clusters: tuple[str, ...],
    cluster_set_ip: Literal["none", "derived"],
    dry_run: bool,
    output: Literal["text", "json"],
    http_host: str,
    http_names: tuple[str, ...],
    http_port: int,
    silent_after: float,
) -> int:
    """Write what clusters export to each other into the clusters (KEP-1645).

    For gateways and controllers that read Kubernetes, and not xDS: in every cluster that has the namespace, a
    ServiceImport for each exported Service, EndpointSlices with the endpoints of each cluster, and the conditions of
    the ServiceExports. It follows facets.clusterset, which the workers make of what the watchers of all clusters see.

    It writes by server-side apply, only what differs, and only what is its own (label service-facets.io/imported-by);
    a ServiceImport of somebody else is left alone, and named in the log. What nobody exports any more is deleted; what
    is of a cluster that is not heard of stays, as the table says. Kill it at any time, and run two if you like: the
    next one compares everything.

    \b
    facets import --cluster east=prod-eu-1 --cluster west=prod-us-1
    facets import --dry-run --cluster east=prod-eu-1     what is missing or different there
    facets import --cluster east=prod-eu-1 --cluster-set-ip derived
    kubectl get serviceimports -A; kubectl get endpointslices -l multicluster.kubernetes.io/service-name=cart

    The clusters need the CRDs of mcs-api v0.5.2 (it waits for them), and the account the role of
    compose/import-rbac.yaml, with derived Services also that of import-derived-rbac.yaml. Ctrl-C stops it cleanly.
    Exit codes: 1: --dry-run found differences; 69: no broker, or topics are missing (facets topics create); 77: the
    account may not list; 78: no usable kubeconfig; 124: something was given up to stop in time.
    """
    from streams.importer.member import MemberOptions  # noqa: PLC0415
    from streams.kube.clusters import cluster_configs  # noqa: PLC0415

    configs = cluster_configs(kubeconfig=kubeconfig, context=context, clusters=clusters)
    options = MemberOptions(derived=cluster_set_ip == "derived", dry_run=dry_run)
    if dry_run:
        return _print_differences(configs, bootstrap_servers, options, output)

    import uvloop  # noqa: PLC0415

    from streams.importer.run import run_import  # noqa: PLC0415
    from streams.runtime.probes import Readiness, probe_server  # noqa: PLC0415
    from streams.runtime.processes import tune_gc  # noqa: PLC0415
    from streams.runtime.shutdown import leave, set_on_signals  # noqa: PLC0415

    async def until_stopped() -> None:
        stop, readiness = asyncio.Event(), Readiness()
        set_on_signals(stop)
        async with probe_server(http_host, http_port, readiness, names=http_names) as port:
            log.info("metrics and health on http://%s:%d", http_host, port)
            await run_import(
                configs, bootstrap_servers, options, stop=stop, readiness=readiness, silent_after=silent_after
            )

    tune_gc()
    uvloop.run(until_stopped())
    leave()
    return ExitCode.OK


def _print_differences(
    configs: "Sequence[ClusterConfig]", bootstrap: str, options: "MemberOptions", output: Literal["text", "json"]
) -> int:
    import orjson  # noqa: PLC0415

    from streams.cli.output import run  # noqa: PLC0415
    from streams.importer.listing import documents, left_alone, lines  # noqa: PLC0415
    from streams.importer.run import compare  # noqa: PLC0415

    compared = run(compare(configs, bootstrap, options))
    for cluster, plans in compared:
        if output == "json":
            for document in documents(cluster, plans):
                click.echo(orjson.dumps(document))
        else:
            for line in lines(cluster, plans):
                click.echo(line)
        for plan in plans:
            for kind in sorted(plan.foreign):
                log.warning("cluster %s: %s", cluster, left_alone(kind, *plan.key))
    differs = any(plan.actions for _, plans in compared for plan in plans)
    if not differs:
        log.info("nothing differs")
    return ExitCode.NEGATIVE if differs else ExitCode.OK
