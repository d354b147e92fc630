"""Answers for all Pods of the demo, on their addresses: HTTP and gRPC on port 8080. Ends with its input."""

import asyncio
import contextlib
import sys
import tempfile
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import grpc

_NETWORKS = "10.244.0.0/24", "10.244.64.0/24"
"""The demo's Pods have their addresses in these."""

_PREFACE = b"PRI * HTTP/2.0\r\n"
"""What a connection of HTTP/2, which is gRPC's, begins with (RFC 9113, 3.4)."""


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "grpc"
        server = grpc.aio.server()
        handlers = {"Get": grpc.unary_unary_rpc_method_handler(_get)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Cart", handlers),))
        server.add_insecure_port(f"unix:{socket}")
        await server.start()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                first = await reader.readuntil(b"\n")
                if first == _PREFACE:
                    there, back = await asyncio.open_unix_connection(socket)
                    back.write(first)
                    await asyncio.gather(_copy(reader, back), _copy(there, writer))
                else:
                    await reader.readuntil(b"\r\n\r\n")
                    body = f"Pod {writer.get_extra_info('sockname')[0]}\n".encode()
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
                    )
            writer.close()

        # Not on all of this machine's addresses: on loopback 8080 is the port of `facets serve`.
        addresses = [str(address) for network in _NETWORKS for address in ip_network(network).hosts()]
        async with await asyncio.start_server(serve, addresses, 8080):
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.read)
        await server.stop(0)


async def _get(request: bytes, context: Any) -> bytes:
    return b"Pod"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(main())
