"""Turns are taken at once while they are rare, and together where they are not."""

import asyncio

import pytest

from streams.runtime.pace import Pace


class Clock:
    """An event loop's clock that moves only as it is told, and the timers that are due by it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, asyncio.Future[None]]] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: self.now)
        monkeypatch.setattr(loop, "call_later", self._call_later)

    def _call_later(self, seconds: float, callback: object) -> None:
        self._timers.append((self.now + seconds, callback))  # type: ignore[arg-type]

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        due = [timer for timer in self._timers if timer[0] <= self.now + 1e-9]
        self._timers = [timer for timer in self._timers if timer not in due]
        for _, callback in due:
            callback()  # type: ignore[operator]
        await _settle()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_nobody_waits_while_turns_are_rarer_than_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(10, 1)
    clock = Clock(monkeypatch)
    for _ in range(20):
        await pace.turn()
        await clock.advance(0.1)


async def test_a_burst_is_taken_at_once_and_what_comes_after_it_together(monkeypatch: pytest.MonkeyPatch) -> None:
    pace, clock = Pace(10, 3), Clock(monkeypatch)
    for _ in range(3):
        await pace.turn()
    began: list[int] = []

    async def begin(number: int) -> None:
        await pace.turn()
        began.append(number)

    tasks = [asyncio.create_task(begin(number)) for number in range(5)]
    await _settle()
    assert began == []
    await clock.advance(0.05)
    assert began == []
    await clock.advance(0.05)
    assert began == [0, 1, 2, 3, 4], "one turn for all"
    # They were one turn: the next comes as long after it.
    tasks.append(asyncio.create_task(begin(5)))
    await _settle()
    assert began[5:] == []
    await clock.advance(0.1)
    assert began[5:] == [5]
    await asyncio.gather(*tasks)


async def test_one_that_is_cancelled_takes_nobody_elses_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    pace, clock = Pace(10, 1), Clock(monkeypatch)
    await pace.turn()
    first, second = (asyncio.create_task(pace.turn()) for _ in range(2))
    await _settle()
    first.cancel()
    await clock.advance(0.1)
    assert second.done()
    assert first.cancelled()
