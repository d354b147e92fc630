"""What requests go through: a client, Envoy, and backends that answer with the address on which they were reached."""

import asyncio
import socket
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import uvloop

from tests.bench.bench import Bench, free_port

BACKEND_PORT = 8080
_FILTERS = "type.googleapis.com/envoy.extensions.filters"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"
_REQUEST = b"GET / HTTP/1.1\r\nhost: probe\r\n\r\n"


class Answer(NamedTuple):
    """A request's: which backend gave it, and when it had come (unix time)."""

    address: str
    at: float


class Requests:
    """Requests through one Envoy, one after the other, at most one a millisecond. `answers` are kept until `clear`."""

    def __init__(self, port: int) -> None:
        self.answers: list[Answer] = []
        self._port = port
        self._task: asyncio.Task[None] | None = None
        self._more = asyncio.Event()

    def start(self) -> None:
        """Begin; `until` and `end` raise what ends it."""
        self._task = asyncio.create_task(self._send())
        self._task.add_done_callback(lambda _: self._more.set())

    async def end(self) -> None:
        """Send no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def clear(self) -> None:
        """Forget the answers."""
        self.answers.clear()

    async def first_of(self, address: str, seconds: float) -> float:
        """When the first answer of an address came. Raises TimeoutError, and RuntimeError if a request has failed."""
        seen = 0
        async with asyncio.timeout(seconds):
            while True:
                for answer in self.answers[seen:]:
                    seen += 1
                    if answer.address == address:
                        return answer.at
                await self._next()

    async def last_of(self, address: str, followed_by: int, seconds: float) -> float:
        """When the last answer of an address came: so many of others have followed. Raises as `first_of`."""
        async with asyncio.timeout(seconds):
            while True:
                tail = self.answers[-followed_by:]
                if len(tail) == followed_by and all(answer.address != address for answer in tail):
                    return max(answer.at for answer in self.answers if answer.address == address)
                await self._next()

    async def _next(self) -> None:
        self._more.clear()
        await self._more.wait()
        if self._task is None or self._task.done():
            raise RuntimeError("requests have failed") from (self._task and self._task.exception())

    async def _send(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while True:
                begun = time.time()
                writer.write(_REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200 "):
                    raise RuntimeError(head.decode())
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                address = (await reader.readexactly(length)).decode()
                self.answers.append(Answer(address, time.time()))
                self._more.set()
                await asyncio.sleep(max(0.0, begun + 0.001 - time.time()))
        finally:
            writer.close()


def start_envoy(bench: Bench, name: str, xds_port: int, resource: str) -> int:
    """An Envoy whose only cluster has the endpoints of this resource; the port that it listens on, once it does."""
    port, admin = free_port(), free_port()
    config = bench.folder / f"{name}.json"
    config.write_bytes(orjson.dumps(_bootstrap(xds_port, resource, port, admin)))
    binary = str(Path(sys.executable).parent / "envoy")
    part = bench.program(name, binary, "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1",
                         "--log-level", "warning")  # fmt: skip
    part.until(lambda: _is_open(port), "it listens")
    return port


def start_backends(bench: Bench, addresses: tuple[str, ...]) -> None:
    """Start them, in a process of their own."""
    part = bench.start("backends", "-m", "tests.bench.request_parts", *addresses)
    part.says("ready")


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _bootstrap(xds_port: int, resource: str, port: int, admin: int) -> dict[str, Any]:
    source = {"ads": {}, "resource_api_version": "V3"}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "probe"}}
    manager = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "probe",
        "route_config": {"virtual_hosts": [{"name": "probe", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"},
            }
        ],
    }
    http2 = {
        _HTTP_OPTIONS: {
            "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    return {
        "node": {"id": "sidecar~10.0.0.2~probe.default~default.svc.cluster.local", "cluster": "probe"},
        "admin": {"address": _address(admin)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
            }
        },
        "static_resources": {
            "listeners": [
                {
                    "name": "probe",
                    "address": _address(port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "xds",
                    "type": "STATIC",
                    "typed_extension_protocol_options": http2,
                    "load_assignment": {
                        "cluster_name": "xds",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(xds_port)}}]}],
                    },
                },
                {
                    "name": "probe",
                    "type": "EDS",
                    "eds_cluster_config": {"service_name": resource, "eds_config": source},
                    "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
                },
            ],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


class _Backend(asyncio.Protocol):
    def __init__(self, address: str) -> None:
        self._answer = _ANSWER % (len(address), address.encode())

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            self._transport.write(self._answer)


async def _serve(addresses: list[str]) -> None:
    loop = asyncio.get_running_loop()
    for address in addresses:
        await loop.create_server(lambda address=address: _Backend(address), address, BACKEND_PORT)  # type: ignore[misc]
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1:]))
