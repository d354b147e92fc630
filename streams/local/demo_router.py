"""A router of the demo: it follows the clusters and endpoint sets of one cluster over xDS, and acknowledges them."""

import asyncio
from contextlib import suppress

import grpc
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from streams.local.ports import LOOPBACK
from streams.serve.xds.build.names import TYPE_URLS

_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_AGAIN_SECONDS = 0.2


class DemoRouter:
    """`node` is its name, `cluster` the one that it is in. `is_following` is set once it has had its first sets."""

    def __init__(self, port: int, node: str, cluster: str) -> None:
        self.node = Node(id=node)
        self.node.metadata.update({"cluster": cluster})
        self.is_following = asyncio.Event()
        self._port = port

    async def run(self) -> None:
        """Follow everything until cancelled; after a lost connection, again."""
        while True:
            async with grpc.aio.insecure_channel(f"{LOOPBACK}:{self._port}") as channel:
                with suppress(grpc.aio.AioRpcError):
                    await self._follow(channel)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _follow(self, channel: grpc.aio.Channel) -> None:
        stream = channel.stream_stream(
            _METHOD,
            request_serializer=DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=DeltaDiscoveryResponse.FromString,
        )()
        clusters, sets = TYPE_URLS["cds"], TYPE_URLS["eds"]
        await stream.write(DeltaDiscoveryRequest(node=self.node, type_url=clusters, resource_names_subscribe=["*"]))
        async for response in stream:
            await stream.write(DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce))
            if response.type_url == sets:
                self.is_following.set()
                continue
            names = [resource.name for resource in response.resources]
            await stream.write(
                DeltaDiscoveryRequest(
                    type_url=sets,
                    resource_names_subscribe=names,
                    resource_names_unsubscribe=response.removed_resources,
                )
            )
