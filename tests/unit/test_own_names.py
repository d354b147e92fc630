"""Requests that a web page elsewhere has a browser send are refused, whatever they ask for."""

import aiohttp
import pytest

from streams.runtime.own_names import is_own
from streams.runtime.probes import Readiness, probe_server


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1:8080", True),
        ("10.0.0.7", True),
        ("[::1]:8080", True),
        ("localhost:8080", True),
        ("LOCALHOST", True),
        ("dev.localhost", True),
        ("facets-serve:8080", True),
        ("facets.example.com", True),
        ("Facets.Example.com.:443", True),
        ("evil.example", False),
        ("evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("x@evil.example", False),
        ("[::1", False),
        ("example.com", False),
    ],
)
def test_a_host_is_an_address_or_a_name_of_the_server(host: str, own: bool) -> None:
    assert is_own(host, ("facets.example.com",)) == own


async def _get(port: int, path: str, **headers: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.text()


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/nothing"])
async def test_a_name_of_somebody_else_is_answered_with_nothing_of_the_server(path: str) -> None:
    async with probe_server("127.0.0.1", 0, Readiness({}), names=("facets.example.com",)) as port:
        status, text = await _get(port, path, Host="evil.example")
        assert status == 421
        assert "'evil.example' is not a name of this server" in text
        assert (await _get(port, path, Host="facets.example.com"))[0] in {200, 404}
        assert (await _get(port, path))[0] in {200, 404}


async def test_a_page_of_another_origin_is_refused() -> None:
    async with probe_server("127.0.0.1", 0, Readiness({})) as port:
        assert (await _get(port, "/healthz", Origin="http://evil.example"))[0] == 403
        assert (await _get(port, "/healthz", Origin=f"http://127.0.0.1:{port + 1}"))[0] == 403
        assert (await _get(port, "/healthz", Origin="null"))[0] == 403
        assert (await _get(port, "/healthz", Origin=f"http://127.0.0.1:{port}"))[0] == 200
