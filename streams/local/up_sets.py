"""What `facets up` prints of the Services that clusters export to each other: what became of a cluster that is not
heard of, and a summary at the end."""

from collections.abc import Callable, Iterable
from typing import Any

from rich.table import Table as Grid

from streams.local.up_tally import ChangeLines
from streams.subscription.rows import Row
from streams.wire.records import CLUSTERSET

_Json = dict[str, Any]
_MOST_SHOWN = 4


class SetTally:
    """Notes the sets' newest rows, and each decision about a cluster that is not heard of."""

    def __init__(self, lines: ChangeLines) -> None:
        self._lines = lines
        self._sets: dict[str, _Json] = {}
        self._spans: dict[str, list[str]] = {}

    def take(self, rows: Iterable[Row], *, live: bool) -> None:
        """Take rows of all tables; the decisions in those of a snapshot are older than this run."""
        for row in rows:
            if row.table == CLUSTERSET and not row.cluster:
                name, new = f"{row.namespace}/{row.name}", row.decode()
                before = _by_cluster(self._sets.get(name))
                self._sets[name] = new
                if live:
                    for cluster, export in _by_cluster(new).items():
                        self._note(name, new["asOf"]["at"], before.get(cluster), export)
        self._lines.tick()

    def summary(self) -> Grid | None:
        """A row for each set; None if nothing was exported."""
        grid = Grid("CLUSTERSET", "EXPORTED BY", "NOT HEARD OF", box=None, pad_edge=False)
        for name, row in sorted(self._sets.items()):
            if row["exports"]:
                spans = self._spans.get(name, [])
                shown = ["..."] * (len(spans) > _MOST_SHOWN) + spans[-_MOST_SHOWN:]
                grid.add_row(name, _exporters(row["exports"]), ", ".join(shown) or "-")
        return grid if grid.row_count else None

    def _note(self, name: str, at: str, before: _Json | None, export: _Json) -> None:
        earlier = before.get("unavailable") if before else None
        decision = export.get("unavailable")
        if decision == earlier:
            return
        cluster = export["cluster"]
        when = _time(decision["decided"] if decision else at)
        spans = self._spans.setdefault(name, [])
        began = f"{cluster} {earlier['action']} {_time(earlier['decided'])}-" if earlier else ""
        if began in spans:
            spans[spans.index(began)] += when
        if decision:
            spans.append(f"{cluster} {decision['action']} {when}-")
        self._lines.add(cluster, _line(f"{when}  {name}  clusterset", cluster, decision))


def _by_cluster(row: _Json | None) -> dict[str, _Json]:
    return {export["cluster"]: export for export in row["exports"]} if row else {}


def _exporters(exports: list[_Json]) -> str:
    """The clusters, grouped by why their exports are not valid."""
    clusters: dict[str, list[str]] = {}
    for export in exports:
        clusters.setdefault(export["valid"], []).append(export["cluster"])
    return "; ".join(
        ", ".join(names) + (f" ({valid})" if valid != "Valid" else "") for valid, names in sorted(clusters.items())
    )


def _line(head: str, cluster: str, decision: _Json | None) -> Callable[[], str]:
    if decision is None:
        return lambda: f"{head}: {cluster} is heard of again and complete: its endpoints are back"
    remain = f"{decision['remaining']} of {decision['endpoints']} endpoints"
    outcome = (
        f"its endpoints are dropped, {remain} remain"
        if decision["action"] == "dropped"
        else f"its endpoints are kept, as no more than {remain} would remain"
    )
    return lambda: f"{head}: {cluster} is not heard of since {_time(decision['since'])}: {outcome}"


def _time(at: str) -> str:
    return at[11:19]
