"""Clusters that export Services, folded from the watcher's collector on, in one partition."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import orjson

from streams.facets.contribution import ContributionTable
from streams.facets.tables import WORKER_TABLES
from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import OPTIONAL, RESOURCES
from streams.subscription.rows import Row
from streams.subscription.set_rows import SetRows
from streams.wire.keys import is_row, is_set, parse_row_key
from tests.support.naive_clusterset import ID_PROPERTY, NaiveCluster, Name

WINDOW = 60
NOW = 1_764_000_000_000
_ALL = (*RESOURCES, *OPTIONAL)
_DROP = ("service-facets.io/drop-unavailable-after", "service-facets.io/drop-unavailable-floor")
_SHELVES = {"Service": "services", "EndpointSlice": "slices", "ServiceExport": "exports"}


def service(name: str = "cart", **spec: Any) -> dict[str, Any]:
    """A Service with two ports."""
    ports = [
        {"name": "http", "port": 80, "protocol": "TCP"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
    ]
    whole = {"clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"], "ports": ports, **spec}
    return {"kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": whole}


def endpoint_slice(
    name: str, *addresses: str, of: str = "cart", hostnames: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """An EndpointSlice with one endpoint for each address; `hostnames` are those of some of them."""
    return {
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}],
        "endpoints": [
            {
                "addresses": [address],
                "zone": "z1",
                "nodeName": "n1",
                **({"hostname": hostnames[address]} if address in hostnames else {}),
            }
            for address in addresses
        ],
    }


def export(
    name: str = "cart",
    created: str = "2026-11-24T12:00:00Z",
    drop: tuple[str, str] | None = None,
    prefer: str = "",
    **spec: Any,
) -> dict[str, Any]:
    """A ServiceExport; `drop` is its policy: after which time, and above which share. `prefer` is what clients try
    first."""
    meta: dict[str, Any] = {"name": name, "namespace": "shop", "creationTimestamp": created}
    if drop is not None:
        meta["annotations"] = dict(zip(_DROP, drop, strict=True))
    if prefer:
        meta.setdefault("annotations", {})["service-facets.io/prefer"] = prefer
    return {"kind": "ServiceExport", "metadata": meta, "spec": spec}


def cluster_id(value: Any) -> dict[str, Any]:
    """The ClusterProperty that names the cluster."""
    return {"kind": "ClusterProperty", "metadata": {"name": ID_PROPERTY}, "spec": {"value": value}}


class Member:
    """A cluster: its objects, and its watcher's collector. What it does returns the journal's records."""

    def __init__(self, name: str, epoch: int = 1, partitions: int = 1) -> None:
        self.naive = NaiveCluster(name, {}, {}, {}, {})
        self.collector = Collector(name, epoch=epoch, writer=f"w{epoch}", seq=0, partitions=partitions, resources=_ALL)
        self._namespaces: dict[str, dict[str, Any]] = {}
        self._version = 0
        self.second = 0

    def at(self) -> str:
        """The time by its clock."""
        return f"2026-11-24T{12 + self.second // 3600:02}:{self.second // 60 % 60:02}:{self.second % 60:02}.000Z"

    def begin(self, *items: dict[str, Any]) -> list[JournalRecord]:
        """The first lists, as one snapshot."""
        records = self.collector.begin(self.at())
        for resource in _ALL:
            self.collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
        for item in items:
            self.collector.ingest(item["kind"], ReflectorEvent(Kind.INIT_APPLY, self._stamped(item), ""))
        for resource in _ALL:
            self.collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, str(self._version)))
        return [*records, *self.collector.flush(self.at())]

    def begin_again(self, epoch: int, *more: dict[str, Any]) -> list[JournalRecord]:
        """Another watcher: the first lists have what is there, and `more`, which came meanwhile."""
        for item in more:
            self._stamped(item)
        held = [
            item
            for shelf in (self.naive.services, self.naive.slices, self.naive.exports, self.naive.properties)
            for item in shelf.values()
        ]
        again = Member(self.naive.name, epoch)
        again._version, again.second = self._version, self.second
        self.collector = again.collector
        return self.begin(*held)

    def apply(self, *items: dict[str, Any]) -> list[JournalRecord]:
        """Objects are there, or have changed: one commit."""
        for item in items:
            self.collector.ingest(item["kind"], ReflectorEvent(Kind.APPLY, self._stamped(item), str(self._version)))
        return self.flush()

    def delete(self, *items: dict[str, Any]) -> list[JournalRecord]:
        """Objects are deleted: one commit."""
        for item in items:
            stamped = self._stamped(item)
            self._shelf(item).pop(self._name(item), None)
            self.collector.ingest(item["kind"], ReflectorEvent(Kind.DELETE, stamped, str(self._version)))
        return self.flush()

    def flush(self) -> list[JournalRecord]:
        """What is pending."""
        return self.collector.flush(self.at())

    def heartbeat(self, *, stale_since: str = "") -> list[JournalRecord]:
        """An empty commit."""
        self.collector.commits.stale_since = stale_since
        return self.collector.heartbeat(self.at())

    def has(self, item: dict[str, Any]) -> bool:
        """Whether an object of this kind and name is there."""
        return self._name(item) in self._shelf(item)

    def _stamped(self, item: dict[str, Any]) -> dict[str, Any]:
        if "resourceVersion" in item["metadata"]:
            return item
        self._version += 1
        meta = {**item["metadata"], "uid": f"{item['kind']}-{item['metadata']['name']}"}
        stamped = {**item, "metadata": {**meta, "resourceVersion": str(self._version)}}
        self._shelf(item)[self._name(item)] = stamped
        return stamped

    def _shelf(self, item: dict[str, Any]) -> dict[Any, Any]:
        if item["kind"] == "ClusterProperty":
            return self.naive.properties
        if item["kind"] == "Namespace":
            return self._namespaces
        shelf: dict[Any, Any] = getattr(self.naive, _SHELVES[item["kind"]])
        return shelf

    @staticmethod
    def _name(item: dict[str, Any]) -> Name | str:
        meta = item["metadata"]
        return (meta["namespace"], meta["name"]) if "namespace" in meta else meta["name"]


class Journal:
    """One partition's journal, and all records that the fold has made of it. `now` is the broker's time, in
    milliseconds since the epoch, and `times` that of each record."""

    def __init__(self, window: int = WINDOW) -> None:
        self.window = window
        self.now = NOW
        self.values: list[bytes] = []
        self.times: list[int] = []
        self.fold = PartitionFold(0, WORKER_TABLES, window)
        self.writes: list[Write] = []

    def take(self, records: list[JournalRecord]) -> list[Write]:
        """Fold records; the writes that they make."""
        made = []
        for record in records:
            made += self.fold.step(len(self.values), record.value, self.now)
            self.values.append(record.value)
            self.times.append(self.now)
        self.writes += made
        return made

    def rows(self) -> dict[str, dict[str, Any]]:
        """The clusterset's newest rows, of sets and contributions, by key; tombstones have none."""
        return newest(self.writes)

    def set_of(self, name: str = "cart") -> dict[str, Any]:
        """The set of a Service."""
        return self.rows()[f"shop/{name}"]


def newest(writes: list[Write]) -> dict[str, dict[str, Any]]:
    """The clusterset's newest rows among writes, by key."""
    rows: dict[str, dict[str, Any]] = {}
    for write in writes:
        if write.table == "clusterset" and is_row(write.key):
            if write.value is None:
                rows.pop(write.key.decode(), None)
            else:
                rows[write.key.decode()] = orjson.loads(write.value)
    return rows


def joined(writes: list[Write]) -> list[dict[str, Any]]:
    """The sets as readers are shown them, each time that a commit changes one."""
    sets, shown = SetRows(), []
    for _, commit in groupby((write for write in writes if write.table == "clusterset"), attrgetter("version")):
        rows = [
            Row("clusterset", *parse_row_key(write.key.decode()), write.version, write.value or b"")
            for write in commit
            if is_row(write.key)
        ]
        shown += [row.decode() for row in sets.take(rows)]
    return shown


def sets_in(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The sets among rows, without deleted ones."""
    return {key: row for key, row in rows.items() if is_set(key.encode()) and row["state"] != "deleted"}


def kept_after_unexport() -> AbstractContextManager[Any]:
    """A planted fault: what was exported stays in the cluster's row when the export is taken back."""
    real = ContributionTable.fold

    def fold(self: ContributionTable, ctx: Any, key: str, entry: Any, change: Any) -> Any:
        update = real(self, ctx, key, entry, change)
        if update is None or update.entry.export is not None or entry.export is None:
            return update
        kept = entry._replace(export=None, state=update.entry.state, reason=update.entry.reason)
        return self.renew(ctx, key, kept)

    return patch.object(ContributionTable, "fold", fold)
