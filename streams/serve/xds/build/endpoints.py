"""The endpoints of one Service port, of all clusters together, for a client in some place.

The order of the steps is Kubernetes' own (k8s.io/kubernetes pkg/proxy/topology.go): the traffic policy says which
endpoints are in question at all; of what is left, none shares its address with another; and only if none of these is
ready do those count that still serve while they terminate (KEP-1669).
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from envoy.config.core.v3 import health_check_pb2

from streams.facets.parsed_rows import FrontendFacet
from streams.serve.xds.build.client import Place
from streams.serve.xds.build.ports import PortId, port_of
from streams.serve.xds.build.service import Facets, Service
from streams.wire.records import Group, ServicePort, SliceEndpoint

HEALTHY = health_check_pb2.HEALTHY
UNHEALTHY = health_check_pb2.UNHEALTHY
DRAINING = health_check_pb2.DRAINING

Address = tuple[str, int]
"""An IP address (IPv6 in its shortest form, so that one address is one text) and a port number."""

Clusters = tuple[str, ...]
"""Names of clusters, in the order in which they win."""


class Endpoint(NamedTuple):
    """An endpoint of one Service port. A Pod with two families has an address of each, the Service's first family
    first; `source` is the endpoint in the row."""

    cluster: str
    addresses: tuple[Address, ...]
    health: int
    source: SliceEndpoint


class PortEndpoints(NamedTuple):
    """The endpoints of one port in one cluster, in the order of their addresses, and all addresses that the cluster has
    there; `is_distinct`: no two endpoints have the same."""

    endpoints: list[Endpoint]
    addresses: frozenset[Address]
    is_distinct: bool


def endpoints_in(facets: Facets, port: PortId) -> PortEndpoints:
    """A cluster's endpoints of a port; one for each Pod, even if it has two families."""
    return facets.derive(_port_endpoints, port)


def endpoints_for(service: Service, port: PortId, place: Place) -> list[Endpoint]:
    """The endpoint set of a Service port as a client in this place gets it, in the Service's order of clusters, then by
    address."""
    endpoints = [endpoint for facets in service.clusters for endpoint in endpoints_in(facets, port).endpoints]
    if place.node:
        local = {facets.cluster for facets in service.clusters if _is_local(facets)}
        home = home_cluster(endpoints, place)
        endpoints = [
            endpoint
            for endpoint in endpoints
            if endpoint.cluster not in local or is_on_node(endpoint, home, place.node)
        ]
    endpoints = without_shared_addresses(endpoints, place.cluster)
    if all(endpoint.health != HEALTHY for endpoint in endpoints):
        return [
            endpoint._replace(health=HEALTHY) if endpoint.health == DRAINING else endpoint for endpoint in endpoints
        ]
    return endpoints


def cluster_ips_of(service: Service, port: PortId) -> list[Endpoint]:
    """The cluster IPs by which the clients of a Service's own cluster reach it: in another they mean something else, or
    nothing."""
    endpoints = []
    for facets in service.clusters:
        if addresses := _cluster_ips(facets, port):
            source = SliceEndpoint(addresses[0][0], True, True, False, None, None, None, None)
            endpoints.append(Endpoint(facets.cluster, addresses, HEALTHY, source))
    return without_shared_addresses(endpoints, "")


def without_shared_addresses(endpoints: Iterable[Endpoint], own_cluster: str) -> list[Endpoint]:
    """The endpoints with each address once. Of several clusters with one address, as when they have one Pod network
    range, the client's own wins, else the first in the Service's order: no router can tell them apart, and gRPC refuses
    a set that names an address twice (gRFC A27)."""
    endpoints = list(endpoints)
    order = sorted(range(len(endpoints)), key=lambda i: endpoints[i].cluster != own_cluster)
    owners: dict[Address, int] = {}
    for i in order:
        for address in endpoints[i].addresses:
            owners.setdefault(address, i)
    kept = []
    for i, endpoint in enumerate(endpoints):
        addresses = tuple(dict.fromkeys(address for address in endpoint.addresses if owners[address] == i))
        if addresses:
            kept.append(endpoint if addresses == endpoint.addresses else endpoint._replace(addresses=addresses))
    return kept


def shared_addresses(service: Service, port: PortId) -> dict[Address, Clusters]:
    """The addresses that endpoints of more than one cluster have for this port, with these clusters."""
    if len(service.clusters) < 2:
        return {}
    by_cluster = {facets.cluster: endpoints_in(facets, port).addresses for facets in service.clusters}
    if len(frozenset().union(*by_cluster.values())) == sum(map(len, by_cluster.values())):
        return {}
    clusters: dict[Address, Clusters] = {}
    for cluster, addresses in by_cluster.items():
        for address in addresses:
            clusters[address] = (*clusters.get(address, ()), cluster)
    return {address: names for address, names in sorted(clusters.items()) if len(names) > 1}


def has_endpoints(service: Service, port: PortId) -> bool:
    """Whether there is an endpoint with this port, usable or not."""
    return any(_addresses_in(facets, port) for facets in service.clusters)


def home_cluster(endpoints: Iterable[Endpoint], place: Place) -> str:
    """The cluster of the client's node. If it names only the node: the first by name with an endpoint there. That may
    be another node of the same name, but two can't be right."""
    if place.cluster:
        return place.cluster
    return min((endpoint.cluster for endpoint in endpoints if endpoint.source.node == place.node), default="")


def is_on_node(endpoint: Endpoint, cluster: str, node: str) -> bool:
    """Whether an endpoint runs on this node of this cluster."""
    return endpoint.source.node == node and endpoint.cluster == cluster


def is_known(service: Service) -> bool:
    """Whether the endpoints of all clusters are known: only then is an empty set known to be empty. Where something
    can't be read, it is not."""
    return all(
        facets.backend is not None and not facets.backend.is_partial
        for facets in service.clusters
        if facets.frontend is not None or facets.is_unreadable
    )


def canonical(address: str) -> str:
    """An IP address in its shortest form."""
    return str(ip_address(address)) if ":" in address else address


def _is_local(facets: Facets) -> bool:
    return facets.frontend is not None and facets.frontend.internal_traffic_policy == "Local"


def _cluster_ips(facets: Facets, port: PortId) -> tuple[Address, ...]:
    frontend = facets.frontend
    if frontend is None or port_of(frontend, port) is None:
        return ()
    return tuple((canonical(address), port.number) for address in frontend.cluster_ips)


def _addresses_in(facets: Facets, port: PortId) -> set[Address]:
    own_port = port_of(facets.frontend, port)
    if own_port is None:
        return set()
    return {
        (canonical(endpoint.address), number)
        for group, number in _groups_of(facets, own_port)
        for endpoint in group.endpoints
    }


def _port_endpoints(facets: Facets, port: PortId) -> PortEndpoints:
    endpoints = _endpoints_in(facets, port)
    own = [address for endpoint in endpoints for address in endpoint.addresses]
    return PortEndpoints(endpoints, frozenset(_addresses_in(facets, port)), len(own) == len({*own}))


def _endpoints_in(facets: Facets, port: PortId) -> list[Endpoint]:
    frontend, own_port = facets.frontend, port_of(facets.frontend, port)
    if frontend is None or own_port is None:
        return []
    primary = frontend.ip_families[0] if frontend.ip_families else "IPv4"
    by_target: dict[str, list[tuple[str, Address, SliceEndpoint]]] = {}
    for group, number in _groups_of(facets, own_port):
        for endpoint in group.endpoints:
            target = endpoint.target.uid if endpoint.target else ""
            # Pods on the host's network share an address, but never a uid.
            key = target or f"{group.family}/{endpoint.address}/{number}"
            entry = (group.family, (canonical(endpoint.address), number), endpoint)
            by_target.setdefault(f"{key}/{number}", []).append(entry)
    endpoints: list[Endpoint] = []
    for entries in by_target.values():
        entries.sort(key=lambda entry: (entry[0] != primary, entry[0], entry[1]))
        endpoints += _endpoints_of_pod(facets.cluster, frontend, entries)
    endpoints.sort(key=lambda endpoint: endpoint.addresses[0])
    return endpoints


def _endpoints_of_pod(
    cluster: str, frontend: FrontendFacet, entries: list[tuple[str, Address, SliceEndpoint]]
) -> Iterator[Endpoint]:
    """One endpoint with an address of each family; further addresses of the first family are endpoints of their own."""
    first_family, address, source = entries[0]
    others: dict[str, Address] = {}
    for family, other, _ in entries[1:]:
        if family != first_family:
            others.setdefault(family, other)
    yield Endpoint(cluster, (address, *others.values()), _health(source, frontend), source)
    for family, other, endpoint in entries[1:]:
        if family == first_family:
            yield Endpoint(cluster, (other,), _health(endpoint, frontend), endpoint)


def _health(endpoint: SliceEndpoint, frontend: FrontendFacet) -> int:
    """An endpoint's health from its conditions (discovery.k8s.io/v1 EndpointConditions)."""
    publish_not_ready = frontend.publish_not_ready_addresses
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
