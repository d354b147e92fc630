"""The interface of a table: the rules by which its rows follow from a Service's objects. Rules have no state.

The fold iterates over its tables without knowing them. A table is one file of this folder and a line in
`tables.FACET_TABLES`; its row is a type in `wire`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from streams.facets.changes import ServiceChange
from streams.facets.initial_rows import InitialObjects
from streams.facets.row_parts import Parts
from streams.wire.records import Cause, Event, Rejection
from streams.wire.row_codec import RowContext


class Entry(Protocol):
    """A table's state of one Service: `version` is that of its row (None: no row is written)."""

    @property
    def version(self) -> int | None:
        """The row's version."""

    @property
    def state(self) -> str:
        """The row's state."""

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """The objects that can't be read."""


H = TypeVar("H", bound=Entry)


class RowUpdate(NamedTuple, Generic[H]):
    """The entry after a change, its row, and the row's parts that have changed (key and value, None for a tombstone):
    they are written before it."""

    entry: H
    row: bytes
    parts: Sequence[tuple[bytes, bytes | None]] = ()


class CompanionUpdate(NamedTuple, Generic[H]):
    """The entry after a change, and its companion record (None: a tombstone)."""

    entry: H
    record: bytes | None


class Table(Generic[H]):
    """A table's rules. `kinds` are the objects that its rows follow from, `nothing` is the entry of a Service of
    which nothing is known. A key is `CLUSTER/NAMESPACE/SERVICE`.

    A row carries all that the next change needs, so that a table recovers from its own changelog alone. What a row
    can't carry is in its *companion*, a record of the same topic under `~held/KEY` that subscribers skip.
    """

    name: ClassVar[str]
    kinds: ClassVar[frozenset[str]]
    is_selective: ClassVar[bool] = False
    """Whether only some Services' objects are followed: `holds` tells."""
    since: ClassVar[int] = 0
    """The fold version that the table came with."""
    nothing: H

    def read(self, row: bytes) -> H:
        """The entry, from its row in the whole form. Raises msgspec.MsgspecError."""
        raise NotImplementedError

    def fold(self, ctx: RowContext, key: str, entry: H, change: ServiceChange) -> RowUpdate[H] | None:
        """The row after a change; None if its content is the same."""
        raise NotImplementedError

    def encode(self, ctx: RowContext, key: str, entry: H, previous: int | None) -> bytes:
        """The row as this version of the fold writes it, with no cause and no change."""
        raise NotImplementedError

    def objects(self, key: str, entry: H) -> Iterable[Cause]:
        """The objects that the row follows from: those that a complete snapshot does not name are deleted."""
        raise NotImplementedError

    def is_finished(self, entry: H) -> bool:
        """Whether the row is deleted and has nothing that may be needed again: its key gets a tombstone in time."""
        raise NotImplementedError

    def holds(self, entry: H, kind: str) -> bool:
        """Whether the Service's objects of a kind (one of `kinds`) are held: changes of others make no rows."""
        return True

    def takes_up(self, entry: H, kinds: frozenset[str]) -> bool:
        """Whether objects of these kinds, in a complete snapshot, make a table hold a Service's objects that did not:
        it needs all of them, though other tables have them."""
        return False

    # ---- fast paths: each returns what `fold` would, or None if it is not certain --------------------

    def current_object(self, entry: H, event: Event) -> Any:
        """The current content of the event's object, if that makes reading its new state faster; else None."""
        return None

    def is_current(self, entry: H, event: Event) -> bool:
        """Whether the entry has the event's object in this very state."""
        return False

    def fold_single(self, ctx: RowContext, key: str, entry: H, event: Event) -> RowUpdate[H] | None:
        """The row after a commit's only event of the Service, of a kind that no other table follows from."""
        return None

    def prepare(self, key: str, objects: InitialObjects) -> Any:
        """The part of a Service's first row that can be made before its snapshot ends; None: take the general path."""
        return None

    def fold_initial(self, ctx: RowContext, key: str, objects: InitialObjects, prepared: Any) -> RowUpdate[H] | None:
        """The first row of a Service that `prepare` took; None for none."""
        raise NotImplementedError

    # ---- rows in parts -------------------------------------------------------------------------------

    def with_parts(self, entry: H, parts: Parts) -> H:
        """The entry, of whose row these parts are written."""
        return entry

    def renew(self, ctx: RowContext, key: str, entry: H) -> RowUpdate[H]:
        """The row again, as `encode` makes it, after the one that is there."""
        renewed = entry._replace(version=ctx.offset)  # type: ignore[attr-defined]
        return RowUpdate(renewed, self.encode(ctx, key, entry, entry.version))

    # ---- companions ----------------------------------------------------------------------------------

    def fold_companion(self, ctx: RowContext, entry: H, change: ServiceChange) -> CompanionUpdate[H] | None:
        """The companion after a change; None if it is unchanged."""
        return None

    def fold_initial_companion(self, ctx: RowContext, entry: H, objects: InitialObjects) -> CompanionUpdate[H] | None:
        """The companion of a Service that `prepare` took; None if it needs none."""
        return None

    def with_companion(self, entry: H, version: int, record: bytes) -> H:
        """The entry, with its companion as read back."""
        return entry

    def without_row(self, entry: H) -> H | None:
        """The entry that remains once the row's key has its tombstone; None for none."""
        return None

    def companion_in_row(self, entry: H, row: bytes) -> CompanionUpdate[H] | None:
        """The companion as implied by the row, if the row is newer: its writer was killed between the two."""
        return None
