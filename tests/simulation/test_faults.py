"""The checkers see what they are there for: each planted fault is a violation within a few seeds."""

import re
import subprocess
import sys

import pytest

from tests.simulation.faults import PLANTED, planted
from tests.simulation.report import replay
from tests.simulation.run import STEPS, Outcome, simulate

SEEDS = 250
"""How many seeds may go by before a fault is seen. Most need fewer than ten."""


def first_violation(name: str) -> Outcome:
    with planted(name):
        for seed in range(PLANTED[name].since, PLANTED[name].since + SEEDS):
            outcome = simulate(seed)
            if outcome.problem:
                return outcome
    raise AssertionError(f"no violation in {SEEDS} seeds: the checkers do not see that {PLANTED[name].text}")


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_seen(name: str) -> None:
    seen = first_violation(name)
    assert not re.match(r"\w+Error: ", seen.problem), "the run broke down, no checker saw anything"
    assert not simulate(seen.seed).problem, "the seed has a violation without the fault, too"


def test_there_is_a_fault_for_every_guarantee() -> None:
    assert {fault.guarantee for fault in PLANTED.values()} == {1, 2, 3, 4, 5, 6, 7}
    assert len(PLANTED) >= 14


def test_the_command_that_is_printed_replays_the_violation() -> None:
    name = "merge-by-last-writer"
    seen = first_violation(name)
    command = replay(seen.seed, STEPS, name).split()
    assert command[:3] == [".venv/bin/python", "-m", "tests.simulation"]
    again = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 1
    assert f"seed {seen.seed}: {seen.problem}" in again.stdout
    assert " ".join(command) in again.stdout
