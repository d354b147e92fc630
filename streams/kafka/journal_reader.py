"""The journal's reading side: a cluster's standing, and who opened an epoch."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import msgspec

from streams.facets.changelog_records import unreadable
from streams.kafka.bulk_reader import stamp_of
from streams.kafka.epochs import TAIL_GROWTH, Stamp, Standing, home, standing_in
from streams.kafka.range_reader import RangeReader
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import JOURNAL, ClusterProgress, Seal, topic_of

_TAIL = 200

T = TypeVar("T")


class CommitStamp(msgspec.Struct):
    """The fields of a commit that identify it, or of what a progress record says of a cluster."""

    cluster: str
    epoch: int
    writer: str
    seq: int
    frontier: dict[str, str] = {}
    phase: str = ""
    covered: bool = False


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


class _Record(msgspec.Struct):
    """The same of any record of the journal; a progress record has only its writer, and its clusters."""

    writer: str
    cluster: str = ""
    epoch: int = 0
    seq: int = 0
    frontier: dict[str, str] = {}
    phase: str = ""
    clusters: list[ClusterProgress] = []

    def stamp(self, cluster: str) -> CommitStamp | None:
        """What the record says of a cluster."""
        if self.cluster == cluster:
            return CommitStamp(cluster, self.epoch, self.writer, self.seq, self.frontier, self.phase)
        for entry in self.clusters:
            if entry.cluster == cluster:
                return CommitStamp(
                    cluster, entry.epoch, self.writer, entry.seq, entry.frontier, self.phase, entry.covered
                )
        return None


_decode_record = msgspec.json.Decoder(_Record).decode
_decode_seal = msgspec.json.Decoder(Seal).decode


class JournalReader:
    """Reads the ends of journal partitions: a cluster's standing, and who opened an epoch.

    Its methods block; `call` runs one in the reader's own thread. They raise BrokerError.
    """

    def __init__(self, bootstrap: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="facets-journal")
        self._ranges = RangeReader(bootstrap, "facets-journal")

    async def call(self, method: Callable[..., T], *arguments: Any) -> T:
        """One of the reader's methods, without blocking the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, method, *arguments)

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
        return standing_in(_ClusterView(self, cluster), home(cluster, partitions), partitions, _TAIL)

    def end(self, partition: int) -> int:
        """The offset after a journal partition's last record."""
        return self._ranges.ends(JOURNAL, [partition])[partition]

    def ends(self, partitions: Collection[int]) -> dict[int, int]:
        """The offset after each journal partition's last record."""
        return self._ranges.ends(JOURNAL, partitions)

    def begin(self, partition: int) -> int:
        """The offset of a journal partition's first record that is retained."""
        return self._ranges.begins(JOURNAL, [partition])[partition]

    def opener(self, cluster: str, partition: int, since: int, epoch: int) -> str:
        """The writer of the first commit of this epoch or a higher one, from an offset on: of its `begin`. Empty if
        there is none, or if the claim took so long that the journal's retention may have removed another's."""
        if self.begin(partition) > since:
            return ""
        for _, stamp in self.stamps(cluster, partition, since):
            if stamp.epoch >= epoch:
                return stamp.writer
        return ""

    def since(self, cluster: str, partition: int, start: int, writer: str, epoch: int) -> Since:
        """The records from an offset on, read for a writer that has opened an epoch.

        Another's `begin` of the same epoch came second, and may be there. What follows on one may not: after a sleep
        longer than the journal's retention nobody knows which came first. Where records are gone, the newest seal tells
        whose commits the tables take.
        """
        end = self.end(partition)
        own, first = 0, end
        rivals: list[Rival] = []
        for message, record in self._records(self._ranges.records(JOURNAL, partition, start, end)):
            first = min(first, message.offset)
            own += record.writer == writer
            stamp = record.stamp(cluster)
            if stamp is not None and stamp.writer != writer and (stamp.epoch > epoch or stamp.phase != "begin"):
                rivals.append(Rival(stamp.writer, stamp.epoch))
        if first > start and (seal := self.newest_seal(cluster, partition)) is not None and seal.writer != writer:
            rivals.append(Rival(seal.writer, seal.epoch))
        rivals = [rival for rival in rivals if rival.epoch >= epoch]
        return Since(end, own, max(rivals, key=lambda rival: rival.epoch, default=None))

    def last_heard(self, cluster: str, partition: int) -> float:
        """When Kafka took the newest record in a journal partition that shows the cluster's watcher alive, in
        seconds since 1970; 0.0 if none is among the last records."""
        seal = self.newest_seal(cluster, partition)
        epoch, covering = (seal.epoch, seal.writer if seal.covered else "") if seal else (0, "")
        newest = 0.0
        for message, record in self._records(self._ranges.tails(JOURNAL, [partition], _TAIL)[partition].records):
            stamp = record.stamp(cluster)
            if stamp is not None and stamp.epoch >= epoch:
                if stamp.phase == "progress" or stamp.epoch > epoch:
                    covering = record.writer if stamp.covered else ""
                epoch = stamp.epoch
            if stamp is not None or (record.phase == "progress" and record.writer == covering):
                newest = max(newest, message.timestamp / 1000)
        return newest

    def newest_seal(self, cluster: str, partition: int) -> Seal | None:
        """The cluster's newest seal in a partition of the frontend table, searched backwards from the log's end."""
        topic, key, span = topic_of("frontend"), SEAL_PREFIX + cluster.encode(), _TAIL
        if not self._ranges.partitions(topic):
            return None
        begin, end = (offsets[partition] for offsets in self._ranges.bounds(topic, [partition]))
        journal_end = self.end(partition)
        ahead: Seal | None = None  # All are, if the journal was created anew.
        while end > begin:
            start = max(begin, end - span)
            newest: Seal | None = None
            for record in self._ranges.records(topic, partition, start, end):
                # The worker repairs an unreadable one.
                if record.key != key or unreadable("frontend", key, record.value, stamp_of(record.headers)):
                    continue
                if not record.value:
                    continue
                seal = _decode_seal(record.value)
                if seal.offset >= journal_end:
                    ahead = seal
                elif newest is None or seal.offset > newest.offset:
                    newest = seal
            if newest is not None or start == begin:
                return newest or ahead
            span *= TAIL_GROWTH
        return None

    def stamps(
        self, cluster: str, partition: int, start: int, end: int | None = None
    ) -> Iterator[tuple[int, CommitStamp]]:
        """What the records of a journal partition from an offset up to another (its end) say of the cluster, with their
        offsets."""
        end = self.end(partition) if end is None else end
        for message, record in self._records(self._ranges.records(JOURNAL, partition, start, end)):
            stamp = record.stamp(cluster)
            if stamp is not None:
                yield message.offset, stamp

    @staticmethod
    def _records(messages: Iterable[Any]) -> Iterator[tuple[Any, _Record]]:
        """Those that can be read."""
        for message in messages:
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                yield message, _decode_record(message.value or b"")


class _ClusterView:
    """See JournalView."""

    def __init__(self, reader: JournalReader, cluster: str) -> None:
        self._reader = reader
        self._cluster = cluster

    def newest_seal(self, partition: int) -> Stamp | None:
        seal = self._reader.newest_seal(self._cluster, partition)
        return Stamp(seal.offset, seal.epoch, seal.seq, seal.frontier, seal.closed) if seal else None

    def bounds(self, partition: int) -> tuple[int, int]:
        return self._reader.begin(partition), self._reader.end(partition)

    def stamps(self, partition: int, start: int, end: int) -> Iterator[Stamp]:
        for offset, stamp in self._reader.stamps(self._cluster, partition, start, end):
            yield Stamp(offset, stamp.epoch, stamp.seq, stamp.frontier, stamp.phase == "close")
