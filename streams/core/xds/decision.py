"""How a Service's clients reach it: by its cluster IP, by its endpoints, or by DNS, and with what stickiness."""

from typing import Literal, NamedTuple

from streams.core.xds.facets import Facets, FrontendFacet, Persistence, Service

Route = Literal["service", "endpoint", "dns"]
Traffic = Literal["gateway", "mesh"]


class Decision(NamedTuple):
    """The choice, why, and how requests stick: `session` (the same endpoint for a cookie or header) or `source_ip`
    (the same endpoint for a client address)."""

    route: Route
    reason: str
    session: Persistence | None = None
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
    if frontend.type == "ExternalName":
        return Decision("dns", "ExternalName")
    # Affinity needs endpoints: behind a cluster IP the network would choose, by the router's address.
    affine = frontend.session_affinity == "ClientIP"
    if facets.routing is not None:
        said = facets.routing.gateway if traffic == "gateway" else facets.routing.mesh
        if said.decision == "service" and frontend.cluster_ips:
            return Decision("service", said.reason)
        if said.decision in {"service", "endpoint"}:
            return Decision("endpoint", said.reason, said.session_persistence, affine)
    if not frontend.cluster_ips:
        return Decision("endpoint", "Headless" if frontend.headless else "NoClusterIP")
    if affine:
        return Decision("endpoint", "SessionAffinity", None, True)
    return Decision("endpoint", "Default")
