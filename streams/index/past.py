"""The past as the commands ask for it: from the index where it has it, else by a replay of the journal."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from streams.history.collectors import AddressHoldings, RowCollector
from streams.history.coverage import Coverage
from streams.history.queries import Until
from streams.history.replay import Replay
from streams.index.build import check_log, check_position, read_kafka
from streams.index.database import IndexUnusable
from streams.index.reader import IndexReader
from streams.subscription.rows import EVERYTHING, Filter, Row
from streams.wire.records import FOLDED_TABLES, TABLES

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
    ) -> list[_Collector]:
        """Collectors with the selected rows; those before `since` may be left out. Raises FacetsError."""


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
    ) -> list[_Collector]:
        """See Past."""
        self.coverage = self._reader.coverage(until, selection)
        collector = make_collector()
        for row in self._reader.history(tables, selection, until, since):
            collector.take(row)
        return [collector]


def open_index(path: Path, bootstrap: str, until: Until, selection: Filter = EVERYTHING) -> IndexReader:
    """A reader of the index, which is of this Kafka's journal and has all of the selected Services up to the point.
    Raises IndexUnusable where it isn't, or hasn't; FacetsError."""
    reader = IndexReader(path)
    try:
        of_kafka, bounds = read_kafka(bootstrap)
        check_log(path, reader.log, of_kafka)
        positions = reader.positions()
        check_position(path, positions, bootstrap, bounds)
        if not reader.covers(until, bounds.ends, selection):
            missing = sum(max(0, end - positions[p].next) for p, end in bounds.ends.items() if p in positions)
            raise IndexUnusable(f"the index {path} is {missing} records behind the journal")
    except BaseException:
        reader.close()
        raise
    return reader
