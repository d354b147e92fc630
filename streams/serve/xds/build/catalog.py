"""All Services at the newest sealed state, and the xDS resources that are built from them for a client."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from streams.facets.parsed_rows import Facet
from streams.serve.xds.build.client import Client
from streams.serve.xds.build.clusterset import ServiceSet, is_set_name
from streams.serve.xds.build.endpoints import Address, Clusters
from streams.serve.xds.build.names import Kind
from streams.serve.xds.build.ports import ports_by_name
from streams.serve.xds.build.resource import Absence, Resource
from streams.serve.xds.build.service import Facets, Service, trigger_time
from streams.serve.xds.build.service_resources import PortName, ServiceResources
from streams.subscription.delivery import Row
from streams.subscription.freshness import clusters_in
from streams.wire.partitioning import partition_of
from streams.wire.records import CLUSTERSET, Seal, ServicePort

Key = tuple[str, str]
"""A Service's namespace and name."""


Unit = tuple[str, str, bool]
"""What resources are made of: a Service by namespace and name, as the clusters have it, or (True) as the clusterset
does."""


class Change(NamedTuple):
    """The change of a Service in a batch: `names` are those of the resources that it has or had, `at` is the commit's
    time, `trigger` when its cause happened (as in Kubernetes' network programming latency), if an object says so."""

    names: set[str]
    at: str
    trigger: str = ""


Changes = dict[Key, Change]


class Catalog:
    """Takes the rows of sealed batches, and builds resources from them on demand: of each Service of the clusters, and
    of each set of the clusterset. With `follows_sets` it is given the clusterset's rows too; without them nothing is
    known of any set."""

    def __init__(self, partitions: int, *, follows_sets: bool = True) -> None:
        self.partitions = partitions
        self.follows_sets = follows_sets
        self.seals: dict[tuple[int, str], Seal] = {}
        self.applied: dict[int, int] = {}
        self._newest: dict[Key, tuple[int, str]] = {}
        self._services: dict[Key, dict[str, Facets]] = {}
        self._sets: dict[Key, ServiceSet] = {}
        self._kept_sets: set[Key] = set()
        """Those that a snapshot didn't have, although it had not all clusters."""
        self._resolved = 0
        self._names: dict[str, PortName] = {}
        self._of_unit: dict[Unit, tuple[str, ...]] = {}
        self._resources: dict[Unit, ServiceResources] = {}

    # ---- the state -------------------------------------------------------------------------------------

    def replace(self, rows: Iterable[Row], seals: Mapping[tuple[int, str], Seal]) -> Changes:
        """Take a snapshot. Returns the Services whose resources may have changed. What the snapshot doesn't have is
        removed, but only where the partition has a complete snapshot of its cluster: otherwise it is kept until that
        comes."""
        rows = list(rows)
        services = self._with_snapshot((row for row in rows if row.table != CLUSTERSET), seals)
        sets = self._with_snapshot_of_sets((row for row in rows if row.table == CLUSTERSET), seals)
        self._resolved += 1
        at = max((seal.at for seal in seals.values()), default="")
        changed = {key: Change(set(self.names_of(key)), at) for key in (*self.services(), *services, *sets)}
        self._services, self._sets, self._newest = services, sets, {}
        self._names, self._of_unit, self._resources = {}, {}, {}
        for key in self.services():
            for is_set in (False, True):
                changed[key].names.update(self._rename((*key, is_set)))
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

    def _with_snapshot_of_sets(
        self, rows: Iterable[Row], seals: Mapping[tuple[int, str], Seal]
    ) -> dict[Key, ServiceSet]:
        """The sets as the snapshot has them, with those that are kept: a set as long as a cluster is not known that may
        export it, a contribution as long as its own is not."""
        clusters = clusters_in(seals)

        def unknown(key: Key) -> set[str]:
            return {name for name in clusters if not _is_known(seals.get((self.partition(key), name)))}

        sets: dict[Key, ServiceSet] = {}
        contributing: dict[Key, set[str]] = {}
        for row in rows:
            key = (row.namespace, row.name)
            if key not in sets:
                sets[key] = self._sets.get(key, ServiceSet())._replace(properties=None)
                contributing[key] = unknown(key)
            contributing[key].add(row.cluster)
            sets[key] = sets[key].with_row(row)
        sets = {key: whole for key, some in sets.items() if not (whole := some.only(contributing[key])).is_absent}
        self._kept_sets = {key for key in self._sets if key not in sets and (not clusters or unknown(key))}
        return sets | {key: self._sets[key] for key in self._kept_sets}

    def apply(self, rows: Iterable[Row], seal: Seal, partition: int) -> Changes:
        """Take the rows of one sealed batch. Returns the Services whose resources may have changed."""
        changed: Changes = {}
        units: set[Unit] = set()
        for row in rows:
            key = (row.namespace, row.name)
            units.add((*key, row.table == CLUSTERSET))
            self._resolved += self._take(key, row)
            triggers = {trigger_time(row.facet), changed[key].trigger if key in changed else ""} - {""}
            changed[key] = Change(set(), seal.at, min(triggers, default=""))
            self._newest[key] = (row.version, seal.at)
        self.seals[partition, seal.cluster] = seal
        self.applied[partition] = seal.offset
        for key in self._no_longer_kept(partition):
            self._sets.pop(key, None)
            units.add((*key, True))
            changed.setdefault(key, Change(set(), seal.at))
        for unit in units:
            key = unit[:2]
            changed[key].names.update(self._of_unit.get(unit, ()), self._rename(unit))
        for key in changed:
            if key not in self._services and key not in self._sets:
                self._newest.pop(key, None)
        return changed

    def _take(self, key: Key, row: Row) -> bool:
        """Take a row. Returns whether something that could not be read became known."""
        if row.table == CLUSTERSET:
            held = self._sets.get(key, ServiceSet())
            self._sets[key] = held.with_row(row)
            self._kept_sets.discard(key)
            was_unreadable, is_unreadable = held.is_unknown, self._sets[key].is_unknown
            if self._sets[key].is_absent:
                del self._sets[key]
            return was_unreadable and not is_unreadable
        clusters = self._services.setdefault(key, {})
        before = clusters.get(row.cluster, Facets(row.cluster))
        clusters[row.cluster] = before.with_row(row)
        return before.is_unreadable and not clusters[row.cluster].is_unreadable

    def _no_longer_kept(self, partition: int) -> list[Key]:
        """The sets of a partition that are kept although all clusters are known by now, none of which exports them."""
        if not self._kept_sets:
            return []
        clusters = clusters_in(self.seals)
        keys = [key for key in self._kept_sets if self.partition(key) == partition and self._is_known_in(clusters, key)]
        self._kept_sets.difference_update(keys)
        return keys

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
        return next(catalog_name for catalog_name in self._of_unit[named.unit] if catalog_name == name)

    def service_of(self, name: str) -> Key | None:
        """The Service that a resource name belongs to, or would belong to: SERVICE.NAMESPACE.svc.DOMAIN:PORT."""
        if name in self._names:
            return self._names[name].unit[:2]
        parts = name.split(".", 3)
        return (parts[1], parts[0]) if len(parts) == 4 and parts[2] == "svc" else None

    def services(self) -> Iterator[Key]:
        """All Services."""
        return iter(self._services.keys() | self._sets.keys())

    def names_of(self, key: Key) -> tuple[str, ...]:
        """The names of a Service's resources, of the clusterset's last."""
        own, of_set = self._of_unit.get((*key, False), ()), self._of_unit.get((*key, True), ())
        return own + of_set if own and of_set else own or of_set

    def newest(self, key: Key) -> tuple[int, str]:
        """A Service's newest version, and its time. For a deleted Service, the applied offset of its partition."""
        if key in self._newest:
            return self._newest[key]
        rows: list[Facet] = [row for facets in self._services.get(key, {}).values() for row in facets.rows]
        rows += self._sets.get(key, _NO_SET).rows
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
        unit = named.unit
        if unit not in self._resources:
            self._resources[unit] = ServiceResources(self._service(unit))
        resource = self._resources[unit].resource(kind, name, named, client)
        if isinstance(resource, Resource) and resource.is_empty and not self._is_known_to_be_empty(unit):
            return Absence.UNKNOWN
        return resource

    def _service(self, unit: Unit) -> Service:
        *key, is_set = unit
        namespace, name = key
        if is_set:
            return self._sets[namespace, name].service(namespace, name)
        clusters = self._services[namespace, name]
        return Service(namespace, name, tuple(facets for _, facets in sorted(clusters.items())))

    def shared_addresses(self) -> Iterator[tuple[str, Address, Clusters]]:
        """The addresses in the built endpoint sets that more than one cluster has, by resource name, each with these
        clusters. One of them has it in each set."""
        for built in self._resources.values():
            for name, shared in built.shared.items():
                for address, clusters in shared.items():
                    yield name, address, clusters

    # ---- names -------------------------------------------------------------------------------------------

    def _rename(self, unit: Unit) -> set[str]:
        """Renew the names of a Service, or of its set. Returns those that it has now."""
        before = self._of_unit.pop(unit, ())
        for name in before:
            self._names.pop(name, None)
        self._resources.pop(unit, None)
        named = {
            name: PortName(unit, dns_name, port)
            for dns_name, ports in self._ports(unit).items()
            for name, port in ports_by_name(dns_name, ports).items()
        }
        if named:
            names = tuple(named)
            self._of_unit[unit] = before if names == before else names
            self._names.update((name, named[name]) for name in self._of_unit[unit])
        return set(named)

    def _ports(self, unit: Unit) -> dict[str, list[ServicePort]]:
        """The ports that a set has, or a Service in any cluster, by its DNS name there."""
        key = unit[:2]
        if unit[2]:
            return self._sets.get(key, _NO_SET).ports()
        ports: dict[str, list[ServicePort]] = {}
        clusters = self._services.get(key, {})
        for cluster in [name for name, facets in clusters.items() if facets.is_absent]:
            del clusters[cluster]
        if key in self._services and not clusters:
            del self._services[key]
        for facets in clusters.values():
            frontend = facets.frontend
            # A cluster that calls its own domain so can't take the clusterset's names.
            if frontend is None or is_set_name(frontend.dns_name):
                continue
            if frontend.type != "ExternalName" or frontend.external_name:
                ports.setdefault(frontend.dns_name, []).extend(frontend.ports)
        return ports

    def _answerable(self, name: str) -> bool:
        """Whether it is known that this Service does not exist: its partition has a complete snapshot of every
        cluster, and none has a Service of this name, or an export of it, that can't be read."""
        key = self.service_of(name)
        if key is None:
            return True
        if is_set_name(name):
            if not self.follows_sets or self._sets.get(key, _NO_SET).is_unknown:
                return False
        elif any(facets.is_unreadable for facets in self._services.get(key, {}).values()):
            return False
        clusters = clusters_in(self.seals)
        return bool(clusters) and self._is_known_in(clusters, key)

    def _is_known_to_be_empty(self, unit: Unit) -> bool:
        """Whether the clusters that have no row of a Service (of the clusterset: no contribution) are known not to have
        it, and the set has no contribution that is not known."""
        key = unit[:2]
        held = self._sets[key] if unit[2] else None
        present = self._services[key].keys() if held is None else held.contributions.keys()
        return not (held and held.is_unknown) and self._is_known_in(clusters_in(self.seals) - present, key)

    def _is_known_in(self, clusters: Iterable[str], key: Key) -> bool:
        """Whether the Service's partition has a complete snapshot of these clusters, as far as they have not ended."""
        partition = self.partition(key)
        return all(_is_known(self.seals.get((partition, cluster))) for cluster in clusters)

    def partition(self, key: Key) -> int:
        """The partition that holds a Service."""
        return partition_of(*key, self.partitions)


_NO_SET = ServiceSet()


def _is_known(seal: Seal | None) -> bool:
    """Whether a partition's state of a cluster is known: its snapshot is complete, or the cluster has ended."""
    return seal is not None and (seal.closed or _is_complete(seal))


def _is_complete(seal: Seal | None) -> bool:
    """Whether a partition has a complete snapshot of a cluster."""
    return seal is not None and bool(seal.frontier) and not seal.lost
