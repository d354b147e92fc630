"""Questions to the past over HTTP. They are answered by a replay of the retained journal, beside the event loop: one at
a time, as it may keep all cores busy."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from streams.history.collectors import LastRows
from streams.history.coverage import check_covered, check_since
from streams.history.queries import Until
from streams.history.replay import Replay
from streams.runtime.progress import ProgressReport
from streams.serve.http.query import Busy
from streams.subscription.rows import Filter, Row
from streams.wire.row_codec import is_deleted

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


class ReplayedPast:
    """A PastReader that folds the retained journal again for each question."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    def rows_at(self, at: str, selection: Filter, tables: tuple[str, ...], progress: ProgressReport) -> PastRows:
        """As PastReader has it."""
        until = Until(at=at)
        with Replay(self._bootstrap, progress) as replay:
            newest = replay.tables(until, selection, tables).values()
            remarks = check_covered(replay.coverage, until, _seen(replay, selection))
        return PastRows(tuple(row for row in newest if not is_deleted(row.value)), tuple(remarks), bool(newest))

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
        newest, limit = make_collector(), Until(at=until)
        with Replay(self._bootstrap, progress) as replay:
            for collector in replay.collect(make_collector, limit, selection, tables):
                newest.add(collector)
            remarks = check_covered(replay.coverage, limit, _seen(replay, selection)) if until else []
            if since and (begins := check_since(replay.coverage, since)):
                remarks.append(begins)
        return PastRows(tuple(newest.rows()), tuple(remarks), bool(newest.services))


def _seen(replay: Replay, selection: Filter) -> list[str]:
    """The selected clusters that the journal had by then: of others there was nothing."""
    return [name for name in selection.clusters if any(name in part.clusters for part in replay.coverage.values())]


class _Stopped(Exception):
    """Nobody waits for the answer any more."""


class Past:
    """Asks a PastReader, for one request at a time. A request that ends before it is answered ends the reading."""

    def __init__(self, reader: PastReader) -> None:
        self._reader = reader
        self._stopping: threading.Event | None = None

    async def rows_at(self, at: str, selection: Filter, tables: Iterable[str]) -> PastRows:
        """As PastReader has it. Raises Busy, FacetsError."""
        return await self._ask(partial(self._reader.rows_at, at, selection, tuple(tables)))

    async def history(self, selection: Filter, tables: Iterable[str], *, since: str, until: str, last: int) -> PastRows:
        """As PastReader has it. Raises Busy, FacetsError."""
        return await self._ask(partial(self._reader.history, selection, tuple(tables), since, until, last))

    async def close(self, _app: Any = None) -> None:
        """End what is being read."""
        if self._stopping is not None:
            self._stopping.set()

    async def _ask(self, question: Callable[[ProgressReport], _Answer]) -> _Answer:
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
