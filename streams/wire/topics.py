"""The topics as data: their partitions, retention and compaction."""

from typing import NamedTuple

from streams.wire.ack_records import ACKS
from streams.wire.partitioning import DEFAULT_PARTITIONS
from streams.wire.records import DEAD_LETTER, FOLDED_TABLES, JOURNAL, topic_of

DEFAULT_WINDOW_SECONDS = 86400
"""The resume window: how long a subscriber may be away and still miss nothing."""

MAX_MESSAGE_BYTES = 17 * 1024 * 1024
"""A row of 16 MiB with its envelope."""

JOURNAL_RETENTION_SECONDS = 7 * 86400
"""The audit horizon."""

RETENTION = "retention.ms"

OPTIONAL_TOPICS = frozenset({ACKS})
"""What processes do without where an older version made the topics: they only record less."""


class Topic(NamedTuple):
    """`configs` are Kafka's topic configurations; times in them are in milliseconds. All of them are fixed,
    except `retention.ms`, which the operator chooses: an existing topic keeps its own."""

    name: str
    partitions: int
    configs: dict[str, str]

    @property
    def required(self) -> dict[str, str]:
        """The configurations that are fixed."""
        return {name: value for name, value in self.configs.items() if name != RETENTION}


def topics(
    partitions: int = DEFAULT_PARTITIONS,
    retention_seconds: int = JOURNAL_RETENTION_SECONDS,
    window_seconds: int = DEFAULT_WINDOW_SECONDS,
) -> tuple[Topic, ...]:
    """All topics. Facet rows are kept whole for the resume window and compacted after it."""
    keep = {
        "cleanup.policy": "delete",
        RETENTION: str(retention_seconds * 1000),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }
    compact = {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": str(window_seconds * 1000),
        "delete.retention.ms": str(window_seconds * 1000),
        "segment.ms": str(3600 * 1000),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }
    # By the brokers' clock: a watcher's wrong clock is noticed, and its commits still expire on time.
    journal = {**keep, "message.timestamp.type": "LogAppendTime"}
    return (
        Topic(JOURNAL, partitions, journal),
        *(Topic(topic_of(table), partitions, compact) for table in FOLDED_TABLES),
        Topic(DEAD_LETTER, partitions, keep),
        Topic(ACKS, partitions, journal),
    )
