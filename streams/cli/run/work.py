"""`facets work`: folds the journal into the facet tables."""

import socket
from pathlib import Path

import click

from streams.cli.options import bootstrap_option, create_topics_option, http_options
from streams.runtime.folders import data_dir as default_data_dir


@click.command("work")
@bootstrap_option
@http_options(6066, "the table views, with /metrics, /healthz and /readyz")
@click.option(
    "--instance",
    envvar="FACETS_INSTANCE",
    help="Name of this worker in its group; keep it over restarts, and a restarted worker is ready at once. "
    "Two workers need two names: a second of one name refuses to start, or replaces the first, which ends, where that "
    "runs on another machine.  [default: HOST-HTTP_PORT]",
)
@click.option(
    "--group", default="facets", show_default=True, help="Consumer group; workers of one group share the partitions."
)
@click.option(
    "--data-dir", type=click.Path(path_type=Path), envvar="FACETS_DATA_DIR", help="Folder for the worker's files."
)
@create_topics_option
def work_command(
    bootstrap_servers: str,
    http_port: int,
    http_host: str,
    http_names: tuple[str, ...],
    instance: str | None,
    group: str,
    data_dir: Path | None,
    create_topics: bool,
) -> None:
    """Fold the journal into the facet tables.

    Reads facets.journal, writes facets.frontend, .backend, .routing and .clusterset with a seal after every
    commit, and serves single rows at http://HTTP_HOST:HTTP_PORT/v1/TABLE/CLUSTER/NAMESPACE/NAME. Start more of
    them to share the partitions; kill any of them at any time: the next one goes on at the last seal.

    A signal stops it within 15 s. Exit codes: 69: no broker; 78: topics are missing (facets topics create); 70: a
    fault, start it again; 75: another worker has this one's --instance; 124: something was given up to stop in time,
    such as rows that no broker acknowledged (the next worker makes them again).
    """
    from streams.kafka.admin import cluster_id, ensure, require  # noqa: PLC0415
    from streams.runtime.listening import listen  # noqa: PLC0415
    from streams.runtime.processes import tune_gc  # noqa: PLC0415
    from streams.worker.instance_lock import instance_lock  # noqa: PLC0415
    from streams.worker.materializer import WorkerSettings  # noqa: PLC0415
    from streams.worker.run import run_worker  # noqa: PLC0415

    web = listen("the table views", http_host, http_port)
    partitions = (ensure if create_topics else require)(bootstrap_servers)
    name = instance or f"{socket.gethostname()}-{web.getsockname()[1]}"
    settings = WorkerSettings(
        bootstrap=bootstrap_servers,
        partitions=partitions,
        data_dir=(data_dir or default_data_dir()) / "work" / name,
        web=web,
        web_host=http_host,
        web_names=http_names,
        instance=name,
        group=group,
    )
    tune_gc()
    with instance_lock(settings.data_dir, name, cluster_id(bootstrap_servers), group):
        raise SystemExit(run_worker(settings))
