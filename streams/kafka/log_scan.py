"""One look at the logs' ends for all clusters: what the journal's records say of each, and their newest seals.

A scan belongs to one moment: where the logs end is looked up once, and each record up to there is read once, whatever
number of clusters is asked for.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

import msgspec

from streams.facets.changelog_records import unreadable
from streams.kafka.bulk_reader import stamp_of
from streams.kafka.epochs import TAIL_GROWTH
from streams.kafka.range_reader import RangeReader
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import JOURNAL, ClusterProgress, Seal, topic_of

MAX_KEPT = 50_000
"""How many records of a journal partition are kept for the next cluster. A longer range is read for each."""

_FRONTEND = topic_of("frontend")


class CommitStamp(msgspec.Struct):
    """The fields of a commit that identify it, or of what a progress record says of a cluster."""

    cluster: str
    epoch: int
    writer: str
    seq: int
    frontier: dict[str, str] = {}
    phase: str = ""
    covered: bool = False


class Header(msgspec.Struct):
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


class Place(NamedTuple):
    """Where a record is, and when Kafka took it (milliseconds since 1970)."""

    offset: int
    timestamp: int


_decode_header = msgspec.json.Decoder(Header).decode
_decode_seal = msgspec.json.Decoder(Seal).decode

Read = tuple[Place, Header]


class _Seals:
    """The newest seal of each cluster in a partition of the frontend table, from offset `start` to the log's end.
    `ahead` are seals beyond the journal's end: all are, if the journal was created anew. `has_unread` says that there
    are seals that can't be read."""

    def __init__(self, end: int) -> None:
        self.start = end
        self.newest: dict[str, Seal] = {}
        self.ahead: dict[str, Seal] = {}
        self.has_unread = False


class LogScan:
    """Reads as far back as it has to. Raises BrokerError."""

    def __init__(self, ranges: RangeReader) -> None:
        self._ranges = ranges
        self._bounds: dict[tuple[str, int], tuple[int, int]] = {}
        self._kept: dict[int, tuple[int, list[Read]]] = {}
        """By partition of the journal, the records from an offset up to its end."""
        self._named: dict[int, tuple[int, set[str]]] = {}
        """The same of longer ranges, that are not kept: the clusters that they name."""
        self._seals: dict[int, _Seals] = {}

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Where a partition begins and ends."""
        place = topic, partition
        if place not in self._bounds:
            begins, ends = self._ranges.bounds(topic, [partition])
            self._bounds[place] = begins[partition], ends[partition]
        return self._bounds[place]

    def newest_seal(self, cluster: str, partition: int, tail: int) -> Seal | None:
        """The cluster's newest seal in a partition of the frontend table, searched backwards from the log's end: first
        in its last `tail` records."""
        if not self._ranges.partitions(_FRONTEND):
            return None
        begin, end = self.bounds(_FRONTEND, partition)
        seals = self._seals.setdefault(partition, _Seals(end))
        span = tail
        while cluster not in seals.newest and seals.start > begin:
            start = max(begin, end - span)
            if start < seals.start:
                self._read_seals(seals, partition, start)
            span *= TAIL_GROWTH
        return seals.newest.get(cluster) or seals.ahead.get(cluster)

    def sealed_to(self, partition: int) -> int:
        """See JournalView. The topic is compacted, and no cluster's seal gets a tombstone: where all of it was read,
        each cluster that has a sealed commit was met."""
        seals = self._seals.get(partition)
        if seals is None or seals.ahead or seals.has_unread or seals.start > self.bounds(_FRONTEND, partition)[0]:
            return -1
        return max((seal.offset for seal in seals.newest.values()), default=-1)

    def _read_seals(self, seals: _Seals, partition: int, start: int) -> None:
        """Take those from an offset up to where they are known from."""
        _, journal_end = self.bounds(JOURNAL, partition)
        for record in self._ranges.records(_FRONTEND, partition, start, seals.start):
            if record.key is None or not record.key.startswith(SEAL_PREFIX):
                continue
            if not record.value or unreadable("frontend", record.key, record.value, stamp_of(record.headers)):
                seals.has_unread = True  # The worker repairs it.
                continue
            seal = _decode_seal(record.value)
            cluster = record.key[len(SEAL_PREFIX) :].decode()
            known = seals.ahead if seal.offset >= journal_end else seals.newest
            if cluster not in known or known[cluster].offset < seal.offset:
                known[cluster] = seal
        seals.start = start

    def stamps(self, cluster: str, partition: int, start: int, end: int) -> Iterator[tuple[int, CommitStamp]]:
        """What the records of a journal partition from an offset up to another (its end) say of the cluster, with their
        offsets."""
        first, named = self._named.get(partition, (end, set()))
        if first <= start < end and cluster not in named:
            return
        for place, header in self.records(partition, start, end):
            stamp = header.stamp(cluster)
            if stamp is not None:
                yield place.offset, stamp

    def records(self, partition: int, start: int, end: int) -> Iterable[Read]:
        """The records of a journal partition that can be read, from an offset up to its end."""
        if end - start > MAX_KEPT:
            return self._read_long(partition, start, end)
        first, kept = self._kept.get(partition, (end, []))
        if start < first:
            kept = [*self._read(partition, start, first), *kept]
            self._kept[partition] = start, kept
        return (read for read in kept if read[0].offset >= start)

    def _read_long(self, partition: int, start: int, end: int) -> Iterator[Read]:
        named: set[str] = set()
        for place, header in self._read(partition, start, end):
            named.add(header.cluster)
            named.update(entry.cluster for entry in header.clusters)
            yield place, header
        if start < self._named.get(partition, (end, named))[0]:
            self._named[partition] = start, named

    def _read(self, partition: int, start: int, end: int) -> Iterator[Read]:
        for message in self._ranges.records(JOURNAL, partition, start, end):
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                yield Place(message.offset, message.timestamp), _decode_header(message.value or b"")
