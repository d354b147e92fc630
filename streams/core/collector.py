"""The watcher's state for one cluster: what reflectors say in, the journal's commits out.

- The first lists of an epoch are one snapshot: `begin` to every partition, what is listed as it comes, and `end`
  once every resource type has its InitDone.
- A later relist of one type (410 Gone) is compared with what is held and becomes live changes at its InitDone;
  until then that type's frontier stands still, and nothing counts as deleted.
- All changes of one Service that are seen together are in one commit; a commit is split only between Services.
- The objects are held as the bytes of their event, so that a full snapshot can be written again at any time.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from streams.core.normalize import SERVICE_NAME_LABEL, MalformedObject, Normalized, normalize
from streams.core.partitioning import partition_of
from streams.core.reflector import Kind, ReflectorEvent

MAX_EVENTS = 500
MAX_BYTES = 1024 * 1024
_EXCERPT = 4096


class Resource(NamedTuple):
    """A resource type that is watched: adding one here (and its normalizing) is all that it takes.

    `frontier` is its name in frontiers (`PLURAL.GROUP`), `path` its collection below the API server's root.
    """

    kind: str
    frontier: str
    path: str


SERVICES = Resource("Service", "services", "/api/v1/services")
ENDPOINT_SLICES = Resource(
    "EndpointSlice", "endpointslices.discovery.k8s.io", "/apis/discovery.k8s.io/v1/endpointslices"
)
ENDPOINTS = Resource("Endpoints", "endpoints", "/api/v1/endpoints")
RESOURCES = (SERVICES, ENDPOINT_SLICES, ENDPOINTS)


class JournalRecord(NamedTuple):
    """A commit as it goes to the journal, with the number of events in it."""

    partition: int
    value: bytes
    events: int


class _Held(NamedTuple):
    service: tuple[str, str]
    event: bytes
    version: str


Key = tuple[str, str, str]


class Collector:
    """Collects the changes of one cluster into commits. `seq` is the number of the last commit in the journal,
    `malformed` counts the objects that could not be read, and `last_malformed` says what was wrong with the last."""

    def __init__(
        self,
        cluster: str,
        *,
        epoch: int,
        writer: str,
        seq: int,
        partitions: int,
        resources: Iterable[Resource] = RESOURCES,
        cluster_domain: str = "cluster.local",
    ) -> None:
        self.cluster = cluster
        self.epoch = epoch
        self.writer = writer
        self.seq = seq
        self.partitions = partitions
        self.cluster_domain = cluster_domain
        self.frontier: dict[str, str] = {}
        self.stale_since = ""
        self.synced = False
        self.malformed = 0
        self.last_malformed = ""
        self._waiting = {resource.kind for resource in resources}
        self._frontier_names = {resource.kind: resource.frontier for resource in resources}
        self._objects: dict[Key, _Held] = {}
        self._rejected: dict[Key, _Held] = {}
        self._relists: dict[str, set[Key]] = {}
        self._relisted: dict[str, list[tuple[tuple[str, str], bytes]]] = {}
        self._pending: dict[tuple[str, str], list[bytes]] = {}
        self._pending_frontier: dict[str, str] = {}
        self._pending_events = 0

    @property
    def objects(self) -> int:
        """How many objects are held."""
        return len(self._objects)

    @property
    def pending(self) -> int:
        """How many events wait for the next `flush`."""
        return self._pending_events

    @property
    def settled(self) -> bool:
        """Whether what is held is what the journal says at the frontier: only then is a `snapshot` one."""
        return self.synced and not self._pending and not self._relists and not self._relisted

    # ---- in ------------------------------------------------------------------------------------------

    def ingest(self, kind: str, event: ReflectorEvent) -> None:
        """Take what a resource type's reflector says."""
        match event.kind:
            case Kind.INIT:
                # A relist that was cut off has already changed what is held: its changes wait for the next one.
                self._relists[kind] = set()
                self._relisted.setdefault(kind, [])
            case Kind.INIT_APPLY | Kind.APPLY | Kind.MALFORMED:
                self._apply(kind, event)
            case Kind.DELETE:
                meta = event.item["metadata"]
                key = (kind, meta["namespace"], meta["name"])
                if kind in self._relists:
                    self._relists[kind].discard(key)
                self._delete(key, str(meta.get("resourceVersion") or ""), str(meta.get("uid") or ""))
            case Kind.INIT_DONE:
                seen = self._relists.pop(kind)
                for service, change in self._relisted.pop(kind):
                    self._queue(service, change)
                held = dict.fromkeys((*self._objects, *self._rejected))
                for key in [key for key in held if key[0] == kind and key not in seen]:
                    self._delete(key, event.resource_version, "")
                self._waiting.discard(kind)
        if event.resource_version and event.kind not in {Kind.INIT, Kind.INIT_APPLY} and kind not in self._relists:
            self._pending_frontier[self._frontier_names[kind]] = event.resource_version

    def _apply(self, kind: str, event: ReflectorEvent) -> None:
        item = event.item
        message = event.message
        normalized = None
        if not message:
            try:
                normalized = normalize(kind, item, self.cluster_domain)
            except MalformedObject as error:
                message = str(error)
        if message:
            self._reject(kind, item, message)
            return
        meta = item["metadata"]
        key = (kind, meta["namespace"], meta["name"])
        self._see(key)
        was = self._objects.get(key)
        if normalized is None:
            if was is not None:
                self._delete(key, meta["resourceVersion"], meta["uid"])
            return
        change = _apply_event(normalized)
        service = (normalized.namespace, normalized.service)
        if was is not None and was.service != service:
            self._change(
                kind, was.service, _delete_event(key, was.service[1], normalized.uid, normalized.resource_version)
            )
        bad = self._rejected.pop(key, None)
        self._objects[key] = _Held(service, change, normalized.resource_version)
        if was is None or was.event != change or bad is not None:
            self._change(kind, service, change)

    def _reject(self, kind: str, item: Any, message: str) -> None:
        """The object can't be read: say so to the Service it belonged to, or (as far as can be told) belongs to."""
        meta = item.get("metadata") if isinstance(item, dict) else None
        meta = meta if isinstance(meta, dict) else {}
        namespace, name, uid, version = (
            value if isinstance(value := meta.get(field), str) else ""
            for field in ("namespace", "name", "uid", "resourceVersion")
        )
        self.malformed += 1
        self.last_malformed = f"{kind} {namespace}/{name} can't be read: {message}"
        key = (kind, namespace, name)
        self._see(key)
        was = self._objects.get(key)
        service = was.service if was else (namespace, name)
        if was is None and kind == "EndpointSlice":
            labels = meta.get("labels")
            label = labels.get(SERVICE_NAME_LABEL) if isinstance(labels, dict) else None
            service = (namespace, label if isinstance(label, str) else "")
        change = orjson.dumps(
            {
                "op": "reject",
                "kind": kind,
                "namespace": namespace,
                "name": name,
                "service": service[1],
                "uid": uid,
                "resourceVersion": version,
                "message": message,
                "excerpt": orjson.dumps(item)[:_EXCERPT].decode(errors="replace"),
            }
        )
        self._rejected[key] = _Held(service, change, version)
        self._change(kind, service, change)

    def _see(self, key: Key) -> None:
        seen = self._relists.get(key[0])
        if seen is not None:
            seen.add(key)

    def _delete(self, key: Key, version: str, uid: str) -> None:
        was = self._objects.pop(key, None)
        bad = self._rejected.pop(key, None)
        held = was or bad
        if held is not None:
            self._change(key[0], held.service, _delete_event(key, held.service[1], uid, version))

    def _change(self, kind: str, service: tuple[str, str], change: bytes) -> None:
        if self.synced and kind in self._relists:
            self._relisted[kind].append((service, change))
        else:
            self._queue(service, change)

    def _queue(self, service: tuple[str, str], change: bytes) -> None:
        self._pending.setdefault(service, []).append(change)
        self._pending_events += 1

    # ---- out -----------------------------------------------------------------------------------------

    def begin(self, at: str) -> list[JournalRecord]:
        """The epoch's snapshot begin, to every partition."""
        return self._to_all("begin", at)

    def begin_in(self, partition: int, at: str) -> JournalRecord:
        """Snapshot begin in one partition: the claim of the epoch. `begin` repeats it everywhere."""
        self.seq += 1
        return self._record(partition, "begin", at, ())

    def flush(self, at: str) -> list[JournalRecord]:
        """All that waits, as commits of `at`; the one that completes the snapshot ends it in every partition."""
        phase = "live" if self.synced else "snapshot"
        by_partition: dict[int, list[list[bytes]]] = {}
        for (namespace, service), changes in self._pending.items():
            by_partition.setdefault(partition_of(namespace, service, self.partitions), []).append(changes)
        self._pending = {}
        self._pending_events = 0
        ending = not self.synced and not self._waiting
        records: list[JournalRecord] = []
        chunked = [(partition, list(_split(groups))) for partition, groups in sorted(by_partition.items())]
        last = max((len(chunks) for _, chunks in chunked), default=0)
        for turn in range(last):
            self.seq += 1
            if turn == last - 1 and self.synced:
                self.frontier = {**self.frontier, **self._pending_frontier}
            for partition, chunks in chunked:
                # The last chunks share the last number: only there do all partitions stand at the new frontier.
                at_turn = turn - (last - len(chunks))
                if at_turn >= 0:
                    records.append(self._record(partition, phase, at, chunks[at_turn]))
        if ending:
            self.synced = True
            self.frontier = {**self.frontier, **self._pending_frontier}
            records += self._to_all("end", at)
        elif self.synced:
            self.frontier = {**self.frontier, **self._pending_frontier}
        return records

    def heartbeat(self, at: str, partitions: Iterable[int] | None = None) -> list[JournalRecord]:
        """An empty commit to each of these partitions (all, if not given): nothing happened, up to the frontier."""
        return self._to_all("live" if self.synced else "snapshot", at, partitions)

    def snapshot(self, at: str) -> list[JournalRecord]:
        """Everything that is held, once more, so that the retained journal stays replayable. Only when nothing is
        pending: the snapshot is as of the frontier."""
        records = self.begin(at)
        by_partition: dict[int, list[list[bytes]]] = {}
        for held in (*self._objects.values(), *self._rejected.values()):
            by_partition.setdefault(partition_of(*held.service, self.partitions), []).append([held.event])
        for partition, groups in sorted(by_partition.items()):
            for chunk in _split(groups):
                self.seq += 1
                records.append(self._record(partition, "snapshot", at, chunk))
        return records + self._to_all("end", at)

    def _to_all(self, phase: str, at: str, partitions: Iterable[int] | None = None) -> list[JournalRecord]:
        self.seq += 1
        wanted = range(self.partitions) if partitions is None else partitions
        return [self._record(partition, phase, at, ()) for partition in wanted]

    def _record(self, partition: int, phase: str, at: str, events: Iterable[bytes]) -> JournalRecord:
        listed = list(events)
        head = {
            "cluster": self.cluster,
            "epoch": self.epoch,
            "writer": self.writer,
            "seq": self.seq,
            "at": at,
            "phase": phase,
            "frontier": self.frontier if self.synced else {},
        }
        if self.stale_since:
            head["staleSince"] = self.stale_since
        value = orjson.dumps(head)
        if listed:
            value = b'%b,"events":[%b]}' % (value[:-1], b",".join(listed))
        return JournalRecord(partition, value, len(listed))


def _split(groups: list[list[bytes]]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for group in groups:
        weight = sum(map(len, group))
        if chunk and (len(chunk) + len(group) > MAX_EVENTS or size + weight > MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk = chunk + group if chunk else list(group)
        size += weight
    if chunk:
        yield chunk


def _apply_event(normalized: Normalized) -> bytes:
    head = {
        "op": "apply",
        "kind": normalized.kind,
        "namespace": normalized.namespace,
        "name": normalized.name,
        "service": normalized.service,
        "uid": normalized.uid,
        "resourceVersion": normalized.resource_version,
    }
    if normalized.trigger:
        head["trigger"] = normalized.trigger
    return b'%b,"object":%b}' % (orjson.dumps(head)[:-1], normalized.body)


def _delete_event(key: Key, service: str, uid: str, version: str) -> bytes:
    return orjson.dumps(
        {
            "op": "delete",
            "kind": key[0],
            "namespace": key[1],
            "name": key[2],
            "service": service,
            "uid": uid,
            "resourceVersion": version,
        }
    )
