"""What a log has of a journal record: an entry.

The entry is canonical JSON (RFC 8785) with the SHA-256 of key and value in hex, null for null:

    {"key":"2c70...","offset":17,"timestamp":1764000000000,"value":"9f86..."}

It has digests and not the bytes: entries of tlog-tiles are at most 65,535 bytes, and commits may be larger; a log can
be published without telling what is in the journal; and it stays small when the journal expires.
"""

import re
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Entry(NamedTuple):
    """`offset` is the record's in its partition, `timestamp` Kafka's, in milliseconds since the epoch; key and value
    are their SHA-256 in hex."""

    key: str | None
    offset: int
    timestamp: int
    value: str | None

    def encode(self) -> bytes:
        """The canonical bytes, which the leaf's hash is of."""
        return orjson.dumps(self._asdict(), option=orjson.OPT_SORT_KEYS)

    @property
    def content(self) -> tuple[str | None, str | None]:
        """What the record says, wherever it stands."""
        return self.key, self.value


def entry_of(offset: int, timestamp: int, key: bytes | None, value: bytes | None) -> Entry:
    """The entry of a record."""
    return Entry(_digest(key), offset, timestamp, _digest(value))


def read_entry(encoded: bytes) -> Entry:
    """Raises ValueError where these are not an entry's canonical bytes."""
    decoded: Any = orjson.loads(encoded)
    if not isinstance(decoded, dict) or sorted(decoded) != sorted(Entry._fields):
        raise ValueError("not an entry of a journal record")
    entry = Entry(**decoded)
    numbers = all(type(number) is int and number >= 0 for number in (entry.offset, entry.timestamp))
    digests = all(each is None or (isinstance(each, str) and _DIGEST.fullmatch(each)) for each in entry.content)
    if not numbers or not digests or entry.encode() != encoded:
        raise ValueError("not an entry of a journal record")
    return entry


def _digest(value: bytes | None) -> str | None:
    return None if value is None else sha256(value).hexdigest()
