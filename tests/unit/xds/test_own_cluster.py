"""A Service's own name is that of the client's cluster: no Service of another cluster is mixed in, or stands in."""

import logging
from typing import Any

import msgspec
import pytest
from envoy.config.core.v3.base_pb2 import Node
from google.protobuf.struct_pb2 import Struct

from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.resource import Absence, Resource
from streams.serve.xds.server import client_of
from streams.subscription.rows import Row
from streams.wire.keys import parse_row_key
from tests.support.routes import annotated
from tests.support.serving import serving, stream
from tests.support.xds_client import Delta, Said
from tests.unit.xds.test_server import ack, ask
from tests.unit.xds.world import CART, World, endpoint, exported_cart, service, slice_of, summary
from tests.unit.xds.world import EXPORTED_CART as SET

TEA = "tea.shop.svc.cluster.local:80"
EAST, WEST, NORTH, NOWHERE = (Client(Place(cluster=name)) for name in ("east", "west", "north", "nowhere"))
KINDS = ("cds", "eds", "lds", "rds")


def addresses(world: World, client: Client, name: str = CART) -> list[str]:
    return list(summary(world.get("eds", name, client)))


def two_clusters() -> World:
    world = World("east", "west", "north")
    world.put(service(), slice_of(endpoint("10.1.0.1")))
    world.put(service(clusterIP="10.97.0.7"), slice_of(endpoint("10.2.0.1")), cluster="west")
    return world


# ---- the Service of the client's cluster ------------------------------------------------------------------


def test_a_client_gets_the_endpoints_of_its_own_cluster() -> None:
    world = two_clusters()
    assert addresses(world, EAST) == ["10.1.0.1:8080"]
    assert addresses(world, WEST) == ["10.2.0.1:8080"]
    assert {world.get(kind, CART, NORTH) for kind in KINDS} == {Absence.MISSING}
    world.drop(service(), cluster="west")
    assert {world.get(kind, CART, WEST) for kind in KINDS} == {Absence.MISSING}
    assert addresses(world, EAST) == ["10.1.0.1:8080"]


def test_a_client_gets_the_cluster_ip_the_ports_and_the_decision_of_its_own_cluster() -> None:
    world = two_clusters()
    world.put(annotated(service(clusterIP="10.97.0.7"), mesh="service"), cluster="west")
    world.put(service(ports=[{"name": "http", "port": 80}, {"name": "ops", "port": 81}], sessionAffinity="ClientIP"))
    assert addresses(world, EAST) == ["10.1.0.1:8080"]
    assert addresses(world, WEST) == ["10.97.0.7:80"]
    assert (world.get("cds", CART, EAST).lb_policy, world.get("cds", CART, WEST).lb_policy) == (2, 0)
    ops = CART.replace(":80", ":81")
    assert isinstance(world.catalog.resource("cds", ops, EAST), Resource)
    assert world.get("cds", ops, WEST) is Absence.MISSING


def test_what_is_exported_changes_nothing_at_the_services_own_name() -> None:
    world = two_clusters()
    for cluster in ("east", "west"):
        world.put(exported_cart(), cluster=cluster)
    assert addresses(world, WEST) == ["10.2.0.1:8080"]
    assert addresses(world, WEST, SET) == addresses(world, NORTH, SET) == ["10.1.0.1:8080", "10.2.0.1:8080"]


def test_a_change_in_one_cluster_is_none_for_clients_of_another() -> None:
    world = two_clusters()
    east, west = Delta(world, EAST), Delta(world, WEST)
    for client in (east, west):
        for kind in KINDS:
            client.ask(kind, CART)
    before = [world.catalog.resource(kind, CART, WEST) for kind in KINDS]
    world.put(service(sessionAffinity="ClientIP"), slice_of(endpoint("10.1.0.2")))
    (change,) = world.changes[-1].values()
    assert (change.names_for("east"), change.names_for("west"), change.names_for("")) == ({CART}, set(), {CART})
    # The same objects: nothing is built anew.
    assert all(world.catalog.resource(kind, CART, WEST) is old for kind, old in zip(KINDS, before, strict=True))
    assert west.read({CART}) == []
    assert east.read({CART})


def test_clients_of_one_cluster_share_resources_also_with_those_that_name_none() -> None:
    world = two_clusters()
    for kind in KINDS:
        one, other = (world.catalog.resource(kind, CART, client) for client in (EAST, Client(Place("z", "n", "east"))))
        assert one is other
        assert world.catalog.resource(kind, CART, Client()) is one


@pytest.mark.parametrize("client", [EAST, WEST, NORTH])
def test_a_wildcard_has_the_names_of_the_own_cluster_and_all_of_the_clusterset(client: Client) -> None:
    world = two_clusters()
    world.put(service("tea"), exported_cart())
    names = {"east": [CART, SET, TEA], "west": [CART, SET], "north": [SET]}[client.place.cluster]
    follower = Delta(world, client)
    (said,) = follower.ask("cds")
    assert sorted(said.names) == sorted(names)
    assert set(world.catalog.names("cds", client)) == set(names)
    assert set(world.catalog.names("cds")) == {CART, SET, TEA}


# ---- what is known ----------------------------------------------------------------------------------------


def test_of_a_cluster_that_is_not_followed_or_not_complete_nothing_is_known() -> None:
    world = two_clusters()
    assert {world.get(kind, CART, NOWHERE) for kind in KINDS} == {Absence.UNKNOWN}
    world.put(exported_cart())
    assert addresses(world, NOWHERE, SET) == ["10.1.0.1:8080"]
    world.start("nowhere", complete=False)
    assert world.get("eds", CART, NOWHERE) is Absence.UNKNOWN
    follower = Delta(world, NOWHERE)
    assert follower.ask("eds", CART) == []
    assert follower.read(world.start("nowhere", service(), slice_of())) == [Said("eds", [CART])]
    assert addresses(world, NOWHERE) == []


def test_an_empty_set_is_known_whatever_is_not_of_others() -> None:
    world = World("east")
    world.put(service(), slice_of())
    world.start("west", complete=False)
    assert addresses(world, EAST) == []
    assert world.get("eds", CART, WEST) is Absence.UNKNOWN


def test_a_wildcard_client_of_a_cluster_that_is_not_followed_gets_what_is_exported() -> None:
    world = two_clusters()
    world.put(exported_cart())
    assert Delta(world, NOWHERE).ask("cds") == [Said("cds", [SET])]


def test_a_service_whose_frontend_is_not_known_is_not_missing() -> None:
    world = two_clusters()
    rows = [
        Row(table, *parse_row_key(key), 0, value)
        for (table, key, _), value in world.rows.items()
        if (table, key) != ("frontend", "east/shop/cart")
    ]
    world.catalog = Catalog(1)
    world.catalog.replace(rows, two_clusters().catalog.seals)
    assert world.get("cds", CART, EAST) is Absence.UNKNOWN
    assert world.get("cds") is Absence.UNKNOWN
    assert addresses(world, WEST) == ["10.2.0.1:8080"]


# ---- clients that name no cluster -------------------------------------------------------------------------


def test_a_client_of_no_cluster_gets_the_service_of_the_first_that_has_it_and_never_a_mix() -> None:
    world = two_clusters()
    world.put(service(ports=[{"name": "http", "port": 80}, {"name": "ops", "port": 81}]), cluster="west")
    assert addresses(world, Client()) == ["10.1.0.1:8080"]
    assert world.get("eds", CART.replace(":80", ":81")) is Absence.MISSING
    world.drop(service())
    assert addresses(world, Client()) == ["10.2.0.1:8080"]
    assert isinstance(world.catalog.resource("eds", CART.replace(":80", ":81"), Client()), Resource)


def test_a_client_of_no_cluster_is_told_that_another_cluster_is_the_first() -> None:
    world, admin = two_clusters(), CART.replace(":80", ":81")
    ports = [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]
    world.put(service(ports=ports), cluster="west")
    client, in_west = Delta(world), Delta(world, WEST)
    assert client.ask("lds", admin) == [Said("lds", [], [admin])]
    assert in_west.ask("lds", admin) == [Said("lds", [admin])]
    assert client.read(world.drop(service())) == [Said("lds", [admin])]
    # The Service of the first cluster has no ports.
    assert client.read(world.put(service(ports=[], **{"clusterIP": "None"}))) == [Said("lds", [], [admin])]
    # For clients in west nothing has changed.
    assert all(admin not in change.names_for("west") for change in world.changes[-1].values())


def test_a_cluster_that_is_not_known_is_not_passed_over() -> None:
    world = World("west")
    world.put(service(), slice_of(endpoint("10.2.0.1")), cluster="west")
    assert addresses(world, Client()) == ["10.2.0.1:8080"]
    world.start("east", complete=False)
    assert world.get("eds") is Absence.UNKNOWN
    world.start("east")
    assert addresses(world, Client()) == ["10.2.0.1:8080"]


def node(cluster: str = "") -> Node:
    metadata = Struct()
    if cluster:
        metadata["cluster"] = cluster
    return Node(id="n1", metadata=metadata)


def test_serve_may_say_where_clients_are_that_do_not() -> None:
    assert client_of(node(), "west").place.cluster == "west"
    assert client_of(node("east"), "west").place.cluster == "east"


@pytest.mark.parametrize(
    ("settings", "address", "count"), [({}, "10.1.0.1", 1), ({"client_cluster": "west"}, "10.2.0.1", 0)]
)
async def test_clients_of_no_cluster_are_counted_and_named_once(
    caplog: pytest.LogCaptureFixture, settings: dict[str, Any], address: str, count: int
) -> None:
    caplog.set_level(logging.WARNING, "facets.xds")
    async with serving(**settings) as served:
        served.world.start("west")
        served.world.put(service(), slice_of(endpoint("10.2.0.1")), cluster="west")
        served.put()
        for _ in range(2):
            async with stream(served.server) as call:
                await call.write(ask(node=node()))
                response = await call.read()
                assert address.encode() in response.resources[0].value
                assert len(served.server.unplaced) == count
    warnings = [record.getMessage() for record in caplog.records if "--client-cluster" in record.getMessage()]
    assert len(warnings) == count
    assert all("n1" in text and "node.metadata.cluster" in text for text in warnings)


async def test_a_client_of_a_cluster_that_is_not_followed_is_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "facets.xds")
    async with serving() as served, stream(served.server) as call:
        served.put(exported_cart())
        await call.write(ask(node=node("nowhere"), resource_names=[SET]))
        assert b"10.1.0.1" in (await call.read()).resources[0].value
    assert "is in cluster nowhere, which is not followed" in caplog.text


async def test_a_client_is_not_behind_by_what_changes_in_another_cluster() -> None:
    async with serving() as served, stream(served.server) as call:
        served.world.start("west")
        served.world.put(service(), slice_of(endpoint("10.2.0.1")), cluster="west")
        served.put()
        await call.write(ask(node=node("west")))
        await call.write(ack(await call.read()))
        (connection,) = served.server.connections.values()
        while connection.ledger.behind:
            await served.server.wait_for_change()
        served.put(slice_of(endpoint("10.1.0.2")))
        assert connection.ledger.behind == {}
        served.world.put(slice_of(endpoint("10.2.0.2")), cluster="west")
        served.put()
        assert list(connection.ledger.behind) == [("shop", "cart")]


def test_what_a_snapshot_could_not_tell_of_is_removed_once_its_cluster_is_known() -> None:
    world = two_clusters()
    seals = dict(world.catalog.seals)
    west = seals[0, "west"]
    seals[0, "west"] = msgspec.structs.replace(west, frontier={})
    rows = [
        Row(table, *parse_row_key(key), 0, value)
        for (table, key, _), value in world.rows.items()
        if not key.startswith("west/")
    ]
    world.catalog.replace(rows, seals)
    assert addresses(world, WEST) == ["10.2.0.1:8080"]
    (change,) = world.catalog.apply((), west, 0).values()
    assert change.by_cluster == {"west": {CART}}
    assert {world.get(kind, CART, WEST) for kind in KINDS} == {Absence.MISSING}
    assert addresses(world, EAST) == ["10.1.0.1:8080"]
