"""Which endpoints a client prefers, as priorities: by hints and traffic distribution, in a set by its locality."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from streams.facets.parsed_rows import FrontendFacet
from streams.serve.xds.build.client import Place
from streams.serve.xds.build.endpoints import HEALTHY, Endpoint, home_cluster, is_on_node, shared_addresses
from streams.serve.xds.build.ports import PortId
from streams.serve.xds.build.service import Facets, Service
from streams.wire.clusterset_records import CLUSTER_ID, OWN_CLUSTER, OWN_NODE, OWN_ZONE

_Rank = Callable[[Endpoint], int]
_ON_NODE, _IN_ZONE, _FAR = range(3)


class _Wishes(NamedTuple):
    """Whether endpoints of the client's own zone, and node, are to be tried first."""

    zone: bool
    node: bool


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
    zone_hints, node_hints = _hints(service.clusters)
    wishes = [_wishes(service, frontend) for frontend in frontends]
    is_local = any(frontend.internal_traffic_policy == "Local" for frontend in frontends)
    node = is_local or node_hints or any(wish.node for wish in wishes)
    prefers_own = service.locality is not None and OWN_CLUSTER in service.locality.prefer
    cluster = node or prefers_own or bool(shared_addresses(service, port))
    return RelevantPlace(zone_hints or any(wish.zone for wish in wishes), node, cluster)


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
        facets.cluster: _ranking_in(by_cluster.get(facets.cluster, []), place, home, _wishes(service, facets.frontend))
        for facets in service.clusters
    }
    if service.locality is None or not service.locality.prefer:
        return lambda endpoint: ranks[endpoint.cluster](endpoint)
    prefer = service.locality.prefer

    def rank(endpoint: Endpoint) -> int:
        near = ranks[endpoint.cluster](endpoint)
        return _position(prefer, endpoint, near, place) * (_FAR + 1) + near

    return rank


def _position(prefer: list[str], endpoint: Endpoint, near: int, place: Place) -> int:
    """The index of the first preferred place that the endpoint is in."""
    places = {f"{CLUSTER_ID}{endpoint.cluster}"}
    if near == _ON_NODE:
        places.add(OWN_NODE)
    if near < _FAR:
        places.add(OWN_ZONE)
    if endpoint.cluster == place.cluster:
        places.add(OWN_CLUSTER)
    return next((i for i, preferred in enumerate(prefer) if preferred in places), len(prefer))


def _wishes(service: Service, frontend: FrontendFacet | None) -> _Wishes:
    """What the set's locality asks for, or the Service's own traffic distribution."""
    if service.locality is not None:
        return _Wishes(OWN_ZONE in service.locality.prefer, OWN_NODE in service.locality.prefer)
    distribution = frontend.traffic_distribution if frontend else None
    return _Wishes(bool(distribution), distribution == "PreferSameNode")


def _ranking_in(usable: list[Endpoint], place: Place, home: str, wishes: _Wishes) -> _Rank:
    zones = bool(usable and place.zone) and all(e.source.hints and e.source.hints.zones for e in usable)
    nodes = bool(usable and place.node) and all(e.source.hints and e.source.hints.nodes for e in usable)
    near_node = bool(place.node) and wishes.node and not nodes
    near_zone = bool(place.zone) and wishes.zone and not zones

    def rank(endpoint: Endpoint) -> int:
        hints, source = endpoint.source.hints, endpoint.source
        if nodes and hints and place.node in hints.nodes and endpoint.cluster == home:
            return _ON_NODE
        if near_node and is_on_node(endpoint, home, place.node):
            return _ON_NODE
        if (zones and hints and place.zone in hints.zones) or (near_zone and source.zone == place.zone):
            return _IN_ZONE
        return _FAR

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
