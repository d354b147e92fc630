"""What one cluster may have of a process that watches several: a token bucket of changed Services.

A cluster whose changes come faster than its budget is a flood (two controllers that fight over an object write
thousands of times a second). Its changes are collected until the budget has room for them: none is dropped, what
changes several times meanwhile is written once, and the journal, the workers and the routers have time for the other
clusters' changes.

A budget grows with its cluster. All Services of a cluster may change at once without a wait, as when its nodes come
back; what is limited is how often each of them changes, again and again.
"""

from typing import NamedTuple


class Rate(NamedTuple):
    """Changed Services a second, and at once, whatever the cluster's size; `share` is by how much of a cluster's
    objects the first is higher for larger ones."""

    services: float = 50.0
    burst: float = 250.0
    share: float = 0.05


class Budget:
    """Of one cluster. Times are seconds of a clock that only goes forward; `objects` are how many the cluster has."""

    def __init__(self, rate: Rate | None = None) -> None:
        self._rate = rate or Rate()
        self._spent = 0.0
        self._at = float("-inf")

    def spend(self, services: int, objects: int, now: float) -> None:
        """So many Services have changed. What is taken beyond the budget delays what comes next."""
        self._refill(objects, now)
        self._spent += services

    def wait_seconds(self, objects: int, now: float) -> float:
        """How long the next changes have to wait; 0.0 if they need not."""
        self._refill(objects, now)
        over = self._spent - max(self._rate.burst, objects)
        return max(0.0, over / self._services_a_second(objects))

    def _refill(self, objects: int, now: float) -> None:
        elapsed, self._at = now - self._at, now
        self._spent = max(0.0, self._spent - elapsed * self._services_a_second(objects))

    def _services_a_second(self, objects: int) -> float:
        return max(self._rate.services, self._rate.share * objects)
