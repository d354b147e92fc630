"""Progress records: what a watcher process says of its clusters while nothing changes in them.

One record a process and partition shows that the process lives, and so that whatever it covers is as it was. A cluster
is covered from the first record on that names it (`Seal.covered`). What a record says of a cluster counts only from the
writer of the cluster's epoch, and never takes it back.
"""

from collections.abc import Mapping

import msgspec

from streams.facets.unavailability import Signal
from streams.fold.clusters import ClusterState
from streams.wire.keys import progress_name
from streams.wire.records import FOLD_VERSION, ClusterProgress, Progress, Seal


def is_progress(seal: Seal, progress: Progress, entry: ClusterProgress) -> bool:
    """Whether the entry counts for the cluster with this seal. (After a crash between the seals of one offset it is
    read again, with a seq and a frontier that the cluster has.)"""
    if (seal.epoch, seal.writer) != (entry.epoch, progress.writer) or seal.closed:
        return False
    return not entry.covered or (entry.seq >= seal.seq and not _goes_back(seal.frontier, entry.frontier))


def _goes_back(before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Whether a resource type is at a lower resourceVersion than it was. (One that can't be listed has none.)"""
    return any(int(after.get(resource) or version or 0) < int(version or 0) for resource, version in before.items())


def moved_on(seal: Seal, progress: Progress, entry: ClusterProgress, appended: str) -> Seal:
    """The cluster's seal after an entry that counts. In an open snapshot, and while the cluster is lost, there is no
    frontier to be moved."""
    if not entry.covered:
        return msgspec.structs.replace(seal, at=progress.at, appended=appended, covered=False)
    is_current = seal.snapshot_begin is None and not seal.lost and seal.frontier and entry.frontier
    return msgspec.structs.replace(
        seal,
        seq=entry.seq,
        at=progress.at,
        frontier=entry.frontier if is_current else seal.frontier,
        appended=appended,
        covered=True,
    )


def covered_by(writer: str, clusters: Mapping[str, ClusterState]) -> list[str]:
    """The clusters that a writer's progress records cover, by name."""
    return sorted(name for name, cluster in clusters.items() if cluster.seal.covered and cluster.seal.writer == writer)


def progress_seal(progress: Progress, offset: int, appended: str) -> Seal:
    """The seal of a progress record's offset."""
    return Seal(
        cluster=progress_name(progress.writer),
        offset=offset,
        epoch=0,
        writer="",
        seq=0,
        at=progress.at,
        phase="progress",
        frontier={},
        fold=FOLD_VERSION,
        appended=appended,
    )


def last_heard(seal: Seal, progress: Mapping[str, Seal]) -> str:
    """The time, by the watcher's clock, of the newest record that shows that a cluster's watcher lives."""
    return max(sign.at for sign in _signs_of_life(seal, progress))


def signal_of(seal: Seal, progress: Mapping[str, Seal]) -> Signal:
    """The same by Kafka's clock, and whether the cluster's state is complete and up to date. While its watcher lives,
    but has lost the API server, only what is written of the cluster itself shows it alive."""
    signs = (seal,) if seal.stale_since else _signs_of_life(seal, progress)
    heard = max(sign.appended for sign in signs)
    is_current = seal.snapshot_begin is None and not (seal.lost or seal.stale_since)
    return Signal(heard, is_current and bool(seal.frontier))


def _signs_of_life(seal: Seal, progress: Mapping[str, Seal]) -> tuple[Seal, ...]:
    """The cluster's own seal, and that of its writer's progress if that covers it."""
    covering = progress.get(progress_name(seal.writer)) if seal.covered else None
    return (seal,) if covering is None else (seal, covering)
