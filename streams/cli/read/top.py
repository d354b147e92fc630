"""`facets top`: Services, routers and clusters, live in the terminal."""

import sys

import click

from streams.cli.options import server_option
from streams.cli.output import run
from streams.errors import FacetsError
from streams.exit_codes import ExitCode


@click.command("top")
@server_option
def top_command(server: str) -> None:
    """Watch Services, clusters and routers live, in the terminal.

    All Services of all clusters with their states, endpoints, routing decisions and changes a second, of a running
    `facets serve` at --server. Keys are those of k9s: `/` filters by words (names, addresses, Pods, nodes, zones,
    states, decisions; `!word` leaves out), enter opens a line, escape goes back, `:` asks for a view (services,
    clusters, routers; or 1, 2, 3), q ends it. Each view shows the command that gives the same in a shell.

    \b
    facets top
    facets top --server http://facets.example.com:8080
    """
    from streams.serve.propagation_client import fetch  # noqa: PLC0415

    if not all(stream.isatty() for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__) if stream is not None):
        raise FacetsError(
            "facets top is for a terminal, and this is none", "facets get -A, facets status or facets follow -o text",
            ExitCode.USAGE,
        )  # fmt: skip
    run(fetch(server, "/healthz", {}, allowed=range(600)))
    from streams.cli.top.app import TopApp  # noqa: PLC0415

    TopApp(server).run()
