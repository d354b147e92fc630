"""The journal's writing side (kafka-python): commits in order and acknowledged, and the claim of an epoch."""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from streams.core.collector import Collector, JournalRecord
from streams.core.errors import FacetsError
from streams.core.partitioning import partition_of
from streams.core.records import JOURNAL
from streams.edges.topics import BrokerUnreachable
from streams.topology.topics import MAX_MESSAGE_BYTES

log = logging.getLogger("facets.journal")

_TAIL = 200
_POLL_MS = 500


class JournalWriteFailed(FacetsError):
    """A commit could not be written: what follows it must not be."""

    exit_code = 74


class Superseded(FacetsError):
    """Another watcher has opened a higher epoch of the cluster."""

    exit_code = 75


class Standing(NamedTuple):
    """What the journal says of a cluster: its highest epoch, the highest seq, and the newest frontier."""

    epoch: int
    seq: int
    frontier: dict[str, str]


class _Stamp(msgspec.Struct):
    cluster: str
    epoch: int
    writer: str
    seq: int
    phase: str
    frontier: dict[str, str] = {}


_decode_stamp = msgspec.json.Decoder(_Stamp).decode


class Publisher:
    """Appends commits through one idempotent producer; every one is acknowledged by all in-sync replicas."""

    def __init__(self, bootstrap: str, cluster: str) -> None:
        self._key = cluster.encode()
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=bootstrap,
                acks="all",
                linger_ms=0,
                compression_type="lz4",
                max_request_size=MAX_MESSAGE_BYTES,
                client_id=f"facets-watch-{cluster}",
            )
        except (KafkaError, OSError) as error:
            raise BrokerUnreachable(
                f"no Kafka broker answers at {bootstrap}",
                "check --bootstrap-servers / FACETS_BOOTSTRAP_SERVERS, or start one with: facets up",
            ) from error

    async def publish(self, records: Iterable[JournalRecord]) -> None:
        """Write the records in order; return when all are acknowledged. Raises JournalWriteFailed."""
        listed = list(records)
        if listed:
            await asyncio.to_thread(self._publish, listed)

    def _publish(self, records: list[JournalRecord]) -> None:
        try:
            sent = [
                self._producer.send(JOURNAL, record.value, key=self._key, partition=record.partition)
                for record in records
            ]
            for each in sent:
                each.get(timeout=150)
        except KafkaError as error:
            raise JournalWriteFailed(
                f"a commit could not be written to {JOURNAL}: {error!r}",
                "check the broker and start again: the next epoch begins with a whole snapshot, so nothing is lost",
            ) from error

    async def close(self) -> None:
        """Flush what is under way and disconnect."""
        await asyncio.to_thread(self._producer.close, 10)


class JournalReader:
    """Reads ends of journal partitions: where a cluster stands, and who has opened an epoch. Not thread-safe."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self._partitions = partitions
        try:
            self._consumer: Any = KafkaConsumer(
                bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest", group_id=None,
                max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            )  # fmt: skip
        except (KafkaError, OSError) as error:
            raise BrokerUnreachable(f"no Kafka broker answers at {bootstrap}", "check --bootstrap-servers") from error

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def standing(self, cluster: str) -> Standing:
        """What the journal says of the cluster. Reads backwards from each partition's end until it finds a commit of
        the cluster's (heartbeats put one near the end of every partition)."""
        epoch, seq = 0, 0
        frontiers: dict[tuple[int, int], dict[str, str]] = {}
        for partition in range(self._partitions):
            for stamp in self._newest(partition, cluster):
                epoch = max(stamp.epoch, epoch)
                seq = max(seq, stamp.seq)
                if stamp.frontier:
                    frontiers[stamp.epoch, stamp.seq] = stamp.frontier
        return Standing(epoch, seq, frontiers[max(frontiers)] if frontiers else {})

    def opener(self, cluster: str, partition: int, epoch: int, since: int) -> str | None:
        """The writer of the first `begin` of this epoch in a partition, from an offset on."""
        for _, stamp in self._read(partition, since, cluster):
            if stamp.epoch == epoch and stamp.phase == "begin":
                return stamp.writer
        return None

    def end(self, partition: int) -> int:
        """The offset after a partition's last record."""
        each = TopicPartition(JOURNAL, partition)
        end: int = self._consumer.end_offsets([each])[each]
        return end

    def highest_epoch(self, cluster: str, partition: int, since: int) -> tuple[int, int]:
        """The highest epoch of the cluster from an offset on, and the offset read to."""
        highest, end = 0, since
        for offset, stamp in self._read(partition, since, cluster):
            highest, end = max(highest, stamp.epoch), offset + 1
        return highest, end

    def _newest(self, partition: int, cluster: str) -> list[_Stamp]:
        each = TopicPartition(JOURNAL, partition)
        begin = self._consumer.beginning_offsets([each])[each]
        end = self.end(partition)
        span = _TAIL
        while end > begin:
            start = max(begin, end - span)
            found = [stamp for _, stamp in self._read(partition, start, cluster)]
            if any(stamp.frontier for stamp in found) or start == begin:
                return found
            span *= 8
        return []

    def _read(self, partition: int, start: int, cluster: str) -> Iterator[tuple[int, _Stamp]]:
        each = TopicPartition(JOURNAL, partition)
        end = self.end(partition)
        if start >= end:
            return
        self._consumer.assign([each])
        self._consumer.seek(each, start)
        while self._consumer.position(each) < end:
            for records in self._consumer.poll(timeout_ms=_POLL_MS).values():
                for record in records:
                    try:
                        stamp = _decode_stamp(record.value or b"")
                    except msgspec.MsgspecError:
                        continue
                    if stamp.cluster == cluster:
                        yield record.offset, stamp


def home(cluster: str, partitions: int) -> int:
    """The partition whose order decides who has opened an epoch of the cluster first."""
    return partition_of("", cluster, partitions)


async def claim(publisher: Publisher, reader: JournalReader, collector: Collector, at: str) -> int:
    """Open an epoch: the next one that no other writer has opened first in the home partition. `collector` gets it,
    and the snapshot's begin is in every partition. Returns the home partition's offset from which to watch for
    higher epochs."""
    cluster, partitions = collector.cluster, collector.partitions
    partition = home(cluster, partitions)
    while True:
        standing = await asyncio.to_thread(reader.standing, cluster)
        collector.epoch, collector.seq = standing.epoch + 1, standing.seq
        since = await asyncio.to_thread(reader.end, partition)
        await publisher.publish([collector.begin_in(partition, at)])
        opener = await asyncio.to_thread(reader.opener, cluster, partition, collector.epoch, since)
        if opener == collector.writer:
            await publisher.publish(collector.begin(at))
            log.info("cluster %s: epoch %d opened", cluster, collector.epoch)
            return since
        log.warning("cluster %s: %s has opened epoch %d first; trying the next", cluster, opener, collector.epoch)
