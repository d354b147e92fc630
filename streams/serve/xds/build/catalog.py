"""All Services at the newest sealed state, and the xDS resources that are built from them for a client."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from streams.serve.xds.build.client import Client
from streams.serve.xds.build.endpoints import Address, Clusters
from streams.serve.xds.build.names import Kind
from streams.serve.xds.build.ports import ports_by_name
from streams.serve.xds.build.resource import Absence, Resource
from streams.serve.xds.build.service import Facets, Service, trigger_time
from streams.serve.xds.build.service_resources import PortName, ServiceResources
from streams.subscription.delivery import Row
from streams.subscription.freshness import clusters_in
from streams.wire.partitioning import partition_of
from streams.wire.records import Seal, ServicePort

Key = tuple[str, str]
"""A Service's namespace and name."""


class Change(NamedTuple):
    """The change of a Service in a batch: `names` are those of the resources that it has or had, `at` is the commit's
    time, `trigger` when its cause happened (as in Kubernetes' network programming latency), if an object says so."""

    names: set[str]
    at: str
    trigger: str = ""


Changes = dict[Key, Change]


class Catalog:
    """Takes the rows of sealed batches, and builds resources from them on demand."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.seals: dict[tuple[int, str], Seal] = {}
        self.applied: dict[int, int] = {}
        self._newest: dict[Key, tuple[int, str]] = {}
        self._services: dict[Key, dict[str, Facets]] = {}
        self._resolved = 0
        self._names: dict[str, PortName] = {}
        self._of_key: dict[Key, tuple[str, ...]] = {}
        self._resources: dict[Key, ServiceResources] = {}

    # ---- the state -------------------------------------------------------------------------------------

    def replace(self, rows: Iterable[Row], seals: Mapping[tuple[int, str], Seal]) -> Changes:
        """Take a snapshot. Returns the Services whose resources may have changed. What the snapshot doesn't have is
        removed, but only where the partition has a complete snapshot of its cluster: otherwise it is kept until that
        comes."""
        services = self._with_snapshot(rows, seals)
        self._resolved += 1
        at = max((seal.at for seal in seals.values()), default="")
        changed = {key: Change(set(self._of_key.get(key, ())), at) for key in self._services.keys() | services.keys()}
        self._services, self._newest = {}, {}
        self._names, self._of_key, self._resources = {}, {}, {}
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
        """The Services by cluster as the snapshot has them, with those that are kept."""

        def is_known(key: Key, cluster: str) -> bool:
            return _is_known(seals.get((self.partition(key), cluster)))

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
            # A deleted Service may still have a routing row, for a route that names it.
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
        """Take the rows of one sealed batch. Returns the Services whose resources may have changed."""
        changed: Changes = {}
        for row in rows:
            key = (row.namespace, row.name)
            clusters = self._services.setdefault(key, {})
            before = clusters.get(row.cluster, Facets(row.cluster))
            after = clusters[row.cluster] = before.with_row(row)
            self._resolved += before.is_unreadable and not after.is_unreadable
            triggers = {trigger_time(row.facet), changed[key].trigger if key in changed else ""} - {""}
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
    def known(self) -> tuple[int, int]:
        """How many partitions of clusters have a complete snapshot or have ended, and how often a Service that could
        not be read became another one; when it changes, unknown resources may be known."""
        return sum(_is_known(seal) for seal in self.seals.values()), self._resolved

    @property
    def settled(self) -> bool:
        """Whether every partition has a complete snapshot of some cluster. Before that no client gets all resources:
        one that had more would drop the rest."""
        return len({partition for (partition, _), seal in self.seals.items() if _is_complete(seal)}) == self.partitions

    # ---- resources -------------------------------------------------------------------------------------

    def names(self, kind: Kind) -> Iterable[str]:
        """All names of a type, for a wildcard subscription. A wildcard gets no listeners: gRPC's clients ask for theirs
        by name, and Envoy could not use them."""
        return () if kind == "lds" else self._names.keys()

    def own(self, name: str) -> str:
        """The catalog's own string for a name, if it has the name: so all clients share one string."""
        named = self._names.get(name)
        if named is None:
            return name
        return next(catalog_name for catalog_name in self._of_key[named.key] if catalog_name == name)

    def service_of(self, name: str) -> Key | None:
        """The Service that a resource name belongs to, or would belong to: SERVICE.NAMESPACE.svc.DOMAIN:PORT."""
        if name in self._names:
            return self._names[name].key
        parts = name.split(".", 3)
        return (parts[1], parts[0]) if len(parts) == 4 and parts[2] == "svc" else None

    def services(self) -> Iterator[Key]:
        """All Services."""
        return iter(self._services)

    def names_of(self, key: Key) -> tuple[str, ...]:
        """The names of a Service's resources."""
        return self._of_key.get(key, ())

    def newest(self, key: Key) -> tuple[int, str]:
        """A Service's newest version, and its time. For a deleted Service, the applied offset of its partition."""
        if key in self._newest:
            return self._newest[key]
        rows = [row for facets in self._services.get(key, {}).values() for row in facets.rows]
        if rows:
            newest = max(rows, key=lambda row: row.version)
            self._newest[key] = (newest.version, newest.at)
            return self._newest[key]
        return self.applied.get(self.partition(key), -1), ""

    def resource(self, kind: Kind, name: str, client: Client) -> Resource | Absence:
        """The resource as this client gets it.

        Of a Service in several clusters a set has the endpoints that are known so far, also while a cluster has no
        complete snapshot yet: the newest resource replaces the one before ("ACK and resource type instance version"),
        so that cluster's come later. That the set is empty, or that there is no such Service, is only known once every
        cluster has one (or, while it lists again, has a row of the Service)."""
        named = self._names.get(name)
        if named is None:
            return Absence.MISSING if self._answerable(name) else Absence.UNKNOWN
        if named.key not in self._resources:
            clusters = tuple(facets for _, facets in sorted(self._services[named.key].items()))
            self._resources[named.key] = ServiceResources(Service(*named.key, clusters))
        resource = self._resources[named.key].resource(kind, name, named, client)
        is_empty = isinstance(resource, Resource) and resource.is_empty
        if is_empty and not self._is_known_in(self._clusters_without(named.key), named.key):
            return Absence.UNKNOWN
        return resource

    def shared_addresses(self) -> Iterator[tuple[str, Address, Clusters]]:
        """The addresses in the built endpoint sets that more than one cluster has, by resource name, each with these
        clusters. One of them has it in each set."""
        for built in self._resources.values():
            for name, shared in built.shared.items():
                for address, clusters in shared.items():
                    yield name, address, clusters

    # ---- names -------------------------------------------------------------------------------------------

    def _rename(self, key: Key) -> set[str]:
        """Renew the names of a Service. Returns those that it has now."""
        before = self._of_key.pop(key, ())
        for name in before:
            self._names.pop(name, None)
        self._resources.pop(key, None)
        named = {
            name: PortName(key, dns_name, port)
            for dns_name, ports in self._ports(key).items()
            for name, port in ports_by_name(dns_name, ports).items()
        }
        if named:
            names = tuple(named)
            self._of_key[key] = before if names == before else names
            self._names.update((name, named[name]) for name in self._of_key[key])
        return set(named)

    def _ports(self, key: Key) -> dict[str, list[ServicePort]]:
        """The ports that a Service has in any cluster, by its DNS name there."""
        ports: dict[str, list[ServicePort]] = {}
        for facets in self._services[key].values():
            frontend = facets.frontend
            if frontend is not None and (frontend.type != "ExternalName" or frontend.external_name):
                ports.setdefault(frontend.dns_name, []).extend(frontend.ports)
        return ports

    def _answerable(self, name: str) -> bool:
        """Whether it is known that this Service does not exist: its partition has a complete snapshot of every
        cluster, and none has a Service of this name that can't be read."""
        key = self.service_of(name)
        if key is None:
            return True
        if any(facets.is_unreadable for facets in self._services.get(key, {}).values()):
            return False
        clusters = clusters_in(self.seals)
        return bool(clusters) and self._is_known_in(clusters, key)

    def _clusters_without(self, key: Key) -> set[str]:
        """The clusters that have no row of a Service."""
        return clusters_in(self.seals) - self._services[key].keys()

    def _is_known_in(self, clusters: Iterable[str], key: Key) -> bool:
        """Whether the Service's partition has a complete snapshot of these clusters, as far as they have not ended."""
        partition = self.partition(key)
        return all(_is_known(self.seals.get((partition, cluster))) for cluster in clusters)

    def partition(self, key: Key) -> int:
        """The partition that holds a Service."""
        return partition_of(*key, self.partitions)


def _is_known(seal: Seal | None) -> bool:
    """Whether a partition's state of a cluster is known: its snapshot is complete, or the cluster has ended."""
    return seal is not None and (seal.closed or _is_complete(seal))


def _is_complete(seal: Seal | None) -> bool:
    """Whether a partition has a complete snapshot of a cluster."""
    return seal is not None and bool(seal.frontier) and not seal.lost
