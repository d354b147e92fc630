"""`facets export`: the changes of a time range, as CloudEvents or Parquet."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from streams.cli.names import ServiceName, ServicePath, TableName, filter_options, one_namespace, readable_tables
from streams.cli.options import Moment, bootstrap_option
from streams.errors import FacetsError
from streams.exit_codes import ExitCode

if TYPE_CHECKING:
    from streams.subscription.rows import Row

_FORMATS = ("cloudevents", "parquet")


@click.command("export")
@click.argument("tables", nargs=-1, type=TableName())
@filter_options
@click.option("--service", "services", type=ServiceName(), multiple=True, help="Only this Service; repeatable.")
@click.option("--since", type=Moment(), help="From this time on (RFC 3339, or how long ago: 15m).")
@click.option("--until", type=Moment(), help="Up to this time.")
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), default="cloudevents", show_default=True,
    help="CloudEvents 1.0, one a line as JSON; or a Parquet file.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="The file; it is there when it is complete.  [default: standard output; required for parquet]",
)  # fmt: skip
@bootstrap_option
def export_command(
    tables: tuple[str, ...],
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    clusters: tuple[str, ...],
    services: tuple[ServicePath, ...],
    since: str | None,
    until: str | None,
    form: str,
    output: Path | None,
    bootstrap_servers: str,
) -> None:
    """Write the changes of a time range for other systems.

    Each row that the tables had in that time, as `facets history` lists them, with its cause and whole. TABLES are
    frontend (fe), backend (be), routing (rt) and clusterset (cs); without one all of them (of some clusters: without
    the clusterset). The changes of one Service are in order; partitions are one after the other. An event's
    `dataschema` names the JSON Schema of its data (`facets schemas`); a Parquet file has its columns' meanings in its
    schema, and needs the extra `parquet`. Exit code 1 if there is no change, 3 if the journal does not cover the time.

    \b
    facets export --since 1h | jq -r .subject
    facets export backend --since 2026-11-24T12:00:00Z --until 2026-11-24T13:00:00Z --format parquet -o hour.parquet
    """
    from streams.cli.looking_back import folding  # noqa: PLC0415
    from streams.cli.output import remark  # noqa: PLC0415
    from streams.history.coverage import check_covered, check_since  # noqa: PLC0415
    from streams.history.export import ExportedRows  # noqa: PLC0415
    from streams.history.queries import Until  # noqa: PLC0415
    from streams.subscription.rows import Filter  # noqa: PLC0415

    if form == "parquet" and output is None:
        raise click.UsageError("a Parquet file is not for standard output: give -o FILE")
    names, spaces, clusters = one_namespace(services, () if all_namespaces else namespaces, clusters)
    row_filter = Filter(frozenset(clusters), frozenset(spaces), frozenset(names))
    read_tables = readable_tables(tables, clusters)
    with _sink(form, output, bootstrap_servers) as write:
        # One process: rows are written as they are made, and nothing is kept of them.
        with folding(bootstrap_servers, processes=1) as replay:
            rows = ExportedRows(write, since or "")
            replay.collect(lambda: rows, Until(at=until or ""), row_filter, read_tables)
            remarks = check_covered(replay.coverage, Until(at=until), clusters) if until is not None else []
            begins = check_since(replay.coverage, since) if since is not None else ""
        if not rows.count:
            raise FacetsError("no change in that time", "ask for a longer one, or for other Services")
    remark([*remarks, *([begins] if begins else [])])
    click.echo(f"facets: {rows.count} changes", err=True)


@contextlib.contextmanager
def _sink(form: str, output: Path | None, bootstrap: str) -> "Iterator[Callable[[Row], None]]":
    """Writes rows to the output, which gets its name when it is complete."""
    if output is None:
        with _events(sys.stdout.buffer.write, bootstrap) as write:
            yield write
        return
    part = output.with_name(f"{output.name}.part")
    try:
        with _file(form, part, bootstrap) as write:
            yield write
        part.replace(output)
    except OSError as error:
        raise FacetsError(
            f"{output} can't be written: {error.strerror or error}", "free space or give another file: -o",
            ExitCode.IO_ERROR,
        ) from error  # fmt: skip
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def _file(form: str, part: Path, bootstrap: str) -> "Iterator[Callable[[Row], None]]":
    from streams.history.parquet_file import ParquetFile  # noqa: PLC0415

    with part.open("wb") as file:
        if form == "parquet":
            with ParquetFile(file) as rows:
                yield rows.write
        else:
            with _events(file.write, bootstrap) as write:
                yield write


@contextlib.contextmanager
def _events(put: Callable[[bytes], object], bootstrap: str) -> "Iterator[Callable[[Row], None]]":
    from streams.history.export import cloud_event  # noqa: PLC0415
    from streams.kafka.admin import cluster_id  # noqa: PLC0415

    cluster = cluster_id(bootstrap)

    def write(row: "Row") -> None:
        put(orjson.dumps(cloud_event(row, cluster)) + b"\n")

    yield write
