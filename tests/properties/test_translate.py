"""Whatever is in the clusters, and in whatever form it is written down, what `facets translate` prints for a client
anywhere is what the rows say, what a server gives, and what Envoy and gRPC take."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from streams.cli.past import translate
from streams.fold import offline
from streams.objects.reflector import Kind
from streams.serve.xds.build import client
from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.client import Client, Place
from streams.wire.keys import parse_row_key
from tests.properties.translations import check_translations, clients, worlds
from tests.properties.xds_worlds import Step
from tests.support.xds_checks import Refused

_asking = st.lists(clients, min_size=1, max_size=2)


@given(worlds(), _asking)
def test_what_is_printed_is_what_clients_take_and_servers_give(steps: list[Step], asking: list[Client]) -> None:
    check_translations(steps, asking)


# ---- faults that only this sees ---------------------------------------------------------------------------


def _deletions_are_not_read() -> AbstractContextManager[Any]:
    return patch.dict(offline._OPERATIONS, {"DELETED": Kind.APPLY})


def _a_list_is_read_up_to_its_last_object() -> AbstractContextManager[Any]:
    real = offline._items
    return patch.object(offline, "_items", lambda document: list(real(document))[:-1])


def _all_rows_are_of_one_cluster() -> AbstractContextManager[Any]:
    return patch.object(translate, "parse_row_key", lambda key: ("west", *parse_row_key(key)[1:]))


def _zone_and_node_are_mixed_up() -> AbstractContextManager[Any]:
    return patch.object(client, "Place", lambda zone="", node="", cluster="": Place(node, zone, cluster))


def _the_clients_namespace_is_not_told() -> AbstractContextManager[Any]:
    return patch.object(client, "Client", lambda place, traffic, grpc, _: Client(place, traffic, grpc))


def _udp_is_not_named() -> AbstractContextManager[Any]:
    real = Catalog.names_of

    def names_of(self: Any, key: Any) -> Any:
        return [name for name in real(self, key) if not name.endswith("/udp")]

    return patch.object(Catalog, "names_of", names_of)


_PLANTED: dict[Callable[[], AbstractContextManager[Any]], str] = {
    _deletions_are_not_read: "form of the documents|a server gives another",
    _a_list_is_read_up_to_its_last_object: "form of the documents",
    _all_rows_are_of_one_cluster: "form of the documents|is west's for|not in the rows|a server gives another",
    _zone_and_node_are_mixed_up: "not in the rows|not known to be empty|a server gives another",
    _the_clients_namespace_is_not_told: "a server gives another",
    _udp_is_not_named: "a server gives another",
}


@pytest.mark.parametrize("plant", _PLANTED, ids=lambda plant: plant.__name__.strip("_").replace("_", "-"))
def test_a_planted_fault_is_seen(plant: Callable[[], AbstractContextManager[Any]]) -> None:
    @seed(1)
    @settings(max_examples=200, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    @given(worlds(), _asking)
    def violated(steps: list[Step], asking: list[Client]) -> None:
        check_translations(steps, asking)

    with plant(), pytest.raises(Refused, match=_PLANTED[plant]):
        violated()
