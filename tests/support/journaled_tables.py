"""Tables beside their journal, on a real Kafka: a worker that may be away, or go wrong."""

from collections.abc import Callable, Iterable

from kafka import KafkaProducer

from streams.facets.tables import WORKER_TABLES
from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.objects.commits import JournalRecord
from streams.wire.records import FOLDED_TABLES, JOURNAL, topic_of
from tests.integration.journal import PARTITIONS
from tests.integration.mesh import Tables


class JournaledTables(Tables):
    """Each commit is in the journal. While it is `away` the tables are not written; `back` writes what they lack. What
    it writes is as `alter` has it."""

    def __init__(self, bootstrap: str, clock: Callable[[], float] | None = None) -> None:
        super().__init__(bootstrap, clock)
        self.away = False
        self.alter: Callable[[bytes], bytes] = lambda value: value
        self._worker = KafkaProducer(bootstrap_servers=bootstrap)
        self._worker_folds = [PartitionFold(partition, WORKER_TABLES) for partition in range(PARTITIONS)]
        self._unwritten: list[tuple[int, Write]] = []

    def back(self) -> None:
        """The worker is there again."""
        self.away = False
        self._write_tables()

    def close(self) -> None:
        self._worker.close()
        super().close()

    def _write(self, records: Iterable[JournalRecord]) -> None:
        self.last = list(records)
        for record in self.last:
            at = self._worker.send(JOURNAL, record.value, key=b"east", partition=record.partition).get(60)
            writes = self._worker_folds[record.partition].step(at.offset, record.value, at.timestamp)
            self._unwritten += [(record.partition, write) for write in writes if write.table in FOLDED_TABLES]
        if not self.away:
            self._write_tables()

    def _write_tables(self) -> None:
        for partition, write in self._unwritten:
            self._worker.send(
                topic_of(write.table),
                None if write.value is None else self.alter(write.value),
                key=write.key,
                partition=partition,
                headers=[("v", b"%d" % write.version)],
            )
        self._unwritten.clear()
        self._worker.flush()
