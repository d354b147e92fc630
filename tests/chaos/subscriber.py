"""One subscriber as a process: writes down whatever it is given, and survives being killed at any point.

    python -m tests.chaos.subscriber [--fold-journal] BOOTSTRAP FOLDER NAME TABLE[,TABLE] [NAMESPACE[,NAMESPACE]]

`NAME.jsonl` is what it was given, one JSON a line. `NAME.cursor` names the cursor and how long the log was when it
was saved: a line that was written without its cursor is cut off at the next start, for it will come again. That is
what every user must do who wants effects once: cursor and effect in one step.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import orjson

from streams.errors import FacetsError
from streams.subscription.client import Batch, ClusterStatus, Snapshot, Subscriber


def line_of(item: Snapshot | Batch) -> dict[str, Any]:
    """An item as it is written down; rows with their very bytes, so that they can be compared."""
    rows = [
        {"table": row.table, "key": f"{row.cluster}/{row.namespace}/{row.name}", "version": row.version,
         "value": row.value.decode()}
        for row in item.rows
    ]  # fmt: skip
    if isinstance(item, Snapshot):
        return {
            "type": "snapshot",
            "reason": item.reason,
            "seals": [[seal.cluster, seal.offset] for seal in item.seals],
            "cursor": item.cursor,
            "rows": rows,
        }
    return {"type": "batch", "partition": item.partition, "offset": item.seal.offset, "rows": rows}


async def follow(
    bootstrap: str, folder: Path, name: str, tables: list[str], namespaces: list[str], *, fold_journal: bool
) -> None:
    """Until it is ended. Who folds the journal, as `facets serve` does, begins with a snapshot."""
    saved = folder / f"{name}.cursor"
    state = orjson.loads(saved.read_bytes()) if saved.exists() else {"cursor": None, "length": 0}
    with (folder / f"{name}.jsonl").open("ab") as log:
        log.truncate(state["length"])

        def note(line: dict[str, Any], cursor: str | None) -> None:
            log.write(orjson.dumps(line) + b"\n")
            log.flush()
            part = saved.with_suffix(".part")
            part.write_bytes(orjson.dumps({"cursor": cursor, "length": log.tell()}))
            part.replace(saved)

        note({"type": "started", "pid": os.getpid(), "resumed": state["cursor"] is not None}, state["cursor"])
        async with Subscriber(
            bootstrap, tables=tables, namespaces=namespaces, cursor=state["cursor"], progress=True, silent_after=None,
            fold_journal=fold_journal,
        ) as subscriber:  # fmt: skip
            async for item in subscriber:
                assert not isinstance(item, ClusterStatus), "without `silent_after` there is none"
                note(line_of(item), None if fold_journal else item.cursor)


def main() -> int:
    """The exit code: 0 when told to end, that of a FacetsError else (whoever runs it starts it again)."""
    fold_journal = "--fold-journal" in sys.argv
    bootstrap, folder, name, tables, *rest = [each for each in sys.argv[1:] if each != "--fold-journal"]

    async def run() -> None:
        task = asyncio.ensure_future(
            follow(
                bootstrap, Path(folder), name, tables.split(","), rest[0].split(",") if rest else [],
                fold_journal=fold_journal,
            )
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, task.cancel)
        await task

    try:
        asyncio.run(run())
    except asyncio.CancelledError:
        return 0
    except FacetsError as error:
        print(f"{error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
