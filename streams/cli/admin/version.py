"""`facets version`: prints the installed versions."""

import platform
from importlib.metadata import version

import click
import orjson

from streams.wire.records import FOLD_VERSION


@click.command("version")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print it."
)
def version_command(output: str) -> None:
    """Print the version of facets, of its fold, and of what it runs on.

    Workers of one fold version make the same bytes from the same journal.
    """
    versions = {
        "facets": version("service-facets"),
        "fold": FOLD_VERSION,
        "faust": version("faust-streaming"),
        "python": platform.python_version(),
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }
    if output == "json":
        click.echo(orjson.dumps(versions, option=orjson.OPT_INDENT_2).decode())
        return
    for name, value in versions.items():
        click.echo(f"{name:8}  {value}")
