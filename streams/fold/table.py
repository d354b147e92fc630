"""One table of one partition: its entry for each Service, and the records that its rules (`facets.table.Table`)
make."""

from collections.abc import Iterable, Iterator
from typing import Any, Generic, NamedTuple

from streams.facets import invariants
from streams.facets.changes import ServiceChange
from streams.facets.initial_rows import InitialObjects
from streams.facets.row_parts import PartRecords, find_in, join_row
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
    """A table's state. `sealed` is the journal offset that it has sealed, -1 for none; `seals` are the newest by
    cluster, as read back.

    Rows that were read back are decoded when they are first needed. Work resumes after the lowest seal of the tables:
    a commit that this table has sealed is ignored, as it has all its records, tombstones too; of the next commit it may
    have written some rows (their version tells), which are left alone.
    """

    def __init__(self, rules: Table[H]) -> None:
        self.rules = rules
        self.name = rules.name
        self.is_selective = rules.is_selective
        self._has_companions = type(rules).fold_initial_companion is not Table.fold_initial_companion
        self.sealed = -1
        self.seals: dict[str, Seal] = {}
        self._entries: dict[str, H] = {}
        self._rows: dict[str, tuple[bytes, PartRecords]] = {}
        self._companions: dict[str, tuple[int, bytes]] = {}

    def load(self, key: str, row: bytes, parts: PartRecords) -> None:
        """Take a row as read back, with all parts that there are of it."""
        self._rows[key] = row, parts

    def load_companion(self, key: str, version: int, record: bytes) -> None:
        """Take a companion as read back."""
        self._companions[key] = version, record

    def __contains__(self, key: object) -> bool:
        return key in self._entries or key in self._rows or key in self._companions

    def __iter__(self) -> Iterator[str]:
        """The Services that have an entry."""
        return iter({**self._entries, **self._rows, **self._companions})

    def entry(self, key: str) -> H:
        """The entry of a Service."""
        entry = self._entries.get(key)
        if entry is None:
            loaded, companion = self._rows.pop(key, None), self._companions.pop(key, None)
            if loaded is None and companion is None:
                return self.rules.nothing
            entry = self.rules.nothing
            if loaded is not None:
                row, parts, _ = join_row(self.name, loaded[0], find_in(loaded[1], key))
                entry = self.rules.read(row)
                entry = self.rules.with_parts(entry, parts) if parts else entry
            if companion is not None:
                entry = self.rules.with_companion(entry, *companion)
            self._entries[key] = entry
        return entry

    def is_written(self, key: str, offset: int) -> bool:
        """Whether the row of the commit at this offset, or a later one, is already written."""
        version = self.entry(key).version
        return version is not None and version >= offset

    def is_done(self, key: str, offset: int) -> bool:
        """Whether nothing is left to be made of the commit at this offset for the Service."""
        return offset <= self.sealed or self.is_written(key, offset)

    def follows(self, key: str, kind: str) -> bool:
        """Whether a change of an object of this kind may change the Service's row."""
        rules = self.rules
        return kind in rules.kinds and (not self.is_selective or rules.holds(self.entry(key), kind))

    # ---- a commit ------------------------------------------------------------------------------------

    def fold(self, ctx: RowContext, key: str, change: ServiceChange) -> Iterator[Write]:
        """The general path: the records that the change makes."""
        if ctx.offset <= self.sealed or not change.concerns(self.rules.kinds):
            return
        if not self.is_written(key, ctx.offset):
            yield from self._update(ctx, key, self.rules.fold(ctx, key, self.entry(key), change))
        yield from self._update_companion(ctx.offset, key, self.rules.fold_companion(ctx, self.entry(key), change))

    def fold_single(self, ctx: RowContext, key: str, event: Event) -> list[Write]:
        """Fast path for a commit's only event of the Service; empty if the general path must be taken."""
        if ctx.offset <= self.sealed:
            return []
        return self._update(ctx, key, self.rules.fold_single(ctx, key, self.entry(key), event))

    def fold_initial(self, ctx: RowContext, key: str, objects: InitialObjects, prepared: Any) -> list[Write]:
        """Fast path for the first row of a Service."""
        if ctx.offset <= self.sealed:
            return []
        writes = self._update(ctx, key, self.rules.fold_initial(ctx, key, objects, prepared))
        if not self._has_companions:
            return writes
        companion = self.rules.fold_initial_companion(ctx, self.entry(key), objects)
        return writes if companion is None else [*writes, *self._update_companion(ctx.offset, key, companion)]

    def renew(self, ctx: RowContext, key: str, row: bytes) -> Iterator[Write]:
        """The Service's row again, without a cause, if this version of the fold makes it differently from `row`. A
        deleted one, which only awaits its tombstone, is left."""
        entry = self.entry(key)
        if entry.state == "deleted" or entry.version is None or entry.version >= ctx.offset:
            return
        renewed = self.rules.renew(ctx, key, entry)
        if not same_content(row, renewed.row):
            yield from self._update(ctx, key, renewed)

    def write_companion_in_row(self, key: str, version: int, row: bytes) -> Iterator[Write]:
        """The companion as implied by the row, if a worker was killed between writing the two."""
        yield from self._update_companion(version, key, self.rules.companion_in_row(self.entry(key), row))

    def drop_row(self, key: str, offset: int) -> Write:
        """The tombstone of the Service's row."""
        remainder = self.rules.without_row(self.entry(key))
        if remainder is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = remainder
        return Write(self.name, key.encode(), None, offset)

    def _update(self, ctx: RowContext, key: str, update: RowUpdate[H] | None) -> list[Write]:
        if update is None:
            return []
        before = self._entries.get(key, self.rules.nothing).version
        invariants.assert_row_follows(self.name, key, before, ctx.offset, update.row)
        self._entries[key] = update.entry
        row = Write(self.name, key.encode(), update.row, ctx.offset)
        if not update.parts:
            return [row]
        writes = [Write(self.name, part, value, ctx.offset) for part, value in update.parts]
        writes.append(row)
        return writes

    def _update_companion(self, version: int, key: str, update: CompanionUpdate[H] | None) -> Iterator[Write]:
        if update is not None:
            if update.entry == self.rules.nothing:
                self._entries.pop(key, None)
            else:
                self._entries[key] = update.entry
            yield Write(self.name, COMPANION_PREFIX + key.encode(), update.record, version)


def followers_by_kind(tables: Iterable[TableState[Any]]) -> dict[str, list[TableState[Any]]]:
    """The tables that follow objects of a kind, if only of some Services."""
    followers: dict[str, list[TableState[Any]]] = {}
    for table in tables:
        for kind in table.rules.kinds:
            followers.setdefault(kind, []).append(table)
    return followers
