"""UDP ports are Envoy's: gRPC has no use for them. SCTP is served to neither."""

import pytest
from envoy.config.core.v3.address_pb2 import SocketAddress

from streams.cli.output import RowPrinter
from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.names import Kind
from streams.serve.xds.build.resource import Absence
from streams.wire.records import decode_row
from tests.unit.xds.world import World, endpoint, exported_cart, service, slice_of

DNS = "cart.shop.svc.cluster.local:53"
METRICS = "cart.shop.svc.cluster.local:9153"
ENVOY, GRPC = Client(), Client(grpc=True)
OWN_PORTS = [
    {"name": "dns", "port": 5353, "protocol": "UDP"},
    {"name": "dns-tcp", "port": 5354, "protocol": "TCP"},
    {"name": "metrics", "port": 9153, "protocol": "TCP"},
    {"name": "calls", "port": 3868, "protocol": "SCTP"},
]
UDP, TCP = {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}
OTHER = {"name": "metrics", "port": 9153}


def world_with(*ports: dict[str, object], **spec: object) -> World:
    world = World()
    world.put(service(ports=list(ports), **spec), slice_of(endpoint("10.7.1.4"), ports=OWN_PORTS))
    return world


def sockets(world: World, name: str, client: Client = Client()) -> list[tuple[int, str]]:  # noqa: B008
    """Port numbers and protocols of an endpoint set."""
    load = world.get("eds", name, client)
    found = [entry.endpoint.address.socket_address for part in load.endpoints for entry in part.lb_endpoints]
    return [(socket.port_value, SocketAddress.Protocol.Name(socket.protocol)) for socket in found]


def test_a_udp_port_is_a_cluster_and_an_endpoint_set() -> None:
    world = world_with(UDP, OTHER)
    assert set(world.catalog.names("cds")) == {DNS, METRICS}
    assert sockets(world, DNS) == [(5353, "UDP")]
    assert sockets(world, METRICS) == [(9153, "TCP")]
    assert world.get("cds", DNS).name == DNS
    assert not world.get("cds", DNS).typed_extension_protocol_options


@pytest.mark.parametrize("kind", ["lds", "rds"])
def test_a_udp_port_has_no_routes(kind: Kind) -> None:
    assert world_with(UDP).get(kind, DNS, ENVOY) is Absence.MISSING


@pytest.mark.parametrize("kind", ["cds", "eds", "lds", "rds"])
def test_grpc_gets_tcp_ports_only(kind: Kind) -> None:
    world = world_with(UDP, OTHER)
    assert world.get(kind, DNS, GRPC) is Absence.MISSING
    assert not isinstance(world.get(kind, METRICS, GRPC), Absence)


def test_where_tcp_has_the_same_number_udp_has_a_name_of_its_own() -> None:
    # cilium/cilium#9207, kube-vip#859: TCP and UDP on port 53, with other target ports.
    world = world_with(UDP, TCP, OTHER)
    assert set(world.catalog.names("cds")) == {DNS, f"{DNS}/udp", METRICS}
    assert sockets(world, DNS) == [(5354, "TCP")]
    assert sockets(world, f"{DNS}/udp") == [(5353, "UDP")]
    assert world.get("eds", DNS, GRPC).cluster_name == DNS
    assert world.get("eds", f"{DNS}/udp", GRPC) is Absence.MISSING


def test_the_name_means_what_it_does_in_the_clients_cluster_and_is_tcps_in_the_set() -> None:
    world = World("east", "west")
    world.put(service(ports=[UDP]), slice_of(endpoint("10.7.1.4"), ports=OWN_PORTS), exported_cart())
    world.put(service(ports=[TCP]), slice_of(endpoint("10.8.1.4"), ports=OWN_PORTS), exported_cart(), cluster="west")
    east, west = (Client(Place(cluster=cluster)) for cluster in ("east", "west"))
    assert sockets(world, DNS, east) == [(5353, "UDP")]
    assert sockets(world, DNS, west) == [(5354, "TCP")]
    of_set = DNS.replace("cluster.local", "clusterset.local")
    assert sockets(world, of_set) == [(5354, "TCP")]
    assert sockets(world, f"{of_set}/udp") == [(5353, "UDP")]
    world.drop(service(), cluster="west")
    assert sockets(world, of_set) == [(5353, "UDP")]
    assert world.get("eds", f"{of_set}/udp") is Absence.MISSING


def test_an_external_names_udp_port_is_resolved_by_dns() -> None:
    world = world_with(UDP, type="ExternalName", externalName="dns.example.net.", clusterIP="")
    address = world.get("cds", DNS).load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address
    # A trailing dot stays: the name is rooted.
    assert (address.address, address.port_value) == ("dns.example.net.", 53)
    assert address.protocol == SocketAddress.UDP


def test_sctp_is_not_served_and_the_frontend_row_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    world = world_with({"name": "calls", "port": 3868, "protocol": "SCTP"}, OTHER)
    assert set(world.catalog.names("cds")) == {METRICS}
    assert world.get("cds", "cart.shop.svc.cluster.local:3868") is Absence.MISSING
    row = decode_row("frontend", world.rows["frontend", "east/shop/cart", ""])
    assert row["unserved"] == [{"name": "calls", "port": 3868, "protocol": "SCTP", "reason": "ProtocolNotServed"}]
    RowPrinter("frontend", "wide").print([row])
    assert "3868/SCTP(unserved),9153/TCP" in capsys.readouterr().out
    world.put(service(ports=[OTHER], selector={"protocol": "SCTP"}))
    assert "unserved" not in decode_row("frontend", world.rows["frontend", "east/shop/cart", ""])
