"""Options that several commands share."""

import functools
from collections.abc import Callable
from typing import Any

import click

from streams.core.errors import FacetsError


def bootstrap_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--bootstrap-servers`, given to the command as `bootstrap_servers`: an address, or this machine's broker."""

    @click.option(
        "--bootstrap-servers",
        envvar="FACETS_BOOTSTRAP_SERVERS",
        metavar="HOST:PORT,...",
        help="Kafka's address (FACETS_BOOTSTRAP_SERVERS).  [default: the broker that `facets up` runs here]",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, bootstrap_servers: str | None, **kwargs: Any) -> Any:
        return command(*args, bootstrap_servers=bootstrap_servers or _running_here(), **kwargs)

    return wrapped


def _running_here() -> str:
    from streams.edges.embedded_kafka import find_running  # noqa: PLC0415
    from streams.edges.folders import data_dir  # noqa: PLC0415

    found = find_running(data_dir())
    if found is None:
        raise FacetsError(
            "no broker is named, and none of `facets up` runs on this machine",
            "start one with `facets up`, or name one with --bootstrap-servers or FACETS_BOOTSTRAP_SERVERS",
            69,
        )
    return found
