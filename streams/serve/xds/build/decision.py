"""How a Service's clients reach it: by its cluster IP, by its endpoints, or by DNS, and with what stickiness."""

from typing import Literal, NamedTuple

from streams.facets.parsed_rows import DirectionFacet, FrontendFacet, ImportFacet, RoutingFacet
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
    imported = _import(service)
    routings: list[RoutingFacet | ImportFacet] = [imported] if imported is not None else []
    routings += [facets.routing for facets in service.clusters if facets.routing is not None]
    return namespace if any(namespace in routing.mesh.consumers for routing in routings) else ""


def decide(service: Service, traffic: Traffic, namespace: str = "") -> Decision | None:
    """The routing row's decision for this kind of traffic, and for clients of this namespace; without one the default.
    None for a Service that no cluster has. In all clusters of a set it is the set's own; what the routes of the
    client's cluster ask for is added to that."""
    for facets in service.clusters:
        if facets.frontend is not None:
            decision = _decide_in_cluster(facets, facets.frontend, traffic, namespace)
            if (imported := _import(service)) is not None:
                return decision._replace(session=_choice(imported, traffic, namespace).session_persistence)
            return decision
    return None


def _import(service: Service) -> ImportFacet | None:
    return service.import_routing.clusterset if service.import_routing is not None else None


def _decide_in_cluster(facets: Facets, frontend: FrontendFacet, traffic: Traffic, namespace: str) -> Decision:
    direction = _choose_direction(facets, frontend, traffic, namespace)
    if direction.decision == "endpoint":
        affine = frontend.session_affinity == "ClientIP"
        return Decision("endpoint", direction.reason, direction.session_persistence, affine)
    return Decision("dns" if direction.decision == "dns" else "service", direction.reason)


def _choice(routing: RoutingFacet | ImportFacet, traffic: Traffic, namespace: str) -> DirectionFacet:
    if traffic == "gateway":
        return routing.gateway
    return routing.mesh.consumers.get(namespace, routing.mesh)


def _choose_direction(facets: Facets, frontend: FrontendFacet, traffic: Traffic, namespace: str) -> DirectionFacet:
    """The routing row's choice: the consumer's own, otherwise the producer's. Without a routing row (another table's
    may arrive first), the choice by default."""
    if facets.routing is not None:
        choice = _choice(facets.routing, traffic, namespace)
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
