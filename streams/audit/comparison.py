"""The first record of a journal that is not as it was taken."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from streams.audit.entries import Entry

Kind = Literal["altered", "reordered", "missing", "inserted"]

Entries = Callable[[], Iterable[Entry]]
"""Gives the entries anew, from the same one on: they are read again only where something differs."""


class Difference(NamedTuple):
    """The first record that differs: its offset, what happened to it, and how that shows."""

    offset: int
    kind: Kind
    detail: str


def first_difference(taken: Entries, present: Entries) -> Difference | None:
    """The first record that was taken and is not present as it was. Both are in the order of offsets, and begin at the
    same one."""
    for was, now in _pairs(taken(), present()):
        if now is None:
            moved = _offset_of(present(), was)
            where = (
                f"it is now at offset {moved}" if moved is not None else "nothing is at its offset, nor is it elsewhere"
            )
            return Difference(was.offset, "missing" if moved is None else "reordered", where)
        if now != was:
            return _explain(was, now, taken, present)
    return None


def _pairs(taken: Iterable[Entry], present: Iterable[Entry]) -> Iterator[tuple[Entry, Entry | None]]:
    """Each entry that was taken, with the one that is present at its offset."""
    rest = iter(present)
    now = next(rest, None)
    for was in taken:
        while now is not None and now.offset < was.offset:
            now = next(rest, None)
        yield was, now if now is not None and now.offset == was.offset else None


def _explain(was: Entry, now: Entry, taken: Entries, present: Entries) -> Difference:
    offset = was.offset
    if now.content == was.content:
        return Difference(offset, "altered", f"Kafka took it at {was.timestamp} ms, and now says {now.timestamp} ms")
    moved = _offset_of(present(), was)
    came_from = _offset_of(taken(), now)
    if moved is not None and came_from is not None:
        return Difference(
            offset, "reordered", f"it is now at offset {moved}, and at its own is what was taken at {came_from}"
        )
    if moved is not None:
        return Difference(
            offset, "inserted", f"at this offset is a record that was never taken; what was there is at {moved}"
        )
    if came_from is not None and not any(e.offset == came_from and e.content == now.content for e in present()):
        return Difference(offset, "missing", f"it is nowhere, and at its offset is what was taken at {came_from}")
    parts = [name for name in ("key", "value") if getattr(now, name) != getattr(was, name)]
    copied = f", a copy of offset {came_from}" if came_from is not None else ""
    return Difference(
        offset, "altered", f"its {' and '.join(parts)} {'is' if len(parts) == 1 else 'are'} another{copied}"
    )


def _offset_of(entries: Iterable[Entry], sought: Entry) -> int | None:
    return next((entry.offset for entry in entries if entry.content == sought.content), None)
