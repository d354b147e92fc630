"""The clusterset facet on the wire: what the journal carries of a ServiceExport, and the two kinds of rows of
`facets.clusterset`.

A row under `CLUSTER/NAMESPACE/NAME` is what one cluster contributes to the Service of that name: its export, the
Service and the endpoints. The row under `NAMESPACE/NAME` is the set: what the contributions make together (KEP-1645).
Both are in one partition and under one seal, so that they are always of one moment.
"""

from typing import Annotated, Literal

import msgspec

from streams.wire.records import Group, Number, Record, RowHead, ServiceType, State

SetType = Literal["ClusterSetIP", "Headless"]
ExportValidity = Literal["Valid", "NoService", "InvalidServiceType", "ClusterIDConflict", "ObjectRejected"]
ConflictReason = Literal[
    "PortConflict", "TypeConflict", "SessionAffinityConflict", "SessionAffinityConfigConflict", "LabelsConflict",
    "AnnotationsConflict", "InternalTrafficPolicyConflict", "TrafficDistributionConflict", "IPFamilyConflict",
]  # fmt: skip

OWN_NODE, OWN_ZONE, OWN_CLUSTER, CLUSTER_ID = "own-node", "own-zone", "own-cluster", "cluster="
MAX_PREFERRED = 16
MAX_DROP_SECONDS = 30 * 24 * 3600


class DropPolicy(Record, omit_defaults=True):
    """When a cluster's endpoints leave the set because nothing is heard of the cluster: after `afterSeconds` of the
    journal's time, unless fewer than `floorPercent` of the set's endpoints would remain."""

    after_seconds: Annotated[int, msgspec.Meta(ge=1, le=MAX_DROP_SECONDS)]
    floor_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0


class Locality(Record):
    """Which endpoints of a set a client tries first: those in the first place of `prefer`, then those in the second,
    and all others last. `own-node`, `own-zone` and `own-cluster` are the client's own, `cluster=ID` is that cluster.
    The oldest export's annotation says so, or its Service's trafficDistribution; by `Default` none is preferred."""

    prefer: list[str]
    reason: Literal["Default", "ServiceExport", "TrafficDistribution"]


NO_PREFERENCE = Locality([], "Default")


class ExportContent(Record, omit_defaults=True):
    """A ServiceExport as the journal carries it. `clusterID` is its cluster's ClusterProperty
    `cluster.clusterset.k8s.io` (KEP-2149); "" where there is none: the cluster's name is its id then. Without `drop`
    the endpoints stay in the set for as long as nobody takes them back. `prefer` is as in Locality."""

    created: str
    cluster_id: str = msgspec.field(name="clusterID", default="")
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    drop: DropPolicy | None = None
    prefer: list[str] = msgspec.field(default_factory=list)


class ClusterExport(ExportContent, omit_defaults=True, kw_only=True):
    """A ServiceExport in a row."""

    uid: str


class ExportedPort(Record):
    """A port of an exported Service."""

    name: str
    port: int
    protocol: str
    app_protocol: str | None


class ExportedService(Record):
    """The fields of an exported Service that decide how the set is reached."""

    uid: str
    type: ServiceType
    headless: bool
    ports: list[ExportedPort]
    session_affinity: str
    session_affinity_timeout_seconds: Number | None
    internal_traffic_policy: str | None
    traffic_distribution: str | None
    ip_families: list[str]


class ContributionRow(RowHead, omit_defaults=True, kw_only=True):
    """`facets.clusterset`, under `CLUSTER/NAMESPACE/NAME`: what one cluster contributes to the set. `export` is null
    where there is none that can be read, and then nothing else of the cluster is in the row; `service` is null while
    there is no Service. While it counts for nothing (no Service, or an ExternalName) all of its endpoints are
    `shadowed`, as in a backend's `groups`."""

    export: ClusterExport | None
    service: ExportedService | None
    groups: list[Group]


class ContributionHead(RowHead, omit_defaults=True, kw_only=True):
    """`facets.clusterset`: what one cluster contributes of many endpoints, which are in records of their own. `parts`
    are as in a BackendHead, the rest as in a whole row."""

    export: ClusterExport | None
    service: ExportedService | None
    parts: dict[str, Number]


class SetPort(Record):
    """A port of the set. `clusters` are those that expose it, by id, each with the name that its own Service (and so
    its endpoints) has for it."""

    name: str
    port: int
    protocol: str
    app_protocol: str | None
    clusters: dict[str, str]


class Unavailability(Record):
    """What the export's `drop` policy has done about a cluster of which nothing is heard. `since` is when Kafka took
    the last record that shows it alive (or that its watcher has lost the API server), `decided` the journal's time of
    the decision; of the set's `endpoints`, `remaining` are in other clusters. They were `dropped`, or `kept` because
    too few would have remained (which is decided anew each time the policy's time has passed)."""

    action: Literal["dropped", "kept"]
    since: str
    decided: str
    remaining: int
    endpoints: int


class SetExport(Record, omit_defaults=True):
    """A cluster's export, as it counts in the set: `valid` and `conflict` are the reasons of the ServiceExport's
    conditions `Valid` and `Conflict` (mcs-api v1beta1; several conflicts are joined by commas, "" while it is not
    valid). `counted` says whether the cluster's endpoints are in the set; `state` and `reason` are those of its
    contribution."""

    cluster: str
    id: str
    created: str
    state: State
    reason: str
    valid: ExportValidity
    conflict: str
    counted: bool
    drop: DropPolicy | None = None
    unavailable: Unavailability | None = None


class SetConflict(Record):
    """A property in which exports differ, and the id of the cluster whose is used."""

    reason: ConflictReason
    cluster_id: str = msgspec.field(name="clusterID")
    message: str


class SetRow(RowHead, omit_defaults=True, kw_only=True):
    """`facets.clusterset`, under `NAMESPACE/NAME`: the Service of all clusters that export it. `cluster` is "";
    `asOf` and `cause` are of the cluster `origin`, whose change made the row. `type` is null while no export is valid.
    Its endpoints are in the contributions of the clusters that are `counted`."""

    origin: str
    dns_name: str
    type: SetType | None
    ports: list[SetPort]
    session_affinity: str
    session_affinity_timeout_seconds: Number | None
    internal_traffic_policy: str | None
    traffic_distribution: str | None
    locality: Locality = msgspec.field(default_factory=lambda: NO_PREFERENCE)
    ip_families: list[str]
    labels: dict[str, str]
    annotations: dict[str, str]
    exports: list[SetExport]
    conflicts: list[SetConflict]
