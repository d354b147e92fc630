"""`facets follow`: prints a snapshot, then each sealed change."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streams.cli.cursor_file import CursorFile
from streams.cli.names import ServiceName, ServicePath, TableName, filter_options, one_namespace, readable_tables
from streams.cli.options import Duration, bootstrap_option, silence_option
from streams.cli.output import row_line, run
from streams.cli.standard_streams import until_reader_leaves

if TYPE_CHECKING:
    from streams.subscription.client import Batch, ClusterStatus, Snapshot

_CURSOR_SECONDS = 1.0


@click.command("follow")
@click.argument("tables", nargs=-1, type=TableName())
@filter_options
@click.option("--service", "services", type=ServiceName(), multiple=True, help="Only this Service; repeatable.")
@click.option("--allow-unknown", is_flag=True, help="Follow clusters, namespaces and Services that don't exist yet.")
@click.option("--cursor", help="Resume after the item that this cursor came with.")
@click.option(
    "--cursor-file", type=click.Path(dir_okay=False, path_type=Path),
    help="Read the cursor from this file, and write it there after each item.",
)  # fmt: skip
@click.option("--progress", is_flag=True, help="Also print seals without rows: nothing changed up to their frontier.")
@click.option("--changes", is_flag=True, help="Without all endpoints: only what a backend row changed.")
@click.option("-o", "--output", type=click.Choice(["json", "text"]), default="json", show_default=True)
@click.option("--max", "limit", type=click.IntRange(min=1), help="Stop after this many items.")
@click.option("--for", "seconds", type=Duration(), help="Stop after this time, such as 30s.")
@silence_option
@bootstrap_option
def follow_command(
    tables: tuple[str, ...],
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    clusters: tuple[str, ...],
    services: tuple[ServicePath, ...],
    allow_unknown: bool,
    cursor: str | None,
    cursor_file: Path | None,
    progress: bool,
    changes: bool,
    output: str,
    limit: int | None,
    seconds: float | None,
    silent_after: float,
    bootstrap_servers: str,
) -> None:
    """Follow TABLES: a snapshot, then each sealed change.

    TABLES are frontend (fe), backend (be), routing (rt) and clusterset (cs); without one it is the backend. Each line
    has the rows of one journal offset, complete, and a cursor to go on from. Apply a line at once, or not at all. A
    line of type `snapshot` replaces everything; its reason is `start`, or why the changes can't be had one by
    one: `gap`, `expired` or `lost`. One of type `cluster` says that a cluster has fallen silent (`stale` says
    why: its rows are what was last known) or is heard of again (`stale` is empty). Without -n all namespaces.
    Unknown names are an error, unless --allow-unknown is given. With --changes, a backend row of a change has no
    `endpoints`: apply its `change` to the row of version `previous`. A row of the clusterset is always whole: the
    Service of all clusters that export it, with their endpoints.

    \b
    facets follow backend -n shop --changes | jq -c '.rows[].change'
    facets follow frontend backend routing -o text
    facets follow clusterset -n shop
    facets follow --cursor-file router.cursor        # stop and start it: nothing is missed, nothing comes twice
    """
    from streams.subscription.client import Batch, Snapshot, Subscriber  # noqa: PLC0415
    from streams.subscription.known_names import check_names  # noqa: PLC0415
    from streams.subscription.set_client import join_sets  # noqa: PLC0415

    names, spaces, clusters = one_namespace(services, () if all_namespaces else namespaces, clusters)
    followed = readable_tables(tables or ("backend",), clusters)
    cursor_store = CursorFile(cursor_file) if cursor_file is not None else None
    if cursor is None and cursor_store is not None:
        cursor = cursor_store.read()

    async def follow() -> None:
        loop = asyncio.get_running_loop()
        saved = loop.time()
        count = 0
        async with Subscriber(
            bootstrap_servers,
            tables=followed,
            clusters=clusters,
            namespaces=spaces,
            services=names,
            cursor=cursor,
            # A cursor that is not advanced while nothing changes would become too old to resume from.
            progress=progress or cursor_store is not None,
            silent_after=silent_after,
        ) as subscriber:
            async for item in join_sets(subscriber, bootstrap_servers, cursor):
                if isinstance(item, Snapshot) and item.reason == "start" and not allow_unknown:
                    await check_names(
                        bootstrap_servers, item.rows, clusters=clusters, namespaces=spaces, services=names
                    )
                quiet = isinstance(item, Batch) and not item.rows
                if not quiet or progress:
                    for line in _json(item, changes) if output == "json" else _text(item):
                        sys.stdout.buffer.write(line + b"\n")
                    sys.stdout.buffer.flush()
                    count += 1
                if cursor_store is not None and (not quiet or loop.time() - saved > _CURSOR_SECONDS):
                    cursor_store.write(item.cursor)
                    saved = loop.time()
                if count == limit:
                    return

    async def until() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await until_reader_leaves(follow())

    run(until())


def _json(item: "Snapshot | Batch | ClusterStatus", changes: bool) -> Iterator[bytes]:
    import msgspec  # noqa: PLC0415

    from streams.serve.http.encoding import RowForm, batch_head, print_in_batch, print_row, with_rows  # noqa: PLC0415
    from streams.subscription.client import Batch, ClusterStatus, Snapshot  # noqa: PLC0415

    if isinstance(item, Snapshot):
        head: dict[str, Any] = {"type": "snapshot", "reason": item.reason}
    elif isinstance(item, ClusterStatus):
        head = {"type": "cluster", "cluster": item.cluster, "stale": item.stale, "since": item.since}
        head["partitions"] = item.partitions
    else:
        head = msgspec.to_builtins(batch_head(item.partition, item.seal, quiet=not item.rows))
    form: RowForm = "changes" if changes and isinstance(item, Batch) else "whole"
    yield with_rows({**head, "cursor": item.cursor}, (print_in_batch(print_row(row), form) for row in item.rows))


def _text(item: "Snapshot | Batch | ClusterStatus") -> Iterator[bytes]:
    from streams.subscription.client import ClusterStatus, Snapshot  # noqa: PLC0415

    if isinstance(item, Snapshot):
        yield f"--- snapshot ({item.reason}): {len(item.rows)} rows".encode()
    elif isinstance(item, ClusterStatus):
        yield f"--- cluster {item.cluster}: {f'stale: {item.stale}' if item.stale else 'heard of again'}".encode()
    elif not item.rows:
        yield f"{item.seal.at}  {item.seal.cluster}  sealed {item.partition}/{item.seal.offset}".encode()
    for row in item.rows:
        yield row_line(row.table, row.decode()).encode()
