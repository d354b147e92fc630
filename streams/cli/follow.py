"""`facets follow`: a snapshot, then each sealed change as it comes."""

import os
import sys
from pathlib import Path
from typing import Any

import click
import orjson

from streams.cli.options import bootstrap_option
from streams.cli.output import TableName, filter_options, run


@click.command("follow")
@click.argument("tables", nargs=-1, type=TableName())
@filter_options
@click.option("--service", "services", multiple=True, help="Only this Service; repeatable.")
@click.option("--cursor", help="Go on after the item that this cursor came with.")
@click.option(
    "--cursor-file", type=click.Path(dir_okay=False, path_type=Path),
    help="Read the cursor from this file, and write it there after each item.",
)  # fmt: skip
@click.option("--progress", is_flag=True, help="Also print seals without rows: nothing happened, up to their frontier.")
@click.option("--max", "limit", type=click.IntRange(min=1), help="End after this many items.")
@bootstrap_option
def follow_command(
    tables: tuple[str, ...],
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    clusters: tuple[str, ...],
    services: tuple[str, ...],
    cursor: str | None,
    cursor_file: Path | None,
    progress: bool,
    limit: int | None,
    bootstrap_servers: str,
) -> None:
    """Follow TABLES (default backend): first a snapshot, then one sealed batch at a time, one JSON a line.

    Each line has the rows of one journal offset, complete, and a cursor to go on from. Without -n all namespaces.

    \b
    facets follow backend -n shop | jq -c '.rows[].change'
    facets follow --cursor-file router.cursor        # stop and start it: nothing is missed
    """
    from streams.edges.subscriber import Subscriber  # noqa: PLC0415

    if cursor is None and cursor_file is not None and cursor_file.exists():
        cursor = cursor_file.read_text().strip() or None

    async def follow() -> None:
        async with Subscriber(
            bootstrap_servers,
            tables=tables or ("backend",),
            clusters=clusters,
            namespaces=() if all_namespaces else namespaces,
            services=services,
            cursor=cursor,
            progress=progress,
        ) as subscriber:
            count = 0
            async for item in subscriber:
                sys.stdout.buffer.write(orjson.dumps(_shown(item)) + b"\n")
                sys.stdout.buffer.flush()
                if cursor_file is not None:
                    _replace(cursor_file, item.cursor)
                count += 1
                if count == limit:
                    return

    run(follow())


def _shown(item: Any) -> dict[str, Any]:
    rows = [{"table": row.table, **row.decode()} for row in item.rows]
    if hasattr(item, "reason"):
        return {"type": "snapshot", "reason": item.reason, "rows": rows, "cursor": item.cursor}
    seal = item.seal
    return {
        "type": "batch" if rows else "progress",
        "partition": item.partition,
        "offset": seal.offset,
        "cluster": seal.cluster,
        "epoch": seal.epoch,
        "seq": seal.seq,
        "at": seal.at,
        "frontier": seal.frontier,
        "rows": rows,
        "cursor": item.cursor,
    }


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text + "\n")
    os.replace(part, path)
