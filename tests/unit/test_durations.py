"""Durations as options take them, as the Gateway API writes them, and as a person reads them."""

import re

import durationpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.runtime.durations import as_option, in_words, seconds_of

_GATEWAY_API = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}", re.ASCII)
"""GEP-2257."""

_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("30", 30), ("2.5", 2.5), ("500ms", 0.5), ("30s", 30), ("2m", 120), ("1h", 3600), ("7d", 604_800),
        ("1m30s", 90), ("1.5h", 5400), ("1h0m1s1ms", 3601.001), ("0s", 0),
    ],
)  # fmt: skip
def test_what_options_take(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "+1s", "1y", "1w", "1mm", "1us", "1h,30m", "1h 30m", "1.2.3s", "1S", ".5s"]
)
def test_what_they_do_not(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as"):
        seconds_of(text)


def test_one_that_no_clock_can_count_is_an_error() -> None:
    with pytest.raises(ValueError, match="out of range"):
        seconds_of("9" * 30 + "d")


@given(st.from_regex(_GATEWAY_API, fullmatch=True))
def test_the_library_reads_each_duration_of_the_gateway_api(text: str) -> None:
    expected = sum(int(number) * _MILLISECONDS[unit] for number, unit in re.findall(r"(\d+)(ms|h|m|s)", text))
    assert round(durationpy.from_str(text).total_seconds() * 1000) == expected


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "ever"), (0.25, "0.2 seconds"), (12.34, "12.3 seconds"), (60, "1 minute"),
        (5400.4, "1 hour and 30 minutes"), (86_400, "1 day"), (604_800, "7 days"),
    ],
)  # fmt: skip
def test_what_a_person_reads(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@given(st.integers(1, 10**9))
def test_what_is_said_as_an_option_is_read_as_that(seconds: int) -> None:
    assert seconds_of(as_option(seconds)) == seconds
