"""What keeps a watcher from its API server is told with the server, the kubeconfig and a remedy; servers are real."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from streams.kube.api_server import TRANSIENT, ApiServer
from streams.kube.cluster_errors import Obstacle
from streams.kube.clusters import ClusterConfig
from streams.objects.resources import SERVICES


def kubeconfig(tmp_path: Path, server: str) -> Path:
    path = tmp_path / "config"
    content = {
        "current-context": "prod",
        "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


@asynccontextmanager
async def listening(status: int = 200) -> AsyncIterator[str]:
    """The address of a server that answers everything with this status."""

    async def serve(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "message": "etcdserver: no leader"}, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def explained(cluster: ClusterConfig) -> Obstacle:
    async with ApiServer(cluster) as server:
        with pytest.raises(TRANSIENT) as raised:
            await server.preflight(SERVICES)
        found = server.explain(raised.value)
    assert "secret" not in found.problem + found.remedy
    return found


async def test_tls_with_a_port_that_has_none(tmp_path: Path) -> None:
    async with listening() as address:
        found = await explained(ClusterConfig("east", kubeconfig(tmp_path, f"https://{address}")))
    assert f"TLS with https://{address} failed" in found.problem
    assert str(tmp_path) in found.remedy


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        ("https://127.0.0.1:1", "no connection to https://127.0.0.1:1: Connect"),
        ("https://nowhere.invalid", "the host name of https://nowhere.invalid can't be resolved"),
    ],
)
async def test_nobody_there(tmp_path: Path, server: str, problem: str) -> None:
    found = await explained(ClusterConfig("east", kubeconfig(tmp_path, server), "prod"))
    assert problem in found.problem
    assert "check `server`" in found.remedy
    assert "(context prod)" in found.remedy
    assert not found.lasting


async def test_a_server_that_fails(tmp_path: Path) -> None:
    async with listening(500) as address:
        found = await explained(ClusterConfig("east", kubeconfig(tmp_path, f"http://{address}")))
    assert found.problem == f"http://{address} can't serve the request: HTTP 500: etcdserver: no leader"
    assert "readyz" in found.remedy
    assert not found.lasting
