"""HTTP requests to a server of a made-up world, and xDS clients of it that acknowledge when they are told to."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.struct_pb2 import Struct

from streams.serve.http.endpoints import all_endpoints
from streams.serve.http.routes import add_endpoints, in_json
from streams.serve.http.sse import ChangesHub, SseSettings
from tests.support.serving import EDS, Served
from tests.unit.xds.world import CART


class Asked:
    """HTTP requests to a server."""

    def __init__(self, http: Any) -> None:
        self._http = http

    async def wait(self, **query: Any) -> dict[str, Any]:
        """The answer to `GET /v1/wait` for shop/cart."""
        for until in ("gone", "present"):
            if until in query:
                query |= {"address": query.pop(until), "until": until}
        return await self.get("/v1/wait", **{"namespace": "shop", "service": "cart", **query})

    async def get(self, path: str, **query: Any) -> dict[str, Any]:
        """An answer with its status."""
        answer = await self._http.get(path, params=query)
        body: dict[str, Any] = {"status": answer.status, **await answer.json()}
        return body

    async def now(self, **query: Any) -> bool:
        """Whether it is so now."""
        return bool((await self.wait(timeout="0.05", **query))["done"])


@contextlib.asynccontextmanager
async def asking(served: Served) -> AsyncIterator[Asked]:
    app = web.Application(middlewares=[in_json])
    add_endpoints(app, served.server, ChangesHub(SseSettings(), "", 1, 60.0), time.time, all_endpoints())
    async with TestClient(TestServer(app), connector=aiohttp.TCPConnector(limit=0)) as http:
        yield Asked(http)


async def follow(call: Any, node: str = "n1", cluster: str = "", name: str = CART) -> Any:
    """Subscribe to the Service's endpoints; returns the first response, not acknowledged."""
    metadata = Struct()
    if cluster:
        metadata["cluster"] = cluster
    request = discovery_pb2.DeltaDiscoveryRequest(
        node=Node(id=node, metadata=metadata), type_url=EDS, resource_names_subscribe=[name]
    )
    await call.write(request)
    return await call.read()


async def acknowledge(call: Any, response: Any, error: str = "") -> None:
    request = discovery_pb2.DeltaDiscoveryRequest(type_url=EDS, response_nonce=response.nonce)
    if error:
        request.error_detail.message = error
    await call.write(request)
