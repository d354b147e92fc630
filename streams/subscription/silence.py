"""Which clusters a subscriber has not heard of for too long: judged by its clock, told when it changes."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.kafka.bulk_reader import BulkReader
from streams.subscription.freshness import Place, Silence, of_clusters, silences
from streams.wire.records import JOURNAL, Seal

log = logging.getLogger("facets.subscriber")

_LOOK_SECONDS = 1.0
_ASK_SECONDS = 2.0


class SilenceMonitor:
    """`silent` is what was last found. `clock` gives seconds since the epoch; without `after` nothing is judged."""

    def __init__(self, bootstrap: str, partitions: int, after: float | None, clock: Callable[[], float]) -> None:
        self.silent: dict[Place, Silence] = {}
        self._bootstrap = bootstrap
        self._partitions = partitions
        self._after = after
        self._clock = clock
        self._learned_seals: dict[Place, Seal] = {}
        self._last_look = float("-inf")
        self._wrong_clocks: set[str] = set()

    def learn(self, seals: Mapping[Place, Seal]) -> None:
        """Take seals that the log holds, where no newer ones are known."""
        for place, seal in seals.items():
            current = self._learned_seals.get(place)
            if current is None or current.offset < seal.offset:
                self._learned_seals[place] = seal

    def forget(self) -> None:
        """What was learnt holds no longer: all seals have been read again."""
        self._learned_seals = {}

    def reason(self, partition: int, cluster: str) -> str:
        """Why a cluster's rows in this partition are stale, as last found; "" where they are not."""
        silence = self.silent.get((partition, cluster))
        return silence.reason if silence else ""

    async def look(self, seals: Mapping[Place, Seal], *, at_once: bool = False) -> bool:
        """Judge anew, if that was a second ago or `at_once`; whether it comes to something else than before."""
        tick = asyncio.get_running_loop().time()
        if self._after is None or (tick - self._last_look < _LOOK_SECONDS and not at_once):
            return False
        self._last_look = tick
        seals = {**self._learned_seals, **seals}
        silent = silences(seals, self._clock(), self._after)
        if self._whole_partitions(seals, silent) and (ends := await self._ends()):
            silent = silences(seals, self._clock(), self._after, ends)
        self._check_clocks(seals)
        before, self.silent = self.silent, silent
        return before != silent

    def _whole_partitions(self, seals: Mapping[Place, Seal], silent: Mapping[Place, Silence]) -> set[int]:
        """The partitions in which every cluster is silent: there it may be the worker that is gone."""
        heard_of = {place[0] for place, seal in seals.items() if place not in silent and place[1] and not seal.closed}
        return {partition for partition, _ in silent} - heard_of

    async def _ends(self) -> dict[int, int]:
        """The journal's ends, where Kafka gives them in time and to this client."""
        partitions = [TopicPartition(JOURNAL, partition) for partition in range(self._partitions)]
        try:
            async with asyncio.timeout(_ASK_SECONDS), BulkReader(self._bootstrap) as reader:
                return {partition.partition: end for partition, end in (await reader.ends(partitions)).items()}
        except (KafkaError, OSError, TimeoutError) as error:
            log.debug("the journal's ends are not known: %s", error)
            return {}

    def _check_clocks(self, seals: Mapping[Place, Seal]) -> None:
        for cluster, freshness in of_clusters(seals, self._clock(), {}).items():
            if freshness.clock_is_wrong and cluster not in self._wrong_clocks:
                log.warning("cluster %s: %s", cluster, skew_text(freshness.clock_skew_seconds))
                self._wrong_clocks.add(cluster)
            elif not freshness.clock_is_wrong and cluster in self._wrong_clocks:
                log.info("cluster %s: its watcher's clock is right again", cluster)
                self._wrong_clocks.discard(cluster)


def skew_text(seconds: float) -> str:
    """What is wrong with a watcher's clock."""
    way = "ahead of" if seconds > 0 else "behind"
    return f"its watcher's clock is {abs(seconds):.1f} s {way} Kafka's: synchronize both (NTP)"
