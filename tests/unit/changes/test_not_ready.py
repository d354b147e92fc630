"""Before the first snapshot HTTP clients are told to come back, and a server that ends says so."""

import time

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from streams.runtime.probes import add_probe_routes
from streams.serve.http.endpoints import all_endpoints
from streams.serve.http.routes import add_endpoints, in_json
from streams.serve.http.sse import ChangesHub, SseSettings
from streams.serve.run import serve_readiness
from streams.serve.xds.server import XdsServer, XdsSettings
from tests.support.feed_log import Log


@pytest.mark.parametrize("path", ["/readyz", "/v1/changes", "/v1/facets/backend", "/v1/facets/backend/shop/cart"])
async def test_not_ready_is_503_with_a_time_to_come_back(path: str) -> None:
    hub = ChangesHub(SseSettings(), "nowhere", 2, 60.0)
    app = web.Application(middlewares=[in_json])
    add_endpoints(app, XdsServer(XdsSettings(), 2), hub, time.time, all_endpoints())
    add_probe_routes(app, serve_readiness(XdsServer(XdsSettings(), 2), hub))
    async with TestClient(TestServer(app)) as http:
        answer = await http.get(path)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert (await http.get("/healthz")).status == 200


async def test_the_stream_ends_with_a_word_when_the_server_does() -> None:
    hub = ChangesHub(SseSettings(), "nowhere", 2, 60.0)
    log = Log(hub.feed)
    hub.replace("start", (), {}, log.cursor)
    app = web.Application(middlewares=[in_json])
    add_endpoints(app, XdsServer(XdsSettings(), 2), hub, time.time, all_endpoints())
    async with TestClient(TestServer(app)) as http:
        answer = await http.get("/v1/changes")
        await answer.content.readuntil(b"\n\n")
        await hub.close()
        text = (await answer.content.read()).decode()
        assert text.startswith("event: end\n")
        assert '"reason":"shutdown"' in text
