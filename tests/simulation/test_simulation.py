"""Thousands of seeded runs of models around the real core, each checked against the guarantees of DESIGN section 4."""

import os

import pytest

from tests.simulation.main import Report, parse_seeds, run_seeds

SEEDS = parse_seeds(os.environ.get("SIMULATE_SEEDS", "0:2000"))

DRAWN = (
    "410, listed again",
    "API server behind",
    "Service deleted",
    "Service made again",
    "bad journal record",
    "bad object",
    "changelogs compacted",
    "cluster unreachable",
    "commit duplicated",
    "crash between two writes",
    "endpoint claimed twice",
    "endpoint moved, added first",
    "endpoint moved, removed first",
    "event duplicated",
    "history compacted (410)",
    "journal expired",
    "label moved",
    "list refused, its server is behind",
    "rebalance, old worker asleep",
    "rival watcher",
    "slice recycled",
    "stale watcher wakes",
    "stale worker wakes",
    "subscriber resumes",
    "time passes",
    "watch cut",
    "watcher killed",
    "watcher paused, replaced",
    "worker killed",
)
"""What has to happen, and how often a thousand seeds have it at least: ten times."""


@pytest.mark.slow
def test_every_guarantee_holds_in_every_run() -> None:
    report = Report([each for chunk in run_seeds(SEEDS) for each in chunk])
    assert len(report.outcomes) == len(SEEDS)
    assert not report.failed, report.text()
    happened = report.faults
    rare = {name: happened[name] for name in DRAWN if happened[name] < len(SEEDS) // 100}
    assert not rare, f"too seldom to say anything: {rare}"


def test_a_run_follows_from_its_seed_alone() -> None:
    once, again = ([each for chunk in run_seeds(range(20), processes=n) for each in chunk] for n in (1, 2))
    assert once == again
