"""Counts and logs unreadable records of the facet topics, which are skipped."""

import logging

from prometheus_client import Counter

log = logging.getLogger("facets.kafka")

UNREADABLE = Counter(
    "facets_unreadable_records_total", "Records of facet topics that could not be read, and were skipped.", ["topic"]
)


def report(topic: str, partition: int, offset: int, why: str, writer: str = "facets work") -> None:
    """Count and log a skipped record; `writer` is the command that writes the topic."""
    UNREADABLE.labels(topic).inc()
    log.warning(
        "%s[%d]: the record at offset %d is skipped: %s (only `%s` may write there)",
        topic, partition, offset, why, writer,
    )  # fmt: skip
