"""Checks that a facet topic is the one that a cursor is of, and still has the records after it."""

from typing import Any

import msgspec

from streams.subscription.freshness import sealed_at
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import Seal


class Compacted(Exception):
    """Records after the position were compacted away: the subscriber was away for longer than the resume window."""


class Replaced(Exception):
    """The topic is not the one that the cursor is of."""


def check_anchor(record: Any, anchor: tuple[int, str]) -> int:
    """Check that this is a seal that a cursor has applied (`anchor`: its newest journal offset, and time); returns its
    offset. Raises Replaced."""
    applied, at = anchor
    if not (record.key or b"").startswith(SEAL_PREFIX) or record.value is None:
        raise Replaced(f"{record.topic}[{record.partition}] offset {record.offset} is not the cursor's seal")
    try:
        seal = msgspec.json.decode(record.value, type=Seal)
    except msgspec.MsgspecError as error:
        raise Replaced(f"{record.topic}[{record.partition}] offset {record.offset} is no seal: {error}") from error
    # In cursors of older versions the time is a commit's own.
    if seal.offset > applied or min(sealed_at(seal), seal.at) > at:
        sealed = f"{seal.offset} at {sealed_at(seal)}"
        raise Replaced(f"{record.topic}[{record.partition}] offset {record.offset} seals {sealed}")
    return seal.offset
