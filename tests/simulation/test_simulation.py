"""Thousands of seeded runs of models around the real core, each checked against the guarantees of DESIGN section 4."""

import os

import pytest

from tests.simulation.main import Report, parse_seeds, run_seeds

SEEDS = parse_seeds(os.environ.get("SIMULATE_SEEDS", "0:2000"))


@pytest.mark.slow
def test_every_guarantee_holds_in_every_run() -> None:
    report = Report([each for chunk in run_seeds(SEEDS) for each in chunk])
    assert len(report.outcomes) == len(SEEDS)
    assert not report.failed, report.text()
