"""Retries: pauses that double up to a limit, with full jitter, so that clients that failed together don't retry
together, on top of the pause that the other side asks for (RFC 9110, Retry-After)."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.stop import stop_base

MAX_RETRY_AFTER = 30.0
"""The longest requested pause that is respected, in seconds."""

_MOST_DOUBLINGS = 64

T = TypeVar("T")

Sleep = Callable[[float], Awaitable[None]]
"""Waits some seconds; tests have their own."""


class RetryLater(Exception):
    """The other side asks to retry after `retry_after` seconds (0: it didn't say; MAX_RETRY_AFTER at most)."""

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = min(max(retry_after, 0.0), MAX_RETRY_AFTER)


class RetryPolicy(NamedTuple):
    """Pauses in seconds: the first is at most `first`, each one at most twice the one before, none above `longest`.
    `jitter` is the random share of a pause, drawn by `chance` (1: all of it; 0: none). It gives up at the `attempts`th
    failure in a row (0: never)."""

    first: float = 0.2
    longest: float = 8.0
    attempts: int = 0
    jitter: float = 1.0
    chance: Callable[[], float] = random.random

    def pause(self, failures: int, error: BaseException | None = None) -> float:
        """The pause after this many failures in a row (at least one), the last with this error."""
        bound = min(self.longest, self.first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
        minimum = error.retry_after if isinstance(error, RetryLater) else 0.0
        return minimum + bound * (1 - self.jitter * (1 - self.chance()))


class Pauses:
    """The pauses of an endless loop; success resets the count of failures."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0

    def next(self, error: BaseException | None = None) -> float:
        """Count a failure; the pause after it, in seconds."""
        self._failures += 1
        return self._policy.pause(self._failures, error)

    def reset(self) -> None:
        """Count a success."""
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
    """Await the step until it succeeds; its result. Raises its error if that is not temporary (`passes`), at the
    policy's last attempt, and when `ending`. `report` gets each failure and the pause that follows."""
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
