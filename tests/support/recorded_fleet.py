"""Clusters that change at random, on a real Kafka, with a record of what their objects were at each moment."""

import copy
import random
from typing import Any, NamedTuple

from streams.wire.timestamps import later
from tests.integration.mesh import endpoint_slice, service
from tests.support.clustersets import export
from tests.support.journaled_tables import JournaledTables

Json = dict[str, Any]
BEGIN = "2026-11-24T12:00:00.000Z"
CLUSTERS = {"east": "10.1.0", "west": "10.2.0"}
SERVICES = ("s0", "s1", "s2", "s3")
EXPORTED = "s0"
ADDRESSES = 12
ZONES = ("z1", "z2")
NODES = ("n1", "n2", "n3")


class Held(NamedTuple):
    """An endpoint as an object has it."""

    cluster: str
    service: str
    address: str
    zone: str
    node: str
    pod: str


class RecordedFleet:
    """Two clusters of a few Services each. An address is in one slice at a time, and wanders between Services."""

    def __init__(self, bootstrap: str, seed: int) -> None:
        self.tables = JournaledTables(bootstrap)
        self.at = BEGIN
        self._random = random.Random(seed)
        self._world: dict[tuple[str, str, str], Json] = {}
        self._past: list[tuple[str, dict[tuple[str, str, str], Json]]] = []

    def start(self) -> None:
        """Both clusters' snapshots."""
        for cluster in CLUSTERS:
            items = [service(name, clusterIP=self.cluster_ip(cluster, name)) for name in SERVICES]
            items += [service("db", type="ExternalName", externalName=f"db.{cluster}.example.com", clusterIP="None")]
            items += [export(EXPORTED, created=BEGIN)]
            self._keep(cluster, *items)
            self.tables.start(*items, cluster=cluster)

    def run(self, changes: int) -> None:
        """So many changes, a second apart."""
        for _ in range(changes):
            self.change()

    def change(self) -> tuple[str, str, int]:
        """One change, a second later: the cluster, the Service and the resourceVersion of it."""
        self.at = self.tables.at = later(self.at, 1.0)
        cluster = self._random.choice([*CLUSTERS])
        name = self._random.choice(SERVICES)
        slice_name = f"{name}-{self._random.choice('ab')}"
        key = (cluster, "EndpointSlice", slice_name)
        if key in self._world and self._random.random() < 0.2:
            item = self._world.pop(key)
            version = self.tables.drop(item, cluster=cluster)
        else:
            item = self._slice(cluster, name, slice_name)
            self._keep(cluster, item)
            version = self.tables.put(item, cluster=cluster)
        self._past.append((self.at, copy.deepcopy(self._world)))
        return cluster, name, version

    def endpoints(self, at: str = "") -> list[Held]:
        """The endpoints that the objects had at a time, or have."""
        world = self._world
        if at:
            world = [then for time, then in [("", {}), *self._past] if time <= at][-1]
        held = []
        for (cluster, kind, _), item in sorted(world.items()):
            if kind != "EndpointSlice":
                continue
            owner = item["metadata"]["labels"]["kubernetes.io/service-name"]
            for endpoint in item["endpoints"]:
                target = endpoint["targetRef"]["name"]
                held.append(
                    Held(cluster, owner, endpoint["addresses"][0], endpoint["zone"], endpoint["nodeName"], target)
                )
        return held

    @staticmethod
    def cluster_ip(cluster: str, name: str) -> str:
        """The cluster IP of a Service."""
        return f"10.9{[*CLUSTERS].index(cluster)}.0.{SERVICES.index(name) + 1}"

    def _slice(self, cluster: str, owner: str, name: str) -> Json:
        elsewhere = {
            endpoint["addresses"][0]
            for (of, kind, other), item in self._world.items()
            if (of, kind) == (cluster, "EndpointSlice") and other != name
            for endpoint in item["endpoints"]
        }
        free = [a for i in range(1, ADDRESSES + 1) if (a := f"{CLUSTERS[cluster]}.{i}") not in elsewhere]
        chosen = self._random.sample(free, min(len(free), self._random.randrange(4)))
        item = endpoint_slice(name, owner, 8080, dict.fromkeys(chosen, "ready"))
        for endpoint in item["endpoints"]:
            address = endpoint["addresses"][0]
            endpoint["zone"] = self._random.choice(ZONES)
            endpoint["nodeName"] = self._random.choice(NODES)
            pod = f"{owner}-{address.rpartition('.')[2]}"
            endpoint["targetRef"] = {"kind": "Pod", "namespace": "shop", "name": pod, "uid": f"uid-{cluster}-{pod}"}
        return item

    def _keep(self, cluster: str, *items: Json) -> None:
        for item in items:
            self._world[cluster, item["kind"], item["metadata"]["name"]] = item
        if len(self._past) < len(CLUSTERS):
            self._past.append((self.at, copy.deepcopy(self._world)))
