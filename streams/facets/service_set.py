"""The clusterset's rules: what the contributions of several clusters to one Service make together.

The rules are those of KEP-1645 (sections Exporting Services, Service Types, Constraints and Conflict Resolution) and of
mcs-api v1beta1 (the conditions of a ServiceExport); ids are those of KEP-2149.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from streams.facets.unavailability import NO_DECISIONS, Decisions
from streams.wire.clusterset_records import (
    NO_PREFERENCE,
    OWN_CLUSTER,
    OWN_NODE,
    OWN_ZONE,
    ClusterExport,
    ConflictReason,
    ExportedPort,
    ExportedService,
    ExportValidity,
    Locality,
    SetConflict,
    SetExport,
    SetPort,
    SetType,
    Unavailability,
)
from streams.wire.records import State

DNS_ZONE = "clusterset.local"


class Contribution(NamedTuple):
    """What one cluster contributes to a Service, without its endpoints. `export` is None where it can't be read."""

    cluster: str
    export: ClusterExport | None
    service: ExportedService | None
    state: State
    reason: str

    @property
    def id(self) -> str:
        """The cluster's id."""
        return (self.export.cluster_id if self.export else "") or self.cluster

    @property
    def created(self) -> str:
        """When the export was created."""
        return self.export.created if self.export else ""


class Exported(NamedTuple):
    """A contribution with a valid export."""

    id: str
    export: ClusterExport
    service: ExportedService


class ServiceSet(NamedTuple):
    """The set, as a SetRow has it after its head."""

    state: State
    reason: str
    type: SetType | None
    ports: list[SetPort]
    session_affinity: str
    session_affinity_timeout_seconds: int | None
    internal_traffic_policy: str | None
    traffic_distribution: str | None
    locality: Locality
    ip_families: list[str]
    labels: dict[str, str]
    annotations: dict[str, str]
    exports: list[SetExport]
    conflicts: list[SetConflict]


def dns_name(namespace: str, name: str) -> str:
    """The name under which every cluster reaches the set (KEP-1645, DNS)."""
    return f"{name}.{namespace}.svc.{DNS_ZONE}"


def host_dns_name(hostname: str, cluster_id: str, set_dns_name: str) -> str:
    """The name of one host of a headless set, in one cluster (KEP-1645, DNS; a cluster alone has no name)."""
    return f"{hostname}.{cluster_id}.{set_dns_name}"


def combine(contributions: Sequence[Contribution], decisions: Decisions = NO_DECISIONS) -> ServiceSet | None:
    """The set of these contributions, one a cluster; None where nothing is exported. `decisions` are those about
    clusters of which nothing is heard."""
    exporting = _with_validity(contributions)
    if not exporting:
        return None
    valid = [
        Exported(contribution.id, contribution.export, contribution.service)
        for contribution, reason in exporting
        if reason == "Valid" and contribution.export is not None and contribution.service is not None
    ]
    valid.sort(key=lambda exported: precedence(exported.export.created, exported.id))
    conflicts = _conflicts(valid)
    conflict = ",".join(conflict.reason for conflict in conflicts) or "NoConflicts"
    exports = [
        SetExport(
            contribution.cluster,
            contribution.id,
            contribution.created,
            contribution.state,
            contribution.reason,
            reason,
            conflict if reason == "Valid" else "",
            is_counted(contribution, reason, decisions.get(contribution.cluster)),
            contribution.export.drop if contribution.export else None,
            decisions.get(contribution.cluster) if reason == "Valid" else None,
        )
        for contribution, reason in exporting
    ]
    state, reason = set_state(
        [(export.id, export.state, export.counted) for export in exports],
        any_dropped=any(export.unavailable is not None for export in exports),
    )
    if not valid:
        return ServiceSet(state, reason, None, [], "None", None, None, None, NO_PREFERENCE, [], {}, {}, exports, [])
    oldest = valid[0]
    return ServiceSet(
        state,
        reason,
        _type(oldest),
        _ports(valid),
        oldest.service.session_affinity,
        oldest.service.session_affinity_timeout_seconds,
        oldest.service.internal_traffic_policy,
        oldest.service.traffic_distribution,
        _locality(oldest),
        oldest.service.ip_families,
        oldest.export.labels,
        oldest.export.annotations,
        exports,
        conflicts,
    )


def valid_exports(contributions: Iterable[Contribution]) -> list[Contribution]:
    """The contributions with a valid export, ordered by cluster."""
    return [contribution for contribution, reason in _with_validity(contributions) if reason == "Valid"]


def can_be_exported(service: ExportedService | None) -> bool:
    """Whether there is a Service of a type that can be exported: an ExternalName can't (KEP-1645, Service Types)."""
    return service is not None and service.type != "ExternalName"


def precedence(created: str, cluster_id: str) -> tuple[bool, str, str]:
    """Orders exports: the oldest is first, of equal ages the lowest cluster id; one without an age is last."""
    return not created, created, cluster_id


def is_counted(contribution: Contribution, validity: ExportValidity, decision: Unavailability | None) -> bool:
    """Whether a cluster's endpoints are in the set: the one place where that is decided. A cluster whose newest state
    is not known (`stale`, `unknown`) keeps what it had, unless its export's policy has dropped it."""
    is_dropped = decision is not None and decision.action == "dropped"
    return validity == "Valid" and contribution.state != "deleted" and not is_dropped


def _owners(contributions: Sequence[Contribution]) -> dict[str, str]:
    """The cluster that each id belongs to. Where two have one id (KEP-2149 forbids it, a copied cluster does it), it is
    the one that is named so, else the lowest name: the same for all Services."""
    owners: dict[str, str] = {}
    for contribution in contributions:
        owner = owners.setdefault(contribution.id, contribution.cluster)
        if owner != contribution.id and contribution.cluster == contribution.id:
            owners[contribution.id] = contribution.cluster
    return owners


def _with_validity(contributions: Iterable[Contribution]) -> list[tuple[Contribution, ExportValidity]]:
    """The contributions with an export, ordered by cluster, and whether it is valid."""
    ordered = sorted(contributions, key=lambda contribution: contribution.cluster)
    exporting = [contribution for contribution in ordered if contribution.state != "deleted"]
    owners = _owners(exporting)
    return [(contribution, _validity(contribution, owners)) for contribution in exporting]


def _validity(contribution: Contribution, owners: dict[str, str]) -> ExportValidity:
    if contribution.export is None:
        return "ObjectRejected"
    if owners[contribution.id] != contribution.cluster:
        return "ClusterIDConflict"
    if contribution.service is None:
        return "NoService"
    return "Valid" if can_be_exported(contribution.service) else "InvalidServiceType"


def set_state(exports: Sequence[tuple[str, str, bool]], *, any_dropped: bool) -> tuple[State, str]:
    """The set's state, that of its best cluster, and which of them are out of date or unknown. `exports` are their
    cluster's id, state and whether they are counted; `any_dropped`, whether one is not because of its policy."""
    states = {state for _, state, counted in exports if counted}
    if not states:
        return "empty", "ClustersUnavailable" if any_dropped else "NoValidExport"
    best: State = next((state for state in _BEST_FIRST if state in states), "empty")
    return best, ", ".join(
        f"{name}: {state}" for name, state, counted in exports if counted and state in {"stale", "unknown"}
    )


_BEST_FIRST: tuple[Literal["ready", "stale", "unknown"], ...] = ("ready", "stale", "unknown")


def _type(exported: Exported) -> SetType:
    return "Headless" if exported.service.headless else "ClusterSetIP"


def _locality(exported: Exported) -> Locality:
    """What clients try first. A Service's trafficDistribution is about its own cluster (v1 ServiceSpec); of several the
    client's own comes before the others."""
    if exported.export.prefer:
        return Locality(exported.export.prefer, "ServiceExport")
    distribution = exported.service.traffic_distribution
    if not distribution:
        return NO_PREFERENCE
    near_node = [OWN_NODE] if distribution == "PreferSameNode" else []
    return Locality([*near_node, OWN_ZONE, OWN_CLUSTER], "TrafficDistribution")


def _ports(valid: Sequence[Exported]) -> list[SetPort]:
    """The union of the ports, of the oldest export first: merged by name, then by protocol and number."""
    ports: list[SetPort] = []
    for exported in valid:
        for own in exported.service.ports:
            if all(own.name != port.name and _number(own) != _number(port) for port in ports):
                ports.append(SetPort(own.name, own.port, own.protocol, own.app_protocol, {}))
    for port in ports:
        for exported in sorted(valid, key=lambda exported: exported.id):
            if (exposed := _own_port(exported.service, port)) is not None:
                port.clusters[exported.id] = exposed.name
    return ports


def _own_port(service: ExportedService, port: SetPort) -> ExportedPort | None:
    """The port of the Service that is the set's: that of its name, if the protocol is the same, else that of its
    protocol and number."""
    for own in service.ports:
        if own.name == port.name:
            return own if own.protocol == port.protocol else None
    return next((own for own in service.ports if _number(own) == _number(port)), None)


def _number(port: ExportedPort | SetPort) -> tuple[str, int]:
    return port.protocol, port.port


def _conflicts(valid: Sequence[Exported]) -> list[SetConflict]:
    """The properties in which exports differ from the oldest."""
    conflicts = []
    for reason, property_name, value in _PROPERTIES:
        values = [value(exported) for exported in valid]
        differing = sum(1 for other in values if other != values[0])
        if differing:
            message = (
                f'Conflicting {property_name}. Using that of the oldest service export, in "{valid[0].id}". '
                f"{differing}/{len(valid)} clusters disagree."
            )
            conflicts.append(SetConflict(reason, valid[0].id, message))
    return conflicts


def _all_ports(exported: Exported) -> Any:
    return sorted((port.name, port.port, port.protocol, port.app_protocol or "") for port in exported.service.ports)


_PROPERTIES: tuple[tuple[ConflictReason, str, Callable[[Exported], Any]], ...] = (
    ("PortConflict", "ports", _all_ports),
    ("TypeConflict", "type", _type),
    ("SessionAffinityConflict", "session affinity", lambda exported: exported.service.session_affinity),
    (
        "SessionAffinityConfigConflict", "session affinity config",
        lambda exported: exported.service.session_affinity_timeout_seconds,
    ),
    ("LabelsConflict", "labels", lambda exported: exported.export.labels),
    ("AnnotationsConflict", "annotations", lambda exported: exported.export.annotations),
    (
        "InternalTrafficPolicyConflict", "internal traffic policy",
        lambda exported: exported.service.internal_traffic_policy or "Cluster",
    ),
    (
        "TrafficDistributionConflict", "traffic distribution",
        lambda exported: exported.service.traffic_distribution or "",
    ),
    ("IPFamilyConflict", "IP families", lambda exported: sorted(exported.service.ip_families)),
)  # fmt: skip
