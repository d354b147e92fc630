"""Options that several commands share."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click

Command = Callable[..., Any]

DEFAULT_SERVER = "http://127.0.0.1:8080"
"""Where `facets serve` answers HTTP by default."""


def bootstrap_option(command: Command) -> Command:
    """`--bootstrap-servers`, passed to the command as `bootstrap_servers`: an address, or this machine's broker."""

    @bootstrap_on_demand_option
    @functools.wraps(command)
    def wrapped(*args: Any, bootstrap_servers: Callable[[], str], **kwargs: Any) -> Any:
        return command(*args, bootstrap_servers=bootstrap_servers(), **kwargs)

    return wrapped


def bootstrap_on_demand_option(command: Command) -> Command:
    """The same for a command that may do without Kafka: a function that finds the address is passed."""

    @click.option(
        "--bootstrap-servers",
        envvar="FACETS_BOOTSTRAP_SERVERS",
        metavar="HOST:PORT,...",
        help="Kafka's address (FACETS_BOOTSTRAP_SERVERS).  [default: the broker that `facets up` runs here]",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, bootstrap_servers: str | None, **kwargs: Any) -> Any:
        from streams.kafka.address import default_bootstrap  # noqa: PLC0415

        return command(*args, bootstrap_servers=lambda: bootstrap_servers or default_bootstrap(), **kwargs)

    return wrapped


def index_option(what: str) -> Callable[[Command], Command]:
    """`--index`: the file of an index of the past, given to the command as `index`. `what` says what it is for."""

    def choose(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path:
        from streams.index.database import default_path  # noqa: PLC0415

        return value if value is not None else default_path()

    return click.option(
        "--index", envvar="FACETS_INDEX", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
        callback=choose, help=f"{what}  [default: in FACETS_DATA_DIR]",
    )  # fmt: skip


def cluster_options(what: str) -> Callable[[Command], Command]:
    """`--kubeconfig`, `--context` and `--cluster`: the clusters that a process works with. `what` says for what."""

    def add(command: Command) -> Command:
        for option in (
            click.option(
                "--cluster", "clusters", multiple=True, metavar="NAME[=CONTEXT]",
                help=f"{what}  [default: named after its context]",
            ),
            click.option("--context", help="Context of the kubeconfig.  [default: its current one]"),
            click.option(
                "--kubeconfig", type=click.Path(dir_okay=False, path_type=Path),
                help="Kubeconfig file.  [default: as kubectl]",
            ),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


def silence_option(command: Command) -> Command:
    """`--silent-after`: for how many seconds a cluster may be silent before its rows are shown as stale."""
    return click.option(
        "--silent-after",
        type=Duration(),
        envvar="FACETS_SILENT_AFTER",
        default="10s",
        show_default=True,
        help="Show a cluster as stale that has had no commit for so long (FACETS_SILENT_AFTER).",
    )(command)


def create_topics_option(command: Command) -> Command:
    """`--create-topics`, for processes that otherwise require the topics."""
    return click.option(
        "--create-topics",
        is_flag=True,
        help="Create the topics that are missing, as `facets topics create` does without options.",
    )(command)


def http_options(port: int, what: str, zero: str = "any free one") -> Callable[[Command], Command]:
    """`--http-host`, `--http-port` and `--http-name`, the same for every process: it serves metrics, health and `what`
    there."""

    def add(command: Command) -> Command:
        for option in (
            click.option(
                "--http-port", type=click.IntRange(0, 65535), default=port, show_default=True,
                help=f"Port of {what}; 0: {zero}.",
            ),
            click.option("--http-host", default="127.0.0.1", show_default=True, help=f"Address of {what}."),
            click.option(
                "--http-name", "http_names", multiple=True, envvar="FACETS_HTTP_NAMES", metavar="NAME",
                help="A DNS name that it answers to, beside its addresses, localhost and names without a domain; "
                "repeatable (FACETS_HTTP_NAMES, by spaces).",
            ),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


def server_option(command: Command) -> Command:
    """`--server`: the HTTP address of a running `facets serve`; by default that of the `facets up` on this machine, or
    where a server listens by default."""

    def choose(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        from streams.local.local_data import server_of_up  # noqa: PLC0415

        return value if value is not None or ctx.resilient_parsing else server_of_up() or DEFAULT_SERVER

    return click.option(
        "--server",
        envvar="FACETS_SERVER",
        metavar="URL",
        callback=choose,
        help="The HTTP address of `facets serve` (FACETS_SERVER).  [default: the server that `facets up` runs here, "
        f"else {DEFAULT_SERVER}]",
    )(command)


def routing_options(command: Command) -> Command:
    """`--gateway-default` and `--mesh-default`, given to the command as `routing_defaults`, by direction."""

    @click.option(
        "--gateway-default",
        type=click.Choice(["service", "endpoint"]),
        help="How gateways reach Services for which nothing is asked or annotated.  [default: endpoint]",
    )
    @click.option(
        "--mesh-default", type=click.Choice(["service", "endpoint"]), help="The same in the mesh.  [default: endpoint]"
    )
    @functools.wraps(command)
    def wrapped(*args: Any, gateway_default: str | None, mesh_default: str | None, **kwargs: Any) -> Any:
        choices = {"gateway": gateway_default, "mesh": mesh_default}
        defaults = {direction: choice for direction, choice in choices.items() if choice is not None}
        return command(*args, routing_defaults=defaults, **kwargs)

    return wrapped


class RouterPlace(NamedTuple):
    """Where a router runs, and which traffic it has; "" for what is not said."""

    zone: str
    node: str
    cluster: str
    namespace: str
    traffic: Literal["mesh", "gateway"]


def router_options(cluster_option: str) -> Callable[[Command], Command]:
    """A router's zone, node, cluster (by an option of this name), namespace and traffic, given to the command as
    `place`."""

    def add(command: Command) -> Command:
        @click.option(
            "--zone", default="", help="The router's zone: endpoints in it are preferred where a Service asks for it."
        )
        @click.option("--node", default="", help="The Kubernetes node that the router runs on.")
        @click.option(
            cluster_option,
            "router_cluster",
            default="",
            help="The cluster that the router runs in: a Service's own name is for it that of this cluster.",
        )
        @click.option("--namespace", default="", help="The router's namespace, whose own mesh routes it follows.")
        @click.option(
            "--traffic",
            type=click.Choice(["mesh", "gateway"]),
            default="mesh",
            show_default=True,
            help="Which of a Service's routing decisions the router follows.",
        )
        @functools.wraps(command)
        def wrapped(
            *args: Any, zone: str, node: str, router_cluster: str, namespace: str, traffic: Any, **kwargs: Any
        ) -> Any:
            return command(*args, place=RouterPlace(zone, node, router_cluster, namespace, traffic), **kwargs)

        return wrapped

    return add


class Duration(click.ParamType):
    """A time such as 500ms, 30s, 2m, 1h or 1m30s; a bare number is in seconds. Given in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        from streams.runtime.durations import seconds_of  # noqa: PLC0415

        if isinstance(value, int | float):
            return float(value)
        try:
            return seconds_of(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Moment(click.ParamType):
    """A time: RFC 3339 such as 2026-11-24T12:00:00Z, or how long ago, such as 15m. Given as the records have it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """RFC 3339 in UTC with milliseconds."""
        from streams.history.coverage import GRACE_SECONDS, NotKnown  # noqa: PLC0415
        from streams.wire.timestamps import later, read, write  # noqa: PLC0415

        text, now = str(value), write(datetime.now(UTC))
        try:
            if "T" not in text:
                return later(now, -Duration().convert(text, param, ctx))
            at = write(read(text))
            # A watcher's clock may be ahead of this one, and what is printed can be pasted back.
            if at > later(now, GRACE_SECONDS):
                raise NotKnown(f"{text} is in the future: it is {now}", "give a time that has passed")
            return at
        except (ValueError, click.BadParameter):
            self.fail(
                f"{text!r} is neither a time such as 2026-11-24T12:00:00Z nor how long ago, such as 15m", param, ctx
            )


class Assigned(click.ParamType):
    """NAME=NUMBER, or NUMBER=NUMBER if `numbered`. Given as a pair."""

    name = "assignment"

    def __init__(self, numbered: bool = False) -> None:
        self._numbered = numbered

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, int]:
        """Name and number."""
        if isinstance(value, tuple):
            return value
        name, _, number = str(value).rpartition("=")
        if not name or not number.isdigit() or (self._numbered and not name.isdigit()):
            self.fail(f"{value!r} is not {'PARTITION=OFFSET' if self._numbered else 'CLUSTER=SEQ'}", param, ctx)
        return (int(name) if self._numbered else name), int(number)
