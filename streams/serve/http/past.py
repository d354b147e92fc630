"""Questions to the past over HTTP: answered from the index where it has the time, else by a replay of the retained
journal. Either is beside the event loop, and one at a time, as a replay may keep all cores busy."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from streams.history.collectors import LastRows
from streams.history.coverage import check_covered, check_since
from streams.history.queries import Until
from streams.history.replay import Replay
from streams.index.database import IndexUnusable
from streams.index.past import FoldedPast, IndexedPast, IndexFile, Past
from streams.runtime.progress import ProgressReport
from streams.serve.http.query import Busy
from streams.subscription.rows import EVERYTHING, Filter, Row
from streams.wire.row_codec import is_deleted

log = logging.getLogger("facets.http")

_RETRY_SECONDS = 2

_Answer = TypeVar("_Answer")


class PastRows(NamedTuple):
    """Rows of the past, and the limits of what is known of it, in words. `is_known`: whether any row of what was asked
    for is in the retained journal, at whatever time."""

    rows: tuple[Row, ...]
    remarks: tuple[str, ...]
    is_known: bool


class PastReader(Protocol):
    """What knows the past. Its methods block; `progress` is called now and then, and may raise to end them. Rows of the
    clusterset are joined sets, which are not to be had of some clusters. They raise FacetsError: NotKnown for a time
    that the log does not have any more, NotYetKnown for one that it does not have yet."""

    def rows_at(self, at: str, selection: Filter, tables: tuple[str, ...], progress: ProgressReport) -> PastRows:
        """The newest row of each selected Service at a time, without those of deleted ones."""

    def owners(self, address: str, at: str, progress: ProgressReport) -> PastRows:
        """The rows of the Services that had an address at a time, among others."""

    def history(
        self,
        selection: Filter,
        tables: tuple[str, ...],
        since: str,
        until: str,
        last: int,
        progress: ProgressReport,
    ) -> PastRows:
        """The last rows from a time on ("": from the beginning) up to a time ("": to the end), oldest first."""


class StoredPast:
    """A PastReader that asks the index, if it has the time, and else folds the retained journal for each question.
    `sealed_ends` gives the offsets after what the server itself has sealed, by partition: an index that has as much is
    up to date."""

    def __init__(self, bootstrap: str, index: Path | None, sealed_ends: Callable[[], Mapping[int, int]]) -> None:
        self._sealed_ends = sealed_ends
        self._bootstrap = bootstrap
        self._index = IndexFile(index, bootstrap) if index is not None else None

    def rows_at(self, at: str, selection: Filter, tables: tuple[str, ...], progress: ProgressReport) -> PastRows:
        """As PastReader has it."""
        until = Until(at=at)
        return self._ask(until, selection, progress, lambda past: past.rows_at(until, selection, tables))

    def owners(self, address: str, at: str, progress: ProgressReport) -> PastRows:
        """As PastReader has it."""
        until = Until(at=at)
        return self._ask(until, EVERYTHING, progress, lambda past: past.owners(address, until))

    def history(
        self,
        selection: Filter,
        tables: tuple[str, ...],
        since: str,
        until: str,
        last: int,
        progress: ProgressReport,
    ) -> PastRows:
        """As PastReader has it."""
        make_collector = partial(LastRows, tables, since, last)
        limit = Until(at=until)

        def read(past: Past) -> PastRows:
            newest = make_collector()
            for collector in past.collect(make_collector, limit, selection, tables, since, last):
                newest.add(collector)
            remarks = check_covered(past.coverage, limit, _seen(past, selection)) if until else []
            if since and (begins := check_since(past.coverage, since)):
                remarks.append(begins)
            # Of a Service that has not changed since then there may be nothing.
            is_known = bool(newest.services) or bool(since and past.rows_at(limit, selection, tables))
            return PastRows(tuple(newest.rows()), tuple(remarks), is_known)

        return self._read(limit, selection, progress, read)

    def _ask(
        self,
        until: Until,
        selection: Filter,
        progress: ProgressReport,
        question: Callable[[Past], list[Row]],
    ) -> PastRows:
        def read(past: Past) -> PastRows:
            rows = question(past)
            remarks = check_covered(past.coverage, until, _seen(past, selection))
            return PastRows(tuple(row for row in rows if not is_deleted(row.value)), tuple(remarks), bool(rows))

        return self._read(until, selection, progress, read)

    def _read(
        self,
        until: Until,
        selection: Filter,
        progress: ProgressReport,
        read: Callable[[Past], _Answer],
    ) -> _Answer:
        if self._index is not None and self._index.path.exists():
            try:
                with self._index.open(until, selection, self._sealed_ends()) as reader:
                    return read(IndexedPast(reader))
            except IndexUnusable as error:
                log.info("%s: the journal is folded instead", error)
        with Replay(self._bootstrap, progress) as replay:
            return read(FoldedPast(replay))


def _seen(past: Past, selection: Filter) -> list[str]:
    """The selected clusters that the journal had by then: of others there was nothing."""
    return [name for name in selection.clusters if any(name in part.clusters for part in past.coverage.values())]


class _Stopped(Exception):
    """Nobody waits for the answer any more."""


class ExclusivePast:
    """Asks a PastReader, for one request at a time. A request that ends before it is answered ends the reading."""

    def __init__(self, reader: PastReader) -> None:
        self._reader = reader
        self._stopping: threading.Event | None = None

    async def rows_at(self, at: str, selection: Filter, tables: Iterable[str]) -> PastRows:
        """As PastReader has it. Raises Busy, FacetsError."""
        return await self.ask(partial(self._reader.rows_at, at, selection, tuple(tables)))

    async def owners(self, address: str, at: str) -> PastRows:
        """As PastReader has it. Raises Busy, FacetsError."""
        return await self.ask(partial(self._reader.owners, address, at))

    async def history(self, selection: Filter, tables: Iterable[str], *, since: str, until: str, last: int) -> PastRows:
        """As PastReader has it. Raises Busy, FacetsError."""
        return await self.ask(partial(self._reader.history, selection, tuple(tables), since, until, last))

    async def close(self, _app: Any = None) -> None:
        """End what is being read."""
        if self._stopping is not None:
            self._stopping.set()

    async def ask(self, question: Callable[[ProgressReport], _Answer]) -> _Answer:
        """The answer of what blocks, in a thread; `progress` is as a PastReader has it. Raises Busy, and what it
        raises."""
        if self._stopping is not None:
            raise Busy("another question to the past is being answered: one at a time", _RETRY_SECONDS)
        stopping = self._stopping = threading.Event()

        def progress(_step: str, _fraction: float | None) -> None:
            if stopping.is_set():
                raise _Stopped

        answer = asyncio.ensure_future(asyncio.to_thread(question, progress))
        answer.add_done_callback(self._release)
        try:
            # The thread goes on for a moment when the client has gone: only then is the next one's turn.
            return await asyncio.shield(answer)
        except _Stopped:
            raise Busy("the server is shutting down", 1, "NOT_ACTIVE") from None
        finally:
            stopping.set()

    def _release(self, answer: "asyncio.Future[Any]") -> None:
        self._stopping = None
        if not answer.cancelled():
            answer.exception()  # Seen: whoever asked may have gone.
