"""A limit on how often something is begun: what comes in between is begun together."""

import asyncio


class Pace:
    """A token bucket of turns: `rate` a second, and up to `burst` at once. While turns are rarer than that, nobody
    waits; where they are not, all that ask meanwhile get the next one together, so that what each turn costs is shared.
    For the tasks of one event loop."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._taken = 0.0
        self._at = 0.0
        self._next: asyncio.Event | None = None

    async def turn(self) -> None:
        """Return when it is this task's turn."""
        if self._next is None:
            loop = asyncio.get_running_loop()
            now = loop.time()
            self._taken = max(0.0, self._taken - (now - self._at) * self._rate)
            self._at = now
            over = self._taken + 1 - self._burst
            self._taken += 1
            if over <= 0:
                return
            self._next = asyncio.Event()
            loop.call_later(over / self._rate, self._begin)
        await self._next.wait()

    def _begin(self) -> None:
        if self._next is not None:
            self._next.set()
            self._next = None
