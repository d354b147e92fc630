"""The fold: one partition's journal in, rows, seals and dead letters out.

The rules, in one place:
- A commit is accepted if its epoch is the cluster's highest and its writer the one that opened it; all others are
  sealed and ignored. An epoch opens with `begin`.
- Between `begin` and `end` everything is staged; at `end` the staged world replaces the held one, and what it does
  not name is deleted there and then.
- A row is written when what it says changes; its version is the commit's offset. A row whose version is not lower
  than the commit's is already written (work resumes after the lowest seal of the tables) and is left alone.
- `close` ends a cluster: nothing of it is held, and its rows are deleted. Nothing more of it is accepted until a
  higher epoch opens; its tombstones come with the commits of other clusters.
- Each table's rows hold all that the next event needs, so the tables recover independently.
- Where another version of the fold wrote the tables, the rows that this one makes otherwise are written at the
  cluster's next commit. Those of deleted Services, which only wait for their tombstones, are left.
- Every offset is sealed in every table, whatever became of its record.
"""

from collections.abc import Container, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from streams.facets import endpoint_set as sets
from streams.facets.routing_rows import NO_ROUTING, Name, read_object, routed
from streams.facets.rows import (
    NO_BACKEND,
    NO_FRONTEND,
    Context,
    Frontend,
    HeldBackend,
    backend_row,
    backend_state,
    frontend_row,
    frontend_state,
    read_service,
    same_content,
    uid_in,
)
from streams.facets.slice_text import Source
from streams.fold.changes import Delta, any_left, mark_of, mark_of_cause, marked, same
from streams.fold.initial_rows import First, FirstRows, Staged, StagedService, first_rows, prepare
from streams.fold.partition_state import HELD_PREFIX, ClusterState, Staging, Write, source_of
from streams.fold.renewal import row_again
from streams.fold.routing_state import MARKED_KINDS, RoutingState
from streams.fold.single_slice import one_slice
from streams.objects.normalize import MalformedObject
from streams.objects.resources import OPTIONAL, RESOURCES, ROUTING_KINDS
from streams.wire.records import FOLD_VERSION, JOURNAL, TABLES, Cause, Commit, Event, Rejection, Seal
from streams.wire.routing_records import HeldPolicy, HeldRoute
from streams.wire.timestamps import of_milliseconds
from streams.wire.validation import check_commit, check_identity, is_service_key

_decode_commit = msgspec.json.Decoder(Commit).decode
_encode = msgspec.json.encode

_KINDS = ROUTING_KINDS | {each.kind for each in RESOURCES}
_PREPARED_OBJECTS = 8
_NO_NAME = "no Service can have this namespace and name"


class JournalGap(Exception):
    """An offset that does not follow the last one: going on would tear the tables."""


class PartitionFold(RoutingState):
    """The state of one partition. `step` is the fold; `load`, `recover` and `expire` bring it back after a restart.

    `window_seconds` is the resume window: deleted rows get their tombstone once they are older than it. `wanted` says
    of a cluster, namespace and name whether the Service's rows are made; a Service's rows follow from its own events
    and the commits, so they are the same whatever else is wanted.
    """

    def expire(self, first_offset: int) -> list[Write]:
        """The journal begins after the offset to go on from: all rows become `unknown` until a complete snapshot.

        Each cluster gets a seal that says so, and one of which nothing was ever accepted a seal of what was counted of
        it: every table goes on from the same. The offset counts as sealed with the last of them (`more` in the others),
        so a crash in between has all of it done again, from each cluster's newest seal in any table: to the same bytes.
        A table that has sealed more than is gone says so with the cluster's next commit after that. A cluster that had
        been closed is closed in every table: here, or with the commit that did it, where that is still to come.
        Where it is only the begin of an open snapshot that has expired, nothing but its cluster is lost.
        """
        due = min(self.sealed.values()) + 1
        begins = {name: seal.snapshot_begin for name, seal in self._open.items() if seal.snapshot_begin is not None}
        gone: list[ClusterState] = []
        writes: list[Write] = []
        for name, cluster in sorted(self.clusters.items()):
            newest = self._newest.get(name, cluster.seal)
            if first_offset <= due and begins.get(name, first_offset) >= first_offset:
                continue
            if first_offset <= due and newest.closed:
                newest = self._open[name]
            if not newest.epoch:
                cluster.seal, cluster.counted = newest, newest.offset
                continue
            gone.append(cluster)
            cluster.staging = None
            fold = cluster.seal.fold if cluster.outdated else newest.fold
            if newest.closed:
                cluster.seal = msgspec.structs.replace(newest, fold=fold)
                continue
            cluster.seal = msgspec.structs.replace(newest, frontier={}, lost=True, snapshot_begin=None, fold=fold)
            cluster.unmarked = set(self.tables)
            writes += self._legacy_as_shown(name)
        if first_offset <= due:
            self.next_offset = min([due, *(begin for begin in begins.values() if begin >= first_offset)])
            return writes
        self.next_offset, offset = first_offset, first_offset - 1
        for cluster in gone:
            # Of a cluster that has ended no snapshot follows: a table that doesn't know it yet ends it here.
            ended = cluster.seal.closed
            writes += self._replace(cluster, {}, offset) if ended else self._mark_unknown(cluster, offset)
        clusters = [cluster for _, cluster in sorted(self.clusters.items())]
        for cluster in clusters:
            writes += self._seal(cluster, offset, more=cluster is not clusters[-1])
        return writes

    def _mark_unknown(self, cluster: ClusterState, offset: int) -> Iterator[Write]:
        """A lost cluster's rows, in the tables that may not say so yet: where a row of this version was written before
        the journal expired, the next commit says it."""
        if not cluster.seal.lost:
            cluster.unmarked.clear()
        tables = {table for table in cluster.unmarked if self.sealed[table] < offset}
        if not tables:
            return
        context, done = self._context(cluster, offset), set(tables)
        for key in sorted(cluster.keys):
            done -= {table for table in done if (self._of_table(table, key).version or -1) >= offset}
            yield from self._rows(context, cluster, key, Delta(), tables)
        cluster.unmarked -= done

    # ---- the step ------------------------------------------------------------------------------------

    def step(self, offset: int, value: bytes | None, appended: int = 0) -> list[Write]:
        """Fold one journal record; `appended` is its Kafka timestamp in milliseconds (0: it has none). Raises
        JournalGap if the offset is not the next one."""
        if self.next_offset is None:
            self.next_offset = offset
        if offset != self.next_offset:
            raise JournalGap(f"{JOURNAL}[{self.partition}]: offset {offset} came where {self.next_offset} was due")
        self.next_offset = offset + 1
        try:
            commit = _decode_commit(value or b"")
            check_commit(commit, self.window_seconds)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return self._dead_record(offset, value or b"", str(error))
        if (wanted := self.wanted) is not None:
            name = commit.cluster
            commit.events = [
                each for each in commit.events if wanted(name, each.service_namespace or each.namespace, each.service)
            ]
        cluster = self._cluster(commit.cluster)
        writes: list[Write] = []
        if self._accepts(cluster.seal, commit):
            if commit.phase == "live" and cluster.staging is not None:
                return self._dead_record(offset, value or b"", "a live commit inside a snapshot", commit)
            writes = list(self._accept(cluster, commit, offset, of_milliseconds(appended)))
        if cluster.unmarked:
            writes += self._mark_unknown(cluster, offset)
        if cluster.outdated:
            writes += self._renew(cluster, offset)
        return writes + self._seal(cluster, offset)

    def _renew(self, cluster: ClusterState, offset: int) -> Iterator[Write]:
        """After another version of the fold: the rows that this one makes otherwise, with no cause but that."""
        context, whole = self._context(cluster, offset), Delta()
        whole.whole = True
        for table in [each for each in self.tables if each in cluster.outdated and self.sealed[each] < offset]:
            for key, row in sorted(cluster.outdated.pop(table).items()):
                yield from self._rows(context, cluster, key, whole, {table})
                held = self._of_table(table, key)
                if held.state == "deleted" or held.version is None or held.version >= offset:
                    continue
                new = held._replace(version=offset)
                legacy = self._legacy.get(key)
                value = row_again(context, key, new, held.version, legacy[1] if legacy else None)
                if not same_content(row, value):
                    self._held[table][key] = new
                    yield Write(table, key.encode(), value, offset)
        if not cluster.outdated:
            cluster.seal = msgspec.structs.replace(cluster.seal, fold=FOLD_VERSION)

    @staticmethod
    def _accepts(seal: Seal, commit: Commit) -> bool:
        if commit.phase == "begin" and commit.epoch > seal.epoch:
            return True
        return not seal.closed and commit.epoch == seal.epoch and commit.writer == seal.writer and commit.seq > seal.seq

    def _accept(self, cluster: ClusterState, commit: Commit, offset: int, appended: str) -> Iterator[Write]:
        before = cluster.seal
        opening = commit.phase == "begin"
        closed = commit.phase == "close"
        closing = closed or (commit.phase == "end" and cluster.staging is not None)
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
            fold=before.fold if cluster.outdated else FOLD_VERSION,
            dead_letters=before.dead_letters,
            snapshot_begin=begin,
            stale_since=commit.stale_since if current else before.stale_since,
            lost=before.lost and not closing,
            source=commit.source,
            closed=closed,
            appended=appended,
        )
        if opening:
            cluster.staging = {}
        elif closed:
            cluster.staging = None
            yield from self._replace(cluster, {}, offset)
        elif cluster.staging is not None:
            touched: dict[str, StagedService] = {}
            for event in commit.events:
                key = f"{commit.cluster}/{event.service_namespace or event.namespace}/{event.service}"
                if key in cluster.keys or is_service_key(key):
                    touched[key] = staged = cluster.staging.setdefault(key, StagedService())
                    self._stage(staged.objects, key, event)
                else:
                    yield self._dead_event(cluster, event, offset, event.message or _NO_NAME)
            for key, staged in touched.items():
                # Not at each slice of a Service that has very many of them.
                wanted = len(staged.objects) <= _PREPARED_OBJECTS and self._holds_nothing(key)
                staged.first = prepare(key, staged.objects) if wanted else None
            if closing:
                staging, cluster.staging = cluster.staging, None
                yield from self._replace(cluster, staging, offset)
        elif commit.phase == "live" and not before.lost:
            yield from self._live(cluster, commit, offset, before.stale_since != commit.stale_since)
        if closed:
            self._closed.add(commit.cluster)
        elif opening:
            self._closed.discard(commit.cluster)
        yield from self._tombstones(cluster, offset, commit.at)
        for name in sorted(self._closed - {commit.cluster}):
            yield from self._tombstones(self.clusters[name], offset, commit.at)

    # ---- live commits --------------------------------------------------------------------------------

    def _live(self, cluster: ClusterState, commit: Commit, offset: int, all_rows: bool) -> Iterator[Write]:
        context = self._context(cluster, offset)
        events: dict[str, list[Event]] = {}
        for event in commit.events:
            key = f"{commit.cluster}/{event.service_namespace or event.namespace}/{event.service}"
            if key not in cluster.keys and not is_service_key(key):
                yield self._dead_event(cluster, event, offset, event.message or _NO_NAME)
                continue
            events.setdefault(key, []).append(event)
        deltas: dict[str, Delta] = {}
        short: dict[str, Write] = {}
        for key, each in events.items():
            if len(each) == 1 and "backend" in self.tables and not all_rows:
                made = one_slice(context, key, self._backend(key), each[0])
                if made is not None:
                    self._backends[key] = made[0]
                    short[key] = Write("backend", key.encode(), made[1], offset)
                    continue
            delta = deltas[key] = Delta()
            for event in each:
                yield from self._take(cluster, delta, key, event, offset)
        for key in sorted(cluster.keys.union(events)) if all_rows else sorted(events):
            if key in short:
                yield short[key]
                continue
            delta = deltas.get(key) or Delta()
            delta.whole = all_rows
            yield from self._rows(context, cluster, key, delta)

    def _take(
        self, cluster: ClusterState, delta: Delta, key: str, event: Event, offset: int, read: Any = None
    ) -> Iterator[Write]:
        """Take an event into the delta; `read` is what its object was read as, if it was already."""
        mark = mark_of(event)
        try:
            if event.op == "reject":
                raise MalformedObject(event.message)
            gone = event.op == "delete"
            elsewhere = event.namespace if event.service_namespace else ""
            cause = Cause(event.kind, event.name, event.uid, event.resource_version, event.trigger, elsewhere)
            if event.kind == "EndpointSlice":
                seen = delta.slices.get(event.name)
                held = seen[0] if seen else self._backend(key).backend.slices.get(event.name)
                delta.slices[event.name] = (read or _read(event, held), cause)
            elif event.kind == "Service":
                delta.service = (read or _read(event, None), cause)
            elif event.kind == "Endpoints":
                delta.legacy = (read or _read(event, None), cause, b"" if gone else _encode(event))
            else:
                delta.routing[event.kind, event.namespace, event.name] = (read or _read(event, None), cause)
            delta.marks[mark] = None
        except (msgspec.MsgspecError, ValueError) as error:
            elsewhere = event.namespace if event.service_namespace else ""
            delta.marks[mark] = Rejection(event.kind, event.name, event.resource_version, str(error), elsewhere)
            delta.bad.append(Cause(event.kind, event.name, event.uid, event.resource_version, "", elsewhere))
            yield self._dead_event(cluster, event, offset, str(error))

    # ---- snapshots -----------------------------------------------------------------------------------

    def _stage(self, objects: dict[tuple[str, str], Staged], key: str, event: Event) -> None:
        """Take an event of a snapshot. Its object is read here and now, while the rest is still on its way."""
        name = mark_of(event)
        if event.op == "delete":
            objects.pop(name, None)
        elif event.op == "reject":
            objects[name] = objects.get(name, Staged(None))._replace(bad=event)
        else:
            read = None
            held = self._backend(key).backend.slices.get(event.name) if event.kind == "EndpointSlice" else None
            if held is None or not same(held, event):
                # What can't be read is read again at the snapshot's end, and said then.
                with suppress(msgspec.MsgspecError, ValueError):
                    read = _read(event, held)
                if isinstance(read, Source) and event.kind == "EndpointSlice":
                    # The source has all of it; the bytes would keep the whole commit.
                    event.object = msgspec.Raw()
            objects[name] = Staged(event, None, read)

    def _replace(self, cluster: ClusterState, staging: Staging, offset: int) -> Iterator[Write]:
        """The staged world takes the place of the held one. Objects with the uid and resourceVersion that are held
        are left as they are; a rejected object's last good state stays, and so does all of a type that could not be
        listed (which the frontier names with no version)."""
        context = self._context(cluster, offset)
        unlisted = {each.kind for each in OPTIONAL if cluster.seal.frontier.get(each.frontier) == ""}
        for key in sorted(cluster.keys.union(staging)):
            staged = staging.pop(key, None) or StagedService()
            objects = staged.objects
            if self._holds_nothing(key):
                first = staged.first or prepare(key, objects)
                rows = first_rows(context, key, first) if first is not None else None
                if first is not None and rows is not None:
                    yield from self._first(cluster, key, first, rows)
                    continue
            delta = Delta()
            delta.whole = True
            frontend, backend, routing = self._frontend(key), self._backend(key), self._routing(key)
            rejections = (*frontend.rejected, *backend.rejected, *routing.rejected)
            delta.marks = {mark_of_cause(each): None for each in rejections if each.kind not in unlisted}
            slices = backend.backend.slices
            legacy = self._legacy.get(key)
            for (kind, name), (good, bad, read) in sorted(objects.items(), key=lambda each: each[0]):
                held = slices.get(name) if kind == "EndpointSlice" else None
                if good is not None and (held is None or not same(held, good)):
                    yield from self._take(cluster, delta, key, good, offset, read)
                if bad is not None:
                    yield from self._take(cluster, delta, key, bad, offset)
            _, namespace, name = key.split("/")
            if ("Service", name) not in objects and (uid := self._uid(key)) is not None:
                delta.service = (None, Cause("Service", name, uid, ""))
            named: dict[Name, HeldRoute | HeldPolicy] = {**routing.routes, **routing.policies}
            for at, route in sorted(named.items()):
                elsewhere = route.namespace if route.namespace != namespace else ""
                cause = Cause(route.kind, route.name, route.uid, "", "", elsewhere)
                if mark_of_cause(cause) not in objects and route.kind not in unlisted:
                    delta.routing[at] = (None, cause)
            for label, source in sorted(slices.items()):
                if ("EndpointSlice", label) not in objects:
                    delta.slices[label] = (None, Cause("EndpointSlice", label, source.uid, source.resource_version))
            if legacy is not None and ("Endpoints", name) not in objects:
                delta.legacy = (None, Cause("Endpoints", name, legacy[1].uid, legacy[1].resource_version), b"")
            yield from self._rows(context, cluster, key, delta)

    def _holds_nothing(self, key: str) -> bool:
        return (
            self.tables == TABLES
            and self._frontend(key) is NO_FRONTEND
            and self._backend(key) is NO_BACKEND
            and self._routing(key) is NO_ROUTING
            and key not in self._legacy
        )

    def _first(self, cluster: ClusterState, key: str, first: First, rows: FirstRows) -> Iterator[Write]:
        cluster.keys.add(key)
        name, offset = key.encode(), cluster.seal.offset
        self._frontends[key], self._backends[key], self._routings[key] = rows.frontend, rows.backend, rows.routing
        yield Write("frontend", name, rows.frontend_row, offset)
        yield Write("backend", name, rows.backend_row, offset)
        if first.legacy is not None:
            source, event = first.legacy
            self._legacy[key] = (offset, source)
            yield Write("backend", HELD_PREFIX + name, _encode(event), offset)
        yield Write("routing", name, rows.routing_row, offset)

    def _uid(self, key: str) -> str | None:
        """The uid of the Service as held, None where there is none. After a crash between their writes, one table may
        know that it is gone, and another not yet."""
        frontend, backend, routing = self._frontend(key), self._backend(key), self._routing(key)
        if backend.service is not None:
            return backend.service[0]
        if routing.service is not None:
            return routing.service.uid
        return uid_in(frontend.content) if frontend.exists else None

    # ---- rows ----------------------------------------------------------------------------------------

    def _rows(
        self, ctx: Context, cluster: ClusterState, key: str, delta: Delta, tables: Container[str] | None = None
    ) -> Iterator[Write]:
        """The Service's rows in all tables, or in these."""
        tables = self.tables if tables is None else tables
        cluster.keys.add(key)
        if "frontend" in tables:
            yield from self._frontend_row(ctx, key, delta)
        if "backend" in tables:
            yield from self._backend_row(ctx, key, delta)
        if "routing" in tables and delta.bears_on_routing:
            service = None
            if delta.service is not None:
                body, why = delta.service
                service = (None if body is None else routed(body[1]), why)
            rejected = marked(self._routing(key).rejected, delta.marks, MARKED_KINDS)
            yield from self._routing_row(ctx, key, service, delta.routing, rejected, delta.bad)
        self._forget_if_empty(cluster, key)

    def _frontend_row(self, ctx: Context, key: str, delta: Delta) -> Iterator[Write]:
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
        rejected = marked(old.rejected, delta.marks, ("Service",)) if exists else ()
        state, reason = frontend_state(exists, ctx, rejected)
        if not content or (exists, content, state, reason, rejected) == old[1:]:
            return
        cause += [why for why in delta.bad if why.kind == "Service"]
        new = Frontend(ctx.offset, exists, content, state, reason, rejected)
        self._frontends[key] = new
        yield Write("frontend", key.encode(), frontend_row(ctx, key, new, old.version, cause), ctx.offset)
        if not exists:
            self._expire_later("frontend", key, ctx)

    def _backend_row(self, ctx: Context, key: str, delta: Delta) -> Iterator[Write]:
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
        self, ctx: Context, key: str, delta: Delta, old: HeldBackend, legacy: Source | None
    ) -> Iterator[Write]:
        service, cause = old.service, []
        if delta.service is not None:
            body, why = delta.service
            service = None if body is None else (body[1].uid, body[1].type)
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
        if legacy != was.legacy and delta.legacy is not None and not (was.slices and any_left(was.slices, changes)):
            cause.append(delta.legacy[1])
        if cause:
            new_set, difference = sets.advance(was, changes, legacy, withdrawn=(old.service is None, service is None))
        rejected = marked(old.rejected, delta.marks, ("EndpointSlice", "Endpoints"))
        known = service is not None or bool(new_set.slices or rejected) or old.version is not None
        state, reason = backend_state(service, new_set, ctx, rejected)
        if not known or (not cause and (state, reason, rejected) == (old.state, old.reason, old.rejected)):
            return
        cause += [why for why in delta.bad if why.kind not in MARKED_KINDS]
        new = HeldBackend(ctx.offset, service, new_set._replace(legacy=None), state, reason, rejected)
        self._backends[key] = new
        row = backend_row(ctx, key, new._replace(backend=new_set), old.version, cause=cause, difference=difference)
        yield Write("backend", key.encode(), row, ctx.offset)
        if service is None and not new_set.slices and not rejected:
            self._expire_later("backend", key, ctx)


def _read(event: Event, held: Source | None) -> Any:
    """What an event says of its object, None where it is gone; `held` is the slice as held. Raises MalformedObject,
    msgspec.MsgspecError, ValueError."""
    check_identity(event)
    if event.kind not in _KINDS:
        raise MalformedObject(f"no facet is made of the kind {event.kind!r}")
    if event.op == "delete":
        return None
    if event.kind == "Service":
        return read_service(event.object)
    return read_object(event) if event.kind in ROUTING_KINDS else source_of(event, held)
