"""Folds the journal beside the changelogs (see `journal_follower`): what is read from Kafka for it, and its metrics."""

import asyncio
import logging
from collections.abc import Collection, Iterable
from contextlib import aclosing
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.fold.table import Write
from streams.kafka.bulk_reader import BulkReader, Chunk
from streams.subscription.delivery import Subscription
from streams.subscription.fold_metrics import COMPARED, DIFFERENCES, FOLDED_PARTITIONS, NOT_COMPARED
from streams.subscription.journal_follower import JournalFollower
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import FOLDED_TABLES, JOURNAL, topic_of

log = logging.getLogger("facets.subscriber")

_BOUNDS_SECONDS = 10.0
_TABLE_OF = {topic_of(table): table for table in FOLDED_TABLES}


class JournalClient:
    """One subscriber's fold of the journal: first `forget`, `gather` each chunk of the changelogs, and `start`."""

    def __init__(self, bootstrap: str, partitions: int, window_seconds: int, tables: Collection[str]) -> None:
        self._bootstrap = bootstrap
        self._partitions = partitions
        self._follower = JournalFollower(window_seconds, tables)
        self._counted: dict[int, tuple[int, int]] = {}
        self._faults = 0

    def forget(self) -> None:
        """The tables are read anew."""
        self._follower.forget(range(self._partitions))

    def gather(self, chunk: Chunk, *, end: int, strict: bool) -> None:
        """Take records of a changelog; see `TableImage.gather`."""
        partition = chunk.partition.partition
        self._follower.gather(_TABLE_OF[chunk.partition.topic], partition, chunk, end=end, strict=strict)

    async def start(self, state: Subscription) -> None:
        """Load the partitions whose changelogs were gathered. The subscription may have read less of them yet."""
        journal = [TopicPartition(JOURNAL, partition) for partition in range(self._partitions)]
        try:
            async with asyncio.timeout(_BOUNDS_SECONDS), BulkReader(self._bootstrap) as reader:
                begins, ends = await reader.begins(journal), await reader.ends(journal)
        except (KafkaError, TimeoutError, OSError) as error:
            log.debug("the bounds of %s are not known: %r", JOURNAL, error)
            self._follower.give_up(_now())
            self.count()
            return
        bounds = {each.partition: (begins[each], ends[each]) for each in journal}
        for partition in self._follower.start(bounds, _now()):
            self._counted[partition] = (0, 0)
            # A partition takes some hundredths of a second.
            await asyncio.sleep(0)
        self._follower.join(state.has_read)
        self.count()

    def positions(self) -> dict[TopicPartition, int]:
        """Where to read the journal on."""
        return {TopicPartition(JOURNAL, partition): at for partition, at in self._follower.positions().items()}

    def folds_all(self) -> bool:
        """Whether every partition is folded: the changelogs are then only compared."""
        return len(self._follower.positions()) == self._partitions

    def is_behind(self) -> bool:
        """Whether the journal has not been folded to its end at the start."""
        return self._follower.is_behind()

    def step(self, partition: int, record: Any) -> list[Write]:
        """The tables' records that a commit makes. Raises TablesDiffer."""
        return self._follower.step(partition, record.offset, record.value, record.timestamp, _now())

    def was_folded(
        self, state: Subscription, table: str, partition: int, key: bytes, value: bytes | None, version: int
    ) -> bool:
        """Compare a record of a changelog. Whether it's a row that was folded here. Raises TablesDiffer."""
        is_same = self._follower.has(table, partition, key, value, version)
        if is_same or state.readable(table, partition, key, value, version):
            self._follower.compare(table, partition, key, value, version, _now())
        return is_same and not key.startswith(SEAL_PREFIX)

    def skip(self, table: str, partition: int) -> None:
        """The next records of a table's changelog are gone."""
        self._follower.skip(table, partition)

    def lose(self, partitions: Iterable[int]) -> None:
        """The journal has not the offsets that these partitions need next."""
        self._follower.lose(partitions, _now())

    async def retry(self, state: Subscription) -> bool:
        """Load partitions again that could not be folded, if it is time. Whether some are now folded that were not."""
        has_joined = self._follower.join(state.has_read)
        partitions = self._follower.due(state.seals, _now())
        if not partitions:
            return has_joined
        before = self._follower.positions().keys()
        self._follower.forget(partitions)
        assigned = [TopicPartition(topic, partition) for topic in _TABLE_OF for partition in partitions]
        async with BulkReader(self._bootstrap) as reader:
            begins, ends = await reader.begins(assigned), await reader.ends(assigned)
            async with aclosing(reader.read(begins, ends)) as chunks:
                async for chunk in chunks:
                    self.gather(chunk, end=2**63, strict=False)
        await self.start(state)
        return has_joined or not self._follower.positions().keys() <= before

    def count(self) -> None:
        """Bring the metrics up to date."""
        counts = self._follower.counts()
        FOLDED_PARTITIONS.set(len(counts))
        for partition, (compared, dropped) in counts.items():
            before = self._counted.get(partition, (0, 0))
            COMPARED.inc(compared - before[0])
            NOT_COMPARED.inc(dropped - before[1])
            self._counted[partition] = (compared, dropped)
        DIFFERENCES.inc(self._follower.faults - self._faults)
        self._faults = self._follower.faults


def _now() -> float:
    return asyncio.get_running_loop().time()
