"""Which seeds are run: ranges as they are written, and the seeds that `make test` takes."""

from collections.abc import Sequence
from datetime import UTC, datetime

FIXED = "0:400"
_BEFORE_EXPORTS = (
    7,
    15,
    81,
    562,
    991,
    1172,
    1351,
    1364,
    1422,
    1769,
    2557,
    3290,
    3491,
    4061,
    4747,
    4832,
    5657,
    8138,
    8243,
    8930,
    8937,
    9140,
    10919,
    11851,
    11923,
    14171,
    20063,
    21669,
    24001,
    52870,
)
REGRESSIONS = (*_BEFORE_EXPORTS, 20210, 21844, 21985, 22031, 26064, 26329, 27916, 28013, 31542)
"""Seeds in which the simulation once found something."""

WITHOUT_EXPORTS = (*_BEFORE_EXPORTS, 24, 30, 72)
"""Seeds whose runs have no exports: those that found something before there were any, and where a rare planted fault is
seen."""

_WINDOW = 100
_FIRST_WINDOW = datetime(2026, 11, 1, tzinfo=UTC)
_BEFORE_WINDOWS = 120_000_000
"""Windows begin after what `make simulate` and the windows of other sizes may have run."""


def parse_seeds(text: str) -> list[int]:
    """`7` is one seed, `0:2000` those from 0 to 1999; several are separated by commas. Raises ValueError."""
    seeds: list[int] = []
    for part in text.split(","):
        first, colon, end = part.partition(":")
        start = int(first)
        chosen = range(start, int(end) if colon else start + 1)
        if not chosen:
            raise ValueError(f"{part} names no seed")
        seeds += chosen
    return seeds


def window(at: datetime) -> str:
    """The seeds that belong to a minute: no two of them have any in common."""
    first = _BEFORE_WINDOWS + int((at - _FIRST_WINDOW).total_seconds() // 60) * _WINDOW
    return f"{first}:{first + _WINDOW}"


def seeds_of_tests(at: datetime) -> str:
    """What the tests run: a fixed part, and a window that no run took before."""
    return ",".join([FIXED, *map(str, REGRESSIONS), window(at)])


def chunks(seeds: Sequence[int], size: int) -> list[Sequence[int]]:
    """The seeds in order, so many at a time."""
    return [seeds[at : at + size] for at in range(0, len(seeds), size)]
