"""`facets topics`: what the topics are, whether they are right, and making them."""

import click

from streams.cli.options import bootstrap_option
from streams.core.exit_codes import ExitCode


@click.command("topics")
@click.argument("action", type=click.Choice(["list", "create", "check"]), default="list")
@click.option(
    "--partitions", type=click.IntRange(1, 1024), help="How many partitions to create them with.  [default: 8]"
)
@click.option(
    "--replication", type=click.IntRange(1, 7), default=1, show_default=True, help="Copies of each partition."
)
@bootstrap_option
def topics_command(action: str, partitions: int | None, replication: int, bootstrap_servers: str) -> None:
    """Show, create or check the topics. `check` exits with 1 if one is missing or misconfigured.

    The number of partitions is for good: it decides which partition holds which Service.
    """
    from streams.edges.topics import describe, ensure  # noqa: PLC0415

    if action == "create":
        ensure(bootstrap_servers, partitions, replication)
    findings = describe(bootstrap_servers)
    for finding in findings:
        click.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:20}  {finding.detail}")
        if finding.remedy:
            click.echo(f"      remedy: {finding.remedy}")
    if action == "check" and not all(finding.ok for finding in findings):
        raise SystemExit(ExitCode.NEGATIVE)
