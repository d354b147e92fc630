"""The subscriber client: a snapshot at a sealed cut, then one sealed batch at a time, from any point in the window."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import aclosing, suppress
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, OffsetOutOfRangeError

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.kafka.address import default_bootstrap
from streams.kafka.admin import config, partition_counts, resume_window
from streams.kafka.bulk_reader import BulkReader, Chunk, stamp_of
from streams.kafka.errors import BrokerError, broker_errors
from streams.kafka.skipped_records import report
from streams.runtime.retry import RetryPolicy, retry
from streams.runtime.shutdown import closed
from streams.subscription.comparison import TablesDiffer
from streams.subscription.cursor import Cursor
from streams.subscription.delivery import Batch as SealedBatch
from streams.subscription.delivery import ChangelogGap, Subscription, reached
from streams.subscription.facet_records import Compacted, Replaced, check_anchor
from streams.subscription.freshness import SILENT_AFTER_SECONDS, Place, Silence, sealed_at, worst
from streams.subscription.journal_client import JournalClient
from streams.subscription.names import KnownNames, unknown_names
from streams.subscription.record_sources import RecordSources
from streams.subscription.rows import Filter, Row
from streams.subscription.silence import SilenceMonitor
from streams.wire.keys import PART_PREFIX, SEAL_PREFIX, is_cluster
from streams.wire.partitioning import partition_of
from streams.wire.records import FOLDED_TABLES, JOURNAL, TABLES, Seal, topic_of
from streams.wire.row_codec import is_deleted
from streams.wire.timestamps import later
from streams.wire.topics import DEFAULT_WINDOW_SECONDS

log = logging.getLogger("facets.subscriber")

_TAIL = 200
_SILENCE_SECONDS = 5
_CLOSE_SECONDS = 2.0
_READING_SECONDS = 600
"""If reading the topics takes longer, they are read on to their new ends: compaction may have removed rows whose newer
versions lie beyond the old ends."""
_BROKER_RETRY = RetryPolicy(first=0.5, longest=10.0)
_REASONS: dict[type[Exception], str] = {
    ChangelogGap: "gap",
    Compacted: "expired",
    OffsetOutOfRangeError: "lost",
    Replaced: "lost",
    TablesDiffer: "corrected",
}
"""What a snapshot recovers from, and the reason that it gives."""

_NOTHING = Filter(services=frozenset({""}))
_T = TypeVar("_T")


class Snapshot(NamedTuple):
    """All rows at a sealed cut. `reason` is `start`, or why the changes since the cursor can't be had: `gap` (one was
    missed), `expired` (the cursor is older than the resume window), `lost` (the topics are not those of the cursor),
    `corrected` (with `fold_journal`: the tables have other rows than were folded from the journal, and they count).
    `position` is None if the snapshot can't be resumed."""

    reason: str
    rows: tuple[Row, ...]
    seals: tuple[Seal, ...]
    position: Cursor | None

    @property
    def cursor(self) -> str:
        """The position as text; "" if there is none."""
        return self.position.encode() if self.position is not None else ""


class Batch(NamedTuple):
    """The rows of one journal offset, of all subscribed tables. Without rows it is progress."""

    partition: int
    seal: Seal
    rows: tuple[Row, ...]
    position: Cursor

    @property
    def cursor(self) -> str:
        """The position as text."""
        return self.position.encode()


class ClusterStatus(NamedTuple):
    """A cluster has fallen silent, or is heard of again. `stale` is the reason that its rows in the `partitions` are
    shown with, `since` the time of its last commit; without partitions its rows are shown as they are written. The
    tables hold nothing of this."""

    cluster: str
    stale: str
    since: str
    partitions: tuple[int, ...]
    position: Cursor
    rows: tuple[Row, ...] = ()

    @property
    def cursor(self) -> str:
        """The position as text."""
        return self.position.encode()


class Subscriber:
    """Follows facet tables.

        async with Subscriber(tables=("backend",), namespaces=("shop",)) as subscriber:
            async for item in subscriber:  # one Snapshot, then Batches
                for row in item.rows:
                    print(row.name, [e["address"] for e in row.decode()["endpoints"]])
                save(item.cursor)

    `bootstrap` is Kafka's address, HOST:PORT[,...]. Without it the one in FACETS_BOOTSTRAP_SERVERS is taken, else the
    broker that `facets up` runs on this machine. `cursor` resumes after the item that it came with (as text: its
    `cursor`; as a value: its `position`): each change since comes once, or a Snapshot says why not. `progress` also
    yields batches without rows, so that silence is never mistaken for a stall. A cluster without a commit for
    `silent_after` seconds (by `clock`, in seconds since the epoch; None: never) is stale: its rows decode as that, and
    a ClusterStatus comes when it falls silent and when it is heard of again. With `fold_journal` (for all tables, with
    the clusterset or without it, and without a cursor) it folds the journal itself from the sealed tables on: changes
    come before the workers have written them, or while there are none, under the same versions; `window_seconds` is
    then the workers' resume window.
    Raises FacetsError if the broker or the topics are missing at the start; later it reconnects by itself.
    """

    def __init__(
        self,
        bootstrap: str | None = None,
        *,
        tables: Iterable[str] = ("backend",),
        clusters: Iterable[str] = (),
        namespaces: Iterable[str] = (),
        services: Iterable[str] = (),
        cursor: str | Cursor | None = None,
        progress: bool = False,
        silent_after: float | None = SILENT_AFTER_SECONDS,
        clock: Callable[[], float] = time.time,
        fold_journal: bool = False,
        window_seconds: int = DEFAULT_WINDOW_SECONDS,
    ) -> None:
        self.tables = tuple(tables)
        if fold_journal and (cursor or set(self.tables) not in ({*TABLES}, {*FOLDED_TABLES})):
            raise ValueError("fold_journal is for all tables (with the clusterset or without), and without a cursor")
        self.partitions = 0
        self._broker = bootstrap or ""
        self._filter = Filter(frozenset(clusters), frozenset(namespaces), frozenset(services))
        self._cursor = Cursor.decode(cursor) if isinstance(cursor, str) and cursor else cursor or None
        self._progress = progress
        self._sources: RecordSources | None = None
        self._state: Subscription | None = None
        self._table_of = {topic_of(table): table for table in self.tables}
        self._next: dict[TopicPartition, int] = {}
        self._ahead: dict[TopicPartition, int] = {}
        self._anchors: dict[TopicPartition, tuple[int, str]] = {}
        self._silent_since: float | None = None
        self._silent_after = silent_after
        self._clock = clock
        self._monitor = SilenceMonitor("", 0, None, clock)
        self._learning: asyncio.Task[None] | None = None
        self._closing = False
        self._endless: frozenset[int] = frozenset()
        self._folds_journal = fold_journal
        self._window_seconds = window_seconds
        self._journal: JournalClient | None = None

    async def __aenter__(self) -> Self:
        if not self._broker:
            self._broker = await asyncio.to_thread(default_bootstrap)
        sources = RecordSources(self._broker)
        try:
            with broker_errors(self._broker):
                await sources.start(journal=self._folds_journal)
        except BaseException:
            await sources.stop()
            raise
        self._sources = sources
        try:
            counts = await asyncio.to_thread(partition_counts, self._broker)
            for topic in self._table_of:
                if topic not in counts:
                    raise FacetsError(
                        f"topic {topic} does not exist at {self._broker}", "facets topics create", ExitCode.UNAVAILABLE
                    )
            self.partitions = counts[topic_of(self.tables[0])]
            self._monitor = SilenceMonitor(self._broker or "", self.partitions, self._silent_after, self._clock)
            if JOURNAL not in counts:
                self._endless = frozenset(range(self.partitions))
            if self._folds_journal and counts.get(JOURNAL) != self.partitions:
                log.warning("%s is not at %s, or is another: the changelogs are followed", JOURNAL, self._broker)
            elif self._folds_journal:
                self._journal = JournalClient(self._broker, self.partitions, self._window_seconds, self.tables)
        except BaseException:
            await sources.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        if self._learning is not None:
            # Not cancelled at once: aiokafka leaks a connection that is cancelled while it is being opened.
            await asyncio.wait({self._learning}, timeout=_CLOSE_SECONDS)
            self._learning.cancel()
        if self._sources is not None:
            await closed("the subscriber to disconnect from Kafka", self._sources.stop(), _CLOSE_SECONDS)

    def __aiter__(self) -> AsyncIterator[Snapshot | Batch | ClusterStatus]:
        return self._follow()

    async def snapshot(self, *, cut: bool = False) -> Snapshot:
        """One snapshot, as of now. Each Service is consistent in itself; with `cut` all Services of a cluster are, as
        of one `seq`: it waits until every partition has sealed that (bound it with asyncio.timeout). A cut can't be
        resumed: its cursor is empty."""
        with broker_errors(self._broker):
            selection = self._filter
            if not cut and selection.services and len(selection.namespaces) == 1:
                (namespace,) = selection.namespaces
                await self._bootstrap({partition_of(namespace, name, self.partitions) for name in selection.services})
            else:
                await self._bootstrap()
            state = self._subscription()
            rows = state.ready()
            if cut:
                rows = await self._advance_to_cut(state, rows)
            await self._monitor.look(state.seals, at_once=True)
            rows = self._mark_silent(rows)
            seals = tuple(seal for _, seal in sorted(state.seals.items()))
            return Snapshot("start", rows, seals, None if cut else state.cursor)

    async def wait(
        self,
        resource_version: str,
        *,
        cluster: str,
        resource: str = "endpointslices.discovery.k8s.io",
        namespace: str = "",
        service: str = "",
        progress: Callable[[dict[int, str]], None] | None = None,
    ) -> dict[int, str]:
        """Return when everything of the cluster's `resource` up to this resourceVersion is sealed: in the Service's
        partition, or in all if none is named. Returns each partition's frontier, which is also reported to `progress`
        meanwhile. For use without iterating; bound it with asyncio.timeout. Raises UnknownName if by then the Service
        is not in the tables, and was not recently: a misspelt name would otherwise time out, or succeed by chance."""
        with broker_errors(self._broker):
            partitions = {partition_of(namespace, service, self.partitions)} if service else set(range(self.partitions))
            service_only = Filter(frozenset({cluster}), frozenset({namespace}), frozenset({service}))
            selection, self._filter = self._filter, service_only if service else _NOTHING
            try:
                await self._bootstrap(partitions)
            finally:
                self._filter = selection
            state = self._subscription()
            state.ready()
            while True:
                frontiers = {p: _frontier(state, p, cluster, resource) for p in sorted(partitions)}
                if progress is not None:
                    progress(frontiers)
                if all(reached(state.seals, p, cluster, resource, resource_version) for p in partitions):
                    if service and not state.has_row(cluster, namespace, service):
                        await self._check_names(cluster, namespace, service)
                    return frontiers
                await self._monitor.look(state.seals)
                async for _ in self._poll():
                    pass

    async def _check_names(self, *names: str) -> None:
        cluster, namespace, service = names
        # With a subscriber of its own: this one may have dropped the rows of others.
        error = unknown_names(await read_names(self._broker), [cluster], [namespace], [service])
        if error is not None:
            raise error

    def frontiers(self, cluster: str, resource: str) -> dict[int, str]:
        """How far each partition has sealed this resource type of the cluster."""
        state = self._subscription()
        return {p: at for p in range(self.partitions) if (at := _frontier(state, p, cluster, resource))}

    def sealed(self) -> dict[tuple[int, str], Seal]:
        """The newest seal of each cluster, by partition and cluster."""
        return dict(self._subscription().seals)

    @property
    def has_resumed(self) -> bool:
        """Whether it has gone on from its cursor, which is of these topics."""
        return self._state is not None and not self._ahead and not self._anchors

    @property
    def position(self) -> Cursor:
        """The position after the last item that was delivered."""
        return self._subscription().cursor

    def silent(self) -> dict[Place, Silence]:
        """The clusters that were silent at the last check, by partition and cluster."""
        return dict(self._monitor.silent)

    async def clusters(self) -> dict[Place, Seal]:
        """The newest seal of each cluster in each partition, as of now; updates `silent`, and reads no rows. For use
        without iterating."""
        with broker_errors(self._broker):
            seals = await self._log_seals()
            await self._monitor.look(seals, at_once=True)
            return seals

    async def _follow(self) -> AsyncIterator[Snapshot | Batch | ClusterStatus]:
        with broker_errors(self._broker):
            reason = "start"
            if self._cursor is not None:
                cursor, self._cursor = self._cursor, None
                reason = await self._again(self._resume, cursor)
            if not reason and self._silent_after is not None:
                self._learning = asyncio.create_task(self._learn())
            while True:
                try:
                    if reason:
                        async for opening in self._start_from_snapshot(reason):
                            yield opening
                        reason = ""
                    async for item in self._deliver():
                        yield item
                except tuple(_REASONS) as error:
                    what = "the topics have been replaced: " if _REASONS[type(error)] == "lost" else ""
                    log.warning("%s%s", what, error)
                    reason = reason or _REASONS[type(error)]

    async def _start_from_snapshot(self, reason: str) -> AsyncIterator[Snapshot | ClusterStatus]:
        log.log(logging.DEBUG if reason == "start" else logging.WARNING, "starting from a snapshot (%s)", reason)
        await self._again(self._bootstrap)
        rows = self._subscription().ready()
        before = {cluster for _, cluster in self._monitor.silent}
        self._monitor.forget()
        await self._monitor.look(self._subscription().seals, at_once=True)
        yield Snapshot(reason, self._mark_silent(rows), self._seals(), self._subscription().cursor)
        for status in self._statuses(before):
            yield status

    async def _deliver(self) -> AsyncIterator[Batch | ClusterStatus]:
        """Yield batches and statuses for ever. Raises what a snapshot recovers from."""
        while True:
            async for batch in self._poll():
                if batch.rows or self._progress:
                    rows = self._mark_silent(batch.rows)
                    yield Batch(batch.partition, batch.seal, rows, self._subscription().cursor)
            before = {cluster for _, cluster in self._monitor.silent}
            if await self._monitor.look(self._subscription().seals):
                for status in self._statuses(before):
                    yield status
            if self._journal is not None:
                self._journal.count()
                if await self._journal.retry(self._subscription()):
                    self._reassign()

    async def _resume(self, cursor: Cursor) -> str:
        """Resume from the cursor. Returns "", or the reason for a snapshot instead."""
        assigned = self._assigned()
        window = await asyncio.to_thread(resume_window, self._broker, self.tables[0])
        async with BulkReader(self._broker) as reader:
            begins, ends = await reader.begins(assigned), await reader.ends(assigned)
            newest = await _newest_seal(reader, begins, ends)
        if cursor.at and newest and later(cursor.at, window) < newest:
            return "expired"
        self._state = Subscription(self.tables, self.partitions, self._filter, cursor, skipped=self._skipped)
        self._next, self._anchors, self._ahead = {}, {}, {}
        for partition in assigned:
            position = cursor.positions.get((self._table_of[partition.topic], partition.partition))
            if position is None:
                if cursor.applied.get(partition.partition, -1) >= 0:
                    return "lost"
                position = begins[partition]
            elif not begins[partition] <= position <= ends[partition]:
                return "lost"
            elif position > begins[partition]:
                # The seal before the position is read again, to check that this is the cursor's log.
                position -= 1
                self._anchors[partition] = (cursor.applied.get(partition.partition, -1), cursor.at)
            self._next[partition] = self._ahead[partition] = position
        return ""

    async def _bootstrap(self, partitions: Collection[int] | None = None) -> None:
        """Read the topics to their ends; `ready` of the subscription is then the snapshot."""
        while True:
            begun = time.time()
            await self._read_all(partitions)
            elapsed = time.time() - begun
            if elapsed <= _READING_SECONDS or elapsed <= await self._tombstone_seconds():
                return
            # This machine slept, say: rows read first may be deleted by now, and their tombstones compacted away.
            log.warning("reading the tables took %.0f s, longer than tombstones are kept: reading them again", elapsed)

    async def _tombstone_seconds(self) -> float:
        """For how many seconds a tombstone is kept at least."""
        settings = await asyncio.to_thread(config, self._broker, topic_of(self.tables[0]))
        return int(settings["delete.retention.ms"]) / 1000

    async def _read_all(
        self, partitions: Collection[int] | None, *, strict: bool = False, endless: Collection[int] = ()
    ) -> None:
        assigned = [
            partition for partition in self._assigned() if partitions is None or partition.partition in partitions
        ]
        self._state = state = Subscription(
            self.tables, self.partitions, self._filter, strict=strict, skipped=self._skipped
        )
        state.endless = {*endless, *self._endless}
        self._next, self._anchors = {}, {}
        if self._journal is not None:
            self._journal.forget()
        async with BulkReader(self._broker) as reader:
            positions = await reader.begins(assigned)
            started = float("-inf")
            while time.time() - started > _READING_SECONDS:
                started = time.time()
                async with aclosing(reader.read(positions, await reader.ends(assigned))) as chunks:
                    async for chunk in chunks:
                        partition = chunk.partition
                        if len(chunk) and state.beyond(
                            self._table_of[partition.topic], partition.partition, max(chunk.versions)
                        ):
                            await self._ask_journal(state, partition.partition)
                        self._gather(chunk, strict=strict)
                        positions[partition] = self._next[partition] = chunk.next
        if state.doubtful() and not strict:
            log.warning("the facet topics hold records that can't be read: reading them again, checking every record")
            if foreign := state.of_another_journal():
                log.warning("the tables do not follow from this journal, in partitions %s", sorted(foreign))
            await self._read_all(partitions, strict=True, endless=state.endless | foreign)
            return
        self._ahead = positions
        if self._journal is not None:
            await self._journal.start(state)
            self._reassign()
        await self._complete(state)

    async def _complete(self, state: Subscription) -> None:
        """Read on until the rows are those at the cut; of a journal that is folded, until its end at the start."""
        has_warned = False
        while not state.complete():
            if not has_warned:
                log.warning(
                    "a worker ended between its writes to two tables long ago: waiting for `facets work` to resume"
                )
                has_warned = True
            async for _ in self._poll():
                pass
        while self._journal is not None and self._journal.is_behind():
            async for _ in self._poll():
                pass

    def _gather(self, chunk: Chunk, *, strict: bool) -> None:
        state, table, partition = self._subscription(), self._table_of[chunk.partition.topic], chunk.partition.partition
        state.gather(table, partition, chunk)
        if self._journal is not None:
            self._journal.gather(chunk, end=state.end(partition), strict=strict)

    def _skipped(self, table: str, partition: int, offset: int, why: str) -> None:
        report(topic_of(table), partition, offset, why)

    async def _ask_journal(self, state: Subscription, partition: int) -> None:
        """Look up the journal's end: no record can be of a later commit. If it can't be read, there is no limit."""
        journal = TopicPartition(JOURNAL, partition)
        try:
            async with asyncio.timeout(_SILENCE_SECONDS), BulkReader(self._broker) as reader:
                ends = await reader.ends([journal])
        except (KafkaError, TimeoutError, OSError) as error:
            log.debug("the end of %s[%d] is not known: %r", JOURNAL, partition, error)
            state.journal_ends.pop(partition, None)
        else:
            state.journal_ends[partition] = ends[journal]
            if not ends[journal]:
                state.endless.add(partition)

    async def _advance_to_cut(self, state: Subscription, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """The rows once every partition has each cluster's changes up to the highest seq now sealed in any, and none
        after."""
        cut: dict[str, int] = {}
        for (_, cluster), seal in state.seals.items():
            if is_cluster(cluster) and (not self._filter.clusters or cluster in self._filter.clusters):
                cut[cluster] = max(cut.get(cluster, 0), seal.seq)
        newest = {(row.table, row.cluster, row.namespace, row.name): row for row in rows}
        behind = {
            (partition, cluster)
            for cluster, seq in cut.items()
            for partition in range(self.partitions)
            if (cluster_seal := state.seals.get((partition, cluster))) is None or cluster_seal.seq < seq
        }
        while behind:
            async for partition, seal, changed in self._poll():
                target_seq = cut.get(seal.cluster, 0)
                if seal.seq <= target_seq:
                    newest |= {(row.table, row.cluster, row.namespace, row.name): row for row in changed}
                if seal.seq >= target_seq:
                    behind.discard((partition, seal.cluster))
        return tuple(row for _, row in sorted(newest.items()) if not is_deleted(row.value))

    async def _again(self, step: Callable[..., Awaitable[_T]], *args: Any) -> _T:
        """Run a step, and retry while the broker is away."""
        return await retry(
            partial(step, *args),
            _BROKER_RETRY,
            passes=lambda error: isinstance(error, KafkaError | BrokerError),
            report=lambda error, _: log.warning("Kafka at %s does not answer (%s): retrying", self._broker, error),
        )

    async def _poll(self) -> AsyncIterator[SealedBatch]:
        state = self._subscription()
        if self._ahead:
            # Not earlier: a snapshot alone needs no assignment, and aiokafka 0.14 hangs if it is stopped right after.
            await self._reader().assign(self._ahead)
            self._ahead = {}
        fetched = await self._fetch()
        if not fetched:
            await self._check_connection()
            return
        self._silent_since = None
        for partition, records in sorted(fetched.items()):
            if partition.topic == JOURNAL:
                for batch in self._fold(state, partition, records):
                    yield batch
            else:
                async for batch in self._take(state, partition, records):
                    yield batch

    async def _take(
        self, state: Subscription, topic_partition: TopicPartition, records: list[Any]
    ) -> AsyncIterator[SealedBatch]:
        """Take records of a changelog."""
        table, partition = self._table_of[topic_partition.topic], topic_partition.partition
        for record in records:
            expected = self._next.get(topic_partition, record.offset)
            self._next[topic_partition] = record.offset + 1
            is_missed = record.offset != expected
            if self._anchors and (anchor := self._anchors.pop(topic_partition, None)):
                if is_missed:
                    raise Compacted(f"{topic_partition.topic}[{partition}]: offset {expected} is gone")
                state.resumes_after(table, partition, check_anchor(record, anchor))
                continue
            if is_missed:
                self._skip(state, table, partition)
            key, version = record.key or b"", stamp_of(record.headers)
            if state.beyond(table, partition, version):
                await self._ask_journal(state, partition)
            if self._journal is not None and self._journal.was_folded(
                state, table, partition, key, record.value, version
            ):
                continue
            if state.lacks_parts(table, partition, key, record.value):
                await self._load_parts(state, topic_partition, record.offset)
            for batch in state.feed(table, partition, record.offset, key, record.value, version):
                yield batch

    async def _load_parts(self, state: Subscription, partition: TopicPartition, end: int) -> None:
        """Read the parts of rows that a table's log has before an offset."""
        log.debug("reading the parts of large Services in %s[%d]", partition.topic, partition.partition)
        table, records = self._table_of[partition.topic], []
        async with BulkReader(self._broker) as reader:
            begins = await reader.begins([partition])
            async with aclosing(reader.read(begins, {partition: end})) as chunks:
                async for chunk in chunks:
                    records += [record for record in chunk if record[1].startswith(PART_PREFIX)]
        state.load_parts(table, partition.partition, records)

    async def _fetch(self) -> dict[TopicPartition, list[Any]]:
        journal = self._journal
        try:
            return await self._reader().fetch(in_no_hurry=journal is not None and journal.folds_all())
        except OffsetOutOfRangeError as error:
            expired = {each.partition for each in error.args[0] if each.topic == JOURNAL}
            if journal is None or not expired:
                raise
            journal.lose(expired)
            self._reassign()
            return {}

    def _fold(self, state: Subscription, partition: TopicPartition, records: list[Any]) -> Iterator[SealedBatch]:
        """Fold records of the journal."""
        if self._journal is None:
            return
        for record in records:
            self._next[partition] = record.offset + 1
            yield from state.take_folded(partition.partition, self._journal.step(partition.partition, record))

    def _skip(self, state: Subscription, table: str, partition: int) -> None:
        """The next records of a table's changelog are gone."""
        if not state.bootstrapping:
            state.skip(table, partition)
        if self._journal is not None:
            self._journal.skip(table, partition)

    def _reassign(self) -> None:
        """Read on from here, the journal of the partitions that are folded."""
        journal = self._journal.positions() if self._journal is not None else {}
        read = {partition: position for partition, position in self._next.items() if partition.topic != JOURNAL}
        self._next = {**dict.fromkeys(self._assigned(), 0), **self._ahead, **read, **journal}
        self._ahead = dict(self._next)

    async def _check_connection(self) -> None:
        """The consumer waits silently for a broker that is away: after some silence, ask it."""
        now = asyncio.get_running_loop().time()
        if self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since > _SILENCE_SECONDS:
            partition = self._assigned()[0]
            await self._again(self._ask_end, partition)
            self._silent_since = None

    async def _ask_end(self, partition: TopicPartition) -> None:
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                await self._reader().end_offset(partition)
        except TimeoutError:
            raise KafkaConnectionError(f"no answer in {_SILENCE_SECONDS} s") from None

    # ---- silence -------------------------------------------------------------------------------------

    def _mark_silent(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """The rows, marked as stale where their cluster is silent."""
        if not self._monitor.silent:
            return rows
        return tuple(
            row.with_silence(self._monitor.reason(partition_of(row.namespace, row.name, self.partitions), row.cluster))
            for row in rows
        )

    def _statuses(self, before: Collection[str]) -> Iterator[ClusterStatus]:
        """The status of each cluster that is silent, or was `before`."""
        by_cluster: dict[str, dict[int, Silence]] = {cluster: {} for cluster in sorted(before)}
        for (partition, cluster), silence in sorted(self._monitor.silent.items()):
            by_cluster.setdefault(cluster, {})[partition] = silence
        position = self._subscription().cursor
        for cluster, silences in by_cluster.items():
            if not self._filter.clusters or cluster in self._filter.clusters:
                longest = worst(silences.values()) if silences else Silence("", "")
                yield ClusterStatus(cluster, longest.reason, longest.since, tuple(silences), position)

    async def _learn(self) -> None:
        """After a resumption only clusters that write are known: find the seals of the others in the log."""
        try:
            self._monitor.learn(await self._log_seals())
        except (KafkaError, FacetsError, OSError) as error:
            log.warning("clusters that have fallen silent are not known until they are heard of: %s", error)

    async def _log_seals(self) -> dict[Place, Seal]:
        """The newest seal of each cluster in each partition of the first table."""
        newest: dict[tuple[int, bytes], tuple[int, bytes]] = {}
        partitions = [TopicPartition(topic_of(self.tables[0]), partition) for partition in range(self.partitions)]
        async with (
            BulkReader(self._broker) as reader,
            aclosing(reader.read(await reader.begins(partitions), await reader.ends(partitions))) as chunks,
        ):
            async for chunk in chunks:
                if self._closing:
                    break
                for _, key, value, version in chunk:
                    if key.startswith(SEAL_PREFIX) and value is not None:
                        place = (chunk.partition.partition, key)
                        # A replaced worker's late seal does not count.
                        if version >= newest.get(place, (-1, b""))[0]:
                            newest[place] = (version, value)
        seals = {}
        for (partition, _), (_, value) in newest.items():
            with suppress(msgspec.MsgspecError):
                seal = msgspec.json.decode(value, type=Seal)
                seals[partition, seal.cluster] = seal
        return seals

    def _seals(self) -> tuple[Seal, ...]:
        return tuple(seal for _, seal in sorted(self._subscription().seals.items()))

    def _assigned(self) -> list[TopicPartition]:
        return [TopicPartition(topic, p) for topic in self._table_of for p in range(self.partitions)]

    def _reader(self) -> RecordSources:
        if self._sources is None:
            raise RuntimeError("use `async with Subscriber(...)`")
        return self._sources

    def _subscription(self) -> Subscription:
        if self._state is None:
            raise RuntimeError("nothing is read yet")
        return self._state


async def _newest_seal(
    reader: BulkReader, begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> str:
    """The time of the newest seal in the last records of each partition; "" if there is none."""
    newest = ""
    tails = {partition: max(begins[partition], end - _TAIL) for partition, end in ends.items()}
    async with aclosing(reader.read(tails, ends)) as chunks:
        async for chunk in chunks:
            for _, key, value, _ in chunk:
                if key.startswith(SEAL_PREFIX) and value is not None:
                    with suppress(msgspec.MsgspecError):
                        newest = max(newest, sealed_at(msgspec.json.decode(value, type=Seal)))
    return newest


async def read_names(bootstrap: str) -> KnownNames:
    """The clusters and Services that are in the tables now. Raises FacetsError."""
    async with Subscriber(bootstrap, tables=("frontend",)) as subscriber:
        rows = (await subscriber.snapshot()).rows
        clusters = {
            cluster for (_, cluster), seal in subscriber.sealed().items() if is_cluster(cluster) and not seal.closed
        }
    return KnownNames(
        frozenset(clusters).union(row.cluster for row in rows),
        frozenset((row.cluster, row.namespace, row.name) for row in rows),
    )


def _frontier(state: Subscription, partition: int, cluster: str, resource: str) -> str:
    seal = state.seals.get((partition, cluster))
    return seal.frontier.get(resource, "") if seal else ""
