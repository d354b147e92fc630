"""One table of one partition: what its rules (`facets.table.Table`) hold of each Service, and what they write."""

from collections.abc import Iterator
from typing import Any, Generic, NamedTuple

from streams.facets import invariants
from streams.facets.changes import ServiceChange
from streams.facets.initial_rows import InitialObjects
from streams.facets.table import CompanionUpdate, H, RowUpdate, Table
from streams.wire.keys import COMPANION_PREFIX
from streams.wire.records import Event, Seal
from streams.wire.row_codec import RowContext, same_content


class Write(NamedTuple):
    """A record to be written: to a table's topic (in this partition), or to `deadletter`. `value` None is a tombstone;
    `version` is the journal offset that it follows from."""

    table: str
    key: bytes
    value: bytes | None
    version: int


class TableState(Generic[H]):
    """What a table holds. `sealed` is the journal offset that it has sealed, -1 for none; `seals` are the newest by
    cluster, as read back.

    Rows that were read back are decoded when they are first needed. Work resumes after the lowest seal of the tables:
    of a commit that this table has sealed it holds all that followed from it, tombstones too, and takes nothing; of
    the next one it may have written some rows (their version says so), which are left alone.
    """

    def __init__(self, rules: Table[H]) -> None:
        self.rules = rules
        self.name = rules.name
        self.sealed = -1
        self.seals: dict[str, Seal] = {}
        self._held: dict[str, H] = {}
        self._rows: dict[str, bytes] = {}
        self._companions: dict[str, tuple[int, bytes]] = {}

    def load(self, key: str, row: bytes) -> None:
        """Take a row as read back."""
        self._rows[key] = row

    def load_companion(self, key: str, version: int, record: bytes) -> None:
        """Take a companion as read back."""
        self._companions[key] = version, record

    def __contains__(self, key: object) -> bool:
        return key in self._held or key in self._rows or key in self._companions

    def __iter__(self) -> Iterator[str]:
        """The Services of which something is held."""
        return iter({**self._held, **self._rows, **self._companions})

    def held(self, key: str) -> H:
        """What is held of a Service."""
        held = self._held.get(key)
        if held is None:
            row, companion = self._rows.pop(key, None), self._companions.pop(key, None)
            if row is None and companion is None:
                return self.rules.nothing
            held = self.rules.nothing if row is None else self.rules.read(row)
            if companion is not None:
                held = self.rules.with_companion(held, *companion)
            self._held[key] = held
        return held

    def is_nothing(self, key: str) -> bool:
        """Whether nothing is held of a Service."""
        return self.held(key) is self.rules.nothing

    def is_written(self, key: str, offset: int) -> bool:
        """Whether the row of the commit at this offset, or a later one, is there already."""
        version = self.held(key).version
        return version is not None and version >= offset

    # ---- a commit ------------------------------------------------------------------------------------

    def fold(self, ctx: RowContext, key: str, change: ServiceChange) -> Iterator[Write]:
        """The general path: the records that the change makes."""
        if ctx.offset <= self.sealed or not change.concerns(self.rules.kinds):
            return
        if not self.is_written(key, ctx.offset):
            yield from self._update(ctx, key, self.rules.fold(ctx, key, self.held(key), change))
        yield from self._update_companion(ctx.offset, key, self.rules.fold_companion(ctx, self.held(key), change))

    def fold_single(self, ctx: RowContext, key: str, event: Event) -> list[Write]:
        """Fast path for a commit's only event of the Service; empty where the general path is due."""
        if ctx.offset <= self.sealed:
            return []
        return list(self._update(ctx, key, self.rules.fold_single(ctx, key, self.held(key), event)))

    def fold_initial(self, ctx: RowContext, key: str, objects: InitialObjects, prepared: Any) -> Iterator[Write]:
        """Fast path for the first row of a Service."""
        if ctx.offset <= self.sealed:
            return
        yield from self._update(ctx, key, self.rules.fold_initial(ctx, key, objects, prepared))
        companion = self.rules.fold_initial_companion(ctx, self.held(key), objects)
        yield from self._update_companion(ctx.offset, key, companion)

    def renew(self, ctx: RowContext, key: str, row: bytes) -> Iterator[Write]:
        """The Service's row again, if this version of the fold writes it otherwise than `row`, with no cause but that.
        A deleted one, which only waits for its tombstone, is left."""
        held = self.held(key)
        if held.state == "deleted" or held.version is None or held.version >= ctx.offset:
            return
        renewed = self.rules.encode(ctx, key, held, held.version)
        if not same_content(row, renewed):
            yield from self._update(ctx, key, RowUpdate(held._replace(version=ctx.offset), renewed))  # type: ignore[attr-defined]

    def write_companion_in_row(self, key: str, version: int, row: bytes) -> Iterator[Write]:
        """The companion as the row shows it, where a worker was killed between writing the two."""
        yield from self._update_companion(version, key, self.rules.companion_in_row(self.held(key), row))

    def drop_row(self, key: str, offset: int) -> Write:
        """The tombstone of the Service's row."""
        rest = self.rules.without_row(self.held(key))
        if rest is None:
            self._held.pop(key, None)
        else:
            self._held[key] = rest
        return Write(self.name, key.encode(), None, offset)

    def _update(self, ctx: RowContext, key: str, update: RowUpdate[H] | None) -> Iterator[Write]:
        if update is not None:
            before = self._held.get(key, self.rules.nothing).version
            invariants.assert_row_follows(self.name, key, before, ctx.offset, update.row)
            self._held[key] = update.held
            yield Write(self.name, key.encode(), update.row, ctx.offset)

    def _update_companion(self, version: int, key: str, update: CompanionUpdate[H] | None) -> Iterator[Write]:
        if update is not None:
            if update.held == self.rules.nothing:
                self._held.pop(key, None)
            else:
                self._held[key] = update.held
            yield Write(self.name, COMPANION_PREFIX + key.encode(), update.record, version)
