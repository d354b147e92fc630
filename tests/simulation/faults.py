"""Faults as they happen in systems like this, planted into the real classes to show that the checkers see them.

Each is a class or function of the code under test with one of its rules left out. `guarantee` is that of the seven
which it breaks (they are listed in the README), `text` says how.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any
from unittest.mock import patch

import msgspec
import orjson

from streams.facets import backend, claims, overlay, routing_rules
from streams.facets import endpoint_set as sets
from streams.facets.changes import ObjectChange, ServiceChange
from streams.facets.slice_text import Source
from streams.fold import fold as folding
from streams.fold import tombstones
from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.objects import collector as collecting
from streams.objects import normalize
from streams.objects.collector import Collector
from streams.objects.commits import CommitWriter, JournalRecord
from streams.objects.fields import MalformedObject
from streams.objects.reflector import Kind, Reflector, ReflectorEvent
from streams.subscription import delivery
from streams.subscription.cursor import Cursor
from streams.subscription.delivery import Batch, Subscription
from streams.subscription.rows import Row
from streams.wire import event_encoding
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import Commit, Event, Seal
from tests.simulation import export_faults, folding_faults, part_faults, progress_faults, routing_faults, worker
from tests.simulation.planting import PLANTED, fault, instead_at, planted

__all__ = ["PLANTED", "export_faults", "folding_faults", "part_faults", "planted", "progress_faults", "routing_faults"]

# ---- 1: deterministic ----------------------------------------------------------------------------------


@fault(
    1,
    "a restarted worker counts dead letters from nought: its seals are not the bytes of one that never stopped",
    since=4,
)
def _dead_letters_counted_anew() -> AbstractContextManager[Any]:
    real = PartitionFold.recover

    def recover(self: PartitionFold) -> tuple[int, list[Write]]:
        found = real(self)
        for cluster in self.clusters.values():
            cluster.seal = msgspec.structs.replace(cluster.seal, dead_letters=0)
        return found

    return patch.object(PartitionFold, "recover", recover)


@fault(1, "after a crash work resumes after the highest seal of the tables, not the lowest: one keeps a hole")
def _resume_after_the_highest_seal() -> AbstractContextManager[Any]:
    real = PartitionFold.recover

    def recover(self: PartitionFold) -> tuple[int, list[Write]]:
        highest = max(table.sealed for table in self.tables)
        resume, writes = real(self)
        self.next_offset = max(resume, highest + 1)
        return self.next_offset, writes

    return patch.object(PartitionFold, "recover", recover)


@fault(1, "a worker that restarts inside a snapshot does not go back to its begin")
def _restart_inside_a_snapshot_goes_on() -> AbstractContextManager[Any]:
    real = PartitionFold.recover

    def recover(self: PartitionFold) -> tuple[int, list[Write]]:
        _, writes = real(self)
        self.next_offset = min(table.sealed for table in self.tables) + 1
        return self.next_offset, writes

    return patch.object(PartitionFold, "recover", recover)


# ---- 2: never torn -------------------------------------------------------------------------------------


@fault(2, "slices are merged by last writer: of two that claim an endpoint, whichever comes later in the map wins")
def _merge_by_last_writer() -> AbstractContextManager[Any]:
    return patch.object(claims, "_best", lambda rivals: rivals[-1])


@fault(2, "an endpoint that leaves a slice is reported removed though another slice holds it")
def _removed_though_another_slice_holds_it() -> AbstractContextManager[Any]:
    return patch.object(sets, "conflicts", lambda slices, changes, old: False)


@fault(2, "an address's port has two winners: only endpoints of the same port list are rivals")
def _port_with_two_winners() -> AbstractContextManager[Any]:
    real = claims._losers

    def losers(contenders: list[claims.Contender]) -> Iterator[Any]:
        for ports in {each.group.layout.ports for each in contenders}:
            yield from real([each for each in contenders if each.group.layout.ports == ports])

    return patch.object(claims, "_losers", losers)


@fault(2, "an endpoint that loses one of its ports loses all")
def _one_port_lost_is_all_lost() -> AbstractContextManager[Any]:
    real = claims._losers
    return patch.object(claims, "_losers", lambda contenders: ((loser, None) for loser, _ in real(contenders)))


@fault(2, "where a slice changes, what others lost to it before stays lost")
def _lost_for_good() -> AbstractContextManager[Any]:
    real = claims.shadows_after

    def shadows_after(before: claims.Shadows, old: Any, sources: Any, changes: Any) -> claims.Shadows:
        after = dict(real(before, old, sources, changes))
        for label in before.keys() - changes:
            after[label] = {**before[label], **after.get(label, {})}
        return after

    return patch.object(sets, "shadows_after", shadows_after)


@fault(2, "a Service that became an ExternalName keeps the endpoints of the slices that are left")
def _external_name_keeps_endpoints() -> AbstractContextManager[Any]:
    return patch.object(backend, "_is_withheld", lambda service: service is None)


@fault(2, "a patch of a slice leaves out the endpoints that are gone")
def _patch_without_what_is_gone() -> AbstractContextManager[Any]:
    def patch_event(before: bytes, after: bytes) -> bytes | None:
        event = event_encoding.patch_event(before, after)
        if event is None:
            return None
        body = orjson.loads(event)
        body["object"]["removed"] = []
        return orjson.dumps(body)

    return patch.object(collecting, "patch_event", patch_event)


@fault(2, "a patch is of the first state of a slice that was held, not of the last")
def _patch_of_an_older_state() -> AbstractContextManager[Any]:
    first: dict[tuple[str, str], bytes] = {}

    def patch_event(before: bytes, after: bytes) -> bytes | None:
        event = orjson.loads(after)
        return event_encoding.patch_event(first.setdefault((event["name"], event["uid"]), before), after)

    return patch.object(collecting, "patch_event", patch_event)


@fault(2, "legacy Endpoints count beside EndpointSlices: the mirrored ones come twice")
def _legacy_endpoints_beside_slices() -> AbstractContextManager[Any]:
    def counted(self: sets.EndpointSet) -> dict[str, Source]:
        return {**self.slices, **({self.legacy.label: self.legacy} if self.legacy else {})}

    return patch.object(sets.EndpointSet, "counted", property(counted))


@fault(2, "a slice whose label moved stays with its old Service too")
def _label_moves_without_a_delete() -> AbstractContextManager[Any]:
    real = CommitWriter.changes

    def changes(self: CommitWriter, changed: Any, linked: Any, *rest: Any) -> Iterator[JournalRecord]:
        kept = {
            service: [event for event in events if service not in linked or b'"op":"delete"' not in event]
            for service, events in changed.items()
        }
        return real(self, kept, linked, *rest)

    return patch.object(CommitWriter, "changes", changes)


@fault(2, "a Service made again under its name passes for the old one: the rows keep the old uid", since=7)
def _made_again_passes_for_the_old() -> AbstractContextManager[Any]:
    real = PartitionFold._take

    def take(
        self: PartitionFold, cluster: Any, change: ServiceChange, key: str, event: Any, *rest: Any
    ) -> Iterator[Write]:
        yield from real(self, cluster, change, key, event, *rest)
        service_entry = next(table for table in self.tables if table.name == "backend").entry(key).service
        if (
            event.kind == "Service"
            and service_entry is not None
            and change.service is not None
            and change.service.content
        ):
            content, service = change.service.content
            renamed = change.service._replace(content=(content, msgspec.structs.replace(service, uid=service_entry[0])))
            change.objects[event.kind, event.namespace, event.name] = renamed

    return patch.object(PartitionFold, "_take", take)


@fault(2, "a commit is sealed before its rows are written")
def _sealed_before_its_rows() -> AbstractContextManager[Any]:
    real = PartitionFold.step

    def step(self: PartitionFold, offset: int, value: bytes | None, appended: int = 0) -> list[Write]:
        return sorted(real(self, offset, value, appended), key=lambda write: not write.key.startswith(SEAL_PREFIX))

    return patch.object(PartitionFold, "step", step)


@fault(2, "a subscriber applies what one table has sealed while the other has not")
def _one_tables_seal_taken_for_all() -> AbstractContextManager[Any]:
    real = Subscription._deliver

    def deliver(self: Subscription, partition: int, part: Any) -> Iterator[Batch]:
        ahead = max(part.seals.values(), key=len)
        for queue in part.seals.values():
            if not queue and ahead:
                queue.append(ahead[0])
        return real(self, partition, part)

    return patch.object(Subscription, "_deliver", deliver)


@fault(2, "half of a list that is made again is in the first snapshot: sets made of half of what there is", since=406)
def _snapshot_ends_with_half_a_list() -> AbstractContextManager[Any]:
    real = Collector._wait

    def wait(self: Collector, kind: str, event: ReflectorEvent) -> None:
        if self.commits.synced:
            real(self, kind, event)
        else:
            self._take(kind, event)

    return patch.object(Collector, "_wait", wait)


# ---- 3: gap-free ---------------------------------------------------------------------------------------


@fault(3, "`previous` is taken for a counter: it does not name the version that is replaced")
def _previous_is_a_counter() -> AbstractContextManager[Any]:
    real = backend.encode_head

    def encode_head(ctx: Any, key: str, previous: int | None, **more: Any) -> bytes:
        return real(ctx, key, None if previous is None else ctx.offset - 1, **more)

    return patch.object(backend, "encode_head", encode_head)


@fault(3, "a deleted Service's key gets its tombstone at once: who comes back within the window never hears of it")
def _tombstone_at_once() -> AbstractContextManager[Any]:
    return patch.object(tombstones, "later", lambda at, seconds: at)


@fault(3, "a commit that makes no rows is not sealed")
def _seal_skipped() -> AbstractContextManager[Any]:
    real = PartitionFold.step

    def step(self: PartitionFold, offset: int, value: bytes | None, appended: int = 0) -> list[Write]:
        writes = real(self, offset, value, appended)
        return writes if any(not write.key.startswith(SEAL_PREFIX) for write in writes) else []

    return patch.object(PartitionFold, "step", step)


@fault(3, "a subscriber's cursor names what was read, not what was delivered", since=4)
def _cursor_runs_ahead() -> AbstractContextManager[Any]:
    real = Subscription.cursor.fget
    assert real is not None

    def cursor(self: Subscription) -> Cursor:
        found: Cursor = real(self)
        read = {
            p: max([part.applied, *(queue[-1][0] for queue in part.seals.values() if queue)])
            for p, part in self._parts.items()
        }
        return found._replace(applied=read)

    return patch.object(Subscription, "cursor", property(cursor))


@fault(3, "a first snapshot is taken as it was read, though compaction took rows below the cut", since=30)
def _snapshot_over_compacted_rows() -> AbstractContextManager[Any]:
    real = Subscription.complete

    def complete(self: Subscription) -> bool:
        real(self)
        return True

    return patch.object(Subscription, "complete", complete)


@fault(3, "a seal ahead of its journal is taken: the subscriber waits for ever for what comes before it", since=15)
def _seal_ahead_of_its_journal_taken() -> AbstractContextManager[Any]:
    return patch.object(Subscription, "beyond", lambda *_: False)


@fault(3, "a cursor is of the time of watchers' clocks, so that it expires with one that is wrong", since=190)
def _cursor_by_a_watchers_clock() -> AbstractContextManager[Any]:
    return patch.object(delivery, "sealed_at", lambda seal: seal.at)


# ---- 4: frontier ---------------------------------------------------------------------------------------


@fault(4, "the frontier is advanced by what a relist shows, before the relist is complete", since=15)
def _frontier_advanced_too_early() -> AbstractContextManager[Any]:
    real = Collector.ingest

    def ingest(self: Collector, kind: str, event: ReflectorEvent) -> None:
        real(self, kind, event)
        if event.kind is Kind.INIT_APPLY and self.commits.synced:
            name = self._frontier_names[kind]
            version = str(event.item["metadata"]["resourceVersion"])
            self._pending_frontier[name] = max(
                self.commits.frontier.get(name, ""), version, key=lambda each: int(each or 0)
            )

    return patch.object(Collector, "ingest", ingest)


@fault(4, "what a relist changes is written as it comes, while the frontier stands still", since=4)
def _relist_written_as_it_comes() -> AbstractContextManager[Any]:
    return patch.object(Collector, "_wait", Collector._take)


@fault(4, "a cluster out of reach still passes for ready: its rows are not marked stale", since=21)
def _stale_passes_for_ready() -> AbstractContextManager[Any]:
    real = overlay.overlaid

    def overlaid(state: str, reason: str, ctx: Any, rejected: Any) -> tuple[str, str]:
        return real(state, reason, ctx._replace(stale_since=""), rejected)

    return patch.object(overlay, "overlaid", overlaid)


@fault(4, "after the journal expired a set passes for empty, where it is unknown", since=15)
def _unknown_passes_for_empty() -> AbstractContextManager[Any]:
    real = overlay.overlaid

    def overlaid(state: str, reason: str, ctx: Any, rejected: Any) -> tuple[str, str]:
        return ("empty", "") if ctx.lost and state != "deleted" else real(state, reason, ctx, rejected)

    return patch.object(overlay, "overlaid", overlaid)


@fault(4, "where the journal expired, only one cluster's seal says that its frontier is void")
def _expiry_said_of_one_cluster() -> AbstractContextManager[Any]:
    real = PartitionFold.expire

    def expire(self: PartitionFold, first_offset: int) -> list[Write]:
        return [write for write in real(self, first_offset) if b'"more":true' not in (write.value or b"")]

    return patch.object(PartitionFold, "expire", expire)


# ---- 5: exactly-once in effect -------------------------------------------------------------------------


@fault(5, "an event is acknowledged though it raised: after a restart work goes on behind it")
def _acknowledged_on_exception() -> AbstractContextManager[Any]:
    real = PartitionFold.recover

    def recover(self: PartitionFold) -> tuple[int, list[Write]]:
        resume, writes = real(self)
        self.next_offset = resume + 1 if resume else 0
        return self.next_offset, writes

    return patch.object(PartitionFold, "recover", recover)


@fault(5, "a lower epoch is taken: a watcher that wakes up after it was replaced writes over the new one")
def _lower_epoch_taken() -> AbstractContextManager[Any]:
    def accepts(seal: Seal, commit: Commit) -> bool:
        return commit.epoch != seal.epoch or (commit.writer == seal.writer and commit.seq > seal.seq)

    return patch.object(folding, "is_accepted", accepts)


@fault(5, "of two watchers that opened one epoch, both are taken", since=140)
def _second_writer_of_an_epoch_taken() -> AbstractContextManager[Any]:
    def accepts(seal: Seal, commit: Commit) -> bool:
        return commit.epoch > seal.epoch or (commit.epoch == seal.epoch and commit.seq > seal.seq)

    return patch.object(folding, "is_accepted", accepts)


@fault(5, "a subscriber takes the rows that a replaced worker writes once more", since=304)
def _replaced_workers_duplicates_delivered() -> AbstractContextManager[Any]:
    real = Subscription.feed

    def feed(
        self: Subscription, table: str, partition: int, position: int, key: bytes, value: bytes | None, version: int
    ) -> Iterator[Batch]:
        part = self._parts[partition]
        readable = not key.startswith(b"~") and key.count(b"/") == 2
        if not self.bootstrapping and readable and value is not None and version <= part.applied:
            cluster, namespace, name = key.decode().split("/")
            if self.row_filter.wants(cluster, namespace, name):
                row = Row(table, cluster, namespace, name, version, value)
                part.pending[table].append((key, version, row))
        yield from real(self, table, partition, position, key, value, version)

    def follows(self: Subscription, key: str, row: Row) -> bool:
        self._versions[row.table, key] = max(row.version, self._versions.get((row.table, key), -1))
        return True

    @contextmanager
    def both() -> Iterator[None]:
        with patch.object(Subscription, "feed", feed), patch.object(Subscription, "_follows", follows):
            yield

    return both()


@fault(5, "a worker leaves what it can't read where it hides a row: compaction takes the row", since=27)
def _garbage_left_over_a_row() -> AbstractContextManager[Any]:
    return patch.object(worker.Worker, "_overwrite", lambda self, table, key: [])


# ---- 6: complete relist --------------------------------------------------------------------------------


@fault(6, "what was deleted while nobody watched is not deleted at the relist", since=72)
def _deletes_dropped_at_relist() -> AbstractContextManager[Any]:
    return instead_at(Kind.INIT_DONE, lambda item: ReflectorEvent(Kind.INIT_APPLY, item, ""), missing=True)


@fault(6, "everything counts as deleted when a relist begins, not what is missing when it is complete", since=15)
def _deleted_when_the_relist_begins() -> AbstractContextManager[Any]:
    return instead_at(Kind.INIT, lambda item: ReflectorEvent(Kind.DELETE, item, ""))


@fault(6, "what a snapshot does not name stays: a Service deleted while no watcher ran is there for ever")
def _snapshot_deletes_nothing() -> AbstractContextManager[Any]:
    return patch.object(folding, "forget_unnamed", lambda *_: None)


@fault(6, "a list from an API server that lags is taken: what was deleted comes back", since=96)
def _lagging_list_taken() -> AbstractContextManager[Any]:
    return patch.object(Reflector, "_refuse_older", lambda self, version: None)


@fault(6, "a cluster that has ended keeps its rows")
def _closed_cluster_keeps_its_rows() -> AbstractContextManager[Any]:
    real = PartitionFold._replace

    def replace(self: PartitionFold, cluster: Any, staging: Any, offset: int) -> Iterator[Write]:
        return iter(()) if cluster.seal.closed else real(self, cluster, staging, offset)

    return patch.object(PartitionFold, "_replace", replace)


@fault(6, "what a watcher of an ended cluster writes late is taken", since=12)
def _late_commit_of_a_closed_cluster_taken() -> AbstractContextManager[Any]:
    def accepts(seal: Seal, commit: Commit) -> bool:
        return (
            seal.closed
            or commit.epoch > seal.epoch
            or (commit.epoch == seal.epoch and commit.writer == seal.writer and commit.seq > seal.seq)
        )

    return patch.object(folding, "is_accepted", accepts)


# ---- 7: one bad object stops nobody --------------------------------------------------------------------


@fault(7, "a bad object stops the rest of its commit", since=4)
def _bad_object_stops_its_commit() -> AbstractContextManager[Any]:
    real = PartitionFold.step

    def step(self: PartitionFold, offset: int, value: bytes | None, appended: int = 0) -> list[Write]:
        with suppress(msgspec.MsgspecError):
            commit = msgspec.json.decode(value or b"", type=Commit)
            bad = next((at for at, event in enumerate(commit.events) if event.op == "reject"), len(commit.events))
            value = msgspec.json.encode(msgspec.structs.replace(commit, events=commit.events[: bad + 1]))
        return real(self, offset, value, appended)

    return patch.object(PartitionFold, "step", step)


@fault(7, "a bad object takes away what was known of it: its Service loses the slice's endpoints", since=32)
def _bad_object_counts_as_deleted() -> AbstractContextManager[Any]:
    real = ServiceChange.reject

    def reject(self: ServiceChange, event: Event, message: str, **how: bool) -> None:
        real(self, event, message, **how)
        if event.kind == "EndpointSlice":
            deleted = ObjectChange(None, self.rejections[-1], None)
            self.objects[event.kind, event.namespace, event.name] = deleted

    return patch.object(ServiceChange, "reject", reject)


@fault(7, "a bad object leaves no mark: nobody can see that the row is its last good state", since=4)
def _bad_object_leaves_no_mark() -> AbstractContextManager[Any]:
    def rejected_after(held: Any, marks: Mapping[Any, Any], kinds: Any) -> tuple[Any, ...]:
        return ()

    return patch.object(overlay, "rejected_after", rejected_after)


@fault(7, "a slice that could never be read counts as none: the Service's set is known, and empty", since=4)
def _unread_slice_counts_as_none() -> AbstractContextManager[Any]:
    real = backend._unread

    def unread(service: Any, *found: Any, is_empty: bool) -> list[Any]:
        return real(service, *found, is_empty=is_empty) if service is None else []

    return patch.object(backend, "_unread", unread)


@fault(7, "a Service that could never be read counts as missing: no row says that it is there", since=12)
def _unread_service_counts_as_missing() -> AbstractContextManager[Any]:
    real = overlay.rejected_after

    def rejected_after(rejections: Any, marks: Mapping[Any, Any], kinds: Any) -> tuple[Any, ...]:
        return real(rejections, {name: mark for name, mark in marks.items() if name[0] != "Service"}, kinds)

    return patch.object(overlay, "rejected_after", rejected_after)


@fault(7, "a routing row says that a Service that could never be read does not exist", since=24)
def _unread_service_is_not_found() -> AbstractContextManager[Any]:
    real = routing_rules._choose_without_service
    return patch.object(
        routing_rules, "_choose_without_service", lambda *of: real(of[0]._replace(is_unreadable=False), *of[1:])
    )


@fault(7, "an endpoint that can't be read is left out without a word", since=4)
def _endpoint_left_out_without_a_word() -> AbstractContextManager[Any]:
    return patch.object(normalize, "_joined", lambda _: "")


@fault(7, "an endpoint that can't be read costs its whole slice", since=4)
def _odd_endpoint_costs_its_slice() -> AbstractContextManager[Any]:
    def joined(left_out: list[str]) -> str:
        if left_out:
            raise MalformedObject(left_out[0])
        return ""

    return patch.object(normalize, "_joined", joined)
