"""The past as commands and the server ask for it: from the index where it has it, else by a replay of the journal."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from streams.history.collectors import AddressHoldings, RowCollector
from streams.history.coverage import Coverage
from streams.history.queries import Until
from streams.history.replay import Replay
from streams.index.build import behind, check_log, check_position, read_kafka
from streams.index.database import IndexUnusable, lock_path
from streams.index.reader import IndexReader
from streams.runtime.process_lock import owner_of
from streams.subscription.rows import EVERYTHING, Filter, Row
from streams.wire.records import FOLDED_TABLES, TABLES

_WRITTEN_SECONDS = 2.0
_LOOK_SECONDS = 0.05

_Collector = TypeVar("_Collector", bound=RowCollector)


class Past(Protocol):
    """Rows up to a point. `coverage` is that of the last question (see `history.coverage`)."""

    @property
    def coverage(self) -> Mapping[int, Coverage]:
        """What the answer covers, by partition."""

    def rows_at(self, until: Until, selection: Filter = EVERYTHING, tables: tuple[str, ...] = TABLES) -> list[Row]:
        """The newest row of each selected Service in each of these tables, without tombstones. Raises FacetsError."""

    def owners(self, address: str, until: Until) -> list[Row]:
        """The rows of the Services that have an address, among others. Raises FacetsError."""

    def holdings(self, address: str, ports: tuple[int, ...], until: Until) -> AddressHoldings:
        """Which Services have an address, and had it. Raises FacetsError."""

    def collect(
        self,
        make_collector: Callable[[], _Collector],
        until: Until,
        selection: Filter = EVERYTHING,
        tables: tuple[str, ...] = TABLES,
        since: str = "",
        last: int = 0,
    ) -> list[_Collector]:
        """Collectors with the selected rows. Those before `since` may be left out, and with `last` those of a Service
        that are not among so many of its newest in their table. Raises FacetsError."""


class FoldedPast:
    """See Past."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    @property
    def coverage(self) -> Mapping[int, Coverage]:
        """See Past."""
        return self._replay.coverage

    def rows_at(self, until: Until, selection: Filter = EVERYTHING, tables: tuple[str, ...] = TABLES) -> list[Row]:
        """See Past."""
        return list(self._replay.tables(until, selection, tables).values())

    def owners(self, address: str, until: Until) -> list[Row]:
        """See Past: the rows of all."""
        return self.rows_at(until, EVERYTHING, FOLDED_TABLES)

    def holdings(self, address: str, ports: tuple[int, ...], until: Until) -> AddressHoldings:
        """See Past."""
        make_collector = partial(AddressHoldings, address, ports)
        holdings = make_collector()
        for collector in self._replay.collect(make_collector, until, EVERYTHING, FOLDED_TABLES):
            holdings.add(collector)
        return holdings

    def collect(
        self,
        make_collector: Callable[[], _Collector],
        until: Until,
        selection: Filter = EVERYTHING,
        tables: tuple[str, ...] = TABLES,
        since: str = "",
        last: int = 0,
    ) -> list[_Collector]:
        """See Past."""
        return self._replay.collect(make_collector, until, selection, tables)


class IndexedPast:
    """See Past."""

    def __init__(self, reader: IndexReader) -> None:
        self._reader = reader
        self.coverage: Mapping[int, Coverage] = {}

    def rows_at(self, until: Until, selection: Filter = EVERYTHING, tables: tuple[str, ...] = TABLES) -> list[Row]:
        """See Past."""
        self.coverage = self._reader.coverage(until, selection)
        return self._reader.rows_at(tables, selection, until)

    def owners(self, address: str, until: Until) -> list[Row]:
        """See Past."""
        self.coverage = self._reader.coverage(until)
        return self._reader.owners(address, until)

    def holdings(self, address: str, ports: tuple[int, ...], until: Until) -> AddressHoldings:
        """See Past."""
        self.coverage = self._reader.coverage(until)
        holdings = AddressHoldings(address, ports)
        owners = self._reader.owners(address, until, ever=True)
        names = Filter(
            services=frozenset(row.name for row in owners), namespaces=frozenset(r.namespace for r in owners)
        )
        for row in self._reader.history(FOLDED_TABLES, names, until) if owners else ():
            holdings.take(row)
        return holdings

    def collect(
        self,
        make_collector: Callable[[], _Collector],
        until: Until,
        selection: Filter = EVERYTHING,
        tables: tuple[str, ...] = TABLES,
        since: str = "",
        last: int = 0,
    ) -> list[_Collector]:
        """See Past."""
        self.coverage = self._reader.coverage(until, selection)
        collector = make_collector()
        for row in self._reader.history(tables, selection, until, since, last):
            collector.take(row)
        return [collector]


class IndexFile:
    """Opens an index of this Kafka's journal. That the file is of it is looked at once for each file, and again after
    `check_again` seconds: topics may have been made anew."""

    def __init__(self, path: Path, bootstrap: str, check_again: float = 60.0) -> None:
        self.path = path
        self._bootstrap = bootstrap
        self._check_again = check_again
        self._checked = (0, 0.0)

    def open(self, until: Until, selection: Filter = EVERYTHING, ends: Mapping[int, int] | None = None) -> IndexReader:
        """A reader that has all of the selected Services up to the point, or up to these `ends` of the journal if the
        asker knows no more. Raises IndexUnusable where there is none; FacetsError."""
        reader = IndexReader(self.path)
        try:
            if not (self._is_checked() and reader.covers(until, ends, selection)):
                self._check(reader, until, selection)
        except BaseException:
            reader.close()
            raise
        return reader

    def _is_checked(self) -> bool:
        inode, at = self._checked
        return inode == _inode(self.path) and time.monotonic() < at + self._check_again

    def _check(self, reader: IndexReader, until: Until, selection: Filter) -> None:
        of_kafka, bounds = read_kafka(self._bootstrap)
        check_log(self.path, reader.log, of_kafka)
        check_position(self.path, reader.positions(), self._bootstrap, bounds)
        self._checked = _inode(self.path), time.monotonic()
        deadline = time.monotonic() + _WRITTEN_SECONDS
        while not reader.covers(until, bounds.ends, selection):
            missing = behind({p: position.next for p, position in reader.positions().items()}, bounds)
            # What has just been appended is written with the next batch, if a process keeps the index.
            if time.monotonic() > deadline or owner_of(lock_path(self.path)) is None:
                raise IndexUnusable(f"the index {self.path} is {missing} records behind the journal")
            time.sleep(_LOOK_SECONDS)


def open_index(path: Path, bootstrap: str, until: Until, selection: Filter = EVERYTHING) -> IndexReader:
    """As IndexFile has it, for one question."""
    return IndexFile(path, bootstrap).open(until, selection)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0
