"""Journals to measure with: a fleet of Services whose endpoints change one at a time, written by the real Collector.

The mix is a cluster's as people run it: most Services with one slice, some with several, a few headless or
dual-stack; slices of 10 to 20 endpoints with zone, node and Pod. Equal arguments make equal journals.
"""

import random
from collections.abc import Iterator
from typing import Any

from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import RESOURCES
from streams.wire.partitioning import DEFAULT_PARTITIONS
from streams.wire.timestamps import later

START = "2026-11-24T12:00:00.000Z"
CLUSTER = "east"


class Fleet:
    """`services` Services with `size` endpoints each (10 to 20 where it is None), 100 to a slice at most."""

    def __init__(self, services: int, size: int | None = None, partitions: int = DEFAULT_PARTITIONS) -> None:
        self.collector = Collector(CLUSTER, epoch=1, writer="bench", seq=0, partitions=partitions)
        self._chance = random.Random(1)
        self._version = 1000
        self._flushes = 0
        self._made = 0
        self.slices: list[dict[str, Any]] = []
        self._services = [self._service(i, size) for i in range(services)]

    @property
    def endpoints(self) -> int:
        """How many endpoints there are."""
        return sum(len(each["endpoints"]) for each in self.slices)

    def snapshot(self) -> list[JournalRecord]:
        """The epoch's begin and everything there is."""
        records = self.collector.begin(self._now())
        for resource in RESOURCES:
            self.collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
        for kind, items in (("Service", self._services), ("EndpointSlice", self.slices)):
            for item in items:
                self.collector.ingest(kind, ReflectorEvent(Kind.INIT_APPLY, item, ""))
        for resource in RESOURCES:
            self.collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, str(self._version)))
        return records + self.collector.flush(self._now())

    def changes(self, count: int, together: int) -> Iterator[JournalRecord]:
        """`count` changes of one endpoint each, `together` of them in each flush of the watcher."""
        for made in range(1, count + 1):
            item = self.change()
            self.collector.ingest("EndpointSlice", ReflectorEvent(Kind.APPLY, item, str(self._version)))
            if made % together == 0 or made == count:
                yield from self.collector.flush(self._now())

    def objects(self) -> Iterator[dict[str, Any]]:
        """Everything there is, as an API server lists it."""
        yield from self._services
        yield from self.slices

    def change(self) -> dict[str, Any]:
        """As the slice controller writes them: a Pod becomes ready or unready, or is replaced by another."""
        item = self._chance.choice(self.slices)
        endpoints = item["endpoints"]
        j = self._chance.randrange(len(endpoints))
        if self._chance.random() < 0.5:
            conditions = endpoints[j]["conditions"]
            ready = not conditions["ready"]
            endpoints[j] = {**endpoints[j], "conditions": {**conditions, "ready": ready, "serving": ready}}
        else:
            endpoints[j] = self._endpoint(item["metadata"]["labels"]["kubernetes.io/service-name"])
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        return item

    def _service(self, i: int, size: int | None) -> dict[str, Any]:
        name = f"service-{i}"
        count = size if size is not None else self._chance.randint(10, 20)
        if size is None and i % 20 == 0:
            count *= 3
        headless = i % 10 == 3
        width = 100 if size is not None else 20
        for first in range(0, count, width):
            self._version += 1
            self.slices.append(
                {
                    "kind": "EndpointSlice",
                    "metadata": {
                        "name": f"{name}-{self._chance.getrandbits(24):05x}"[-60:], "namespace": f"team-{i % 50}",
                        "uid": self._uid(), "resourceVersion": str(self._version),
                        "labels": {"kubernetes.io/service-name": name},
                    },
                    "addressType": "IPv4",
                    "ports": [
                        {"name": "http", "port": 8080, "protocol": "TCP"},
                        {"name": "metrics", "port": 9090, "protocol": "TCP"},
                    ][: 1 + i % 2],
                    "endpoints": [self._endpoint(name) for _ in range(min(width, count - first))],
                }
            )  # fmt: skip
        self._version += 1
        return {
            "kind": "Service",
            "metadata": {
                "name": name, "namespace": f"team-{i % 50}", "uid": self._uid(), "resourceVersion": str(self._version),
            },
            "spec": {
                "type": "ClusterIP", "selector": {"app": name},
                "clusterIP": "None" if headless else f"10.96.{i >> 8}.{i & 255}",
                "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
            },
        }  # fmt: skip

    def _endpoint(self, service: str) -> dict[str, Any]:
        # No two alike, and in no order.
        self._made += 1
        bits = self._made * 7_368_787 % 2**24
        node = bits % 500
        return {
            "addresses": [f"10.{bits >> 16}.{bits >> 8 & 255}.{bits & 255}"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"ip-10-0-{node >> 8}-{node & 255}.internal", "zone": f"eu-west-1{'abc'[node % 3]}",
            "targetRef": {"kind": "Pod", "namespace": "shop", "name": f"{service}-7d4b9c6f5-{bits % 99991:05d}",
                          "uid": self._uid()},
        }  # fmt: skip

    def _uid(self) -> str:
        bits = f"{self._chance.getrandbits(128):032x}"
        return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-a{bits[17:20]}-{bits[20:]}"

    def _now(self) -> str:
        self._flushes += 1
        return later(START, self._flushes)
