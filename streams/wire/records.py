"""Every record on the wire as a type: the journal's commits, the facet rows, the seals and the dead letters.

JSON Schema and AsyncAPI in `schemas/` are generated from these types. Names follow Kubernetes (camelCase).
Times are RFC 3339 in UTC with milliseconds; resourceVersions are decimal strings, ordered within one
resource type of one cluster only (KEP-5504).
"""

from typing import Annotated, Any, Literal

import msgspec

from streams.wire.name_syntax import DNS_LABEL

FOLD_VERSION = 9
"""Raised by every release whose fold makes different bytes from the same journal."""

JOURNAL = "facets.journal"
DEAD_LETTER = "facets.deadletter"
TABLES = ("frontend", "backend", "routing")
"""The facets of each cluster's Services."""

CLUSTERSET = "clusterset"
FOLDED_TABLES = (*TABLES, CLUSTERSET)
"""All tables that workers write. Who reads TABLES does not wait for the clusterset's seals."""

MAX_NUMBER = 2**53 - 1
"""The largest integer that every JSON reader represents exactly (RFC 8259, section 6)."""

CLUSTER_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?(?!\n)$"
"""In Python, `$` also matches before a trailing newline."""

Hostname = Annotated[str, msgspec.Meta(pattern=rf"^{DNS_LABEL.expression.pattern}(?!\n)$")]
Number = Annotated[int, msgspec.Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Family = Literal["IPv4", "IPv6", "FQDN"]
Phase = Literal["begin", "snapshot", "end", "live", "close"]
State = Literal["ready", "empty", "unknown", "stale", "deleted"]
SERVED_PROTOCOLS = ("TCP", "UDP")
"""The protocols of ports that routers are given: Envoy has no SCTP."""

ServiceType = Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]


def topic_of(table: str) -> str:
    """The Kafka topic of a facet table."""
    return f"facets.{table}"


class Record(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """What all wire types share: camelCase names, and no field that the schema does not name."""


# ---- the objects, normalized to what a facet uses ------------------------------------------------


class EndpointPort(Record):
    """A port of an EndpointSlice (discovery.k8s.io/v1 EndpointPort); `port` null means: not restricted."""

    name: str
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None
    protocol: str
    app_protocol: str | None


class ServicePort(Record):
    """A port of a Service (v1 ServicePort); `targetPort` is a number or the name of a container port."""

    name: str
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    protocol: str
    app_protocol: str | None
    target_port: Number | str


class Hints(Record, omit_defaults=True):
    """Topology hints: the zones (and from Kubernetes 1.34 on the nodes) that an endpoint is meant for."""

    zones: list[str] = []
    nodes: list[str] = []


class Target(Record):
    """The object behind an endpoint (its `targetRef`), mostly a Pod: an association, not a part of the facet."""

    kind: str
    namespace: str
    name: str
    uid: str


class SliceEndpoint(Record, omit_defaults=True):
    """One endpoint as held in a group: family, ports and slice are the group's. Only the first address of a
    slice's endpoint counts (discovery.k8s.io/v1 Endpoint: no semantics are defined for more). Those of one `hostname`
    are one host, under a name of its own in DNS; mostly there is none."""

    address: str
    ready: bool
    serving: bool
    terminating: bool
    zone: str | None
    node: str | None
    hints: Hints | None
    target: Target | None
    hostname: Hostname | None = None


class SliceGroup(Record):
    """The endpoints of one slice that share family and ports, as the journal carries them."""

    family: Family
    ports: list[EndpointPort]
    endpoints: list[SliceEndpoint]


class ServiceContent(Record):
    """What a Service's frontend is; a frontend row carries exactly these fields."""

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
    session_affinity_timeout_seconds: Number | None
    traffic_distribution: str | None
    internal_traffic_policy: str | None
    external_traffic_policy: str | None
    publish_not_ready_addresses: bool


class SourceContent(Record):
    """The content of an EndpointSlice, or of a legacy Endpoints object (one group for each subset and family)."""

    groups: list[SliceGroup]


class PatchEndpoint(Record, omit_defaults=True):
    """A SliceEndpoint in a patch: what most endpoints have in common is left out."""

    address: str
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone: str | None = None
    node: str | None = None
    hints: Hints | None = None
    target: Target | None = None
    hostname: Hostname | None = None


class SlicePatch(Record, omit_defaults=True):
    """What differs in an EndpointSlice from its state `base`: endpoints that are new or replace those of their address,
    and the addresses that are gone. Its family and ports are the same, and no address that is named is there twice."""

    removed: list[str] = []
    endpoints: list[PatchEndpoint] = []


# ---- the journal -----------------------------------------------------------------------------------


class Event(Record, omit_defaults=True):
    """One change of one object as it affects one Service.

    `reject` names an object that can't be normalized: the Service keeps its last good state, marked. `message` says
    why; with an `apply`, it names what was left out of the object because it can't be read. `trigger` is when the
    change that led to the object happened, by the cluster's own clock. `serviceNamespace` is the Service's, where it is
    not the object's own. A `patch` has as `object` what differs from the object's state at the resourceVersion `base`
    (EndpointSlices only, and never in a snapshot).
    """

    op: Literal["apply", "delete", "reject", "patch"]
    kind: str
    namespace: str
    name: str
    service: str
    uid: str
    resource_version: str
    service_namespace: str = ""
    base: str = ""
    trigger: str = ""
    message: str = ""
    excerpt: str = ""
    object: msgspec.Raw = msgspec.Raw()


class Commit(Record, omit_defaults=True):
    """The journal's record: the changes of one cluster for one partition that were seen together. `source` says where
    the cluster is from: empty for an API server, `demo` for a recording. Phase `close` ends the cluster: nothing of it
    is there any more, until a higher epoch opens."""

    cluster: Annotated[str, msgspec.Meta(pattern=CLUSTER_NAME)]
    epoch: Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
    writer: str
    seq: Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
    at: str
    phase: Phase
    frontier: dict[str, str]
    stale_since: str = ""
    source: str = ""
    events: list[Event] = []


class ClusterProgress(Record, omit_defaults=True):
    """How far a cluster has come, in a `Progress`: all its commits up to `seq` that are for this partition are in the
    journal before this record, and all changes up to `frontier` are in them. From then on the progress records of its
    writer cover the cluster in this partition, whether they name it or not, until one has it with `covered` false
    (which says nothing else of it), or another epoch opens."""

    cluster: Annotated[str, msgspec.Meta(pattern=CLUSTER_NAME)]
    epoch: Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
    seq: Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
    frontier: dict[str, str]
    covered: bool = True


class Progress(Record, tag_field="phase", tag="progress", omit_defaults=True):
    """The journal's other record: a watcher process is alive, and all that it has seen of the clusters it covers is in
    the journal. `clusters` are those that have come further since this partition last heard of them; mostly none has,
    so that silence costs one small record for a process and partition. `phase` is the record's first field."""

    writer: str
    at: str
    clusters: list[ClusterProgress] = []


# ---- rows ------------------------------------------------------------------------------------------


class AsOf(Record):
    """Where in its cluster's history a row stands."""

    epoch: int
    seq: int
    at: str
    frontier: dict[str, str]


class Cause(Record, omit_defaults=True):
    """An object whose change made the row. `trigger` is when what led to its change happened, by the cluster's word;
    `namespace` the object's, where it is not the Service's."""

    kind: str
    name: str
    uid: str
    resource_version: str
    trigger: str = ""
    namespace: str = ""


class Rejection(Record, omit_defaults=True):
    """An object that could not be read, as a whole (its last good state is kept) or in part (the rest of it counts).
    `namespace` as in a Cause. `outdated`: what could not be used is a patch, so the object has
    a good state that is not held."""

    kind: str
    name: str
    resource_version: str
    message: str
    namespace: str = ""
    outdated: bool = False


class RowHead(Record, omit_defaults=True):
    """The fields that the rows of all tables begin with. `version` is the journal offset of the commit that made the
    row, `previous` the version of the row it replaces (null where none is held)."""

    cluster: str
    namespace: str
    name: str
    version: int
    previous: int | None
    state: State
    reason: str
    as_of: AsOf
    cause: list[Cause]
    rejected: list[Rejection] = []


class Group(Record, omit_defaults=True):
    """The endpoints of one slice; what they share is stored once. `shadowed` are endpoints that lost ports to another
    slice (or another Pod) with a better claim; they are kept so that the next event can be applied from the row alone.
    The set is the `endpoints` of all groups: one that lost some of its ports, not all, is there in a `partial` group of
    the ports that it keeps."""

    slice: str
    uid: str
    resource_version: str
    family: Family
    ports: list[EndpointPort]
    endpoints: list[SliceEndpoint]
    shadowed: list[SliceEndpoint] = []
    partial: bool = False


class ChangeGroup(Record):
    """The endpoints of one slice that a row added, removed or updated; `ports` are those of their ports with which this
    happened."""

    slice: str
    family: Family
    ports: list[EndpointPort]
    endpoints: list[SliceEndpoint]


class Change(Record):
    """The difference between a row and the row it replaces. What is compared is each (family, address, port name,
    protocol, port number); one that only moved to another slice is `updated`."""

    added: list[ChangeGroup]
    removed: list[ChangeGroup]
    updated: list[ChangeGroup]


class UnservedPort(Record):
    """A Service port that routers are not given, and why."""

    name: str
    port: int
    protocol: str
    reason: Literal["ProtocolNotServed"]


FrontendRow = msgspec.defstruct(
    "FrontendRow",
    [
        *(
            (field.name, field.type, msgspec.field(name=field.encode_name))
            for field in msgspec.structs.fields(ServiceContent)
        ),
        ("unserved", list[UnservedPort], msgspec.field(default_factory=list)),
    ],
    bases=(RowHead,),
    kw_only=True,
)
FrontendRow.__doc__ = (
    "`facets.frontend`: a Service's cluster IPs and DNS name, with what decides how they are reached. `unserved` are "
    "the ports that routers are not given: those of a protocol other than TCP and UDP."
)


class ServiceReference(Record):
    """The Service that a backend belongs to."""

    uid: str
    type: ServiceType


class BackendRow(RowHead, omit_defaults=True, kw_only=True):
    """`facets.backend`: a Service's whole endpoint set, merged from its slices. `service` is null while there is
    none; its slices are then kept, all shadowed, as they are while it is an ExternalName."""

    service: ServiceReference | None
    groups: list[Group]
    change: Change


class BackendHead(RowHead, omit_defaults=True, kw_only=True):
    """`facets.backend`: the row of a large Service, whose endpoints are in records of their own. `parts` names, by
    slice, the record `~part/KEY/SLICE`: by how much its version is below the row's. The rest is as in a whole row."""

    service: ServiceReference | None
    parts: dict[str, Number]
    change: Change


class BackendPart(Record):
    """`~part/KEY/SLICE`, of a large Service: a slice's part of its row. `chunks` names the records
    `~part/KEY/SLICE/NUMBER`, numbered from 0: by how much their versions are below the part's."""

    slice: str
    uid: str
    resource_version: str
    chunks: list[Number]
    version: Number


class ChunkGroup(Record, omit_defaults=True):
    """With the `slice`, `uid` and `resourceVersion` of its part, one of a row's groups."""

    family: Family
    ports: list[EndpointPort]
    endpoints: list[SliceEndpoint]
    shadowed: list[SliceEndpoint] = []
    partial: bool = False


class BackendChunk(Record):
    """`~part/KEY/SLICE/NUMBER`, of a large Service: some of the endpoints of a slice, in groups."""

    groups: list[ChunkGroup]
    version: Number


class Seal(Record, omit_defaults=True):
    """Rows up to `offset` (of the journal) are complete. One record a commit in every facet partition, keyed
    `~seal/CLUSTER`. `frontier` is empty while the cluster's snapshot is not complete; `deadLetters` counts
    what this partition has dead-lettered for the cluster; `snapshotBegin` is the offset of the open snapshot; `lost`
    says that the journal expired before it was read, and that no complete snapshot has come since. `appended` is when
    Kafka took the cluster's last accepted commit (by the broker's clock; empty where the record has no time): `at` is
    the watcher's own word. `closed` says that the cluster has ended; `source` is as in a commit. With `more`,
    another seal of the same offset follows, and the last one counts: where the journal expired, and for a `Progress`
    that names clusters.

    `covered` says that the progress records of the cluster's writer cover it. Such a record is sealed under the key
    `~seal/~WRITER`, and its `cluster` is `~WRITER`: `at` and `appended` are the record's, and hold for every cluster of
    this writer that is covered. The key is deleted once the writer has no cluster any more."""

    cluster: str
    offset: int
    epoch: int
    writer: str
    seq: int
    at: str
    phase: str
    frontier: dict[str, str]
    fold: int
    dead_letters: int = 0
    snapshot_begin: int | None = None
    stale_since: str = ""
    lost: bool = False
    source: str = ""
    closed: bool = False
    appended: str = ""
    covered: bool = False
    more: bool = False


class DeadLetter(Record):
    """`facets.deadletter`: a journal record, or an object in one, that could not be used, and why."""

    partition: int
    offset: int
    cluster: str
    at: str
    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    reason: str
    excerpt: str


def decode_row(table: str, value: bytes) -> dict[str, Any]:
    """A row from the wire as the commands print it: groups spread out into one list of whole endpoints."""
    row: dict[str, Any] = msgspec.json.decode(value)
    if table == "backend":
        row["endpoints"] = spread(row.pop("groups"))
        row["change"] = {name: spread(groups) for name, groups in row.pop("change").items()}
    elif table == CLUSTERSET and "groups" in row:
        row["endpoints"] = spread(row.pop("groups"))
    return row


def spread(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whole endpoints (with family, ports and slice) from groups, ordered by address."""
    out = [
        {
            "address": endpoint["address"],
            "family": group["family"],
            "ports": group["ports"],
            **{name: value for name, value in endpoint.items() if name != "address"},
            "slice": group["slice"],
        }
        for group in groups
        for endpoint in group["endpoints"]
    ]
    out.sort(key=lambda endpoint: (endpoint["family"], endpoint["address"], endpoint["slice"]))
    return out
