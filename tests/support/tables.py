"""The tables of a small fleet on a real Kafka, written by the fold itself."""

from kafka import KafkaProducer

from streams.fold.fold import PartitionFold
from streams.objects.commits import JournalRecord
from streams.wire.records import TABLES, topic_of
from tests.integration.journal import PARTITIONS, Churn

DEADLINE = 60


class Tables:
    """Folds a made-up cluster's commits and writes the facet topics as a worker does."""

    def __init__(self, bootstrap: str, seed: int) -> None:
        self.churn = Churn(seed)
        self._folds = {p: PartitionFold(p) for p in range(PARTITIONS)}
        self._offsets = dict.fromkeys(range(PARTITIONS), 0)
        self._newest: dict[tuple[str, str], tuple[int, bytes | None]] = {}
        self._producer = KafkaProducer(bootstrap_servers=bootstrap)
        self.write(self.churn.start())

    def write(self, records: list[JournalRecord], skip: str = "", twice: bool = False) -> None:
        for record in records:
            offset = self._offsets[record.partition]
            self._offsets[record.partition] += 1
            for write in self._folds[record.partition].step(offset, record.value):
                if write.table not in TABLES or (skip and skip in write.key.decode()):
                    continue
                self._newest[write.table, write.key.decode()] = write.version, write.value
                for _ in range(2 if twice else 1):
                    self._producer.send(
                        topic_of(write.table), write.value, key=write.key, partition=record.partition,
                        headers=[("v", b"%d" % write.version)],
                    )  # fmt: skip
        self._producer.flush()

    def rows(self) -> dict[tuple[str, str], int]:
        """The versions of all rows by now."""
        found: dict[tuple[str, str], int] = {}
        for fold in self._folds.values():
            for table in fold.tables:
                found |= {(table.name, key): table.entry(key).version or 0 for key in table}
        return found

    def newest(self, table: str) -> dict[str, tuple[int, bytes | None]]:
        """The newest row of each key of a table, as it was written."""
        return {key: at for (name, key), at in self._newest.items() if name == table}

    def ends(self) -> dict[int, int]:
        """The last offset of each partition of the journal."""
        return {partition: offset - 1 for partition, offset in self._offsets.items()}

    def close(self) -> None:
        self._producer.close()
