"""The index's writing side: batches in, each in one transaction, and what the fold goes on from."""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from streams.index.database import IndexUnusable, connect, create, index_errors
from streams.index.partition_indexer import (
    Batch,
    ClusterLine,
    Loaded,
    LoadedSeries,
    Position,
    SeriesLine,
    Sign,
)
from streams.index.segments import SegmentDamaged, Version, unpack
from streams.runtime.closing import Closing
from streams.wire.records import FOLD_VERSION

_PRUNING = (
    """DELETE FROM blocks WHERE series % :partitions = :partition AND last < :begin AND (
        EXISTS (
            SELECT 1 FROM blocks AS later
            WHERE later.series = blocks.series AND later.first > blocks.first AND later.first <= :begin
        ) OR EXISTS (SELECT 1 FROM tails WHERE tails.series = blocks.series AND tails.first <= :begin)
    )""",
    "DELETE FROM addresses WHERE series % :partitions = :partition AND until <= :begin",
    """DELETE FROM points WHERE partition = :partition AND first < (
        SELECT max(first) FROM points WHERE partition = :partition AND first <= :begin
    )""",
    """DELETE FROM signs WHERE partition = :partition AND EXISTS (
        SELECT 1 FROM signs AS later WHERE later.partition = signs.partition AND later.name = signs.name
        AND later.first > signs.first AND later.first <= :begin
    )""",
)


class IndexedLog(NamedTuple):
    """What an index is of: the Kafka cluster, the journal's number of partitions, the tables' resume window in seconds
    (from which tombstones follow), and the version of the fold."""

    kafka: str
    partitions: int
    window_seconds: int
    fold_version: int = FOLD_VERSION


def create_index(path: Path, log: IndexedLog) -> None:
    """Make an empty index. Raises FacetsError."""
    create(path)
    with IndexWriter(path) as writer:
        writer.describe(log)


class IndexWriter(Closing):
    """Writes to the file; several processes may, each for partitions of its own. Use it in a `with`. Raises
    IndexUnusable, FacetsError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = connect(path, writing=True)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def describe(self, log: IndexedLog) -> None:
        """Note what the index is of."""
        lines = [(name, str(value)) for name, value in log._asdict().items()]
        with index_errors(self.path), self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", lines)

    def log(self) -> IndexedLog:
        """What the index is of."""
        with index_errors(self.path):
            return read_log(dict(self._connection.execute("SELECT name, value FROM meta")), self.path)

    def write(self, partition: int, batch: Batch) -> None:
        """Add a batch: all of it, or nothing."""
        with index_errors(self.path), self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            many = connection.executemany
            many("INSERT INTO services VALUES (?, ?, ?)", batch.services)
            many("INSERT INTO series VALUES (?, ?, ?, ?)", batch.series)
            many(
                "DELETE FROM tails WHERE series = ? AND first <= ?",
                ((block.series, block.last) for block in batch.blocks),
            )
            many("INSERT INTO blocks (series, first, last, data) VALUES (?, ?, ?, ?)", batch.blocks)
            many("INSERT INTO tails VALUES (?, ?, ?, ?)", batch.tails)
            many("INSERT INTO addresses VALUES (?, ?, ?, NULL)", sorted(batch.opened))
            many(
                "UPDATE addresses SET until = ? WHERE address = ? AND series = ? AND until IS NULL AND since < ?",
                ((until, address, series, until) for until, address, series in batch.closed),
            )
            many("INSERT OR REPLACE INTO newest VALUES (?, ?, ?, ?, ?)", ((partition, *line) for line in batch.newest))
            many(
                "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?)",
                ((partition, points.first_at, points.first, points.data) for points in batch.points),
            )
            many(
                "INSERT OR REPLACE INTO signs VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((partition, *sign) for sign in batch.signs),
            )
            many("INSERT OR REPLACE INTO clusters VALUES (?, ?, ?, ?, ?)", ((partition, *c) for c in batch.clusters))
            connection.execute(
                "INSERT OR REPLACE INTO partitions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (partition, *batch.position)
            )

    def prune(self, partition: int, partitions: int, begin: int) -> Position | None:
        """Drop what is needed only for points before the journal's `begin`; the partition's position then. Of each key
        the version that holds there stays."""
        position = self.position(partition)
        if position is None or not position.begin < begin < position.next:
            return position
        own = {"partition": partition, "partitions": partitions, "begin": begin}
        with index_errors(self.path), self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _PRUNING:
                connection.execute(statement, own)
            row = connection.execute(
                "SELECT first_at FROM points WHERE partition = :partition AND first <= :begin ORDER BY first DESC", own
            ).fetchone()
            position = position._replace(begin=begin, begin_at=row[0] if row else position.begin_at)
            connection.execute(
                "INSERT OR REPLACE INTO partitions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (partition, *position)
            )
        return position

    def position(self, partition: int) -> Position | None:
        """How far a partition is; None if nothing of it is there."""
        with index_errors(self.path):
            row = self._connection.execute("SELECT * FROM partitions WHERE partition = ?", (partition,)).fetchone()
        return None if row is None else Position(*row[1:])

    def load(self, partition: int, partitions: int) -> Loaded | None:
        """What an indexer goes on from; None if nothing of the partition is there."""
        position = self.position(partition)
        if position is None:
            return None
        own = {"partition": partition, "partitions": partitions}
        with index_errors(self.path):
            rows = self._connection.execute
            services = {
                (namespace, name): number
                for number, namespace, name in rows("SELECT * FROM services WHERE id % :partitions = :partition", own)
            }
            tails: dict[int, list[bytes]] = defaultdict(list)
            for series, data in rows(
                "SELECT series, data FROM tails WHERE series % :partitions = :partition ORDER BY series, first", own
            ):
                tails[series].append(data)
            lines = [SeriesLine(*row) for row in rows("SELECT * FROM series WHERE id % :partitions = :partition", own)]
            return Loaded(
                position,
                services,
                [LoadedSeries(line, tails[line.id], self._newest(line.id, tails[line.id])) for line in lines],
                [tuple(row) for row in rows(
                    'SELECT "table", key, version, value FROM newest WHERE partition = :partition', own
                )],
                [_sign(*row) for row in rows(
                    "SELECT * FROM signs WHERE partition = :partition ORDER BY name, first", own
                )],
                [ClusterLine(*row[1:]) for row in rows("SELECT * FROM clusters WHERE partition = :partition", own)],
            )  # fmt: skip

    def _newest(self, series: int, tail: list[bytes]) -> Version:
        """A series' newest version, where its tail doesn't have it."""
        if tail:
            return Version(-1, None)
        row = self._connection.execute(
            "SELECT data FROM blocks WHERE series = ? ORDER BY first DESC LIMIT 1", (series,)
        ).fetchone()
        if row is None:
            raise IndexUnusable(f"the index {self.path} is damaged: a series has no versions")
        try:
            return unpack(row[0])[-1]
        except SegmentDamaged as error:
            raise IndexUnusable(f"the index {self.path} is damaged: {error}") from error


def _sign(_: int, name: str, first: int, first_at: str, last_at: str, writer: str, covered: int) -> Sign:
    return Sign(name, first, first_at, last_at, writer, bool(covered))


def read_log(meta: dict[str, str], path: Path) -> IndexedLog:
    """What an index is of, by its `meta`. Raises IndexUnusable."""
    try:
        return IndexedLog(
            meta["kafka"], int(meta["partitions"]), int(meta["window_seconds"]), int(meta["fold_version"])
        )
    except (KeyError, ValueError) as error:
        raise IndexUnusable(f"the index {path} does not say what it is of") from error
