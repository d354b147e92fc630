"""A recorded cluster whose API server is out of reach for a while, again and again."""

from typing import NamedTuple


class Outage(NamedTuple):
    """All times are in seconds, by the server's clock, from the first request on: the first outage `begins` then, each
    one `lasts` so long, and they begin `every` so often."""

    cluster: str
    begins: float
    lasts: float
    every: float

    def __str__(self) -> str:
        first, length, every = (f"{seconds:g} s" for seconds in (self.begins, self.lasts, self.every))
        return f"the API server of {self.cluster} is out of reach for {length}, {first} after the start, every {every}"

    def is_on(self, seconds: float) -> bool:
        """Whether the API server is out of reach at this time."""
        return seconds >= self.begins and (seconds - self.begins) % self.every < self.lasts

    def seconds_to_next(self, seconds: float) -> float:
        """How long until the next outage begins (0 during one)."""
        if self.is_on(seconds):
            return 0.0
        if seconds < self.begins:
            return self.begins - seconds
        return self.every - (seconds - self.begins) % self.every
