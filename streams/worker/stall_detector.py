"""Detects that the fold of a partition is stalled although the journal grows."""

STALLED_SECONDS = 300.0


class StallDetector:
    """Detects that a partition is stalled although there is more to fold."""

    def __init__(self, seconds: float = STALLED_SECONDS) -> None:
        self._seconds = seconds
        self._standing: dict[int, tuple[object, float]] = {}
        self._reported: set[int] = set()

    def stalled(self, now: float, partition: int, assignment: object, position: int, end: int) -> bool:
        """Whether it has just become stalled. `now` is in seconds; `assignment` is a new one after each rebalance,
        `end` the offset of the journal's next record."""
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
