"""What a watcher process says of its clusters while nothing changes: when, and of which.

Each partition gets one record of the process, whatever number of clusters it watches. A cluster is named in it only
where the partition has not heard how far it is: after commits to other partitions, and when it is covered from now on,
or no longer. Otherwise the record shows that the process lives, which says enough of all that it covers. What bookmarks
alone move on is told seldom: nothing happened up to there.
"""

from collections.abc import Iterable

from streams.objects.commits import CommitWriter, JournalRecord
from streams.wire.journal_records import progress_record
from streams.wire.records import ClusterProgress

NEWS_SECONDS = 1.0
"""How long a partition may not have heard of a cluster's changes in the others."""

QUIET_SECONDS = 3.0
"""How long a partition may hear nothing of a watcher. Readers take its clusters for silent after three times that."""

BOOKMARK_SECONDS = 300.0
"""How long a partition may not have heard of a frontier that nothing but bookmarks moved on."""

MAX_NAMED = 16
"""How many clusters a record names that are alive for its partition anyway: each is sealed in each table, and of 250
busy ones nearly all are behind in nearly all partitions at any time (with 64 of them the tables had more seals of
progress than records of changes). The others come with the next record, those that wait longest first; most will have
had a commit there by then."""


class CoveredCluster:
    """What the partitions have been told of one epoch of a cluster.

    Its writer sets `is_writing` while a commit is under way: what the partitions have is not known then. With
    `is_blocked` there are changes that can't be written, so the cluster must not pass for alive. `has_news` says that
    the frontier was moved by more than bookmarks.
    """

    def __init__(self, commits: CommitWriter) -> None:
        self.commits = commits
        self.is_writing = False
        self.is_blocked = False
        self.has_news = False
        self._covered: set[int] = set()
        self._untold: set[int] = set()
        self._seqs = [0] * commits.partitions
        self._told_at = [float("-inf")] * commits.partitions
        self._frontiers: list[dict[str, str]] = [{}] * commits.partitions

    def wrote(self, records: Iterable[JournalRecord], now: float) -> None:
        """These commits were written, none comes before them any more."""
        for record in records:
            self._seqs[record.partition] = record.seq
            self._told_at[record.partition] = now
            if record.seq == self.commits.seq:
                self._frontiers[record.partition] = self._frontier

    def tell_again(self) -> None:
        """Each partition is to hear of it anew: after a snapshot, for whoever has lost what was told before."""
        self._untold = set(range(self.commits.partitions))

    @property
    def _frontier(self) -> dict[str, str]:
        return dict(self.commits.frontier) if self.commits.synced else {}

    @property
    def is_covered(self) -> bool:
        """Whether some partition takes it for alive by the process's records."""
        return bool(self._covered)

    def covers(self, partition: int) -> bool:
        """Whether this partition does."""
        return partition in self._covered

    def told_at(self, partition: int) -> float:
        """When the partition heard of it last."""
        return self._told_at[partition]

    def is_urgent(self, partition: int) -> bool:
        """Whether the partition takes it for alive and it is not, or the other way round."""
        if self.is_blocked:
            return partition in self._covered
        return not self.is_writing and not (partition in self._covered and partition not in self._untold)

    def is_due(self, partition: int) -> bool:
        """Whether the partition has to hear of it soon."""
        if self.is_urgent(partition):
            return True
        if self.is_blocked or self.is_writing:
            return False
        is_behind = self._seqs[partition] < self.commits.seq
        return is_behind or (self.has_news and self._frontiers[partition] != self._frontier)

    def is_outdated(self, partition: int, now: float) -> bool:
        """Whether the partition has not heard for long of a frontier that bookmarks alone have moved on."""
        if self.is_writing or self.is_blocked or now - self._told_at[partition] < BOOKMARK_SECONDS:
            return False
        return self._frontiers[partition] != self._frontier

    def entry(self, partition: int, now: float) -> ClusterProgress | None:
        """What the partition is told of it, None if there is nothing."""
        if not self.is_due(partition) and not self.is_outdated(partition, now):
            return None
        self._told_at[partition] = now
        commits, frontier = self.commits, self._frontier
        if self.is_blocked:
            self._covered.discard(partition)
            return ClusterProgress(commits.cluster, commits.epoch, commits.seq, {}, covered=False)
        self._covered.add(partition)
        self._untold.discard(partition)
        self._seqs[partition], self._frontiers[partition] = commits.seq, frontier
        return ClusterProgress(commits.cluster, commits.epoch, commits.seq, frontier)


class ProgressCollector:
    """One watcher process. Times (`now`) are seconds of a clock that only goes forward."""

    def __init__(self, writer: str, partitions: int) -> None:
        self._writer = writer
        self._clusters: dict[str, CoveredCluster] = {}
        self._ended: list[CoveredCluster] = []
        self._last = [float("-inf")] * partitions

    def open(self, commits: CommitWriter) -> CoveredCluster:
        """An epoch of a cluster has begun, in every partition."""
        cluster = self._clusters[commits.cluster] = CoveredCluster(commits)
        return cluster

    def close(self, cluster: CoveredCluster) -> None:
        """The epoch has ended here: nobody writes it any more."""
        if self._clusters.get(cluster.commits.cluster) is cluster:
            del self._clusters[cluster.commits.cluster]
        cluster.is_blocked = True
        if cluster.is_covered:
            self._ended.append(cluster)

    def records(self, at: str, now: float) -> list[JournalRecord]:
        """The records that are due at this time. They count as told, and must be written."""
        clusters = [*self._clusters.values(), *self._ended]
        records = []
        for partition, last in enumerate(self._last):
            is_news = any(cluster.is_due(partition) for cluster in clusters)
            if now - last < (NEWS_SECONDS if is_news else QUIET_SECONDS):
                continue
            named = _choose(clusters, partition, now)
            entries = [entry for cluster in named if (entry := cluster.entry(partition, now)) is not None]
            if not entries and not any(cluster.covers(partition) for cluster in clusters):
                continue
            self._last[partition] = now
            records.append(JournalRecord(partition, progress_record(self._writer, at, entries), 0))
        self._ended = [cluster for cluster in self._ended if cluster.is_covered]
        for cluster in self._clusters.values():
            if not cluster.is_writing:
                cluster.has_news = any(map(cluster.is_due, range(len(self._last))))
        return records


def _choose(clusters: list[CoveredCluster], partition: int, now: float) -> list[CoveredCluster]:
    """The clusters that the partition is told of now."""
    urgent = [cluster for cluster in clusters if cluster.is_urgent(partition)]
    others = [
        cluster
        for cluster in clusters
        if not cluster.is_urgent(partition) and (cluster.is_due(partition) or cluster.is_outdated(partition, now))
    ]
    room = max(0, MAX_NAMED - len(urgent))
    if len(others) > room:
        others = sorted(others, key=lambda cluster: cluster.told_at(partition))[:room]
    chosen = {*urgent, *others}
    return [cluster for cluster in clusters if cluster in chosen]
