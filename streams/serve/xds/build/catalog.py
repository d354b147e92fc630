"""All Services at the newest sealed state, and the xDS resources that follow from them for a client."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

from google.protobuf.any_pb2 import Any as AnyMessage

from streams.serve.xds.build import resources
from streams.serve.xds.build.decision import Decision, consumer_namespace, decide
from streams.serve.xds.build.endpoints import Place, assignment, has_known_endpoints, place_matters
from streams.serve.xds.build.names import TYPE_URLS, Kind, resource_name
from streams.serve.xds.build.service import Facets, Service, triggered
from streams.subscription.delivery import Row
from streams.wire.partitioning import partition_of
from streams.wire.records import Seal
from streams.wire.routing_records import Traffic

Key = tuple[str, str]
"""A Service's namespace and name."""


class Change(NamedTuple):
    """What a batch changes of a Service: `names` are those of the resources that it has or had, `at` is the commit's
    time, `trigger` when what led to it happened (as in Kubernetes' network programming latency), if an object says."""

    names: set[str]
    at: str
    trigger: str = ""


Changes = dict[Key, Change]


class Absence(Enum):
    """Why there is no resource. Of what is unknown a client is told nothing: it keeps what it has, or waits."""

    MISSING = "missing"
    UNKNOWN = "unknown"


class Client(NamedTuple):
    """What of a client decides the resources that it gets. `namespace` is its own: routes of a consumer's namespace
    count for its clients alone (GEP-1294)."""

    place: Place = Place()
    traffic: Traffic = "mesh"
    grpc: bool = False
    namespace: str = ""


class Resource:
    """A resource as sent. `version` is `ROWS.DIGEST`: the highest version of the rows that it is made of (all rows of
    a Service are of one journal partition, whatever their cluster, so their versions compare) and a digest of the
    content. Every server makes the same version from the same rows. `digest` is equal where the content is. `in_delta`
    and `in_sotw` are for the variants of the protocol, which serialize a resource once for all clients."""

    __slots__ = ("body", "digest", "in_delta", "in_sotw", "name", "version")

    def __init__(self, name: str, rows: int, body: AnyMessage) -> None:
        self.name = name
        self.digest = hashlib.sha256(body.value).hexdigest()[:16]
        self.version = f"{rows}.{self.digest}"
        self.body = body
        self.in_delta = self.in_sotw = b""


def digest_of(version: str) -> str:
    """The part of a version that says what the content is."""
    return version.rpartition(".")[2]


class _ServiceDecision(NamedTuple):
    """A Service as it is under one of its names, how it is reached, whether it matters from where, and from which
    namespace ("" for all that have no routes of their own)."""

    service: Service
    decision: Decision | None
    by_place: bool
    namespace: str


class Catalog:
    """Takes the rows of sealed batches, and makes resources of them when they are asked for."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.seals: dict[tuple[int, str], Seal] = {}
        self.applied: dict[int, int] = {}
        self._newest: dict[Key, tuple[int, str]] = {}
        self._services: dict[Key, dict[str, Facets]] = {}
        self._names: dict[str, Key] = {}
        self._of_key: dict[Key, tuple[str, ...]] = {}
        self._resources: dict[Key, dict[tuple[Any, ...], Resource | Absence]] = {}
        self._decisions: dict[Key, dict[tuple[str, Traffic, str], _ServiceDecision]] = {}

    # ---- the state -------------------------------------------------------------------------------------

    def replace(self, rows: Iterable[Row], seals: Mapping[tuple[int, str], Seal]) -> Changes:
        """Take a snapshot; the Services whose resources may have changed. What the snapshot doesn't have is gone, but
        only where the partition has a complete snapshot of its cluster: else it is kept until that comes."""
        services = self._with_snapshot(rows, seals)
        at = max((seal.at for seal in seals.values()), default="")
        changed = {key: Change(set(self._of_key.get(key, ())), at) for key in self._services.keys() | services.keys()}
        self._services, self._newest = {}, {}
        self._names, self._of_key, self._resources, self._decisions = {}, {}, {}, {}
        for key, clusters in services.items():
            self._services[key] = clusters
            changed[key].names.update(self._rename(key))
        self.seals = dict(seals)
        self.applied = {}
        for (partition, _), seal in seals.items():
            self.applied[partition] = max(seal.offset, self.applied.get(partition, -1))
        return changed

    def _with_snapshot(
        self, rows: Iterable[Row], seals: Mapping[tuple[int, str], Seal]
    ) -> dict[Key, dict[str, Facets]]:
        """The Services by cluster, as the snapshot has them, with what is kept."""

        def is_known(key: Key, cluster: str) -> bool:
            return _known(seals.get((self.partition(key), cluster)))

        services: dict[Key, dict[str, Facets]] = {}
        tables: dict[tuple[Key, str], set[str]] = {}
        for row in rows:
            key = (row.namespace, row.name)
            clusters = services.setdefault(key, {})
            tables.setdefault((key, row.cluster), set()).add(row.table)
            if row.cluster not in clusters:
                clusters[row.cluster] = self._services.get(key, {}).get(row.cluster) or Facets(row.cluster)
            clusters[row.cluster] = clusters[row.cluster].with_row(row)
        for (key, cluster), row_tables in tables.items():
            # Of a Service that is gone there may still be a routing row, for a route that names it.
            if is_known(key, cluster):
                services[key][cluster] = services[key][cluster].only(row_tables)
                if services[key][cluster].is_absent:
                    del services[key][cluster]
        for key, clusters in self._services.items():
            for cluster, facets in clusters.items():
                if cluster not in services.get(key, {}) and not is_known(key, cluster):
                    services.setdefault(key, {})[cluster] = facets
        return {key: clusters for key, clusters in services.items() if clusters}

    def apply(self, rows: Iterable[Row], seal: Seal, partition: int) -> Changes:
        """Take the rows of one sealed batch; the Services whose resources may have changed."""
        changed: Changes = {}
        for row in rows:
            key = (row.namespace, row.name)
            clusters = self._services.setdefault(key, {})
            clusters[row.cluster] = clusters.get(row.cluster, Facets(row.cluster)).with_row(row)
            triggers = {triggered(row.facet), changed[key].trigger if key in changed else ""} - {""}
            changed[key] = Change(set(), seal.at, min(triggers, default=""))
            self._newest[key] = (row.version, seal.at)
        for key, change in changed.items():
            names = change.names
            names.update(self._of_key.get(key, ()))
            for cluster in [name for name, facets in self._services[key].items() if facets.is_absent]:
                del self._services[key][cluster]
            names.update(self._rename(key))
            if not self._services[key]:
                del self._services[key], self._newest[key]
        self.seals[partition, seal.cluster] = seal
        self.applied[partition] = seal.offset
        return changed

    @property
    def complete(self) -> int:
        """How many partitions of clusters have a complete snapshot; when it rises, what was unknown may be known."""
        return sum(_complete(seal) for seal in self.seals.values())

    @property
    def settled(self) -> bool:
        """Whether every partition has a complete snapshot of some cluster. Before that nobody is told what all there
        is: a client that had more would drop it."""
        return len({partition for (partition, _), seal in self.seals.items() if _complete(seal)}) == self.partitions

    # ---- what clients get ------------------------------------------------------------------------------

    def names(self, kind: Kind) -> Iterable[str]:
        """All names of a type, for a wildcard subscription. There are no listeners for all: those of gRPC's clients
        are each asked for by name, and Envoy could not use them."""
        return () if kind == "lds" else self._names.keys()

    def own(self, name: str) -> str:
        """A name as the catalog holds it, where it does: so all clients share the one string."""
        key = self._names.get(name)
        return name if key is None else next(catalog_name for catalog_name in self._of_key[key] if catalog_name == name)

    def service_of(self, name: str) -> Key | None:
        """The Service that a resource name is of, or would be: SERVICE.NAMESPACE.svc.DOMAIN:PORT."""
        if name in self._names:
            return self._names[name]
        parts = name.split(".", 3)
        return (parts[1], parts[0]) if len(parts) == 4 and parts[2] == "svc" else None

    def services(self) -> Iterator[Key]:
        """All Services that there are."""
        return iter(self._services)

    def names_of(self, key: Key) -> tuple[str, ...]:
        """The names of a Service's resources."""
        return self._of_key.get(key, ())

    def newest(self, key: Key) -> tuple[int, str]:
        """A Service's newest version, and when it was made. Of one that is gone, how far its partition is."""
        if key in self._newest:
            return self._newest[key]
        rows = [row for facets in self._services.get(key, {}).values() for row in facets.rows]
        if rows:
            newest = max(rows, key=lambda row: row.version)
            self._newest[key] = (newest.version, newest.at)
            return self._newest[key]
        return self.applied.get(self.partition(key), -1), ""

    def resource(self, kind: Kind, name: str, client: Client) -> Resource | Absence:
        """The resource as this client gets it."""
        key = self._names.get(name)
        if key is None:
            return Absence.MISSING if self._answerable(name) else Absence.UNKNOWN
        return self._resource(kind, name, key, client)

    # ---- making ------------------------------------------------------------------------------------------

    def _resource(self, kind: Kind, name: str, key: Key, client: Client) -> Resource | Absence:
        dns_name, _, port = name.rpartition(":")
        service, decision, by_place, namespace = self._decide(key, dns_name, client.traffic, client.namespace)
        if decision is None:
            return Absence.MISSING
        place = client.place if by_place and kind == "eds" else Place()
        variant = (kind, name, client.traffic, namespace, client.grpc and kind == "rds", place)
        variants = self._resources.setdefault(key, {})
        if variant not in variants:
            variants[variant] = self._make(kind, name, service, int(port), decision, client._replace(place=place))
        return variants[variant]

    def _decide(self, key: Key, dns_name: str, traffic: Traffic, namespace: str) -> _ServiceDecision:
        decisions = self._decisions.setdefault(key, {})
        if (dns_name, traffic, namespace) not in decisions:
            service_everywhere = Service(*key, tuple(facets for _, facets in sorted(self._services[key].items())))
            service = service_everywhere.of_name(dns_name)
            consumer = consumer_namespace(service, traffic, namespace)
            if consumer != namespace:
                # One decision for all clients that have no routes of their own.
                return self._decide(key, dns_name, traffic, consumer)
            decision = decide(service, traffic, consumer)
            by_place = decision is not None and place_matters(service, decision)
            decisions[dns_name, traffic, namespace] = _ServiceDecision(service, decision, by_place, namespace)
        return decisions[dns_name, traffic, namespace]

    @staticmethod
    def _make(
        kind: Kind, name: str, service: Service, port: int, decision: Decision, client: Client
    ) -> Resource | Absence:
        message: Any
        with_backend = False
        if kind == "cds":
            message = resources.cluster(name, service, port, decision)
        elif kind == "lds":
            message = resources.listener(name, decision)
        elif kind == "rds":
            message = resources.routes(name, decision, grpc=client.grpc)
        elif decision.route == "dns":
            return Absence.MISSING
        else:
            with_backend = decision.route == "endpoint"
            if with_backend and not has_known_endpoints(service):
                return Absence.UNKNOWN
            message = assignment(name, service, port, decision, client.place)
        content: bytes = message.SerializeToString(deterministic=True)
        return Resource(name, _newest(service, with_backend), AnyMessage(type_url=TYPE_URLS[kind], value=content))

    # ---- names -------------------------------------------------------------------------------------------

    def _rename(self, key: Key) -> set[str]:
        """Renew the names of a Service; those that it has now."""
        before = self._of_key.pop(key, ())
        for name in before:
            self._names.pop(name, None)
        self._resources.pop(key, None)
        self._decisions.pop(key, None)
        names = tuple(
            dict.fromkeys(
                resource_name(facets.frontend.dns_name, port.port)
                for facets in self._services[key].values()
                if facets.frontend is not None
                and (facets.frontend.type != "ExternalName" or facets.frontend.external_name)
                for port in facets.frontend.ports
                if port.protocol == "TCP" and port.port
            )
        )
        if names:
            names = before if names == before else names
            self._of_key[key] = names
            self._names.update(dict.fromkeys(names, key))
        return set(names)

    def _answerable(self, name: str) -> bool:
        """Whether it is known that there is no such Service: its partition has seen all of every cluster."""
        key = self.service_of(name)
        if key is None:
            return True
        clusters = {cluster for _, cluster in self.seals}
        partition = self.partition(key)
        return bool(clusters) and all(_known(self.seals.get((partition, cluster))) for cluster in clusters)

    def partition(self, key: Key) -> int:
        """The partition that holds a Service."""
        return partition_of(*key, self.partitions)


def _known(seal: Seal | None) -> bool:
    """Whether it is known what of a cluster is in a partition: all of its snapshot, or nothing since it has ended."""
    return seal is not None and (seal.closed or _complete(seal))


def _complete(seal: Seal | None) -> bool:
    """Whether a partition has a complete snapshot of a cluster."""
    return seal is not None and bool(seal.frontier) and not seal.lost


def _newest(service: Service, with_backend: bool) -> int:
    return max(
        row.version
        for facets in service.clusters
        for row in (facets.frontend, facets.routing, facets.backend if with_backend else None)
        if row is not None
    )
