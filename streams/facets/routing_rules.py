"""The choice between Service routing and endpoint routing: the rules, as functions of a Service's objects.

For gateways and for the mesh alike the first rule that applies decides, and its reason code says which it was:

 impossible            ServiceNotFound       none      a route or policy names a Service that doesn't exist
                       ServiceUnreadable     none      the Service is there, but could never be read
                       ExternalName          dns       the Service is a name, with neither cluster IP nor endpoints
                       Headless              endpoint  there is no cluster IP to go to
                       NoClusterIP           endpoint  likewise: none is allocated (yet)
                       NoClusterSetIP        endpoint  the subject is a ServiceImport, and no IP of it is claimed
 requested             SessionPersistence    endpoint  a rule of an attached route has sessionPersistence (GEP-1619)
                       BackendTrafficPolicy  endpoint  an XBackendTrafficPolicy of the Service has it
                       SessionAffinity       endpoint  the Service has sessionAffinity ClientIP: behind a cluster IP
                                                       the network would see the router's address, not the client's
 set by operators      ServiceAnnotation     as set    service-facets.io/gateway-routing or mesh-routing
                       NamespaceAnnotation   as set    the same annotation of the Service's Namespace
                       ClusterDefault        as set    the watcher's --gateway-default or --mesh-default
 else                  Default               endpoint

Session persistence is a part of the decision whenever the Service has endpoints; a rule's own takes precedence over a
policy's. Where several have it, the Gateway API's precedence holds: the oldest creationTimestamp, then namespace/name,
then the order of rules; those that differ are listed (`sessionConflicts`).

Which rules count depends on who sends the requests (GEP-1294, Namespace boundaries):

 gateway               routes attached to a Gateway or a ListenerSet
 mesh                  the producer's: routes attached to a Service or ServiceImport of their own namespace
 mesh, consumers       for clients in one namespace: its routes attached to those of others, and the producer's at the
                       parents for which it has none of its own

Of those, a rule that never gets a request (others take all of them first: RuleShadowed), a reference that a gateway's
route may not make (RefNotPermitted; the mesh needs no ReferenceGrant), or of which that is not known (GrantUnreadable),
or whose kind is unknown (InvalidKind), a backend of weight 0, and a mirror have no part in the decision. `rules` has
the choice for each rule, in the order in which a router must try them.

A ServiceImport (GEP-1748) has the name of a Service and is another subject: routes and policies count for what they
name, as a backend, parent or target, and neither's have a part in the other's decision (`split`).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from msgspec import structs

from streams.facets.route_order import RuleOrder, age, in_age_order
from streams.wire.routing_records import (
    BACKEND_KINDS,
    BackendKind,
    Decision,
    Direction,
    HeldPolicy,
    HeldRoute,
    MeshDirection,
    ObjectReference,
    OperatorRouting,
    PlacedMatch,
    Reason,
    RouteBackend,
    RoutedService,
    RouteParent,
    RuleDecision,
    SessionPersistence,
    Traffic,
)

_SOURCES: dict[str, Reason] = {
    "Service": "ServiceAnnotation",
    "Namespace": "NamespaceAnnotation",
    "Cluster": "ClusterDefault",
}

_IMPORT = RoutedService("", "ClusterIP", False, False, "None", OperatorRouting())
"""A ServiceImport as the rules take it: a Service without an IP."""

_Scope = Callable[[HeldRoute, RouteParent], bool]
"""Whether a route counts at one of its parents, for requests from certain senders."""


class Subject(NamedTuple):
    """One Service's objects: `routes` and `policies` are those that name it, `service` is None while there
    is none, or none that can be read (`is_unreadable`). Or (`kind`) those of a ServiceImport."""

    namespace: str
    name: str
    service: RoutedService | None
    routes: Sequence[HeldRoute] = ()
    policies: Sequence[HeldPolicy] = ()
    is_unreadable: bool = False
    kind: BackendKind = "Service"

    def names(self, parent: RouteParent) -> bool:
        """Whether it is this parent."""
        return (parent.kind, parent.namespace, parent.name) == (self.kind, self.namespace, self.name)


def split(subject: Subject) -> tuple[Subject, Subject | None]:
    """A Service with the routes and policies that name it, and the ServiceImport of its name with those that name that;
    None where none does. The subject's are those that name either."""
    itself = subject._replace(kind="ServiceImport", service=_IMPORT, is_unreadable=False)
    imported = [route for route in subject.routes if _names(itself, route)]
    of_import = [policy for policy in subject.policies if "ServiceImport" in policy.targets]
    if not imported and not of_import:
        return subject, None
    policies = [policy for policy in subject.policies if not policy.targets or "Service" in policy.targets]
    own = [route for route in subject.routes if _names(subject, route) or not _names(itself, route)]
    return (
        subject._replace(routes=[_only(route, "Service") for route in own], policies=policies),
        itself._replace(routes=[_only(route, "ServiceImport") for route in imported], policies=of_import),
    )


def _names(subject: Subject, route: HeldRoute) -> bool:
    """Whether a route names this kind of subject: as a backend, or as its parent."""
    return any(backend.kind == subject.kind for backend in route.backends) or any(map(subject.names, route.parents))


def _only(route: HeldRoute, kind: BackendKind) -> HeldRoute:
    return structs.replace(route, backends=[backend for backend in route.backends if backend.kind == kind])


class _Choice(NamedTuple):
    decision: Decision
    reason: Reason
    because: list[ObjectReference]
    persistence: SessionPersistence | None = None


class _Rule(NamedTuple):
    """A rule that names the Service; `refusal` is why it has no part in the decision, `matches` are those of its
    matches to try at this place, if not all."""

    route: HeldRoute
    backend: RouteBackend
    refusal: Reason | None
    matches: list[PlacedMatch]

    @property
    def asks(self) -> bool:
        """Whether its session persistence counts."""
        backend = self.backend
        return self.refusal is None and backend.session_persistence is not None and backend.weight > 0


def decide_gateway(subject: Subject) -> Direction:
    """The choice for requests that come through gateways."""
    return _decide(subject, "gateway", lambda _, parent: parent.kind in {"Gateway", "ListenerSet"})


def decide_mesh(subject: Subject) -> MeshDirection:
    """The choice for requests in the mesh: the producer's, and those of namespaces with routes of their own."""
    producer = _decide(subject, "mesh", _is_producer)
    consumers = {
        namespace: _decide(subject, "mesh", _as_seen_from(namespace, subject.routes))
        for namespace in sorted(_consumers(subject.routes))
    }
    return MeshDirection(
        producer.decision,
        producer.reason,
        producer.because,
        producer.session_persistence,
        producer.rules,
        producer.session_conflicts,
        consumers,
    )


# ---- who sends the requests -----------------------------------------------------------------------------


def _is_producer(route: HeldRoute, parent: RouteParent) -> bool:
    return parent.kind in BACKEND_KINDS and parent.namespace == route.namespace


def _is_consumer(route: HeldRoute, parent: RouteParent) -> bool:
    return parent.kind in BACKEND_KINDS and parent.namespace != route.namespace


def _consumers(routes: Iterable[HeldRoute]) -> set[str]:
    """The namespaces that have attached routes of their own."""
    return {
        namespace
        for route in routes
        for parent in route.parents
        if parent.attached and parent.kind in BACKEND_KINDS
        for namespace in ([route.namespace] if _is_consumer(route, parent) else parent.consumers)
    }


def _as_seen_from(namespace: str, routes: Iterable[HeldRoute]) -> _Scope:
    own = {
        (parent.kind, parent.namespace, parent.name)
        for route in routes
        for parent in route.parents
        if parent.attached and route.namespace == namespace and _is_consumer(route, parent)
    }

    def counts(route: HeldRoute, parent: RouteParent) -> bool:
        if _is_consumer(route, parent):
            return route.namespace == namespace
        # A journal of fold version 1 has neither ports nor consumers.
        parent_key = parent.kind, parent.namespace, parent.name
        replaced = namespace in parent.consumers or (not parent.ports and parent_key in own)
        return _is_producer(route, parent) and not replaced

    return counts


# ---- the choice -----------------------------------------------------------------------------------------


def _decide(subject: Subject, traffic: Traffic, scope: _Scope) -> Direction:
    rules = _rules(subject.routes, traffic, scope)
    by_age = sorted(rules, key=lambda rule: (age(rule.route), rule.backend.rule))
    asking = [rule for rule in by_age if rule.asks]
    choice = _choose(subject, traffic, scope, asking[0] if asking else None)
    return Direction(
        choice.decision,
        choice.reason,
        choice.because,
        choice.persistence,
        [_of_rule(subject, traffic, scope, rule) for rule in rules],
        _conflicts(subject, choice, asking),
    )


def _conflicts(subject: Subject, choice: _Choice, asking: Iterable[_Rule]) -> list[ObjectReference]:
    """The routes and policies whose session persistence differs from the chosen one."""
    if choice.persistence is None:
        return []
    sources: list[tuple[HeldRoute | HeldPolicy, SessionPersistence | None]] = [
        *((rule.route, rule.backend.session_persistence) for rule in asking),
        *((policy, policy.session_persistence) for policy in in_age_order(subject.policies)),
    ]
    differing = {
        (source.kind, source.namespace, source.name): _reference(source)
        for source, persistence in sources
        if persistence is not None and persistence != choice.persistence
    }
    return list(differing.values())


def _of_rule(subject: Subject, traffic: Traffic, scope: _Scope, rule: _Rule) -> RuleDecision:
    route, backend = rule.route, rule.backend
    if rule.refusal is not None:
        choice = _Choice("none", rule.refusal, [])
    else:
        choice = _choose(subject, traffic, scope, rule if backend.session_persistence is not None else None)
    return RuleDecision(
        _reference(route),
        backend.rule,
        backend.rule_name,
        backend.port,
        backend.weight,
        choice.decision,
        choice.reason,
        choice.persistence if backend.role == "backend" else None,
        backend.role,
        backend.total_weight,
        rule.matches,
    )


def _choose(subject: Subject, traffic: Traffic, scope: _Scope, asking: _Rule | None) -> _Choice:
    """The rules in order; `asking` is the rule of a route whose session persistence counts."""
    service = subject.service
    if service is None:
        return _choose_without_service(subject, scope)
    itself = [_itself(subject)]
    if service.type == "ExternalName":
        return _Choice("dns", "ExternalName", itself)
    policy = next((policy for policy in in_age_order(subject.policies) if policy.session_persistence is not None), None)
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
        reason: Reason = "NoClusterIP" if subject.kind == "Service" else "NoClusterSetIP"
        return _Choice("endpoint", reason, itself, persistence)
    if sticky is not None:
        return sticky._replace(persistence=persistence)
    if service.session_affinity == "ClientIP":
        return _Choice("endpoint", "SessionAffinity", itself)
    operator = service.operator.gateway if traffic == "gateway" else service.operator.mesh
    if operator is None:
        return _Choice("endpoint", "Default", [])
    because = {"Service": itself, "Namespace": [ObjectReference("Namespace", "", subject.namespace)]}
    return _Choice(operator.decision, _SOURCES[operator.source], because.get(operator.source, []))


def _choose_without_service(subject: Subject, scope: _Scope) -> _Choice:
    if subject.is_unreadable:
        return _Choice("none", "ServiceUnreadable", [_itself(subject)])
    routes = [_reference(route) for route in in_age_order(subject.routes) if _is_named(subject, route, scope)]
    policies = [_reference(policy) for policy in in_age_order(subject.policies)]
    return _Choice("none", "ServiceNotFound", routes + policies)


def _itself(subject: Subject) -> ObjectReference:
    return ObjectReference(subject.kind, subject.namespace, subject.name)


def _is_named(subject: Subject, route: HeldRoute, scope: _Scope) -> bool:
    """Whether a route names a Service that doesn't exist: as a backend where it is attached, or as its parent."""
    return any(scope(route, parent) and (parent.attached or subject.names(parent)) for parent in route.parents)


# ---- rules ----------------------------------------------------------------------------------------------


def _rules(routes: Sequence[HeldRoute], traffic: Traffic, scope: _Scope) -> list[_Rule]:
    """The rules that name the Service, of routes that are attached where they count, in the order in which they must
    be tried."""
    if not routes:
        return []
    claims: dict[tuple[str, str, object], tuple[int, int]] = {}
    order = RuleOrder()
    backends: dict[tuple[str, str, str, int], list[tuple[RouteBackend, Reason | None]]] = {}
    for place, route in enumerate(in_age_order(routes)):
        indexed = [(i, parent) for i, parent in enumerate(route.parents) if parent.attached and scope(route, parent)]
        if not indexed:
            continue
        parents = [parent for _, parent in indexed]
        for backend in sorted(route.backends, key=lambda backend: backend.rule):
            shadowed = all(i in backend.shadowed_at for i, _ in indexed)
            if isinstance(backend.matches, str):
                # A journal of fold version 1: which rules get no requests is known only of those that name the Service.
                owner = place, backend.rule
                keys = [(route.kind, backend.matches, _identity(parent)) for parent in parents]
                shadowed = owner not in [claims.setdefault(key, owner) for key in keys]
            order.add(route, backend, parents, shadowed=shadowed)
            of_rule = backends.setdefault((route.kind, route.namespace, route.name, backend.rule), [])
            of_rule.append((backend, _refusal(backend, traffic, shadowed)))
    return [
        _Rule(route, backend, refusal, matches)
        for route, number, matches in order.placed()
        for backend, refusal in backends[route.kind, route.namespace, route.name, number]
    ]


def _refusal(backend: RouteBackend, traffic: Traffic, shadowed: bool) -> Reason | None:
    if backend.reason == "InvalidKind":
        return "InvalidKind"
    if not backend.permitted and traffic == "gateway":
        return "GrantUnreadable" if backend.reason == "GrantUnreadable" else "RefNotPermitted"
    return "RuleShadowed" if shadowed else None


def _identity(parent: RouteParent) -> tuple[str, str, str | None, int | None]:
    return parent.namespace, parent.name, parent.section_name, parent.port


def _reference(source: HeldRoute | HeldPolicy) -> ObjectReference:
    return ObjectReference(source.kind, source.namespace, source.name)
