"""A part that ends is started again, ever later, until it is given up; on a clock that the test moves."""

import asyncio
from collections.abc import Callable

import pytest

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.local.kafka.broker import KafkaUnavailable
from streams.local.supervisor import PartEnded, Restarts, describe_exit, keep_running


class Part:
    """Runs for the given times and then fails, by the test's clock; after the last it waits for its end."""

    def __init__(self, *lives: float, error: Callable[[], Exception] = lambda: PartEnded("it ended")) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.ending = asyncio.Event()
        self.starts = 0
        self._lives = list(lives)
        self._error = error

    def clock(self) -> float:
        return self.now

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def run(self) -> None:
        self.starts += 1
        if not self._lives:
            self.ending.set()
            return
        self.now += self._lives.pop(0)
        raise self._error()

    async def keep(self, attempts: int = 4) -> None:
        restarts = Restarts(attempts=attempts, first=1, longest=6, steady=60)
        await keep_running("worker", self.run, self.ending, restarts, pause=self.pause, clock=self.clock)


async def test_it_is_started_again_ever_later(caplog: pytest.LogCaptureFixture) -> None:
    part = Part(1, 1, 1, 1)
    await part.keep(attempts=9)
    assert part.starts == 5
    assert part.pauses == [1, 2, 4, 6]
    assert caplog.messages[0] == "it ended; starting the worker again in 1 s"


async def test_it_is_given_up() -> None:
    part = Part(*[1] * 9)
    with pytest.raises(PartEnded, match="it ended"):
        await part.keep()
    assert part.starts == 4


async def test_one_that_ran_for_long_begins_anew() -> None:
    part = Part(1, 1, 61, 1, 1, 1)
    await part.keep()
    assert part.starts == 7
    assert part.pauses == [1, 2, 1, 1, 2, 4]


@pytest.mark.parametrize("code", [ExitCode.MISCONFIGURED, ExitCode.GAVE_UP, ExitCode.USAGE, ExitCode.FORBIDDEN])
async def test_what_will_not_pass_is_not_tried_again(code: ExitCode) -> None:
    part = Part(1000, error=lambda: FacetsError("no", exit_code=code))
    with pytest.raises(FacetsError, match="no"):
        await part.keep()
    assert part.starts == 1


async def test_a_broker_that_is_away_is_tried_again_and_a_fault_of_ours_is_not() -> None:
    part = Part(1, error=lambda: KafkaUnavailable("away"))
    await part.keep()
    assert part.starts == 2
    part = Part(1, error=lambda: AssertionError("a fault"))
    with pytest.raises(AssertionError):
        await part.keep()
    assert part.starts == 1


async def test_what_fails_after_the_end_was_told_is_not_started_again() -> None:
    part = Part(1)
    part.ending.set()
    await part.keep()
    assert part.starts == 0

    async def run() -> None:
        part.ending.set()
        raise PartEnded("late")

    part.ending.clear()
    await keep_running("worker", run, part.ending, pause=part.pause, clock=part.clock)
    assert part.pauses == []


def test_exits_are_in_words() -> None:
    assert describe_exit(70) == "exit code 70"
    assert describe_exit(-9) == "killed by SIGKILL"
    assert describe_exit(-99) == "exit code -99"
