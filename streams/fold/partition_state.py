"""What the fold holds of one partition, and how it comes back from the tables' changelogs after a restart."""

from bisect import insort
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from streams.facets.routing_rows import NO_ROUTING, HeldRouting, read_routing
from streams.facets.rows import (
    NO_BACKEND,
    NO_FRONTEND,
    Context,
    Frontend,
    HeldBackend,
    context,
    legacy_in,
    read_backend,
    read_frontend,
)
from streams.facets.slice_text import LEGACY_PREFIX, Source, read_source
from streams.fold.initial_rows import StagedService
from streams.wire.records import FOLD_VERSION, SEAL_PREFIX, TABLES, AsOf, Commit, DeadLetter, Event, Seal
from streams.wire.timestamps import later

HELD_PREFIX = b"~held/"
"""Keys of the legacy Endpoints objects that the backend table holds for Services that have slices."""

DEFAULT_WINDOW_SECONDS = 86400
"""The resume window: how long a subscriber may be away and still miss nothing."""

_EXCERPT = 4096
_decode_event = msgspec.json.Decoder(Event).decode
_encode = msgspec.json.encode


Staging = dict[str, StagedService]


class Write(NamedTuple):
    """A record to be written: to a table's topic (in this partition), or to `deadletter`."""

    table: str
    key: bytes
    value: bytes | None
    version: int


class ClusterState:
    """What the partition knows of a cluster: the last accepted commit's stamps, and the open snapshot. `counted` is the
    offset up to which a restart found dead letters counted; `unmarked` are the tables in which rows of a lost cluster
    may not be `unknown` yet; `outdated` are those whose rows (by key) another version of the fold wrote, and this one
    has not looked at yet."""

    __slots__ = ("counted", "keys", "outdated", "seal", "staging", "unmarked")

    def __init__(self, seal: Seal) -> None:
        self.seal = seal
        self.counted = seal.offset
        self.staging: Staging | None = None
        self.keys: set[str] = set()
        self.unmarked: set[str] = set()
        self.outdated: dict[str, dict[str, bytes]] = {}


class PartitionState:
    """The tables of one partition as held, with their seals. `load` and `recover` bring it back after a restart."""

    def __init__(
        self,
        partition: int,
        tables: Iterable[str] = TABLES,
        window_seconds: int = DEFAULT_WINDOW_SECONDS,
        wanted: Callable[[str, str, str], bool] | None = None,
    ) -> None:
        self.partition = partition
        self.tables = tuple(tables)
        self.window_seconds = window_seconds
        self.wanted = wanted
        self.next_offset: int | None = None
        self.clusters: dict[str, ClusterState] = {}
        self.sealed: dict[str, int] = dict.fromkeys(self.tables, -1)
        self._seals: dict[str, dict[str, Seal]] = {table: {} for table in self.tables}
        self._newest: dict[str, Seal] = {}
        self._open: dict[str, Seal] = {}
        self._unsealed: dict[str, tuple[int, bytes]] = {}
        self._frontends: dict[str, Frontend] = {}
        self._backends: dict[str, HeldBackend] = {}
        self._legacy: dict[str, tuple[int, Source]] = {}
        self._routings: dict[str, HeldRouting] = {}
        self._held: dict[str, dict[str, Any]] = {
            "frontend": self._frontends,
            "backend": self._backends,
            "routing": self._routings,
        }
        self._raw: dict[str, dict[str, bytes]] = {"frontend": {}, "backend": {}, "routing": {}}
        self._versions: dict[tuple[str, bytes], tuple[int, bytes | None]] = {}
        self._repair: set[tuple[str, bytes]] = set()
        self._deleted: dict[str, list[tuple[str, str, str, int]]] = {}
        self._closed: set[str] = set()

    # ---- recovery ------------------------------------------------------------------------------------

    def load(self, table: str, key: bytes, value: bytes | None, version: int) -> None:
        """Take one record of a table's changelog, in log order. A record of a lower version than the one before it
        came from a worker that had been replaced; what it hid is written again by `recover`. The record can be read
        (`changelog_records.unreadable`)."""
        if key.startswith(SEAL_PREFIX):
            if value is not None:
                seal = msgspec.json.decode(value, type=Seal)
                held = self._seals[table].get(seal.cluster)
                if held is None or held.offset < seal.offset:
                    self._seals[table][seal.cluster] = seal
                if not seal.more:
                    self.sealed[table] = max(self.sealed[table], seal.offset)
            return
        if key.startswith(b"~") and not key.startswith(HELD_PREFIX):
            return  # Of a newer worker.
        before = self._versions.get((table, key))
        if before is not None and before[0] > version:
            self._repair.add((table, key))
        else:
            self._versions[table, key] = (version, value)

    def recover(self) -> tuple[int, list[Write]]:
        """After the last `load`: the journal offset to go on from, and rows to write again."""
        lowest = min(self.tables, key=lambda table: self.sealed[table])
        for table in self.tables:
            for seal in self._seals[table].values():
                self.clusters.setdefault(seal.cluster, ClusterState(no_seal(seal.cluster)))
                newest = self._newest.get(seal.cluster)
                if newest is None or (newest.offset, newest.lost) < (seal.offset, seal.lost):
                    self._newest[seal.cluster] = seal
        for name, seal in self._seals[lowest].items():
            self.clusters[name].seal = seal
            self.clusters[name].counted = seal.offset
        for table in self.tables:
            for name, seal in self._seals[table].items():
                if seal.fold != FOLD_VERSION:
                    self.clusters[name].outdated[table] = {}
        resume = self.sealed[lowest] + 1
        for name, cluster in self.clusters.items():
            if any(name in seals and seals[name].lost for seals in self._seals.values()):
                # Also where only another table says so: this one had sealed more when the journal expired.
                if not cluster.seal.lost:
                    cluster.seal = msgspec.structs.replace(cluster.seal, lost=True, frontier={}, snapshot_begin=None)
                cluster.unmarked = set(self.tables)
            begin = cluster.seal.snapshot_begin
            if begin is not None:
                resume = min(resume, begin)
                self._open[name] = cluster.seal
                cluster.seal = msgspec.structs.replace(cluster.seal, seq=0, snapshot_begin=None)
        writes = [
            Write(table, key, value, version)
            for table, key in sorted(self._repair)
            for version, value in (self._versions[table, key],)
        ]
        for (table, raw_key), (version, value) in self._versions.items():
            if value is None:
                continue
            key = raw_key.removeprefix(HELD_PREFIX).decode()
            name = key.partition("/")[0]
            cluster = self._cluster(name)
            # Also where only legacy Endpoints are held: the next list, or the cluster's end, may not have them.
            cluster.keys.add(key)
            if raw_key.startswith(HELD_PREFIX):
                self._legacy[key] = (version, source_of(_decode_event(value), None))
                continue
            self._raw[table][key] = value
            if table == "backend" and version > self.sealed[table]:
                self._unsealed[key] = (version, value)
            if table in cluster.outdated:
                cluster.outdated[table][key] = value
            if value.find(b'"state":"deleted"', 0, 1024) > 0:
                held, at = _READERS[table](value)
                if not isinstance(held, HeldBackend) or not (held.backend.slices or held.rejected):
                    self._deleted.setdefault(name, []).append((later(at, self.window_seconds), table, key, version))
        for expiries in self._deleted.values():
            expiries.sort()
        self._versions.clear()
        self._repair.clear()
        self._seals = {table: {} for table in self.tables}
        self._closed = {name for name, cluster in self.clusters.items() if cluster.seal.closed}
        self.next_offset = resume
        return resume, writes

    def _legacy_as_shown(self, cluster: str) -> Iterator[Write]:
        """A worker may have been killed after a backend row and before the legacy Endpoints that it shows. Where the
        commit can't be read again, they are held as the row has them."""
        for key, (version, value) in self._unsealed.items():
            event = legacy_in(value) if key.startswith(f"{cluster}/") else None
            held = self._legacy.get(key)
            if event is None or (held is not None and held[0] >= version):
                continue
            if event.op == "apply":
                self._legacy[key] = (version, source_of(event, None))
            elif self._legacy.pop(key, None) is None:
                continue
            yield Write("backend", HELD_PREFIX + key.encode(), _encode(event) if event.op == "apply" else None, version)

    # ---- tombstones ----------------------------------------------------------------------------------

    def _expire_later(self, table: str, key: str, ctx: Context) -> None:
        cluster = self._cluster(ctx.cluster)
        # In the order that recovery finds: a cluster's clock may step back.
        insort(
            self._deleted.setdefault(ctx.cluster, []),
            (later(cluster.seal.at, self.window_seconds), table, key, ctx.offset),
        )

    def _tombstones(self, cluster: ClusterState, offset: int, at: str) -> Iterator[Write]:
        """Tombstones for what of the cluster has been deleted for longer than the window, by the time of a commit: its
        own, or of whichever cluster once it is closed."""
        expiries = self._deleted.get(cluster.seal.cluster, [])
        while expiries and expiries[0][0] <= at:
            _, table, key, version = expiries.pop(0)
            if self._of_table(table, key).version != version:
                continue
            self._held[table].pop(key, None)
            self._forget_if_empty(cluster, key)
            yield Write(table, key.encode(), None, offset)

    def _forget_if_empty(self, cluster: ClusterState, key: str) -> None:
        held: tuple[Container[str], ...] = (*self._held.values(), self._legacy, *self._raw.values())
        if not any(key in each for each in held):
            cluster.keys.discard(key)

    # ---- seals and dead letters ----------------------------------------------------------------------

    def _seal(self, cluster: ClusterState, offset: int, *, more: bool = False) -> list[Write]:
        cluster.seal = msgspec.structs.replace(cluster.seal, offset=offset, more=more)
        value = _encode(cluster.seal)
        key = SEAL_PREFIX + cluster.seal.cluster.encode()
        writes = []
        for table in self.tables:
            if offset > self.sealed[table]:
                if not more:
                    self.sealed[table] = offset
                writes.append(Write(table, key, value, offset))
        return writes

    def _dead_record(self, offset: int, value: bytes, reason: str, commit: Commit | None = None) -> list[Write]:
        name, at = (commit.cluster, commit.at) if commit else ("", "")
        cluster = self._cluster(name)
        letter = DeadLetter(
            self.partition,
            offset,
            name,
            at,
            "Commit",
            "",
            "",
            "",
            "",
            reason,
            value[:_EXCERPT].decode(errors="replace"),
        )
        return [self._dead(cluster, letter), *self._seal(cluster, offset)]

    def _dead_event(self, cluster: ClusterState, event: Event, offset: int, reason: str) -> Write:
        excerpt = event.excerpt or bytes(event.object)[:_EXCERPT].decode(errors="replace")
        return self._dead(
            cluster,
            DeadLetter(
                self.partition,
                offset,
                cluster.seal.cluster,
                cluster.seal.at,
                event.kind,
                event.namespace,
                event.name,
                event.uid,
                event.resource_version,
                reason,
                excerpt,
            ),
        )

    def _dead(self, cluster: ClusterState, letter: DeadLetter) -> Write:
        # After a restart, an open snapshot is read again, and what another table had sealed when the journal expired.
        if letter.offset > cluster.counted:
            cluster.seal = msgspec.structs.replace(cluster.seal, dead_letters=cluster.seal.dead_letters + 1)
        key = f"{letter.cluster}/{letter.namespace}/{letter.name}"
        return Write("deadletter", key.encode(), _encode(letter), letter.offset)

    # ---- the held state ------------------------------------------------------------------------------

    def _cluster(self, name: str) -> ClusterState:
        cluster = self.clusters.get(name)
        if cluster is None:
            cluster = self.clusters[name] = ClusterState(no_seal(name))
        return cluster

    def _frontend(self, key: str) -> Frontend:
        held = self._frontends.get(key)
        if held is None and (raw := self._raw["frontend"].pop(key, None)) is not None:
            held, _ = read_frontend(raw)
            self._frontends[key] = held
        return held or NO_FRONTEND

    def _backend(self, key: str) -> HeldBackend:
        held = self._backends.get(key)
        if held is None and (raw := self._raw["backend"].pop(key, None)) is not None:
            held, _ = read_backend(raw)
            self._backends[key] = held
        return held or NO_BACKEND

    def _routing(self, key: str) -> HeldRouting:
        held = self._routings.get(key)
        if held is None and (raw := self._raw["routing"].pop(key, None)) is not None:
            held, _ = read_routing(raw)
            self._routings[key] = held
        return held or NO_ROUTING

    def _of_table(self, table: str, key: str) -> Frontend | HeldBackend | HeldRouting:
        if table == "frontend":
            return self._frontend(key)
        return self._backend(key) if table == "backend" else self._routing(key)

    @staticmethod
    def _context(cluster: ClusterState, offset: int) -> Context:
        seal = cluster.seal
        as_of = AsOf(seal.epoch, seal.seq, seal.at, seal.frontier)
        return context(seal.cluster, offset, as_of, seal.stale_since, seal.lost)


_READERS: dict[str, Callable[[bytes], tuple[Frontend | HeldBackend | HeldRouting, str]]] = {
    "frontend": read_frontend,
    "backend": read_backend,
    "routing": read_routing,
}


def source_of(event: Event, held: Source | None) -> Source:
    label = event.name if event.kind == "EndpointSlice" else LEGACY_PREFIX + event.name
    return read_source(label, event.uid, event.resource_version, bytes(event.object), held)


def no_seal(cluster: str) -> Seal:
    return Seal(cluster, -1, 0, "", 0, "", "", {}, FOLD_VERSION)
