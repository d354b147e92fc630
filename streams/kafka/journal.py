"""The journal's writing side: commits in order and acknowledged, and the claim of an epoch."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.kafka.commit_producer import commit_producer
from streams.kafka.epochs import Standing, home
from streams.kafka.journal_reader import JournalReader
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.runtime.pace import Pace
from streams.wire.records import JOURNAL

log = logging.getLogger("facets.journal")

_WRITES_A_SECOND = 40
"""At how many writes a second what comes is collected and written together: of 250 clusters that change now and then,
each write would otherwise be a request of its own, and wake every reader."""

_SMALL_BYTES = 64 * 1024
"""Up to this size, records are sent from the event loop: handing over to a thread adds latency."""


class JournalWriteFailed(FacetsError):
    """A commit could not be written, so none may follow it."""

    exit_code = ExitCode.IO_ERROR


class Superseded(FacetsError):
    """Another watcher has opened a higher epoch of the cluster."""

    exit_code = ExitCode.GAVE_UP


# ---- writing -----------------------------------------------------------------------------------------


class Publisher:
    """Appends a process's records through one idempotent producer; every one is acknowledged by all in-sync replicas.
    `name` is for the broker's log.

    `written` counts the acknowledged records by partition; `skew_seconds` is how far this machine's clock was ahead
    of the broker's when it took the last record (0.0 where the topic does not have the broker's times).
    """

    def __init__(self, bootstrap: str, name: str) -> None:
        self.written: dict[int, int] = {}
        self.skew_seconds = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="facets-publish")
        self._producer = commit_producer(bootstrap, f"facets-watch-{name}")
        self._pace = Pace(_WRITES_A_SECOND, _WRITES_A_SECOND)

    async def publish(self, records: Sequence[JournalRecord]) -> list[int]:
        """Write the records in order; their offsets, when all are acknowledged. Raises JournalWriteFailed: some of
        them may be in the journal then, and none may follow."""
        if not records:
            return []
        await self._pace.turn()
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[list[int]] = loop.create_future()

        def settle(error: object, offsets: list[int]) -> None:
            if acknowledged.done():
                return
            if error is None:
                acknowledged.set_result(offsets)
            else:
                acknowledged.set_exception(
                    JournalWriteFailed(
                        f"a commit could not be written to {JOURNAL}: {error!r}",
                        "check the broker and start again: the next epoch begins with a whole snapshot, "
                        "so nothing is lost",
                    )
                )

        acks = _Acks(len(records), loop, settle)
        handed_over = time.time()
        if self.written and sum(len(record.value) for record in records) <= _SMALL_BYTES:
            self._send(records, acks)
        else:
            # The first send may wait for metadata, and compression takes time.
            loop.run_in_executor(self._thread, self._send, records, acks)
        offsets = await acknowledged
        self.skew_seconds = _skew(handed_over, acks.appended, time.time())
        for record in records:
            self.written[record.partition] = self.written.get(record.partition, 0) + 1
        return offsets

    def _send(self, records: Sequence[JournalRecord], acks: "_Acks") -> None:
        try:
            for index, record in enumerate(records):
                self._producer.send(record.partition, record.key, record.value, partial(acks.settle, index))
        except Exception as error:
            acks.bad(error)

    async def close(self, seconds: float = 10) -> None:
        """Disconnect. Records that are not acknowledged within the time are given up."""
        await asyncio.to_thread(self._close, seconds)

    def _close(self, seconds: float) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._producer.close(seconds)


class _Acks:
    """Counts acknowledgements in the producer's thread, and tells the event loop once."""

    def __init__(
        self, count: int, loop: asyncio.AbstractEventLoop, settle: Callable[[object, list[int]], None]
    ) -> None:
        self._lock = threading.Lock()
        self.appended = 0.0
        self._remaining = count
        self._offsets = [-1] * count
        self._loop = loop
        self._settle = settle

    def settle(self, index: int, error: object, offset: int, appended: float) -> None:
        """An acknowledgement, or an error."""
        if error is not None:
            self.bad(error)
            return
        with self._lock:
            self._offsets[index] = offset
            self.appended = appended
            self._remaining -= 1
            is_complete = self._remaining == 0
        if is_complete:
            self._tell(None)

    def bad(self, error: object) -> None:
        self._tell(error)

    def _tell(self, error: object) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle, error, self._offsets)
        except RuntimeError:
            return  # the loop has ended: nobody is waiting


def _skew(before: float, appended: float, after: float) -> float:
    """How far a clock that showed `before` and `after` is ahead of one that showed `appended` in between."""
    return before - appended if appended < before else min(0.0, after - appended)


# ---- epochs ------------------------------------------------------------------------------------------


class Claim(NamedTuple):
    """An opened epoch: the cluster's standing before it, and from where to look for higher epochs: the home partition's
    end, and the number of records that the publisher had written there."""

    before: Standing
    since: int
    written: int


async def claim_epoch(
    publisher: Publisher, reader: JournalReader, collector: Collector, now: Callable[[], str]
) -> Claim:
    """Open the next epoch of the collector's cluster, with the snapshot's begin in every partition.

    The fold takes an epoch from the writer whose `begin` comes first, so the home partition is read back: if
    another watcher was first, the next epoch is tried. Raises BrokerError, JournalWriteFailed.
    """
    cluster = collector.commits.cluster
    partition = home(cluster, collector.commits.partitions)
    while True:
        # Before the standing is read, so that no rival can come between the two unseen.
        since = await reader.call(reader.end, partition)
        written = publisher.written.get(partition, 0)
        standing = await reader.call(reader.standing, cluster)
        collector.commits.epoch = max(collector.commits.epoch, standing.epoch) + 1
        collector.commits.seq = max(collector.commits.seq, standing.seq)
        await publisher.publish([collector.begin_in(partition, now())])
        opener = await reader.call(reader.opener, cluster, partition, since, collector.commits.epoch)
        if opener == collector.commits.writer:
            await publisher.publish(collector.begin(now()))
            # An older watcher's commits up to these begins count: no list may be older than them.
            before = await reader.call(reader.standing, cluster)
            collector.commits.seq = max(collector.commits.seq, before.seq)
            log.info("cluster %s: epoch %d opened", cluster, collector.commits.epoch)
            return Claim(standing._replace(frontier=before.frontier or standing.frontier), since, written)
        log.warning(
            "cluster %s: %s has opened epoch %d first; trying the next", cluster, opener, collector.commits.epoch
        )


class JournalEnds(NamedTuple):
    """The journal's end in each partition, and how many records the publisher had acknowledged there before."""

    ends: dict[int, int]
    written: dict[int, int]


async def journal_ends(publisher: Publisher, reader: JournalReader, partitions: int) -> JournalEnds:
    """Look them up: once for all of a process's clusters. Raises BrokerError."""
    written = dict(publisher.written)
    return JournalEnds(await reader.call(reader.ends, range(partitions)), written)


class EpochGuard:
    """Notices that another watcher has opened a higher epoch. Of one that two have opened, both end.

    Cheap while nobody else writes to the home partition: its end then moves by the publisher's own records only.
    Otherwise the new records are read.
    """

    def __init__(self, publisher: Publisher, reader: JournalReader, collector: Collector, claim: Claim) -> None:
        self._publisher = publisher
        self._reader = reader
        self._collector = collector
        self._partition = home(collector.commits.cluster, collector.commits.partitions)
        self._since = claim.since
        self._written = claim.written
        self._lock = asyncio.Lock()

    async def check(self, ends: "JournalEnds | None" = None) -> None:
        """Look at the journal's end, or take where it was lately. Raises Superseded, BrokerError."""
        async with self._lock:
            if ends is not None:
                written, end = ends.written.get(self._partition, 0), ends.ends[self._partition]
            else:
                written = self._publisher.written.get(self._partition, 0)
                end = await self._reader.call(self._reader.end, self._partition)
            if end < self._since:
                return  # A later look was sooner.
            if end - self._since == written - self._written:
                self._since, self._written = end, written
                return
            await self._read()

    async def _read(self) -> None:
        commits = self._collector.commits
        since = await self._reader.call(
            self._reader.since, commits.cluster, self._partition, self._since, commits.writer, commits.epoch
        )
        # Only records that were read count: one in flight is read next time.
        self._since = since.end
        self._written += since.own
        if since.rival is not None:
            raise Superseded(
                f"cluster {commits.cluster}: watcher {since.rival.writer} has opened epoch {since.rival.epoch}; "
                f"this one ({commits.writer}, epoch {commits.epoch}) ends",
                "run one watcher a cluster; to have others stand by, start all of them with --lease",
            )
