"""Names of the clusterset: what they have, of which clusters, and when nothing of them is known."""

from typing import Any

import pytest

from streams.serve.xds.build import assignment
from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.resource import Absence, Resource
from streams.subscription.rows import Row
from streams.wire.keys import parse_row_key
from tests.unit.xds.world import EXPORTED_CART as CART
from tests.unit.xds.world import World, endpoint, exported_cart, owners, service, slice_of, summary

EAST, WEST = (Client(Place(cluster=name)) for name in ("east", "west"))
TERMINATING = {"ready": False, "serving": True, "terminating": True}


def export(day: int = 24) -> dict[str, Any]:
    """A ServiceExport; the older one has precedence."""
    return exported_cart(f"2026-11-{day}T12:00:00Z")


def exported(*clusters: str, **spec: Any) -> World:
    """Clusters that all export a Service, with an endpoint of their own."""
    world = World(*clusters)
    for number, cluster in enumerate(clusters, 1):
        world.put(service(**spec), slice_of(endpoint(f"10.{number}.0.1")), export(20 + number), cluster=cluster)
    return world


# ---- exporting --------------------------------------------------------------------------------------------


def test_a_name_has_the_endpoints_of_those_that_export_and_of_no_others() -> None:
    world = World("east", "west", "north")
    for number, cluster in enumerate(("east", "west", "north"), 1):
        world.put(service(), slice_of(endpoint(f"10.{number}.0.1")), cluster=cluster)
    assert world.get("eds", CART) is Absence.MISSING
    assert CART not in world.catalog.names("cds")
    assert world.put(export(), cluster="east") == {CART}
    assert owners(world) == owners(world, WEST) == {"10.1.0.1": "east"}
    world.put(export(), cluster="west")
    assert owners(world) == {"10.1.0.1": "east", "10.2.0.1": "west"}
    assert CART in world.catalog.names("cds")
    for kind in ("cds", "lds", "rds"):
        assert isinstance(world.catalog.resource(kind, CART, WEST), Resource)
    assert CART not in world.catalog.names("lds")


def test_an_unexport_takes_the_clusters_endpoints_and_the_last_one_the_names() -> None:
    world = exported("east", "west")
    assert world.drop(export(), cluster="east") == {CART}
    assert owners(world) == {"10.2.0.1": "west"}
    assert world.drop(export(), cluster="west") == {CART}
    assert {world.get(kind, CART) for kind in ("cds", "eds", "lds", "rds")} == {Absence.MISSING}
    assert CART not in world.catalog.names("cds")
    assert world.get("eds", "nothing.shop.svc.clusterset.local:80") is Absence.MISSING


def test_what_changes_in_a_cluster_that_does_not_export_changes_nothing() -> None:
    world = exported("east")
    world.start("west", service(), slice_of(endpoint("10.2.0.1")))
    before = world.version("eds", CART)
    assert CART not in world.put(slice_of(endpoint("10.2.0.2")), cluster="west")
    assert world.version("eds", CART) == before


def test_the_other_servers_resources_are_the_same() -> None:
    world = exported("east", "west")
    for kind in ("cds", "eds", "lds", "rds"):
        one, other = (catalog.resource(kind, CART, WEST) for catalog in (world.catalog, world.replica()))
        assert isinstance(one, Resource)
        assert isinstance(other, Resource)
        assert (one.version, one.body) == (other.version, other.body)


# ---- properties -------------------------------------------------------------------------------------------


def test_a_port_is_that_of_the_set_and_has_the_clusters_that_expose_it() -> None:
    world = World("east", "west")
    world.put(service(), slice_of(endpoint("10.1.0.1")), export(20))
    ports = [{"name": "http", "port": 8000}, {"name": "admin", "port": 81}]
    own = [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "admin", "port": 9081, "protocol": "TCP"}]
    world.put(service(ports=ports), slice_of(endpoint("10.2.0.1"), ports=own), export(21), cluster="west")
    assert owners(world) == {"10.1.0.1": "east", "10.2.0.1": "west"}
    assert list(summary(world.get("eds", CART.replace(":80", ":81")))) == ["10.2.0.1:9081"]
    assert world.get("eds", CART.replace(":80", ":8000")) is Absence.MISSING


def test_a_port_that_clusters_name_differently_has_the_endpoints_of_each() -> None:
    world = World("east", "west")
    world.put(service(), slice_of(endpoint("10.1.0.1")), export(20))
    own = [{"name": "web", "port": 8080, "protocol": "TCP"}]
    world.put(
        service(ports=[{"name": "web", "port": 80}]), slice_of(endpoint("10.2.0.1"), ports=own), export(21),
        cluster="west",
    )  # fmt: skip
    assert owners(world) == {"10.1.0.1": "east", "10.2.0.1": "west"}


@pytest.mark.parametrize(("spec", "reason"), [({}, "NoClusterSetIP"), ({"clusterIP": "None"}, "Headless")])
def test_nobody_has_a_cluster_set_ip_so_clients_go_to_the_endpoints(spec: dict[str, Any], reason: str) -> None:
    world = exported("east", **spec)
    metadata = world.get("cds", CART).metadata.filter_metadata["facets"]
    assert (metadata["routing"], metadata["reason"]) == ("endpoint", reason)


def test_the_oldest_exports_properties_hold_for_all() -> None:
    world = World("east", "west")
    world.put(service(internalTrafficPolicy="Local"), slice_of(endpoint("10.1.0.1", nodeName="n1")), export(20))
    world.put(
        service(sessionAffinity="ClientIP"), slice_of(endpoint("10.2.0.1", nodeName="n1")), export(21), cluster="west"
    )
    assert owners(world, Client(Place(node="n1", cluster="west"))) == {"10.2.0.1": "west"}
    assert world.get("cds", CART).lb_policy == 0
    world.put(export(19), cluster="west")
    assert len(owners(world, Client(Place(node="n1", cluster="west")))) == 2
    assert world.get("cds", CART).lb_policy == 2


def test_what_terminates_is_used_when_no_cluster_has_anything_else() -> None:
    world = exported("east", "west")
    world.put(slice_of(endpoint("10.1.0.1", **TERMINATING)))
    assert [health for *_, health in summary(world.get("eds", CART)).values()] == ["DRAINING", "HEALTHY"]
    world.put(slice_of(endpoint("10.2.0.1", ready=False, serving=False)), cluster="west")
    assert [health for *_, health in summary(world.get("eds", CART)).values()] == ["HEALTHY", "UNHEALTHY"]


def test_an_address_of_several_clusters_is_the_clients_own_else_the_oldest_exports() -> None:
    world = World("east", "west")
    world.put(service(), slice_of(endpoint("10.1.0.1")), export(21))
    world.put(service(), slice_of(endpoint("10.1.0.1")), export(20), cluster="west")
    assert owners(world) == owners(world, WEST) == {"10.1.0.1": "west"}
    assert owners(world, EAST) == {"10.1.0.1": "east"}
    assert list(world.catalog.shared_addresses()) == [(CART, ("10.1.0.1", 8080), ("west", "east"))]


def test_udp_is_served_under_a_name_of_its_own() -> None:
    udp, tcp = {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}
    world = World()
    world.put(service(ports=[udp, tcp]), slice_of(endpoint("10.1.0.1"), ports=[udp, tcp]), export())
    name = "cart.shop.svc.clusterset.local:53/udp"
    assert list(summary(world.get("eds", name))) == ["10.1.0.1:53"]
    assert world.get("eds", name, Client(grpc=True)) is Absence.MISSING


# ---- what is known ----------------------------------------------------------------------------------------


def test_a_set_is_not_empty_and_not_missing_while_a_cluster_is_not_known() -> None:
    world = World("east")
    world.start("west", complete=False)
    assert world.get("eds", CART) is Absence.UNKNOWN
    world.put(service(), slice_of(), export())
    assert world.get("eds", CART) is Absence.UNKNOWN
    world.put(slice_of(endpoint("10.1.0.1")))
    assert owners(world) == {"10.1.0.1": "east"}
    world.put(slice_of())
    world.start("west")
    assert owners(world) == {}


BAD_SERVICE = service(ports=[{"name": "http", "port": "eighty"}])


def test_an_export_of_what_can_not_be_read_is_neither_missing_nor_empty() -> None:
    world = World("east", "west")
    world.put(export(), BAD_SERVICE)
    assert world.get("eds", CART) is Absence.UNKNOWN
    before = world.catalog.known
    world.put(service(), slice_of())
    assert world.catalog.known != before
    assert owners(world) == {}
    world.put(export(), BAD_SERVICE, cluster="west")
    assert world.get("eds", CART) is Absence.UNKNOWN


def test_a_contribution_that_is_no_longer_known_keeps_its_endpoints() -> None:
    world = exported("east", "west")
    rows = []
    for (table, key, _), value in world.rows.items():
        lost = table == "clusterset" and key.startswith("east/")
        text = value.replace(b'"state":"ready","reason":""', b'"state":"unknown","reason":"Lost"') if lost else value
        rows.append(Row(table, *parse_row_key(key), 0, text))
    world.catalog.replace(rows, world.catalog.seals)
    assert owners(world) == {"10.1.0.1": "east", "10.2.0.1": "west"}
    fresh = Catalog(1)
    fresh.replace(rows, world.catalog.seals)
    world.catalog = fresh
    assert owners(world) == {"10.2.0.1": "west"}


def test_a_snapshot_without_the_set_removes_it_once_all_clusters_are_known() -> None:
    world = exported("east", "west")
    catalog, seals = world.catalog, dict(world.catalog.seals)
    catalog.replace([], {(0, "east"): seals[0, "east"]})
    assert world.get("eds", CART) is Absence.MISSING
    world = exported("east", "west")
    seal = world.catalog.seals[0, "west"]
    unfinished = type(seal)(**{name: getattr(seal, name) for name in seal.__struct_fields__} | {"frontier": {}})
    world.catalog.replace([], {(0, "east"): world.catalog.seals[0, "east"], (0, "west"): unfinished})
    assert owners(world) == {"10.1.0.1": "east", "10.2.0.1": "west"}
    (change,) = world.catalog.apply((), seal, 0).values()
    assert CART in change.by_cluster[""]
    assert world.get("eds", CART) is Absence.MISSING


def test_a_server_without_the_clustersets_table_does_not_know_of_any_set() -> None:
    world = exported("east")
    catalog = Catalog(1, follows_sets=False)
    catalog.replace([], world.catalog.seals)
    assert catalog.resource("cds", CART, EAST) is Absence.UNKNOWN
    assert catalog.resource("cds", "cart.shop.svc.cluster.local:80", EAST) is Absence.MISSING


def test_a_cluster_that_has_the_clustersets_domain_does_not_get_its_names() -> None:
    world = World()
    world.put(service())
    rows = [
        Row(table, *parse_row_key(key), 0, value.replace(b"svc.cluster.local", b"svc.clusterset.local"))
        for (table, key, _), value in world.rows.items()
    ]
    world.catalog.replace(rows, world.catalog.seals)
    assert list(world.catalog.names("cds")) == []
    assert world.get("cds", CART) is Absence.MISSING


# ---- what a change costs ------------------------------------------------------------------------------------


def test_a_change_in_one_cluster_encodes_the_endpoints_of_this_one_only(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    real = assignment._endpoint

    def encode(each: Any, transport: Any) -> Any:
        encoded.append(each.addresses[0][0])
        return real(each, transport)

    monkeypatch.setattr(assignment, "_endpoint", encode)
    world = exported("east", "west", "north")
    assert owners(world) == {"10.1.0.1": "east", "10.2.0.1": "west", "10.3.0.1": "north"}
    encoded.clear()
    world.put(slice_of(endpoint("10.2.0.2"), endpoint("10.2.0.3")), cluster="west")
    assert set(owners(world)) == {"10.1.0.1", "10.2.0.2", "10.2.0.3", "10.3.0.1"}
    assert encoded == ["10.2.0.2", "10.2.0.3"]
    # Of one address only one cluster has it: then the set is built as a whole.
    world.put(slice_of(endpoint("10.1.0.1")), cluster="west")
    assert owners(world, WEST) == {"10.1.0.1": "west", "10.3.0.1": "north"}
