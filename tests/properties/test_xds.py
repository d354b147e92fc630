"""Whatever Services become in several clusters, Envoy and gRPC take their resources, wherever the client is."""

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.properties.xds_faults import PLANTED
from tests.properties.xds_worlds import Step, check_followers, check_resources, check_unknown, journals
from tests.support.xds_checks import Refused


@given(journals())
def test_every_client_takes_what_it_gets_and_has_what_that_refers_to(steps: list[Step]) -> None:
    check_followers(steps)


@given(journals())
def test_endpoint_sets_are_what_the_rows_say_the_same_in_every_server(steps: list[Step]) -> None:
    check_resources(steps)


@given(journals())
def test_no_set_is_empty_while_a_clusters_endpoints_are_unknown(steps: list[Step]) -> None:
    check_unknown(steps)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_seen(name: str) -> None:
    fault = PLANTED[name]

    @seed(1)
    @settings(max_examples=200, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    @given(journals())
    def violated(steps: list[Step]) -> None:
        fault.check(steps)

    with fault.plant(), pytest.raises(Refused, match=fault.seen_as):
        violated()
