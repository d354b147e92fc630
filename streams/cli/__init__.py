"""The `facets` command: each subcommand is a thin module of its own, imported when it is called."""

import importlib
import os
import pkgutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import click

from streams.cli.log_options import with_logging_options
from streams.cli.standard_streams import OutputFailed, ReaderLeft, discard_output, prepare_standard_streams
from streams.errors import FacetsError
from streams.exit_codes import ExitCode, exit_code_table
from streams.runtime.log_setup import FORMAT_VARIABLE, configure_logging, report_error, requested_format
from streams.runtime.parent_death import end_with_stdin
from streams.subscription.names import suggestion

_SECTIONS = {"run": "Run", "read": "Read", "past": "Look back", "admin": "Administration"}
"""The folders of this package that hold commands, and their titles: NAME is `NAME_command` in FOLDER/NAME.py."""

_ORDER = (
    "up", "watch", "work", "serve", "index", "import", "get", "follow", "wait", "history", "diff", "replay", "doctor"
)  # fmt: skip
"""The commands listed first, in this order; the others follow by name."""

_WHOLE = 1000
"""The maximum length of a command's summary: it is wrapped, not cut."""


class LazyGroup(click.Group):
    """A group whose commands are imported on demand, from modules found by their names."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return [name for folder in _SECTIONS for name in _commands(folder)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command, or None."""
        module = _module_of(name)
        if module is None:
            return None
        command: click.Command = getattr(importlib.import_module(module), f"{module.rpartition('.')[2]}_command")
        return with_logging_options(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's, but the error for an unknown command suggests the nearest."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"no such command {args[0]!r}; {suggestion(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, in sections."""
        available = self.list_commands(ctx)
        width = max(map(len, available), default=0)
        for folder, title in _SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in _commands(folder)]
            rows = [(name.ljust(width), command.get_short_help_str(_WHOLE)) for name, command in commands if command]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes, then the epilog."""
        with formatter.section("Exit codes"):
            formatter.write_dl(exit_code_table())
        super().format_epilog(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Like click's, but flushes the output, so that a failed write is reported."""
        result = super().invoke(ctx)
        sys.stdout.flush()
        return result


@cache
def _commands(folder: str) -> tuple[str, ...]:
    """The commands in a folder, in the order in which they are shown."""
    modules = pkgutil.iter_modules([str(Path(__file__).parent / folder)])
    names = sorted(module.name.replace("_", "-") for module in modules)
    return tuple(sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER)))


def _module_of(name: str) -> str | None:
    folder = next((folder for folder in _SECTIONS if name in _commands(folder)), None)
    return folder and f"streams.cli.{folder}.{name.replace('-', '_')}"


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="`facets COMMAND --help` has examples. Kafka's address is --bootstrap-servers or FACETS_BOOTSTRAP_SERVERS; "
    "without one, the broker that `facets up` runs on this machine.",
)
@click.version_option(package_name="service-facets", prog_name="facets")
def cli() -> None:
    """The two facets of Kubernetes Services, as data: tables and changelogs that routers follow.

    \b
    facets up --demo             all of it on this machine, with recorded clusters
    facets get backend -A        every Service's endpoints
    facets follow backend        each sealed change as it comes
    kubectl get services,endpointslices -A -o json | facets fold
                                 the same tables from a file, offline
    """


with_logging_options(cli, root=True)


def main() -> None:
    """The console script: runs a command, and turns expected errors into a line that says what to do."""
    prepare_standard_streams()
    end_with_stdin()
    log_format = requested_format(sys.argv[1:])
    if log_format == "json":
        # Before the options are parsed, so that the first line is JSON too.
        os.environ[FORMAT_VARIABLE] = log_format
    configure_logging(0, log_format)
    try:
        result = cli.main(prog_name="facets", standalone_mode=False)
    except click.ClickException as error:
        if log_format == "json":
            report_error(error.format_message(), "facets --help")
        else:
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        if isinstance(explained, OutputFailed | ReaderLeft):
            discard_output()
        if not isinstance(explained, ReaderLeft):
            report_error(str(explained), explained.remedy)
        sys.exit(explained.exit_code)
    sys.exit(result if isinstance(result, int) else 0)


def explain(error: BaseException) -> FacetsError | None:
    """The error as a FacetsError that can be shown, or None for an unexpected one."""
    if isinstance(error, FacetsError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((explained for nested in error.exceptions if (explained := explain(nested))), None)
    return None
