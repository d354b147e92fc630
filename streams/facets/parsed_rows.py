"""Parsed facet rows: each is decoded and checked once in a process, for all its readers there.

`read_row` decodes a whole row; its `facet()` keeps what routers need. There is one for each row of the tables, so it
leaves out the row's history (causes, change) and what only people read (selector, rules, routes).

Unknown fields are ignored: a newer worker may write them.
"""

from typing import Any

import msgspec

from streams.facets.overlay import LOST
from streams.wire.clusterset_records import (
    NO_PREFERENCE,
    ClusterExport,
    ExportedService,
    Locality,
    SetExport,
    SetPort,
    SetType,
)
from streams.wire.records import (
    CLUSTERSET,
    ChangeGroup,
    Group,
    RowHead,
    ServicePort,
    ServiceReference,
    ServiceType,
    State,
)
from streams.wire.routing_records import Decision, ObjectReference, RoutedService, SessionPersistence


class Facet(msgspec.Struct):
    """The fields of all facets. `at` is the time of the row's commit; `triggers` are when what led to it happened, as
    the objects say it. With `is_partial`, what can't be read has been left out."""

    version: int
    previous: int | None
    state: State
    at: str
    triggers: tuple[str, ...]
    is_partial: bool

    @property
    def tells_nothing(self) -> bool:
        """Whether it is `unknown` as a whole: what was before goes on counting."""
        return self.state == "unknown" and not self.is_partial


class FrontendFacet(Facet):
    """How a Service is reached, from a frontend row."""

    type: ServiceType
    cluster_ips: list[str]
    ip_families: list[str]
    dns_name: str
    external_name: str | None
    headless: bool
    ports: list[ServicePort]
    session_affinity: str
    traffic_distribution: str | None
    internal_traffic_policy: str | None
    publish_not_ready_addresses: bool


class BackendFacet(Facet):
    """The endpoint set of a backend row."""

    groups: list[Group]


class DirectionFacet(msgspec.Struct):
    """A routing row's choice for one direction."""

    decision: str
    reason: str = ""
    session_persistence: SessionPersistence | None = None


class MeshFacet(DirectionFacet):
    """A routing row's choice in the mesh: the producer's, and by namespace the consumers'."""

    consumers: dict[str, DirectionFacet] = {}


class ImportFacet(msgspec.Struct):
    """A routing row's choices for the ServiceImport of the Service's name."""

    gateway: DirectionFacet
    mesh: MeshFacet


class RoutingFacet(Facet):
    """The choices of a routing row; those for the ServiceImport of its name where a route names it."""

    gateway: DirectionFacet
    mesh: MeshFacet
    clusterset: ImportFacet | None = None


class ContributionFacet(Facet):
    """The endpoints that a cluster contributes to a set."""

    groups: list[Group]


class SetFacet(Facet):
    """A set: its properties, and the exports that it is made of. `type` is None while none of them is valid."""

    dns_name: str
    type: SetType | None
    ports: list[SetPort]
    session_affinity: str
    internal_traffic_policy: str | None
    traffic_distribution: str | None
    locality: Locality
    ip_families: list[str]
    exports: list[SetExport]


class ReadRow(RowHead, forbid_unknown_fields=False, omit_defaults=False):
    """A whole row, as it is read: what a newer worker adds to it is passed over."""

    def facet(self) -> Facet:
        """The part that is kept."""
        return Facet(*self._head())

    def _head(self) -> tuple[int, int | None, State, str, tuple[str, ...], bool]:
        triggers = tuple(cause.trigger for cause in self.cause if cause.trigger)
        return (
            self.version,
            self.previous,
            self.state,
            self.as_of.at,
            triggers,
            bool(self.rejected) and self.reason != LOST,
        )


class _Frontend(ReadRow, kw_only=True):
    uid: str
    type: ServiceType
    cluster_ips: list[str] = msgspec.field(name="clusterIPs")
    ip_families: list[str]
    dns_name: str
    external_name: str | None
    headless: bool
    ports: list[ServicePort]
    selector: dict[str, str] | None
    session_affinity: str
    session_affinity_timeout_seconds: int | None
    traffic_distribution: str | None
    internal_traffic_policy: str | None
    external_traffic_policy: str | None
    publish_not_ready_addresses: bool

    def facet(self) -> FrontendFacet:
        return FrontendFacet(
            *self._head(),
            self.type,
            self.cluster_ips,
            self.ip_families,
            self.dns_name,
            self.external_name,
            self.headless,
            self.ports,
            self.session_affinity,
            self.traffic_distribution,
            self.internal_traffic_policy,
            self.publish_not_ready_addresses,
        )


class _Change(msgspec.Struct):
    added: list[ChangeGroup]
    removed: list[ChangeGroup]
    updated: list[ChangeGroup]


class _Backend(ReadRow, kw_only=True):
    service: ServiceReference | None
    groups: list[Group] | msgspec.UnsetType = msgspec.UNSET
    parts: dict[str, int] | msgspec.UnsetType = msgspec.UNSET
    change: _Change

    def __post_init__(self) -> None:
        if (self.groups is msgspec.UNSET) == (self.parts is msgspec.UNSET):
            raise ValueError("a backend row has either `groups` or `parts`")

    def facet(self) -> BackendFacet:
        """Without the groups that are in parts."""
        return BackendFacet(*self._head(), self.groups or [])


class _Direction(msgspec.Struct, rename="camel"):
    decision: Decision
    reason: str
    because: list[ObjectReference]
    session_persistence: SessionPersistence | None
    rules: list[Any]

    def facet(self) -> DirectionFacet:
        return DirectionFacet(self.decision, self.reason, self.session_persistence)


class _Mesh(_Direction):
    consumers: dict[str, _Direction] = {}

    def facet(self) -> MeshFacet:
        consumers = {namespace: direction.facet() for namespace, direction in self.consumers.items()}
        return MeshFacet(self.decision, self.reason, self.session_persistence, consumers)


class _Import(msgspec.Struct):
    gateway: _Direction
    mesh: _Mesh

    def facet(self) -> ImportFacet:
        return ImportFacet(self.gateway.facet(), self.mesh.facet())


class _Routing(ReadRow, kw_only=True):
    service: RoutedService | None
    gateway: _Direction
    mesh: _Mesh
    routes: list[Any]
    policies: list[Any]
    clusterset: _Import | None = None

    def facet(self) -> RoutingFacet:
        imported = None if self.clusterset is None else self.clusterset.facet()
        return RoutingFacet(*self._head(), self.gateway.facet(), self.mesh.facet(), imported)


class _Clusterset(ReadRow, kw_only=True):
    """A cluster's contribution, or a set."""

    export: ClusterExport | msgspec.UnsetType | None = msgspec.UNSET
    service: ExportedService | msgspec.UnsetType | None = msgspec.UNSET
    groups: list[Group] | msgspec.UnsetType = msgspec.UNSET
    parts: dict[str, int] | msgspec.UnsetType = msgspec.UNSET
    ports: list[SetPort] | msgspec.UnsetType = msgspec.UNSET
    exports: list[SetExport] | msgspec.UnsetType = msgspec.UNSET
    type: SetType | None = None
    dns_name: str = ""
    session_affinity: str = "None"
    internal_traffic_policy: str | None = None
    traffic_distribution: str | None = None
    locality: Locality = msgspec.field(default_factory=lambda: NO_PREFERENCE)
    ip_families: list[str] = msgspec.field(default_factory=list)

    def __post_init__(self) -> None:
        if self.groups is not msgspec.UNSET and self.parts is not msgspec.UNSET:
            raise ValueError("a contribution has either `groups` or `parts`")
        endpoints = self.groups if self.parts is msgspec.UNSET else self.parts
        of_cluster, of_set = (self.export, self.service, endpoints), (self.ports, self.exports)
        present, absent = (of_cluster, of_set) if self.cluster else (of_set, of_cluster)
        if msgspec.UNSET in present or any(field is not msgspec.UNSET for field in absent):
            raise ValueError("a row of the clusterset is either a cluster's contribution or a set")

    def facet(self) -> ContributionFacet | SetFacet:
        """Of a contribution without the groups that are in parts."""
        if self.cluster:
            return ContributionFacet(*self._head(), self.groups or [])
        return SetFacet(
            *self._head(),
            self.dns_name,
            self.type,
            self.ports or [],
            self.session_affinity,
            self.internal_traffic_policy,
            self.traffic_distribution,
            self.locality,
            self.ip_families,
            self.exports or [],
        )


_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    "frontend": msgspec.json.Decoder(_Frontend),
    "backend": msgspec.json.Decoder(_Backend),
    "routing": msgspec.json.Decoder(_Routing),
    CLUSTERSET: msgspec.json.Decoder(_Clusterset),
}


def read_row(table: str, value: bytes) -> ReadRow:
    """The row in a record's value. Raises ValueError (msgspec's DecodeError is one) and RecursionError."""
    row: ReadRow = _decoders[table].decode(value)
    return row
