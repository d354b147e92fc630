"""One measured figure, the goal it is held to, and how a list of them is written down: JSON, table, Markdown."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson
from rich.table import Table


class Goal(NamedTuple):
    """A bound on the figure itself, or on its ratio to the peer's."""

    value: float
    direction: Literal["at most", "at least"]
    of: Literal["ours", "ratio"] = "ours"

    def holds(self, value: float) -> bool:
        """Whether a value is within the bound."""
        return value <= self.value if self.direction == "at most" else value >= self.value

    def __str__(self) -> str:
        sign = "<=" if self.direction == "at most" else ">="
        return f"{sign} {number(self.value)}{' x' if self.of == 'ratio' else ''}"


def at_most(value: float) -> Goal:
    """The figure must not be above the value."""
    return Goal(value, "at most")


def at_least(value: float) -> Goal:
    """The figure must not be below the value."""
    return Goal(value, "at least")


def at_most_times(ratio: float) -> Goal:
    """The figure must be at most so many times the peer's."""
    return Goal(ratio, "at most", "ratio")


def at_least_times(ratio: float) -> Goal:
    """The figure must be at least so many times the peer's."""
    return Goal(ratio, "at least", "ratio")


class Figure(NamedTuple):
    """`ours` in `unit`, next to the `peer`'s in the same unit from the same run. `note` says what a reader must know
    to judge it: what shared the cores, how much was measured."""

    name: str
    ours: float
    unit: str
    peer: float | None = None
    peer_name: str = ""
    goal: Goal | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours by the peer's; None without a peer, or where the peer's is nothing."""
        return self.ours / self.peer if self.peer else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none, or where it is a ratio without a peer."""
        if self.goal is None:
            return None
        value = self.ours if self.goal.of == "ours" else self.ratio
        return None if value is None else self.goal.holds(value)


def number(value: float | None) -> str:
    """Three significant digits, no exponent."""
    if value is None:
        return ""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.3g}"


def _json(figure: Figure) -> dict[str, Any]:
    goal = figure.goal
    return {
        "name": figure.name,
        "ours": figure.ours,
        "unit": figure.unit,
        "peer": figure.peer,
        "peer_name": figure.peer_name or None,
        "ratio": figure.ratio,
        "goal": goal.value if goal else None,
        "goal_direction": goal.direction if goal else None,
        "goal_of": goal.of if goal else None,
        "met": figure.met,
        "note": figure.note,
    }


def write(path: Path, figures: Iterable[Figure]) -> None:
    """The figures as JSON, in one step, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(orjson.dumps([_json(figure) for figure in figures], option=orjson.OPT_INDENT_2) + b"\n")
    part.replace(path)


def read(path: Path) -> list[Figure]:
    """What `write` wrote."""
    return [
        Figure(
            each["name"],
            each["ours"],
            each["unit"],
            each["peer"],
            each["peer_name"] or "",
            None if each["goal"] is None else Goal(each["goal"], each["goal_direction"], each["goal_of"]),
            each["note"],
        )
        for each in orjson.loads(path.read_bytes())
    ]


_HEAD = ("Figure", "Service Facets", "Peer", "Ratio", "Goal", "Met")


def _cells(figure: Figure) -> tuple[str, ...]:
    peer = f"{number(figure.peer)} {figure.unit} ({figure.peer_name})" if figure.peer is not None else ""
    met = {True: "yes", False: "no", None: ""}[figure.met]
    ratio = f"{number(figure.ratio)} x" if figure.ratio is not None else ""
    return (figure.name, f"{number(figure.ours)} {figure.unit}", peer, ratio, str(figure.goal or ""), met)


def table(figures: Sequence[Figure]) -> Table:
    """For a terminal."""
    out = Table(*_HEAD, title="Measured", title_justify="left")
    for column in out.columns[1:]:
        column.justify = "right"
    for figure in figures:
        *cells, met = _cells(figure)
        out.add_row(*cells, {"yes": "[green]yes[/]", "no": "[red]no[/]"}.get(met, met))
    return out


def markdown(figures: Sequence[Figure], machine: str) -> str:
    """For the README: the table, its notes, and the machine."""
    notes: list[str] = []
    lines = [f"| {' | '.join(_HEAD)} |", "|---|--:|--:|--:|--:|---|"]
    for figure in figures:
        name, *rest = _cells(figure)
        if figure.note:
            if figure.note not in notes:
                notes.append(figure.note)
            name += f" [{notes.index(figure.note) + 1}]"
        lines.append(f"| {' | '.join((name, *rest))} |")
    lines += ["", machine, *(["", *(f"{i}. {note}" for i, note in enumerate(notes, 1))] if notes else [])]
    return "\n".join(lines)
