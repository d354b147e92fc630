"""What a Service's rows become in xDS: clusters, endpoint sets, listeners and routes."""

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.http.stateful_session.cookie.v3 import cookie_pb2

from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.resource import Absence, Resource
from streams.serve.xds.build.resources import STATEFUL_SESSION
from streams.subscription.rows import Row
from tests.support.routes import annotated, route, rule, to_service
from tests.unit.xds.world import CART, World, endpoint, service, slice_of, summary

COOKIE = {
    "type": "Cookie",
    "sessionName": "cart-session",
    "cookieConfig": {"lifetimeType": "Permanent"},
    "absoluteTimeout": "1h30m",
}


def test_the_endpoint_set_has_each_endpoint_with_its_health_and_zone() -> None:
    world = World()
    world.put(
        service(),
        slice_of(
            endpoint("10.1.0.1", zone="z1"),
            endpoint("10.1.0.2", zone="z2", ready=False, serving=True, terminating=True),
            endpoint("10.1.0.3", zone="z2", ready=False, serving=False),
        ),
    )
    assert summary(world.get("eds")) == {
        "10.1.0.1:8080": (0, "z1", "HEALTHY"),
        "10.1.0.2:8080": (0, "z2", "DRAINING"),
        "10.1.0.3:8080": (0, "z2", "UNHEALTHY"),
    }
    first = world.get("eds").endpoints[0].lb_endpoints[0]
    assert first.metadata.filter_metadata["facets"]["cluster"] == "east"
    assert world.get("cds").type == cluster_pb2.Cluster.EDS
    assert world.get("cds").eds_cluster_config.service_name == ""


def test_with_no_ready_endpoint_left_those_that_terminate_still_serve() -> None:
    world = World()
    world.put(
        service(),
        slice_of(
            endpoint("10.1.0.2", ready=False, serving=True, terminating=True),
            endpoint("10.1.0.3", ready=False, serving=False, terminating=True),
        ),
    )
    assert {health for *_, health in summary(world.get("eds")).values()} == {"HEALTHY", "UNHEALTHY"}


def test_not_ready_addresses_are_healthy_where_the_service_publishes_them() -> None:
    world = World()
    world.put(service(publishNotReadyAddresses=True), slice_of(endpoint("10.1.0.1", ready=False)))
    assert summary(world.get("eds")) == {"10.1.0.1:8080": (0, "", "HEALTHY")}


def test_ports_are_matched_by_name() -> None:
    world = World()
    ports = [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]
    own = [{"name": "admin", "port": 9000, "protocol": "TCP"}, {"name": "http", "port": 8080, "protocol": "TCP"}]
    world.put(service(ports=ports), slice_of(endpoint("10.1.0.1"), ports=own))
    assert set(world.catalog.names("cds")) == {CART, "cart.shop.svc.cluster.local:81"}
    assert list(summary(world.get("eds"))) == ["10.1.0.1:8080"]
    assert list(summary(world.get("eds", "cart.shop.svc.cluster.local:81"))) == ["10.1.0.1:9000"]


def test_a_pod_with_two_families_is_one_endpoint_with_two_addresses() -> None:
    world = World()
    pod = {"targetRef": {"kind": "Pod", "name": "cart-1", "namespace": "shop", "uid": "pod-1"}}
    world.put(
        service(clusterIP="10.96.0.7", clusterIPs=["10.96.0.7", "fd00::7"], ipFamilies=["IPv4", "IPv6"]),
        slice_of(endpoint("fd00::1", **pod), name="cart-6", addressType="IPv6"),
        slice_of(endpoint("10.1.0.1", **pod), name="cart-4"),
    )
    (each,) = world.get("eds").endpoints[0].lb_endpoints
    assert each.endpoint.address.socket_address.address == "10.1.0.1"
    assert [other.address.socket_address.address for other in each.endpoint.additional_addresses] == ["fd00::1"]


def test_a_set_known_to_be_empty_is_sent_and_an_unknown_one_is_not() -> None:
    world = World()
    world.put(service())
    assert summary(world.get("eds")) == {}
    assert world.get("eds", "other.shop.svc.cluster.local:80") is Absence.MISSING
    waiting = World(complete=False)
    assert waiting.get("eds") is Absence.UNKNOWN
    assert waiting.get("cds") is Absence.UNKNOWN


def test_a_stale_clusters_endpoints_are_kept() -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.1")))
    before = world.version("eds")
    rows = world.rows["backend", "east/shop/cart", ""].replace(b'"state":"ready"', b'"state":"stale"')
    world.rows["backend", "east/shop/cart", ""] = rows
    found = world.replica().resource("eds", CART, Client())
    assert not isinstance(found, Absence)
    assert found.version == before


def test_what_becomes_unknown_keeps_what_was_known() -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.1")))
    before = world.version("eds")
    from streams.subscription.rows import Row

    for table in ("frontend", "backend"):
        value = world.rows[table, "east/shop/cart", ""].replace(b'"state":"ready"', b'"state":"unknown"')
        seal = next(iter(world.catalog.seals.values()))
        world.catalog.apply([Row(table, "east", "shop", "cart", 99, value)], seal, 0)
        world.rows[table, "east/shop/cart", ""] = value
    assert world.version("eds") == before
    found = world.replica().resource("eds", CART, Client())
    assert found is Absence.MISSING or found is Absence.UNKNOWN


def test_priority_by_zone_where_the_service_asks_for_it_and_the_client_is_placed() -> None:
    world = World()
    world.put(
        service(trafficDistribution="PreferClose"),
        slice_of(endpoint("10.1.0.1", zone="z1"), endpoint("10.1.0.2", zone="z2")),
    )
    nowhere = {"10.1.0.1:8080": (0, "z1", "HEALTHY"), "10.1.0.2:8080": (0, "z2", "HEALTHY")}
    assert summary(world.get("eds")) == nowhere
    in_z2 = world.get("eds", client=Client(Place("z2")))
    assert summary(in_z2) == {"10.1.0.1:8080": (1, "z1", "HEALTHY"), "10.1.0.2:8080": (0, "z2", "HEALTHY")}
    assert summary(world.get("eds", client=Client(Place("z9")))) == nowhere


def test_priority_by_node_then_zone() -> None:
    world = World()
    world.put(
        service(trafficDistribution="PreferSameNode"),
        slice_of(
            endpoint("10.1.0.1", zone="z1", nodeName="n1"),
            endpoint("10.1.0.2", zone="z1", nodeName="n2"),
            endpoint("10.1.0.3", zone="z2", nodeName="n3"),
        ),
    )
    found = summary(world.get("eds", client=Client(Place("z1", "n2"))))
    assert {address: priority for address, (priority, *_) in found.items()} == {
        "10.1.0.2:8080": 0, "10.1.0.1:8080": 1, "10.1.0.3:8080": 2,
    }  # fmt: skip


def test_hints_count_when_every_usable_endpoint_has_one() -> None:
    world = World()
    hinted = {"hints": {"forZones": [{"name": "z1"}]}}
    world.put(service(), slice_of(endpoint("10.1.0.1", zone="z2", **hinted), endpoint("10.1.0.2", zone="z1", **hinted)))
    client = Client(Place("z1"))
    assert {priority for priority, *_ in summary(world.get("eds", client=client)).values()} == {0}
    other = {"hints": {"forZones": [{"name": "z2"}]}}
    world.put(slice_of(endpoint("10.1.0.1", zone="z2", **hinted), endpoint("10.1.0.2", zone="z1", **other)))
    assert summary(world.get("eds", client=client))["10.1.0.1:8080"][0] == 0
    assert summary(world.get("eds", client=client))["10.1.0.2:8080"][0] == 1
    world.put(slice_of(endpoint("10.1.0.1", zone="z2", **hinted), endpoint("10.1.0.2", zone="z1")))
    assert {priority for priority, *_ in summary(world.get("eds", client=client)).values()} == {0}


def test_internal_traffic_policy_local_keeps_to_the_clients_node() -> None:
    world = World()
    world.put(
        service(internalTrafficPolicy="Local"),
        slice_of(endpoint("10.1.0.1", nodeName="n1"), endpoint("10.1.0.2", nodeName="n2")),
    )
    assert list(summary(world.get("eds", client=Client(Place("", "n2"))))) == ["10.1.0.2:8080"]
    assert len(summary(world.get("eds"))) == 2


def test_service_routing_is_a_set_of_the_cluster_ip_in_the_same_cluster() -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.1")))
    by_endpoint = world.get("cds")
    world.put(annotated(service(), gateway="service"))
    gateway = Client(traffic="gateway")
    assert list(summary(world.get("eds", client=gateway))) == ["10.96.0.7:80"]
    assert list(summary(world.get("eds"))) == ["10.1.0.1:8080"]
    by_service = world.get("cds", client=gateway)
    assert (by_service.name, by_service.type) == (by_endpoint.name, by_endpoint.type)


def test_client_ip_affinity_is_a_hash_ring_on_the_source_address() -> None:
    world = World()
    world.put(service(sessionAffinity="ClientIP"), slice_of(endpoint("10.1.0.1")))
    assert world.get("cds").lb_policy == cluster_pb2.Cluster.RING_HASH
    route = world.get("rds").virtual_hosts[0].routes[0].route
    assert route.hash_policy[0].connection_properties.source_ip
    assert route.cluster == CART


def test_session_persistence_is_a_stateful_session() -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.1")))
    world.put(route("cart", [to_service()], [rule("cart", persistence=COOKIE)]))
    assert 3 in world.get("cds").common_lb_config.override_host_status.statuses
    per_route = stateful_session_pb2.StatefulSessionPerRoute()
    assert world.get("rds").virtual_hosts[0].routes[0].typed_per_filter_config[STATEFUL_SESSION].Unpack(per_route)
    cookie = cookie_pb2.CookieBasedSessionState()
    assert per_route.stateful_session.session_state.typed_config.Unpack(cookie)
    assert (cookie.cookie.name, cookie.cookie.ttl.seconds) == ("cart-session", 5400)
    manager = http_connection_manager_pb2.HttpConnectionManager()
    assert world.get("lds").api_listener.api_listener.Unpack(manager)
    assert [each.name for each in manager.http_filters] == [STATEFUL_SESSION, "envoy.filters.http.router"]
    assert manager.rds.route_config_name == CART


def test_external_name_is_resolved_by_dns() -> None:
    world = World()
    spec: dict[str, Any] = {"type": "ExternalName", "externalName": "cart.example.com", "clusterIP": ""}
    world.put(service(**spec))
    made = world.get("cds")
    assert made.type == cluster_pb2.Cluster.LOGICAL_DNS
    address = made.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address
    assert (address.address, address.port_value) == ("cart.example.com", 80)
    assert world.get("eds") is Absence.MISSING


def test_headless_services_have_their_endpoints() -> None:
    world = World()
    headless = annotated(service(clusterIP="None"), gateway="service", mesh="service")
    world.put(headless, slice_of(endpoint("10.1.0.1")))
    assert list(summary(world.get("eds"))) == ["10.1.0.1:8080"]


def test_http2_where_the_port_says_so() -> None:
    world = World()
    world.put(service(ports=[{"name": "http", "port": 80, "appProtocol": "kubernetes.io/h2c"}]))
    assert len(world.get("cds").typed_extension_protocol_options) == 1


def test_versions_follow_from_the_rows_alone() -> None:
    world = World("east", "west")
    world.put(service(), slice_of(endpoint("10.1.0.1")))
    world.put(service(), slice_of(endpoint("10.2.0.1")), cluster="west")
    world.drop(service(), slice_of(), cluster="west")
    world.put(slice_of(endpoint("10.1.0.1"), endpoint("10.1.0.2")))
    other = world.replica()
    for kind in ("cds", "eds", "lds", "rds"):
        here, there = (catalog.resource(kind, CART, Client()) for catalog in (world.catalog, other))
        assert isinstance(here, Resource)
        assert isinstance(there, Resource)
        assert (here.name, here.version, here.body) == (there.name, there.version, there.body), kind
    before = world.version("cds"), world.version("eds")
    world.put(slice_of(endpoint("10.1.0.3")))
    assert world.version("cds") == before[0]
    assert world.version("eds") != before[1]


def test_a_snapshot_replaces_but_keeps_what_it_can_not_know() -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.1")))
    before = world.version("eds")
    assert world.catalog.replace([], {})["shop", "cart"].names == {CART}
    assert world.version("eds") == before
    world.catalog.replace([], World().catalog.seals)
    assert world.get("eds") is Absence.MISSING


def test_of_a_service_that_is_gone_a_route_that_names_it_keeps_nothing() -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.1")), route("cart", [to_service()], [rule("cart")]))
    later = World()
    later.put(route("cart", [to_service()], [rule("cart")]))
    rows = [Row(table, *key.split("/"), 0, value) for (table, key, _), value in later.rows.items()]
    assert {(row.table, row.name) for row in rows} == {("routing", "cart")}
    assert world.catalog.replace(rows, later.catalog.seals)["shop", "cart"].names == {CART}
    assert world.get("cds") is Absence.MISSING
    assert list(world.catalog.services()) == []
