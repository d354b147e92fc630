"""The write of a watcher to the journal that is under way: a broker may be away for long."""

import asyncio
import time
from collections.abc import Callable, Sequence

from streams.kafka.journal import Publisher
from streams.objects.commits import JournalRecord

LATE_SECONDS = 5.0
"""A write that takes longer is warned of."""


class PendingWrite:
    """Of one writer, which has one write at a time. `warn_late` is called once for each that is late."""

    def __init__(self, publisher: Publisher, warn_late: Callable[[], None]) -> None:
        self._publisher = publisher
        self._warn_late = warn_late
        self._began: float | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether records are sent that are not yet acknowledged."""
        return self._began is not None

    @property
    def seconds(self) -> float:
        """For how long they are; 0 if there are none."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    async def publish(self, records: Sequence[JournalRecord]) -> None:
        """Append records; returns when all are acknowledged. Raises JournalWriteFailed."""
        late = asyncio.get_running_loop().call_later(LATE_SECONDS, self._warn_late)
        self._began = time.monotonic()
        try:
            await self._publisher.publish(records)
        finally:
            late.cancel()
            self._began = None
