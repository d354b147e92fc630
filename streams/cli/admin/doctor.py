"""`facets doctor`: checks that everything facets needs is healthy."""

import itertools
from pathlib import Path

import click
import orjson
from click.core import ParameterSource

from streams.cli.options import server_option, silence_option
from streams.exit_codes import ExitCode


@click.command("doctor")
@click.option(
    "--bootstrap-servers",
    envvar="FACETS_BOOTSTRAP_SERVERS",
    metavar="HOST:PORT,...",
    help="Kafka's address.  [default: the broker that `facets up` runs here]",
)
@click.option(
    "--kubeconfig", type=click.Path(dir_okay=False, path_type=Path), help="Kubeconfig file.  [default: as kubectl]"
)
@click.option("--context", help="Context of the kubeconfig.  [default: its current one]")
@click.option("--cluster", "clusters", multiple=True, metavar="NAME[=CONTEXT]", help="A cluster to check; repeatable.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@server_option
@silence_option
def doctor_command(
    bootstrap_servers: str | None,
    kubeconfig: Path | None,
    context: str | None,
    clusters: tuple[str, ...],
    output: str,
    server: str,
    silent_after: float,
) -> None:
    """Check Java, Kafka, the topics, watchers, worker, server and dead letters, and what the kubeconfig allows.

    Changes nothing.

    Each line is ok, warn or FAIL, with what to do about it; exit code 1 if anything failed.

    \b
    facets doctor
    facets doctor --bootstrap-servers kafka:9092 --context east
    """
    from streams.local.doctor import broker_checks, cluster_checks, local_checks  # noqa: PLC0415
    from streams.local.server_checks import server_checks  # noqa: PLC0415

    named = click.get_current_context().get_parameter_source("server") is not ParameterSource.DEFAULT
    asked = kubeconfig is not None or context is not None or bool(clusters)
    checks = itertools.chain(
        [] if bootstrap_servers else local_checks(),
        broker_checks(bootstrap_servers, silent_after),
        server_checks(server, named=named),
        cluster_checks(kubeconfig, context, clusters, requested=asked),
    )
    done = []
    for check in checks:
        done.append(check)
        if output == "text":
            mark, color = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}[check.status]
            click.echo(f"{click.style(f'{mark:4}', fg=color)}  {check.name:18}  {check.detail}")
            if check.remedy and check.status != "ok":
                click.echo(f"{'':26}-> {check.remedy}")
    if output == "json":
        click.echo(orjson.dumps([check._asdict() for check in done], option=orjson.OPT_INDENT_2))
    if any(check.status == "fail" for check in done):
        raise SystemExit(ExitCode.NEGATIVE)
