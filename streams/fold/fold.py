"""The fold: one partition's journal in, rows, seals and dead letters out.

The rules, in one place:
- A commit is accepted if its epoch is the cluster's highest and its writer the one that opened it; all others are
  sealed and ignored. An epoch opens with `begin`.
- Between `begin` and `end` everything is staged; at `end` the staged objects replace the current ones, and what they
  don't name is deleted at once.
- A row is written when its content changes; its version is the commit's offset. A row whose version is not lower
  than the commit's is already written (work resumes after the lowest seal of the tables) and is left alone.
- `close` ends a cluster: its state is dropped, and its rows are deleted. Nothing more of it is accepted until a higher
  epoch opens; its tombstones come with the commits of other clusters.
- Each table's rows have all that the next event needs, so the tables recover independently.
- If another version of the fold wrote the tables, the rows that this one makes differently are rewritten at the
  cluster's next commit, except those of deleted Services, which only await their tombstones.
- The rows of the clusterset (`fold/service_sets`) follow from the rows of its table that a commit has made.
- A progress record (`fold/progress`) makes no rows of its own: it moves clusters on, and shows that its writer lives.
- Every offset is sealed in every table, whatever became of its record.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from streams.facets import invariants
from streams.facets.changes import ServiceChange
from streams.facets.reading import read_event
from streams.facets.slice_text import PatchMismatch, read_patch
from streams.facets.table import Table
from streams.facets.tables import FACET_TABLES
from streams.facets.unavailability import Signal
from streams.fold import dead_letters
from streams.fold.clusters import ClusterState
from streams.fold.progress import covered_by, is_progress, last_heard, moved_on, progress_seal, signal_of
from streams.fold.recovery import Recovery
from streams.fold.service_sets import Moment, ServiceSets
from streams.fold.snapshot import (
    OpenSnapshot,
    PreparedRows,
    StagedService,
    current_object,
    forget_unnamed,
    is_current,
    is_written,
    rejections_to_clear,
    takes_up,
)
from streams.fold.table import TableState, Write, followers_by_kind
from streams.fold.tombstones import Tombstones
from streams.objects.fields import MalformedObject
from streams.objects.resources import OPTIONAL
from streams.wire.journal_records import read_journal_record
from streams.wire.keys import is_row, parse_row_key, progress_name, row_key, seal_key
from streams.wire.records import FOLD_VERSION, JOURNAL, AsOf, Commit, DeadLetter, Event, Progress, Seal
from streams.wire.row_codec import RowContext
from streams.wire.timestamps import of_milliseconds
from streams.wire.topics import DEFAULT_WINDOW_SECONDS
from streams.wire.validation import check_commit, check_progress, is_service_key

_encode = msgspec.json.encode

_NO_NAME = "no Service can have this namespace and name"

ServicePredicate = Callable[[str, str, str], bool]
"""Whether a Service, by cluster, namespace and name, is selected."""


class JournalGap(Exception):
    """An offset that does not follow the last one: to continue would corrupt the tables."""


class PartitionFold:
    """The state of one partition. `step` is the fold; `load`, `recover` and `expire` bring it back after a restart.

    `window_seconds` is the resume window: deleted rows get their tombstone once they are older than it. Only the rows
    of Services that `selects` accepts are made; a Service's rows follow from its own events and the commits, so they
    don't depend on what else is selected.

    `progress` has the newest seals of watchers' progress, by what stands for the cluster in them.
    """

    def __init__(
        self,
        partition: int,
        tables: Iterable[Table[Any]] = FACET_TABLES,
        window_seconds: int = DEFAULT_WINDOW_SECONDS,
        selects: ServicePredicate | None = None,
    ) -> None:
        self.partition = partition
        self.next_offset: int | None = None
        self.clusters: dict[str, ClusterState] = {}
        self.progress: dict[str, Seal] = {}
        self.tables = tuple(TableState(rules) for rules in tables)
        self._selects = selects
        self._by_name = {table.name: table for table in self.tables}
        self._followers = followers_by_kind(self.tables)
        self._tombstones = Tombstones(window_seconds)
        self._window_seconds = window_seconds
        self._recovery = Recovery(self.tables)
        self._closed: set[str] = set()
        self._sets = ServiceSets.of(self.tables)

    # ---- recovery ------------------------------------------------------------------------------------

    def load(self, table: str, key: bytes, value: bytes | None, version: int) -> None:
        """Take one record of a table's changelog, in log order."""
        self._recovery.load(table, key, value, version)

    def recover(self) -> tuple[int, list[Write]]:
        """After the last `load`: the journal offset to resume from, and records to write again."""
        self.next_offset, writes = self._recovery.finish(self.clusters, self._tombstones)
        invariants.assert_no_hole(self.partition, self.next_offset, self.tables)
        self._closed = {name for name, cluster in self.clusters.items() if cluster.seal.closed}
        self.progress = dict(self._recovery.progress)
        if self._sets is not None:
            self._sets.load(self._recovery.sets, self._recovery.unsealed)
        return self.next_offset, writes

    def expire(self, first_offset: int) -> list[Write]:
        """The journal begins after the offset to resume from: all rows become `unknown` until a complete snapshot.

        Work resumes after the journal's first offset or after the highest seal of any table, whichever is later, with
        each cluster as in its newest seal, so that a restart from any table has the same result. At that offset each
        cluster gets a seal with `lost` in the tables that had sealed less; a cluster of which nothing was ever accepted
        gets a seal with its dead letter count. The offset counts as sealed with the last of these seals (the others
        have `more`), so that after a crash in between all of it is done again, to the same bytes. A table that had
        sealed that much marks the loss with the cluster's next commit. A closed cluster is closed in every table: here,
        or with the closing commit where that is still to come. If only the begin of an open snapshot has expired, only
        its cluster is lost.
        """
        due = min(table.sealed for table in self.tables) + 1
        if first_offset <= due:
            return self._expire_snapshots(first_offset, due)
        offset = max(first_offset - 1, *(table.sealed for table in self.tables))
        clusters = [cluster for _, cluster in sorted(self.clusters.items())]
        lost = [cluster for cluster in clusters if self._lose_all(cluster, first_offset)]
        writes = [write for cluster in lost for write in self._companions_in_rows(cluster)]
        for cluster in lost:
            # Of a cluster that has ended no snapshot follows: a table that doesn't know it yet ends it here.
            if cluster.seal.closed:
                writes += self._replace(cluster, OpenSnapshot(self.tables, cluster.keys), offset)
            else:
                writes += self._mark_unknown(cluster, offset)
        writes += self._fold_sets(writes, offset, 0)
        for cluster in clusters:
            writes += self._seal(cluster, offset, more=cluster is not clusters[-1])
        self.next_offset = self._recovery.read_again(self.clusters, offset + 1)
        return writes

    def _expire_snapshots(self, first_offset: int, due: int) -> list[Write]:
        """Clusters whose open snapshots have lost their begin in the journal are lost."""
        writes: list[Write] = []
        begins = self._recovery.snapshot_begins()
        for name, begin in sorted(begins.items()):
            cluster = self.clusters[name]
            if begin < first_offset:
                _lose(cluster, self._recovery.open_snapshots[name], first_offset, self._by_name)
                writes += self._companions_in_rows(cluster)
        self.next_offset = min([due, *(begin for begin in begins.values() if begin >= first_offset)])
        return writes

    def _lose_all(self, cluster: ClusterState, first_offset: int) -> bool:
        """Set the cluster to its newest seal; whether it had any state."""
        newest = self._recovery.newest_seals.get(cluster.seal.cluster, cluster.seal)
        cluster.counted = newest.offset
        if not newest.epoch:
            cluster.seal = newest
            return False
        # That its writer no longer covers it may be among what is lost.
        _lose(cluster, msgspec.structs.replace(newest, covered=False), first_offset, self._by_name)
        return True

    def _companions_in_rows(self, cluster: ClusterState) -> Iterator[Write]:
        """The companions that a worker did not write, as implied by its rows: their commit can't be read again."""
        if cluster.seal.closed:
            return
        for (table, key), (version, row) in self._recovery.unsealed.items():
            if row is not None and parse_row_key(key.decode()).cluster == cluster.seal.cluster:
                yield from self._by_name[table].write_companion_in_row(key.decode(), version, row)

    def _mark_unknown(self, cluster: ClusterState, offset: int) -> Iterator[Write]:
        """A lost cluster's rows, in the tables that may not be marked yet: if a row of this version was written before
        the journal expired, the next commit marks it."""
        if not cluster.seal.lost:
            cluster.unmarked.clear()
        tables = [table for table in self.tables if table.name in cluster.unmarked and table.sealed < offset]
        if not tables:
            return
        context = self._context(cluster, offset)
        marked = {table.name for table in tables}
        for key in sorted(cluster.keys):
            marked.difference_update(table.name for table in tables if table.is_written(key, offset))
            yield from self._rows(context, cluster, key, ServiceChange(), tables)
        cluster.unmarked -= marked

    # ---- the step ------------------------------------------------------------------------------------

    def step(self, offset: int, value: bytes | None, appended: int = 0) -> list[Write]:
        """Fold one journal record; `appended` is its Kafka timestamp in milliseconds (0: it has none). Raises
        JournalGap if the offset is not the next one."""
        if self.next_offset is None:
            self.next_offset = offset
        if offset != self.next_offset:
            raise JournalGap(f"{JOURNAL}[{self.partition}]: offset {offset} came where {self.next_offset} was due")
        self.next_offset = offset + 1
        writes = self._fold_record(offset, value, appended)
        invariants.assert_sealed(self.partition, offset, self.tables)
        return writes

    def _fold_record(self, offset: int, value: bytes | None, appended: int) -> list[Write]:
        try:
            commit = read_journal_record(value or b"")
            if isinstance(commit, Progress):
                check_progress(commit, self._window_seconds)
            else:
                check_commit(commit, self._window_seconds)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return self._dead_record(offset, appended, value or b"", str(error))
        if isinstance(commit, Progress):
            return self._fold_progress(commit, offset, appended)
        cluster = self._cluster(commit.cluster)
        writes: list[Write] = []
        if is_accepted(cluster.seal, commit):
            if commit.phase == "live" and cluster.snapshot is not None:
                return self._dead_record(offset, appended, value or b"", "a live commit inside a snapshot", commit)
            writes = list(self._accept(cluster, commit, offset, of_milliseconds(appended)))
        if cluster.unmarked:
            writes += self._mark_unknown(cluster, offset)
        if cluster.outdated:
            writes += self._renew(cluster, offset)
        writes += self._fold_sets(writes, offset, appended)
        return writes + self._seal(cluster, offset)

    def _fold_sets(self, writes: list[Write], offset: int, appended: int) -> list[Write]:
        """The clusterset's rows that follow from these rows, from those of this offset that were written before, and
        from the time."""
        if self._sets is None or not self._sets.may_change(writes):
            return []

        def context(cluster: str) -> RowContext:
            return self._context(self._cluster(cluster), offset)

        return self._sets.fold(writes, Moment(offset, appended, context, self._signal_of))

    def _signal_of(self, cluster: str) -> Signal:
        return signal_of(self._cluster(cluster).seal, self.progress)

    def _accept(self, cluster: ClusterState, commit: Commit, offset: int, appended: str) -> Iterator[Write]:
        before = cluster.seal
        invariants.assert_commit_follows(before, commit)
        is_close = commit.phase == "close"
        is_complete = is_close or (commit.phase == "end" and cluster.snapshot is not None)
        cluster.seal = _seal_of(cluster, commit, offset, appended, is_complete=is_complete)
        if before.writer and commit.writer != before.writer:
            yield from self._drop_progress(before.writer, offset)
        if commit.phase == "begin":
            cluster.snapshot = OpenSnapshot(self.tables, cluster.keys)
            self._closed.discard(commit.cluster)
        elif is_close:
            cluster.snapshot = None
            yield from self._replace(cluster, OpenSnapshot(self.tables, cluster.keys), offset)
            self._closed.add(commit.cluster)
        elif cluster.snapshot is not None:
            yield from self._stage(cluster, cluster.snapshot, commit, offset, is_complete=is_complete)
        elif commit.phase == "live" and not before.lost:
            yield from self._live(cluster, commit, offset, before.stale_since != commit.stale_since)
        if self._tombstones:
            yield from self._write_due_tombstones({commit.cluster}, offset, commit.at)

    def _fold_progress(self, progress: Progress, offset: int, appended: int) -> list[Write]:
        """The clusters that the record names move on; all that its writer covers are alive, and what a commit of theirs
        would bring up to date is. Only those that are named get a seal: what else is done depends on when this worker
        began."""
        # Read again after a restart, for the clusters whose snapshot is open: of the others it is in the seals.
        is_again = all(table.sealed >= offset for table in self.tables)
        moved: set[str] = set()
        for entry in progress.clusters:
            if is_again and entry.cluster not in self._recovery.open_snapshots:
                continue
            cluster = self.clusters.get(entry.cluster)
            if cluster is not None and is_progress(cluster.seal, progress, entry):
                cluster.seal = moved_on(cluster.seal, progress, entry, of_milliseconds(appended))
                moved.add(entry.cluster)
        covered = covered_by(progress.writer, self.clusters)
        writes: list[Write] = []
        for name in sorted(moved.union(covered)):
            cluster = self.clusters[name]
            if cluster.unmarked:
                writes += self._mark_unknown(cluster, offset)
            if cluster.outdated:
                writes += self._renew(cluster, offset)
        if covered:
            if self._tombstones:
                writes += self._write_due_tombstones(moved.union(covered), offset, progress.at)
            seal = progress_seal(progress, offset, of_milliseconds(appended))
            self.progress[seal.cluster] = seal
        writes += self._fold_sets(writes, offset, appended)
        for name in sorted(moved):
            writes += self._seal(self.clusters[name], offset, more=True)
        return writes + (self._write_seals(seal) if covered else self._seal(self._cluster(""), offset))

    def _drop_progress(self, writer: str, offset: int) -> Iterator[Write]:
        """A writer has lost a cluster. If it was its last, nobody needs its progress any more."""
        if any(cluster.seal.writer == writer for cluster in self.clusters.values()):
            return
        name = progress_name(writer)
        self.progress.pop(name, None)
        for table in self.tables:
            if offset > table.sealed:
                yield Write(table.name, seal_key(name), None, offset)

    def seals(self) -> dict[str, Seal]:
        """The newest seal of each cluster, and of each watcher's progress."""
        return {name: cluster.seal for name, cluster in self.clusters.items()} | self.progress

    def last_heard(self, cluster: str) -> str:
        """The time of the newest record that shows that the cluster's watcher lives."""
        return last_heard(self.clusters[cluster].seal, self.progress)

    def _stage(
        self, cluster: ClusterState, snapshot: OpenSnapshot, commit: Commit, offset: int, *, is_complete: bool
    ) -> Iterator[Write]:
        """A commit of an open snapshot; nothing of it counts before its end."""
        refused: list[Write] = []
        snapshot.stage(self._keyed(cluster, commit, offset, refused), offset)
        yield from refused
        if is_complete:
            cluster.snapshot = None
            yield from self._replace(cluster, snapshot, offset)

    def _keyed(
        self, cluster: ClusterState, commit: Commit, offset: int, refused: list[Write]
    ) -> Iterator[tuple[str, Event]]:
        """The commit's selected events, each with its Service's key; those with an impossible Service name become dead
        letters (`refused`)."""
        for event in commit.events:
            namespace = event.service_namespace or event.namespace
            if self._selects is not None and not self._selects(commit.cluster, namespace, event.service):
                continue
            key = row_key(commit.cluster, namespace, event.service)
            if key in cluster.keys or is_service_key(key):
                yield key, event
            else:
                refused.append(self._dead_event(cluster, event, offset, event.message or _NO_NAME))

    # ---- live commits --------------------------------------------------------------------------------

    def _live(self, cluster: ClusterState, commit: Commit, offset: int, all_rows: bool) -> Iterator[Write]:
        """`all_rows`: the cluster's state has changed, so all of its rows are checked."""
        context = self._context(cluster, offset)
        by_service: dict[str, list[Event]] = {}
        refused: list[Write] = []
        for key, event in self._keyed(cluster, commit, offset, refused):
            by_service.setdefault(key, []).append(event)
        yield from refused
        changes: dict[str, ServiceChange] = {}
        single: dict[str, list[Write]] = {}
        for key, events in by_service.items():
            if len(events) == 1 and not all_rows and (writes := self._single(context, key, events[0])):
                single[key] = writes
                continue
            change = changes[key] = ServiceChange()
            for event in events:
                yield from self._take(cluster, change, key, event, offset)
        for key in sorted(cluster.keys.union(by_service)) if all_rows else sorted(by_service):
            if key in single:
                yield from single[key]
                continue
            change = changes.get(key) or ServiceChange()
            change.whole = all_rows
            yield from self._rows(context, cluster, key, change)

    def _single(self, context: RowContext, key: str, event: Event) -> list[Write]:
        """Fast path for a commit's only event of a Service, of a kind that only one table follows from; empty if the
        general path must be taken."""
        if event.message:
            return []
        followers = self._followers.get(event.kind, ())
        concerned = [table for table in followers if not table.is_selective or table.follows(key, event.kind)]
        return concerned[0].fold_single(context, key, event) if len(concerned) == 1 else []

    def _take(
        self, cluster: ClusterState, change: ServiceChange, key: str, event: Event, offset: int, content: Any = None
    ) -> Iterator[Write]:
        """Add an event to the change; `content` is its object's content, if it was read before."""
        try:
            if event.op == "reject":
                raise MalformedObject(event.message)
            if event.op == "patch" and is_written(self.tables, key, event, offset):
                read_patch(bytes(event.object))
                return
            if content is None:
                before = change.objects.get((event.kind, event.namespace, event.name))
                current = before.content if before else current_object(self.tables, key, event, offset)
                content = read_event(event, current)
            change.apply(event, content)
            if event.message and event.op == "apply":
                yield self._dead_event(cluster, event, offset, event.message)
        except (msgspec.MsgspecError, ValueError) as error:
            # An object that its watcher can't read has no newer good state; one whose patch fails has.
            change.reject(event, str(error), outdated=event.op == "patch" or bool(event.base))
            # What depends on the rows can't be counted: after a restart they may be those of a later commit.
            if not isinstance(error, PatchMismatch):
                yield self._dead_event(cluster, event, offset, str(error))

    # ---- snapshots -----------------------------------------------------------------------------------

    def _replace(self, cluster: ClusterState, snapshot: OpenSnapshot, offset: int) -> Iterator[Write]:
        """Replace the current objects by the staged ones. Objects with the same uid and resourceVersion are left as
        they are; a rejected object's last good state stays, and so does everything of a type that could not be listed
        (which is in the frontier without a version)."""
        context = self._context(cluster, offset)
        unlisted = {resource.kind for resource in OPTIONAL if cluster.seal.frontier.get(resource.frontier) == ""}
        may_prepare = not (context.stale_since or context.lost)
        for key in sorted(cluster.keys.union(snapshot.keys())):
            service = snapshot.take(key)
            if may_prepare and snapshot.is_first(key) and (prepared := snapshot.prepared(key, service)) is not None:
                yield from self._initial_rows(context, cluster, key, prepared)
                continue
            change = ServiceChange(whole=True)
            change.marks.update(rejections_to_clear(key, self.tables, unlisted))
            yield from self._take_staged(cluster, change, key, service, offset)
            forget_unnamed(change, key, self.tables, service.objects, unlisted)
            yield from self._rows(context, cluster, key, change)

    def _take_staged(
        self, cluster: ClusterState, change: ServiceChange, key: str, service: StagedService, offset: int
    ) -> Iterator[Write]:
        all_of_them = takes_up(self.tables, key, service.objects)
        for _, (good, bad, content) in sorted(service.objects.items(), key=lambda staged: staged[0]):
            if good is not None and (all_of_them or not is_current(self.tables, key, good)):
                yield from self._take(cluster, change, key, good, offset, content)
            if bad is not None:
                yield from self._take(cluster, change, key, bad, offset)

    def _initial_rows(
        self, context: RowContext, cluster: ClusterState, key: str, prepared: PreparedRows
    ) -> list[Write]:
        """Fast path for a Service's first rows."""
        cluster.keys.add(key)
        writes = []
        for table, of_table in zip(self.tables, prepared.by_table, strict=True):
            writes += table.fold_initial(context, key, prepared.objects, of_table)
        return writes

    # ---- rows ----------------------------------------------------------------------------------------

    def _rows(
        self,
        context: RowContext,
        cluster: ClusterState,
        key: str,
        change: ServiceChange,
        tables: Iterable[TableState[Any]] | None = None,
    ) -> Iterator[Write]:
        """The Service's rows after the change, in all tables or in these."""
        cluster.keys.add(key)
        for table in self.tables if tables is None else tables:
            for write in table.fold(context, key, change):
                yield write
                if is_row(write.key) and table.rules.is_finished(table.entry(key)):
                    self._tombstones.schedule(context.cluster, cluster.seal.at, table.name, key, context.offset)
        self._drop_if_nothing(cluster, key)

    def _renew(self, cluster: ClusterState, offset: int) -> Iterator[Write]:
        """After another version of the fold: the rows that this one makes differently."""
        context = self._context(cluster, offset)
        for table in self.tables:
            if table.name not in cluster.outdated or table.sealed >= offset:
                continue
            for key, row in sorted(cluster.outdated.pop(table.name).items()):
                yield from self._rows(context, cluster, key, ServiceChange(whole=True), (table,))
                yield from table.renew(context, key, row)
        if not cluster.outdated:
            cluster.seal = msgspec.structs.replace(cluster.seal, fold=FOLD_VERSION)

    def _write_due_tombstones(self, clusters: set[str], offset: int, at: str) -> Iterator[Write]:
        """The due tombstones of these clusters, and of those that are closed."""
        for name in (*sorted(clusters), *sorted(self._closed - clusters)):
            yield from self._write_tombstones(self.clusters[name], offset, at)

    def _write_tombstones(self, cluster: ClusterState, offset: int, at: str) -> Iterator[Write]:
        """Tombstones for the cluster's rows that were deleted longer ago than the window, by the time of a commit: its
        own or, once it is closed, any cluster's."""
        unsealed = [table.name for table in self.tables if table.sealed < offset]
        for _, name, key, version in self._tombstones.due(cluster.seal.cluster, at, unsealed):
            table = self._by_name[name]
            if table.entry(key).version == version:
                yield table.drop_row(key, offset)
                self._drop_if_nothing(cluster, key)

    def _drop_if_nothing(self, cluster: ClusterState, key: str) -> None:
        if not any(key in table for table in self.tables):
            cluster.keys.discard(key)

    # ---- seals and dead letters ----------------------------------------------------------------------

    def _seal(self, cluster: ClusterState, offset: int, *, more: bool = False) -> list[Write]:
        seal = cluster.seal
        # That of an accepted commit is made with its offset.
        if seal.offset != offset or seal.more != more:
            seal = cluster.seal = msgspec.structs.replace(seal, offset=offset, more=more)
        return self._write_seals(seal)

    def _write_seals(self, seal: Seal) -> list[Write]:
        key, value, offset = seal_key(seal.cluster), _encode(seal), seal.offset
        writes = []
        for table in self.tables:
            if offset > table.sealed:
                if not seal.more:
                    table.sealed = offset
                writes.append(Write(table.name, key, value, offset))
        return writes

    def _dead_record(
        self, offset: int, appended: int, value: bytes, reason: str, commit: Commit | None = None
    ) -> list[Write]:
        cluster = self._cluster(commit.cluster if commit else "")
        letter = dead_letters.of_record(self.partition, offset, value, reason, commit)
        writes = [self._dead(cluster, letter), *self._fold_sets([], offset, appended)]
        return writes + self._seal(cluster, offset)

    def _dead_event(self, cluster: ClusterState, event: Event, offset: int, reason: str) -> Write:
        return self._dead(cluster, dead_letters.of_event(self.partition, offset, cluster.seal, event, reason))

    def _dead(self, cluster: ClusterState, letter: DeadLetter) -> Write:
        # Not counted again: what is read twice after a restart.
        if letter.offset > cluster.counted:
            cluster.seal = msgspec.structs.replace(cluster.seal, dead_letters=cluster.seal.dead_letters + 1)
        return dead_letters.write_of(letter)

    # ---- clusters ------------------------------------------------------------------------------------

    def _cluster(self, name: str) -> ClusterState:
        cluster = self.clusters.get(name)
        if cluster is None:
            cluster = self.clusters[name] = ClusterState(name)
        return cluster

    @staticmethod
    def _context(cluster: ClusterState, offset: int) -> RowContext:
        seal = cluster.seal
        as_of = _encode(AsOf(seal.epoch, seal.seq, seal.at, seal.frontier))
        return RowContext(seal.cluster, offset, as_of, seal.stale_since, seal.lost)


def _lose(cluster: ClusterState, seal: Seal, first_offset: int, tables: Iterable[str]) -> None:
    """The cluster's state after this seal is lost, except an open snapshot that the journal still has in full."""
    cluster.snapshot = None
    fold = cluster.seal.fold if cluster.outdated else seal.fold
    if seal.closed:
        cluster.seal = msgspec.structs.replace(seal, fold=fold)
        return
    begin = seal.snapshot_begin
    begin = None if begin is None or begin < first_offset else begin
    cluster.seal = msgspec.structs.replace(seal, frontier={}, lost=True, snapshot_begin=begin, fold=fold)
    cluster.unmarked = set(tables)


def is_accepted(seal: Seal, commit: Commit) -> bool:
    if commit.phase == "begin" and commit.epoch > seal.epoch:
        return True
    return not seal.closed and commit.epoch == seal.epoch and commit.writer == seal.writer and commit.seq > seal.seq


def _seal_of(cluster: ClusterState, commit: Commit, offset: int, appended: str, *, is_complete: bool) -> Seal:
    """The cluster's seal after an accepted commit; `is_complete`: it ends a snapshot, or the cluster."""
    before = cluster.seal
    is_current = is_complete or (commit.phase == "live" and not before.lost)
    begin = before.snapshot_begin
    if commit.phase == "begin":
        begin = offset
    elif is_complete or cluster.snapshot is None:
        begin = None
    return Seal(
        cluster=commit.cluster,
        offset=offset,
        epoch=commit.epoch,
        writer=commit.writer,
        seq=commit.seq,
        at=commit.at,
        phase=commit.phase,
        frontier=commit.frontier if is_current else before.frontier,
        fold=before.fold if cluster.outdated else FOLD_VERSION,
        dead_letters=before.dead_letters,
        snapshot_begin=begin,
        stale_since=commit.stale_since if is_current else before.stale_since,
        lost=before.lost and not is_complete,
        source=commit.source,
        closed=commit.phase == "close",
        appended=appended,
        covered=before.covered and commit.epoch == before.epoch and commit.phase != "close",
    )
