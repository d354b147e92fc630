"""Parameters that are names: of tables, resource types, clusters, namespaces and Services, with shell completion."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from streams.objects.resources import OPTIONAL, RESOURCES, Resource
from streams.subscription.names import KnownNames, suggestion
from streams.wire.address_text import parse_address
from streams.wire.records import CLUSTERSET, FOLDED_TABLES, TABLES

SHORT_TABLES = {"frontend": "fe", "backend": "be", "routing": "rt", CLUSTERSET: "cs"}
_TABLE_ALIASES = {alias: table for table in FOLDED_TABLES for alias in (table, f"{table}s", SHORT_TABLES[table])}

_SHORT_RESOURCES = {
    "services": ("svc",),
    "endpoints": ("ep",),
    "endpointslices": ("eps", "slice", "slices"),
    "namespaces": ("ns",),
    "gateways": ("gtw",),
    "referencegrants": ("refgrant",),
}
"""kubectl's short names; it has none for EndpointSlices."""


_COMPLETION_SECONDS = 5.0
"""How long a completion may take."""


class TableName(click.ParamType):
    """The name of one of these tables: singular, plural or short. Given as the singular."""

    name = "table"

    def __init__(self, tables: tuple[str, ...] = FOLDED_TABLES) -> None:
        self._tables = tables

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The singular name."""
        table = _TABLE_ALIASES.get(str(value).lower())
        if table not in self._tables:
            available = ", ".join(f"{table_name} ({SHORT_TABLES[table_name]})" for table_name in self._tables)
            aliases = [alias for alias, name in _TABLE_ALIASES.items() if name in self._tables]
            nearest = suggestion(str(value), aliases) if str(value) else ""
            hint = nearest if nearest.startswith("did") else f"there are {available}"
            self.fail(f"table {str(value)!r} not found; {hint}", param, ctx)
        return table

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The tables."""
        return matching(self._tables, incomplete)


def readable_tables(tables: tuple[str, ...], clusters: Collection[str]) -> tuple[str, ...]:
    """The tables to read: those named, else all. Of some clusters alone there is no clusterset, as a set is of all of
    them: it is left out, and raises click.UsageError where it is named."""
    if not clusters:
        return tables or FOLDED_TABLES
    if CLUSTERSET in tables:
        raise click.UsageError("a row of the clusterset is of all clusters: it takes no --cluster")
    return tables or TABLES


class ResourceName(click.ParamType):
    """A resource type, as kubectl takes it: kind, singular, plural, short or with its group (svc, Service, services,
    httproutes.gateway.networking.k8s.io). Given as frontiers name it."""

    name = "resource"

    def __init__(self) -> None:
        self.aliases = {
            alias: resource.frontier for resource in (*RESOURCES, *OPTIONAL) for alias in _aliases(resource)
        }

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name in frontiers."""
        frontier = self.aliases.get(str(value).lower())
        if frontier is None:
            self.fail(f"resource {str(value)!r} not found; {suggestion(str(value), self.aliases)}", param, ctx)
        return frontier

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The plurals."""
        return matching((resource.frontier.partition(".")[0] for resource in (*RESOURCES, *OPTIONAL)), incomplete)


class ServicePath(NamedTuple):
    """A Service as commands print it: [[CLUSTER/]NAMESPACE/]NAME; what is left out is empty."""

    cluster: str
    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "ServicePath":
        """Raises ValueError unless it is a path of one to three names."""
        names = text.split("/")
        if not all(names) or len(names) > 3:
            raise ValueError(f"{text!r} is not [[CLUSTER/]NAMESPACE/]SERVICE")
        return cls(*[""] * (3 - len(names)), *names)

    def check(self, namespaces: Collection[str], clusters: Collection[str]) -> None:
        """Raise click.UsageError if the path is outside these namespaces and clusters; none means all."""
        if self.namespace and namespaces and self.namespace not in namespaces:
            raise click.UsageError(f"-n {', '.join(namespaces)} excludes {self.namespace}/{self.name}")
        if self.cluster and clusters and self.cluster not in clusters:
            raise click.UsageError(f"--cluster {', '.join(clusters)} excludes {'/'.join(self)}")

    def resolve(self, namespace: str | None, clusters: Collection[str]) -> tuple[str, str, tuple[str, ...]]:
        """Namespace, name and clusters, combined with -n and --cluster. Raises click.UsageError if they disagree."""
        self.check((namespace,) if namespace else (), clusters)
        return self.namespace or namespace or "default", self.name, (self.cluster,) if self.cluster else tuple(clusters)


def one_namespace(
    services: Collection[ServicePath], namespaces: Collection[str], clusters: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Names, namespaces and clusters of repeated --service options, combined with -n and --cluster. Raises
    click.UsageError if they would select more than was asked for: paths of several namespaces or clusters."""
    for path in services:
        path.check(namespaces, clusters)
    spaces, names = {path.namespace for path in services}, {path.cluster for path in services}
    if len(spaces) > 1 or len(names) > 1:
        raise click.UsageError("--service takes paths of one namespace and cluster only: use -n and --cluster")
    return (
        tuple(path.name for path in services),
        tuple(spaces) if spaces - {""} else tuple(namespaces),
        tuple(names) if names - {""} else tuple(clusters),
    )


class ServiceName(click.ParamType):
    """A Service's name, or its path as commands print it. Given as a ServicePath."""

    name = "service"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ServicePath:
        """The path."""
        if isinstance(value, ServicePath):
            return value
        try:
            return ServicePath.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names in the namespace of -n (or `default`), and NAMESPACE/NAME of all others."""
        namespaces = ctx.params.get("namespaces") or [ctx.params.get("namespace") or "default"]
        names = {
            name if namespace in namespaces and "/" not in incomplete else f"{namespace}/{name}"
            for _, namespace, name in known_names(ctx).services
        }
        return matching(sorted(names), incomplete)


class TablePath(click.ParamType):
    """TABLE, or TABLE/SERVICE; `bare` a SERVICE, with or without its table in front. Given as the table ("" without
    one) and the Service's path (None without one)."""

    name = "table"

    def __init__(self, *, bare: bool = False) -> None:
        self._bare = bare

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ServicePath | None]:
        """The table and the path."""
        if isinstance(value, tuple):
            return value
        text = str(value)
        first, slash, rest = text.partition("/")
        if self._bare and not (slash and first.lower() in _TABLE_ALIASES):
            return "", ServiceName().convert(text, param, ctx)
        table = TableName().convert(first, param, ctx)
        return table, ServiceName().convert(rest, param, ctx) if slash else None

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Tables first, then Services."""
        if self._bare:
            return ServiceName().shell_complete(ctx, param, incomplete)
        return TableName().shell_complete(ctx, param, incomplete)


class ClusterName(click.ParamType):
    """The name of a cluster that is in the tables."""

    name = "cluster"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The clusters."""
        return matching(sorted(known_names(ctx).clusters), incomplete)


class NamespaceName(click.ParamType):
    """The name of a namespace that has Services in the tables."""

    name = "namespace"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The namespaces."""
        return matching(sorted({namespace for _, namespace, _ in known_names(ctx).services}), incomplete)


Command = Callable[..., Any]


def clusters_option(command: Command) -> Command:
    """`--cluster`, repeatable, given to the command as `clusters`."""
    return click.option(
        "--cluster", "clusters", type=ClusterName(), multiple=True, help="Only this cluster; repeatable."
    )(command)


def namespace_option(text: str = "The Service's namespace.  [default: default]") -> Callable[[Command], Command]:
    """`-n`, given to the command as `namespace`; None without it."""
    return click.option("-n", "--namespace", type=NamespaceName(), help=text)


def filter_options(command: Command) -> Command:
    """`-n`, `-A` and `--cluster`."""
    for option in (
        clusters_option,
        click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces."),
        click.option(
            "-n", "--namespace", "namespaces", type=NamespaceName(), multiple=True,
            help="Only this namespace; repeatable.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def known_names(ctx: click.Context) -> KnownNames:
    """The names in the tables, for completion: none if they can't be read in time."""
    from streams.kafka.address import default_bootstrap  # noqa: PLC0415
    from streams.subscription.client import read_names  # noqa: PLC0415

    logging.disable(logging.CRITICAL)
    try:
        bootstrap = ctx.params.get("bootstrap_servers") or default_bootstrap()
        return asyncio.run(asyncio.wait_for(read_names(bootstrap), _COMPLETION_SECONDS))
    except Exception:
        return KnownNames(frozenset(), frozenset())
    finally:
        logging.disable(logging.NOTSET)


def matching(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """The names that begin with what is typed."""
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _aliases(resource: Resource) -> set[str]:
    plural = resource.frontier.partition(".")[0]
    kind = resource.kind.lower()
    names = {plural, kind, *_SHORT_RESOURCES.get(plural, ())}
    return names | {resource.frontier} | ({f"{kind}.{resource.group}"} if resource.group else set())


class AddressPorts(click.ParamType):
    """An IP address, with or without ports, as commands print it: 10.1.2.3, 10.1.2.3:8080, 10.1.2.3:80,8080, fd00::1,
    [fd00::1]:80. Given as the address and the ports."""

    name = "ip[:port]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """Address and ports."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_address(str(value))
        except ValueError as error:
            self.fail(f"{str(value)!r} {error}", param, ctx)
