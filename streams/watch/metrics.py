"""What a watcher counts, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("facets_watch_events_total", "Events that lists and watches gave.", ["cluster", "resource"])
MALFORMED = Counter("facets_watch_malformed_total", "Objects that could not be read.", ["cluster", "resource"])
RECONNECTS = Counter(
    "facets_watch_reconnects_total",
    "Streams that ended otherwise than by their time.",
    ["cluster", "resource", "reason"],
)
COMMITS = Counter("facets_watch_commits_total", "Records acknowledged by the journal.", ["cluster", "phase"])
LAG = Histogram(
    "facets_watch_lag_seconds",
    "From an event's receipt to the journal's acknowledgement of its commit.",
    ["cluster"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)
DEFERRED = Counter(
    "facets_watch_deferred_total",
    "How often changes were collected further, as their cluster has changed more than its share of the process.",
    ["cluster"],
)
OBJECTS = Gauge("facets_watch_objects", "Objects held.", ["cluster"])
EPOCH = Gauge("facets_watch_epoch", "The epoch that this watcher has opened; 0 while it stands by.", ["cluster"])
CLOCK_SKEW = Gauge("facets_watch_clock_skew_seconds", "How far this clock is ahead of Kafka's.", ["cluster"])
CONTACT = Gauge("facets_watch_contact_timestamp_seconds", "When every resource was last in touch.", ["cluster"])
