"""Faults of the records by which a watcher process speaks for all of its clusters."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from streams.fold import fold as folding
from streams.fold import progress
from streams.fold.clusters import ClusterState
from streams.objects.progress import CoveredCluster, ProgressCollector
from streams.wire.records import ClusterProgress, Commit, Progress, Seal
from tests.simulation.planting import fault


@fault(4, "a process's record shows every cluster alive, whoever watches it")
def _progress_of_one_covers_all() -> AbstractContextManager[Any]:
    def covered_by(writer: str, clusters: Mapping[str, ClusterState]) -> list[str]:
        return sorted(name for name, cluster in clusters.items() if cluster.seal.covered)

    return patch.object(folding, "covered_by", covered_by)


@fault(4, "a cluster whose watching has ended stays covered: nobody notices that nothing comes of it any more")
def _ended_cluster_stays_covered() -> AbstractContextManager[Any]:
    def close(self: ProgressCollector, cluster: CoveredCluster) -> None:
        self._clusters.pop(cluster.commits.cluster, None)

    return patch.object(ProgressCollector, "close", close)


@fault(4, "a cluster whose changes can't be written passes for alive", since=12)
def _blocked_cluster_stays_covered() -> AbstractContextManager[Any]:
    real = CoveredCluster.entry

    def entry(self: CoveredCluster, partition: int, now: float) -> ClusterProgress | None:
        return None if self.is_blocked and self in _open else real(self, partition, now)

    _open: set[CoveredCluster] = set()
    opened = ProgressCollector.open
    closed = ProgressCollector.close

    def open_(self: ProgressCollector, commits: Any) -> CoveredCluster:
        cluster = opened(self, commits)
        _open.add(cluster)
        return cluster

    def close(self: ProgressCollector, cluster: CoveredCluster) -> None:
        _open.discard(cluster)
        closed(self, cluster)

    @contextmanager
    def both() -> Iterator[None]:
        with patch.multiple(ProgressCollector, open=open_, close=close), patch.object(CoveredCluster, "entry", entry):
            yield

    return both()


@fault(4, "who takes a cluster over inherits that it is covered: it is alive before its watcher says so", since=9)
def _covered_through_a_takeover() -> AbstractContextManager[Any]:
    real = folding._seal_of

    def seal_of(cluster: ClusterState, commit: Commit, *of: Any, **how: Any) -> Seal:
        covered = cluster.seal.covered
        seal = real(cluster, commit, *of, **how)
        seal.covered = seal.covered or (covered and not seal.closed)
        return seal

    return patch.object(folding, "_seal_of", seal_of)


@fault(4, "an old progress record takes a frontier back", since=6)
def _frontier_taken_back_by_progress() -> AbstractContextManager[Any]:
    def is_progress(seal: Seal, record: Progress, entry: ClusterProgress) -> bool:
        return (seal.epoch, seal.writer) == (entry.epoch, record.writer) and not seal.closed

    return patch.object(folding, "is_progress", is_progress)


@fault(4, "progress is told while commits are under way: a frontier comes before the changes up to it")
def _progress_before_the_commits() -> AbstractContextManager[Any]:
    return patch.object(CoveredCluster, "is_writing", property(lambda _: False, lambda *_: None), create=True)


@fault(5, "a process that was replaced still moves a cluster on")
def _progress_of_a_lower_epoch_taken() -> AbstractContextManager[Any]:
    def is_progress(seal: Seal, record: Progress, entry: ClusterProgress) -> bool:
        return entry.seq >= seal.seq and not seal.closed and not progress._goes_back(seal.frontier, entry.frontier)

    return patch.object(folding, "is_progress", is_progress)
