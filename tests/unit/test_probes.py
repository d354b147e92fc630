"""What every process answers on its HTTP port: the truth, and nothing on other paths."""

import socket

import aiohttp
import pytest

from streams.errors import FacetsError
from streams.runtime.probes import HOST, Readiness, probe_server


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{HOST}:{port}{path}") as answer:
        return answer.status, await answer.text()


async def test_readyz_says_what_is_missing_and_healthz_that_the_process_runs() -> None:
    missing = {"journal": "no broker", "tables": ""}
    readiness = Readiness({name: lambda name=name: missing[name] for name in missing}, details=lambda: {"at": "now"})
    async with probe_server(HOST, 0, readiness) as port:
        assert await get(port, "/readyz") == (503, '{"error": "journal: no broker"}')
        assert await get(port, "/healthz") == (200, '{"healthy": true}')
        missing["tables"] = "not read"
        assert (await get(port, "/readyz"))[1] == '{"error": "journal: no broker; tables: not read"}'
        missing.update(journal="", tables="")
        assert await get(port, "/readyz") == (200, '{"ready": true, "at": "now"}')


async def test_metrics_are_as_of_when_they_are_read_and_other_paths_are_not_found() -> None:
    calls: list[int] = []
    async with probe_server(HOST, 0, Readiness(refresh=lambda: calls.append(1))) as port:
        status, text = await get(port, "/metrics")
        assert (status, calls, "python_info" in text) == (200, [1], True)
        for path in ("/", "/metric", "/metrics/x", "/nope"):
            assert (await get(port, path))[0] == 404


async def test_a_taken_port_is_an_error_with_its_remedy_unless_any_will_do() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FacetsError, match=f"can't listen on {HOST}:{port}") as error:
            async with probe_server(HOST, port, Readiness()):
                pass
        assert "--http-port" in error.value.remedy
        async with probe_server(HOST, port, Readiness(), or_any=True) as other:
            assert other != port
            assert (await get(other, "/healthz"))[0] == 200
