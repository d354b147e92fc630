"""A cluster's standing in the journal, which a watcher needs before it opens an epoch.

The fold takes an epoch from the writer whose `begin` comes first and ignores commits of lower ones, which a replaced
watcher may write at any time: a suspended process wakes up and sends what it had queued. So the end of the journal does
not tell the highest epoch. The cluster's newest seal in its home partition does, with the commits after it.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from streams.wire.partitioning import partition_of

TAIL_GROWTH = 8


class Standing(NamedTuple):
    """A cluster's state in the journal: its highest epoch, the highest seq, and the newest frontier; `closed` where
    that epoch ended the cluster."""

    epoch: int
    seq: int
    frontier: dict[str, str]
    closed: bool = False


class Stamp(NamedTuple):
    """The stamps of a commit or seal of the cluster. `offset` is the commit's (in the journal); `closed`
    says that it ended the cluster."""

    offset: int
    epoch: int
    seq: int
    frontier: dict[str, str]
    closed: bool = False


def home(cluster: str, partitions: int) -> int:
    """The partition whose order decides who opened an epoch of the cluster first."""
    return partition_of("", cluster, partitions)


class JournalView(Protocol):
    """Reads one cluster's seals and commits."""

    def newest_seal(self, partition: int) -> Stamp | None:
        """The cluster's newest seal in a partition; None where there is none."""

    def sealed_to(self, partition: int) -> int:
        """The highest journal offset that is sealed in a partition, of whichever cluster; -1 where it is not sure that
        each cluster with a commit up to there has a seal. Asked of a partition without a seal of the cluster."""

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first retained offset of a journal partition, and the one after its last."""

    def stamps(self, partition: int, start: int, end: int) -> Iterable[Stamp]:
        """The cluster's commits in a journal partition, from an offset up to another, in order."""


def standing_in(view: JournalView, home: int, partitions: int, tail: int) -> Standing:
    """The cluster's standing. Its home partition is read from its newest seal on (of a new cluster, from what is sealed
    of others on); of the others the last `tail` records are read, and more if they have no frontier in them. Frontiers
    from before the cluster's end don't count: a cluster that is created again under the same name starts afresh."""
    sealed = view.newest_seal(home) or Stamp(view.sealed_to(home), 0, 0, {})
    begin, end = view.bounds(home)
    stamps = [sealed]
    epoch, seq, closed = sealed.epoch, sealed.seq, sealed.epoch if sealed.closed else 0
    for stamp in view.stamps(home, max(begin, sealed.offset + 1) if sealed.offset < end else begin, end):
        if stamp.epoch >= epoch:
            epoch = stamp.epoch
            if stamp.closed:
                closed = epoch
            if stamp.frontier:
                stamps = [stamp]
        seq = max(seq, stamp.seq)
    if not seq or epoch == closed:
        return Standing(epoch, seq, {}, bool(seq))
    for partition in range(partitions):
        if partition != home or not any(stamp.frontier for stamp in stamps):
            stamps += _newest(view, partition, tail)
    frontiers = {
        (stamp.epoch, stamp.seq): stamp.frontier for stamp in stamps if stamp.frontier and stamp.epoch > closed
    }
    return Standing(epoch, max(seq, *(stamp.seq for stamp in stamps)), frontiers[max(frontiers)] if frontiers else {})


def _newest(view: JournalView, partition: int, tail: int) -> list[Stamp]:
    """The cluster's last commits in a partition, back to one with a frontier."""
    begin, end = view.bounds(partition)
    while end > begin:
        start = max(begin, end - tail)
        stamps = list(view.stamps(partition, start, end))
        if start == begin or any(stamp.frontier for stamp in stamps):
            return stamps
        tail *= TAIL_GROWTH
    return []
