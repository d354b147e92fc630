"""Endpoints as one text: their canonical JSON in byte order, joined by commas, as events and rows carry them.

`"` is escaped inside a JSON string, so the bytes `{"address":"` occur only at the beginning of an endpoint, and so mark
the borders.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

BORDER = b'{"address":"'
_COMMA_BORDER = b"," + BORDER
_NEAR = 256
_FEW = 16
_encode = msgspec.json.encode


class TextDifference(NamedTuple):
    """The part in which two texts differ, as offsets: whole endpoints of the old text, and of the new one."""

    start: int
    old_end: int
    new_end: int


def pieces(text: bytes) -> list[bytes]:
    """The endpoints of a text, which may end with a comma."""
    if not text:
        return []
    first, *others = text.removesuffix(b",").split(_COMMA_BORDER)
    return [first, *[BORDER + other for other in others]]


def address_text(endpoint: bytes) -> bytes:
    """The endpoint's text up to the end of its address."""
    return endpoint[: endpoint.index(b'"', len(BORDER)) + 1]


def text_difference(old: bytes, new: bytes) -> TextDifference:
    """Where two texts differ, with an equal endpoint before and after it, if any, so that the order can be checked."""
    start = _start_of_difference(old, new)
    old_end = _end_of_difference(old, new, start)
    return TextDifference(start, old_end, old_end + len(new) - len(old))


def endpoint_range(text: bytes, address: str) -> tuple[int, int]:
    """Where the endpoint with an address is in a text; equal offsets if there is none. Raises ValueError if there are
    several."""
    begin = BORDER + _encode(address)[1:-1] + b'"'
    start = last_of(text, begin)
    if start < 0:
        return 0, 0
    if last_of(text, begin, start) >= 0:
        raise ValueError(f"the address {address!r:.80} is there twice")
    return start, _end_of_endpoint(text, start)


def last_of(text: bytes, begin: bytes, end: int | None = None) -> int:
    """Where the last endpoint that begins so is in a text, before `end`; -1 if there is none.

    From the right, as CPython's search stops at the rare `{` there, and from the left at every quotation mark."""
    return text.rfind(begin, 0, end)


def insertion(text: bytes, endpoint: bytes) -> int:
    """Where an endpoint with an address of its own belongs in a text."""
    low, high = 0, len(text)
    while low < high:
        start = text.rfind(BORDER, low, (low + high) // 2 + len(BORDER))
        # They differ in their addresses, however long the rest is.
        if text[start : start + len(endpoint)] < endpoint:
            low = min(_end_of_endpoint(text, start) + 1, len(text))
        else:
            high = start
    return low


def edited(text: bytes, edits: Sequence[tuple[int, int, bytes]]) -> bytes:
    """The text with endpoints in place of ranges; ranges are in order, and an empty endpoint removes."""
    if len(edits) == 1:
        ((start, end, endpoint),) = edits
        if start < end and endpoint:
            return b"%b%b%b" % (text[:start], endpoint, text[end:])
    parts: list[bytes] = []
    place = 0
    for start, end, endpoint in edits:
        parts += (text[place:start].strip(b","), endpoint)
        place = end
    parts.append(text[place:].strip(b","))
    return b",".join([part for part in parts if part])


def _end_of_endpoint(text: bytes, start: int) -> int:
    end = text.find(_COMMA_BORDER, start)
    return len(text) if end < 0 else end


def without(endpoints: list[bytes], excluded: list[bytes]) -> list[bytes]:
    """The endpoints that are not among the excluded ones."""
    lookup = excluded if len(excluded) < _FEW else set(excluded)
    return [endpoint for endpoint in endpoints if endpoint not in lookup]


def _start_of_difference(old: bytes, new: bytes) -> int:
    """Where the differing endpoints begin, in both texts, including the equal endpoint before them, if any, so
    that the order can be checked."""
    # At most `_NEAR` fewer bytes than are equal.
    low, high = 0, min(len(old), len(new)) + 1
    while high - low > _NEAR:
        middle = (low + high) // 2
        if old.startswith(new[low:middle], low):
            low = middle
        else:
            high = middle
    start = max(old.rfind(BORDER, 0, low), 0)
    return max(old.rfind(BORDER, 0, start), 0)


def _end_of_difference(old: bytes, new: bytes, start: int) -> int:
    """Where the differing endpoints end in the old text, including the equal endpoint after them, if any."""
    size, new_size = len(old), len(new)
    low, high = 0, min(size, new_size) - start + 1
    while high - low > _NEAR:
        middle = (low + high) // 2
        if old.endswith(new[new_size - middle : new_size - low], 0, size - low):
            low = middle
        else:
            high = middle
    end = old.find(BORDER, size - low)
    end = old.find(BORDER, end + 1) if end >= 0 else end
    return size if end < 0 else end
