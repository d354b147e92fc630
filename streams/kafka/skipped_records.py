"""Records of the facet topics that are skipped, as they can't be read: counted and named."""

import logging

from prometheus_client import Counter

log = logging.getLogger("facets.kafka")

UNREADABLE = Counter(
    "facets_unreadable_records_total", "Records of facet topics that could not be read, and were skipped.", ["topic"]
)


def report(topic: str, partition: int, offset: int, why: str) -> None:
    """Count a record that is skipped, and say which it is."""
    UNREADABLE.labels(topic).inc()
    log.warning(
        "%s[%d]: the record at offset %d is skipped: %s (only `facets work` may write there)",
        topic, partition, offset, why,
    )  # fmt: skip
