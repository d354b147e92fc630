"""Hypothesis profiles. `HYPOTHESIS_PROFILE=explore` looks further, at random, and remembers what it found."""

import os
from typing import Any

from hypothesis import HealthCheck, settings

_SHARED: dict[str, Any] = {
    # Nothing here asserts timings, and a shared machine has none to assert.
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
}

# The same examples in every run: a failure in CI is a failure on the desk.
settings.register_profile("ci", derandomize=True, database=None, max_examples=60, stateful_step_count=40, **_SHARED)
settings.register_profile("explore", max_examples=2000, stateful_step_count=80, **_SHARED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
