"""ClusterLoadAssignments: the endpoint set of one Service port as a message."""

from typing import NamedTuple

from envoy.config.core.v3 import address_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from streams.serve.xds.build.client import Place
from streams.serve.xds.build.decision import Decision
from streams.serve.xds.build.endpoints import (
    HEALTHY,
    Address,
    Endpoint,
    cluster_ips_of,
    endpoints_for,
    endpoints_in,
    shared_addresses,
)
from streams.serve.xds.build.ports import PortId, Transport
from streams.serve.xds.build.ranking import ranking
from streams.serve.xds.build.service import Facets, Service

_OVERPROVISIONING = 100_000
"""In percent. Envoy moves load to the next priority if fewer than 100/factor of a priority's endpoints are healthy, and
counts draining ones as unhealthy: at its default of 140 a rolling update would spill into other zones (istio #54711).
Kubernetes prefers a zone as long as it has one ready endpoint."""

_PROTOCOLS = {"TCP": address_pb2.SocketAddress.TCP, "UDP": address_pb2.SocketAddress.UDP}


def assignment(
    name: str, service: Service, port: PortId, decision: Decision, place: Place
) -> endpoint_pb2.ClusterLoadAssignment:
    """The endpoint set of a Service port. Routed by Service, it is the cluster IP."""
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    message.policy.overprovisioning_factor.value = _OVERPROVISIONING
    if decision.route == "service":
        members = cluster_ips_of(service, port)
        _add_locality(message, ("", 0), members, port.transport, decision)
        return message
    endpoints = endpoints_for(service, port, place)
    rank = ranking(service, endpoints, place)
    ranked: dict[tuple[int, str], list[Endpoint]] = {}
    for endpoint in endpoints:
        ranked.setdefault((rank(endpoint), endpoint.source.zone or ""), []).append(endpoint)
    # Priorities must have no holes (gRFC A27).
    dense = {level: i for i, level in enumerate(sorted({level for level, _ in ranked}))}
    for (level, zone), members in sorted(ranked.items()):
        _add_locality(message, (zone, dense[level]), members, port.transport, decision)
    return message


def encoded_assignment(
    name: str, service: Service, port: PortId, decision: Decision, place: Place
) -> tuple[bytes, bool]:
    """The endpoint set of a Service port as it is sent, and whether it is empty."""
    if joined := _join(name, service, port, decision, place):
        return joined, False
    message = assignment(name, service, port, decision, place)
    return message.SerializeToString(deterministic=True), not message.endpoints


def _join(name: str, service: Service, port: PortId, decision: Decision, place: Place) -> bytes:
    """Fast path for a set that is the same for clients in all places: the parts of its clusters, joined as they are
    encoded; empty if the general path must be taken. It is when no two endpoints have one address, some endpoint is
    healthy, and no place is preferred."""
    locality = service.locality
    if decision.route != "endpoint" or place != Place() or locality is None or locality.prefer:
        return b""
    parts = [facets.derive(_encode_part, port) for facets in service.clusters]
    if not any(part.is_healthy for part in parts) or not all(
        endpoints_in(facets, port).is_distinct for facets in service.clusters
    ):
        return b""
    if shared_addresses(service, port):
        return b""
    localities = []
    for zone in sorted({zone for part in parts for zone in part.zones}):
        of_zone = [part.zones[zone] for part in parts if zone in part.zones]
        healthy = sum(each.healthy for each in of_zone)
        head, last = endpoint_components_pb2.LocalityLbEndpoints(), endpoint_components_pb2.LocalityLbEndpoints()
        head.locality.zone = zone
        last.load_balancing_weight.value = _locality_weight(decision, healthy)
        # Fields are in the order of their numbers: locality 1, lb_endpoints 2, load_balancing_weight 3.
        text = b"".join([head.SerializeToString(), *(each.text for each in of_zone), last.SerializeToString()])
        localities.append(_field_2(text))
    policy = endpoint_pb2.ClusterLoadAssignment()
    policy.policy.overprovisioning_factor.value = _OVERPROVISIONING
    # cluster_name is 1, endpoints 2, policy 4.
    named = endpoint_pb2.ClusterLoadAssignment(cluster_name=name).SerializeToString()
    return b"".join([named, *localities, policy.SerializeToString()])


class _Zone(NamedTuple):
    """A cluster's endpoints in a zone, encoded as the `lb_endpoints` of a locality, and how many are healthy."""

    text: bytes
    healthy: int


class _Part(NamedTuple):
    """A cluster's endpoints by zone."""

    zones: dict[str, _Zone]
    is_healthy: bool


def _encode_part(facets: Facets, port: PortId) -> _Part:
    by_zone: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints_in(facets, port).endpoints:
        by_zone.setdefault(endpoint.source.zone or "", []).append(endpoint)
    zones = {
        zone: _Zone(
            b"".join(
                _field_2(_endpoint(endpoint, port.transport).SerializeToString(deterministic=True))
                for endpoint in members
            ),
            sum(endpoint.health == HEALTHY for endpoint in members),
        )
        for zone, members in by_zone.items()
    }
    return _Part(zones, any(zone.healthy for zone in zones.values()))


def _field_2(text: bytes) -> bytes:
    """A message as the second field of another (Protocol Buffers, encoding: tag 2, wire type LEN)."""
    length, prefix = len(text), bytearray(b"\x12")
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + text


def sticks_by_hash(decision: Decision) -> bool:
    """Whether endpoints are chosen by a hash ring."""
    return decision.route == "endpoint" and decision.source_ip


def _add_locality(
    message: endpoint_pb2.ClusterLoadAssignment,
    zone_and_priority: tuple[str, int],
    members: list[Endpoint],
    transport: Transport,
    decision: Decision,
) -> None:
    if not members:
        return
    zone, priority = zone_and_priority
    locality = message.endpoints.add(priority=priority)
    locality.locality.zone = zone
    healthy = sum(endpoint.health == HEALTHY for endpoint in members)
    locality.load_balancing_weight.value = _locality_weight(decision, healthy)
    for endpoint in members:
        locality.lb_endpoints.append(_endpoint(endpoint, transport))


def _locality_weight(decision: Decision, healthy: int) -> int:
    """By size, so that each endpoint gets the same share; but gRPC's ring hash multiplies an endpoint's weight by its
    locality's: all weights are 1 then. gRPC leaves out localities without weight (gRFC A27)."""
    if decision.route == "service" or sticks_by_hash(decision):
        return 1
    return max(1, healthy)


def _endpoint(endpoint: Endpoint, transport: Transport) -> endpoint_components_pb2.LbEndpoint:
    message = endpoint_components_pb2.LbEndpoint(health_status=endpoint.health)
    first, *others = endpoint.addresses
    message.endpoint.address.CopyFrom(socket_address(first, transport))
    for address in others:
        message.endpoint.additional_addresses.add().address.CopyFrom(socket_address(address, transport))
    fields = message.metadata.filter_metadata["facets"].fields
    fields["cluster"].string_value = endpoint.cluster
    if endpoint.source.target is not None:
        fields["target"].string_value = f"{endpoint.source.target.kind}/{endpoint.source.target.name}"
    return message


def socket_address(address: Address, transport: Transport) -> address_pb2.Address:
    """An address in xDS."""
    host, number = address
    socket = address_pb2.SocketAddress(address=host, port_value=number, protocol=_PROTOCOLS[transport])
    return address_pb2.Address(socket_address=socket)
