"""`GET /v1/changes`: snapshots and sealed batches as server-sent events, for many clients at small cost.

All clients share one subscription and one ring (`feed`). A client is a task that, when it is woken, writes the events
that are new to it; the more clients there are, the more each of them writes at once. A client that does not read is
held back by its own connection only, and is disconnected if it has read nothing for a while or has lost its place in
the ring. A client whose cursor is older than the ring is brought up to it by a subscriber of its own; the number of
these is limited.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping
from typing import NamedTuple

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from streams.errors import FacetsError
from streams.runtime.pauses import with_pauses
from streams.serve.http.encoding import (
    EndReason,
    Selection,
    batch_head,
    end,
    event,
    print_in_batch,
    print_row,
    with_rows,
)
from streams.serve.http.feed import Feed, Lost, Reader
from streams.serve.http.query import BadParameter, Busy, NotActive, NotFound
from streams.serve.metrics import HTTP_CAUGHT_UP, HTTP_CLIENTS, HTTP_ENDED
from streams.serve.xds.protocol.ack_buffer import AckBuffer, Session
from streams.subscription.client import Batch, ClusterStatus, Snapshot, Subscriber
from streams.subscription.cursor import Cursor
from streams.subscription.freshness import Place, Silence
from streams.subscription.rows import Row
from streams.subscription.set_client import join_sets
from streams.wire.records import CLUSTERSET, FOLDED_TABLES, Seal
from streams.wire.timestamps import later

log = logging.getLogger("facets.http")

_WRITE = 32 * 1024
"""About how many bytes a client is given at once."""

_BUFFER = 16 * 1024
"""How many unread bytes a connection may hold before it is given no more."""

_PACE_SECONDS = 25e-6
"""Per client, how much longer all of them wait before they are woken again: twice the measured cost of a write, so that
half of a core stays free."""

_QUIET_SECONDS = 2.0
"""How long the changelogs may have nothing for a client that catches up before the ring is looked at: while there is no
worker, only the ring goes on."""

_NOTE_SECONDS = 1.0
"""How often it is noted, at most, how far a client has been sent what it selects."""

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}


class SseSettings(NamedTuple):
    """Limits for clients. Times in seconds."""

    max_clients: int = 1000
    max_catching_up: int = 4
    heartbeat: float = 5.0
    read_within: float = 60.0
    ring_events: int = 8192
    ring_bytes: int = 64 * 1024 * 1024


class _StreamEnded(Exception):
    def __init__(self, reason: EndReason, text: str) -> None:
        super().__init__(text)
        self.reason: EndReason = reason


class ChangesHub:
    """Holds the feed and its clients. `replace` and `apply` feed it; before the first snapshot no client is
    admitted. What clients were sent goes to `acks`, if there is one."""

    def __init__(
        self,
        settings: SseSettings,
        bootstrap: str,
        partitions: int,
        window: float,
        tables: Collection[str] = FOLDED_TABLES,
        acks: AckBuffer | None = None,
    ) -> None:
        self.settings = settings
        self.feed = Feed(partitions, settings.ring_events, settings.ring_bytes)
        self.bootstrap = bootstrap
        self.window = window
        self.tables = frozenset(tables)
        self.acks = acks
        self.sessions = 0
        self.ready = False
        self.closing = False
        self.clients = 0
        self._catching_up = 0
        self._change_event = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._woken = 0.0
        self._is_beat_due = False
        self._beat: asyncio.Task[None] | None = None

    # ---- input -----------------------------------------------------------------------------------------

    def replace(
        self, reason: str, rows: tuple[Row, ...], seals: Mapping[tuple[int, str], Seal], cursor: Cursor
    ) -> None:
        """Take a snapshot."""
        self.feed.replace(reason, rows, seals, cursor)
        self.ready = True
        self._schedule_wake()
        if self._beat is None:
            self._beat = asyncio.create_task(self._heartbeats())

    def apply(self, partition: int, seal: Seal, rows: tuple[Row, ...], cursor: Cursor) -> None:
        """Take a sealed batch."""
        self.feed.apply(partition, seal, rows, cursor)
        if rows:
            self._schedule_wake()

    def set_silent(self, silent: Mapping[Place, Silence]) -> None:
        """Take the silent clusters, by partition; clients are told with the next events. (A watcher's clusters fall
        silent together, and come one by one.)"""
        self.feed.silent = silent
        if self.ready:
            self._is_beat_due = True
            self._schedule_wake()

    async def close(self) -> None:
        """Tell all clients that the server ends."""
        self.closing = True
        if self._beat is not None:
            self._beat.cancel()
        self._wake()

    async def wait_for_change(self) -> None:
        """Wait until there may be new events."""
        await self._change_event.wait()

    def _schedule_wake(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            # Each client gets more at once instead, so that the core is not saturated.
            due = self._woken + self.clients * _PACE_SECONDS
            self._timer = loop.call_at(max(due, loop.time()), self._wake)

    def _wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._woken = asyncio.get_running_loop().time()
        if self._is_beat_due:
            self._is_beat_due = False
            self.feed.beat()
        change_event, self._change_event = self._change_event, asyncio.Event()
        change_event.set()

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(self.settings.heartbeat)
            self.feed.beat()
            self._schedule_wake()

    # ---- clients -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _admit(self) -> Iterator[None]:
        """Count a client in. Raises Busy."""
        if self.closing:
            raise Busy("the server is shutting down", 1, "NOT_ACTIVE")
        self.check_ready()
        if self.clients >= self.settings.max_clients:
            HTTP_ENDED.labels("clients").inc()
            raise Busy(f"too many clients: the limit is {self.settings.max_clients} (--max-http-clients)", 5)
        self.clients += 1
        HTTP_CLIENTS.inc()
        try:
            yield
        finally:
            self.clients -= 1
            HTTP_CLIENTS.dec()

    @contextlib.contextmanager
    def _count_catching_up(self) -> Iterator[None]:
        """Count a client in that catches up with the ring. Raises Busy."""
        if self._catching_up >= self.settings.max_catching_up:
            raise Busy(f"too many clients with old cursors: the limit is {self.settings.max_catching_up}", 2)
        self._catching_up += 1
        HTTP_CAUGHT_UP.inc()
        try:
            yield
        finally:
            self._catching_up -= 1

    def check_ready(self) -> None:
        """Raises NotActive before the first snapshot."""
        if not self.ready:
            raise NotActive

    def check_served(self, tables: Collection[str], clusters: Collection[str]) -> None:
        """Raises NotFound for a table that is not followed, and BadParameter for some clusters of the clusterset."""
        if CLUSTERSET in tables and CLUSTERSET not in self.tables:
            raise NotFound(
                "the clusterset is not served here: with --cluster facets serve has no sets, as they are of all "
                "clusters; without it, workers of an older version write the tables: upgrade them, then restart it",
                "NOT_PRESENT",
            )
        if CLUSTERSET in tables and clusters:
            raise BadParameter("cluster", "a row of the clusterset is of all clusters: leave parameter cluster out")

    async def follow(self, request: web.Request, selection: Selection, cursor: Cursor | None) -> web.StreamResponse:
        """A stream of the selection, from the cursor or from a snapshot. Raises Busy."""
        with self._admit():
            client = _Client(self, request, selection)
            if cursor is None:
                return await client.serve(None, "start")
            if self.feed.resumable(cursor, selection):
                return await client.serve(self.feed.resume(selection, cursor), "")
            if later(cursor.at or "1970-01-01T00:00:00Z", self.window) < self.feed.at:
                return await client.serve(None, "expired")
            with contextlib.ExitStack() as slot:
                slot.enter_context(self._count_catching_up())
                return await client.serve_from(cursor, slot)


class _Sent:
    """Notes what a client was sent, about once a second (a heartbeat is the last occasion): by partition, the journal
    offset through which it had every selected row."""

    def __init__(self, hub: ChangesHub, request: web.Request) -> None:
        peer = ":".join(map(str, ((request.transport and request.transport.get_extra_info("peername")) or ())[:2]))
        self._hub = hub
        self._node = f"sse:{peer}"
        self._place = -1
        self._noted = 0.0
        hub.sessions += 1
        self._session = Session(
            self._node,
            hub.sessions,
            time.time(),
            "sse",
            request.headers.get("User-Agent", ""),
            peer=peer,
            selection=request.query_string,
        )
        if hub.acks is not None:
            hub.acks.connect(self._session)

    def through_cursor(self, applied: Mapping[int, int], place: int) -> None:
        """It has all up to a cursor, which is before this place of the ring."""
        self._note([(partition, offset) for partition, offset in applied.items() if offset >= 0], place)

    def through(self, place: int) -> None:
        """It has all of the ring before this place."""
        if self._hub.acks is None or place <= self._place or time.time() - self._noted < _NOTE_SECONDS:
            return
        self._note(list(self._hub.feed.offsets_between(self._place, place).items()), place)

    def end(self) -> None:
        """It is gone."""
        if self._hub.acks is not None:
            self._hub.acks.disconnect(self._node, self._session.number, time.time(), "sse")

    def _note(self, offsets: list[tuple[int, int]], place: int) -> None:
        self._place, self._noted = place, time.time()
        if self._hub.acks is not None and offsets:
            self._hub.acks.stream(self._node, offsets, self._noted)


class _Client:
    """One client's stream."""

    def __init__(self, hub: ChangesHub, request: web.Request, selection: Selection) -> None:
        self._hub = hub
        self._request = request
        self._selection = selection
        self._writing_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stalled = False

    async def serve(self, reader: Reader | None, reason: str) -> web.StreamResponse:
        """Follow from the reader's place, or from a snapshot with this reason."""
        return await self._run(self._follow(reader, reason))

    async def serve_from(self, cursor: Cursor, slot: contextlib.ExitStack) -> web.StreamResponse:
        """Follow from a cursor that is older than the ring; the slot is released when the ring is reached."""
        return await self._run(self._catch_up(cursor, slot))

    async def _run(self, steps: AsyncGenerator[bytes, None]) -> web.StreamResponse:
        response = web.StreamResponse(headers=_HEADERS)
        response.force_close()
        writer = await response.prepare(self._request)
        transport = self._request.transport
        if writer is None or transport is None:  # The client has disconnected already.
            return response
        transport.set_write_buffer_limits(high=_BUFFER)
        self._sent = _Sent(self._hub, self._request)
        end_reason = "gone"
        try:
            async with contextlib.aclosing(steps):
                async for text in steps:
                    await self._write(writer, text)
        except _StreamEnded as ended:
            end_reason = ended.reason
            with contextlib.suppress(ConnectionError):
                await writer.write(end(ended.reason, str(ended)))
        except TimeoutError:
            end_reason = "stalled"
            log.warning("%s: disconnected: no read for %g s", self._peer, self._hub.settings.read_within)
        except ConnectionError:
            pass
        finally:
            if self._timer is not None:
                self._timer.cancel()
            HTTP_ENDED.labels(end_reason).inc()
            self._sent.end()
        return response

    async def _write(self, writer: AbstractStreamWriter, text: bytes) -> None:
        """Write, and wait until the client has read most of it. Raises TimeoutError if it does not read."""
        loop = asyncio.get_running_loop()
        self._writing_since = loop.time()
        if self._timer is None:
            # One timer for many writes: one for each write took a quarter of the time.
            self._timer = loop.call_later(self._hub.settings.read_within, self._look)
        try:
            # The ring, not the connection's buffer, is to hold what the client has not read.
            await writer.write(text)
            await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            # The task is cancelled when its connection is, even if we aborted it ourselves.
            if not self._stalled:
                raise
        if self._stalled:
            raise TimeoutError
        self._writing_since = None

    def _look(self) -> None:
        """Disconnect the client if it has not read what was written in time."""
        self._timer = None
        if self._writing_since is None:
            return
        loop = asyncio.get_running_loop()
        due = self._writing_since + self._hub.settings.read_within
        if loop.time() < due:
            self._timer = loop.call_at(due, self._look)
            return
        self._stalled = True
        if self._request.transport is not None:
            self._request.transport.abort()

    async def _follow(self, reader: Reader | None, reason: str) -> AsyncGenerator[bytes, None]:
        feed = self._hub.feed
        if reader is not None and reader.resume_cursor is not None:
            self._sent.through_cursor(reader.resume_cursor.applied, reader.place)
        while True:
            if reader is None:
                snapshot, generation = feed.snapshot(), feed.generation
                reader = Reader(self._selection, generation, snapshot.place)
                for text in snapshot.events(reason, self._selection, _WRITE, lambda printed: feed.show(printed).text):
                    yield text
                    await asyncio.sleep(0)
                self._sent.through_cursor(snapshot.cursor.applied, snapshot.place)
            if self._hub.closing:
                raise _StreamEnded("shutdown", "the server is shutting down: reconnect with Last-Event-ID")
            try:
                text = feed.read(reader, _WRITE)
            except Lost:
                if reader.generation == feed.generation:
                    log.warning("%s: disconnected: %d events behind", self._peer, feed.next - reader.place)
                    raise _StreamEnded("slow", "too many events behind: reconnect with Last-Event-ID") from None
                reader, reason = None, feed.reason
                continue
            if text:
                yield text
                self._sent.through(reader.place)
                await asyncio.sleep(0)
            else:
                await self._hub.wait_for_change()

    async def _catch_up(self, cursor: Cursor, slot: contextlib.ExitStack) -> AsyncGenerator[bytes, None]:
        feed = self._hub.feed
        generation, applied, position = feed.generation, dict(cursor.applied), cursor
        reader: Reader | None = None
        reason = "lost"
        try:
            async with contextlib.aclosing(self._changes_since(cursor)) as items:
                async for item in items:
                    if self._hub.closing:
                        raise _StreamEnded("shutdown", "the server is shutting down: reconnect with Last-Event-ID")
                    if isinstance(item, Snapshot) or generation != feed.generation:
                        reason = item.reason if isinstance(item, Snapshot) else feed.reason
                        break
                    if item is not None:
                        if item.rows:
                            head = batch_head(item.partition, item.seal, quiet=False)
                            texts = (print_in_batch(print_row(row), self._selection.row_form) for row in item.rows)
                            yield event("batch", with_rows(head, texts), item.cursor)
                        applied[item.partition], position = item.seal.offset, item.position
                    if feed.covers(applied):
                        reader = feed.resume(self._selection, position)
                        break
                    if item is None:
                        # No worker writes, and the ring begins later: the changes between can't be had now.
                        reason = "expired"
                        break
        except FacetsError as error:
            raise _StreamEnded("unavailable", str(error)) from error
        slot.close()
        async for text in self._follow(reader, reason):
            yield text

    async def _changes_since(self, cursor: Cursor) -> AsyncGenerator[Snapshot | Batch | None, None]:
        """What the changelogs have since the cursor, or a snapshot; None while they have nothing for a while."""
        row_filter = self._selection.row_filter
        async with (
            Subscriber(
                self._hub.bootstrap, tables=sorted(self._selection.tables), clusters=row_filter.clusters,
                namespaces=row_filter.namespaces, services=row_filter.services, cursor=cursor, progress=True,
                silent_after=None,
            ) as subscriber,
            contextlib.aclosing(join_sets(subscriber, self._hub.bootstrap, cursor)) as joined,
            contextlib.aclosing(with_pauses(joined, _QUIET_SECONDS)) as items,
        ):  # fmt: skip
            async for item in items:
                if item is None and not subscriber.has_resumed:
                    continue
                if not isinstance(item, ClusterStatus):
                    yield item

    @property
    def _peer(self) -> str:
        return str(self._request.remote)
