"""Many light clients of one `facets serve`, in one process. Its standard input names the last version of each Service,
as JSON; it ends when all have these, or when nothing has come for 30 s.

    python -m tests.bench.fan_out_clients xds PORT COUNT OUT NAME...
    python -m tests.bench.fan_out_clients sse PORT COUNT OUT
    python -m tests.bench.fan_out_clients stuck-xds PORT 1 - NAME...
    python -m tests.bench.fan_out_clients stuck-sse PORT 1 -

They decode as little as possible: of each row or resource the Service and the version. "ready" is printed when all are
connected and have what there was; OUT (numpy) has client, Service, version and unix time of all that came. The stuck
ones ask, and then never read.
"""

import asyncio
import re
import socket
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import uvloop
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from streams.serve.xds.build.names import TYPE_URLS

EDS = TYPE_URLS["eds"]
_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_ROW = re.compile(rb'"name":"s(\d+)","version":(\d+)')
_TOGETHER = 50
_PATIENCE_SECONDS = 30


class Seen:
    """What came to whom."""

    def __init__(self) -> None:
        self.values = array("d")
        self.first: set[int] = set()
        self.newest: dict[tuple[int, int], int] = {}

    def note(self, client: int, service: int, version: int, at: float) -> None:
        """A client has this version of a Service."""
        self.values.extend((client, service, version, at))
        self.first.add(client)
        self.newest[client, service] = version

    def complete(self, clients: int, last: dict[str, int]) -> bool:
        """Whether every client has these versions."""
        return all(
            self.newest.get((client, int(service)), -1) >= version
            for client in range(clients)
            for service, version in last.items()
        )

    def save(self, out: Path) -> None:
        """As a table of four columns."""
        np.save(out, np.frombuffer(self.values, dtype=float).reshape(-1, 4))


async def xds_client(number: int, port: str, names: list[str], seen: Seen) -> None:
    """Subscribes to all endpoint sets, incrementally, on a connection of its own; acknowledges what comes."""
    index = {name: int(re.match(r"s(\d+)", name)[1]) for name in names}  # type: ignore[index]
    async with _channel(port) as channel:
        call = _call(channel)
        await call.write(_request(number, names))
        while (response := await call.read()) is not grpc.aio.EOF:
            now = time.time()
            for each in response.resources:
                seen.note(number, index[each.name], int(each.version.partition(".")[0]), now)
            await call.write(DeltaDiscoveryRequest(type_url=EDS, response_nonce=response.nonce))
        raise ConnectionError(f"xDS client {number} was put out: {await call.code()} {await call.details()}")


class SseClient(asyncio.Protocol):
    """Follows the backend table."""

    def __init__(self, number: int, port: str, seen: Seen, ended: "asyncio.Future[None]") -> None:
        self._number, self._port, self._seen, self._ended = number, port, seen, ended
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        """Ask."""
        host = f"127.0.0.1:{self._port}"
        transport.write(f"GET /v1/changes?table=backend HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Find the rows; what may be the beginning of one is kept."""
        now = time.time()
        text = self._rest + data
        end = 0
        for found in _ROW.finditer(text):
            self._seen.note(self._number, int(found[1]), int(found[2]), now)
            end = found.end()
        self._rest = text[max(end, len(text) - 64) :]

    def connection_lost(self, error: Exception | None) -> None:
        """The server ended it."""
        if not self._ended.done():
            said = self._rest.decode(errors="replace")
            self._ended.set_exception(ConnectionError(f"SSE client {self._number} was put out: {error} {said}"))


def _channel(port: str) -> Any:
    own = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=own)


def _call(channel: Any) -> Any:
    return channel.stream_stream(_METHOD, DeltaDiscoveryRequest.SerializeToString, DeltaDiscoveryResponse.FromString)()


def _request(number: int, names: list[str]) -> DeltaDiscoveryRequest:
    return DeltaDiscoveryRequest(node=Node(id=f"router-{number}"), type_url=EDS, resource_names_subscribe=names)


async def run(kind: str, port: str, count: int, out: Path, names: list[str]) -> None:
    """Until standard input ends, or a client is put out."""
    loop = asyncio.get_running_loop()
    seen = Seen()
    stop = loop.run_in_executor(None, sys.stdin.read)
    running: list[Any] = []
    held: list[Any] = []
    if kind == "stuck-xds":
        channel = _channel(port)
        call = _call(channel)
        await call.write(_request(10**6, names))
        held += [channel, call]
    elif kind == "stuck-sse":
        plain = socket.create_connection(("127.0.0.1", int(port)))
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.sendall(f"GET /v1/changes?table=backend HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        held.append(plain)
    else:
        for number in range(count):
            if kind == "xds":
                running.append(asyncio.create_task(xds_client(number, port, names, seen)))
            else:
                ended: asyncio.Future[None] = loop.create_future()
                running.append(ended)
                await loop.create_connection(
                    lambda number=number, ended=ended: SseClient(number, port, seen, ended),  # type: ignore[misc]
                    "127.0.0.1",
                    int(port),
                )
            while len(running) - len(seen.first) > _TOGETHER:
                await _turn(running)
        while len(seen.first) < count:
            await _turn(running)
    print("ready", flush=True)
    while not stop.done():
        await asyncio.wait([stop, *running], return_when=asyncio.FIRST_COMPLETED)
        _check(running)
    last = orjson.loads(stop.result() or "{}")
    came, since = 0, time.monotonic()
    while not seen.complete(len(running), last) and time.monotonic() - since < _PATIENCE_SECONDS:
        _check(running)
        if len(seen.values) > came:
            came, since = len(seen.values), time.monotonic()
        await asyncio.sleep(0.5)
    if running:
        seen.save(out)


async def _turn(running: list[Any]) -> None:
    _check(running)
    await asyncio.sleep(0.02)


def _check(running: list[Any]) -> None:
    for each in running:
        if each.done():
            each.result()


def main() -> None:
    """The command."""
    kind, port, count, out, *names = sys.argv[1:]
    # grpc.aio polls from a thread of its own, which it was not made to share with uvloop.
    runner = asyncio.run if "xds" in kind else uvloop.run
    runner(run(kind, port, int(count), Path(out), names))


if __name__ == "__main__":
    main()
