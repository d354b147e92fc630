"""ClusterLoadAssignments: the endpoint set of one Service port, for a client in some zone and on some node."""

from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from envoy.config.core.v3 import address_pb2, base_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from streams.facets.parsed_rows import FrontendFacet
from streams.serve.xds.build.decision import Decision
from streams.serve.xds.build.service import Facets, Service
from streams.wire.records import Group, ServicePort, SliceEndpoint

HEALTHY = health_check_pb2.HEALTHY
UNHEALTHY = health_check_pb2.UNHEALTHY
DRAINING = health_check_pb2.DRAINING

_OVERPROVISIONING = 100_000
"""In percent. Envoy moves load to the next priority if fewer than 100/factor of a priority's endpoints are healthy, and
counts draining ones as unhealthy: at its default of 140 a rolling update would spill into other zones (istio #54711).
Kubernetes prefers a zone as long as it has one ready endpoint."""


class Place(NamedTuple):
    """Where a client says that it is; empty if it doesn't say."""

    zone: str = ""
    node: str = ""


class Endpoint(NamedTuple):
    """An endpoint of one Service port. `others` are the same Pod's addresses of the other family; `source` is the
    endpoint in the row."""

    cluster: str
    address: str
    port: int
    others: tuple[tuple[str, int], ...]
    health: int
    source: SliceEndpoint


def has_known_endpoints(service: Service) -> bool:
    """Whether the endpoint set is known. It is not if it is empty only because a cluster's endpoints are unknown."""
    present = [facets for facets in service.clusters if facets.frontend is not None]
    if any(facets.backend is not None and facets.backend.state != "empty" for facets in present):
        return True
    return all(facets.backend is not None for facets in present)


def place_matters(service: Service, decision: Decision) -> bool:
    """Whether clients in different places get different assignments."""
    return decision.route == "endpoint" and any(
        facets.frontend is not None
        and (
            facets.frontend.traffic_distribution
            or facets.frontend.internal_traffic_policy == "Local"
            or _hinted(facets)
        )
        for facets in service.clusters
    )


def assignment(
    name: str, service: Service, number: int, decision: Decision, place: Place
) -> endpoint_pb2.ClusterLoadAssignment:
    """The endpoint set of a Service port. Routed by Service, it is the cluster IP of each cluster."""
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    message.policy.overprovisioning_factor.value = _OVERPROVISIONING
    if decision.route == "service":
        _add_locality(message, "", 0, list(_frontends(service, number)), by_size=False)
        return message
    ranked: dict[tuple[int, str], list[Endpoint]] = {}
    for facets in service.clusters:
        frontend = facets.frontend
        port = port_of(frontend, number)
        if frontend is None or port is None or facets.backend is None:
            continue
        endpoints = list(endpoints_of(facets, frontend, port))
        if frontend.internal_traffic_policy == "Local" and place.node:
            endpoints = [endpoint for endpoint in endpoints if endpoint.source.node == place.node]
        rank = _ranking(frontend, endpoints, place)
        for endpoint in endpoints:
            ranked.setdefault((rank(endpoint), endpoint.source.zone or ""), []).append(endpoint)
    # Priorities must have no holes (gRPC A27).
    dense = {level: i for i, level in enumerate(sorted({level for level, _ in ranked}))}
    for (level, zone), members in sorted(ranked.items()):
        # gRPC's ring hash multiplies an endpoint's weight by its locality's: all weights are 1 then.
        _add_locality(message, zone, dense[level], members, by_size=not sticks_by_hash(decision))
    return message


def sticks_by_hash(decision: Decision) -> bool:
    """Whether endpoints are chosen by a hash ring."""
    return decision.route == "endpoint" and decision.source_ip


def port_of(frontend: FrontendFacet | None, number: int) -> ServicePort | None:
    """The Service's TCP port of this number."""
    ports = frontend.ports if frontend else ()
    return next((port for port in ports if port.port == number and port.protocol == "TCP"), None)


def endpoints_of(facets: Facets, frontend: FrontendFacet, port: ServicePort) -> Iterator[Endpoint]:
    """The endpoints of a port, in the order of their addresses; one for each Pod, even if it has two families."""
    primary = frontend.ip_families[0] if frontend.ip_families else "IPv4"
    by_target: dict[str, list[tuple[str, str, int, SliceEndpoint]]] = {}
    for group, number in _groups_of(facets, port):
        for endpoint in group.endpoints:
            # Pods on the host's network share an address, but never a uid.
            key = (
                endpoint.target.uid
                if endpoint.target and endpoint.target.uid
                else f"{group.family}/{endpoint.address}/{number}"
            )
            by_target.setdefault(f"{key}/{number}", []).append((group.family, endpoint.address, number, endpoint))
    endpoints = []
    for same in by_target.values():
        same.sort(key=lambda entry: (entry[0] != primary, entry[0], entry[1]))
        _, address, number, source = same[0]
        others: list[tuple[str, int]] = []
        families = {same[0][0]}
        for family, other_address, other_port, _ in same[1:]:
            if family not in families:
                families.add(family)
                others.append((other_address, other_port))
        health = health_of(source, frontend.publish_not_ready_addresses)
        endpoints.append(Endpoint(facets.cluster, address, number, tuple(others), health, source))
        endpoints += [
            Endpoint(
                facets.cluster,
                other_address,
                other_port,
                (),
                health_of(endpoint, frontend.publish_not_ready_addresses),
                endpoint,
            )
            for family, other_address, other_port, endpoint in same[1:]
            if family == same[0][0]
        ]
    endpoints.sort(key=lambda endpoint: (endpoint.address, endpoint.port))
    if all(endpoint.health != HEALTHY for endpoint in endpoints):
        # KEP-1669: without a ready endpoint, traffic goes to those that still serve while they terminate.
        endpoints = [
            endpoint._replace(health=HEALTHY) if endpoint.health == DRAINING else endpoint for endpoint in endpoints
        ]
    yield from endpoints


def health_of(endpoint: SliceEndpoint, publish_not_ready: bool) -> int:
    """An endpoint's health from its conditions (discovery.k8s.io/v1 EndpointConditions)."""
    if endpoint.ready or (publish_not_ready and not endpoint.terminating):
        return int(HEALTHY)
    if endpoint.serving and endpoint.terminating:
        return int(DRAINING)
    return int(HEALTHY if publish_not_ready else UNHEALTHY)


def _groups_of(facets: Facets, port: ServicePort) -> Iterator[tuple[Group, int]]:
    """The groups that have the Service port (by its name), with the endpoints' own port number."""
    for group in facets.backend.groups if facets.backend else ():
        # An FQDN can't be an EDS endpoint; the API deprecates it.
        if group.family == "FQDN":
            continue
        for endpoint_port in group.ports:
            if endpoint_port.name == port.name and endpoint_port.protocol == port.protocol and endpoint_port.port:
                yield group, endpoint_port.port


def _ranking(frontend: FrontendFacet, endpoints: Iterable[Endpoint], place: Place) -> Callable[[Endpoint], int]:
    """A function that gives an endpoint's priority for a client in this place; 0 is tried first. Hints count if every
    usable endpoint has one, as in kube-proxy (KEP-2433, KEP-3015); otherwise the endpoints' own zone and node do, if
    the Service asks for it."""
    usable = [endpoint for endpoint in endpoints if endpoint.health == HEALTHY]
    zones = (
        bool(usable)
        and bool(place.zone)
        and all(endpoint.source.hints and endpoint.source.hints.zones for endpoint in usable)
    )
    nodes = (
        bool(usable)
        and bool(place.node)
        and all(endpoint.source.hints and endpoint.source.hints.nodes for endpoint in usable)
    )
    distribution = frontend.traffic_distribution
    near_node = bool(place.node) and distribution == "PreferSameNode" and not nodes
    near_zone = bool(place.zone) and bool(distribution) and not zones

    def rank(endpoint: Endpoint) -> int:
        hints = endpoint.source.hints
        if (nodes and hints and place.node in hints.nodes) or (near_node and endpoint.source.node == place.node):
            return 0
        if (zones and hints and place.zone in hints.zones) or (near_zone and endpoint.source.zone == place.zone):
            return 1
        return 2

    return rank


def _hinted(facets: Facets) -> bool:
    groups = facets.backend.groups if facets.backend else ()
    return any(endpoint.hints for group in groups for endpoint in group.endpoints)


def _frontends(service: Service, number: int) -> Iterator[Endpoint]:
    for facets in service.clusters:
        frontend = facets.frontend
        if frontend is not None and frontend.cluster_ips and port_of(frontend, number):
            first, *others = frontend.cluster_ips
            source = SliceEndpoint(first, True, True, False, None, None, None, None)
            yield Endpoint(facets.cluster, first, number, tuple((other, number) for other in others), HEALTHY, source)


def _add_locality(
    message: endpoint_pb2.ClusterLoadAssignment, zone: str, priority: int, members: list[Endpoint], *, by_size: bool
) -> None:
    if not members:
        return
    locality = message.endpoints.add(priority=priority)
    locality.locality.zone = zone
    # gRPC leaves out localities without weight (A27); by size, each endpoint gets the same share.
    healthy = sum(endpoint.health == HEALTHY for endpoint in members)
    locality.load_balancing_weight.value = max(1, healthy) if by_size else 1
    for endpoint in members:
        locality.lb_endpoints.append(_endpoint(endpoint))


def _endpoint(endpoint: Endpoint) -> endpoint_components_pb2.LbEndpoint:
    message = endpoint_components_pb2.LbEndpoint(health_status=endpoint.health)
    message.endpoint.address.CopyFrom(socket_address(endpoint.address, endpoint.port))
    for address, port in endpoint.others:
        message.endpoint.additional_addresses.add().address.CopyFrom(socket_address(address, port))
    fields = message.metadata.filter_metadata["facets"].fields
    fields["cluster"].string_value = endpoint.cluster
    if endpoint.source.target is not None:
        fields["target"].string_value = f"{endpoint.source.target.kind}/{endpoint.source.target.name}"
    return message


def socket_address(host: str, port: int) -> address_pb2.Address:
    """An address in xDS; IPv6 in its shortest form, so that one address is one text."""
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=str(ip_address(host)), port_value=port))


def locality_of(node: base_pb2.Node) -> Place:
    """A client's place: its locality's zone, and its node's name in the metadata (`node`, or Istio's NODE_NAME)."""
    fields = node.metadata.fields
    name = next((fields[key].string_value for key in ("node", "NODE_NAME") if key in fields), "")
    return Place(node.locality.zone, name)
