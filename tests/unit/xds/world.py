"""Made-up clusters whose objects go through the real collector, fold and subscription into a catalog."""

from collections.abc import Iterable
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2

from streams.facets.tables import WORKER_TABLES
from streams.fold.fold import PartitionFold
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import OPTIONAL, RESOURCES
from streams.serve.xds.build.catalog import Catalog, Changes
from streams.serve.xds.build.client import Client
from streams.serve.xds.build.names import Kind as XdsKind
from streams.serve.xds.build.resource import Absence, Resource
from streams.serve.xds.build.service_index import Key
from streams.subscription.delivery import Batch, Subscription
from streams.subscription.rows import Filter, Row
from streams.wire.keys import SEAL_PREFIX, parse_row_key

_ALL = (*RESOURCES, *OPTIONAL)
CART = "cart.shop.svc.cluster.local:80"
EXPORTED_CART = "cart.shop.svc.clusterset.local:80"
_MESSAGES: dict[XdsKind, Any] = {
    "cds": cluster_pb2.Cluster,
    "eds": endpoint_pb2.ClusterLoadAssignment,
    "lds": listener_pb2.Listener,
    "rds": route_pb2.RouteConfiguration,
}


class World:
    """One partition that holds everything. `put` and `drop` change objects and give the names that changed;
    `changed_hosts` are then the sets whose hosts may have changed."""

    def __init__(self, *clusters: str, complete: bool = True) -> None:
        self.fold = PartitionFold(0, WORKER_TABLES)
        self.catalog = Catalog(1)
        self.rows: dict[tuple[str, str, str], bytes] = {}
        self._subscription: Subscription | None = None
        self._collectors: dict[str, Collector] = {}
        self.batches: list[Batch] = []
        self.changes: list[Changes] = []
        self.changed_hosts: set[Key] = set()
        self._offset = 0
        self._version = 10
        self._at = 0
        for cluster in clusters or ("east",):
            self.start(cluster, complete=complete)

    def start(self, cluster: str, *items: dict[str, Any], complete: bool = True) -> set[str]:
        """A cluster's snapshot, or the beginning of one."""
        self.changed_hosts.clear()
        domain = "cluster.local"
        collector = Collector(
            cluster, epoch=1, writer="test", seq=0, partitions=1, resources=_ALL, cluster_domain=domain
        )
        self._collectors[cluster] = collector
        changed = self._journal(collector.begin(self._now()))
        for resource in _ALL:
            collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
        for item in items:
            collector.ingest(item["kind"], ReflectorEvent(Kind.INIT_APPLY, self._stamped(item), ""))
        if complete:
            for resource in _ALL:
                collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, str(self._version)))
        return changed | self._journal(collector.flush(self._now()))

    @property
    def objects(self) -> int:
        """The resourceVersion of the newest object."""
        return self._version

    def put(self, *items: dict[str, Any], cluster: str = "east") -> set[str]:
        """Apply objects in one commit."""
        return self._change(Kind.APPLY, items, cluster)

    def drop(self, *items: dict[str, Any], cluster: str = "east") -> set[str]:
        """Delete objects in one commit."""
        return self._change(Kind.DELETE, items, cluster)

    def get(self, kind: XdsKind, name: str = CART, client: Client = Client()) -> Any:  # noqa: B008
        """The decoded resource, or why there is none."""
        found = self.catalog.resource(kind, name, client)
        return found if isinstance(found, Absence) else decode(kind, found)

    def version(self, kind: XdsKind, name: str = CART) -> str:
        found = self.catalog.resource(kind, name, Client())
        assert isinstance(found, Resource)
        return found.version

    def replica(self) -> Catalog:
        """What a server makes that reads the tables now."""
        catalog = Catalog(1)
        state = self._following()
        rows = [Row(table, *parse_row_key(key), 0, value) for (table, key, _), value in self.rows.items()]
        catalog.replace([row for row in rows if b'"state":"deleted"' not in row.value], state.seals)
        return catalog

    def _change(self, kind: Kind, items: Iterable[dict[str, Any]], cluster: str) -> set[str]:
        self.changed_hosts.clear()
        collector = self._collectors[cluster]
        for item in items:
            stamped = self._stamped(item)
            collector.ingest(item["kind"], ReflectorEvent(kind, stamped, str(self._version)))
        return self._journal(collector.flush(self._now()))

    def _journal(self, records: Iterable[JournalRecord]) -> set[str]:
        changed: set[str] = set()
        for record in records:
            writes = self.fold.step(self._offset, record.value)
            self._offset += 1
            state = self._following({write.table for write in writes if write.key.startswith(SEAL_PREFIX)})
            for write in writes:
                if write.table not in state.tables:
                    continue
                if write.value is not None and not write.key.startswith(b"~"):
                    self.rows[write.table, write.key.decode(), ""] = write.value
                for batch in state.feed(write.table, 0, self._offset, write.key, write.value, write.version):
                    self.batches.append(batch)
                    self.changes.append(self.catalog.apply(batch.rows, batch.seal, 0))
                    changed |= names_in(self.changes[-1])
                    self.changed_hosts |= {key for key, change in self.changes[-1].items() if change.of_hosts}
        return changed

    def _following(self, tables: Iterable[str] = ()) -> Subscription:
        if self._subscription is None:
            self._subscription = Subscription(sorted(tables), 1, Filter())
            self._subscription.ready()
        return self._subscription

    def _stamped(self, item: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        return {**item, "metadata": {**item["metadata"], "resourceVersion": str(self._version)}}

    def _now(self) -> str:
        self._at += 1
        return f"2026-11-24T12:00:{self._at // 1000:02}.{self._at % 1000:03}Z"


def names_in(changes: Changes) -> set[str]:
    """All names in some changes."""
    return {name for change in changes.values() for name in change.names}


def decode(kind: XdsKind, resource: Resource) -> Any:
    """The message in a resource."""
    return _MESSAGES[kind].FromString(resource.body.value)


def service(name: str = "cart", **spec: Any) -> dict[str, Any]:
    """A ClusterIP Service in `shop` with port 80 (http)."""
    base = {"type": "ClusterIP", "clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}
    return {
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}"},
        "spec": {**base, **spec},
    }


def owners(world: "World", client: Client = Client(), name: str = EXPORTED_CART) -> dict[str, str]:  # noqa: B008
    """By address (in the order of the set) the cluster whose endpoint it is; none is there twice."""
    entries = [entry for locality in world.get("eds", name, client).endpoints for entry in locality.lb_endpoints]
    addresses = {}
    for entry in entries:
        cluster = entry.metadata.filter_metadata["facets"]["cluster"]
        others = [other.address for other in entry.endpoint.additional_addresses]
        for address in (entry.endpoint.address, *others):
            assert address.socket_address.address not in addresses
            addresses[address.socket_address.address] = cluster
    return addresses


def exported_cart(created: str = "2026-11-24T12:00:00Z") -> dict[str, Any]:
    """The ServiceExport of `cart`."""
    meta = {"name": "cart", "namespace": "shop", "uid": "uid-export", "creationTimestamp": created}
    return {"kind": "ServiceExport", "metadata": meta, "spec": {}}


def endpoint(address: str, **fields: Any) -> dict[str, Any]:
    """A ready endpoint; conditions by name, the rest as the API has it."""
    conditions = {key: fields.pop(key) for key in ("ready", "serving", "terminating") if key in fields}
    return {"addresses": [address], "conditions": {"ready": True, **conditions}, **fields}


def slice_of(*endpoints: dict[str, Any], owner: str = "cart", name: str = "", **fields: Any) -> dict[str, Any]:
    """A slice with these endpoints, on port 8080 (http)."""
    name = name or f"{owner}-a"
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "labels": {"kubernetes.io/service-name": owner},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
        **fields,
    }


def summary(load: endpoint_pb2.ClusterLoadAssignment) -> dict[str, tuple[int, str, str]]:
    """By address: priority, zone and health."""
    names = {1: "HEALTHY", 2: "UNHEALTHY", 3: "DRAINING"}
    return {
        f"{each.endpoint.address.socket_address.address}:{each.endpoint.address.socket_address.port_value}": (
            locality.priority,
            locality.locality.zone,
            names[each.health_status],
        )
        for locality in load.endpoints
        for each in locality.lb_endpoints
    }
