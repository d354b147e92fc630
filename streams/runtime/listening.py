"""Listens on an address; the error names it and the option that chooses another."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from streams.errors import FacetsError
from streams.exit_codes import ExitCode


@contextmanager
def listen_errors(what: str, host: str, port: int) -> Iterator[None]:
    """Raises FacetsError if the block can't listen on an address: taken, not this machine's, or invalid."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        raise FacetsError(
            f"{what} can't listen on {host}:{port}: {getattr(error, 'strerror', '') or error}",
            "choose another --http-port (0: any free one), or --http-host",
            ExitCode.UNAVAILABLE,
        ) from error


def listen(what: str, host: str, port: int) -> socket.socket:
    """A socket that listens on the address (port 0: any free one), and so reserves it. Raises FacetsError."""
    with listen_errors(what, host, port):
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
