"""Ten thousand Services in two made-up clusters, behind a real server on a real Kafka, for a browser to look at."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any

from tests.integration.mesh import Mesh, Tables, serving

CLUSTERS = ("east", "west")
SERVICES = 5000
"""In each cluster."""

ZONES = ("zone-a", "zone-b", "zone-c")


def name_of(number: int) -> str:
    return f"service-{number:04d}"


def namespace_of(number: int) -> str:
    return f"team-{number % 40:02d}"


def service(number: int) -> dict[str, Any]:
    """A Service; every seventh asks for session affinity, every eleventh is headless."""
    cluster_ip = "None" if number % 11 == 0 else f"10.{100 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
    return {
        "kind": "Service",
        "metadata": {"name": name_of(number), "namespace": namespace_of(number), "uid": f"s{number}"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ip,
            "clusterIPs": [cluster_ip],
            "sessionAffinity": "ClientIP" if number % 7 == 0 else "None",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        },
    }


def endpoints(number: int, cluster: str, down: int = 0) -> dict[str, Any]:
    """Its slice: of three endpoints in three zones, `down` are not ready; every thirteenth Service has none."""
    place = CLUSTERS.index(cluster)
    name = name_of(number)
    made = [
        {
            "addresses": [f"10.{10 + 60 * place + number // 60000}.{number // 80 % 250}.{number % 80 * 3 + i}"],
            "conditions": {"ready": i >= down, "serving": i >= down, "terminating": False},
            "zone": ZONES[i],
            "nodeName": f"{cluster}-node-{(number + i) % 50}",
            "targetRef": {
                "kind": "Pod",
                "namespace": namespace_of(number),
                "name": f"{name}-{i}",
                "uid": f"p{number}{i}",
            },
        }
        for i in range(3)
    ]
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-x",
            "namespace": namespace_of(number),
            "uid": f"e{number}",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [] if number % 13 == 0 else made,
    }


class ManyServices:
    """The server, in a thread with a loop of its own."""

    def __init__(self, bootstrap: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.tables = Tables(bootstrap)
        for cluster in CLUSTERS:
            numbers = range(SERVICES)
            self.tables.start(
                *map(service, numbers), *(endpoints(number, cluster) for number in numbers), cluster=cluster
            )
        self._stack = contextlib.AsyncExitStack()
        self.mesh: Mesh = self._await(self._stack.enter_async_context(serving(bootstrap, self.tables)))
        self.url = f"http://127.0.0.1:{self.mesh.http_port}"

    def _await(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(180)

    def close(self) -> None:
        self._await(self._stack.aclose())
        self.tables.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()
