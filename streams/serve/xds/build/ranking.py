"""Which endpoints a client prefers: hints and traffic distribution, as priorities."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from streams.serve.xds.build.client import Place
from streams.serve.xds.build.endpoints import HEALTHY, Endpoint, home_cluster, is_on_node, shared_addresses
from streams.serve.xds.build.ports import PortId
from streams.serve.xds.build.service import Facets, Service

_Rank = Callable[[Endpoint], int]


class RelevantPlace(NamedTuple):
    """What of a client's place makes a difference to its endpoint set. All clients that differ in nothing else share
    one."""

    zone: bool
    node: bool
    cluster: bool

    def of(self, place: Place, clusters: Iterable[str]) -> Place:
        """The place without the rest. A cluster that has nothing of the Service is as good as any other such."""
        cluster = place.cluster if self.cluster else ""
        if cluster and not self.node and cluster not in clusters:
            cluster = ""
        return Place(place.zone if self.zone else "", place.node if self.node else "", cluster)


def relevant_place(service: Service, port: PortId) -> RelevantPlace:
    """What the endpoint set of a Service port depends on."""
    frontends = [facets.frontend for facets in service.clusters if facets.frontend is not None]
    distributions = {frontend.traffic_distribution for frontend in frontends} - {None, ""}
    zone_hints, node_hints = _hints(service.clusters)
    is_local = any(frontend.internal_traffic_policy == "Local" for frontend in frontends)
    node = is_local or node_hints or "PreferSameNode" in distributions
    return RelevantPlace(bool(distributions) or zone_hints, node, node or bool(shared_addresses(service, port)))


def ranking(service: Service, endpoints: list[Endpoint], place: Place) -> _Rank:
    """A function that gives an endpoint's priority for a client in this place; 0 is tried first. In a cluster hints
    count if every usable endpoint has one, as in kube-proxy (KEP-2433, KEP-3015); otherwise the endpoints' own zone
    and node do, if the Service asks for it."""
    home = home_cluster(endpoints, place) if place.node else ""
    by_cluster: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        if endpoint.health == HEALTHY:
            by_cluster.setdefault(endpoint.cluster, []).append(endpoint)
    ranks = {
        facets.cluster: _ranking_in(facets, by_cluster.get(facets.cluster, []), place, home)
        for facets in service.clusters
    }
    return lambda endpoint: ranks[endpoint.cluster](endpoint)


def _ranking_in(facets: Facets, usable: list[Endpoint], place: Place, home: str) -> _Rank:
    zones = bool(usable and place.zone) and all(e.source.hints and e.source.hints.zones for e in usable)
    nodes = bool(usable and place.node) and all(e.source.hints and e.source.hints.nodes for e in usable)
    distribution = facets.frontend.traffic_distribution if facets.frontend else None
    near_node = bool(place.node) and distribution == "PreferSameNode" and not nodes
    near_zone = bool(place.zone) and bool(distribution) and not zones

    def rank(endpoint: Endpoint) -> int:
        hints, source = endpoint.source.hints, endpoint.source
        if nodes and hints and place.node in hints.nodes and endpoint.cluster == home:
            return 0
        if near_node and is_on_node(endpoint, home, place.node):
            return 0
        if (zones and hints and place.zone in hints.zones) or (near_zone and source.zone == place.zone):
            return 1
        return 2

    return rank


def _hints(clusters: Iterable[Facets]) -> tuple[bool, bool]:
    """Whether any endpoint has a hint of zones, and of nodes."""
    hints = [
        endpoint.hints
        for facets in clusters
        for group in (facets.backend.groups if facets.backend else ())
        for endpoint in group.endpoints
        if endpoint.hints
    ]
    return any(hint.zones for hint in hints), any(hint.nodes for hint in hints)
