"""How fresh each cluster is, for Prometheus: the same gauges in every process that reads seals."""

from collections.abc import Mapping

from prometheus_client import Gauge

from streams.subscription.freshness import ClusterFreshness

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
    """Set the gauges of each cluster, as of now."""
    for gauge in (FRONTIER_AGE, CLOCK_SKEW, STALE):
        gauge.clear()
    for name, freshness in clusters.items():
        if freshness.age_seconds is not None:
            FRONTIER_AGE.labels(name).set(freshness.age_seconds)
        CLOCK_SKEW.labels(name).set(freshness.clock_skew_seconds)
        STALE.labels(name).set(len(freshness.silences))
