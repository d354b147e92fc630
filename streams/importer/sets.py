"""The clusterset as the importer follows it: the newest sealed rows, and of which clusters everything is known."""

from collections.abc import Iterable, Mapping

import msgspec

from streams.importer.holdings import Key
from streams.importer.names import Json
from streams.importer.plan import SetState
from streams.subscription.freshness import Place, clusters_in, is_known
from streams.subscription.rows import Row
from streams.subscription.set_rows import SetRows
from streams.wire.clusterset_records import ClusterExport
from streams.wire.keys import is_cluster
from streams.wire.partitioning import partition_of
from streams.wire.records import Seal
from streams.wire.row_codec import is_deleted


class _Contribution(msgspec.Struct):
    export: ClusterExport | None


class Sets:
    """Takes snapshots and sealed batches of `facets.clusterset`. `clusters` are those that were heard of."""

    def __init__(self) -> None:
        self.is_ready = False
        self.clusters: set[str] = set()
        self._partitions = 1
        self._rows = SetRows()
        self._sets: dict[Key, Json] = {}
        self._exports: dict[Key, dict[str, ClusterExport | None]] = {}
        self._seals: dict[Place, Seal] = {}
        self._known: dict[int, tuple[frozenset[str], bool]] = {}

    def replace(self, rows: Iterable[Row], seals: Mapping[Place, Seal], partitions: int) -> set[Key]:
        """Take a snapshot; returns the Services that it may change."""
        before = set(self._sets)
        self._partitions = partitions
        self._rows, self._sets, self._exports, self._known = SetRows(), {}, {}, {}
        self._seals, self.clusters = dict(seals), clusters_in(seals)
        self._take(rows)
        self.is_ready = True
        return before | set(self._sets)

    def apply(self, rows: Iterable[Row], seal: Seal, partition: int) -> tuple[set[Key], bool]:
        """Take a sealed batch; returns the Services that it changes, and whether more is known of the partition's
        clusters, or less, than before: that may bear on each of its Services."""
        place = partition, seal.cluster
        before = self._seals.get(place)
        self._seals[place] = seal
        is_other = is_cluster(seal.cluster) and (before is None or is_known(before) != is_known(seal))
        if is_other:
            self._known = {}
            self.clusters.add(seal.cluster)
        return self._take(rows), is_other

    def keys(self) -> set[Key]:
        """The Services that have a set."""
        return set(self._sets)

    def state(self, key: Key) -> SetState:
        """What the tables say of a Service."""
        known, all_known = self._known_in(partition_of(*key, self._partitions))
        return SetState(self._sets.get(key), self._exports.get(key, {}), known, all_known)

    def _take(self, rows: Iterable[Row]) -> set[Key]:
        rows = list(rows)
        for row in rows:
            if row.cluster and row.value:
                exports = self._exports.setdefault((row.namespace, row.name), {})
                if is_deleted(row.value):
                    exports.pop(row.cluster, None)
                else:
                    exports[row.cluster] = msgspec.json.decode(row.value, type=_Contribution).export
        changed = set()
        for row in self._rows.take(rows):
            key = row.namespace, row.name
            self._sets[key] = msgspec.json.decode(row.value or b"")
            changed.add(key)
            if not self._exports.get(key):
                self._exports.pop(key, None)
        return changed

    def _known_in(self, partition: int) -> tuple[frozenset[str], bool]:
        """Of which clusters a partition has everything, and whether those are all, and not none."""
        if partition not in self._known:
            known = frozenset(name for name in self.clusters if is_known(self._seals.get((partition, name))))
            self._known[partition] = known, bool(known) and known == self.clusters
        return self._known[partition]
