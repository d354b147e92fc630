"""What hears of changes, each as a process of its own:

    python -m tests.bench.clients raw-watch KUBECONFIG OUT
    python -m tests.bench.clients eds PORT OUT NAME
    python -m tests.bench.clients bare-list KUBECONFIG

The last prints as JSON how many objects there were, and how many seconds it took. From the others OUT gets a line for
each address that was not in the state before: the unix time at which that was decoded, and the address.
"""

import sys
import time
from pathlib import Path

import orjson
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse

from streams.objects.resources import RESOURCES
from tests.bench.delta_client import responses
from tests.bench.objects import api_of

READY = "ready"


def raw_watch(kubeconfig: str, out: Path) -> None:
    """What an informer begins with: a watch of all EndpointSlices, each event decoded."""
    path = "/apis/discovery.k8s.io/v1/endpointslices"
    api = api_of(kubeconfig)
    version = api.get(path, limit="1")["metadata"]["resourceVersion"]
    with out.open("w", buffering=1) as log, api.stream(path, resourceVersion=version) as lines:
        log.write(f"{READY}\n")
        held: set[str] = set()
        for line in lines:
            item = orjson.loads(line)
            now = time.time()
            addresses = {each["addresses"][0] for each in item["object"]["endpoints"]}
            for address in addresses - held:
                log.write(f"{now} {address}\n")
            held = addresses


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


def eds(port: str, out: Path, name: str) -> None:
    """What a router does: follows one endpoint set over incremental ADS, and acknowledges."""
    held: set[str] = set()
    with out.open("w", buffering=1) as log:
        for message in responses(int(port), [name]):
            addresses = set()
            for resource in DeltaDiscoveryResponse.FromString(message).resources:
                assignment = ClusterLoadAssignment.FromString(resource.resource.value)
                for locality in assignment.endpoints:
                    addresses |= {each.endpoint.address.socket_address.address for each in locality.lb_endpoints}
            now = time.time()
            if addresses and not held:
                log.write(f"{READY}\n")
            for address in addresses - held:
                log.write(f"{now} {address}\n")
            held = addresses or held


def main() -> None:
    """One of them, until it is ended."""
    kind, source, *out = sys.argv[1:]
    if kind == "raw-watch":
        raw_watch(source, Path(out[0]))
    elif kind == "eds":
        eds(source, Path(out[0]), out[1])
    else:
        bare_list(source)


if __name__ == "__main__":
    main()
