"""What `facets import` counts, for Prometheus."""

from prometheus_client import Counter, Gauge

WRITES = Counter("facets_import_writes_total", "Objects applied or deleted.", ["cluster", "kind", "verb"])
FAILURES = Counter(
    "facets_import_failures_total", "Writes that the API server did not take; they are tried again.", ["cluster"]
)
PENDING = Gauge("facets_import_pending", "Services that wait to be compared and written.", ["cluster"])
FOREIGN = Gauge(
    "facets_import_foreign",
    "Services that are not imported: somebody else's ServiceImport has the name, or somebody else sets the conditions.",
    ["cluster"],
)
KEPT = Gauge(
    "facets_import_kept", "Services of which something is kept because a cluster is not heard of.", ["cluster"]
)
