"""The rows of a table at a cut: all Services of a cluster as they were at one moment.

A change of a cluster may touch several partitions, which are sealed one after the other. A cut is the state when every
partition has sealed everything up to one `seq` of the cluster, and nothing after it: from where the partitions are at
the beginning, those that are behind are followed up to where the foremost is.
"""

from collections.abc import Collection

from streams.serve.http.encoding import PrintedRow
from streams.serve.http.feed import Feed, Key, Lost, key_of
from streams.wire.keys import is_cluster


class Cut:
    """The cut of some clusters (none: all) that begins now. `seqs` are those of the clusters."""

    def __init__(self, feed: Feed, table: str, clusters: Collection[str]) -> None:
        self._feed = feed
        self._table = table
        self._generation = feed.generation
        self._place = feed.next
        self.seqs: dict[str, int] = {}
        for (_, cluster), seal in feed.seals.items():
            if is_cluster(cluster) and not seal.closed and (not clusters or cluster in clusters):
                self.seqs[cluster] = max(seal.seq, self.seqs.get(cluster, 0))
        self._rows: dict[Key, PrintedRow] = {
            key_of(printed.row): printed for printed in feed.printed_rows((table,)) if printed.row.cluster in self.seqs
        }

    def advance(self) -> bool:
        """Take what has come since; whether the rows are those at the cut. Raises Lost if the feed has begun anew, or
        has forgotten what came in between."""
        if self._feed.generation != self._generation:
            raise Lost
        for head, rows in self._feed.batches(self._place):
            if head.seq <= self.seqs.get(head.cluster, -1):
                self._apply(rows)
        self._place = self._feed.next
        return not self.behind()

    def behind(self) -> dict[str, list[int]]:
        """By cluster the partitions that have not sealed as much yet."""
        behind: dict[str, list[int]] = {}
        for cluster, seq in sorted(self.seqs.items()):
            for partition in range(self._feed.partitions):
                seal = self._feed.seals.get((partition, cluster))
                if seal is None or seal.seq < seq:
                    behind.setdefault(cluster, []).append(partition)
        return behind

    def rows(self) -> list[PrintedRow]:
        """The rows, by cluster, namespace and name."""
        return [printed for _, printed in sorted(self._rows.items())]

    def _apply(self, rows: Collection[PrintedRow]) -> None:
        for printed in rows:
            if printed.row.table != self._table:
                continue
            if printed.is_deleted:
                self._rows.pop(key_of(printed.row), None)
            else:
                self._rows[key_of(printed.row)] = printed
