"""What a table is: the rules by which its rows follow from a Service's objects. Rules hold no state of their own.

The fold goes through its tables without knowing them. A table is one file of this folder and a place in
`tables.FACET_TABLES`; what is on the wire of it is a type in `wire`.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from streams.facets.changes import ServiceChange
from streams.facets.initial_rows import InitialObjects
from streams.wire.records import Cause, Event, Rejection
from streams.wire.row_codec import RowContext


class Held(Protocol):
    """What every table holds of a Service: `version` is that of its row (None: no row is written)."""

    @property
    def version(self) -> int | None:
        """The row's version."""

    @property
    def state(self) -> str:
        """The row's state."""

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """The objects that can't be read."""


H = TypeVar("H", bound=Held)


class RowUpdate(NamedTuple, Generic[H]):
    """What is held after a change, and the row that says it."""

    held: H
    row: bytes


class CompanionUpdate(NamedTuple, Generic[H]):
    """What is held after a change, and the companion record that says it (None: a tombstone)."""

    held: H
    record: bytes | None


class Table(Generic[H]):
    """A table's rules. `kinds` are the objects that its rows follow from, `nothing` is what is held of a Service of
    which nothing is known. A key is `CLUSTER/NAMESPACE/SERVICE`.

    A row carries all that the next change needs, so that a table recovers from its own changelog alone. What a row
    can't carry is in its *companion*, a record of the same topic under `~held/KEY` that subscribers skip.
    """

    name: ClassVar[str]
    kinds: ClassVar[frozenset[str]]
    nothing: H

    def read(self, row: bytes) -> H:
        """What is held, from the row as it was written. Raises msgspec.MsgspecError."""
        raise NotImplementedError

    def fold(self, ctx: RowContext, key: str, held: H, change: ServiceChange) -> RowUpdate[H] | None:
        """The row after a change; None where it says what it said."""
        raise NotImplementedError

    def encode(self, ctx: RowContext, key: str, held: H, previous: int | None) -> bytes:
        """The row as this version of the fold writes it, with no cause and no change."""
        raise NotImplementedError

    def objects(self, key: str, held: H) -> Iterable[Cause]:
        """The objects that the row follows from: those that a complete snapshot does not name are deleted."""
        raise NotImplementedError

    def is_finished(self, held: H) -> bool:
        """Whether the row is deleted and holds nothing that may count again: its key gets a tombstone in time."""
        raise NotImplementedError

    # ---- fast paths: each gives what `fold` would, or None where it can't be sure --------------------

    def held_object(self, held: H, event: Event) -> Any:
        """The event's object as held, where a new state of it is read faster beside it; else None."""
        return None

    def is_current(self, held: H, event: Event) -> bool:
        """Whether the event's object is held in this very state."""
        return False

    def fold_single(self, ctx: RowContext, key: str, held: H, event: Event) -> RowUpdate[H] | None:
        """The row after a commit's only event of the Service, of a kind that no other table follows from."""
        return None

    def prepare(self, key: str, objects: InitialObjects) -> Any:
        """What of a Service's first row is known before its snapshot ends; None where the general path is due."""
        return None

    def fold_initial(self, ctx: RowContext, key: str, objects: InitialObjects, prepared: Any) -> RowUpdate[H]:
        """The first row of a Service that `prepare` took."""
        raise NotImplementedError

    # ---- companions ----------------------------------------------------------------------------------

    def fold_companion(self, ctx: RowContext, held: H, change: ServiceChange) -> CompanionUpdate[H] | None:
        """The companion after a change; None where it stays as it is."""
        return None

    def fold_initial_companion(self, ctx: RowContext, held: H, objects: InitialObjects) -> CompanionUpdate[H] | None:
        """The companion of a Service that `prepare` took; None where it needs none."""
        return None

    def with_companion(self, held: H, version: int, record: bytes) -> H:
        """What is held, with its companion as read back."""
        return held

    def without_row(self, held: H) -> H | None:
        """What is still held once the row's key has its tombstone; None for nothing."""
        return None

    def companion_in_row(self, held: H, row: bytes) -> CompanionUpdate[H] | None:
        """The companion as the row shows it, where the row is newer: its writer was killed between the two."""
        return None
