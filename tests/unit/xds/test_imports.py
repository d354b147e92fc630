"""Routes that name a ServiceImport (GEP-1748): each cluster's count for its own clients of the clusterset's name."""

from typing import Any

import msgspec
import pytest

from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.names import Kind
from streams.serve.xds.build.resource import Resource
from streams.subscription.rows import Row
from streams.wire.keys import parse_row_key
from tests.support.routes import Object, by_cookie, gateway, route, rule, to_gateway, to_import
from tests.unit.xds.world import CART as OWN
from tests.unit.xds.world import EXPORTED_CART as CART
from tests.unit.xds.world import World, endpoint, exported_cart, service, slice_of

EAST, WEST, NORTH, NOWHERE = (Client(Place(cluster=name)) for name in ("east", "west", "north", ""))
KINDS: tuple[Kind, ...] = ("cds", "eds", "lds", "rds")


def to_cart(name: str, *parents: Object, cookie: str = "", **more: Any) -> Object:
    """A route to the ServiceImport shop/cart."""
    asked = rule(to_import(namespace="shop", port=80), persistence=by_cookie(cookie or name))
    return route(name, parents, [asked], **more)


def exported(*others: str, **spec: Any) -> World:
    """East exports; the other clusters have neither the Service nor an export."""
    world = World("east", *others)
    world.put(service(**spec), slice_of(endpoint("10.1.0.1")), exported_cart())
    return world


def cookie(world: World | Catalog, client: Client, name: str = CART) -> str:
    """The name of the cookie by which the client's requests stick to an endpoint; "": they don't."""
    catalog = world.catalog if isinstance(world, World) else world
    texts = {}
    for kind in KINDS:
        found = catalog.resource(kind, name, client)
        assert isinstance(found, Resource)
        texts[kind] = found.body.value
    own = [each for each in ("east", "west", "north", "buyer", "old") if f"{each}-cookie".encode() in texts["rds"]]
    is_sticky = b"stateful_session" in texts["lds"]
    assert is_sticky == bool(own) == (b"stateful_session" in texts["rds"])
    return own[0] if own else ""


def test_a_clients_own_clusters_routes_count_at_the_clustersets_name() -> None:
    world = exported("west", "north")
    of_east, of_west = (to_cart(name, to_import(), cookie=f"{name}-cookie") for name in ("east", "west"))
    before = {kind: world.catalog.resource(kind, CART, NORTH) for kind in KINDS}
    assert [cookie(world, client) for client in (EAST, WEST, NORTH, NOWHERE)] == ["", "", "", ""]
    assert CART in world.put(of_west, cluster="west")
    assert [cookie(world, client) for client in (EAST, WEST, NORTH, NOWHERE)] == ["", "west", "", "west"]
    of_its_row = world.catalog.resource("rds", CART, WEST)
    assert isinstance(of_its_row, Resource)
    assert of_its_row.version.startswith(f"{world.catalog.newest(('shop', 'cart'))[0]}.")
    assert CART in world.put(of_east)
    assert [cookie(world, client) for client in (EAST, WEST, NORTH, NOWHERE)] == ["east", "west", "", "east"]
    # A Service of the name has nothing to do with it, and clients elsewhere get what they had.
    assert cookie(world, EAST, OWN) == ""
    for kind, was in before.items():
        now = world.catalog.resource(kind, CART, NORTH)
        assert isinstance(was, Resource)
        assert isinstance(now, Resource)
        assert (now.version, now.body) == (was.version, was.body)
    assert CART in world.drop(of_east)
    assert CART in world.drop(of_west, cluster="west")
    assert [cookie(world, client) for client in (EAST, WEST, NORTH, NOWHERE)] == ["", "", "", ""]


def test_a_route_of_the_service_does_not_count_at_the_clustersets_name() -> None:
    world = exported()
    world.put(gateway(), route("r", [to_gateway()], [rule("cart", persistence=by_cookie("east-cookie"))]))
    at_gateway = Client(Place(cluster="east"), traffic="gateway")
    assert [cookie(world, at_gateway, name) for name in (OWN, CART)] == ["east", ""]


def test_gateways_and_consumers_have_their_own() -> None:
    world = exported()
    world.put(
        gateway(),
        to_cart("g", to_gateway(), cookie="old-cookie"),
        to_cart("c", to_import(namespace="shop"), cookie="buyer-cookie", namespace="buyer"),
    )
    at_gateway = Client(Place(cluster="east"), traffic="gateway")
    buyer = Client(Place(cluster="east"), namespace="buyer")
    assert [cookie(world, client) for client in (at_gateway, EAST, buyer)] == ["old", "", "buyer"]


@pytest.mark.parametrize("spec", [{}, {"clusterIP": "None"}])
def test_a_route_that_is_there_before_its_set_counts_from_the_beginning(spec: dict[str, Any]) -> None:
    world = World("east", "west")
    world.put(to_cart("west", to_import(), cookie="west-cookie"), cluster="west")
    assert world.put(service(**spec), slice_of(endpoint("10.1.0.1")), exported_cart()) >= {CART}
    assert [cookie(world, client) for client in (EAST, WEST)] == ["", "west"]
    metadata = world.get("cds", CART, WEST).metadata.filter_metadata["facets"]
    assert metadata["reason"] == ("Headless" if spec else "NoClusterSetIP")
    # The set's own session affinity goes on.
    world.put(service(sessionAffinity="ClientIP"))
    assert (cookie(world, WEST), world.get("cds", CART, WEST).lb_policy) == ("west", 2)


def test_the_other_servers_resources_are_the_same() -> None:
    world = exported("west")
    world.put(to_cart("west", to_import(), cookie="west-cookie"), cluster="west")
    replica = world.replica()
    assert cookie(replica, WEST) == "west"
    for kind in KINDS:
        for client in (EAST, WEST, NOWHERE):
            one, other = (catalog.resource(kind, CART, client) for catalog in (world.catalog, replica))
            assert isinstance(one, Resource)
            assert isinstance(other, Resource)
            assert (one.version, one.body) == (other.version, other.body)
    assert world.catalog.newest(("shop", "cart")) == replica.newest(("shop", "cart"))


def test_a_snapshot_without_the_row_takes_it_once_its_cluster_is_known() -> None:
    world = exported("west")
    world.put(to_cart("west", to_import(), cookie="west-cookie"), cluster="west")
    rows = [
        Row(table, *parse_row_key(key), 0, value) for (table, key, _), value in world.rows.items()
        if (table, key) != ("routing", "west/shop/cart")
    ]  # fmt: skip
    catalog, seals = world.catalog, dict(world.catalog.seals)
    known = seals[0, "west"]
    catalog.replace(rows, {**seals, (0, "west"): _unlisted(known)})
    assert cookie(world, WEST) == "west"
    changes = catalog.apply([], known, 0)
    assert CART in changes["shop", "cart"].names
    assert cookie(world, WEST) == ""
    catalog.replace(rows, seals)
    assert cookie(world, WEST) == ""


def test_what_is_lost_of_a_cluster_keeps_what_its_routes_asked_for() -> None:
    world = exported("west")
    world.put(to_cart("west", to_import(), cookie="west-cookie"), cluster="west")
    value = world.rows["routing", "west/shop/cart", ""]
    unknown = value.replace(b'"state":"empty"', b'"state":"unknown"').replace(b'"sessionPersistence":{', b'"none":{')
    unknown = unknown.replace(b'"none":{', b'"sessionPersistence":null,"none":{')
    assert unknown != value
    row = Row("routing", "west", "shop", "cart", 0, unknown)
    world.catalog.apply([row], world.catalog.seals[0, "west"], 0)
    assert cookie(world, WEST) == "west"


def _unlisted(seal: Any) -> Any:
    return msgspec.structs.replace(seal, frontier={})
