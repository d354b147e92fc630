"""RFC 3339 times in UTC with milliseconds: as text they sort as they follow each other."""

from datetime import UTC, datetime, timedelta


def later(at: str, seconds: float) -> str:
    """The time `seconds` after `at`. Raises ValueError for what is no RFC 3339 time."""
    return write(read(at) + timedelta(seconds=seconds))


def read(at: str) -> datetime:
    """Raises ValueError for what is no RFC 3339 time."""
    return datetime.fromisoformat(at).astimezone(UTC)


def write(at: datetime) -> str:
    """As in 2026-11-23T22:39:32.104Z."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
