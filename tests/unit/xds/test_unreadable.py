"""What clients get of Services that can't be read, or not in full: never an empty set that may not be empty, and never
the word that a Service is missing that is there."""

import pytest

from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.resource import Absence
from tests.support.xds_client import Delta
from tests.unit.xds.world import CART, World, endpoint, service, slice_of, summary

BAD_SERVICE = service(ports=[{"port": 99999999}])
BAD_PORTS = [{"port": -1}]


def addresses(world: World) -> list[str]:
    return list(summary(world.get("eds")))


def test_an_old_servers_addresses_are_served() -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.007.001.005"), endpoint("::ffff:10.7.1.6")))
    assert addresses(world) == ["10.7.1.5:8080", "10.7.1.6:8080"]


def test_the_readable_endpoints_are_served_and_no_empty_set_is() -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.7.1.5"), endpoint("10.7.1.256")))
    assert addresses(world) == ["10.7.1.5:8080"]
    world.put(slice_of(endpoint("10.7.1.256")))
    assert world.get("eds") is Absence.UNKNOWN
    world.put(slice_of())
    assert list(world.get("eds").endpoints) == []


def test_beside_a_slice_that_could_never_be_read_the_others_are_served() -> None:
    world = World()
    world.put(service(), slice_of(name="cart-x", ports=BAD_PORTS))
    assert world.get("eds") is Absence.UNKNOWN
    world.put(slice_of(endpoint("10.7.1.5")))
    assert addresses(world) == ["10.7.1.5:8080"]
    world.put(slice_of(endpoint("10.7.1.6")))
    assert addresses(world) == ["10.7.1.6:8080"]
    world.put(slice_of())
    assert world.get("eds") is Absence.UNKNOWN
    assert addresses_in_a_replica(world) is Absence.UNKNOWN


def addresses_in_a_replica(world: World) -> object:
    """What a server has that reads the tables now."""
    world.catalog = world.replica()
    return world.get("eds")


def test_a_port_without_endpoints_may_have_them_in_a_slice_that_can_not_be_read() -> None:
    ports = [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]
    world = World()
    world.put(service(ports=ports), slice_of(endpoint("10.7.1.5")), slice_of(name="cart-x", ports=BAD_PORTS))
    assert addresses(world) == ["10.7.1.5:8080"]
    assert world.get("eds", CART.replace(":80", ":81")) is Absence.UNKNOWN


@pytest.mark.parametrize("is_replica", [False, True])
def test_a_service_that_could_never_be_read_is_not_missing(is_replica: bool) -> None:
    world = World()
    world.put(slice_of(endpoint("10.7.1.5")))
    assert world.get("cds") is Absence.MISSING
    world.put(BAD_SERVICE)
    if is_replica:
        world.catalog = world.replica()
    assert [world.get(kind) for kind in ("cds", "eds", "lds", "rds")] == [Absence.UNKNOWN] * 4
    world.put(service())
    assert addresses(world) == ["10.7.1.5:8080"]
    world.put(BAD_SERVICE)
    assert addresses(world) == ["10.7.1.5:8080"]


def test_a_client_hears_at_once_when_a_service_that_could_never_be_read_is_deleted() -> None:
    world = World()
    world.put(BAD_SERVICE)
    client = Delta(world)
    assert client.ask("eds", CART) == []
    assert [said.removed for said in client.read(world.drop(BAD_SERVICE))] == [[CART]]


def test_a_service_that_can_not_be_read_may_be_the_one_that_a_client_of_no_cluster_gets() -> None:
    world = World("east", "west")
    world.put(service(), slice_of(endpoint("10.7.1.5")), cluster="west")
    assert addresses(world) == ["10.7.1.5:8080"]
    world.put(BAD_SERVICE)
    assert world.get("eds") is Absence.UNKNOWN
    assert world.get("eds", client=Client(Place(cluster="east"))) is Absence.UNKNOWN
    assert list(summary(world.get("eds", client=Client(Place(cluster="west"))))) == ["10.7.1.5:8080"]


def test_a_route_that_could_never_be_read_leaves_the_choice_to_the_others() -> None:
    world = World()
    annotations = {"service-facets.io/mesh-routing": "service"}
    cart = service()
    cart["metadata"]["annotations"] = annotations
    spec = {
        "parentRefs": [{"name": "front"}],
        "rules": [{"backendRefs": [{"name": "cart", "port": 80, "weight": "x"}]}],
    }
    route = {"kind": "HTTPRoute", "metadata": {"name": "r", "namespace": "shop", "uid": "u-r"}, "spec": spec}
    world.put(route, cart, slice_of(endpoint("10.7.1.5")))
    assert addresses(world) == ["10.96.0.7:80"]
