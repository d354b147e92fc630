"""The journal's reading side: a cluster's standing, and who opened an epoch."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from streams.kafka.epochs import Stamp, Standing, home, standing_in
from streams.kafka.log_scan import LogScan
from streams.kafka.range_reader import RangeReader
from streams.wire.records import JOURNAL

_TAIL = 200

T = TypeVar("T")


class Rival(NamedTuple):
    """Another writer of a cluster, and the epoch that it has opened."""

    writer: str
    epoch: int


class Since(NamedTuple):
    """The records of a journal partition from an offset on: the offset after the last, how many are the writer's, and
    who has opened a higher epoch, or the same."""

    end: int
    own: int
    rival: Rival | None


class _Question(NamedTuple):
    """A call that waits for the reader's thread."""

    method: Callable[..., Any]
    arguments: tuple[Any, ...]
    answer: "asyncio.Future[Any]"


class JournalReader:
    """Reads the ends of journal partitions: a cluster's standing, and who opened an epoch.

    Its methods block; `call` runs one in the reader's own thread. They raise BrokerError. Calls that wait for the
    thread at one time are answered from one scan of the logs, which reads each record once: a process begins the epochs
    of all its clusters together, and what one needs to know is in the records that the others need.
    """

    def __init__(self, bootstrap: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="facets-journal")
        self._ranges = RangeReader(bootstrap, "facets-journal")
        self._shared: LogScan | None = None
        self._asked: list[_Question] = []
        self._answering: asyncio.Task[None] | None = None

    async def call(self, method: Callable[..., T], *arguments: Any) -> T:
        """One of the reader's methods, without blocking the event loop. It has all that is in the logs now."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._asked.append(_Question(method, arguments, answer))
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer())
        return await answer

    async def _answer(self) -> None:
        loop = asyncio.get_running_loop()
        while self._asked:
            asked, self._asked = self._asked, []
            outcomes = await loop.run_in_executor(self._thread, self._run, asked)
            for question, (result, error) in zip(asked, outcomes, strict=True):
                if question.answer.done():
                    continue  # Nobody waits for it any more.
                if error is None:
                    question.answer.set_result(result)
                else:
                    question.answer.set_exception(error)

    def _run(self, asked: Sequence[_Question]) -> list[tuple[Any, Exception | None]]:
        self._shared = LogScan(self._ranges)
        outcomes: list[tuple[Any, Exception | None]] = []
        try:
            for question in asked:
                try:
                    outcomes.append((question.method(*question.arguments), None))
                except Exception as error:
                    outcomes.append((None, error))
        finally:
            self._shared = None
        return outcomes

    @property
    def _scan(self) -> LogScan:
        """The scan of the calls that are answered together; a call of its own has one of its own."""
        return self._shared or LogScan(self._ranges)

    async def close(self) -> None:
        """Disconnect."""
        await self.call(self._ranges.close)
        self._thread.shutdown(wait=False)

    def partitions(self) -> int:
        """How many partitions the journal has; 0 where there is none."""
        return self._ranges.partitions(JOURNAL)

    def standing(self, cluster: str) -> Standing:
        """The cluster's standing (see `standing_in`). For a cluster that the journal no longer names, its seals give
        it: an epoch must never be lower than one that a table has accepted."""
        partitions = self.partitions()
        return standing_in(_ClusterView(self._scan, cluster), home(cluster, partitions), partitions, _TAIL)

    def end(self, partition: int) -> int:
        """The offset after a journal partition's last record."""
        return self._scan.bounds(JOURNAL, partition)[1]

    def ends(self, partitions: Collection[int]) -> dict[int, int]:
        """The offset after each journal partition's last record."""
        return self._ranges.ends(JOURNAL, partitions)

    def begin(self, partition: int) -> int:
        """The offset of a journal partition's first record that is retained."""
        return self._scan.bounds(JOURNAL, partition)[0]

    def opener(self, cluster: str, partition: int, since: int, epoch: int) -> str:
        """The writer of the first commit of this epoch or a higher one, from an offset on: of its `begin`. Empty if
        there is none, or if the claim took so long that the journal's retention may have removed another's."""
        scan = self._scan
        begin, end = scan.bounds(JOURNAL, partition)
        if begin > since:
            return ""
        for _, stamp in scan.stamps(cluster, partition, since, end):
            if stamp.epoch >= epoch:
                return stamp.writer
        return ""

    def since(self, cluster: str, partition: int, start: int, writer: str, epoch: int) -> Since:
        """The records from an offset on, read for a writer that has opened an epoch.

        Another's `begin` of the same epoch came second, and may be there. What follows on one may not: after a sleep
        longer than the journal's retention nobody knows which came first. Where records are gone, the newest seal tells
        whose commits the tables take.
        """
        scan = self._scan
        _, end = scan.bounds(JOURNAL, partition)
        own, first = 0, end
        rivals: list[Rival] = []
        for message, record in scan.records(partition, start, end):
            first = min(first, message.offset)
            own += record.writer == writer
            stamp = record.stamp(cluster)
            if stamp is not None and stamp.writer != writer and (stamp.epoch > epoch or stamp.phase != "begin"):
                rivals.append(Rival(stamp.writer, stamp.epoch))
        seal = scan.newest_seal(cluster, partition, _TAIL) if first > start else None
        if seal is not None and seal.writer != writer:
            rivals.append(Rival(seal.writer, seal.epoch))
        rivals = [rival for rival in rivals if rival.epoch >= epoch]
        return Since(end, own, max(rivals, key=lambda rival: rival.epoch, default=None))

    def last_heard(self, cluster: str, partition: int) -> float:
        """When Kafka took the newest record in a journal partition that shows the cluster's watcher alive, in
        seconds since 1970; 0.0 if none is among the last records."""
        scan = self._scan
        seal = scan.newest_seal(cluster, partition, _TAIL)
        epoch, covering = (seal.epoch, seal.writer if seal.covered else "") if seal else (0, "")
        newest = 0.0
        begin, end = scan.bounds(JOURNAL, partition)
        for message, record in scan.records(partition, max(begin, end - _TAIL), end):
            stamp = record.stamp(cluster)
            if stamp is not None and stamp.epoch >= epoch:
                if stamp.phase == "progress" or stamp.epoch > epoch:
                    covering = record.writer if stamp.covered else ""
                epoch = stamp.epoch
            if stamp is not None or (record.phase == "progress" and record.writer == covering):
                newest = max(newest, message.timestamp / 1000)
        return newest


class _ClusterView:
    """See JournalView."""

    def __init__(self, scan: LogScan, cluster: str) -> None:
        self._scan = scan
        self._cluster = cluster

    def newest_seal(self, partition: int) -> Stamp | None:
        seal = self._scan.newest_seal(self._cluster, partition, _TAIL)
        return Stamp(seal.offset, seal.epoch, seal.seq, seal.frontier, seal.closed) if seal else None

    def sealed_to(self, partition: int) -> int:
        return self._scan.sealed_to(partition)

    def bounds(self, partition: int) -> tuple[int, int]:
        return self._scan.bounds(JOURNAL, partition)

    def stamps(self, partition: int, start: int, end: int) -> Iterator[Stamp]:
        for offset, stamp in self._scan.stamps(self._cluster, partition, start, end):
            yield Stamp(offset, stamp.epoch, stamp.seq, stamp.frontier, stamp.phase == "close")
