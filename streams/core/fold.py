"""The fold: one partition's journal in, rows, seals and dead letters out.

The rules, in one place:
- A commit is accepted if its epoch is the cluster's highest and its writer the one that opened it; all others are
  sealed and ignored. An epoch opens with `begin`.
- Between `begin` and `end` everything is staged; at `end` the staged world replaces the held one, and what it does
  not name is deleted there and then.
- A row is written when what it says changes; its version is the commit's offset. A row whose version is not lower
  than the commit's is already written (work resumes after the lowest seal of the tables) and is left alone.
- Each table's rows hold all that the next event needs, so the tables recover independently.
- Every offset is sealed in every table, whatever became of its record.
"""

from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

import msgspec

from streams.core import backend as sets
from streams.core.normalize import MalformedObject
from streams.core.records import (
    FOLD_VERSION,
    JOURNAL,
    SEAL_PREFIX,
    AsOf,
    Cause,
    Commit,
    DeadLetter,
    Event,
    Rejection,
    Seal,
)
from streams.core.rfc3339 import later
from streams.core.rows import (
    NO_BACKEND,
    NO_FRONTEND,
    Context,
    Frontend,
    HeldBackend,
    backend_row,
    backend_state,
    context,
    frontend_row,
    frontend_state,
    read_backend,
    read_frontend,
    read_service,
)

HELD_PREFIX = b"~held/"
"""Keys of the legacy Endpoints objects that the backend table holds for Services that have slices."""

DEFAULT_WINDOW_SECONDS = 86400
"""The resume window: how long a subscriber may be away and still miss nothing."""

_EXCERPT = 4096
_decode_commit = msgspec.json.Decoder(Commit).decode
_decode_event = msgspec.json.Decoder(Event).decode
_encode = msgspec.json.encode


_Staging = dict[str, dict[tuple[str, str], tuple[Event | None, Event | None]]]
"""By Service, by (kind, name): the last good state, and the rejection where there is a newer, bad one."""


class JournalGap(Exception):
    """An offset that does not follow the last one: going on would tear the tables."""


class Write(NamedTuple):
    """A record to be written: to a table's topic (in this partition), or to `deadletter`."""

    table: str
    key: bytes
    value: bytes | None
    version: int


class _Cluster:
    """What the partition knows of a cluster: the last accepted commit's stamps, and the open snapshot."""

    __slots__ = ("keys", "seal", "staging")

    def __init__(self, seal: Seal) -> None:
        self.seal = seal
        self.staging: _Staging | None = None
        self.keys: set[str] = set()


class PartitionFold:
    """The state of one partition. `step` is the fold; `load`, `recover` and `expire` bring it back after a restart.

    `window_seconds` is the resume window: deleted rows get their tombstone once they are older than it.
    """

    def __init__(
        self,
        partition: int,
        tables: Iterable[str] = ("frontend", "backend"),
        window_seconds: int = DEFAULT_WINDOW_SECONDS,
    ) -> None:
        self.partition = partition
        self.tables = tuple(tables)
        self.window_seconds = window_seconds
        self.next_offset: int | None = None
        self.clusters: dict[str, _Cluster] = {}
        self.sealed: dict[str, int] = dict.fromkeys(self.tables, -1)
        self._seals: dict[str, dict[str, Seal]] = {table: {} for table in self.tables}
        self._frontends: dict[str, Frontend] = {}
        self._backends: dict[str, HeldBackend] = {}
        self._legacy: dict[str, tuple[int, sets.Source]] = {}
        self._raw: dict[str, dict[str, bytes]] = {"frontend": {}, "backend": {}}
        self._versions: dict[tuple[str, bytes], tuple[int, bytes | None]] = {}
        self._repair: set[tuple[str, bytes]] = set()
        self._deleted: dict[str, list[tuple[str, str, str, int]]] = {}

    # ---- recovery ------------------------------------------------------------------------------------

    def load(self, table: str, key: bytes, value: bytes | None, version: int) -> None:
        """Take one record of a table's changelog, in log order. A record of a lower version than the one before it
        came from a worker that had been replaced; what it hid is written again by `recover`."""
        if key.startswith(SEAL_PREFIX):
            if value is not None:
                seal = msgspec.json.decode(value, type=Seal)
                held = self._seals[table].get(seal.cluster)
                if held is None or held.offset < seal.offset:
                    self._seals[table][seal.cluster] = seal
                self.sealed[table] = max(self.sealed[table], seal.offset)
            return
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
                self.clusters.setdefault(seal.cluster, _Cluster(_no_seal(seal.cluster)))
        for name, seal in self._seals[lowest].items():
            self.clusters[name].seal = seal
        resume = self.sealed[lowest] + 1
        for cluster in self.clusters.values():
            begin = cluster.seal.snapshot_begin
            if begin is not None:
                resume = min(resume, begin)
                cluster.seal = msgspec.structs.replace(cluster.seal, seq=0, snapshot_begin=None)
        writes = [
            Write(table, key, value, version)
            for table, key in sorted(self._repair)
            for version, value in (self._versions[table, key],)
        ]
        for (table, raw_key), (version, value) in self._versions.items():
            if value is None:
                continue
            key = raw_key.decode()
            if raw_key.startswith(HELD_PREFIX):
                self._legacy[key[len(HELD_PREFIX) :]] = (version, _source(_decode_event(value), None))
                continue
            self._raw[table][key] = value
            name = key.partition("/")[0]
            self._cluster(name).keys.add(key)
            if value.find(b'"state":"deleted"', 0, 1024) > 0:
                at, held = (read_frontend if table == "frontend" else read_backend)(value)[::-1]
                if isinstance(held, Frontend) or not held.backend.slices:
                    self._deleted.setdefault(name, []).append((later(at, self.window_seconds), table, key, version))
        for expiries in self._deleted.values():
            expiries.sort()
        self._versions.clear()
        self._repair.clear()
        self._seals = {table: {} for table in self.tables}
        self.next_offset = resume
        return resume, writes

    def expire(self, first_offset: int) -> list[Write]:
        """The journal begins after the offset to go on from: all rows become `unknown` until a complete snapshot."""
        writes: list[Write] = []
        offset = first_offset - 1
        for _, cluster in sorted(self.clusters.items()):
            cluster.staging = None
            cluster.seal = msgspec.structs.replace(
                cluster.seal, offset=offset, frontier={}, lost=True, snapshot_begin=None, fold=FOLD_VERSION
            )
            context = self._context(cluster, offset)
            for key in sorted(cluster.keys):
                writes += self._rows(context, cluster, key, _Delta())
            writes += self._seal(cluster, offset)
        self.next_offset = first_offset
        return writes

    # ---- the step ------------------------------------------------------------------------------------

    def step(self, offset: int, value: bytes | None) -> list[Write]:
        """Fold one journal record. Raises JournalGap if the offset is not the next one."""
        if self.next_offset is None:
            self.next_offset = offset
        if offset != self.next_offset:
            raise JournalGap(f"{JOURNAL}[{self.partition}]: offset {offset} came where {self.next_offset} was due")
        self.next_offset = offset + 1
        try:
            commit = _decode_commit(value or b"")
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            return self._dead_record(offset, value or b"", str(error))
        cluster = self._cluster(commit.cluster)
        writes: list[Write] = []
        if self._accepts(cluster.seal, commit):
            if commit.phase == "live" and cluster.staging is not None:
                return self._dead_record(offset, value or b"", "a live commit inside a snapshot", commit)
            writes = list(self._accept(cluster, commit, offset))
        return writes + self._seal(cluster, offset)

    @staticmethod
    def _accepts(seal: Seal, commit: Commit) -> bool:
        if commit.phase == "begin" and commit.epoch > seal.epoch:
            return True
        return commit.epoch == seal.epoch and commit.writer == seal.writer and commit.seq > seal.seq

    def _accept(self, cluster: _Cluster, commit: Commit, offset: int) -> Iterator[Write]:
        before = cluster.seal
        opening = commit.phase == "begin"
        closing = commit.phase == "end" and cluster.staging is not None
        current = closing or (commit.phase == "live" and not before.lost)
        begin = offset if opening else None if closing or cluster.staging is None else before.snapshot_begin
        cluster.seal = Seal(
            cluster=commit.cluster,
            offset=offset,
            epoch=commit.epoch,
            writer=commit.writer,
            seq=commit.seq,
            at=commit.at,
            phase=commit.phase,
            frontier=commit.frontier if current else before.frontier,
            fold=FOLD_VERSION,
            dead_letters=before.dead_letters,
            snapshot_begin=begin,
            stale_since=commit.stale_since if current else before.stale_since,
            lost=before.lost and not closing,
        )
        if opening:
            cluster.staging = {}
        elif cluster.staging is not None:
            for event in commit.events:
                if event.service:
                    self._stage(cluster.staging, commit.cluster, event)
                elif event.op == "reject":
                    yield self._dead_event(cluster, event, offset, event.message)
            if closing:
                staged, cluster.staging = cluster.staging, None
                yield from self._replace(cluster, staged, offset)
        elif commit.phase == "live" and not before.lost:
            yield from self._live(cluster, commit, offset, before.stale_since != commit.stale_since)
        yield from self._tombstones(cluster, offset)

    # ---- live commits --------------------------------------------------------------------------------

    def _live(self, cluster: _Cluster, commit: Commit, offset: int, all_rows: bool) -> Iterator[Write]:
        deltas: dict[str, _Delta] = {}
        for event in commit.events:
            key = f"{commit.cluster}/{event.namespace}/{event.service}"
            if event.op == "reject" and not event.service:
                yield self._dead_event(cluster, event, offset, event.message)
                continue
            delta = deltas.get(key)
            if delta is None:
                delta = deltas[key] = _Delta()
            yield from self._take(cluster, delta, key, event, offset)
        context = self._context(cluster, offset)
        for key in sorted(cluster.keys.union(deltas)) if all_rows else sorted(deltas):
            yield from self._rows(context, cluster, key, deltas.get(key) or _Delta())

    def _take(self, cluster: _Cluster, delta: "_Delta", key: str, event: Event, offset: int) -> Iterator[Write]:
        mark = (event.kind, event.name)
        try:
            if event.op == "reject":
                raise MalformedObject(event.message)
            gone = event.op == "delete"
            cause = Cause(event.kind, event.name, event.uid, event.resource_version)
            if event.kind == "EndpointSlice":
                seen = delta.slices.get(event.name)
                held = seen[0] if seen else self._backend(key).backend.slices.get(event.name)
                delta.slices[event.name] = (None if gone else _source(event, held), cause)
            elif event.kind == "Service":
                delta.service = (None if gone else read_service(event.object), cause)
            elif event.kind == "Endpoints":
                delta.legacy = (None if gone else _source(event, None), cause, b"" if gone else _encode(event))
            else:
                raise MalformedObject(f"no facet is made of the kind {event.kind!r}")
            delta.marks[mark] = None
        except (msgspec.MsgspecError, ValueError) as error:
            delta.marks[mark] = Rejection(event.kind, event.name, event.resource_version, str(error))
            delta.bad.append(Cause(event.kind, event.name, event.uid, event.resource_version))
            yield self._dead_event(cluster, event, offset, str(error))

    # ---- snapshots -----------------------------------------------------------------------------------

    @staticmethod
    def _stage(staging: _Staging, cluster: str, event: Event) -> None:
        objects = staging.setdefault(f"{cluster}/{event.namespace}/{event.service}", {})
        name = (event.kind, event.name)
        if event.op == "delete":
            objects.pop(name, None)
        elif event.op == "reject":
            objects[name] = (objects.get(name, (None, None))[0], event)
        else:
            objects[name] = (event, None)

    def _replace(self, cluster: _Cluster, staging: _Staging, offset: int) -> Iterator[Write]:
        """The staged world takes the place of the held one. Objects with the uid and resourceVersion that are held
        are left as they are; a rejected object's last good state stays."""
        context = self._context(cluster, offset)
        for key in sorted(cluster.keys.union(staging)):
            objects = staging.get(key, {})
            delta = _Delta()
            frontend, backend = self._frontend(key), self._backend(key)
            delta.marks = {(each.kind, each.name): None for each in (*frontend.rejected, *backend.rejected)}
            slices = backend.backend.slices
            legacy = self._legacy.get(key)
            for (kind, name), (good, bad) in sorted(objects.items(), key=lambda each: each[0]):
                held = slices.get(name) if kind == "EndpointSlice" else None
                if good is not None and (held is None or not _same(held, good)):
                    yield from self._take(cluster, delta, key, good, offset)
                if bad is not None:
                    yield from self._take(cluster, delta, key, bad, offset)
            name = key.rpartition("/")[2]
            if backend.service is not None and ("Service", name) not in objects:
                delta.service = (None, Cause("Service", name, backend.service[0], ""))
            for label, source in slices.items():
                if ("EndpointSlice", label) not in objects:
                    delta.slices[label] = (None, Cause("EndpointSlice", label, source.uid, source.resource_version))
            if legacy is not None and ("Endpoints", name) not in objects:
                delta.legacy = (None, Cause("Endpoints", name, legacy[1].uid, legacy[1].resource_version), b"")
            yield from self._rows(context, cluster, key, delta)

    # ---- rows ----------------------------------------------------------------------------------------

    def _rows(self, ctx: Context, cluster: _Cluster, key: str, delta: "_Delta") -> Iterator[Write]:
        cluster.keys.add(key)
        if "frontend" in self.tables:
            yield from self._frontend_row(ctx, key, delta)
        if "backend" in self.tables:
            yield from self._backend_row(ctx, key, delta)
        self._forget_if_empty(cluster, key)

    def _frontend_row(self, ctx: Context, key: str, delta: "_Delta") -> Iterator[Write]:
        old = self._frontend(key)
        if old.version is not None and old.version >= ctx.offset:
            return
        exists, content, cause = old.exists, old.content, []
        if delta.service is not None:
            service, why = delta.service
            exists = service is not None
            if service is not None:
                content = service[0]
            cause = [why]
        rejected = _marked(old.rejected, delta.marks, ("Service",)) if exists else ()
        state, reason = frontend_state(exists, ctx, rejected)
        if not content or (exists, content, state, reason, rejected) == old[1:]:
            return
        cause += [why for why in delta.bad if why.kind == "Service"]
        new = Frontend(ctx.offset, exists, content, state, reason, rejected)
        self._frontends[key] = new
        yield Write("frontend", key.encode(), frontend_row(ctx, key, new, old.version, cause), ctx.offset)
        if not exists:
            self._expire_later("frontend", key, ctx)

    def _backend_row(self, ctx: Context, key: str, delta: "_Delta") -> Iterator[Write]:
        old = self._backend(key)
        held = self._legacy.get(key)
        legacy = held[1] if held else None
        if delta.legacy is not None:
            legacy = delta.legacy[0]
        if old.version is None or old.version < ctx.offset:
            yield from self._backend_row_with(ctx, key, delta, old, legacy)
        if delta.legacy is not None and (held is None or held[0] < ctx.offset) and (held or legacy):
            if legacy is None:
                del self._legacy[key]
            else:
                self._legacy[key] = (ctx.offset, legacy)
            yield Write("backend", HELD_PREFIX + key.encode(), delta.legacy[2] or None, ctx.offset)

    def _backend_row_with(
        self, ctx: Context, key: str, delta: "_Delta", old: HeldBackend, legacy: sets.Source | None
    ) -> Iterator[Write]:
        service, cause = old.service, []
        if delta.service is not None:
            body, why = delta.service
            service = None if body is None else (body[1], body[2])
            if service != old.service:
                cause.append(why)
        changes = {}
        for label, (source, why) in delta.slices.items():
            if source != old.backend.slices.get(label):
                changes[label] = source
                cause.append(why)
        held = self._legacy.get(key)
        was = old.backend._replace(legacy=held[1] if held else None)
        if was.legacy is not None and not was.slices:
            was = was._replace(shadows=sets.shadows_of(was.counted))
        new_set, difference = was._replace(legacy=legacy), sets.NO_DIFFERENCE
        if legacy != was.legacy and delta.legacy is not None and not (was.slices and _any_left(was.slices, changes)):
            cause.append(delta.legacy[1])
        if cause:
            new_set, difference = sets.advance(was, changes, legacy, withdrawn=(old.service is None, service is None))
        known = service is not None or bool(new_set.slices) or old.version is not None
        rejected = _marked(old.rejected, delta.marks, ("EndpointSlice", "Endpoints")) if known else ()
        state, reason = backend_state(service, new_set, ctx, rejected)
        if not known or (not cause and (state, reason, rejected) == (old.state, old.reason, old.rejected)):
            return
        cause += [why for why in delta.bad if why.kind != "Service"]
        new = HeldBackend(ctx.offset, service, new_set._replace(legacy=None), state, reason, rejected)
        self._backends[key] = new
        row = backend_row(ctx, key, new._replace(backend=new_set), old.version, cause=cause, difference=difference)
        yield Write("backend", key.encode(), row, ctx.offset)
        if service is None and not new_set.slices:
            self._expire_later("backend", key, ctx)

    # ---- tombstones ----------------------------------------------------------------------------------

    def _expire_later(self, table: str, key: str, ctx: Context) -> None:
        cluster = self._cluster(ctx.cluster)
        self._deleted.setdefault(ctx.cluster, []).append(
            (later(cluster.seal.at, self.window_seconds), table, key, ctx.offset)
        )

    def _tombstones(self, cluster: _Cluster, offset: int) -> Iterator[Write]:
        expiries = self._deleted.get(cluster.seal.cluster, [])
        while expiries and expiries[0][0] <= cluster.seal.at:
            _, table, key, version = expiries.pop(0)
            held: Frontend | HeldBackend = self._frontend(key) if table == "frontend" else self._backend(key)
            if held.version != version:
                continue
            if table == "frontend":
                self._frontends.pop(key, None)
            else:
                self._backends.pop(key, None)
            self._forget_if_empty(cluster, key)
            yield Write(table, key.encode(), None, offset)

    def _forget_if_empty(self, cluster: _Cluster, key: str) -> None:
        held: tuple[Container[str], ...] = (self._frontends, self._backends, self._legacy, *self._raw.values())
        if not any(key in each for each in held):
            cluster.keys.discard(key)

    # ---- seals and dead letters ----------------------------------------------------------------------

    def _seal(self, cluster: _Cluster, offset: int) -> list[Write]:
        cluster.seal = msgspec.structs.replace(cluster.seal, offset=offset)
        value = _encode(cluster.seal)
        key = SEAL_PREFIX + cluster.seal.cluster.encode()
        writes = []
        for table in self.tables:
            if offset > self.sealed[table]:
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

    def _dead_event(self, cluster: _Cluster, event: Event, offset: int, reason: str) -> Write:
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

    def _dead(self, cluster: _Cluster, letter: DeadLetter) -> Write:
        cluster.seal = msgspec.structs.replace(cluster.seal, dead_letters=cluster.seal.dead_letters + 1)
        key = f"{letter.cluster}/{letter.namespace}/{letter.name}"
        return Write("deadletter", key.encode(), _encode(letter), letter.offset)

    # ---- the held state ------------------------------------------------------------------------------

    def _cluster(self, name: str) -> _Cluster:
        cluster = self.clusters.get(name)
        if cluster is None:
            cluster = self.clusters[name] = _Cluster(_no_seal(name))
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

    @staticmethod
    def _context(cluster: _Cluster, offset: int) -> Context:
        seal = cluster.seal
        as_of = AsOf(seal.epoch, seal.seq, seal.at, seal.frontier)
        return context(seal.cluster, offset, as_of, seal.stale_since, seal.lost)


class _Delta:
    """What one commit changes of one Service. `marks` are the objects that were rejected, or are well again."""

    __slots__ = ("bad", "legacy", "marks", "service", "slices")

    def __init__(self) -> None:
        self.service: tuple[tuple[bytes, str, str] | None, Cause] | None = None
        self.slices: dict[str, tuple[sets.Source | None, Cause]] = {}
        self.legacy: tuple[sets.Source | None, Cause, bytes] | None = None
        self.marks: dict[tuple[str, str], Rejection | None] = {}
        self.bad: list[Cause] = []


def _source(event: Event, held: sets.Source | None) -> sets.Source:
    label = event.name if event.kind == "EndpointSlice" else sets.LEGACY_PREFIX + event.name
    return sets.read_source(label, event.uid, event.resource_version, event.object, held)


def _any_left(slices: dict[str, sets.Source], changes: dict[str, sets.Source | None]) -> bool:
    return any(changes.get(label, source) is not None for label, source in slices.items())


def _same(held: sets.Source, event: Event) -> bool:
    return held.resource_version != "" and (held.uid, held.resource_version) == (event.uid, event.resource_version)


def _marked(
    held: tuple[Rejection, ...], marks: dict[tuple[str, str], Rejection | None], kinds: tuple[str, ...]
) -> tuple[Rejection, ...]:
    if not marks:
        return held
    now: dict[tuple[str, str], Rejection | None] = {(each.kind, each.name): each for each in held}
    now.update({mark: rejection for mark, rejection in marks.items() if mark[0] in kinds})
    return tuple(rejection for _, rejection in sorted(now.items()) if rejection is not None)


def _no_seal(cluster: str) -> Seal:
    return Seal(cluster, -1, 0, "", 0, "", "", {}, FOLD_VERSION)
