"""`facets serve`: serves the facets to routers, over xDS and HTTP."""

import asyncio
from pathlib import Path

import click

from streams.cli.options import Duration, bootstrap_option, http_options, index_option, silence_option


@click.command("serve")
@bootstrap_option
@click.option("--cluster", "clusters", multiple=True, help="Only this cluster's Services; repeatable.  [default: all]")
@click.option("--xds-host", default="127.0.0.1", show_default=True, help="Address of the xDS server.")
@click.option(
    "--xds-port", type=click.IntRange(0, 65535), default=18000, show_default=True,
    help="Port of the xDS server; 0: any free one.",
)  # fmt: skip
@http_options(8080, "the HTTP server, with /metrics, /healthz and /readyz")
@click.option(
    "--max-clients",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Limit of concurrent xDS clients.",
)
@click.option(
    "--max-http-clients", type=click.IntRange(min=1), default=1000, show_default=True,
    help="Limit of concurrent clients of /v1/changes.",
)  # fmt: skip
@click.option(
    "--answer-within", type=Duration(), default="60s", show_default=True,
    help="A client that does not acknowledge a response within this time is disconnected.",
)  # fmt: skip
@click.option(
    "--from-changelogs",
    is_flag=True,
    help="Follow the tables' changelogs alone: what no worker has written is not served.",
)
@click.option(
    "--client-cluster",
    envvar="FACETS_CLIENT_CLUSTER",
    default="",
    metavar="NAME",
    help="The cluster of xDS clients whose node.metadata names none (FACETS_CLIENT_CLUSTER).  [default: they get each "
    "Service of the first cluster by name that has it]",
)
@index_option("The index from which HTTP answers of the past, where it has the time (FACETS_INDEX).")
@silence_option
def serve_command(
    bootstrap_servers: str,
    clusters: tuple[str, ...],
    xds_host: str,
    xds_port: int,
    http_host: str,
    http_names: tuple[str, ...],
    http_port: int,
    max_clients: int,
    max_http_clients: int,
    answer_within: float,
    from_changelogs: bool,
    client_cluster: str,
    index: Path,
    silent_after: float,
) -> None:
    """Serve the facets to routers: xDS (ADS) for Envoy and gRPC, and HTTP.

    Over HTTP as the tables have them (frontend, backend, routing, clusterset); over xDS each Service port is a
    cluster, endpoint set, listener and route named SERVICE.NAMESPACE.svc.DOMAIN:PORT, for each client those of its
    own cluster (node.metadata.cluster). What clusters export to each other is in the clusterset, and one Service for
    all clients: SERVICE.NAMESPACE.svc.clusterset.local:PORT (neither is there with --cluster); a headless one's hosts
    are at HOSTNAME.CLUSTERID.SERVICE.NAMESPACE.svc.clusterset.local:PORT for who asks by name. There is no TLS: keep
    it on loopback, or behind a proxy that has it.

    From the tables on it folds the journal itself, so changes don't wait for the workers, and go on while there are
    none. What the workers write is compared; if they write other rows, these count (a new snapshot), and
    facets_journal_differences_total says so.

    \b
    facets serve
    facets envoy-bootstrap --cluster east > envoy.yaml; envoy -c envoy.yaml
    curl localhost:8080/v1/propagation          which router has what
    curl -N 'localhost:8080/v1/changes?table=backend&namespace=shop'
                                                a snapshot, then each sealed change (server-sent events)
    curl localhost:8080/v1/facets/backend/shop/cart
    curl localhost:8080/openapi.json            all that HTTP answers, described

    A signal stops it within 15 s. Exit codes: 69: no broker or a port that is taken; 124: something was given up to
    stop in time.
    """
    import uvloop  # noqa: PLC0415

    from streams.runtime.processes import tune_gc  # noqa: PLC0415
    from streams.runtime.shutdown import leave, set_on_signals  # noqa: PLC0415
    from streams.serve.http.sse import SseSettings  # noqa: PLC0415
    from streams.serve.run import ServeSettings, Serving, serve  # noqa: PLC0415
    from streams.serve.xds.server import XdsSettings  # noqa: PLC0415

    settings = ServeSettings(
        bootstrap=bootstrap_servers,
        xds=XdsSettings(xds_host, xds_port, max_clients, answer_within, client_cluster),
        http_host=http_host,
        http_names=http_names,
        http_port=http_port,
        clusters=clusters,
        sse=SseSettings(max_clients=max_http_clients),
        silent_after=silent_after,
        fold_journal=not from_changelogs,
        past_index=index,
    )

    def started(at: Serving) -> None:
        tune_gc()
        click.echo(
            f"facets serve: xDS on {xds_host}:{at.xds_port}, HTTP on http://{http_host}:{at.http_port}", err=True
        )

    async def until_stopped() -> None:
        stop = asyncio.Event()
        set_on_signals(stop)
        await serve(settings, stop, started)

    uvloop.run(until_stopped())
    leave()
