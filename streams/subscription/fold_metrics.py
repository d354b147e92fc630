"""Metrics of the journal's fold beside the changelogs, for Prometheus."""

from prometheus_client import Counter, Gauge

FOLDED_PARTITIONS = Gauge(
    "facets_journal_folded_partitions", "Partitions whose changes are folded from the journal, ahead of the workers."
)
COMPARED = Counter("facets_journal_compared_records_total", "Records that were folded here and by a worker alike.")
NOT_COMPARED = Counter(
    "facets_journal_uncompared_records_total", "Records folded here that waited too long for a worker's."
)
DIFFERENCES = Counter(
    "facets_journal_differences_total",
    "Faults: the workers wrote other records than were folded here, of the same journal and fold version.",
)
