"""That a fold stands still is said once, and only where there is something to fold."""

from streams.worker.stall_detector import StallDetector


def test_a_partition_that_is_not_folded_any_more_is_noticed_once() -> None:
    stalls = StallDetector(300)
    assignment = object()
    assert not stalls.stalled(0, 0, assignment, 5, 9)
    assert not stalls.stalled(299, 0, assignment, 5, 12)
    assert stalls.stalled(300, 0, assignment, 5, 12)
    assert not stalls.stalled(307, 0, assignment, 5, 13)
    assert not stalls.stalled(314, 0, assignment, 6, 13)
    assert stalls.stalled(614, 0, assignment, 6, 13)


def test_a_journal_that_was_silent_for_long_is_not_stuck() -> None:
    stalls = StallDetector(300)
    assignment = object()
    assert not stalls.stalled(0, 0, assignment, 5, 5)
    assert not stalls.stalled(3600, 0, assignment, 5, 5)
    assert not stalls.stalled(3607, 0, assignment, 5, 6)
    assert not stalls.stalled(3614, 0, assignment, 6, 7)


def test_after_a_rebalance_the_time_begins_anew() -> None:
    stalls = StallDetector(300)
    assert not stalls.stalled(0, 0, "first", 5, 9)
    assert not stalls.stalled(400, 0, "second", 5, 9)
    assert stalls.stalled(700, 0, "second", 5, 9)
