"""The one retry policy, on a clock that the test moves."""

import asyncio

import pytest

from streams.runtime.retry import MAX_RETRY_AFTER, Pauses, RetryLater, RetryPolicy, retry

CERTAIN = RetryPolicy(first=1, longest=5, chance=lambda: 1.0)


class Step:
    """Fails with each of the errors, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0
        self.pauses: list[float] = []
        self.told: list[tuple[str, float]] = []
        self.ending = False

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def report(self, error: Exception, pause: float) -> None:
        self.told.append((str(error), pause))

    async def run(self, policy: RetryPolicy = CERTAIN) -> str:
        return await retry(
            self,
            policy,
            passes=lambda error: isinstance(error, OSError | RetryLater),
            report=self.report,
            ending=lambda: self.ending,
            sleep=self.sleep,
        )


def test_pauses_double_up_to_a_bound_and_begin_anew() -> None:
    pauses = Pauses(CERTAIN)
    assert [pauses.next() for _ in range(5)] == [1, 2, 4, 5, 5]
    pauses.reset()
    assert pauses.next() == 1


def test_pauses_are_spread_over_the_whole_span() -> None:
    pauses = Pauses(RetryPolicy(first=1, longest=8, chance=iter([0.0, 0.25, 0.5, 0.999]).__next__))
    assert [pauses.next() for _ in range(4)] == [0.0, 0.5, 2.0, pytest.approx(7.992)]


def test_without_jitter_pauses_are_the_bounds() -> None:
    policy = RetryPolicy(first=1, longest=6, jitter=0, chance=lambda: 0.0)
    assert [policy.pause(failures) for failures in (1, 2, 3, 4, 10_000)] == [1, 2, 4, 6, 6]


@pytest.mark.parametrize(
    ("asked", "respected"), [(7.0, 7.0), (0.0, 0.0), (-5.0, 0.0), (1e300, MAX_RETRY_AFTER), (float("inf"), 30.0)]
)
def test_retry_after_is_added_to_the_pause_within_its_bound(asked: float, respected: float) -> None:
    assert CERTAIN.pause(2, RetryLater("busy", asked)) == respected + 2


async def test_a_step_is_tried_until_it_succeeds() -> None:
    step = Step(OSError("one"), RetryLater("two", 3), OSError("three"))
    assert await step.run() == "done"
    assert step.pauses == [1, 5, 4]
    assert step.told == [("one", 1), ("two", 5), ("three", 4)]


async def test_what_does_not_pass_is_raised_at_once() -> None:
    step = Step(OSError("away"), ValueError("a fault"))
    with pytest.raises(ValueError, match="a fault"):
        await step.run()
    assert step.calls == 2


async def test_the_last_attempt_raises_what_it_failed_with() -> None:
    step = Step(*[OSError(f"{number}") for number in range(9)])
    with pytest.raises(OSError, match="2"):
        await step.run(CERTAIN._replace(attempts=3))
    assert step.pauses == [1, 2]


async def test_nothing_is_tried_again_once_it_is_ending() -> None:
    step = Step(OSError("away"))
    step.ending = True
    with pytest.raises(OSError, match="away"):
        await step.run()
    assert step.pauses == []


async def test_it_can_be_cancelled_in_the_step_and_in_the_pause() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    async def fail() -> None:
        raise OSError("away")

    waiting = asyncio.Event()

    async def pause(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    for step in (hang, fail):
        task = asyncio.create_task(retry(step, CERTAIN, passes=lambda _: True, report=lambda *_: None, sleep=pause))
        if step is fail:
            await waiting.wait()
        else:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
