"""`facets diff`: shows the differences between two states of a Service's facets."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from streams.cli.names import ServiceName, ServicePath, TableName, clusters_option, namespace_option, readable_tables
from streams.cli.options import Moment, bootstrap_option, index_option
from streams.cli.output import remark, run
from streams.exit_codes import ExitCode

if TYPE_CHECKING:
    from streams.subscription.rows import Row


class Point(click.ParamType):
    """A version (1042, or v1042 as `facets history` prints it), or a time. Given as (version, "") or (-1, time)."""

    name = "version or time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, str]:
        """One of the two."""
        if isinstance(value, tuple):
            return value
        version = str(value).removeprefix("v")
        return (int(version), "") if version.isdecimal() else (-1, Moment().convert(value, param, ctx))


@click.command("diff")
@click.argument("service", type=ServiceName())
@namespace_option()
@clusters_option
@click.option(
    "--table", "tables", multiple=True, type=TableName(),
    help="Only this table: frontend (fe), backend (be), routing (rt) or clusterset (cs); repeatable.",
)  # fmt: skip
@click.option(
    "--from", "old", type=Point(), help="A version (as rows and `facets history` have it), or a time, or how long ago "
    "(15m).  [default: the version before the newest]",
)  # fmt: skip
@click.option("--to", "new", type=Point(), help="The same.  [default: the newest]")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print it."
)
@index_option("The index from which it is answered, where it is up to date (FACETS_INDEX).")
@bootstrap_option
def diff_command(
    service: ServicePath,
    namespace: str | None,
    clusters: tuple[str, ...],
    tables: tuple[str, ...],
    old: tuple[int, str] | None,
    new: tuple[int, str] | None,
    output: str,
    index: Path,
    bootstrap_servers: str,
) -> None:
    """Show what differs between two states of SERVICE.

    Endpoints added (+), removed (-) or changed (~), fields, and exports of the clusterset.

    A state is that of its rows in all tables (frontend, backend, routing, clusterset) at a version (a journal offset)
    or at a time, replayed from the retained journal. Of some clusters there is no clusterset, which is of all. Exit
    code 0 if nothing differs, 1 if something does (as diff does), 3 if the journal does not cover it.

    \b
    facets diff cart -n shop                          the last change
    facets diff cart -n shop --from 1031 --to 1042
    facets diff cart -n shop --from 1h
    facets diff cart -n shop --table clusterset       what its clusters export together
    """
    from streams.cli.looking_back import looking_back  # noqa: PLC0415
    from streams.history.collectors import AllRows  # noqa: PLC0415
    from streams.history.coverage import known_at  # noqa: PLC0415
    from streams.history.queries import Difference, Until, clusters_of, differences  # noqa: PLC0415
    from streams.subscription.known_names import check_names  # noqa: PLC0415
    from streams.subscription.rows import Filter  # noqa: PLC0415

    space, name, clusters = service.resolve(namespace, clusters)
    tables = readable_tables(tables, clusters)
    row_filter = Filter(frozenset(clusters), frozenset({space}), frozenset({name}))
    with looking_back(bootstrap_servers, index, Until(), row_filter) as past:
        collectors = past.collect(AllRows, Until(), row_filter, tables)
        rows = [row for collector in collectors for row in collector.rows]
        run(check_names(bootstrap_servers, rows, clusters=clusters, namespaces=[space], services=[name]))
        ((partition, coverage),) = past.coverage.items()
    before, newest = _points(rows, old, new, f"{space}/{name}")
    row_clusters = sorted({cluster for row in rows for cluster in clusters_of(row)})
    known_clusters = set(row_clusters)
    for point in (before, newest):
        known_clusters &= set(known_at(coverage, partition, *point, row_clusters))
    if unknown_clusters := [cluster for cluster in row_clusters if cluster not in known_clusters]:
        remark([f"cluster {', '.join(unknown_clusters)}: not known at both, left out"])
    rows = [row for row in rows if known_clusters.issuperset(clusters_of(row))]
    old_rows, new_rows = _state(rows, before), _state(rows, newest)
    changes: list[tuple[str, str, Difference]] = []
    for table, cluster in sorted({*old_rows, *new_rows}):
        pair = [_decode(state.get((table, cluster))) for state in (old_rows, new_rows)]
        changes += [(table, cluster or _cluster_of(difference), difference) for difference in differences(table, *pair)]
    if output == "json":
        items = [{"table": table, "cluster": cluster, **difference._asdict()} for table, cluster, difference in changes]
        click.echo(orjson.dumps({"items": items}, option=orjson.OPT_INDENT_2).decode())
    else:
        if changes:
            click.echo(f"{space}/{name}: {_point(before)} -> {_point(newest)}")
        else:
            click.echo(f"{space}/{name}: no difference between {_point(before)} and {_point(newest)}")
        for table, cluster, difference in changes:
            click.echo(f"{difference.sign} {cluster or '-'}  {table}  {_describe(difference)}")
    raise SystemExit(ExitCode.NEGATIVE if changes else ExitCode.OK)


def _points(
    rows: "list[Row]", old: tuple[int, str] | None, new: tuple[int, str] | None, service: str
) -> tuple[tuple[int, str], tuple[int, str]]:
    """What is compared: what is asked for, else the last two versions. Raises NotKnown if there is no row."""
    from streams.history.coverage import NotKnown  # noqa: PLC0415

    versions = sorted({row.version for row in rows if row.value})
    if not versions:
        raise NotKnown(f"the journal has no row of {service}", "facets get frontend -A lists those of now")
    return old or (versions[-2] if len(versions) > 1 else versions[-1] - 1, ""), new or (versions[-1], "")


def _state(rows: "list[Row]", point: tuple[int, str]) -> "dict[tuple[str, str], Row]":
    """The row at a point, by table and cluster."""
    newest: dict[tuple[str, str], Row] = {}
    version, at = point
    for row in rows:
        if not row.value:
            # A tombstone has no time of its own; what it ends was deleted before.
            continue
        if row.version <= version if not at else row.decode()["asOf"]["at"] <= at:
            newest[row.table, row.cluster] = row
    return newest


def _decode(row: "Row | None") -> dict[str, Any] | None:
    content = row.decode() if row is not None else None
    return None if content is None or content["state"] == "deleted" else content


def _point(point: tuple[int, str]) -> str:
    return point[1] or f"version {point[0]}"


def _cluster_of(difference: Any) -> str:
    """The cluster of an endpoint or an export of a set; "" of its other fields."""
    part = difference.after or difference.before
    return str(part.get("cluster", "")) if isinstance(part, dict) else ""


def _describe(difference: Any) -> str:
    from streams.history.queries import EXPORT, condition  # noqa: PLC0415

    is_part = difference.what == EXPORT or (isinstance(difference.before, dict) and "address" in difference.before)
    if difference.sign == "~" and not is_part:
        return f"{difference.what}: {_short(difference.before)} -> {_short(difference.after)}"
    if difference.sign == "~":
        before, after = difference.before, difference.after
        fields = [name for name in {**after, **before} if before.get(name) != after.get(name)]
        what = ", ".join(f"{name}: {_short(before.get(name))} -> {_short(after.get(name))}" for name in fields)
        return f"{difference.what}  {what}"
    endpoint = difference.after or difference.before
    if difference.what == EXPORT:
        return f"{EXPORT}  {endpoint['valid']}"
    if "address" in endpoint:
        return f"{difference.what}  {condition(endpoint)}" + (
            f"  {endpoint['target']['name']}" if endpoint["target"] else ""
        )
    return f"{difference.what} row, {endpoint['state']}"


def _short(value: Any) -> str:
    return orjson.dumps(value).decode()
