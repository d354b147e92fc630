"""Says which seeds the simulation takes, so that they can be run again."""

import os
from datetime import UTC, datetime

from tests.simulation.seeds import seeds_of_tests

os.environ.setdefault("SIMULATE_SEEDS", seeds_of_tests(datetime.now(UTC)))


def pytest_report_header() -> str:
    """Among the first lines of `make test`."""
    return f"simulation: to repeat this run's seeds, SIMULATE_SEEDS={os.environ['SIMULATE_SEEDS']}"
