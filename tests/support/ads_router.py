"""A router as plain as one can be: a stream of incremental ADS that acknowledges what it gets."""

import queue
import threading
from collections.abc import Iterator

import grpc
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from streams.serve.xds.build.names import TYPE_URLS


class AdsRouter:
    """A client that follows all clusters, and the endpoint sets of these names, in a thread of its own."""

    def __init__(self, address: str, node: str, cluster: str, *names: str) -> None:
        self._requests: queue.SimpleQueue[DeltaDiscoveryRequest | None] = queue.SimpleQueue()
        first = DeltaDiscoveryRequest(type_url=TYPE_URLS["cds"])
        first.node.id = node
        first.node.metadata["cluster"] = cluster
        self._requests.put(first)
        self._requests.put(DeltaDiscoveryRequest(type_url=TYPE_URLS["eds"], resource_names_subscribe=names))
        self._answers = threading.Event()
        self._answers.set()
        self._refuses = ""
        self._channel = grpc.insecure_channel(address)
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(self._channel)
        self._call = stub.DeltaAggregatedResources(self._said())
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Answer nothing from now on."""
        self._answers.clear()

    def refuse(self, why: str) -> None:
        """Refuse what comes from now on."""
        self._refuses = why

    def go_on(self) -> None:
        """Answer again."""
        self._answers.set()

    def close(self) -> None:
        self._answers.set()
        self._requests.put(None)
        self._call.cancel()
        self._channel.close()
        self._thread.join(30)

    def _said(self) -> Iterator[DeltaDiscoveryRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def _read(self) -> None:
        try:
            for response in self._call:
                self._answers.wait()
                self._requests.put(self._answer(response))
        except grpc.RpcError:
            pass  # It is closed, or the server is.

    def _answer(self, response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest:
        request = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if self._refuses:
            request.error_detail.message = self._refuses
        return request
