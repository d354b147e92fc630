"""The routing facet on the wire: what the journal carries of routes, policies and operators' choices, and the rows."""

from typing import Annotated, Literal, get_args

import msgspec

from streams.wire.records import Number, Record, RowHead, ServiceContent, ServiceType

Traffic = Literal["gateway", "mesh"]
Decision = Literal["service", "endpoint", "dns", "none"]
Reason = Literal[
    "ServiceNotFound", "ServiceUnreadable", "ExternalName", "Headless", "NoClusterIP", "SessionPersistence",
    "BackendTrafficPolicy", "SessionAffinity", "ServiceAnnotation", "NamespaceAnnotation", "ClusterDefault", "Default",
    "RefNotPermitted", "GrantUnreadable", "RuleShadowed", "InvalidKind", "NoClusterSetIP",
]  # fmt: skip
Role = Literal["backend", "mirror", "auth"]
BackendKind = Literal["Service", "ServiceImport"]
BACKEND_KINDS: frozenset[str] = frozenset(get_args(BackendKind))
"""What routes send requests to. Mesh routes have the same kinds as parents (GAMMA)."""

Duration = Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}(?!\n)$")]
"""In the Gateway API's form (GEP-2257), such as 1h30m."""


# ---- in the journal ----------------------------------------------------------------------------------


class OperatorChoice(Record):
    """An operator's choice for a direction, and its source: an annotation of the Service or of its Namespace, or the
    cluster's default."""

    decision: Literal["service", "endpoint"]
    source: Literal["Service", "Namespace", "Cluster"]


class OperatorRouting(Record, omit_defaults=True):
    """An operator's choices for a Service, by direction. `invalid` names an annotation with another value."""

    gateway: OperatorChoice | None = None
    mesh: OperatorChoice | None = None
    invalid: str = ""


class ServiceObject(ServiceContent, omit_defaults=True):
    """A Service as the journal carries it: its frontend, and its operator's routing choices."""

    routing: OperatorRouting | None = None


class SessionPersistence(Record):
    """Session persistence of a route's rule or a policy (Gateway API GEP-1619). Timeouts are durations
    in the Gateway API's form (GEP-2257), such as 1h30m."""

    type: Literal["Cookie", "Header"]
    session_name: str | None
    absolute_timeout: Duration | None
    idle_timeout: Duration | None
    cookie_lifetime: Literal["Session", "Permanent"] | None


class AttachedListener(Record, omit_defaults=True):
    """A listener of a Gateway or ListenerSet at which a route is attached. `hostname` is the listener's own ("": any),
    `hostnames` those that it has in common with the route: what the route gets requests for (empty: any)."""

    name: str
    port: int | None = None
    hostname: str = ""
    hostnames: list[str] = msgspec.field(default_factory=list)


class RouteParent(Record, omit_defaults=True):
    """A parent of a route: a Gateway or ListenerSet (north/south), or a Service or ServiceImport (east/west, GAMMA).
    Where the route is not attached to it, `reason` says why (in the words of the Gateway API's conditions) and
    `message` explains. `group` is given where the kind is none of these: such a parent is listed and has no further
    meaning.

    Of a Service, `ports` are those to which the route is attached (of a ServiceImport 0 stands for all that no route
    names), and `consumers` the namespaces that have routes of their own for all of them: for their clients this
    route, the producer's, does not count (GEP-1294)."""

    kind: str
    namespace: str
    name: str
    section_name: str | None
    port: Number | None
    attached: bool
    reason: str
    message: str = ""
    group: str | None = None
    listeners: list[AttachedListener] = msgspec.field(default_factory=list)
    ports: list[Number] = msgspec.field(default_factory=list)
    consumers: list[str] = msgspec.field(default_factory=list)


class PathMatch(Record):
    """A match of a request's path (HTTPPathMatch)."""

    type: str
    value: str


class NamedMatch(Record):
    """A match of a header (in lower case) or of a query parameter."""

    type: str
    name: str
    value: str


class GRPCMethodMatch(Record):
    """A match of a gRPC call; "" takes any service, or any method."""

    type: str
    service: str
    method: str


class RequestMatch(Record, omit_defaults=True):
    """Requests that a rule matches, with the Gateway API's defaults filled in and unordered lists sorted, so that
    matches for the same requests are equal. A field that is left out matches any."""

    path: PathMatch | None = None
    method: str = ""
    headers: list[NamedMatch] = msgspec.field(default_factory=list)
    query_params: list[NamedMatch] = msgspec.field(default_factory=list)
    grpc_method: GRPCMethodMatch | None = None


class RouteBackend(Record, omit_defaults=True):
    """Where a rule of a route names the Service, or (`kind`) the ServiceImport of this name, the Service of all
    clusters that export it (GEP-1748): `rule` counts from 0. The rule takes requests for which any of
    `matches` holds; the first is to be tried first. (A journal of fold version 1 has a digest of them.) `weight` of
    `totalWeight` is the Service's share of them (0: not known). `role` says what the Service gets: the requests
    (`backend`), copies of them (`mirror`), or questions whether they may pass (`auth`).

    Without `permitted` a ReferenceGrant is missing, which routes of gateways need. `shadowedAt` are the parents, by
    their place in the route's, of which the rule never gets a request: other rules take all of them first.
    `reason` says why the reference itself can't be followed (InvalidKind), or why it is not known whether it is
    permitted: a ReferenceGrant of the Service's namespace could never be read (GrantUnreadable)."""

    rule: Number
    rule_name: str | None
    matches: str | list[RequestMatch]
    port: Number | None
    weight: Number
    permitted: bool
    session_persistence: SessionPersistence | None
    role: Role = "backend"
    total_weight: Number = 0
    shadowed_at: list[Number] = msgspec.field(default_factory=list)
    reason: str = ""
    kind: BackendKind = "Service"


class UnresolvedReference(Record):
    """A backend of a rule that is neither a Service nor a ServiceImport."""

    rule: Number
    group: str
    kind: str
    namespace: str
    name: str
    reason: str


class RouteContent(Record, omit_defaults=True):
    """A route's content for one Service, and for the ServiceImport of its name: its parents, and the rules that name
    one of them as a backend (none where it is only a parent). `unresolved` are the backends that no row of a Service
    can show."""

    created: str
    parents: list[RouteParent]
    backends: list[RouteBackend]
    unresolved: list[UnresolvedReference] = msgspec.field(default_factory=list)


class PolicyContent(Record, omit_defaults=True):
    """The content of an XBackendTrafficPolicy for the Service that it targets, or (`targets`; empty: the Service alone)
    for the ServiceImport of its name. `reason` says why it is no policy of the Service: InvalidKind, where it targets a
    `Service` of another group."""

    created: str
    session_persistence: SessionPersistence | None
    reason: str = ""
    targets: list[BackendKind] = msgspec.field(default_factory=list)


class CertificateReference(Record, omit_defaults=True):
    """An object with CA certificates, in the policy's namespace. ConfigMaps and Secrets are not read (they may hold
    anything): whether they are there, with a certificate, is for the router to check. `reason` is InvalidKind for
    others, which no router need support."""

    group: str
    kind: str
    name: str
    reason: str = ""


class SubjectAltName(Record):
    """A name of which a backend's certificate must have one: `type` is Hostname or URI."""

    type: str
    value: str


class TLSValidation(Record):
    """How a router must verify a backend (BackendTLSPolicy.spec.validation)."""

    hostname: str
    subject_alt_names: list[SubjectAltName]
    ca_certificate_refs: list[CertificateReference] = msgspec.field(name="caCertificateRefs")
    well_known_ca_certificates: str | None = msgspec.field(name="wellKnownCACertificates")


class BackendTLSContent(Record, omit_defaults=True):
    """The content of a BackendTLSPolicy for the Service that it targets: for the whole of it (`sectionNames` has ""),
    or for ports, by their names. `missingSections` are those of ports that the Service doesn't have; `reason` is as in
    PolicyContent."""

    created: str
    section_names: list[str]
    validation: TLSValidation
    missing_sections: list[str] = msgspec.field(default_factory=list)
    reason: str = ""


# ---- rows --------------------------------------------------------------------------------------------


class ObjectReference(Record):
    """An object by name."""

    kind: str
    namespace: str
    name: str


class PlacedMatch(Record):
    """A match of a rule, by its place in the rule's `matches`, for a hostname ("": any)."""

    hostname: str
    match: int


class RuleDecision(Record):
    """The choice for one rule of a route that names the Service. `weight` of `totalWeight` is the Service's share of
    the rule's requests. A rule is listed several times if another's matches have to be tried between its own: `matches`
    are then those to try at this place; else it is empty, which means all."""

    route: ObjectReference
    rule: Number
    rule_name: str | None
    port: int | None
    weight: int
    decision: Decision
    reason: Reason
    session_persistence: SessionPersistence | None
    role: Role = "backend"
    total_weight: Number = 0
    matches: list[PlacedMatch] = msgspec.field(default_factory=list)


class Direction(Record, omit_defaults=True):
    """The choice for one direction. `because` are the objects that led to it; `rules` has the choice for each rule of
    each attached route, in the order in which a router must try them. Where routes and policies have different session
    persistence, `sessionConflicts` are those without effect."""

    decision: Decision
    reason: Reason
    because: list[ObjectReference]
    session_persistence: SessionPersistence | None
    rules: list[RuleDecision]
    session_conflicts: list[ObjectReference] = msgspec.field(default_factory=list)


class MeshDirection(Direction):
    """The choice in the mesh: that of the Service's producer, for every client but those in the namespaces of
    `consumers`, which have routes of their own."""

    consumers: dict[str, Direction] = msgspec.field(default_factory=dict)


class ClustersetRouting(Record):
    """The choices for the ServiceImport of a Service's name, in the cluster whose routes or policies name it. No import
    has a ClusterSetIP here: only what those ask for makes a difference."""

    gateway: Direction
    mesh: MeshDirection


class RoutedService(Record):
    """The fields of a Service that affect the choice."""

    uid: str
    type: ServiceType
    headless: bool
    cluster_ip: bool = msgspec.field(name="clusterIP")
    session_affinity: str
    operator: OperatorRouting


class HeldRoute(Record, omit_defaults=True):
    """A route that names the Service, or the ServiceImport of its name, with its content for it."""

    kind: str
    namespace: str
    name: str
    uid: str
    created: str
    parents: list[RouteParent]
    backends: list[RouteBackend]
    unresolved: list[UnresolvedReference] = msgspec.field(default_factory=list)


class HeldPolicy(Record, omit_defaults=True):
    """A policy that targets the Service; `reason` says why it has no effect there. `targets` are as in
    PolicyContent."""

    kind: str
    namespace: str
    name: str
    uid: str
    created: str
    session_persistence: SessionPersistence | None
    reason: str = ""
    targets: list[BackendKind] = msgspec.field(default_factory=list)


class BackendTLS(Record):
    """A BackendTLSPolicy's entry for the Service (`sectionName` ""), or for the port of this name, which takes
    precedence. Not `accepted` are those without effect: one that conflicts with an older policy (Conflicted), one for a
    port that the Service doesn't have (TargetNotFound), one that targets a `Service` of another group (InvalidKind);
    and one whose certificates no router can read (NoValidCACertificate: it has effect, and connections must fail)."""

    namespace: str
    name: str
    uid: str
    created: str
    section_name: str
    accepted: bool
    reason: str
    validation: TLSValidation


class RoutingRow(RowHead, omit_defaults=True, kw_only=True):
    """`facets.routing`: whether requests for the Service go to its frontend (`service`) or to its backend
    (`endpoint`), for gateways (routes whose parent is a Gateway or ListenerSet) and in the mesh (routes whose parent is
    a Service or ServiceImport). `service` is null while there is none; `routes` are all that name it, attached or not.

    `clusterset` is there where a route or policy names the ServiceImport of this name (GEP-1748), the Service of all
    clusters that export it: what this cluster's routers do with requests for that. Routes and policies count for what
    they name: for the Service, for the ServiceImport, or for both."""

    service: RoutedService | None
    gateway: Direction
    mesh: MeshDirection
    routes: list[HeldRoute]
    policies: list[HeldPolicy]
    backend_tls: list[BackendTLS] = msgspec.field(name="backendTLS", default_factory=list)
    clusterset: ClustersetRouting | None = None
