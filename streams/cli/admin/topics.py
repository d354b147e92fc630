"""`facets topics`: lists, creates and checks the topics."""

import click

from streams.cli.options import Duration, bootstrap_option
from streams.exit_codes import ExitCode


@click.command("topics")
@click.argument("action", type=click.Choice(["list", "create", "check"]), default="list")
@click.option(
    "--partitions", type=click.IntRange(1, 1024), help="How many partitions to create them with.  [default: 8]"
)
@click.option(
    "--replication-factor",
    type=click.IntRange(1, 7),
    help="Copies of each partition; from 3 on, two must have a commit before it counts.  [default: the broker's]",
)
@click.option(
    "--retention",
    type=Duration(),
    metavar="TIME",
    help="How long the journal is kept, such as 14d: how far one can look back.  [default: 7d]",
)
@bootstrap_option
def topics_command(
    action: str,
    partitions: int | None,
    replication_factor: int | None,
    retention: float | None,
    bootstrap_servers: str,
) -> None:
    """Show, create or check the topics. `check` exits with 1 if one is missing or misconfigured.

    The number of partitions is final: it decides which partition holds which Service. The retention of existing
    topics can be changed: run `create` with another one.

    \b
    facets topics create --partitions 16 --replication-factor 3 --retention 14d
    facets topics check
    """
    from streams.kafka.admin import describe, ensure  # noqa: PLC0415

    if action == "create":
        ensure(
            bootstrap_servers,
            partitions=partitions,
            replication_factor=replication_factor,
            retention_seconds=retention,
        )
    elif (partitions, replication_factor, retention) != (None, None, None):
        raise click.UsageError("--partitions, --replication-factor and --retention are for `facets topics create`")
    findings = describe(bootstrap_servers)
    for finding in findings:
        click.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:20}  {finding.detail}")
        if finding.remedy:
            click.echo(f"      remedy: {finding.remedy}")
    if action == "check" and not all(finding.ok for finding in findings):
        raise SystemExit(ExitCode.NEGATIVE)
