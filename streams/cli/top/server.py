"""What `facets top` reads of a server: /v1/changes as a stream, /v1/propagation and /v1/clusters now and then."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import orjson

from streams.cli.top.board import Board
from streams.errors import FacetsError
from streams.runtime.retry import Pauses, RetryPolicy
from streams.serve.propagation_client import fetch

_POLL_SECONDS = 2.0
_SILENT_SECONDS = 15.0
"""The server sends a heartbeat every five seconds: without one for so long the connection is taken for lost."""

_RETRY = RetryPolicy(first=0.5, longest=5.0)


class ServerFeed:
    """Keeps a board as a server says; `connection` says in words whether it is up to date. It connects again by itself,
    and goes on where it was."""

    def __init__(self, server: str, board: Board, on_change: Callable[[], None]) -> None:
        self._server = server.rstrip("/")
        self._board = board
        self._on_change = on_change
        self._cursor = ""
        self.connection = "connecting"

    async def run(self) -> None:
        """Follow the server, until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._poll())

    async def _follow(self) -> None:
        pauses = Pauses(_RETRY)
        while True:
            try:
                async for event, data in self._events():
                    if event == "end":
                        break
                    self._board.apply(event, data, time.monotonic())
                    self.connection = "live" if self._board.is_complete else "reading"
                    pauses = Pauses(_RETRY)
                    self._on_change()
                problem: Exception | str = "the server has ended the stream"
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                problem = str(error) or type(error).__name__
            self.connection = f"DISCONNECTED: {problem}"
            self._on_change()
            await asyncio.sleep(pauses.next())

    async def _events(self) -> AsyncIterator[tuple[str, Any]]:
        headers = {"Last-Event-ID": self._cursor} if self._cursor else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=_SILENT_SECONDS, sock_connect=_SILENT_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{self._server}/v1/changes", headers=headers) as answer,
        ):
            answer.raise_for_status()
            rest, fields = b"", {}
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line:
                        name, _, value = line.partition(b": ")
                        fields[name.decode()] = value
                    elif fields:
                        yield fields["event"].decode(), orjson.loads(fields["data"])
                        # A cursor counts when what came with it is on the board.
                        self._cursor = fields.get("id", b"").decode() or self._cursor
                        fields = {}

    async def _poll(self) -> None:
        while True:
            started = time.monotonic()
            try:
                propagation = await fetch(self._server, "/v1/propagation", {})
                clusters = await fetch(self._server, "/v1/clusters", {})
                self._board.report(propagation, clusters["items"])
                self._on_change()
            except FacetsError:
                pass  # The stream says what is wrong.
            # A server with very many Services is not asked all the time.
            await asyncio.sleep(max(_POLL_SECONDS, 10 * (time.monotonic() - started)))
