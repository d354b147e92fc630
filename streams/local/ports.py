"""Ports on loopback: whether one is free, which process has it, and which to use instead."""

import contextlib
import socket
from typing import NamedTuple

import psutil

from streams.errors import FacetsError
from streams.exit_codes import ExitCode

LOOPBACK = "127.0.0.1"


class WantedPort(NamedTuple):
    """A port to listen on, 0 for any. One that a person `named` is used or fails; a default may be replaced."""

    option: str
    number: int
    named: bool = False


def find_port(choice: WantedPort) -> tuple[int, str]:
    """The port to listen on, and why it isn't the wanted one ("" if it is). Raises FacetsError."""
    problem = _problem(choice.number)
    if not problem and choice.number:
        return choice.number, ""
    if problem and choice.named:
        raise FacetsError(
            f"port {choice.number} of 127.0.0.1 is taken{_by(choice.number)}" if problem == "taken" else
            f"can't listen on port {choice.number} of 127.0.0.1: {problem}",
            f"end what listens there, name another port with {choice.option}, or leave the option out for any free one",
            ExitCode.UNAVAILABLE,
        )  # fmt: skip
    with socket.socket() as free:
        try:
            free.bind((LOOPBACK, 0))
        except OSError as error:
            raise FacetsError("no port is free on 127.0.0.1", "end what holds them", ExitCode.UNAVAILABLE) from error
        number = int(free.getsockname()[1])
    if not problem:
        return number, ""
    reason = f"taken{_by(choice.number)}" if problem == "taken" else problem
    return number, f"port {choice.number} is {reason}: using {number} instead ({choice.option} chooses)"


def holder(port: int) -> psutil.Process | None:
    """The process that listens on a TCP port of this machine, if visible to this user."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                return psutil.Process(connection.pid) if connection.pid else None
    return None


def _problem(number: int) -> str:
    """Why nothing could listen on the port now; "" when it is free."""
    with socket.socket() as probe:
        # As servers do: closing connections of the last run don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, number))
        except PermissionError:
            return "not permitted for this user"
        except OSError:
            return "taken"
    return ""


def _by(port: int) -> str:
    process = holder(port)
    if process is None:
        return ""
    with contextlib.suppress(psutil.Error):
        command = " ".join(process.cmdline())[:60] or process.name()
        return f" by process {process.pid} ({command})"
    return f" by process {process.pid}"
