"""RFC 3339 times in UTC with milliseconds, whose text sorts chronologically."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def later(at: str, seconds: float) -> str:
    """The time `seconds` after `at`. Raises ValueError if `at` is not an RFC 3339 time."""
    return write(read_later(at, seconds))


def read_later(at: str, seconds: float) -> datetime:
    """The time `seconds` after `at`, not formatted. Raises ValueError."""
    try:
        return read(at) + timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError(f"{seconds} seconds after {at} is beyond the calendar") from error


def read(at: str) -> datetime:
    """Parses an RFC 3339 time, as UTC. Raises ValueError."""
    parsed = datetime.fromisoformat(at)
    if parsed.tzinfo is None:
        raise ValueError(f"{at!r} names no UTC offset")
    try:
        return parsed.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{at!r} is beyond the calendar") from error


def write(at: datetime) -> str:
    """Formats a time, as in 2026-11-23T22:39:32.104Z."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def milliseconds(at: str) -> int:
    """A time in milliseconds since the epoch. Raises ValueError."""
    return round(read(at).timestamp() * 1000)


def of_milliseconds(milliseconds: int) -> str:
    """A Kafka timestamp (milliseconds since the epoch); "" for no time (-1) or one beyond the calendar."""
    if milliseconds <= 0:
        return ""
    try:
        return write(_EPOCH + timedelta(milliseconds=milliseconds))
    except OverflowError:
        return ""
