"""Requests that wait on a server are counted, whatever they wait for, and limited."""

from collections.abc import Iterator
from contextlib import contextmanager

from streams.serve.http.query import Busy
from streams.serve.xds.server import XdsServer

_MOST_WAITERS = 100


class Waiters:
    """Counts and limits the requests that wait on a server."""

    def __init__(self) -> None:
        self._count: dict[XdsServer, int] = {}

    @contextmanager
    def count_in(self, server: XdsServer) -> Iterator[None]:
        """Count one in. Raises Busy."""
        if self._count.get(server, 0) >= _MOST_WAITERS:
            raise Busy(f"too many waiting requests: the limit is {_MOST_WAITERS}", 5)
        self._count[server] = self._count.get(server, 0) + 1
        try:
            yield
        finally:
            self._count[server] -= 1
            if not self._count[server]:
                del self._count[server]


WAITERS = Waiters()
"""The waiting requests of all endpoints."""
