"""How a Service's clients reach it: by its cluster IP, by its endpoints, or by DNS, and with what stickiness."""

from typing import Literal, NamedTuple

from streams.facets.parsed_rows import DirectionFacet, FrontendFacet
from streams.facets.routing_rules import Subject, decide_gateway, decide_mesh
from streams.serve.xds.build.service import Facets, Service
from streams.wire.routing_records import OperatorRouting, RoutedService, SessionPersistence, Traffic

Route = Literal["service", "endpoint", "dns"]


class Decision(NamedTuple):
    """The route, the reason, and the stickiness: `session` (the same endpoint for a cookie or header) or `source_ip`
    (the same endpoint for a client address)."""

    route: Route
    reason: str
    session: SessionPersistence | None = None
    source_ip: bool = False


def consumer_namespace(service: Service, traffic: Traffic, namespace: str) -> str:
    """The client's namespace if the answer depends on it: it has mesh routes of its own for the Service. Otherwise "",
    as for all other clients."""
    if traffic != "mesh":
        return ""
    routings = [facets.routing for facets in service.clusters if facets.routing is not None]
    return namespace if any(namespace in routing.mesh.consumers for routing in routings) else ""


def decide(service: Service, traffic: Traffic, namespace: str = "") -> Decision | None:
    """The routing row's decision for this kind of traffic, and for clients of this namespace; without one the default.
    None for a Service that no cluster has. In all clusters of a set it is the set's own."""
    for facets in service.clusters:
        if facets.frontend is not None:
            return _decide_in_cluster(facets, facets.frontend, traffic, namespace)
    return None


def _decide_in_cluster(facets: Facets, frontend: FrontendFacet, traffic: Traffic, namespace: str) -> Decision:
    direction = _choose_direction(facets, frontend, traffic, namespace)
    if direction.decision == "endpoint":
        affine = frontend.session_affinity == "ClientIP"
        return Decision("endpoint", direction.reason, direction.session_persistence, affine)
    return Decision("dns" if direction.decision == "dns" else "service", direction.reason)


def _choose_direction(facets: Facets, frontend: FrontendFacet, traffic: Traffic, namespace: str) -> DirectionFacet:
    """The routing row's choice: the consumer's own, otherwise the producer's. Without a routing row (another table's
    may arrive first), the choice by default."""
    if facets.routing is not None:
        mesh = facets.routing.mesh
        choice = facets.routing.gateway if traffic == "gateway" else mesh.consumers.get(namespace, mesh)
        if choice.decision != "none":
            return choice
    service = RoutedService(
        "",
        frontend.type,
        frontend.headless,
        bool(frontend.cluster_ips),
        frontend.session_affinity,
        OperatorRouting(),
    )
    subject = Subject("", "", service)
    default = decide_gateway(subject) if traffic == "gateway" else decide_mesh(subject)
    return DirectionFacet(default.decision, default.reason)
