"""One Service that several clusters export: whose endpoint an address is, and whose node."""

import msgspec
import pytest
from envoy.config.core.v3.base_pb2 import Locality, Node
from google.protobuf.struct_pb2 import Struct

from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.resource import Absence, Resource
from streams.serve.xds.server import client_of
from tests.unit.xds.world import EXPORTED_CART as CART
from tests.unit.xds.world import World, endpoint, exported_cart, owners, service, slice_of, summary

EAST, WEST, NORTH = (Client(Place(cluster=name)) for name in ("east", "west", "north"))
TERMINATING = {"ready": False, "serving": True, "terminating": True}
LOCAL = {"internalTrafficPolicy": "Local"}


def exporting(*clusters: str) -> World:
    """Clusters that export the Service, all at the same time: the first by name has precedence."""
    world = World(*clusters)
    for cluster in clusters or ("east",):
        world.put(exported_cart(), cluster=cluster)
    return world


# ---- one address in several clusters ----------------------------------------------------------------------


def test_of_two_clusters_with_one_address_the_clients_own_wins_else_the_first_by_name() -> None:
    world = exporting("west", "east")
    world.put(service(), slice_of(endpoint("10.7.1.4", zone="z-a")))
    world.put(service(), slice_of(endpoint("10.7.1.4"), endpoint("10.8.1.4")), cluster="west")
    assert owners(world) == {"10.7.1.4": "east", "10.8.1.4": "west"}
    assert owners(world, EAST) == {"10.7.1.4": "east", "10.8.1.4": "west"}
    assert owners(world, WEST) == {"10.7.1.4": "west", "10.8.1.4": "west"}
    world.drop(slice_of(), cluster="east")
    assert owners(world) == {"10.7.1.4": "west", "10.8.1.4": "west"}


def test_an_endpoint_keeps_the_addresses_that_no_other_cluster_has() -> None:
    world = exporting("east", "west")
    families = {"clusterIPs": ["10.96.0.7", "fd00::7"], "ipFamilies": ["IPv4", "IPv6"]}
    pod = {"targetRef": {"kind": "Pod", "name": "cart-1", "namespace": "shop", "uid": "pod-1"}}
    world.put(service(), slice_of(endpoint("10.7.1.4")))
    world.put(
        service(**families),
        slice_of(endpoint("10.7.1.4", **pod), name="cart-4"),
        slice_of(endpoint("FD00:0::1", **pod), name="cart-6", addressType="IPv6"),
        cluster="west",
    )
    assert owners(world) == {"10.7.1.4": "east", "fd00::1": "west"}
    assert owners(world, WEST) == {"10.7.1.4": "west", "fd00::1": "west"}


def test_a_port_that_clusters_name_differently_is_still_one_set() -> None:
    world = exporting("east", "west")
    named = [{"name": "web", "port": 8080, "protocol": "TCP"}]
    world.put(service(), slice_of(endpoint("10.7.1.4")))
    world.put(service(ports=[{"name": "web", "port": 80}]), slice_of(endpoint("10.7.1.4"), ports=named), cluster="west")
    assert owners(world) == {"10.7.1.4": "east"}


def test_two_slices_of_one_address_are_one_endpoint_while_a_port_is_added() -> None:
    # kubernetes/website#23084: the controller makes the slice with both ports before it deletes the old one.
    world = exporting()
    both = [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "ops", "port": 9102, "protocol": "TCP"}]
    world.put(service(ports=[{"name": "http", "port": 80}, {"name": "ops", "port": 9102}]))
    world.put(slice_of(endpoint("10.7.1.4")))
    world.put(slice_of(endpoint("10.7.1.4"), name="cart-b", ports=both))
    assert owners(world) == {"10.7.1.4": "east"}


def test_two_pods_on_the_hosts_network_are_two_endpoints() -> None:
    world = exporting()
    other = [{"name": "http", "port": 8081, "protocol": "TCP"}]
    world.put(service(), slice_of(endpoint("198.51.100.9")), slice_of(endpoint("198.51.100.9"), name="b", ports=other))
    assert list(summary(world.get("eds", CART))) == ["198.51.100.9:8080", "198.51.100.9:8081"]


def test_clients_share_a_set_unless_their_cluster_makes_a_difference() -> None:
    world = exporting("east", "west")
    world.put(service(), slice_of(endpoint("10.7.1.4")))
    world.put(service(), slice_of(endpoint("10.8.1.4")), cluster="west")

    def resources(*clients: Client) -> list[Resource | Absence]:
        return [world.catalog.resource("eds", CART, client) for client in clients]

    first, *others = resources(Client(), EAST, WEST, Client(Place("z", "n")))
    assert all(other is first for other in others)
    world.put(slice_of(endpoint("10.7.1.4")), cluster="west")
    unplaced, east, west, north = resources(Client(), EAST, WEST, NORTH)
    assert north is unplaced
    assert isinstance(east, Resource)
    assert isinstance(west, Resource)
    assert east.digest != west.digest


# ---- traffic policy, then fallback ------------------------------------------------------------------------


def test_local_falls_back_to_what_terminates_on_the_clients_node() -> None:
    # KEP-1669, and kubernetes pkg/proxy/topology.go: the fallback is within the policy's scope.
    world = exporting()
    world.put(
        service(**LOCAL),
        slice_of(endpoint("10.7.1.4", nodeName="blue", **TERMINATING), endpoint("10.7.2.4", nodeName="green")),
    )
    assert summary(world.get("eds", CART, Client(Place(node="blue")))) == {"10.7.1.4:8080": (0, "", "HEALTHY")}
    assert summary(world.get("eds", CART)) == {
        "10.7.1.4:8080": (0, "", "DRAINING"),
        "10.7.2.4:8080": (0, "", "HEALTHY"),
    }


def test_what_terminates_in_one_cluster_drains_while_another_has_a_ready_endpoint() -> None:
    world = exporting("east", "west")
    world.put(service(), slice_of(endpoint("10.7.1.4", **TERMINATING)))
    world.put(service(), slice_of(endpoint("10.8.1.4")), cluster="west")
    assert [health for *_, health in summary(world.get("eds", CART)).values()] == ["DRAINING", "HEALTHY"]
    world.put(slice_of(endpoint("10.8.1.4", ready=False, serving=False)), cluster="west")
    assert [health for *_, health in summary(world.get("eds", CART)).values()] == ["HEALTHY", "UNHEALTHY"]


@pytest.mark.parametrize(("client", "address"), [(EAST, "10.7.1.4"), (WEST, "10.8.1.4"), (Client(), "10.7.1.4")])
def test_a_nodes_name_means_something_in_its_cluster_only(client: Client, address: str) -> None:
    world = exporting("west", "east")
    world.put(service(**LOCAL), slice_of(endpoint("10.7.1.4", nodeName="worker-1")))
    world.put(service(**LOCAL), slice_of(endpoint("10.8.1.4", nodeName="worker-1")), cluster="west")
    at = client._replace(place=client.place._replace(node="worker-1"))
    assert list(owners(world, at)) == [address]
    assert len(owners(world, client)) == 2
    assert owners(world, Client(Place(node="worker-1", cluster="north"))) == {}


def test_a_node_of_the_same_name_in_another_cluster_is_not_near() -> None:
    world = exporting("east", "west")
    near = {"trafficDistribution": "PreferSameNode"}
    world.put(service(**near), slice_of(endpoint("10.7.1.4", nodeName="worker-1", zone="z1")))
    world.put(service(**near), slice_of(endpoint("10.8.1.4", nodeName="worker-1", zone="z2")), cluster="west")
    in_west = summary(world.get("eds", CART, Client(Place("z1", "worker-1", "west"))))
    assert {address: priority for address, (priority, *_) in in_west.items()} == {
        "10.8.1.4:8080": 0, "10.7.1.4:8080": 1,
    }  # fmt: skip


def ranked(world: World, place: Place) -> dict[str, int]:
    """By address the priority of an endpoint for a client in this place."""
    found = summary(world.get("eds", CART, Client(place)))
    return {address.partition(":")[0]: priority for address, (priority, *_) in found.items()}


def three_clusters(prefer: str = "", **spec: str) -> World:
    """An endpoint in each of two zones of three clusters; the export that has precedence prefers these places."""
    world = exporting("east", "north", "west")
    for number, cluster in enumerate(("east", "north", "west"), 7):
        near, far = (endpoint(f"10.{number}.1.{i}", zone=f"z{i}", nodeName="n1") for i in (1, 2))
        world.put(service(**spec), slice_of(near, far), cluster=cluster)
    if prefer:
        cart = exported_cart()
        world.put({**cart, "metadata": {**cart["metadata"], "annotations": {"service-facets.io/prefer": prefer}}})
    return world


def test_of_a_set_no_cluster_is_preferred_by_default() -> None:
    assert set(ranked(three_clusters(), Place("z1", "n1", "north")).values()) == {0}


def test_traffic_distribution_of_a_set_prefers_the_own_zone_then_the_own_cluster() -> None:
    world = three_clusters(trafficDistribution="PreferSameZone")
    assert ranked(world, Place("z1", "", "north")) == {
        "10.7.1.1": 0, "10.8.1.1": 0, "10.9.1.1": 0, "10.8.1.2": 1, "10.7.1.2": 2, "10.9.1.2": 2,
    }  # fmt: skip
    assert set(ranked(world, Place()).values()) == {0}


def test_an_exports_preference_is_an_order_of_places() -> None:
    world = three_clusters(prefer="own-cluster, cluster=west")
    assert ranked(world, Place("z1", "n1", "north")) == {
        "10.8.1.1": 0, "10.8.1.2": 0, "10.9.1.1": 1, "10.9.1.2": 1, "10.7.1.1": 2, "10.7.1.2": 2,
    }  # fmt: skip
    in_west = ranked(world, Place("", "", "west"))
    assert [in_west[f"10.{number}.1.1"] for number in (9, 7, 8)] == [0, 1, 1]
    of_nowhere = ranked(world, Place())
    assert [of_nowhere[f"10.{number}.1.1"] for number in (9, 7, 8)] == [0, 1, 1]


def test_the_next_cluster_is_first_where_the_preferred_one_has_nothing() -> None:
    world = three_clusters(prefer="cluster=west, cluster=east")
    world.put(slice_of(), cluster="west")
    assert ranked(world, Place(cluster="north")) == {"10.7.1.1": 0, "10.7.1.2": 0, "10.8.1.1": 1, "10.8.1.2": 1}


def test_the_cluster_says_what_is_preferred_and_who_says_so() -> None:
    fields = three_clusters(prefer="own-zone").get("cds", CART).metadata.filter_metadata["facets"]
    assert (fields["prefer"], fields["preferReason"]) == ("own-zone", "ServiceExport")
    fields = three_clusters().get("cds", CART).metadata.filter_metadata["facets"]
    assert (fields["prefer"], fields["preferReason"]) == ("", "Default")


def test_node_hints_are_for_the_nodes_of_their_cluster() -> None:
    world = exporting("east", "west")
    hints = {"hints": {"forNodes": [{"name": "worker-1"}]}}
    world.put(service(), slice_of(endpoint("10.7.1.4", **hints)))
    world.put(service(), slice_of(endpoint("10.8.1.4", **hints)), cluster="west")
    in_west = summary(world.get("eds", CART, Client(Place("", "worker-1", "west"))))
    assert {address: priority for address, (priority, *_) in in_west.items()} == {
        "10.8.1.4:8080": 0, "10.7.1.4:8080": 1,
    }  # fmt: skip


# ---- what is known ----------------------------------------------------------------------------------------


def test_a_set_is_empty_only_when_every_clusters_endpoints_are_known() -> None:
    world = exporting("east", "west")
    named = [{"name": "other", "port": 8080, "protocol": "TCP"}]
    world.put(service(), slice_of(endpoint("10.7.1.4"), ports=named))
    world.put(service(), slice_of(endpoint("10.8.1.4")), cluster="west")
    unknown = world.rows["clusterset", "west/shop/cart", ""].replace(b'"state":"ready"', b'"state":"unknown"')
    world.rows["clusterset", "west/shop/cart", ""] = unknown
    assert world.replica().resource("eds", CART, Client()) is Absence.UNKNOWN


def test_while_a_cluster_joins_a_set_has_what_is_known_and_is_not_empty() -> None:
    world = exporting("east")
    world.put(service(), slice_of(endpoint("10.7.1.4")))
    world.start("west", complete=False)
    assert owners(world) == {"10.7.1.4": "east"}
    world.put(slice_of())
    assert world.get("eds", CART) is Absence.UNKNOWN
    before = world.catalog.known
    world.start("west", service(), slice_of(endpoint("10.8.1.4")), exported_cart())
    assert world.catalog.known != before
    assert owners(world) == {"10.8.1.4": "west"}
    world.put(slice_of(), cluster="west")
    assert not owners(world)


def test_a_cluster_that_ends_before_it_was_known_holds_up_nothing() -> None:
    world = exporting("east")
    world.put(service(), slice_of())
    world.start("west", complete=False)
    assert world.get("eds", CART) is Absence.UNKNOWN
    before, seal = world.catalog.known, world.catalog.seals[0, "west"]
    world.catalog.apply((), msgspec.structs.replace(seal, closed=True), 0)
    assert world.catalog.known != before
    assert not owners(world)


# ---- the client's place -----------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("cluster", "namespace", "node"), ("CLUSTER_ID", "NAMESPACE", "NODE_NAME")])
def test_a_client_says_where_it_is_in_its_nodes_metadata(names: tuple[str, ...]) -> None:
    metadata = Struct()
    for name, value in zip(names, ("west", "buyer", "worker-1"), strict=True):
        metadata[name] = value
    node = Node(id="n", metadata=metadata, locality=Locality(zone="z1"))
    assert client_of(node) == Client(Place("z1", "worker-1", "west"), namespace="buyer")
    assert client_of(Node(id="n")) == Client()


# ---- shown and counted ------------------------------------------------------------------------------------


def test_addresses_that_several_clusters_have_are_counted_once_they_are_served() -> None:
    world = exporting("east", "west")
    world.put(service(), slice_of(endpoint("10.7.1.4")))
    world.put(service(), slice_of(endpoint("10.7.1.4"), endpoint("10.8.1.4")), cluster="west")
    assert list(world.catalog.shared_addresses()) == []
    for client in (Client(), WEST):
        world.get("eds", CART, client)
    assert list(world.catalog.shared_addresses()) == [(CART, ("10.7.1.4", 8080), ("east", "west"))]
    world.put(slice_of(endpoint("10.8.1.4")), cluster="west")
    world.get("eds", CART)
    assert list(world.catalog.shared_addresses()) == []
