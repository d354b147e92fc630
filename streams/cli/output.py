"""What the reading commands share: running them, and printing rows for people and programs."""

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import orjson
import yaml

from streams.cli.columns import fit, grid, layout
from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.subscription.names import suggestion
from streams.wire.keys import row_key
from streams.wire.records import CLUSTERSET

_T = TypeVar("_T")

STYLES = ("table", "wide", "name", "json", "yaml")
no_headers_option = click.option("--no-headers", is_flag=True, help="Leave the headings of tables out.")


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; Ctrl-C ends it at once and cleanly."""
    return asyncio.run(main)


def run_within(seconds: float, main: Coroutine[Any, Any, _T], remedy: str = "") -> _T:
    """Run to the end, for at most so many seconds. Raises FacetsError on timeout."""
    return asyncio.run(within(seconds, main, remedy))


async def within(seconds: float, step: Awaitable[_T], remedy: str = "") -> _T:
    """A step's result. Raises FacetsError if it takes longer than so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await step
    except TimeoutError:
        raise FacetsError(
            f"timed out after {seconds:g} s", remedy or "try a longer --timeout, or facets doctor", ExitCode.GAVE_UP
        ) from None


def remark(texts: Iterable[str]) -> None:
    """Print the limits of an answer on stderr."""
    for text in texts:
        click.echo(f"facets: {text}", err=True)


class RowPrinter:
    """Prints a table's rows in one style: at once, or (`streaming`) as they arrive, in columns that never get
    narrower."""

    def __init__(
        self, table: str, style: str, *, headers: bool = True, namespaced: bool = True, streaming: bool = False
    ) -> None:
        self._table = table
        self._style = style
        self._headers = headers
        self._streaming = streaming
        self._layout = layout(table, wide=style == "wide", namespaced=namespaced)
        self._widths: list[int] = []

    def print(self, rows: Sequence[dict[str, Any]]) -> None:
        """Print decoded rows; in JSON and YAML as `{"items": [...]}`, or one by one when streaming."""
        if self._style == "name":
            for row in rows:
                click.echo(f"{row.get('table', self._table)}/{row_key(row['cluster'], row['namespace'], row['name'])}")
        elif self._style == "json":
            whole = [orjson.dumps({"items": list(rows)}, option=orjson.OPT_INDENT_2)]
            for line in map(orjson.dumps, rows) if self._streaming else whole:
                sys.stdout.buffer.write(line + b"\n")
            sys.stdout.buffer.flush()
        elif self._style == "yaml":
            documents = rows if self._streaming else [{"items": list(rows)}]
            text = yaml.safe_dump_all(documents, sort_keys=False, explicit_start=self._streaming)
            click.echo(text, nl=False)
        else:
            self._print_table(rows)

    def _print_table(self, rows: Sequence[dict[str, Any]]) -> None:
        now = datetime.now(UTC)
        lines = [self._layout.line(row, now) for row in rows]
        cells = [self._layout.head, *(line.cells for line in lines)]
        self._widths = [
            max([*self._widths[i : i + 1], *(len(line[i]) for line in cells)]) for i in range(len(cells[0]))
        ]
        room = sys.maxsize
        if self._style == "table":
            room = shutil.get_terminal_size((80, 24)).columns - sum(self._widths) - 2 * len(self._widths)
        lists = [self._layout.last, *(fit(line.items, room) for line in lines)]
        text = grid([[*line, last] for line, last in zip(cells, lists, strict=True)], self._widths)
        for line in text if self._headers else text[1:]:
            click.echo(line)
        if self._streaming:
            self._headers = False


def print_grid(lines: Sequence[Sequence[str]], *, headers: bool = True) -> None:
    """Print lines of cells in columns; the first line has the headings."""
    text = grid(lines)
    for line in text if headers else text[1:]:
        click.echo(line)


def sort_rows(rows: Sequence[dict[str, Any]], field: str) -> list[dict[str, Any]]:
    """Sort rows by a field such as version, asOf.at or .name; a list counts by its length, and rows without a value
    come first. Raises click.BadParameter for a field that no row has."""
    names = [name for name in field.strip("{}").split(".") if name]

    def value(row: Any) -> Any:
        for name in names:
            row = row.get(name) if isinstance(row, dict) else None
        return len(row) if isinstance(row, list | dict) else row

    keys = [value(row) for row in rows]
    if not names or (rows and all(key is None for key in keys)):
        fields = sorted({name for row in rows for name in row})
        raise click.BadParameter(f"no row has a field {field!r}; {suggestion(field, fields)}", param_hint="--sort-by")
    texts = not all(isinstance(key, int | float) for key in keys if key is not None)
    order = [(key is not None, str(key) if texts else key or 0) for key in keys]
    return [rows[i] for i in sorted(range(len(rows)), key=order.__getitem__)]


def row_line(table: str, row: dict[str, Any]) -> str:
    """A row as one line of a human-readable log."""
    cluster = row["cluster"] or row["origin"]
    head = f"{row['asOf']['at']}  {cluster}  {row['namespace']}/{row['name']}  v{row['version']}  {table}"
    if table == "frontend":
        address = ",".join(row["clusterIPs"]) or ("None" if row["headless"] else row["externalName"] or "")
        return f"{head} {row['state']}  {address}"
    if table == "routing":
        ways = "  ".join(f"{way} {row[way]['decision']} ({row[way]['reason']})" for way in ("gateway", "mesh"))
        return f"{head} {row['state']}  {ways}"
    ready = sum(1 for endpoint in row["endpoints"] if endpoint["ready"])
    if table == CLUSTERSET:
        counted = [export["id"] for export in row["exports"] if export["counted"]]
        conflicts = ",".join(conflict["reason"] for conflict in row["conflicts"])
        return (
            f"{head} {row['state']}  {row['type'] or '<none>'}  of {','.join(counted) or '<none>'}"
            f"  {ready}/{len(row['endpoints'])} ready{f'  {conflicts}' if conflicts else ''}"
        )
    change = {name: len(row["change"][name]) for name in ("added", "removed", "updated")}
    return (
        f"{head} {row['state']}  +{change['added']} -{change['removed']} ~{change['updated']}"
        f"  {ready}/{len(row['endpoints'])} ready"
    )
