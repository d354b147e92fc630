"""Reading /v1/changes."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
from jsonschema import Draft202012Validator

from tests.integration.mesh import DEADLINE, Mesh

Event = tuple[str, str, dict[str, Any]]


DATA = {"snapshot": "SnapshotEvent", "batch": "BatchEvent", "heartbeat": "Heartbeat", "end": "End"}


class Described:
    """The description that the server gives of itself, to hold its answers against."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    @classmethod
    async def of(cls, mesh: Mesh) -> "Described":
        return cls(await mesh.get("/openapi.json"))

    def check(self, name: str, data: Any) -> None:
        """That the data is as this component says."""
        schema = {"$ref": f"#/components/schemas/{name}", "components": self.document["components"]}
        Draft202012Validator(schema).validate(data)

    def check_answer(self, path: str, status: int, data: Any) -> None:
        """That the data is as the path's answer says."""
        (content,) = self.document["paths"][path]["get"]["responses"][str(status)]["content"].values()
        self.check(content["schema"]["$ref"].rpartition("/")[2], data)


class Changes:
    """A client of /v1/changes; `read` gives the next event that is no heartbeat."""

    def __init__(self, answer: aiohttp.ClientResponse, described: Described) -> None:
        self._answer = answer
        self._described = described
        self.heartbeats: list[Event] = []

    async def any(self) -> Event:
        fields: dict[str, str] = {}
        async with asyncio.timeout(DEADLINE):
            while True:
                line = (await self._answer.content.readuntil(b"\n")).decode().rstrip("\n")
                if not line and fields:
                    break
                name, _, value = line.partition(": ")
                fields[name] = value
        event = fields["event"], fields.get("id", ""), orjson.loads(fields["data"])
        if len(fields["data"]) < 20_000:  # The large ones are of the same form, and take long.
            self._described.check(DATA[event[0]], event[2])
        return event

    async def read(self) -> Event:
        while (event := await self.any())[0] == "heartbeat":
            self.heartbeats.append(event)
        return event

    async def versions(self, count: int) -> tuple[list[tuple[str, str, int]], str]:
        """The rows of the next batches, until there are so many, and the last id."""
        found: list[tuple[str, str, int]] = []
        cursor = ""
        while len(found) < count:
            kind, cursor, data = await self.read()
            assert kind == "batch", data
            found += [(row["table"], row["name"], row["version"]) for row in data["rows"]]
        return found, cursor


@contextlib.asynccontextmanager
async def changes(mesh: Mesh, query: str = "", cursor: str = "") -> AsyncIterator[Changes]:
    described = await Described.of(mesh)
    headers = {"Last-Event-ID": cursor} if cursor else {}
    connector = aiohttp.TCPConnector(socket_factory=small_socket)
    session = aiohttp.ClientSession(read_bufsize=2**21, connector=connector)
    url = f"http://127.0.0.1:{mesh.http_port}/v1/changes?{query}"
    async with session, session.get(url, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        yield Changes(answer, described)


def small_socket(address: Any) -> socket.socket:
    """One whose reader is soon noticed to be slow."""
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return made
