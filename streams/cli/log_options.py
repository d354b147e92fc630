"""`-v` and `--log-format`, which every command takes: `facets -v watch` and `facets watch -v` are the same."""

import os
from typing import Any

import click

from streams.runtime.log_setup import FORMAT_VARIABLE, VERBOSE_VARIABLE, configure_logging

_KEY = "streams.cli.log_options"


def with_logging_options(command: click.Command, *, root: bool = False) -> click.Command:
    """Add the options to a command and its subcommands. Only the root takes them from the environment, so that options
    in front of the command take precedence."""
    if not any(param.name == "log_format" for param in command.params):
        command.params.extend(_options(root))
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            with_logging_options(subcommand)
    return command


def _options(root: bool) -> list[click.Parameter]:
    return [
        click.Option(
            ["-v", "--verbose"],
            count=True,
            envvar=VERBOSE_VARIABLE if root else None,
            expose_value=False,
            callback=_take,
            help="Log more: Kafka's warnings (-v), everything (-vv).",
        ),
        click.Option(
            ["--log-format"],
            type=click.Choice(["text", "json"]),
            envvar=FORMAT_VARIABLE if root else None,
            expose_value=False,
            callback=_take,
            help=f"Format of the lines on stderr ({FORMAT_VARIABLE}).  [default: text]",
        ),
    ]


def _take(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    """Store the value, and configure logging with all values so far. Child processes inherit them by the
    environment."""
    if ctx.resilient_parsing:
        return
    settings = ctx.meta.setdefault(_KEY, {"verbose": 0, "log_format": "text"})
    if option.name == "verbose" and value:
        settings["verbose"] += value
        os.environ[VERBOSE_VARIABLE] = str(settings["verbose"])
    elif option.name == "log_format" and value:
        settings["log_format"] = os.environ[FORMAT_VARIABLE] = value
    elif ctx.parent is not None:
        return
    configure_logging(settings["verbose"], settings["log_format"])
