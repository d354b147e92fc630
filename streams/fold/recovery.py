"""Restores a partition's tables from their changelogs after a restart, and finds what is lost if the journal has
expired meanwhile."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from streams.facets.changelog_records import is_row_key
from streams.facets.row_parts import PartRecords, find_in, is_head, join_row, lacks_parts
from streams.fold.clusters import ClusterState
from streams.fold.table import TableState, Write
from streams.fold.tombstones import Tombstones
from streams.wire.keys import (
    COMPANION_PREFIX,
    PART_PREFIX,
    PROGRESS_PREFIX,
    SEAL_PREFIX,
    is_progress_name,
    is_row,
    is_set,
    parse_row_key,
    row_key_of,
    seal_key,
)
from streams.wire.records import FOLD_VERSION, Seal
from streams.wire.row_codec import is_deleted, stamp_of

_decode_seal = msgspec.json.Decoder(Seal).decode
_encode = msgspec.json.encode

RecordKey = tuple[str, bytes]
"""A table, and the key of one of its records."""


class Recovery:
    """Takes the records of all tables' changelogs in log order (`load`), and then restores the tables
    (`finish`). `progress` are then the watchers' progress seals of the table that has sealed least. What `expire` needs
    later is kept: each cluster's newest seal in any table (`newest_seals`), the seal under which its snapshot was open
    (`open_snapshots`), and the rows above their table's seal, tombstones too (`unsealed`). `sets` are the clusterset's
    rows."""

    def __init__(self, tables: Sequence[TableState[Any]]) -> None:
        self._tables = tables
        self._by_name = {table.name: table for table in tables}
        self._records: dict[RecordKey, tuple[int, bytes | None]] = {}
        self._hidden: set[RecordKey] = set()
        self.newest_seals: dict[str, Seal] = {}
        self.open_snapshots: dict[str, Seal] = {}
        self.progress: dict[str, Seal] = {}
        self.unsealed: dict[RecordKey, tuple[int, bytes | None]] = {}
        self.sets: dict[str, tuple[int, bytes]] = {}

    def snapshot_begins(self) -> dict[str, int]:
        """The journal offset at which each open snapshot begins, by cluster."""
        seals = self.open_snapshots.items()
        return {name: seal.snapshot_begin for name, seal in seals if seal.snapshot_begin is not None}

    def load(self, name: str, key: bytes, value: bytes | None, version: int) -> None:
        """Take a record. One of a lower version than the one before it came from a replaced worker; the record that it
        hides is written again. The record is readable (`changelog_records.unreadable`)."""
        if key.startswith(SEAL_PREFIX):
            table = self._by_name[name]
            if value is not None:
                self._load_seal(table, _decode_seal(value))
            elif key.startswith(PROGRESS_PREFIX):
                # It comes after the seals of all offsets before, of which it may have replaced the last one.
                table.sealed = max(table.sealed, version - 1)
            return
        if not is_row(key) and not key.startswith((COMPANION_PREFIX, PART_PREFIX)):
            return  # A newer worker's.
        before = self._records.get((name, key))
        if before is not None and before[0] > version:
            self._hidden.add((name, key))
        else:
            self._records[name, key] = version, value

    @staticmethod
    def _load_seal(table: TableState[Any], seal: Seal) -> None:
        newest = table.seals.get(seal.cluster)
        if newest is None or newest.offset < seal.offset:
            table.seals[seal.cluster] = seal
        # Only the last seal of an offset seals it. The first one comes after those of all offsets before, which may be
        # under the same key, and be replaced by it; but not where the journal expired (`PartitionFold.expire`).
        if not seal.more or (seal.epoch and not seal.lost):
            table.sealed = max(table.sealed, seal.offset - seal.more)

    def finish(self, clusters: dict[str, ClusterState], tombstones: Tombstones) -> tuple[int, list[Write]]:
        """After the last record: the journal offset to resume from, and the records to write again."""
        first = [write for table in self._tables for write in self._begin_table(table)]
        lowest = min(self._tables, key=lambda table: table.sealed)
        self._restore_clusters(clusters, lowest)
        self._mark_lost(clusters.values(), lowest.sealed)
        resume = self.read_again(clusters, lowest.sealed + 1)
        writes = first + [
            Write(name, key, value, version)
            for name, key in sorted(self._hidden)
            for version, value in (self._records[name, key],)
        ]
        self.unsealed = {
            (name, key): (version, value)
            for (name, key), (version, value) in self._records.items()
            if version > self._by_name[name].sealed and is_row_key(key, name)
        }
        parts: dict[RecordKey, dict[bytes, tuple[int, bytes]]] = {}
        for (name, key), (version, value) in self._records.items():
            if value is not None and key.startswith(PART_PREFIX):
                parts.setdefault((name, row_key_of(key)), {})[key] = version, value
        for (name, key), (version, value) in self._records.items():
            if value is not None and not key.startswith(PART_PREFIX):
                own = parts.get((name, key), {})
                self._restore(self._by_name[name], key, value, version, own, clusters, tombstones)
        self._records.clear()
        self._hidden.clear()
        for table in self._tables:
            table.seals.clear()
        return resume, writes

    def _begin_table(self, table: TableState[Any]) -> list[Write]:
        """A table that came with a fold version of which nothing is sealed yet begins where the others are: with their
        seals, which are written before anything else."""
        others = [other for other in self._tables if other is not table and not other.rules.since]
        seals = [seal for other in self._tables for seal in other.seals.values()]
        if not table.rules.since or not seals or any(seal.fold >= table.rules.since for seal in seals):
            return []
        lowest = min(others, key=lambda other: other.sealed)
        if table.sealed >= lowest.sealed:
            return []
        table.sealed, table.seals = lowest.sealed, dict(lowest.seals)
        ordered = sorted(table.seals.values(), key=lambda seal: (seal.offset, not seal.more, seal.cluster))
        return [Write(table.name, seal_key(seal.cluster), _encode(seal), seal.offset) for seal in ordered]

    def _restore_clusters(self, clusters: dict[str, ClusterState], lowest: TableState[Any]) -> None:
        """Each cluster as in the table that has sealed least; notes tables that another version of the fold wrote."""
        for table in self._tables:
            for name, seal in table.seals.items():
                newest = self.newest_seals.get(name)
                if newest is None or (newest.offset, newest.lost) < (seal.offset, seal.lost):
                    self.newest_seals[name] = seal
                if is_progress_name(name):
                    if table is lowest:
                        self.progress[name] = seal
                    continue
                cluster = clusters.setdefault(name, ClusterState(name))
                if table is lowest:
                    cluster.seal, cluster.counted = seal, seal.offset
                if seal.fold != FOLD_VERSION:
                    cluster.outdated[table.name] = {}

    def _mark_lost(self, clusters: Iterable[ClusterState], sealed: int) -> None:
        """A cluster is lost if any table says so: the others had sealed more when the journal expired. That it is no
        longer covered may have been lost with the journal, and is told with the loss; a takeover, which ends it too,
        only where every table has `sealed` it."""
        for cluster in clusters:
            seal = cluster.seal
            known = (table.seals.get(seal.cluster) for table in self._tables)
            lost = [each for each in known if each is not None and each.lost]
            if lost and not seal.lost:
                told = [each for each in lost if each.offset <= sealed or each.epoch == seal.epoch]
                is_covered = seal.covered and all(each.covered for each in told)
                cluster.seal = msgspec.structs.replace(seal, lost=True, covered=is_covered, frontier={})
            if lost:
                cluster.unmarked = {table.name for table in self._tables}

    def read_again(self, clusters: dict[str, ClusterState], due: int) -> int:
        """The offset to resume from, where `due` is the next one to seal: an open snapshot is read again from its
        begin."""
        for name, cluster in clusters.items():
            begin = cluster.seal.snapshot_begin
            if begin is not None:
                due = min(due, begin)
                self.open_snapshots[name] = cluster.seal
                cluster.seal = msgspec.structs.replace(cluster.seal, seq=0, snapshot_begin=None)
        return due

    def _restore(
        self,
        table: TableState[Any],
        raw_key: bytes,
        value: bytes,
        version: int,
        parts: PartRecords,
        clusters: dict[str, ClusterState],
        tombstones: Tombstones,
    ) -> None:
        """Restore one record (a row with its parts), and the state that follows from it."""
        key = raw_key.removeprefix(COMPANION_PREFIX).decode()
        if is_set(raw_key):
            self.sets[key] = version, value
            return
        name = parse_row_key(key).cluster
        cluster = clusters.setdefault(name, ClusterState(name))
        # Also for a companion alone: the next list, or the cluster's end, may not name its object.
        cluster.keys.add(key)
        if raw_key.startswith(COMPANION_PREFIX):
            table.load_companion(key, version, value)
            return
        table.load(key, value, parts)
        if table.name in cluster.outdated:
            cluster.outdated[table.name][key] = value
        # Of the other rows in parts few records are decoded now.
        if is_head(table.name, value) and lacks_parts(value, parts, key):
            cluster.outdated.setdefault(table.name, {})[key] = value
        elif is_deleted(value) and table.rules.is_finished(
            table.rules.read(join_row(table.name, value, find_in(parts, key)).row)
        ):
            tombstones.schedule(name, stamp_of(value).as_of.at, table.name, key, version)
