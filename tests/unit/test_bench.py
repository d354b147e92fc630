"""The frame of the benchmarks: goals, what is written down, and that one that fails loses nothing of the others."""

import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import orjson
import pytest
from click.testing import CliRunner

from tests.bench import __main__ as command
from tests.bench.bench import Bench, Benchmark
from tests.bench.figures import Figure, at_least_times, at_most, at_most_times, markdown, read, write
from tests.bench.latency import Change, delays
from tests.bench.peers import istiod


@pytest.mark.parametrize(
    ("figure", "ratio", "met"),
    [
        (Figure("a", 4.0, "s"), None, None),
        (Figure("a", 4.0, "s", goal=at_most(5)), None, True),
        (Figure("a", 6.0, "s", goal=at_most(5)), None, False),
        (Figure("a", 20.0, "ms", 10.0, "raw watch", at_most_times(2)), 2.0, True),
        (Figure("a", 21.0, "ms", 10.0, "raw watch", at_most_times(2)), 2.1, False),
        (Figure("a", 30.0, "1/s", 10.0, "another", at_least_times(2)), 3.0, True),
        (Figure("a", 30.0, "1/s", None, "not there", at_least_times(2)), None, None),
    ],
)
def test_a_goal_is_held_to_the_figure_or_to_its_ratio(figure: Figure, ratio: float | None, met: bool | None) -> None:
    assert (figure.ratio, figure.met) == (ratio, met)


def test_what_is_written_is_read_back_and_printed_with_its_notes(tmp_path: Path) -> None:
    figures = [
        Figure("a", 1.5, "s", 1.0, "peer", at_most_times(2), "shared"),
        Figure("b", 2.0, "s", note="shared"),
        Figure("c", 3.0, "s", note="other"),
    ]
    write(tmp_path / "bench.json", figures)
    assert read(tmp_path / "bench.json") == figures
    first = orjson.loads((tmp_path / "bench.json").read_bytes())[0]
    assert {"name", "ours", "unit", "peer", "peer_name", "ratio", "goal", "met"} <= set(first)
    text = markdown(figures, "Machine: one.")
    assert "| a [1] | 1.50 s | 1 s (peer) | 1.50 x | <= 2 x | yes |" in text
    assert "| b [1] | 2 s |" in text
    assert "| c [2] | 3 s |" in text
    assert text.endswith("Machine: one.\n\n1. shared\n2. other")


def test_one_that_fails_is_named_and_the_others_figures_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def good(bench: Bench) -> Iterator[Figure]:
        yield Figure(f"{bench.name} quick={bench.quick}", 1.0, "s")

    def bad(bench: Bench) -> Iterator[Figure]:
        yield Figure("before the failure", 2.0, "s")
        raise RuntimeError("the broker is gone")

    def interrupted(bench: Bench) -> Iterator[Figure]:
        yield Figure("before Ctrl-C", 3.0, "s")
        raise KeyboardInterrupt

    for name, run in (("good", good), ("bad", bad), ("interrupted", interrupted)):
        module = ModuleType(f"tests.bench.{name}")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    runner = CliRunner()
    arguments = ["--quick", "--out", str(tmp_path)]

    monkeypatch.setattr(command, "BENCHMARKS", [Benchmark("bad", "bad", ""), Benchmark("good", "good", "")])
    result = runner.invoke(command.main, arguments)
    assert result.exit_code == 1
    assert "Failed: bad" in result.output
    assert [each.name for each in read(tmp_path / "bench.json")] == ["before the failure", "good quick=True"]

    named = [Benchmark("interrupted", "interrupted", ""), Benchmark("good", "good", "")]
    monkeypatch.setattr(command, "BENCHMARKS", named)
    result = runner.invoke(command.main, arguments)
    assert result.exit_code == 130
    assert [each.name for each in read(tmp_path / "bench.json")] == ["before Ctrl-C"]


def test_a_part_does_not_say_what_an_earlier_one_of_its_name_said(tmp_path: Path) -> None:
    with Bench("parts", tmp_path, tmp_path, quick=True, say=lambda _: None) as bench:
        bench.program("clients", "sh", "-c", "echo ready; exec sleep 60").says("ready")
        with pytest.raises(RuntimeError, match="ended with 3"):
            bench.program("clients", "sh", "-c", "exit 3").says("ready")


def test_a_state_that_was_left_out_is_late_until_a_newer_one_came() -> None:
    sent = [Change(state, "", at) for state, at in (("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0))]
    assert delays(sent, {"c": 3.5, "a": 1.25}) == [250, 1500, 500, math.inf]
    # What a server sends late can't be late for those before it if a newer one was there.
    assert delays(sent[:2], {"a": 9.0, "b": 2.5}) == [1500, 500]


def test_without_go_istiod_is_not_built_and_it_says_what_is_missing(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    environment = {"PATH": str(tmp_path), "FACETS_CACHE_DIR": str(tmp_path / "cache")}
    built = subprocess.run([bash, istiod.BUILD], env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 1
    assert "there is no Go" in built.stderr
    assert "ISTIOD=" in built.stderr
