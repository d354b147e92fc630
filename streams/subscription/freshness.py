"""Whether a cluster is still heard of, and whether its watcher's clock is right.

A dead watcher writes nothing, so the tables can't show that it is dead. Every reader judges it by the age of the newest
record that shows it alive: the cluster's newest commit or, if its watcher's progress records cover it, the newest of
those (one at least every three seconds). The age runs from the time at which Kafka took the record (`Seal.appended`) to
the reader's now, so the watcher's own clock has no part in it. The judgement is shown and never written: what follows
from the journal is the same for every reader, at any time.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from streams.wire.keys import is_cluster, progress_name
from streams.wire.records import Seal
from streams.wire.timestamps import read

SILENT_AFTER_SECONDS = 10.0
"""How old a cluster's newest commit may be: three times the longest interval at which watchers write."""

SKEW_SECONDS = 2.0
"""By how much a commit's own time may differ from the time at which Kafka took it."""

FIRST_FOLD_WITH_APPENDED = 2
"""Seals of older versions of the fold have the commit's own time alone."""

Place = tuple[int, str]
"""A partition, and a cluster."""


class Silence(NamedTuple):
    """A partition has had nothing of a cluster for too long: `reason` as a row shows it, `since` the time of the last
    commit."""

    reason: str
    since: str


class ClusterFreshness(NamedTuple):
    """A cluster in all partitions. `age_seconds` is that of its frontier: of the partition that is furthest behind
    (None where the log has no times); `clock_skew_seconds` is by how much its watcher's clock is ahead of Kafka's;
    `silences` are by partition."""

    last_commit: str
    age_seconds: float | None
    clock_skew_seconds: float
    silences: dict[int, Silence]

    @property
    def clock_is_wrong(self) -> bool:
        """Whether the times in the cluster's rows can't be trusted."""
        return abs(self.clock_skew_seconds) > SKEW_SECONDS


def last_commit(seal: Seal) -> str:
    """When Kafka took the newest commit behind a seal; "" if that is not known."""
    return seal.appended or (seal.at if seal.fold < FIRST_FOLD_WITH_APPENDED else "")


def sealed_at(seal: Seal) -> str:
    """The time of a seal, for cursors: when Kafka took the newest commit behind it, so that a watcher's clock has no
    part in how old a cursor is. Where that is not known, the commit's own time."""
    return seal.appended or seal.at


def age_seconds(seal: Seal, now: float) -> float | None:
    """How old a seal's newest commit is at `now` (seconds since the epoch); never negative, None if not known."""
    at = last_commit(seal)
    return max(0.0, now - read(at).timestamp()) if at else None


def is_known(seal: Seal | None) -> bool:
    """Whether a partition's state of a cluster is known: its snapshot is complete, or the cluster has ended."""
    return seal is not None and (seal.closed or is_complete(seal))


def is_complete(seal: Seal | None) -> bool:
    """Whether a partition has a complete snapshot of a cluster."""
    return seal is not None and bool(seal.frontier) and not seal.lost


def clusters_in(seals: Iterable[Place]) -> set[str]:
    """The clusters that have a seal in some partition."""
    return {name for _, name in seals if is_cluster(name)}


def alive(seals: Mapping[Place, Seal]) -> dict[Place, Seal]:
    """For each cluster and partition the seal of the newest record that shows its watcher alive: its own, or that of
    its watcher's progress."""
    result = {}
    for (partition, name), seal in seals.items():
        if is_cluster(name):
            covering = seals.get((partition, progress_name(seal.writer))) if seal.covered else None
            result[partition, name] = seal if covering is None else max(seal, covering, key=last_commit)
    return result


def clock_skew_seconds(seal: Seal) -> float:
    """By how much a commit's own time is ahead of the time at which Kafka took it; 0 if that is not known. A commit
    that was retried for a while is behind by that long."""
    if not seal.appended or not seal.at:
        return 0.0
    return (read(seal.at) - read(seal.appended)).total_seconds()


def silences(
    seals: Mapping[Place, Seal],
    now: float,
    after: float = SILENT_AFTER_SECONDS,
    ends: Mapping[int, int] | None = None,
) -> dict[Place, Silence]:
    """Which clusters have been silent for longer than `after` seconds at `now` (seconds since the epoch), and in which
    partitions.

    `ends` are the offsets after the journal's last records, as far as they are known: if a partition seals nothing of
    any cluster although its journal grows, it is the worker that is missing.
    """
    newest = alive(seals)
    open_ones = ((place, seal) for place, seal in newest.items() if not seals[place].closed)
    ages = {place: age for place, seal in open_ones if (age := age_seconds(seal, now)) is not None}
    silent = {place for place, age in ages.items() if age > after}
    if not silent:
        return {}
    heard_in = {partition for partition, cluster in ages if (partition, cluster) not in silent}
    sealed_to: dict[int, int] = {}
    for (partition, _), seal in seals.items():
        sealed_to[partition] = max(seal.offset, sealed_to.get(partition, -1))
    result: dict[Place, Silence] = {}
    for partition, cluster in sorted(silent):
        since = last_commit(newest[partition, cluster])
        unfolded = (ends or {}).get(partition, 0) - 1 > sealed_to[partition]
        if partition not in heard_in and unfolded:
            reason = f"WorkerSilent: commits wait to be folded, the last one was of {since}"
        else:
            reason = f"WatcherSilent: no commit since {since}"
        result[partition, cluster] = Silence(reason, since)
    return result


def of_clusters(
    seals: Mapping[Place, Seal], now: float, silent: Mapping[Place, Silence]
) -> dict[str, ClusterFreshness]:
    """The freshness of each cluster that has not ended, from its seals and its silences."""
    by_cluster: dict[str, list[Seal]] = {}
    for place, seal in alive(seals).items():
        if not seals[place].closed:
            by_cluster.setdefault(place[1], []).append(seal)
    return {
        cluster: ClusterFreshness(
            max(map(last_commit, cluster_seals)),
            max((age for seal in cluster_seals if (age := age_seconds(seal, now)) is not None), default=None),
            clock_skew_seconds(max(cluster_seals, key=last_commit)),
            {partition: silence for (partition, name), silence in sorted(silent.items()) if name == cluster},
        )
        for cluster, cluster_seals in sorted(by_cluster.items())
    }


def worst(candidates: Iterable[Silence]) -> Silence:
    """The silence that has lasted longest."""
    return min(candidates, key=lambda silence: silence.since)


# ---- rows as shown -------------------------------------------------------------------------------------


def overlaid_state(state: str, reason: str, silence: str) -> tuple[str, str]:
    """A row's state and reason while its cluster is silent. Deleted and unknown rows keep theirs."""
    if not silence or state in {"deleted", "unknown"}:
        return state, reason
    return "stale", f"{silence}; {reason}" if reason else silence


def overlay(row: dict[str, Any], silence: str) -> dict[str, Any]:
    """A decoded row as it is shown while its cluster is silent."""
    if silence:
        row["state"], row["reason"] = overlaid_state(row["state"], row["reason"], silence)
    return row


def overlay_json(text: bytes, silence: str) -> bytes:
    """The same for a row's JSON."""
    if not silence:
        return text
    row = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    state, reason = (msgspec.json.decode(row[name]) for name in ("state", "reason"))
    state, reason = overlaid_state(state, reason, silence)
    row["state"], row["reason"] = (msgspec.Raw(msgspec.json.encode(field)) for field in (state, reason))
    return msgspec.json.encode(row)
