"""Finds the clusters that a subscriber has not heard of for too long, by its own clock."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.kafka.bulk_reader import BulkReader
from streams.subscription.freshness import Place, Silence, of_clusters, silences
from streams.wire.keys import is_cluster
from streams.wire.records import JOURNAL, Seal

log = logging.getLogger("facets.subscriber")

_LOOK_SECONDS = 1.0
_ASK_SECONDS = 2.0


class SilenceMonitor:
    """`silent` is the result of the last check. `clock` gives seconds since the epoch; without `after` nothing is
    checked."""

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
        """Take seals from the log where no newer ones are known."""
        for place, seal in seals.items():
            current = self._learned_seals.get(place)
            if current is None or current.offset < seal.offset:
                self._learned_seals[place] = seal

    def forget(self) -> None:
        """Forget the learned seals: all have been read again."""
        self._learned_seals = {}

    def reason(self, partition: int, cluster: str) -> str:
        """Why a cluster's rows in this partition are stale, at the last check; "" if they are not."""
        silence = self.silent.get((partition, cluster))
        return silence.reason if silence else ""

    async def look(self, seals: Mapping[Place, Seal], *, at_once: bool = False) -> bool:
        """Check again, if the last check was a second ago or `at_once`. Returns whether the result changed."""
        tick = asyncio.get_running_loop().time()
        if self._after is None or (tick - self._last_look < _LOOK_SECONDS and not at_once):
            return False
        self._last_look = tick
        seals = {**self._learned_seals, **seals}
        silent = silences(seals, self._clock(), self._after)
        if self._silent_partitions(seals, silent) and (ends := await self._ends()):
            silent = silences(seals, self._clock(), self._after, ends)
        self._check_clocks(seals)
        before, self.silent = self.silent, silent
        return before != silent

    def _silent_partitions(self, seals: Mapping[Place, Seal], silent: Mapping[Place, Silence]) -> set[int]:
        """The partitions in which every cluster is silent: there the worker may be missing."""
        heard_of = {
            place[0]
            for place, seal in seals.items()
            if place not in silent and is_cluster(place[1]) and not seal.closed
        }
        return {partition for partition, _ in silent} - heard_of

    async def _ends(self) -> dict[int, int]:
        """The journal's end offsets; empty if Kafka does not give them in time, or not to this client."""
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
