"""How a Service's clients reach it: by its cluster IP, by its endpoints, or by DNS, and with what stickiness."""

from typing import Literal, NamedTuple

from streams.facets.routing_rules import Subject
from streams.facets.routing_rules import decide as decide_routing
from streams.serve.xds.build.service import DirectionFacet, Facets, FrontendFacet, Service
from streams.wire.routing_records import OperatorRouting, RoutedService, SessionPersistence, Traffic

Route = Literal["service", "endpoint", "dns"]


class Decision(NamedTuple):
    """The choice, why, and how requests stick: `session` (the same endpoint for a cookie or header) or `source_ip`
    (the same endpoint for a client address)."""

    route: Route
    reason: str
    session: SessionPersistence | None = None
    source_ip: bool = False


def decide(service: Service, traffic: Traffic) -> Decision | None:
    """The routing rows' decision for this kind of traffic; without one the default. None for a Service that no
    cluster has. Where clusters disagree: a cluster that has the Service in itself counts before one that only names
    it by DNS, and endpoints before cluster IPs (a cluster IP is of use in its own cluster only)."""
    there = [_of_cluster(each, each.frontend, traffic) for each in service.clusters if each.frontend is not None]
    order: tuple[Route, ...] = ("endpoint", "service", "dns")
    there.sort(key=lambda each: order.index(each.route))
    if not there:
        return None
    first = there[0]
    session = next((each.session for each in there if each.session is not None), None)
    return first._replace(session=session, source_ip=session is None and any(each.source_ip for each in there))


def _of_cluster(facets: Facets, frontend: FrontendFacet, traffic: Traffic) -> Decision:
    said = _said(facets, frontend, traffic)
    if said.decision == "endpoint":
        affine = frontend.session_affinity == "ClientIP"
        return Decision("endpoint", said.reason, said.session_persistence, affine)
    return Decision("dns" if said.decision == "dns" else "service", said.reason)


def _said(facets: Facets, frontend: FrontendFacet, traffic: Traffic) -> DirectionFacet:
    """What the routing row says; where none is held (another table's rows may come without it), what it would say if
    nobody asked for anything."""
    said = facets.routing and (facets.routing.gateway if traffic == "gateway" else facets.routing.mesh)
    if said and said.decision != "none":
        return said
    service = RoutedService(
        "",
        frontend.type,
        frontend.headless,
        bool(frontend.cluster_ips),
        frontend.session_affinity,
        OperatorRouting(),
    )
    alone = decide_routing(Subject("", "", service), traffic)
    return DirectionFacet(alone.decision, alone.reason)
