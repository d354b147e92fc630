"""Compares the records that were folded here with those that the workers wrote: the same bytes under the same versions.

Both sides come in the order of the journal's offsets, either first. An offset is compared once both have its seal; what
the first side has waits as a hash for each record. A difference is a fault only if every table has been read up to it:
that a part of the journal was lost may be in one table only, and makes the later offsets of all differ. If too many
records wait (the workers are away), the oldest offsets are dropped and not compared.
"""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from streams.fold.table import Write
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import FOLD_VERSION, Seal

MAX_WAITING = 100_000
"""How many records of a partition may wait to be compared: some 20 MB."""

_decode_seal = msgspec.json.Decoder(Seal).decode

_Records = dict[bytes, int | None]
"""The records of a journal offset: the hash of each value by key, None for a tombstone."""


class Cause(StrEnum):
    """Why the tables have other records than were folded here."""

    FAULT = "the same fold version made other records"
    FOLD_VERSION = "another fold version writes the tables"
    EXPIRED = "the worker has lost a part of the journal"


class TablesDiffer(Exception):
    """The tables have other records than were folded here. The tables count."""

    def __init__(self, cause: Cause, text: str) -> None:
        super().__init__(f"{text}: {cause}")
        self.cause = cause


class Comparison:
    """One partition. `folded` and `read` take the records of the two sides, and raise TablesDiffer. `compared` counts
    records that are equal, `dropped` those that could not wait."""

    def __init__(self, tables: Iterable[str], limit: int = MAX_WAITING) -> None:
        self.compared = 0
        self.dropped = 0
        self._tables = {table: _Table() for table in tables}
        self._limit = limit
        self._fault: tuple[int, TablesDiffer] | None = None

    def begin(self, table: str, sealed: int) -> None:
        """The table was loaded with this offset sealed: later ones are compared."""
        self._tables[table].settled = sealed

    def loaded(self, table: str, key: bytes, value: bytes | None, version: int) -> None:
        """A record beyond the table's seal was loaded: it isn't folded, and need not be read again."""
        self._tables[table].put_read(version, key, _digest(value))
        self._tables[table].put_folded(version, key, _digest(value))

    def folded(self, offset: int, writes: Iterable[Write]) -> None:
        """Take all records that a commit makes."""
        for write in writes:
            self._tables[write.table].put_folded(offset, write.key, _digest(write.value))
        for table in self._tables.values():
            table.folded_to = offset
        self._settle()
        self._limit_waiting()

    def has(self, name: str, key: bytes, value: bytes | None, version: int) -> bool:
        """Whether the same record was folded, and waits to be compared."""
        folded = self._tables[name].folded.get(version)
        return folded is not None and key in folded and folded[key] == _digest(value)

    def read(self, name: str, key: bytes, value: bytes | None, version: int) -> None:
        """Take a readable record of a table's changelog."""
        table = self._tables[name]
        if version <= table.settled:
            return
        table.put_read(version, key, _digest(value))
        if key.startswith(SEAL_PREFIX) and value is not None:
            seal = _decode_seal(value)
            if seal.fold != FOLD_VERSION:
                table.causes[version] = Cause.FOLD_VERSION
            elif seal.lost:
                table.causes.setdefault(version, Cause.EXPIRED)
            if not seal.more:
                if table.has_hole:
                    table.skip_to(version)
                else:
                    table.finished.add(version)
                table.sealed_to = max(table.sealed_to, version)
                self._settle()
        self._limit_waiting()

    def skip(self, table: str) -> None:
        """Records of the table's changelog are gone: up to its next seal nothing is compared."""
        self._tables[table].has_hole = True

    def _settle(self) -> None:
        """Compare the offsets that both sides have sealed."""
        for name, table in self._tables.items():
            for offset in range(table.settled + 1, table.complete_to + 1):
                difference = self._compare(name, table, offset)
                if difference is not None and difference.cause is not Cause.FAULT:
                    raise difference
                if difference is not None and (self._fault is None or offset < self._fault[0]):
                    self._fault = offset, difference
        if self._fault is not None:
            at, fault = self._fault
            if all(table.complete_to >= at for table in self._tables.values()):
                raise fault

    def _compare(self, name: str, table: "_Table", offset: int) -> TablesDiffer | None:
        folded, read = table.folded.pop(offset, {}), table.read.pop(offset, {})
        table.waiting -= len(folded) + len(read)
        cause = table.causes.pop(offset, Cause.FAULT)
        is_finished = offset in table.finished
        table.finished.discard(offset)
        table.settled = offset
        if folded == read:
            self.compared += len(folded)
        elif not is_finished:
            # Its worker was killed among its records, and the journal expired before another wrote them.
            return TablesDiffer(Cause.EXPIRED, f"{name}: offset {offset} was never sealed")
        elif different := _different(folded, read):
            keys = ", ".join(key.decode(errors="replace") for key in different[:3])
            return TablesDiffer(cause, f"{name} version {offset}: {keys}")
        return None

    def _limit_waiting(self) -> None:
        while sum(table.waiting for table in self._tables.values()) > self._limit:
            table = max(self._tables.values(), key=lambda table: table.waiting)
            self.dropped += table.drop_oldest()


class _Table:
    """Offsets up to `settled` are compared, or need not be. `folded` and `read` wait; `causes` is why a seal that was
    read is not the one that was folded, if it isn't; `finished` are the offsets whose last seal was read."""

    __slots__ = ("causes", "finished", "folded", "folded_to", "has_hole", "read", "sealed_to", "settled", "waiting")

    def __init__(self) -> None:
        self.settled = self.folded_to = self.sealed_to = -1
        self.folded: dict[int, _Records] = {}
        self.read: dict[int, _Records] = {}
        self.causes: dict[int, Cause] = {}
        self.finished: set[int] = set()
        self.waiting = 0
        self.has_hole = False

    @property
    def complete_to(self) -> int:
        """The highest offset that both sides have sealed."""
        return min(self.folded_to, self.sealed_to)

    def put_folded(self, offset: int, key: bytes, digest: int | None) -> None:
        self._put(self.folded, offset, key, digest)

    def put_read(self, offset: int, key: bytes, digest: int | None) -> None:
        self._put(self.read, offset, key, digest)

    def _put(self, side: dict[int, _Records], offset: int, key: bytes, digest: int | None) -> None:
        if offset > self.settled:
            records = side.setdefault(offset, {})
            self.waiting += key not in records
            records[key] = digest

    def skip_to(self, offset: int) -> None:
        """Compare nothing up to an offset."""
        self.has_hole = False
        for side in (self.folded, self.read):
            for passed in [each for each in side if each <= offset]:
                self.waiting -= len(side.pop(passed))
        self.finished = {each for each in self.finished if each > offset}
        self.settled = max(self.settled, offset)

    def drop_oldest(self) -> int:
        """Drop the oldest offset that waits; returns how many records that were."""
        before = self.waiting
        self.skip_to(min(side_first for side in (self.folded, self.read) for side_first in list(side)[:1]))
        return before - self.waiting


def _digest(value: bytes | None) -> int | None:
    return None if value is None else hash(value)


def _different(folded: _Records, read: _Records) -> list[bytes]:
    """The keys whose records differ. A tombstone for a key that nothing was folded for is a worker's, over a record
    that can't be read."""
    return [
        key
        for key in sorted(folded.keys() | read.keys())
        if (folded[key] != read[key] if key in folded and key in read else key in folded or read[key] is not None)
    ]
