"""Real backends: gRPC servers on the addresses of Pods, that answer with the address on which they were reached."""

from collections.abc import Iterable
from typing import Any

import grpc

METHOD = "/test.Backend/Who"


class Backends:
    """The running servers, by the addresses that they listen on."""

    def __init__(self) -> None:
        self._servers: dict[tuple[str, ...], list[Any]] = {}

    async def start(self, addresses: Iterable[str], ports: Iterable[int]) -> None:
        """Listen on all of these addresses, each with all ports."""
        key = tuple(addresses)
        self._servers[key] = [await _serve(address, tuple(ports)) for address in key]

    async def stop(self, addresses: Iterable[str]) -> None:
        """Stop as an application does after SIGTERM: no new request, those under way are answered."""
        for server in self._servers.pop(tuple(addresses)):
            await server.stop(10)

    async def close(self) -> None:
        """Stop all."""
        for addresses in list(self._servers):
            await self.stop(addresses)


async def _serve(address: str, ports: tuple[int, ...]) -> Any:
    async def who(request: bytes, context: Any) -> bytes:
        return address.encode()

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers = {"Who": grpc.unary_unary_rpc_method_handler(who)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Backend", handlers),))
    host = f"[{address}]" if ":" in address else address
    for port in ports:
        if not server.add_insecure_port(f"{host}:{port}"):
            raise OSError(f"{host}:{port} is not available")
    await server.start()
    return server
