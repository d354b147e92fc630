"""The one way of trying again: pauses that double up to a bound, drawn at random, so that those who failed together do
not come back together (full jitter), and that begin after what the other side asks for (RFC 9110, Retry-After)."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.stop import stop_base

MAX_RETRY_AFTER = 30.0
"""What another side asks for is respected up to so many seconds."""

_MOST_DOUBLINGS = 64

T = TypeVar("T")

Sleep = Callable[[float], Awaitable[None]]
"""Waits so many seconds; tests have their own."""


class RetryLater(Exception):
    """The other side asks to be left alone for `retry_after` seconds (0: it says nothing; MAX_RETRY_AFTER at most)."""

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = min(max(retry_after, 0.0), MAX_RETRY_AFTER)


class RetryPolicy(NamedTuple):
    """Pauses in seconds: the first is at most `first`, each one at most twice the one before, none above `longest`.
    `jitter` is the share of a pause that is drawn by `chance` (1: all of it; 0: none). The `attempts`th failure in a
    row is the last (0: it goes on for ever)."""

    first: float = 0.2
    longest: float = 8.0
    attempts: int = 0
    jitter: float = 1.0
    chance: Callable[[], float] = random.random

    def pause(self, failures: int, error: BaseException | None = None) -> float:
        """How long to wait after so many failures in a row (at least one), of which the last is the error."""
        bound = min(self.longest, self.first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
        asked = error.retry_after if isinstance(error, RetryLater) else 0.0
        return asked + bound * (1 - self.jitter * (1 - self.chance()))


class Pauses:
    """The pauses of a loop that goes on for ever, in which success begins the count anew."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0

    def next(self, error: BaseException | None = None) -> float:
        """How long to wait after one more failure, in seconds."""
        self._failures += 1
        return self._policy.pause(self._failures, error)

    def reset(self) -> None:
        """It went well."""
        self._failures = 0


async def retry(
    step: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    passes: Callable[[Exception], bool],
    report: Callable[[Exception, float], None],
    ending: Callable[[], bool] = lambda: False,
    sleep: Sleep = asyncio.sleep,
) -> T:
    """Await the step until it succeeds; its result. Raises what it raised where that `passes` not by itself, at the
    policy's last attempt, and once it is `ending`. `report` is told each failure and the pause that follows."""
    attempts: AsyncRetrying = AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, Exception) and passes(error)),
        wait=lambda state: policy.pause(state.attempt_number, _error(state)),
        stop=_Stop(policy.attempts, ending),
        before_sleep=lambda state: report(_error(state), state.upcoming_sleep),
        sleep=sleep,
        reraise=True,
    )
    return await attempts(step)


class _Stop(stop_base):
    def __init__(self, attempts: int, ending: Callable[[], bool]) -> None:
        self._attempts = attempts
        self._ending = ending

    def __call__(self, state: RetryCallState) -> bool:
        return self._ending() or 0 < self._attempts <= state.attempt_number


def _error(state: RetryCallState) -> Exception:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, Exception), "only a failure is tried again"
    return error
