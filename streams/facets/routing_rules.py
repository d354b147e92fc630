"""The choice between Service routing and endpoint routing: the rules, as functions of what is known of a Service.

For gateways and for the mesh alike the first rule that applies decides, and its reason code says which it was:

 what can't be         ServiceNotFound       none      a route or policy names a Service that is not there
                       ExternalName          dns       the Service is a name, with neither cluster IP nor endpoints
                       Headless              endpoint  there is no cluster IP to go to
                       NoClusterIP           endpoint  likewise: none is allocated (yet)
 what is asked         SessionPersistence    endpoint  a rule of an attached route has sessionPersistence (GEP-1619)
                       BackendTrafficPolicy  endpoint  an XBackendTrafficPolicy of the Service has it
                       SessionAffinity       endpoint  the Service has sessionAffinity ClientIP: behind a cluster IP
                                                       the network would see the router's address, not the client's
 what operators set    ServiceAnnotation     as said   service-facets.io/gateway-routing or mesh-routing
                       NamespaceAnnotation   as said   the same annotation of the Service's Namespace
                       ClusterDefault        as said   the watcher's --gateway-default or --mesh-default
 else                  Default               endpoint

Session persistence is a part of the decision whenever the Service has endpoints; a rule's own goes before a policy's.
Where several ask, the Gateway API's precedence holds: the oldest creationTimestamp, then namespace/name, then the
order of rules. A rule that takes the same requests, of the same parent, as one before it never gets any (RuleShadowed).
A reference to another namespace that no ReferenceGrant permits is not followed (RefNotPermitted), a route that is not
attached to a Gateway has no part in the decision for gateways, and neither has a backend of weight 0. Routes count for
the mesh where their parent is a Service (GAMMA). Where rules of routes differ, `rules` has the choice of each.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from streams.wire.routing_records import (
    Decision,
    Direction,
    HeldPolicy,
    HeldRoute,
    ObjectReference,
    Reason,
    RouteBackend,
    RoutedService,
    RouteParent,
    RuleDecision,
    SessionPersistence,
    Traffic,
)

_Held = TypeVar("_Held", HeldRoute, HeldPolicy)

_SOURCES: dict[str, Reason] = {
    "Service": "ServiceAnnotation",
    "Namespace": "NamespaceAnnotation",
    "Cluster": "ClusterDefault",
}


class Subject(NamedTuple):
    """What is known of a Service: `service` is None while it is not there."""

    namespace: str
    name: str
    service: RoutedService | None
    routes: Sequence[HeldRoute] = ()
    policies: Sequence[HeldPolicy] = ()


class _Choice(NamedTuple):
    decision: Decision
    reason: Reason
    because: list[ObjectReference]
    persistence: SessionPersistence | None = None


class _Rule(NamedTuple):
    route: HeldRoute
    backend: RouteBackend
    shadowed: bool


def decide(subject: Subject, traffic: Traffic) -> Direction:
    """The choice for one direction."""
    rules = list(_rules(subject.routes, traffic))
    asking = next(
        (
            each
            for each in rules
            if each.backend.session_persistence is not None
            and each.backend.permitted
            and each.backend.weight > 0
            and not each.shadowed
        ),
        None,
    )
    choice = _choose(subject, traffic, asking)
    return Direction(
        choice.decision,
        choice.reason,
        choice.because,
        choice.persistence,
        [_of_rule(subject, traffic, each) for each in rules],
    )


def _of_rule(subject: Subject, traffic: Traffic, rule: _Rule) -> RuleDecision:
    route, backend = rule.route, rule.backend
    if not backend.permitted:
        choice = _Choice("none", "RefNotPermitted", [])
    elif rule.shadowed:
        choice = _Choice("none", "RuleShadowed", [])
    else:
        choice = _choose(subject, traffic, rule if backend.session_persistence is not None else None)
    return RuleDecision(
        _reference(route),
        backend.rule,
        backend.rule_name,
        backend.port,
        backend.weight,
        choice.decision,
        choice.reason,
        choice.persistence,
    )


def _choose(subject: Subject, traffic: Traffic, asking: _Rule | None) -> _Choice:
    """The rules in order; `asking` is the rule of a route whose session persistence counts."""
    service = subject.service
    if service is None:
        routes = [_reference(each) for each in in_precedence(subject.routes) if _parents(each, traffic)]
        policies = [_reference(each) for each in in_precedence(subject.policies)]
        return _Choice("none", "ServiceNotFound", routes + policies)
    itself = [ObjectReference("Service", subject.namespace, subject.name)]
    if service.type == "ExternalName":
        return _Choice("dns", "ExternalName", itself)
    policy = next((each for each in in_precedence(subject.policies) if each.session_persistence is not None), None)
    if asking is not None:
        sticky = _Choice("endpoint", "SessionPersistence", [_reference(asking.route)])
        persistence = asking.backend.session_persistence
    elif policy is not None:
        sticky = _Choice("endpoint", "BackendTrafficPolicy", [_reference(policy)])
        persistence = policy.session_persistence
    else:
        sticky, persistence = None, None
    if service.headless:
        return _Choice("endpoint", "Headless", itself, persistence)
    if not service.cluster_ip:
        return _Choice("endpoint", "NoClusterIP", itself, persistence)
    if sticky is not None:
        return sticky._replace(persistence=persistence)
    if service.session_affinity == "ClientIP":
        return _Choice("endpoint", "SessionAffinity", itself)
    operator = service.operator.gateway if traffic == "gateway" else service.operator.mesh
    if operator is None:
        return _Choice("endpoint", "Default", [])
    because = {"Service": itself, "Namespace": [ObjectReference("Namespace", "", subject.namespace)]}
    return _Choice(operator.decision, _SOURCES[operator.source], because.get(operator.source, []))


def _rules(routes: Iterable[HeldRoute], traffic: Traffic) -> Iterable[_Rule]:
    """The rules of the attached routes that name the Service as a backend, in the order of their precedence."""
    taken: dict[tuple[str, str, tuple[str, str, str | None, int | None]], tuple[int, int]] = {}
    for place, route in enumerate(in_precedence(routes)):
        parents = _parents(route, traffic)
        if not parents:
            continue
        for backend in sorted(route.backends, key=lambda each: each.rule):
            here = (place, backend.rule)
            firsts = [taken.setdefault((route.kind, backend.matches, each), here) for each in parents]
            yield _Rule(route, backend, all(first != here for first in firsts))


def _parents(route: HeldRoute, traffic: Traffic) -> list[tuple[str, str, str | None, int | None]]:
    kind = "Gateway" if traffic == "gateway" else "Service"
    return [_identity(each) for each in route.parents if each.kind == kind and each.attached]


def _identity(parent: RouteParent) -> tuple[str, str, str | None, int | None]:
    return parent.namespace, parent.name, parent.section_name, parent.port


def in_precedence(objects: Iterable[_Held]) -> list[_Held]:
    """As the Gateway API has it: the oldest first, then by namespace/name. Of unknown age is the youngest."""
    return sorted(
        objects, key=lambda each: (not each.created, each.created, f"{each.namespace}/{each.name}", each.kind)
    )


def _reference(held: HeldRoute | HeldPolicy) -> ObjectReference:
    return ObjectReference(held.kind, held.namespace, held.name)
