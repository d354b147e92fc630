"""The part of each cluster's history that the retained journal covers.

A cluster is covered in a partition from the end of its first complete snapshot that is retained. Before that its state
is unknown, which is not the same as empty.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.fold.clusters import ClusterState
from streams.fold.fold import PartitionFold
from streams.history.queries import Until
from streams.subscription.names import unknown_name
from streams.wire.records import JOURNAL
from streams.wire.timestamps import later

GRACE_SECONDS = 10.0
"""Longer than any pause between two records of a watcher: it writes one at least every three seconds."""

_RETENTION = f"the retention of {JOURNAL} decides how far back it goes: facets topics"


class NotKnown(FacetsError):
    """The retained journal does not cover what was asked for."""

    exit_code = ExitCode.NOT_KNOWN


class NotYetKnown(NotKnown):
    """The journal has not come so far."""


class ClusterCoverage(NamedTuple):
    """One cluster in one partition: the offset and time since which it is covered (-1 and "" if it is not), the seq of
    its newest commit, and the time of the newest record that shows its watcher alive."""

    since: int
    since_at: str
    seq: int
    at: str


class Coverage(NamedTuple):
    """One partition as it was folded: its first retained offset and that record's time ("" if it has none), the offset
    after the last, its clusters, and whether the fold stopped at a commit beyond the point asked for."""

    begin: int
    begin_at: str
    end: int
    clusters: Mapping[str, ClusterCoverage]
    stopped: bool


class CoverageRecorder:
    """Records, while a partition is folded, since when each cluster is covered."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[int, str]] = {}

    def note(self, offset: int, clusters: Mapping[str, ClusterState]) -> None:
        """Take the state after the record at an offset."""
        if len(self._since) == len(clusters):
            return
        for name, cluster in clusters.items():
            # The frontier of a cluster is empty until its first snapshot is complete.
            if name not in self._since and cluster.seal.frontier and not cluster.seal.lost:
                self._since[name] = (offset, cluster.seal.at)

    def clusters(self, fold: PartitionFold) -> dict[str, ClusterCoverage]:
        """The coverage of each cluster, given the state after the last record. Records that no cluster wrote ("") don't
        count."""
        return {
            name: ClusterCoverage(*self._since.get(name, (-1, "")), state.seal.seq, fold.last_heard(name))
            for name, state in fold.clusters.items()
            if name
        }


def check_offset(partition: int, offset: int, begin: int, end: int, what: str = "offset") -> None:
    """Raise NotKnown if a partition does not hold this journal offset."""
    if begin >= end:
        raise NotKnown(f"partition {partition} of the journal is empty", "facets doctor")
    if offset < begin:
        raise NotKnown(
            f"{what} {offset} is before the journal's beginning: {begin} in partition {partition}", _RETENTION
        )
    if offset >= end:
        raise NotYetKnown(f"{what} {offset} is past the journal's end: {end - 1} in partition {partition}")


def check_covered(parts: Mapping[int, Coverage], until: Until, clusters: Collection[str] = ()) -> list[str]:
    """Raise NotKnown unless the fold up to this point covers the clusters (none: any). Returns remarks on clusters that
    are not covered there, or had been silent. Raises UnknownName for a cluster of `until.seqs` that is not in the
    journal."""
    stopped = any(part.stopped for part in parts.values())
    all_clusters = sorted({name for part in parts.values() for name in part.clusters})
    for name, seq in until.seqs.items():
        if name not in all_clusters and not stopped:
            raise unknown_name("cluster", name, all_clusters, " in the journal")
        newest = max((cluster.seq for cluster in _coverages_of(parts, name)), default=0)
        if newest < seq and not stopped:
            raise NotYetKnown(f"seq {seq} is past the journal's end: the newest commit of {name} is {newest}")
    if until.at and not stopped:
        _check_end(until.at, parts)
    known_clusters = [name for name in all_clusters if _is_known(parts, name)]
    if unknown_clusters := [name for name in clusters if name not in known_clusters]:
        raise NotKnown(
            f"nothing is known of {_clusters_text(unknown_clusters)}{_point_text(until)}", _begin_text(parts)
        )
    if not known_clusters:
        early = until.at and until.at < (_begin_at(parts) or until.at)
        problem = f"{until.at} is before the journal's beginning" if early else f"nothing is known{_point_text(until)}"
        raise NotKnown(problem, _begin_text(parts))
    return list(_remarks(parts, until, known_clusters, [name for name in all_clusters if name not in known_clusters]))


def check_since(parts: Mapping[int, Coverage], since: str) -> str:
    """A remark if the journal begins after this time, else "". Raises NotKnown if it ends before."""
    _check_end(since, parts)
    begins = [cluster.since_at for part in parts.values() for cluster in part.clusters.values() if cluster.since >= 0]
    begin = min(begins, default="")
    return f"the journal begins at {begin}: what was before is not known" if since < begin else ""


def known_at(part: Coverage, partition: int, version: int, at: str, clusters: Iterable[str]) -> list[str]:
    """Which of the clusters are covered at a version (or at a time, if `at` is given) of a partition that was folded to
    its end. Raises NotKnown if none is."""
    if at:
        _check_end(at, {partition: part})
    else:
        check_offset(partition, version, part.begin, part.end, "version")
    complete = {
        name: cluster for name in clusters if (cluster := part.clusters.get(name)) is not None and cluster.since >= 0
    }
    names = [name for name, cluster in complete.items() if (cluster.since_at <= at if at else cluster.since <= version)]
    if not names:
        first = min((cluster.since_at for cluster in complete.values()), default="")
        begins = f"it begins at {first}; {_RETENTION}" if first else "it has no complete snapshot"
        raise NotKnown(f"{at or f'version {version}'} is before what the journal knows", begins)
    return names


def _remarks(
    parts: Mapping[int, Coverage], until: Until, known_clusters: list[str], unknown_clusters: list[str]
) -> Iterator[str]:
    if unknown_clusters:
        yield f"nothing is known of {_clusters_text(unknown_clusters)}{_point_text(until)}"
    for name in known_clusters:
        newest = max(cluster.at for cluster in _coverages_of(parts, name))
        if until.at and later(newest, GRACE_SECONDS) < until.at:
            yield f"cluster {name} had been silent since {newest}: its rows are as of then"


def _check_end(at: str, parts: Mapping[int, Coverage]) -> None:
    newest = max((cluster.at for part in parts.values() for cluster in part.clusters.values()), default="")
    if newest and later(newest, GRACE_SECONDS) < at:
        raise NotYetKnown(f"{at} is after the journal's end: its newest commit is of {newest}", "facets doctor")


def _is_known(parts: Mapping[int, Coverage], cluster: str) -> bool:
    return all(cluster in part.clusters and part.clusters[cluster].since >= 0 for part in parts.values())


def _coverages_of(parts: Mapping[int, Coverage], cluster: str) -> list[ClusterCoverage]:
    return [part.clusters[cluster] for part in parts.values() if cluster in part.clusters]


def _begin_at(parts: Mapping[int, Coverage]) -> str:
    return min((part.begin_at for part in parts.values() if part.begin_at), default="")


def _begin_text(parts: Mapping[int, Coverage]) -> str:
    at = _begin_at(parts)
    return f"the journal begins at {at}; {_RETENTION}" if at else "the journal is empty: facets doctor"


def _point_text(until: Until) -> str:
    if until.at:
        return f" at {until.at}"
    return " there" if until.seqs or until.offsets else ": no snapshot is complete in the journal"


def _clusters_text(names: list[str]) -> str:
    return f"cluster{'s' * (len(names) > 1)} {', '.join(names)}"
