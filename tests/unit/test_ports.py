"""A port that is taken: another one where that is all the same, an error where a person named it."""

import os
import socket
from collections.abc import Iterator

import pytest

from streams.errors import FacetsError
from streams.local.ports import WantedPort, find_port


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_another_port_is_taken_and_said(taken: int) -> None:
    number, moved = find_port(WantedPort("--http-port", taken))
    assert number not in {0, taken}
    assert moved.startswith(f"port {taken} is taken by process {os.getpid()} (")
    assert moved.endswith(f"): using {number} instead (--http-port chooses)")


def test_a_named_port_is_that_or_none(taken: int) -> None:
    with pytest.raises(FacetsError, match=f"port {taken} of 127.0.0.1 is taken by process {os.getpid()} ") as error:
        find_port(WantedPort("--http-port", taken, named=True))
    assert "--http-port" in error.value.remedy


def test_a_free_port_is_used_without_a_word() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    assert find_port(WantedPort("--http-port", number)) == (number, "")
    assert find_port(WantedPort("--http-port", number, named=True)) == (number, "")


def test_0_is_any_port() -> None:
    number, moved = find_port(WantedPort("--http-port", 0, named=True))
    assert (number > 0, moved) == (True, "")
