"""What hears of changes, each as a process of its own:

    python -m tests.bench.clients raw-watch KUBECONFIG OUT
    python -m tests.bench.clients subscriber BOOTSTRAP OUT
    python -m tests.bench.clients bare-list KUBECONFIG

The last prints as JSON how many objects there were, and how many seconds it took. From the others OUT gets a line for
each state of an EndpointSlice that came: the unix time at which it was decoded, its resourceVersion, and from the
subscriber the partition and the journal offset that made the row.
"""

import sys
import time
from pathlib import Path

import orjson
import uvloop

from streams.core.resources import RESOURCES
from streams.edges.subscriber import Snapshot, Subscriber
from tests.bench.objects import api_of

READY = "ready"


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


def main() -> None:
    """One of them, until it is ended."""
    kind, source, *out = sys.argv[1:]
    if kind == "raw-watch":
        raw_watch(source, Path(out[0]))
    elif kind == "subscriber":
        uvloop.run(subscriber(source, Path(out[0])))
    else:
        bare_list(source)


if __name__ == "__main__":
    main()
