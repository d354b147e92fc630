"""The Services of a cluster that wait to be compared: each once, with one worker at a time, again after a failure."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from streams.importer.holdings import Key
from streams.runtime.retry import RetryPolicy

RETRY = RetryPolicy(first=0.2, longest=30.0)


class WorkQueue:
    """`report` is told how many wait."""

    def __init__(self, report: Callable[[int], None], policy: RetryPolicy = RETRY) -> None:
        self._waiting: dict[Key, None] = {}
        self._busy: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._later: dict[Key, asyncio.TimerHandle] = {}
        self._more = asyncio.Event()
        self._report = report
        self._policy = policy

    def add(self, keys: Iterable[Key]) -> None:
        """They are to be compared, as soon as a worker has time."""
        for key in keys:
            self._waiting[key] = None
            if (later := self._later.pop(key, None)) is not None:
                later.cancel()
        if self._waiting:
            self._more.set()
        self._show()

    def retry(self, key: Key, error: BaseException | None = None) -> None:
        """It is to be compared again after a pause, which grows with each failure."""
        self._failures[key] = self._failures.get(key, 0) + 1
        pause = self._policy.pause(self._failures[key], error)
        if key not in self._waiting and key not in self._later:
            self._later[key] = asyncio.get_running_loop().call_later(pause, self._add_later, key)
        self._show()

    def succeed(self, key: Key) -> None:
        """It is as it shall be."""
        self._failures.pop(key, None)

    @asynccontextmanager
    async def next(self) -> AsyncIterator[Key]:
        """The next one, which no other worker gets while the block runs."""
        key = await self._take()
        try:
            yield key
        finally:
            self._busy.discard(key)
            if key in self._waiting:
                self._more.set()

    async def _take(self) -> Key:
        while True:
            key = next((key for key in self._waiting if key not in self._busy), None)
            if key is not None:
                del self._waiting[key]
                self._busy.add(key)
                self._show()
                return key
            self._more.clear()
            await self._more.wait()

    def _add_later(self, key: Key) -> None:
        del self._later[key]
        self.add([key])

    def _show(self) -> None:
        self._report(len(self._waiting) + len(self._later))
