"""What follows a fleet's changes, each as a process of its own:

    python -m tests.bench.scale_clients sse PORT OUT QUERY
    python -m tests.bench.scale_clients eds PORT OUT CLUSTER NAME...

The first follows `/v1/changes?QUERY`, and goes on after its last event where the server ends the stream. The second
follows these endpoint sets as a router in a cluster ("": in none) does, and acknowledges. OUT gets `ready` with the
first state, then a line for each address of the fleet's changes that comes for the first time: the unix time, and the
address. What is received is searched, not decoded: the processes share the cores with what is measured.
"""

import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from envoy.config.core.v3.base_pb2 import Node

from tests.bench.delta_client import responses

READY = "ready"
AGAIN = "again"
_MARKER = re.compile(rb"11\.\d{1,3}\.\d{1,3}\.\d{1,3}")
_ID = re.compile(rb"\nid: ([^\n]+)\n")
_LAST = b'"last":true'
_AGAIN_SECONDS = 0.2
_END = b"\n\n"


class _Arrivals:
    """Writes down which addresses are new."""

    def __init__(self, log: TextIO) -> None:
        self._log = log
        self._known: set[bytes] = set()

    def take(self, text: bytes) -> None:
        """Note the addresses in what came now."""
        now = time.time()
        new = set(_MARKER.findall(text)) - self._known
        self._known |= new
        self._log.writelines(f"{now} {address.decode()}\n" for address in new)
        self._log.flush()


def sse(port: int, log: TextIO, query: str) -> None:
    """Whole events, as they come."""
    arrivals = _Arrivals(log)
    ready, cursor = False, b""
    while True:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            resumed = b"Last-Event-ID: %b\r\n" % cursor if cursor else b""
            head = f"GET /v1/changes?{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()
            connection.sendall(head + resumed + b"\r\n")
            for text in _events(connection):
                cursor = (_ID.findall(text) or [cursor])[-1]
                if ready:
                    arrivals.take(text)
                elif _LAST in text:
                    arrivals.take(text)
                    log.write(f"{READY}\n")
                    log.flush()
                    ready = True
        # It was too slow, as a browser's EventSource is now and then: the events since come with the next stream.
        log.write(f"{AGAIN}\n")
        time.sleep(_AGAIN_SECONDS)


def _events(connection: socket.socket) -> Iterator[bytes]:
    """The text up to the end of the last whole event, until the server ends the stream."""
    rest: list[bytes] = []
    while chunk := connection.recv(1 << 20):
        end = chunk.rfind(_END)
        if end < 0:
            rest.append(chunk)
            continue
        yield b"".join([*rest, chunk[: end + len(_END)]])
        rest = [chunk[end + len(_END) :]]


def eds(port: int, log: TextIO, cluster: str, names: list[str]) -> None:
    """Responses, as they come."""
    node = Node(id=f"bench-{cluster or 'anywhere'}")
    if cluster:
        node.metadata.update({"cluster": cluster})
    arrivals = _Arrivals(log)
    ready = False
    for message in responses(port, names, node):
        arrivals.take(message)
        if not ready:
            ready = True
            log.write(f"{READY}\n")
            log.flush()


def main() -> None:
    """One of them, until it is ended."""
    kind, port, out, query, *names = sys.argv[1:]
    with Path(out).open("w") as log:
        if kind == "sse":
            sse(int(port), log, query)
        else:
            eds(int(port), log, query, names)


if __name__ == "__main__":
    main()
