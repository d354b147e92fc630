"""The thread of Faust's consumer: closed within a bound, and watched for what matters here: that the fold goes on.

Faust looks at every assigned partition every seven seconds, and takes it for broken when no stream has read from it
for five minutes. The changelogs' partitions are assigned, too, and no stream ever reads them: recovery does. And a
journal that was silent for as long, while its watcher was away, is taken for stuck with its first new record. So none
of Faust's checks is used.
"""

import logging
from typing import TYPE_CHECKING, Any, cast

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from streams.exit_codes import ExitCode
from streams.runtime.shutdown import closed
from streams.wire.records import JOURNAL
from streams.worker.instance_guard import guard_instance
from streams.worker.materializer import fatal

if TYPE_CHECKING:
    from streams.worker.app import FacetApp

log = logging.getLogger("facets.work")

STALLED_SECONDS = 300.0
_CLOSE_SECONDS = 2.0


class StallDetector:
    """Notices that a partition stands still although there is more to fold."""

    def __init__(self, seconds: float = STALLED_SECONDS) -> None:
        self._seconds = seconds
        self._standing: dict[int, tuple[object, float]] = {}
        self._reported: set[int] = set()

    def stalled(self, now: float, partition: int, assignment: object, position: int, end: int) -> bool:
        """Whether this has just become so. `now` is in seconds; `assignment` is another one after each rebalance, `end`
        the offset of the journal's next record."""
        standing = (assignment, position)
        before, since = self._standing.get(partition, (None, now))
        if position >= end or before != standing:
            self._standing[partition] = (standing, now)
            self._reported.discard(partition)
            return False
        if now - since < self._seconds or partition in self._reported:
            return False
        self._reported.add(partition)
        return True


class FacetConsumerThread(AIOKafkaConsumerThread):
    """As Faust's, but for its checks and its end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._stalls = StallDetector()

    async def on_start(self) -> None:
        """As Faust does it; a static member also watches that it keeps its place."""
        await super().on_start()
        settings = cast("FacetApp", self.consumer.app).settings
        if settings.instance:
            guard_instance(self._consumer, settings.instance, self._replaced)

    def _replaced(self, host: str) -> None:
        fatal(
            "a newer worker at %s has the name of this one (%s) and took its place: give each its own --instance",
            host, cast("FacetApp", self.consumer.app).settings.instance, code=ExitCode.GAVE_UP,
        )  # fmt: skip

    async def on_thread_stop(self) -> None:
        """Disconnect, within a bound. A consumer that is closed while it reconnects cancels itself: that would end
        this thread, and Faust would wait for it for ever."""
        await super(AIOKafkaConsumerThread, self).on_thread_stop()
        if self._consumer is not None:
            await closed("the consumer to leave its group", self._consumer.stop(), _CLOSE_SECONDS)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Say it once when a journal partition is not folded any more."""
        app = cast("FacetApp", self.consumer.app)
        fold = app.materializer.folds.get(tp.partition) if tp.topic == JOURNAL else None
        consumer: Any = self._consumer
        if fold is None or fold.next_offset is None or consumer is None:
            return
        end = consumer.highwater(tp) if tp in consumer.assignment() else None
        if end is not None and self._stalls.stalled(now, tp.partition, fold, fold.next_offset, end):
            log.error(
                "%s[%d]: nothing was folded for %.0f s at offset %d, though the journal goes on to %d: look at the "
                "broker (facets doctor), and start this worker again",
                JOURNAL, tp.partition, STALLED_SECONDS, fold.next_offset, end - 1,
            )  # fmt: skip
