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

_NO_HURRY_SECONDS = 0.2

_FETCHES_A_SECOND = 40
"""At how many fetches a second what comes is collected, so that what each costs is shared by several changes."""


class RecordSources:
    """One subscriber's consumers. Use `fetch` from one task; errors are aiokafka's."""

    def __init__(self, bootstrap: str) -> None:
        self._changelogs = AiokafkaTail(bootstrap, "facets-subscriber")
        self._journal = log_tail(bootstrap, "facets-subscriber-journal")
        self._started: list[LogTail] = []
        self._assigned: list[LogTail] = []
        self._pace = Pace(_FETCHES_A_SECOND, _FETCHES_A_SECOND)
        self._fetching: dict[LogTail, asyncio.Task[Records]] = {}

    async def start(self, *, journal: bool) -> None:
        """Connect; with `journal`, to read it too."""
        for consumer in (self._changelogs, *([self._journal] if journal else [])):
            self._started.append(consumer)
            await consumer.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._drop_fetches()
        for consumer in (self._changelogs, self._journal):
            await consumer.stop()

    async def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from these positions, and nothing else; what was fetched before is dropped."""
        await self._drop_fetches()
        self._assigned = []
        for consumer in self._started:
            own = {each: at for each, at in positions.items() if (each.topic == JOURNAL) == (consumer is self._journal)}
            await consumer.assign(own)
            if own:
                self._assigned.append(consumer)

    async def fetch(self, *, in_no_hurry: bool = False) -> Records:
        """The next records; none if there are none for half a second. The changelogs are fetched five times a second if
        there is `in_no_hurry`. Raises OffsetOutOfRangeError, KafkaError."""
        for consumer in self._assigned:
            if consumer not in self._fetching:
                wait = _NO_HURRY_SECONDS if in_no_hurry and consumer is self._changelogs else 0.0
                self._fetching[consumer] = asyncio.create_task(_fetch(consumer, wait))
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


async def _fetch(consumer: LogTail, wait: float) -> Records:
    if wait:
        await asyncio.sleep(wait)
    return await consumer.read()
