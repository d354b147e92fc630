"""What `facets up` prints of the changes it sees, and its summary at the end."""

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from rich.table import Table as Grid

from streams.subscription.rows import Row

_MOST_AT_ONCE = 12
_MINUTE = 60.0


class ChangeLines:
    """Prints changes while they are few enough to be read: a burst, and then one more a minute. The others are counted,
    in one line a minute. `clock` is in seconds."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._remaining = _MOST_AT_ONCE
        self._minute = clock()
        self._omitted: Counter[str] = Counter()

    def add(self, cluster: str, line: Callable[[], str]) -> None:
        """Print a change with `line`, or count it."""
        self.tick()
        if self._remaining:
            self._remaining -= 1
            self._write(line())
        else:
            self._omitted[cluster] += 1

    def tick(self) -> None:
        """Print the line of a minute that is over."""
        passed = int((self._clock() - self._minute) // _MINUTE)
        if not passed:
            return
        self._minute += passed * _MINUTE
        self._remaining = min(_MOST_AT_ONCE, self._remaining + passed)
        if self._omitted:
            counts = ", ".join(f"{count} of {cluster}" for cluster, count in sorted(self._omitted.items()))
            self._write(f"... and more changes: {counts} (`facets follow` shows each)")
            self._omitted.clear()


class Tally:
    """Counts what a subscriber of all tables has received, for the summary."""

    def __init__(self, lines: ChangeLines) -> None:
        self._lines = lines
        self.services: dict[str, set[str]] = {}
        self.endpoints: dict[str, dict[str, int]] = {}
        self.changes: dict[str, int] = {}
        self.first = asyncio.Event()

    def take(self, rows: Iterator[Row] | tuple[Row, ...], *, live: bool) -> None:
        """Count these rows; those of a snapshot are no changes."""
        for row in rows:
            key = f"{row.namespace}/{row.name}"
            shown = row.decode()
            is_deleted = shown["state"] == "deleted"
            if row.table == "frontend":
                services = self.services.setdefault(row.cluster, set())
                services.discard(key) if is_deleted else services.add(key)
            elif row.table == "backend":
                sizes = self.endpoints.setdefault(row.cluster, {})
                sizes[key] = len(shown["endpoints"])
            if live:
                self.changes[row.cluster] = self.changes.get(row.cluster, 0) + 1
                self._lines.add(row.cluster, functools.partial(_line, row.table, shown))
        self._lines.tick()

    def sealed(self) -> None:
        """A whole cluster has been sealed in this run (not in an earlier one)."""
        if any(self.services.values()):
            self.first.set()

    @property
    def materialized(self) -> bool:
        """Whether a cluster has been materialized in this run."""
        return self.first.is_set()

    def summary(self) -> Grid:
        """A row for each cluster."""
        grid = Grid("CLUSTER", "SERVICES", "ENDPOINTS", "CHANGES", box=None, pad_edge=False)
        for cluster in sorted(self.services):
            grid.add_row(
                cluster,
                str(len(self.services[cluster])),
                str(sum(self.endpoints.get(cluster, {}).values())),
                str(self.changes.get(cluster, 0)),
            )
        return grid


def _line(table: str, row: dict[str, Any]) -> str:
    """A change as one line of text."""
    name = f"{row['asOf']['at'][11:19]}  {row['cluster']}  {row['namespace']}/{row['name']}"
    if table == "frontend":
        return (
            f"{name}  frontend {row['state']}: {','.join(row['clusterIPs']) or row['externalName'] or 'no cluster IP'}"
        )
    if table == "routing":
        decisions = ", ".join(f"{way} {row[way]['decision']} ({row[way]['reason']})" for way in ("gateway", "mesh"))
        return f"{name}  routing {row['state']}: {decisions}"
    change, endpoints = row["change"], row["endpoints"]
    ready = sum(1 for endpoint in endpoints if endpoint["ready"])
    counts = f"+{len(change['added'])} -{len(change['removed'])} ~{len(change['updated'])}"
    return f"{name}  backend {row['state']}: {counts}, {ready}/{len(endpoints)} ready"
