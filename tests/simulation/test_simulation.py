"""Thousands of seeded runs of models around the real core, each checked against the guarantees of the README."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.simulation import checkers, cuts, fast_paths, journal_reader, main
from tests.simulation.main import run_seeds
from tests.simulation.report import ProgressFile, Report
from tests.simulation.run import Outcome
from tests.simulation.seeds import REGRESSIONS, parse_seeds, seeds_of_tests, window

SEEDS = parse_seeds(os.environ["SIMULATE_SEEDS"])

DRAWN = (
    "410, listed again",
    "API server behind",
    "Gateway deleted",
    "Gateway set",
    "Namespace changed",
    "Service exported",
    "cluster's id changed",
    "export taken back",
    "Service deleted",
    "Service made again",
    "bad journal record",
    "bad object",
    "bad object of the Gateway API",
    journal_reader.AHEAD,
    "changelogs compacted",
    "cluster forgotten",
    "cluster unreachable",
    "commit duplicated",
    "crash between two writes",
    "endpoint claimed twice",
    "endpoints dropped",
    "endpoint moved, added first",
    "endpoint moved, removed first",
    "event duplicated",
    fast_paths.INITIAL,
    "grant set",
    "grant taken back",
    "history compacted (410)",
    "journal expired",
    "label moved",
    "list refused, its server is behind",
    "rebalance, old worker asleep",
    "rival watcher",
    "route deleted",
    *checkers.DIVIDED.values(),
    "route set",
    "route's backend moved",
    cuts.LINKED,
    "slice recycled",
    fast_paths.SINGLE,
    fast_paths.PATCH,
    "stale watcher wakes",
    "stale worker wakes",
    "subscriber resumes",
    "time passes",
    "traffic policy set",
    "watch cut",
    "watcher killed",
    "watcher paused, replaced",
    "worker killed",
)
"""What has to happen, and how often a thousand seeds have it at least: ten times."""


@pytest.mark.slow
def test_every_guarantee_holds_in_every_run() -> None:
    report = Report()
    for outcomes in run_seeds(SEEDS):
        report.add(outcomes)
    assert report.done == len(SEEDS)
    assert not report.failed, report.text()
    rare = {name: report.faults.get(name, 0) for name in DRAWN if report.faults.get(name, 0) < len(SEEDS) // 100}
    assert not rare, f"too seldom to say anything: {rare}"


def test_a_run_follows_from_its_seed_alone() -> None:
    once, again = ([each for chunk in run_seeds(range(20), processes=n) for each in chunk] for n in (1, 2))
    assert once == again
    # What the fixed seeds don't take, the checkers never see.
    for path in (fast_paths.INITIAL, fast_paths.SINGLE, fast_paths.PATCH, cuts.LINKED):
        assert sum(outcome.faults.get(path, 0) for outcome in once) > 3, path


def test_no_two_windows_have_a_seed_in_common() -> None:
    start = datetime(2026, 11, 27, 12, 0, 59, tzinfo=UTC)
    windows = [set(parse_seeds(window(start + timedelta(minutes=minutes)))) for minutes in range(3)]
    assert [len(seeds) for seeds in windows] == [100] * 3
    assert len(set.union(*windows)) == 3 * 100
    further = [seed for seed in REGRESSIONS if seed >= 400]
    assert len(set(parse_seeds(seeds_of_tests(start)))) == 400 + 100 + len(further)


@pytest.mark.parametrize("text", ["", "x", "5:5", "9:2", "1,", "1:2:3"])
def test_seeds_that_say_nothing_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError):
        parse_seeds(text)
    with pytest.raises(SystemExit) as exit_code:
        main.main(["--seeds", text])
    assert exit_code.value.code == 2
    assert "error" in capsys.readouterr().err


# ---- a run that is interrupted -----------------------------------------------------------------------


def fake(seed: int, steps: int) -> Outcome:
    return Outcome(seed, "torn" if seed == 40 else "", 1, 2, {"watch cut": 3})


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Runs that take no time, in this process."""
    monkeypatch.setattr(main, "simulate", fake)
    return ["--seeds", "0:100", "--processes", "1", "--progress", str(tmp_path)]


def interrupted_at(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def simulate(at: int, steps: int) -> Outcome:
        if at == seed:
            raise KeyboardInterrupt
        return fake(at, steps)

    monkeypatch.setattr(main, "simulate", simulate)


def test_an_interrupted_run_goes_on_where_it_was_and_ends_alike(
    shell: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(shell) == 1
    whole = capsys.readouterr().out
    interrupted_at(65, monkeypatch)
    assert main.main(shell) == 130
    told = capsys.readouterr()
    assert "stopped after 60 of 100 seeds" in told.err
    assert "go on with: .venv/bin/python -m tests.simulation --seeds 0:100" in told.err
    seen: list[int] = []
    monkeypatch.setattr(main, "simulate", lambda seed, steps: seen.append(seed) or fake(seed, steps))
    assert main.main(shell) == 1
    rest = capsys.readouterr()
    assert seen == list(range(60, 100))
    assert "going on after 60 of 100 seeds, violations 1" in rest.err
    # The violation was printed before the interruption, and is again at the end.
    assert rest.out == whole[whole.index("faults: ") :]
    assert "replay: .venv/bin/python -m tests.simulation --seeds 40" in rest.out
    # A run that is through is not gone on with.
    seen.clear()
    assert main.main(shell) == 1
    assert len(seen) == 100


def test_code_that_changed_meanwhile_is_told_and_a_restart_forgets_what_was_run(
    shell: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted_at(65, monkeypatch)
    main.main(shell)
    monkeypatch.setattr(main, "simulate", fake)
    monkeypatch.setattr(main, "code_state", lambda: "another")
    capsys.readouterr()
    main.main(shell)
    assert "40 with another" in capsys.readouterr().out
    interrupted_at(65, monkeypatch)
    main.main(shell)
    monkeypatch.setattr(main, "simulate", fake)
    main.main([*shell, "--restart"])
    assert "meanwhile" not in capsys.readouterr().out


def test_a_progress_file_that_is_damaged_is_named(
    shell: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ProgressFile(tmp_path, "0-100").path
    path.write_bytes(b"{")
    with pytest.raises(SystemExit):
        main.main(shell)
    told = capsys.readouterr().err
    assert str(path) in told
    assert "--restart" in told


def test_ctrl_c_ends_a_run_at_once_and_keeps_what_is_done(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seeds", "0:100000", "--processes", "2"]
    with subprocess.Popen(
        [*command, "--progress", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert "10/100000 seeds" in process.stderr.readline()
        # As a terminal does: to all of its processes.
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert json.loads(next(tmp_path.glob("*.json")).read_bytes())["done"] >= 10
