"""What hears of changes, each as a process of its own:

    python -m tests.bench.clients raw-watch KUBECONFIG OUT
    python -m tests.bench.clients subscriber BOOTSTRAP OUT
    python -m tests.bench.clients eds PORT OUT NAME
    python -m tests.bench.clients bare-list KUBECONFIG

The last prints as JSON how many objects there were, and how many seconds it took. From the others OUT gets a line for
each state of an EndpointSlice that came: the unix time at which it was decoded, its resourceVersion, and from the
subscriber the partition and the journal offset that made the row. EDS has no resourceVersion: instead there is a line
for each address that was not in the response before.
"""

import sys
import time
from pathlib import Path
from queue import SimpleQueue

import grpc
import orjson
import uvloop
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from streams.objects.resources import RESOURCES
from streams.serve.xds.build.names import TYPE_URLS
from streams.subscription.client import Snapshot, Subscriber
from tests.bench.objects import api_of

READY = "ready"
_ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
_NODE = Node(id="sidecar~10.0.0.1~x.default~default.svc.cluster.local")
"""As istiod wants it: type, address, name and DNS domain of the proxy."""


def raw_watch(kubeconfig: str, out: Path) -> None:
    """What an informer begins with: a watch of all EndpointSlices, each event decoded."""
    path = "/apis/discovery.k8s.io/v1/endpointslices"
    api = api_of(kubeconfig)
    version = api.get(path, limit="1")["metadata"]["resourceVersion"]
    with out.open("w", buffering=1) as log, api.stream(path, resourceVersion=version) as lines:
        log.write(f"{READY}\n")
        for line in lines:
            item = orjson.loads(line)
            now = time.time()
            log.write(f"{now} {item['object']['metadata']['resourceVersion']}\n")


def bare_list(kubeconfig: str) -> None:
    """Everything that the watcher needs, in pages of 500, decoded and thrown away."""
    api = api_of(kubeconfig)
    began = time.perf_counter()
    objects = 0
    for resource in RESOURCES:
        query = {"limit": "500"}
        while True:
            page = api.get(resource.path, **query)
            objects += len(page["items"])
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                break
    print(orjson.dumps({"objects": objects, "seconds": time.perf_counter() - began}).decode())


async def subscriber(bootstrap: str, out: Path) -> None:
    """A Subscriber as in the README."""
    with out.open("w", buffering=1) as log:
        async with Subscriber(bootstrap, tables=("backend",)) as follow:
            async for item in follow:
                if isinstance(item, Snapshot):
                    log.write(f"{READY}\n")
                    continue
                rows = [row.decode() for row in item.rows]
                now = time.time()
                for row in rows:
                    for cause in row["cause"]:
                        log.write(f"{now} {cause['resourceVersion']} {item.partition} {row['version']}\n")


def eds(port: str, out: Path, name: str) -> None:
    """What a proxy does: follows one endpoint set over an ADS stream, state of the world, and acknowledges."""
    asked: SimpleQueue[DiscoveryRequest] = SimpleQueue()
    held: set[str] = set()
    with out.open("w", buffering=1) as log, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(_ADS, DiscoveryRequest.SerializeToString, DiscoveryResponse.FromString)
        request = DiscoveryRequest(node=_NODE, type_url=TYPE_URLS["eds"], resource_names=[name])
        asked.put(request)
        for response in call(iter(asked.get, None), wait_for_ready=True):
            found = set()
            for resource in response.resources:
                for locality in ClusterLoadAssignment.FromString(resource.value).endpoints:
                    found |= {each.endpoint.address.socket_address.address for each in locality.lb_endpoints}
            now = time.time()
            if found and not held:
                log.write(f"{READY}\n")
            for address in found - held:
                log.write(f"{now} {address}\n")
            held = found
            asked.put(
                DiscoveryRequest(
                    type_url=request.type_url,
                    resource_names=[name],
                    version_info=response.version_info,
                    response_nonce=response.nonce,
                )
            )


def main() -> None:
    """One of them, until it is ended."""
    kind, source, *out = sys.argv[1:]
    if kind == "raw-watch":
        raw_watch(source, Path(out[0]))
    elif kind == "subscriber":
        uvloop.run(subscriber(source, Path(out[0])))
    elif kind == "eds":
        eds(source, Path(out[0]), out[1])
    else:
        bare_list(source)


if __name__ == "__main__":
    main()
