"""One cluster of a fleet: its objects, made when they are asked for, and what its watches are told.

Only the slices that have changed are held: 250 clusters of 1,000 endpoints are 90 MB of JSON. No two
endpoints of a fleet have one address. A change replaces an endpoint by one with an address that none had (`marker`), so
that its way can be followed.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import orjson

from streams.objects.resources import ENDPOINT_SLICES, ENDPOINTS, SERVICE_EXPORT, SERVICES, Resource

NAMESPACE = "shop"
SOME_CLUSTERS = 3
"""How many clusters export a Service that not all of them do."""

_NAMESPACES = Resource("Namespace", "namespaces", "/api/v1/namespaces")
_EXPORTS = SERVICE_EXPORT.served_as("v1beta1")
_WRITES_A_SECOND = 5
_FIRST_VERSION = 100_000
_HISTORY = 4096
"""How many events a watch may be behind before it is told that its version has expired."""

_BEGUN = time.monotonic()


class Shape(NamedTuple):
    """What a cluster has: Services of one slice each; the first `shared` of them are exported by all clusters, the
    next `some` by SOME_CLUSTERS each. The nodes are names: no facet follows a Node."""

    services: int = 10
    endpoints: int = 3
    nodes: int = 3
    shared: int = 0
    some: int = 0

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The types that are served."""
        always = (SERVICES, ENDPOINTS, _NAMESPACES, ENDPOINT_SLICES)
        return (*always, _EXPORTS) if self.shared or self.some else always


def cluster_name(number: int) -> str:
    """The name of a fleet's cluster."""
    return f"c{number:03d}"


def service_name(shape: Shape, cluster: int, index: int) -> str:
    """The name of a cluster's Service; what clusters export together has one name in them."""
    if index < shape.shared:
        return f"all-{index}"
    if index < shape.shared + shape.some:
        return f"some-{cluster // SOME_CLUSTERS}-{index}"
    return f"s{index}"


def marker(turn: int) -> str:
    """The address that a change brings."""
    return f"11.{turn >> 16}.{turn >> 8 & 255}.{turn & 255}"


class Track:
    """What the watches of one type are told: events by version, the newest _HISTORY of them."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.changed = asyncio.Event()
        group = f"{resource.group}/" if resource.group else ""
        self.api_version = group + resource.path.rsplit("/", 2)[1]
        self._events: deque[tuple[int, bytes]] = deque()
        self._dropped = (0, 0)

    def add(self, version: int, kind: str, body: bytes) -> None:
        """An event, for all watches."""
        self._events.append((version, self.event(kind, body)))
        if len(self._events) > _HISTORY:
            count, _ = self._dropped
            self._dropped = count + 1, self._events.popleft()[0]
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    @property
    def end(self) -> int:
        """The place after the newest event."""
        return self._dropped[0] + len(self._events)

    def place_after(self, version: int) -> int | None:
        """The place of the first event after a version; None where events after it are no longer held."""
        if version < self._dropped[1]:
            return None
        place = self.end
        for known, _ in reversed(self._events):
            if known <= version:
                break
            place -= 1
        return place

    def since(self, place: int, most: int) -> list[bytes] | None:
        """At most so many events from a place on; None where they are no longer held."""
        first = place - self._dropped[0]
        if first < 0:
            return None
        return [self._events[i][1] for i in range(first, min(len(self._events), first + most))]

    def event(self, kind: str, body: bytes) -> bytes:
        """A line of a watch."""
        head = b'{"type":"%b","object":{"kind":"%b","apiVersion":"%b",'
        return head % (kind.encode(), self.resource.kind.encode(), self.api_version.encode()) + body[1:] + b"}\n"


class Cluster:
    """The objects of cluster `number`, and their changes."""

    def __init__(self, number: int, shape: Shape) -> None:
        self.name = cluster_name(number)
        self.tracks = {resource.path: Track(resource) for resource in shape.resources}
        self._number = number
        self._shape = shape
        self._chance = random.Random(number)
        self._last = 0
        self._versions: dict[int, int] = {}
        self._changed: dict[int, list[str]] = {}
        self._makers: dict[str, Callable[[int], bytes]] = {
            SERVICES.path: self._service, ENDPOINT_SLICES.path: self._slice, _EXPORTS.path: self._export,
        }  # fmt: skip

    def version(self) -> int:
        """The newest resourceVersion. As in every cluster whose nodes live, it goes up all the time."""
        written = int((time.monotonic() - _BEGUN) * _WRITES_A_SECOND)
        self._last = max(self._last, _FIRST_VERSION + written)
        return self._last

    def objects(self, path: str) -> Iterator[bytes]:
        """The objects of a type, as a list has them."""
        if path == _NAMESPACES.path:
            yield orjson.dumps({"metadata": {"name": NAMESPACE, "uid": "ns", "resourceVersion": "1"}})
        elif path in self._makers:
            shape = self._shape
            count = shape.shared + shape.some if path == _EXPORTS.path else shape.services
            yield from map(self._makers[path], range(count))

    def change(self, turn: int) -> str:
        """An endpoint of some Service is replaced by one with the address `marker(turn)`. Returns the Service's
        name."""
        shape = self._shape
        index = self._chance.randrange(shape.services)
        name = service_name(shape, self._number, index)
        if index not in self._changed:
            self._changed[index] = self._endpoints(name, index)
        replaced = self._chance.randrange(shape.endpoints)
        self._changed[index][replaced] = self._endpoint(name, index, replaced, marker(turn))
        self._versions[index] = self._last = self.version() + 1
        self.tracks[ENDPOINT_SLICES.path].add(self._last, "MODIFIED", self._slice(index))
        return name

    def _service(self, index: int) -> bytes:
        name = service_name(self._shape, self._number, index)
        address = f"10.96.0.{index + 1}"
        return orjson.dumps(
            {
                "metadata": _meta(name, f"s{index}", 10 + index),
                "spec": {
                    "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
                    "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
                    "selector": {"app": name},
                },
            }
        )  # fmt: skip

    def _export(self, index: int) -> bytes:
        name = service_name(self._shape, self._number, index)
        created = f"2026-11-{1 + self._number % 28:02d}T12:00:00Z"
        return orjson.dumps({"metadata": {**_meta(name, f"e{index}", 900 + index), "creationTimestamp": created}})

    def _slice(self, index: int) -> bytes:
        name = service_name(self._shape, self._number, index)
        labels = {"kubernetes.io/service-name": name}
        meta = {**_meta(f"{name}-x", f"x{index}", self._versions.get(index, 50 + index)), "labels": labels}
        endpoints = ",".join(self._changed.get(index) or self._endpoints(name, index))
        return (
            b'{"metadata":%b,"addressType":"IPv4","ports":[{"name":"http","port":8080,"protocol":"TCP"}],'
            b'"endpoints":[%b]}' % (orjson.dumps(meta), endpoints.encode())
        )

    def _endpoints(self, service: str, index: int) -> list[str]:
        """Those of a Service that has not changed."""
        count = self._shape.endpoints
        return [self._endpoint(service, index, n, f"10.{self._number}.{index}.{n + 1}") for n in range(count)]

    def _endpoint(self, service: str, index: int, n: int, address: str) -> str:
        node = (index * self._shape.endpoints + n) % self._shape.nodes
        return (
            f'{{"addresses":["{address}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},'
            f'"nodeName":"node-{node}","zone":"zone-{node % 3}","targetRef":{{"kind":"Pod","namespace":"{NAMESPACE}",'
            f'"name":"{service}-5d9c7b6f4-{n}","uid":"9c1f7a52-0000-4000-{index:04d}-{address}"}}}}'
        )


def _meta(name: str, uid: str, version: int) -> dict[str, str]:
    return {"name": name, "namespace": NAMESPACE, "uid": uid, "resourceVersion": str(version)}
