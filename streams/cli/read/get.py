"""`facets get`: prints rows of a table, as of now and as they change."""

from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from streams.cli.names import ServicePath, TablePath, filter_options, readable_tables
from streams.cli.options import Duration, Moment, bootstrap_option, index_option, silence_option
from streams.cli.output import STYLES, RowPrinter, no_headers_option, remark, run, sort_rows, within
from streams.cli.standard_streams import until_reader_leaves

if TYPE_CHECKING:
    from streams.subscription.client import Batch, ClusterStatus, Snapshot
    from streams.subscription.rows import Filter, Row


class Query(NamedTuple):
    """The rows asked for. Without paths all Services; no clusters and no namespaces mean all."""

    paths: tuple[ServicePath, ...]
    clusters: tuple[str, ...]
    namespaces: tuple[str, ...]

    def takes(self, row: "Row") -> bool:
        """Whether a row is selected."""
        return not self.paths or any(self.is_of(row, path) for path in self.paths)

    def is_of(self, row: "Row", path: ServicePath) -> bool:
        """Whether a row is the one that a path names."""
        if path.name != row.name or (path.cluster and path.cluster != row.cluster):
            return False
        return path.namespace == row.namespace if path.namespace else self._inside(row)

    def _inside(self, row: "Row") -> bool:
        return not self.namespaces or row.namespace in self.namespaces

    def selection(self) -> "Filter":
        """The narrowest filter that lets all of these rows through."""
        from streams.subscription.rows import Filter  # noqa: PLC0415

        spaces = {
            namespace for path in self.paths for namespace in ([path.namespace] if path.namespace else self.namespaces)
        }
        everywhere = not self.namespaces and not all(path.namespace for path in self.paths)
        path_clusters = {path.cluster for path in self.paths}
        return Filter(
            frozenset(self.clusters or (path_clusters if "" not in path_clusters else ())),
            frozenset(() if everywhere else spaces if self.paths else self.namespaces),
            frozenset(path.name for path in self.paths),
        )


@click.command("get")
@click.argument("table", metavar="TABLE[/SERVICE]", type=TablePath())
@click.argument("services", nargs=-1, metavar="[SERVICE]...", type=TablePath(bare=True))
@filter_options
@click.option(
    "-o", "--output", type=click.Choice(STYLES), default="table", show_default=True,
    help="How to print them; name is TABLE/CLUSTER/NAMESPACE/NAME.",
)  # fmt: skip
@click.option("-w", "--watch", is_flag=True, help="Then each row as it changes, until Ctrl-C.")
@no_headers_option
@click.option(
    "--sort-by", metavar="FIELD", help="Order by a field of the rows, such as version, asOf.at or endpoints (how many)."
)
@click.option(
    "--cut", is_flag=True,
    help="All Services of a cluster as they were at one moment: waits until every partition has sealed as much.",
)  # fmt: skip
@click.option("--timeout", type=Duration(), default="30s", show_default=True, help="How long to wait for it all.")
@click.option(
    "--at", type=Moment(),
    help="As they were at that time (RFC 3339, or how long ago: 15m), from the index (facets index), else by a replay.",
)  # fmt: skip
@click.option(
    "--as-seen-by", "router", metavar="NODE",
    help="As this router (its node id) had acknowledged them, now or at that time, of its own cluster if it names one.",
)  # fmt: skip
@index_option("The index from which --at is answered, where it has the time (FACETS_INDEX).")
@silence_option
@bootstrap_option
def get_command(
    table: tuple[str, ServicePath | None],
    services: tuple[tuple[str, ServicePath | None], ...],
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    clusters: tuple[str, ...],
    output: str,
    watch: bool,
    no_headers: bool,
    sort_by: str | None,
    cut: bool,
    timeout: float,
    at: str | None,
    router: str | None,
    index: Path,
    silent_after: float,
    bootstrap_servers: str,
) -> None:
    """Print the rows of a TABLE: frontend (fe), backend (be), routing (rt) or clusterset (cs).

    Of all Services, or of those named: SERVICE is a name, or NAMESPACE/NAME or CLUSTER/NAMESPACE/NAME as commands
    print it. Without -n or -A the namespace is `default`. The rows are as of each partition's newest seal: an endpoint
    set is whole, never half applied. AGE is how long ago the row last changed. The clusterset has the Services that
    clusters export (ServiceExport), those of all clusters together. With --at exit code 3 if the journal does not cover
    the time.

    \b
    facets get backend -A
    facets get frontend cart -n shop -o json
    facets get be shop/cart --cluster east -o wide
    facets get routing -n shop -o wide
    facets get clusterset -n shop
    facets get backend -n shop -w
    facets get backend cart -n shop --at 15m          as it was a quarter of an hour ago
    facets get backend cart -n shop --at 15m --as-seen-by envoy-7
    """
    _check_options(watch=watch, cut=cut, sort_by=sort_by, past="--at" if at else "--as-seen-by" if router else "")
    kind, query = _parse_query(table, services, clusters, namespaces, all_namespaces)
    readable_tables((kind,), [*query.clusters, *(path.cluster for path in query.paths if path.cluster)])
    selection = query.selection()
    printer = RowPrinter(
        kind, output, headers=not no_headers, namespaced=len(selection.namespaces) != 1, streaming=watch
    )

    def show(candidates: "Iterable[Row]") -> None:
        rows = [row.decode() for row in candidates if query.takes(row)]
        rows.sort(key=lambda row: (row["namespace"], row["name"], row["cluster"]))
        if sort_by:
            rows = sort_rows(rows, sort_by)
        if rows or output in {"json", "yaml"}:
            printer.print(rows)

    if at or router:
        show(_rows_at(bootstrap_servers, index, (at or "", router or ""), kind, query, clusters, namespaces))
        return

    async def get() -> None:
        from streams.subscription.client import Subscriber  # noqa: PLC0415
        from streams.subscription.set_client import join_sets  # noqa: PLC0415
        from streams.subscription.set_rows import SetRows  # noqa: PLC0415

        remedy = "a cut needs every partition sealed: check watcher and worker with facets doctor" if cut else ""
        async with Subscriber(
            bootstrap_servers,
            tables=(kind,),
            clusters=selection.clusters,
            namespaces=selection.namespaces,
            services=selection.services,
            silent_after=silent_after,
        ) as subscriber:
            items = join_sets(subscriber, bootstrap_servers)
            snapshot = await within(timeout, anext(items) if watch else subscriber.snapshot(cut=cut), remedy)
            rows = snapshot.rows if watch else SetRows().join(snapshot.rows)
            show(rows)
            await within(timeout, _check_found(bootstrap_servers, rows, query, clusters, namespaces))
            if not rows and not watch:
                click.echo(f"No {kind} rows found{_where(query)}.", err=True)
            if watch:
                await until_reader_leaves(_follow(items, query, printer))

    run(get())


def _check_options(*, watch: bool, cut: bool, sort_by: str | None, past: str) -> None:
    if watch and (cut or sort_by):
        raise click.UsageError("-w prints rows as they change: it takes neither --cut nor --sort-by")
    if past and (watch or cut):
        raise click.UsageError(f"{past} looks back: it takes neither --watch nor --cut")


def _rows_at(
    bootstrap: str,
    index: Path,
    seen: tuple[str, str],
    table: str,
    query: Query,
    clusters: tuple[str, ...],
    namespaces: tuple[str, ...],
) -> "list[Row]":
    """The rows as `seen`: at a time ("": now), and by a router ("": as they were)."""
    from streams.cli.looking_back import looking_back  # noqa: PLC0415
    from streams.cli.routers import seen_by  # noqa: PLC0415
    from streams.history.coverage import check_covered  # noqa: PLC0415
    from streams.history.queries import Until  # noqa: PLC0415
    from streams.subscription.known_names import check_names  # noqa: PLC0415
    from streams.wire.row_codec import is_deleted  # noqa: PLC0415

    (at, router), selection = seen, query.selection()
    until = Until(at=at)
    with looking_back(bootstrap, index, until, selection) as past:
        known: Iterable[Row]
        if router:
            through = seen_by(past, bootstrap, router, at, selection, table)
            rows, known = through.rows, through.services.values()
        else:
            rows = known = past.rows_at(until, selection, (table,))
        names = {path.name for path in query.paths}
        run(check_names(bootstrap, known, clusters=clusters, namespaces=() if names else namespaces, services=names))
        remark(check_covered(past.coverage, until, clusters))
    rows = [row for row in rows if query.takes(row) and not is_deleted(row.value)]
    if not rows:
        when = f" at {at}" * bool(at) + f", as {router} had them" * bool(router)
        click.echo(f"No {table} rows found{_where(query)}{when}.", err=True)
    return rows


async def _follow(
    items: "AsyncIterator[Snapshot | Batch | ClusterStatus]",
    query: Query,
    printer: RowPrinter,
) -> None:
    from streams.subscription.client import ClusterStatus  # noqa: PLC0415

    async for item in items:
        if isinstance(item, ClusterStatus):
            click.echo(
                f"cluster {item.cluster}: {f'stale: {item.stale}' if item.stale else 'heard of again'}", err=True
            )
            continue
        rows = [row.decode() for row in item.rows if query.takes(row)]
        if rows:
            printer.print(rows)


def _parse_query(
    table: tuple[str, ServicePath | None],
    services: Iterable[tuple[str, ServicePath | None]],
    clusters: tuple[str, ...],
    namespaces: tuple[str, ...],
    everywhere: bool,
) -> tuple[str, Query]:
    """The table and the query. Raises click.UsageError if arguments and options disagree."""
    kind, first = table
    paths: list[ServicePath] = [first] if first else []
    for name, path in services:
        if name not in {"", kind}:
            raise click.UsageError(f"one table at a time: {kind} or {name}")
        if path is not None:
            paths.append(path)
    for path in paths:
        path.check(namespaces, clusters)
    spaces = () if everywhere else namespaces or ("default",)
    return kind, Query(tuple(dict.fromkeys(paths)), clusters, spaces)


async def _check_found(
    bootstrap: str,
    rows: "Sequence[Row]",
    query: Query,
    clusters: tuple[str, ...],
    namespaces: tuple[str, ...],
) -> None:
    """Raise UnknownName for names of the query that are not known."""
    from streams.subscription.client import read_names  # noqa: PLC0415
    from streams.subscription.known_names import check_names  # noqa: PLC0415
    from streams.subscription.names import UnknownName, unknown_names  # noqa: PLC0415

    missing = [path for path in query.paths if not any(query.is_of(row, path) for row in rows)]
    if not missing:
        await check_names(bootstrap, rows, clusters=clusters, namespaces=() if query.paths else namespaces)
        return
    known = await read_names(bootstrap)
    errors: dict[str, str] = {}
    for path in missing:
        spaces = [path.namespace] if path.namespace else query.namespaces
        error = unknown_names(known, [path.cluster] if path.cluster else clusters, spaces, [path.name])
        # It may have been added since, or have no row in this table.
        errors[str(error or f'service "{path.name}" not found')] = error.remedy if error else ""
    raise UnknownName("; ".join(errors), "; ".join(dict.fromkeys(filter(None, errors.values()))))


def _where(query: Query) -> str:
    scopes = (("namespace", query.namespaces), ("cluster", query.clusters))
    where = [f"{scope} " + " or ".join(f'"{name}"' for name in names) for scope, names in scopes if names]
    return f" in {', '.join(where)}" if where else ""
