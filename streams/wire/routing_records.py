"""The routing facet on the wire: what the journal carries of routes, policies and operators' choices, and the rows."""

from typing import Annotated, Literal

import msgspec

from streams.wire.records import Number, Record, RowHead, ServiceContent, ServiceType

Traffic = Literal["gateway", "mesh"]
Decision = Literal["service", "endpoint", "dns", "none"]
Reason = Literal[
    "ServiceNotFound", "ExternalName", "Headless", "NoClusterIP", "SessionPersistence", "BackendTrafficPolicy",
    "SessionAffinity", "ServiceAnnotation", "NamespaceAnnotation", "ClusterDefault", "Default", "RefNotPermitted",
    "RuleShadowed",
]  # fmt: skip

Duration = Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}(?!\n)$")]
"""In the Gateway API's form (GEP-2257), such as 1h30m."""


# ---- in the journal ----------------------------------------------------------------------------------


class OperatorChoice(Record):
    """What an operator sets for a direction, and where: by annotation of the Service or of its Namespace, or for
    the whole cluster."""

    decision: Literal["service", "endpoint"]
    source: Literal["Service", "Namespace", "Cluster"]


class OperatorRouting(Record, omit_defaults=True):
    """An operator's choices for a Service, by direction. `invalid` names an annotation that says neither."""

    gateway: OperatorChoice | None = None
    mesh: OperatorChoice | None = None
    invalid: str = ""


class ServiceObject(ServiceContent, omit_defaults=True):
    """A Service as the journal carries it: what its frontend is, and what its operator sets for its routing."""

    routing: OperatorRouting | None = None


class SessionPersistence(Record):
    """Session persistence as a route's rule or a policy asks for it (Gateway API GEP-1619). Timeouts are durations
    in the Gateway API's form (GEP-2257), such as 1h30m."""

    type: Literal["Cookie", "Header"]
    session_name: str | None
    absolute_timeout: Duration | None
    idle_timeout: Duration | None
    cookie_lifetime: Literal["Session", "Permanent"] | None


class RouteParent(Record):
    """A parent of a route: a Gateway (north/south) or a Service (east/west, GAMMA). `reason` says why the route is
    not attached to it, where it is not."""

    kind: Literal["Gateway", "Service"]
    namespace: str
    name: str
    section_name: str | None
    port: Number | None
    attached: bool
    reason: str


class RouteBackend(Record):
    """Where a rule of a route names the Service: `rule` counts from 0. `matches` is a digest of the requests that the
    rule takes (hostnames and matches), equal where they are equal. Without `permitted` a ReferenceGrant is missing,
    and the Gateway API forbids to follow the reference."""

    rule: Number
    rule_name: str | None
    matches: str
    port: Number | None
    weight: Number
    permitted: bool
    session_persistence: SessionPersistence | None


class RouteContent(Record):
    """What a route says of one Service: its parents, and the rules that name the Service as a backend (none where
    the Service is only a parent)."""

    created: str
    parents: list[RouteParent]
    backends: list[RouteBackend]


class PolicyContent(Record):
    """What an XBackendTrafficPolicy asks for the Service that it targets."""

    created: str
    session_persistence: SessionPersistence | None


# ---- rows --------------------------------------------------------------------------------------------


class ObjectReference(Record):
    """An object by name."""

    kind: str
    namespace: str
    name: str


class RuleDecision(Record):
    """What one rule of a route asks where it names the Service as a backend."""

    route: ObjectReference
    rule: int
    rule_name: str | None
    port: int | None
    weight: int
    decision: Decision
    reason: Reason
    session_persistence: SessionPersistence | None


class Direction(Record):
    """The choice for one direction. `because` are the objects that led to it; `rules` what each rule of each attached
    route asks, in the order of precedence of the Gateway API."""

    decision: Decision
    reason: Reason
    because: list[ObjectReference]
    session_persistence: SessionPersistence | None
    rules: list[RuleDecision]


class RoutedService(Record):
    """What of a Service bears on the choice."""

    uid: str
    type: ServiceType
    headless: bool
    cluster_ip: bool = msgspec.field(name="clusterIP")
    session_affinity: str
    operator: OperatorRouting


class HeldRoute(Record):
    """A route that names the Service, and what it says of it."""

    kind: str
    namespace: str
    name: str
    uid: str
    created: str
    parents: list[RouteParent]
    backends: list[RouteBackend]


class HeldPolicy(Record):
    """A policy that targets the Service."""

    kind: str
    namespace: str
    name: str
    uid: str
    created: str
    session_persistence: SessionPersistence | None


class RoutingRow(RowHead, omit_defaults=True, kw_only=True):
    """`facets.routing`: whether requests for the Service go to its frontend (`service`) or to its backend
    (`endpoint`), for gateways (routes whose parent is a Gateway) and in the mesh (routes whose parent is a Service).
    `service` is null while there is none; `routes` are all that name it, attached or not."""

    service: RoutedService | None
    gateway: Direction
    mesh: Direction
    routes: list[HeldRoute]
    policies: list[HeldPolicy]
