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
"""In percent. Envoy moves load to the next priority when fewer than 100/factor of a priority's endpoints are healthy,
and counts draining ones as unhealthy: at its default of 140 a rolling update would spill into other zones
(istio #54711). Kubernetes prefers a zone as long as one endpoint of it is ready."""


class Place(NamedTuple):
    """Where a client says that it is; empty where it doesn't."""

    zone: str = ""
    node: str = ""


class Endpoint(NamedTuple):
    """An endpoint of one Service port. `others` are the same Pod's addresses of the other family."""

    cluster: str
    address: str
    port: int
    others: tuple[tuple[str, int], ...]
    health: int
    said: SliceEndpoint


def known(service: Service) -> bool:
    """Whether an endpoint set can be told. One that would be empty only because a cluster's is unknown is not."""
    there = [each for each in service.clusters if each.frontend is not None]
    if any(each.backend is not None and each.backend.state != "empty" for each in there):
        return True
    return all(each.backend is not None for each in there)


def place_matters(service: Service, decision: Decision) -> bool:
    """Whether clients in different places get different assignments."""
    return decision.route == "endpoint" and any(
        each.frontend is not None
        and (each.frontend.traffic_distribution or each.frontend.internal_traffic_policy == "Local" or _hinted(each))
        for each in service.clusters
    )


def assignment(
    name: str, service: Service, number: int, decision: Decision, place: Place
) -> endpoint_pb2.ClusterLoadAssignment:
    """The endpoint set of a Service port. With routing by Service it is the cluster IP of each cluster."""
    made = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    made.policy.overprovisioning_factor.value = _OVERPROVISIONING
    if decision.route == "service":
        _add_locality(made, "", 0, list(_frontends(service, number)), by_size=False)
        return made
    ranked: dict[tuple[int, str], list[Endpoint]] = {}
    for facets in service.clusters:
        frontend = facets.frontend
        port = port_of(frontend, number)
        if frontend is None or port is None or facets.backend is None:
            continue
        found = list(endpoints_of(facets, frontend, port))
        if frontend.internal_traffic_policy == "Local" and place.node:
            found = [each for each in found if each.said.node == place.node]
        rank = _ranking(frontend, found, place)
        for each in found:
            ranked.setdefault((rank(each), each.said.zone or ""), []).append(each)
    # Priorities must have no holes (gRPC A27).
    dense = {level: i for i, level in enumerate(sorted({level for level, _ in ranked}))}
    for (level, zone), members in sorted(ranked.items()):
        # gRPC's ring hash multiplies an endpoint's weight by its locality's: there each endpoint weighs the same.
        _add_locality(made, zone, dense[level], members, by_size=not sticks_by_hash(decision))
    return made


def sticks_by_hash(decision: Decision) -> bool:
    """Whether endpoints are chosen by a hash ring."""
    return decision.route == "endpoint" and decision.source_ip


def port_of(frontend: FrontendFacet | None, number: int) -> ServicePort | None:
    """The Service's TCP port of this number."""
    ports = frontend.ports if frontend else ()
    return next((each for each in ports if each.port == number and each.protocol == "TCP"), None)


def endpoints_of(facets: Facets, frontend: FrontendFacet, port: ServicePort) -> Iterator[Endpoint]:
    """The endpoints of a port, in the order of their addresses; one for each Pod, also where it has two families."""
    primary = frontend.ip_families[0] if frontend.ip_families else "IPv4"
    by_target: dict[str, list[tuple[str, str, int, SliceEndpoint]]] = {}
    for group, number in _groups_of(facets, port):
        for each in group.endpoints:
            # Pods on the host's network share an address, but never a uid.
            key = each.target.uid if each.target and each.target.uid else f"{group.family}/{each.address}/{number}"
            by_target.setdefault(f"{key}/{number}", []).append((group.family, each.address, number, each))
    found = []
    for same in by_target.values():
        same.sort(key=lambda each: (each[0] != primary, each[0], each[1]))
        _, address, number, said = same[0]
        others: list[tuple[str, int]] = []
        families = {same[0][0]}
        for family, other, at, _ in same[1:]:
            if family not in families:
                families.add(family)
                others.append((other, at))
        health = health_of(said, frontend.publish_not_ready_addresses)
        found.append(Endpoint(facets.cluster, address, number, tuple(others), health, said))
        found += [
            Endpoint(facets.cluster, other, at, (), health_of(each, frontend.publish_not_ready_addresses), each)
            for family, other, at, each in same[1:]
            if family == same[0][0]
        ]
    found.sort(key=lambda each: (each.address, each.port))
    if all(each.health != HEALTHY for each in found):
        # KEP-1669: with no ready endpoint left, traffic goes to those that still serve while they terminate.
        found = [each._replace(health=HEALTHY) if each.health == DRAINING else each for each in found]
    yield from found


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
        for each in group.ports:
            if each.name == port.name and each.protocol == port.protocol and each.port:
                yield group, each.port


def _ranking(frontend: FrontendFacet, found: Iterable[Endpoint], place: Place) -> Callable[[Endpoint], int]:
    """The priority of an endpoint for a client in this place; 0 is tried first. Hints count when every usable
    endpoint has one, as kube-proxy holds it (KEP-2433, KEP-3015); else the endpoints' own zone and node do, where
    the Service asks for it."""
    usable = [each for each in found if each.health == HEALTHY]
    zones = bool(usable) and bool(place.zone) and all(each.said.hints and each.said.hints.zones for each in usable)
    nodes = bool(usable) and bool(place.node) and all(each.said.hints and each.said.hints.nodes for each in usable)
    distribution = frontend.traffic_distribution
    near_node = bool(place.node) and distribution == "PreferSameNode" and not nodes
    near_zone = bool(place.zone) and bool(distribution) and not zones

    def rank(each: Endpoint) -> int:
        hints = each.said.hints
        if (nodes and hints and place.node in hints.nodes) or (near_node and each.said.node == place.node):
            return 0
        if (zones and hints and place.zone in hints.zones) or (near_zone and each.said.zone == place.zone):
            return 1
        return 2

    return rank


def _hinted(facets: Facets) -> bool:
    groups = facets.backend.groups if facets.backend else ()
    return any(each.hints for group in groups for each in group.endpoints)


def _frontends(service: Service, number: int) -> Iterator[Endpoint]:
    for facets in service.clusters:
        frontend = facets.frontend
        if frontend is not None and frontend.cluster_ips and port_of(frontend, number):
            first, *others = frontend.cluster_ips
            said = SliceEndpoint(first, True, True, False, None, None, None, None)
            yield Endpoint(facets.cluster, first, number, tuple((each, number) for each in others), HEALTHY, said)


def _add_locality(
    made: endpoint_pb2.ClusterLoadAssignment, zone: str, priority: int, members: list[Endpoint], *, by_size: bool
) -> None:
    if not members:
        return
    locality = made.endpoints.add(priority=priority)
    locality.locality.zone = zone
    # gRPC leaves out localities without weight (A27); by size, each endpoint gets the same share.
    healthy = sum(each.health == HEALTHY for each in members)
    locality.load_balancing_weight.value = max(1, healthy) if by_size else 1
    for each in members:
        locality.lb_endpoints.append(_endpoint(each))


def _endpoint(each: Endpoint) -> endpoint_components_pb2.LbEndpoint:
    made = endpoint_components_pb2.LbEndpoint(health_status=each.health)
    made.endpoint.address.CopyFrom(socket_address(each.address, each.port))
    for address, port in each.others:
        made.endpoint.additional_addresses.add().address.CopyFrom(socket_address(address, port))
    fields = made.metadata.filter_metadata["facets"].fields
    fields["cluster"].string_value = each.cluster
    if each.said.target is not None:
        fields["target"].string_value = f"{each.said.target.kind}/{each.said.target.name}"
    return made


def socket_address(host: str, port: int) -> address_pb2.Address:
    """An address in xDS; IPv6 in its shortest form, so that one address is one text."""
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=str(ip_address(host)), port_value=port))


def locality_of(node: base_pb2.Node) -> Place:
    """A client's place: its locality's zone, and its node's name in the metadata (`node`, or Istio's NODE_NAME)."""
    fields = node.metadata.fields
    name = next((fields[key].string_value for key in ("node", "NODE_NAME") if key in fields), "")
    return Place(node.locality.zone, name)
