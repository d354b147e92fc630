"""The byte layout of a facet row: the one module that knows it.

A row is compact JSON whose first fields are those of `RowHead`, in its order; `state` stands within the first
`_HEAD_BYTES` bytes, before any free text. Rows are written by joining bytes (`encode_head` followed by the
table's own fields), so that a change of one endpoint doesn't encode all the others.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from streams.wire.records import Cause, Rejection

STAMPS = frozenset({"version", "previous", "asOf", "cause", "change", "origin"})
"""The fields that give a row's place in its journal and what it changed, not the Service's state."""

_HEAD_BYTES = 1024
_DELETED = b'"state":"deleted"'
_encode = msgspec.json.encode


class RowContext(NamedTuple):
    """What all rows of one commit share: its `offset` is their version; `as_of` is encoded. `stale_since` and `lost`
    say what the cluster's state does to its rows."""

    cluster: str
    offset: int
    as_of: bytes
    stale_since: str
    lost: bool


class _AsOf(msgspec.Struct):
    at: str


class Stamp(msgspec.Struct, rename="camel"):
    """A row's place in its journal."""

    version: int
    previous: int | None
    as_of: _AsOf


_decode_stamp = msgspec.json.Decoder(Stamp).decode


def encode_head(
    ctx: RowContext,
    key: str,
    previous: int | None,
    *,
    state: str,
    reason: str,
    rejected: Sequence[Rejection],
    causes: Sequence[Cause],
) -> bytes:
    """What the rows of all tables begin with, without the closing brace."""
    cluster, namespace, name = key.split("/")
    start = (
        f'{{"cluster":"{cluster}","namespace":"{namespace}","name":"{name}","version":{ctx.offset},'
        f'"previous":{"null" if previous is None else previous},"state":"{state}","reason":'
    )
    head = b'%b%b,"asOf":%b,"cause":%b' % (
        start.encode(),
        _encode(reason) if reason else b'""',
        ctx.as_of,
        _encode(causes),
    )
    return b'%b,"rejected":%b' % (head, _encode(rejected)) if rejected else head


def stamp_of(row: bytes) -> Stamp:
    """The row's version, the one it replaces, and its commit's time. Raises msgspec.MsgspecError."""
    return _decode_stamp(row)


def is_deleted(row: bytes) -> bool:
    """Whether the row's state is `deleted`, without decoding it."""
    return row.find(_DELETED, 0, _HEAD_BYTES) > 0


def same_content(first: bytes, second: bytes) -> bool:
    """Whether two rows are equal but for their stamps."""
    contents: list[dict[str, Any]] = [
        {name: value for name, value in msgspec.json.decode(row).items() if name not in STAMPS}
        for row in (first, second)
    ]
    return contents[0] == contents[1]
