"""The xDS server on a real port, with a made-up world behind it, and streams to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from streams.serve.xds.build.names import TYPE_URLS
from streams.serve.xds.server import XdsServer, XdsSettings
from tests.unit.xds.world import World, endpoint, service, slice_of

DEADLINE = 30
EDS = TYPE_URLS["eds"]


class Served:
    """A world, and a server that gets each of its batches."""

    def __init__(self, server: XdsServer, world: World) -> None:
        self.server, self.world = server, world

    def put(self, *items: dict[str, Any]) -> None:
        """Apply objects, in the world and on the server."""
        self.world.put(*items)
        self._apply()

    def drop(self, *items: dict[str, Any]) -> None:
        """Delete objects, in the world and on the server."""
        self.world.drop(*items)
        self._apply()

    def _apply(self) -> None:
        for batch in self.world.batches:
            self.server.apply(batch.rows, batch.seal, 0)
        self.world.batches.clear()


@contextlib.asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Served]:
    world = World()
    server = XdsServer(XdsSettings(port=0, **settings), 1)
    server.replace((), {})
    served = Served(server, world)
    served.put(service(), slice_of(endpoint("10.1.0.1")))
    await server.start()
    try:
        yield served
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def stream(server: XdsServer, variant: str = "Stream", service: str = "") -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        if service:
            call = channel.stream_stream(
                service,
                discovery_pb2.DiscoveryRequest.SerializeToString,
                discovery_pb2.DiscoveryResponse.FromString,
            )()
        else:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            call = getattr(stub, f"{variant}AggregatedResources")()
        async with asyncio.timeout(DEADLINE):
            yield call
        call.cancel()
