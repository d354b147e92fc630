"""Reads ranges of topics: the records of a partition from one offset up to another that is already known.

Nothing is followed here: the records exist, or retention or compaction has removed them, or the broker is away, which
is an error after a time limit. Whole changelogs are read by `bulk_reader`, which is several times as fast, but depends
on aiokafka's internals.
"""

import time
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.kafka.errors import BrokerError, broker_errors
from streams.runtime.closing import Closing
from streams.wire.records import JOURNAL
from streams.wire.topics import MAX_MESSAGE_BYTES

READ_SECONDS = 30.0
"""How long to wait for the next record."""

_POLL_MS = 500
_BOOTSTRAP_MS = 15_000


class RangeExpired(FacetsError):
    """Records of the range have been removed."""

    exit_code = ExitCode.NOT_KNOWN


class Tail(NamedTuple):
    """The last records of a partition that still exist, in order, and the offset after its last."""

    end: int
    records: list[Any]


class RangeReader(Closing):
    """A connection for reading ranges, one at a time; it belongs to the thread that made it. Raises BrokerError.

    Records are kafka-python's: `offset`, `timestamp` (ms), `key`, `value`, `headers`.
    """

    def __init__(self, bootstrap: str, client_id: str = "facets-range", read_seconds: float = READ_SECONDS) -> None:
        self._bootstrap = bootstrap
        self._read_seconds = read_seconds
        with broker_errors(bootstrap):
            self._consumer: Any = KafkaConsumer(
                bootstrap_servers=bootstrap,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                allow_auto_create_topics=False,
                max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
                reconnect_backoff_max_ms=1000,
                bootstrap_timeout_ms=_BOOTSTRAP_MS,
                metrics_enabled=False,
                client_id=client_id,
            )

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has; 0 where there is none."""
        with broker_errors(self._bootstrap):
            return len(self._consumer.partitions_for_topic(topic) or ())

    def journal_partitions(self) -> int:
        """How many partitions the journal has. Raises FacetsError where there is none."""
        count = self.partitions(JOURNAL)
        if not count:
            raise FacetsError(
                f"topic {JOURNAL} does not exist at {self._bootstrap}", "facets topics create", ExitCode.UNAVAILABLE
            )
        return count

    def has_records(self, topic: str) -> bool:
        """Whether anything was ever written to the topic; not where there is none."""
        return any(self.ends(topic, range(self.partitions(topic))).values())

    def begins(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """The offset of each partition's first record that is retained."""
        with broker_errors(self._bootstrap):
            offsets = self._consumer.beginning_offsets([TopicPartition(topic, p) for p in partitions])
        return {topic_partition.partition: offset for topic_partition, offset in offsets.items()}

    def ends(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """The offset after each partition's last record."""
        with broker_errors(self._bootstrap):
            offsets = self._consumer.end_offsets([TopicPartition(topic, p) for p in partitions])
        return {topic_partition.partition: offset for topic_partition, offset in offsets.items()}

    def bounds(self, topic: str, partitions: Collection[int]) -> tuple[dict[int, int], dict[int, int]]:
        """Where each partition begins and ends."""
        return self.begins(topic, partitions), self.ends(topic, partitions)

    def records(self, topic: str, partition: int, start: int, end: int, *, whole: bool = False) -> Iterator[Any]:
        """A partition's records from an offset up to another. One range at a time: another ends it. With
        `whole` none of the records may be missing: RangeExpired is raised where one is."""
        if start >= end:
            return
        topic_partition = TopicPartition(topic, partition)
        due = start
        with broker_errors(self._bootstrap):
            self._consumer.assign([topic_partition])
            self._consumer.seek(topic_partition, start)
            for records in self._polled(topic_partition, end):
                for record in records:
                    if whole and record.offset != due:
                        raise _expired(topic, partition, due, min(record.offset, end))
                    if record.offset >= end:
                        return
                    due = record.offset + 1
                    yield record
        if whole and due < end:
            raise _expired(topic, partition, due, end)

    def tails(self, topic: str, partitions: Collection[int], count: int) -> dict[int, Tail]:
        """The last `count` offsets of each partition, as far as they hold records."""
        begins, ends = self.bounds(topic, partitions)
        return {
            p: Tail(ends[p], list(self.records(topic, p, max(begins[p], ends[p] - count), ends[p]))) for p in partitions
        }

    def _polled(self, topic_partition: Any, end: int) -> Iterator[list[Any]]:
        """The partition's records in batches, up to `end`. Raises BrokerError if none arrive."""
        progress = time.monotonic()
        while self._consumer.position(topic_partition) < end:
            polled = self._consumer.poll(timeout_ms=_POLL_MS)
            yield polled.get(topic_partition, [])
            now = time.monotonic()
            if polled:
                progress = now
            elif now - progress > self._read_seconds:
                raise BrokerError(
                    f"{topic_partition.topic}[{topic_partition.partition}] can't be read: no record from "
                    f"{self._bootstrap} in {self._read_seconds:.0f} s",
                    "check the broker's log",
                )


def _expired(topic: str, partition: int, first: int, end: int) -> RangeExpired:
    return RangeExpired(
        f"{topic}[{partition}]: offsets {first} to {end - 1} are not there any more",
        f"start again; the retention of {topic} decides how long records stay: facets topics",
    )
