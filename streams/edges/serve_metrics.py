"""What `facets serve` counts, for Prometheus."""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

from streams.core.freshness import ClusterFreshness

PROPAGATION = Histogram(
    "facets_propagation_seconds",
    "From the trigger time of a Service's change (else its commit's time) to its acknowledgement by a router.",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300),
)
CLIENTS = Gauge("facets_xds_clients", "Connected xDS clients.", ["variant"])
RESPONSES = Counter("facets_xds_responses_total", "Responses sent.", ["type"])
NACKS = Counter("facets_xds_nacks_total", "Responses that a client refused.", ["type"])
ENDED = Counter(
    "facets_xds_ended_total", "Streams that the server ended.", ["reason"]
)  # reason: unread, violation, clients
FRONTIER_AGE = Gauge(
    "facets_cluster_frontier_age_seconds",
    "How old a cluster's newest commit is in the partition that is furthest behind.",
    ["cluster"],
)
CLOCK_SKEW = Gauge(
    "facets_cluster_clock_skew_seconds", "How far a cluster's watcher's clock is ahead of Kafka's.", ["cluster"]
)
STALE = Gauge("facets_cluster_stale_partitions", "Partitions in which a cluster is silent.", ["cluster"])


def show_freshness(clusters: Mapping[str, ClusterFreshness]) -> None:
    """Set what there is to say of each cluster, as of now."""
    for gauge in (FRONTIER_AGE, CLOCK_SKEW, STALE):
        gauge.clear()
    for name, found in clusters.items():
        if found.age_seconds is not None:
            FRONTIER_AGE.labels(name).set(found.age_seconds)
        CLOCK_SKEW.labels(name).set(found.clock_skew_seconds)
        STALE.labels(name).set(len(found.silences))


HTTP_CLIENTS = Gauge("facets_http_clients", "Connected clients of /v1/changes.")
HTTP_CAUGHT_UP = Counter("facets_http_caught_up_total", "Clients whose cursor was older than the ring.")
HTTP_ENDED = Counter(
    "facets_http_ended_total", "Ended (or refused) clients of /v1/changes.", ["reason"]
)  # reason: gone (by themselves), slow, stalled, clients (refused), shutdown, unavailable
