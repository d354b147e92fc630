"""All Services of the clusters, and all sets of the clusterset, at the newest sealed state."""

from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

from streams.facets.parsed_rows import Facet
from streams.serve.xds.build.clusterset import ServiceSet
from streams.serve.xds.build.imports import ImportRoutings
from streams.serve.xds.build.service import Facets, trigger_time
from streams.subscription.freshness import clusters_in, is_complete, is_known
from streams.subscription.rows import Row
from streams.wire.keys import RowKey, is_cluster
from streams.wire.partitioning import partition_of
from streams.wire.records import CLUSTERSET, Seal

Key = tuple[str, str]
"""A Service's namespace and name."""

Unit = RowKey
"""What resources are made of: a Service of a cluster, or with `cluster` "" that of the clusterset."""

_NO_SET = ServiceSet()


class Taken(NamedTuple):
    """What a batch changes of a Service: its units, the commit's time, and when its cause happened (as in Kubernetes'
    network programming latency), if an object says so; and whether other clusters have the Service now."""

    units: set[Unit]
    at: str
    trigger: str = ""
    in_other_clusters: bool = False


class ServiceIndex:
    """Takes the rows of snapshots and sealed batches. `seals` are the newest, `applied` by partition the newest
    offset."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.seals: dict[tuple[int, str], Seal] = {}
        self.applied: dict[int, int] = {}
        self.services: dict[Key, dict[str, Facets]] = {}
        self.sets: dict[Key, ServiceSet] = {}
        self.imports = ImportRoutings()
        self._clusters: set[str] = set()
        self._kept: set[Unit] = set()
        """What a snapshot didn't have while it did not have all of the cluster (of a set: all of every cluster)."""
        self._newest: dict[Key, tuple[int, str]] = {}
        self._known = 0
        self._resolved = 0

    # ---- input -----------------------------------------------------------------------------------------

    def replace(self, rows: Iterable[Row], seals: Mapping[tuple[int, str], Seal]) -> None:
        """Take a snapshot. What it doesn't have is removed, but only where the partition has a complete snapshot of its
        cluster: otherwise it is kept until that comes."""
        rows, self._kept = list(rows), set()
        services = self._with_snapshot((row for row in rows if row.table != CLUSTERSET), seals)
        self.sets = self._with_snapshot_of_sets((row for row in rows if row.table == CLUSTERSET), seals)
        self.imports.replace(
            (row for row in rows if row.table == "routing"),
            lambda unit: is_known(seals.get((self.partition(unit.service), unit.cluster))),
        )
        self.services, self._newest = services, {}
        self._resolved += 1
        self.seals = dict(seals)
        self._known = sum(map(is_known, seals.values()))
        self._clusters = clusters_in(seals)
        self.applied = {}
        for (partition, _), seal in seals.items():
            self.applied[partition] = max(seal.offset, self.applied.get(partition, -1))

    def _with_snapshot(
        self, rows: Iterable[Row], seals: Mapping[tuple[int, str], Seal]
    ) -> dict[Key, dict[str, Facets]]:
        """The Services by cluster as the snapshot has them, with those that are kept."""

        def was_listed(key: Key, cluster: str) -> bool:
            return is_known(seals.get((self.partition(key), cluster)))

        services: dict[Key, dict[str, Facets]] = {}
        tables: dict[tuple[Key, str], set[str]] = {}
        for row in rows:
            key = (row.namespace, row.name)
            clusters = services.setdefault(key, {})
            tables.setdefault((key, row.cluster), set()).add(row.table)
            if row.cluster not in clusters:
                clusters[row.cluster] = self.services.get(key, {}).get(row.cluster) or Facets(row.cluster)
            clusters[row.cluster] = clusters[row.cluster].with_row(row)
        for (key, cluster), row_tables in tables.items():
            # A deleted Service may still have a routing row, for a route that names it.
            if was_listed(key, cluster):
                services[key][cluster] = services[key][cluster].only(row_tables)
        for key, clusters in self.services.items():
            for cluster, facets in clusters.items():
                if cluster not in services.get(key, {}) and not was_listed(key, cluster):
                    services.setdefault(key, {})[cluster] = facets
                    self._kept.add(Unit(cluster, *key))
        present = {
            key: {cluster: facets for cluster, facets in clusters.items() if not facets.is_absent}
            for key, clusters in services.items()
        }
        return {key: clusters for key, clusters in present.items() if clusters}

    def _with_snapshot_of_sets(
        self, rows: Iterable[Row], seals: Mapping[tuple[int, str], Seal]
    ) -> dict[Key, ServiceSet]:
        """The sets as the snapshot has them, with those that are kept: a set as long as a cluster is not known that may
        export it, a contribution as long as its own is not."""
        clusters = clusters_in(seals)

        def unknown(key: Key) -> set[str]:
            return {name for name in clusters if not is_known(seals.get((self.partition(key), name)))}

        sets: dict[Key, ServiceSet] = {}
        contributing: dict[Key, set[str]] = {}
        for row in rows:
            key = (row.namespace, row.name)
            if key not in sets:
                sets[key] = self.sets.get(key, _NO_SET)._replace(properties=None)
                contributing[key] = unknown(key)
            contributing[key].add(row.cluster)
            sets[key] = sets[key].with_row(row)
        sets = {key: whole for key, some in sets.items() if not (whole := some.only(contributing[key])).is_absent}
        kept = {key for key in self.sets if key not in sets and (not clusters or unknown(key))}
        self._kept.update(Unit("", *key) for key in kept)
        return sets | {key: self.sets[key] for key in kept}

    def apply(self, rows: Iterable[Row], seal: Seal, partition: int) -> dict[Key, Taken]:
        """Take the rows of one sealed batch. Returns what they change."""
        changed: dict[Key, Taken] = {}
        having: dict[Unit, bool] = {}
        for row in rows:
            key = (row.namespace, row.name)
            unit = Unit(row.cluster, *key)
            if row.table == "frontend" and unit not in having:
                having[unit] = self._has_frontend(unit)
            units = self._take(key, row)
            before = changed.get(key, Taken(set(), seal.at))
            triggers = {trigger_time(row.facet), before.trigger} - {""}
            changed[key] = Taken(before.units | units, seal.at, min(triggers, default=""))
            self._newest[key] = (row.version, seal.at)
        self._known += is_known(seal) - is_known(self.seals.get((partition, seal.cluster)))
        self.seals[partition, seal.cluster] = seal
        self.applied[partition] = seal.offset
        if is_cluster(seal.cluster):
            self._clusters.add(seal.cluster)
        for unit in self._no_longer_kept(partition):
            if unit.cluster:
                having.setdefault(unit, self._has_frontend(unit))
                self.services[unit.service].pop(unit.cluster, None)
            else:
                self.sets.pop(unit.service, None)
            changed.setdefault(unit.service, Taken(set(), seal.at)).units.add(unit)
        for key in self.imports.settle(lambda unit: self._is_known_now(unit, partition)):
            changed.setdefault(key, Taken(set(), seal.at)).units.add(Unit("", *key))
        for key, taken in changed.items():
            self._drop_absent(key, taken.units)
        for unit, had_frontend in having.items():
            if had_frontend != self._has_frontend(unit):
                changed[unit.service] = changed[unit.service]._replace(in_other_clusters=True)
        return changed

    def _has_frontend(self, unit: Unit) -> bool:
        facets = self.services.get(unit.service, {}).get(unit.cluster)
        return facets is not None and facets.frontend is not None

    def _take(self, key: Key, row: Row) -> set[Unit]:
        """Take a row. Returns what it changes."""
        if row.table == CLUSTERSET:
            before = self.sets.get(key, _NO_SET)
            self.sets[key] = before.with_row(row)
            self._kept.discard(Unit("", *key))
            contribution = before.contributions.get(row.cluster)
            was_unknown = contribution is not None and contribution.is_unknown
            self._resolved += was_unknown and not self.sets[key].is_unknown
            return {Unit("", *key)}
        self._kept.discard(Unit(row.cluster, *key))
        clusters = self.services.setdefault(key, {})
        facets = clusters.get(row.cluster, Facets(row.cluster))
        clusters[row.cluster] = facets.with_row(row)
        self._resolved += facets.is_unreadable and not clusters[row.cluster].is_unreadable
        concerns_set = row.table == "routing" and self.imports.take(row)
        return {Unit(row.cluster, *key), *([Unit("", *key)] if concerns_set else [])}

    def _drop_absent(self, key: Key, units: Iterable[Unit]) -> None:
        """Drop what of a Service's changed units is not there any more."""
        clusters = self.services.get(key, {})
        for cluster in [unit.cluster for unit in units if unit.cluster in clusters]:
            if clusters[cluster].is_absent:
                del clusters[cluster]
        if not clusters:
            self.services.pop(key, None)
        if self.sets.get(key, _NO_SET).is_absent:
            self.sets.pop(key, None)
        if key not in self.services and key not in self.sets:
            self._newest.pop(key, None)

    def _is_known_now(self, unit: Unit, partition: int) -> bool:
        return self.partition(unit.service) == partition and self.is_known(unit.service, unit.cluster)

    def _no_longer_kept(self, partition: int) -> list[Unit]:
        """What is kept in a partition although the cluster is known by now, and has no row of it."""
        units = [
            unit
            for unit in self._kept
            if self.partition(unit.service) == partition
            and (self.is_known(unit.service, unit.cluster) if unit.cluster else self.is_known_in_all(unit.service))
        ]
        self._kept.difference_update(units)
        return units

    # ---- what there is ---------------------------------------------------------------------------------

    def all_keys(self) -> set[Key]:
        """All Services, of the clusters or of the clusterset."""
        return self.services.keys() | self.sets.keys()

    def units(self, key: Key) -> list[Unit]:
        """A Service's units."""
        return [Unit(cluster, *key) for cluster in (*self.services.get(key, ()), *([""] if key in self.sets else []))]

    def set_of(self, key: Key) -> ServiceSet:
        """A Service's set; an absent one if there is none."""
        return self.sets.get(key, _NO_SET)

    def newest(self, key: Key) -> tuple[int, str]:
        """A Service's newest version, and its time. For a deleted Service, the applied offset of its partition."""
        if key in self._newest:
            return self._newest[key]
        rows: list[Facet] = [row for facets in self.services.get(key, {}).values() for row in facets.rows]
        rows += self.set_of(key).rows
        rows += self.imports.of(key).values()
        if rows:
            newest = max(rows, key=lambda row: row.version)
            self._newest[key] = (newest.version, newest.at)
            return self._newest[key]
        return self.applied.get(self.partition(key), -1), ""

    def partition(self, key: Key) -> int:
        """The partition that holds a Service."""
        return partition_of(*key, self.partitions)

    # ---- what is known ---------------------------------------------------------------------------------

    @property
    def known(self) -> tuple[int, int]:
        """How many partitions of clusters have a complete snapshot or have ended, and how often a Service that could
        not be read became another one; when it changes, unknown resources may be known."""
        return self._known, self._resolved

    @property
    def clusters(self) -> Set[str]:
        """The followed clusters."""
        return self._clusters

    def is_known(self, key: Key, cluster: str) -> bool:
        """Whether the Service's partition has a complete snapshot of a cluster, or the cluster has ended."""
        return is_known(self.seals.get((self.partition(key), cluster)))

    def is_known_in_all(self, key: Key) -> bool:
        """Whether that is so for all clusters, of which there is at least one."""
        return bool(self._clusters) and all(self.is_known(key, cluster) for cluster in self._clusters)

    def is_complete(self, cluster: str) -> bool:
        """Whether every partition has a complete snapshot of the cluster ("": of some cluster)."""
        if cluster:
            return all(is_known(self.seals.get((partition, cluster))) for partition in range(self.partitions))
        return len({partition for (partition, _), seal in self.seals.items() if is_complete(seal)}) == self.partitions
