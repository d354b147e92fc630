"""Summaries of clusters from their seals: the rows of `facets clusters`."""

from collections.abc import Mapping
from typing import Any, Literal

from streams.subscription.freshness import Place, Silence, of_clusters, worst
from streams.wire.keys import is_cluster
from streams.wire.records import Record, Seal

ClusterCondition = Literal["ready", "stale", "unknown", "ended"]


class ClusterSummary(Record):
    """A cluster. `source` is `kubernetes` or `demo`. `state`: `ready`; `stale` (not heard of, or its API server can't
    be reached); `unknown` (some partition has no complete snapshot); `ended` (it was forgotten). `lastCommit` is when
    Kafka took its newest commit, `ageSeconds` how old it is in the partition that is furthest behind (null where the
    log has no times), `clockSkewSeconds` how far its watcher's clock is ahead of Kafka's."""

    name: str
    source: str
    state: ClusterCondition
    reason: str
    epoch: int
    last_commit: str
    age_seconds: float | None
    clock_skew_seconds: float


def cluster_list(
    seals: Mapping[Place, Seal], now: float, silent: Mapping[Place, Silence], partitions: int
) -> list[ClusterSummary]:
    """All clusters by name, those that have ended too; `now` in seconds since the epoch."""
    freshness = of_clusters(seals, now, silent)
    by_cluster: dict[str, list[Seal]] = {}
    for (_, cluster), seal in seals.items():
        if is_cluster(cluster):
            by_cluster.setdefault(cluster, []).append(seal)
    summaries = []
    for name, cluster_seals in sorted(by_cluster.items()):
        newest = max(cluster_seals, key=lambda seal: (seal.epoch, seal.seq))
        cluster_freshness = freshness.get(name)
        common: dict[str, Any] = {"name": name, "source": newest.source or "kubernetes", "epoch": newest.epoch}
        if cluster_freshness is None:
            ended = max(seal.appended or seal.at for seal in cluster_seals)
            summaries.append(
                ClusterSummary(**common, state="ended", reason=f"Forgotten: at {ended}", last_commit=ended,
                               age_seconds=None, clock_skew_seconds=0.0)
            )  # fmt: skip
            continue
        still_open = [seal for seal in cluster_seals if not seal.closed]
        state, reason = _condition(
            still_open, cluster_freshness.silences, partitions - len(cluster_seals) + len(still_open)
        )
        summaries.append(
            ClusterSummary(
                **common, state=state, reason=reason, last_commit=cluster_freshness.last_commit,
                age_seconds=cluster_freshness.age_seconds,
                clock_skew_seconds=cluster_freshness.clock_skew_seconds,
            )
        )  # fmt: skip
    return summaries


def _condition(seals: list[Seal], silences: Mapping[int, Silence], partitions: int) -> tuple[ClusterCondition, str]:
    if silences:
        return "stale", worst(silences.values()).reason
    if any(seal.lost for seal in seals):
        return "unknown", "JournalExpired: waiting for the next complete snapshot"
    if since := max(seal.stale_since for seal in seals):
        return "stale", f"ClusterUnreachable: since {since}"
    complete = sum(bool(seal.frontier) for seal in seals)
    if complete < partitions:
        return "unknown", f"SnapshotIncomplete: in {partitions - complete} of {partitions} partitions"
    return "ready", ""
