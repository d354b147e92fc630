"""Routes of a consumer's namespace decide what its own clients get, and nobody else's (GEP-1294)."""

import pytest

from streams.serve.xds.build.client import Client
from streams.serve.xds.build.names import Kind
from streams.serve.xds.build.resource import Resource
from tests.support.routes import by_cookie, route, rule, to_service
from tests.unit.xds.world import CART, World, endpoint, service, slice_of

BUYER, OTHER = Client(namespace="buyer"), Client(namespace="other")
CONSUMER = route(
    "consumer",
    [to_service(namespace="shop")],
    [rule({"name": "cart", "namespace": "shop", "port": 80}, persistence=by_cookie("buyer"))],
    namespace="buyer",
)
KINDS: tuple[Kind, ...] = ("cds", "eds", "rds")


def is_sticky(world: World, client: Client) -> bool:
    return "stateful_session" in str(world.get("rds", CART, client))


def test_a_clients_namespace_chooses_consumer_or_producer() -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.1")), CONSUMER)
    assert [is_sticky(world, client) for client in (BUYER, OTHER, Client())] == [True, False, False]
    producer = route("producer", [to_service()], [rule("cart", persistence=by_cookie("shop"))])
    world.put(producer)
    assert [is_sticky(world, client) for client in (BUYER, OTHER, Client())] == [True, True, True]
    assert [("buyer" in str(world.get("rds", CART, client))) for client in (BUYER, OTHER)] == [True, False]
    # Gateways of that namespace are no clients in the mesh.
    assert not is_sticky(world, Client(traffic="gateway", namespace="buyer"))
    world.drop(CONSUMER, producer)
    assert [is_sticky(world, client) for client in (BUYER, OTHER)] == [False, False]


@pytest.mark.parametrize("kind", KINDS)
def test_all_namespaces_without_routes_of_their_own_share_their_resources(kind: Kind) -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.1")), CONSUMER)
    resources = [world.catalog.resource(kind, CART, client) for client in (OTHER, Client(), Client(namespace="shop"))]
    assert isinstance(resources[0], Resource)
    assert all(resource is resources[0] for resource in resources)
