"""Durations: parsed in Go's form by durationpy (as in Kubernetes' client), put into words by humanize."""

import re
from datetime import timedelta

import durationpy
import humanize

_NUMBER = re.compile(r"\d+(\.\d+)?")
_DURATION = re.compile(rf"({_NUMBER.pattern}(ms|s|m|h|d))+")
_MINUTE = 60


def seconds_of(text: str) -> float:
    """The seconds of a duration such as 500ms, 30s, 2m, 1h, 7d or 1m30s; a bare number is in seconds. Raises
    ValueError."""
    if _NUMBER.fullmatch(text):
        return float(text)
    # The library accepts more: years, signs, and anything between two units.
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration such as 500ms, 30s or 2m")
    return float(durationpy.from_str(text).total_seconds())


def in_words(seconds: float) -> str:
    """A duration in words; a negative one is for ever, as in Kafka's configurations."""
    if seconds < 0:
        return "ever"
    rounded = timedelta(seconds=round(seconds, 1 if seconds < _MINUTE else 0))
    return humanize.precisedelta(rounded, format="%g")


def as_option(seconds: float) -> str:
    """A duration in the form that `seconds_of` parses."""
    return str(durationpy.to_str(timedelta(seconds=seconds), extended=False))
