"""Pages of a sorted list, by key: a page goes on after the last row of the one before, wherever that row is by now.

So a row that is there all the time, and whose place in the order does not change, comes once and only once, whatever
is added, removed or changed between two pages. (By number, a row that goes would make the next one be left out.)
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from streams.serve.http.query import BadParameter

_Item = TypeVar("_Item")
Value = str | int
_DIGEST_BYTES = 8


class Order(NamedTuple):
    """Rows by a value, and where that is the same by key; `descending` is of the value."""

    value: Callable[[Any], Value]
    key: Callable[[Any], tuple[Value, ...]]
    descending: bool = False


class Page(NamedTuple):
    """Some rows in their order, and the cursor of the next page ("": this is the last one)."""

    items: Sequence[Any]
    next: str


def paginate(items: Iterable[_Item], order: Order, query: str, limit: int, after: str) -> Page:
    """The page behind the cursor `after` ("": the first one). `query` is what the list is of: a cursor is good for no
    other. Raises BadParameter."""
    ordered = sorted(skip(items, order, query, after), key=order.key)
    ordered.sort(key=order.value, reverse=order.descending)
    page = ordered[:limit]
    return Page(page, _encode(order, page[-1], query) if len(ordered) > limit else "")


def skip(items: Iterable[_Item], order: Order, query: str, after: str) -> list[_Item]:
    """The items behind the cursor `after` ("": all), as they come. Raises BadParameter."""
    if not after:
        return list(items)
    value, key = _decode(after, query)
    try:
        return [item for item in items if _is_after(order, item, value, key)]
    except TypeError:
        raise _broken() from None


def _is_after(order: Order, item: Any, value: Value, key: tuple[Value, ...]) -> bool:
    own: Any = order.value(item)
    if own != value:
        return bool(own < value if order.descending else own > value)
    return order.key(item) > key


def _encode(order: Order, item: Any, query: str) -> str:
    place = msgspec.json.encode((order.value(item), order.key(item)))
    return base64.urlsafe_b64encode(_digest(query, place) + place).rstrip(b"=").decode()


def _decode(text: str, query: str) -> tuple[Value, tuple[Value, ...]]:
    try:
        raw = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        digest, place = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
        if digest != _digest(query, place):
            raise _broken()
        return msgspec.json.decode(place, type=tuple[Value, tuple[Value, ...]])
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise _broken() from None


def _digest(query: str, place: bytes) -> bytes:
    """Shows that a cursor is whole, and of this query. It is no secret: a made-up one is a place in the list, too."""
    return hashlib.blake2b(b"%b\n%b" % (query.encode(), place), digest_size=_DIGEST_BYTES).digest()


def _broken() -> BadParameter:
    return BadParameter(
        "after",
        "parameter after must be the `next` of a page of this very query: it is damaged, or the filters or the order "
        "are others; leave it out to begin anew",
    )
