"""Plots of what was measured, as SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt


def distribution(path: Path, series: Mapping[str, Sequence[float]], title: str, unit: str) -> None:
    """The share of values up to each one, for each series."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for name, values in series.items():
        ordered = sorted(values)
        axes.step(ordered, [100 * (i + 1) / len(ordered) for i in range(len(ordered))], where="post", label=name)
    axes.set(title=title, xlabel=unit, ylabel="% of changes", xscale="log", ylim=(0, 101))
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    _save(figure, path)


def stages(path: Path, values: Mapping[str, float], title: str, unit: str) -> None:
    """Parts of one whole, one after the other."""
    figure, axes = plt.subplots(figsize=(8, 1.8))
    left = 0.0
    for name, value in values.items():
        axes.barh([0], [value], left=left, label=f"{name}: {value:.1f}")
        left += value
    axes.set(title=title, xlabel=unit, yticks=[])
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncols=2, frameon=False)
    _save(figure, path)


def lines(path: Path, series: Mapping[str, Sequence[tuple[float, float]]], title: str, x: str, y: str) -> None:
    """Figures as something grows."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for name, points in series.items():
        axes.plot([each[0] for each in points], [each[1] for each in points], marker="o", label=name)
    axes.set(title=title, xlabel=x, ylabel=y, xscale="log", ylim=(0, None))
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    _save(figure, path)


def _save(figure: object, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")  # type: ignore[attr-defined]
    plt.close(figure)  # type: ignore[arg-type]
