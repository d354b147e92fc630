"""Questions over HTTP to a server of a recorded fleet; each answer is held against the server's own description."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from streams.index.run import IndexSettings, run_index
from tests.integration.mesh import Mesh, serving
from tests.support.recorded_fleet import RecordedFleet
from tests.support.server_sent_events import Described

Json = dict[str, Any]
CHANGES = 40
"""How often the fleet has changed before it is asked for."""


class Client:
    """Asks the server, and holds each answer against the description that the server gives of itself."""

    def __init__(self, mesh: Mesh, session: aiohttp.ClientSession, described: Described) -> None:
        self.mesh = mesh
        self._session = session
        self._described = described

    async def get(self, path: str, /, *, described_as: str = "", **query: Any) -> Json:
        """An answer; of another status than 200 with it."""
        async with self._session.get(path, params=query) as answer:
            body: Json = await answer.json()
            self._described.check_answer(described_as or path, answer.status, body)
            return body if answer.status == 200 else {"status": answer.status, **body}

    async def raw(self, path: str, **query: Any) -> Json:
        """The body of an answer, whatever its status."""
        async with self._session.get(path, params=query) as answer:
            body: Json = await answer.json()
            return body

    async def status(self, path: str, tag: str, **query: Any) -> tuple[int, str]:
        """The status of an answer, and its ETag, for a client that has the rows of a tag."""
        headers = {"If-None-Match": tag} if tag else {}
        async with self._session.get(path, params=query, headers=headers) as answer:
            return answer.status, answer.headers["ETag"]

    async def rows(self, table: str, name: str, **query: Any) -> list[Json]:
        """A Service's rows."""
        path = f"/v1/facets/{table}/{{namespace}}/{{service}}"
        answer = await self.get(f"/v1/facets/{table}/shop/{name}", described_as=path, **query)
        return [] if answer.get("reason") == "DOES_NOT_EXIST" else list(answer["items"])

    async def history(self, name: str, **query: Any) -> Json:
        """A Service's history."""
        path = "/v1/history/{namespace}/{service}"
        return await self.get(f"/v1/history/shop/{name}", described_as=path, **query)


@contextlib.asynccontextmanager
async def asking(
    bootstrap: str, seed: int = 1, index: Path | None = None
) -> AsyncIterator[tuple[RecordedFleet, Client]]:
    """A fleet that has changed for a while, and a client of a server of it, whose clock stands still; if there is to be
    an index, it has all of that."""
    now = time.time()
    fleet = await asyncio.to_thread(RecordedFleet, bootstrap, seed)
    try:
        await asyncio.to_thread(fleet.start)
        await asyncio.to_thread(fleet.run, CHANGES)
        if index is not None:
            await run_index(IndexSettings(bootstrap, index, 1, once=True), asyncio.Event(), lambda _, __: None, print)
        async with serving(bootstrap, fleet.tables, clock=lambda: now, past_index=index) as mesh:
            described = await Described.of(mesh)
            async with aiohttp.ClientSession(f"http://127.0.0.1:{mesh.http_port}") as session:
                yield fleet, Client(mesh, session, described)
    finally:
        await asyncio.to_thread(fleet.tables.close)
