"""ClusterLoadAssignments: the endpoint set of one Service port as a message."""

from envoy.config.core.v3 import address_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from streams.serve.xds.build.client import Place
from streams.serve.xds.build.decision import Decision
from streams.serve.xds.build.endpoints import HEALTHY, Address, Endpoint, cluster_ips_of, endpoints_for
from streams.serve.xds.build.ports import PortId, Transport
from streams.serve.xds.build.ranking import ranking
from streams.serve.xds.build.service import Service

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
        _add_locality(message, ("", 0), members, port.transport, by_size=False)
        return message
    endpoints = endpoints_for(service, port, place)
    rank = ranking(service, endpoints, place)
    ranked: dict[tuple[int, str], list[Endpoint]] = {}
    for endpoint in endpoints:
        ranked.setdefault((rank(endpoint), endpoint.source.zone or ""), []).append(endpoint)
    # Priorities must have no holes (gRFC A27).
    dense = {level: i for i, level in enumerate(sorted({level for level, _ in ranked}))}
    for (level, zone), members in sorted(ranked.items()):
        # gRPC's ring hash multiplies an endpoint's weight by its locality's: all weights are 1 then.
        by_size = not sticks_by_hash(decision)
        _add_locality(message, (zone, dense[level]), members, port.transport, by_size=by_size)
    return message


def sticks_by_hash(decision: Decision) -> bool:
    """Whether endpoints are chosen by a hash ring."""
    return decision.route == "endpoint" and decision.source_ip


def _add_locality(
    message: endpoint_pb2.ClusterLoadAssignment,
    zone_and_priority: tuple[str, int],
    members: list[Endpoint],
    transport: Transport,
    *,
    by_size: bool,
) -> None:
    if not members:
        return
    zone, priority = zone_and_priority
    locality = message.endpoints.add(priority=priority)
    locality.locality.zone = zone
    # gRPC leaves out localities without weight (gRFC A27); by size, each endpoint gets the same share.
    healthy = sum(endpoint.health == HEALTHY for endpoint in members)
    locality.load_balancing_weight.value = max(1, healthy) if by_size else 1
    for endpoint in members:
        locality.lb_endpoints.append(_endpoint(endpoint, transport))


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
