"""The clusterset: what clusters export together is what the KEP's words make of their objects, whatever happens in
which order, and whenever the worker is killed."""

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.properties.clusterset_faults import PLANTED
from tests.properties.clustersets import (
    History,
    check_decisions,
    check_others,
    check_restart,
    check_sets,
    histories,
    outages,
    restarts,
)


@given(histories)
def test_sets_are_what_the_kep_makes_of_the_objects(history: History) -> None:
    check_sets(history)


@given(outages)
def test_who_is_not_heard_of_leaves_the_sets_as_their_exports_say(history: History) -> None:
    check_decisions(history)


@given(histories, restarts)
def test_a_killed_worker_goes_on_to_the_same_rows(history: History, cuts: list[float]) -> None:
    check_restart(history, cuts)


@given(outages, restarts)
def test_a_killed_worker_goes_on_to_the_same_decisions(history: History, cuts: list[float]) -> None:
    check_restart(history, cuts)


@given(histories)
def test_the_other_tables_are_as_without_it(history: History) -> None:
    check_others(history)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_seen(name: str) -> None:
    fault = PLANTED[name]

    @seed(1)
    @settings(max_examples=400, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    @given(outages if fault.in_outages else histories, restarts)
    def violated(history: History, cuts: list[float]) -> None:
        if fault.check == "restart":
            check_restart(history, cuts)
        elif fault.check == "decisions":
            check_decisions(history)
        else:
            check_sets(history)

    with fault.plant(), pytest.raises(AssertionError, match=fault.seen_as):
        violated()
