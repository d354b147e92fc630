"""The `facets` command: thin, every subcommand in a module of its own, imported when it is called."""

import importlib
import importlib.util
import logging
import os
import sys
from typing import Any

import click

from streams.core.errors import FacetsError

_COMMANDS = {
    "up": "up",
    "watch": "watch",
    "work": "work",
    "serve": "serve",
    "get": "get",
    "follow": "follow",
    "wait": "wait",
    "fold": "fold",
    "topics": "topics",
    "doctor": "doctor",
    "schemas": "schemas",
    "status": "status",
    "who": "who",
    "history": "history",
    "diff": "diff",
    "replay": "replay",
    "envoy-bootstrap": "envoy_bootstrap",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for; what has no module is not there."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order that a reader wants them."""
        return [name for name, module in _COMMANDS.items() if importlib.util.find_spec(f"streams.cli.{module}")]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command, or None."""
        module = _COMMANDS.get(name)
        if module is None or importlib.util.find_spec(f"streams.cli.{module}") is None:
            return None
        command: click.Command = getattr(importlib.import_module(f"streams.cli.{module}"), f"{module}_command")
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="service-facets", prog_name="facets")
@click.option("-v", "--verbose", count=True, help="Say more on stderr (-vv: everything).")
def cli(verbose: int) -> None:
    """The two facets of Kubernetes Services, as data: tables and changelogs that routers follow.

    \b
    facets up --demo          all of it on this machine, with recorded clusters
    facets get backend -A     every Service's endpoints
    facets follow backend     each sealed change as it comes
    facets fold list.json     the same tables from a file, offline
    """
    logging.basicConfig(
        level=(logging.INFO, logging.DEBUG)[min(verbose, 1)] if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for name in ("kafka", "aiokafka", "kubernetes", "aiohttp"):
        logging.getLogger(name).setLevel(logging.WARNING if verbose < 2 else logging.INFO)


def main() -> Any:
    """The console script."""
    try:
        cli.main(prog_name="facets", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # The reader has gone; without this Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except FacetsError as error:
        click.echo(f"facets: error: {error}", err=True)
        if error.remedy:
            click.echo(f"  remedy: {error.remedy}", err=True)
        sys.exit(error.exit_code)
