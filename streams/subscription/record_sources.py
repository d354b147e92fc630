"""What a subscriber reads from Kafka: the changelogs, and beside them the journal if that is folded.

They are two consumers, each with a fetch of its own, so that a commit does not wait for what is fetched of the
changelogs. (One fetch of both is answered with what comes first, and the next is built from all partitions: 32 of them
took 1 ms.)
"""

import asyncio
from collections.abc import Mapping

from aiokafka import TopicPartition

from streams.kafka.log_tail import AiokafkaTail, LogTail, Records, log_tail
from streams.runtime.pace import Pace
from streams.wire.records import JOURNAL

_FETCHES_A_SECOND = 40
"""At how many fetches a second what comes is collected, so that what each costs is shared by several changes."""


class RecordSources:
    """One subscriber's consumers; with `journal`, to read it too: the changelogs are then in no hurry. Use `fetch` from
    one task; errors are aiokafka's."""

    def __init__(self, bootstrap: str, *, journal: bool) -> None:
        self._changelogs = AiokafkaTail(bootstrap, "facets-subscriber", is_urgent=not journal)
        self._journal = log_tail(bootstrap, "facets-subscriber-journal") if journal else None
        self._started: list[LogTail] = []
        self._assigned: list[LogTail] = []
        self._pace = Pace(_FETCHES_A_SECOND, _FETCHES_A_SECOND)
        self._fetching: dict[LogTail, asyncio.Task[Records]] = {}

    async def start(self) -> None:
        """Connect."""
        for consumer in self._consumers:
            self._started.append(consumer)
            await consumer.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._drop_fetches()
        for consumer in self._consumers:
            await consumer.stop()

    @property
    def _consumers(self) -> list[LogTail]:
        return [self._changelogs] if self._journal is None else [self._changelogs, self._journal]

    async def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from these positions, and nothing else; what was fetched before is dropped."""
        await self._drop_fetches()
        self._assigned = []
        for consumer in self._started:
            own = {each: at for each, at in positions.items() if (each.topic == JOURNAL) == (consumer is self._journal)}
            await consumer.assign(own)
            if own:
                self._assigned.append(consumer)

    async def fetch(self) -> Records:
        """The next records; none if there are none for half a second. Raises OffsetOutOfRangeError, KafkaError."""
        for consumer in self._assigned:
            if consumer not in self._fetching:
                self._fetching[consumer] = asyncio.create_task(consumer.read())
        await asyncio.wait(self._fetching.values(), return_when=asyncio.FIRST_COMPLETED)
        await self._pace.turn()
        done = {consumer: task for consumer, task in self._fetching.items() if task.done()}
        # What fails is raised alone: the others' records are there next time.
        failed = {consumer: task for consumer, task in done.items() if task.exception() is not None}
        fetched: Records = {}
        for consumer, task in (failed or done).items():
            del self._fetching[consumer]
            fetched |= task.result()
        return fetched

    async def end_offset(self, partition: TopicPartition) -> int:
        """Where a changelog's partition ends."""
        ends: dict[TopicPartition, int] = await self._changelogs.consumer.end_offsets([partition])
        return ends[partition]

    async def _drop_fetches(self) -> None:
        fetching, self._fetching = list(self._fetching.values()), {}
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)
