"""The watcher's state for one cluster: reflector events in, the journal's commits out.

- The first lists of an epoch are one snapshot: `begin` to every partition, objects as they are listed, and `end` once
  every resource type has its InitDone.
- A later relist of one type (410 Gone) takes effect when it is complete: it is compared with the objects held, and
  the differences become live changes. Until its InitDone that type's frontier stands still, all objects (those that
  depend on it, too) stay as of the frontier, and nothing counts as deleted. A list that was cut off is ignored: a
  lagging server may have sent it.
- All changes of one Service that are seen together are in one commit; a commit is split only between Services, and
  not between those that one object's change affects: a slice's whose label moved, a route's, or that of a Gateway or
  grant on which many routes depend.
- A snapshot waits for an optional type from `follow` to its first InitDone, or to `give_up`; a type that can't be
  listed is in the frontier without a version (""), and the fold keeps what it has of it.
- The events of routes and Services depend on other objects (`ServiceProjector`), and are made again when those change.
- A ServiceExport that is new comes with all objects of its Service, in one commit: the table of what is exported holds
  nothing of a Service before that.
- The objects are kept as the bytes of their events, so that a full snapshot can be written again at any time, and a
  live change of an EndpointSlice has only what differs (a `patch`).
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from streams.objects.commits import CommitWriter, JournalRecord
from streams.objects.fields import MalformedObject
from streams.objects.gateway_api.references import ServiceKey
from streams.objects.projection import Projection, ServiceEvents, ServiceProjector, affected_services
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import (
    ENDPOINT_SLICES,
    OPTIONAL_KINDS,
    RESOURCES,
    SERVICE_EXPORT,
    SERVICES,
    Resource,
)
from streams.wire.clusterset_records import DropPolicy
from streams.wire.event_encoding import Key, delete_event, patch_event, reject_event

_Changes = list[tuple[ServiceKey, bytes]]
_SINGLE = frozenset({Kind.APPLY, Kind.DELETE, Kind.MALFORMED})
"""Events with a new state of one object."""

_CONNECTED = OPTIONAL_KINDS | {SERVICES.kind}
"""Kinds that can't be read without an effect on other objects' events."""

_EXPORTED_KINDS = frozenset({SERVICES.kind, ENDPOINT_SLICES.kind})
"""What is exported of a Service."""


class _Unreadable(NamedTuple):
    """An object that can't be read, and why."""

    item: Any
    message: str


class Collector:
    """Collects the changes of one cluster into commits, which `commits` stamps. `malformed` counts the objects that
    could not be read (or not in full), and `last_malformed` says what was wrong with the last."""

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
        routing_defaults: Mapping[str, str] | None = None,
        source: str = "",
        drop: DropPolicy | None = None,
    ) -> None:
        self.commits = CommitWriter(cluster, epoch=epoch, writer=writer, seq=seq, partitions=partitions, source=source)
        self.malformed = 0
        self.last_malformed = ""
        self._unlisted = {resource.kind for resource in resources}
        self._frontier_names = {resource.kind: resource.frontier for resource in resources}
        self._objects: dict[Key, ServiceEvents] = {}
        self._rejected: dict[Key, ServiceEvents] = {}
        self._relists: dict[str, set[Key]] = {}
        """The objects that the open list of a type has named so far."""
        self._listed: set[str] = set()
        """The types that have had a complete list."""
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        """Deferred until the open list of a type is complete, if it is not part of the first snapshot."""
        self._given_up: set[str] = set()
        self._projector = ServiceProjector(cluster_domain, routing_defaults, drop)
        self._pending: dict[ServiceKey, list[bytes]] = {}
        self._linked: set[ServiceKey] = set()
        self._exported: set[ServiceKey] = set()
        """The Services that have a ServiceExport since the last flush."""
        self._pending_frontier: dict[str, str] = {}
        self._pending_events = 0
        self._touched: set[Key] = set()

    @property
    def objects(self) -> int:
        """How many objects are held."""
        return len(self._objects)

    @property
    def pending(self) -> int:
        """How many events wait for the next `flush`."""
        return self._pending_events

    @property
    def pending_services(self) -> int:
        """How many Services they are of."""
        return len(self._pending)

    @property
    def settled(self) -> bool:
        """Whether the objects are as of the frontier: only then may `snapshot` be called."""
        return self.commits.synced and not self._pending

    # ---- optional types ------------------------------------------------------------------------------

    def follow(self, resource: Resource) -> None:
        """An optional type is listed from now on; a snapshot that is not complete waits for it."""
        self._frontier_names[resource.kind] = resource.frontier
        self._pending_frontier.setdefault(resource.frontier, self.commits.frontier.get(resource.frontier, ""))
        if not self.commits.synced:
            self._unlisted.add(resource.kind)

    def give_up(self, resource: Resource) -> None:
        """The type can't be listed for now: the snapshot goes without it."""
        self.follow(resource)
        self._unlisted.discard(resource.kind)
        self._given_up.add(resource.kind)

    def forget(self, resource: Resource) -> None:
        """The type is no longer served: all its objects are deleted."""
        self.follow(resource)
        self.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
        self.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, ""))
        for frontier in (self.commits.frontier, self._pending_frontier):
            frontier.pop(resource.frontier, None)

    # ---- in ------------------------------------------------------------------------------------------

    def has_pending(self, kind: str, event: ReflectorEvent) -> bool:
        """Whether another state of the object is pending: flush first, and subscribers get both."""
        return event.kind in _SINGLE and _key_of(kind, event.item) in self._touched

    def ingest(self, kind: str, event: ReflectorEvent) -> None:
        """Take an event of a resource type's reflector."""
        if self.commits.synced and event.kind in _SINGLE and kind not in self._relists:
            self._touched.add(_key_of(kind, event.item))
        match event.kind:
            case Kind.INIT:
                self._begin_list(kind)
            case Kind.INIT_APPLY | Kind.APPLY | Kind.MALFORMED | Kind.DELETE:
                if kind in self._waiting:
                    self._wait(kind, event)
                else:
                    self._take(kind, event)
            case Kind.INIT_DONE:
                self._end_list(kind, event.resource_version)
        if event.resource_version and event.kind not in {Kind.INIT, Kind.INIT_APPLY} and kind not in self._relists:
            self._pending_frontier[self._frontier_names[kind]] = event.resource_version

    def _begin_list(self, kind: str) -> None:
        self._relists[kind] = set()
        if self.commits.synced or kind in self._listed or kind in self._given_up:
            self._waiting[kind] = []

    def _end_list(self, kind: str, version: str) -> None:
        """Delete what the list did not name."""
        for act in self._waiting.pop(kind, ()):
            act()
        listed = self._relists.pop(kind)
        keys = dict.fromkeys((*self._objects, *self._rejected))
        for key in [key for key in keys if key[0] == kind and key not in listed]:
            self._delete(key, version, "")
        self._listed.add(kind)
        self._unlisted.discard(kind)
        self._given_up.discard(kind)
        if version:
            self._projector.complete(kind)

    def _wait(self, kind: str, event: ReflectorEvent) -> None:
        """Defer an event of an open relist until the list is complete. The object is read now where possible, as that
        takes less memory; one that is listed just as it is held only has to be marked as listed."""
        if event.kind is Kind.INIT_APPLY and kind not in OPTIONAL_KINDS:
            key, listed = _key_of(kind, event.item), self._relists[kind]
            is_first = key not in listed
            listed.add(key)
            if is_first and self._is_unchanged(key, event.item["metadata"]):
                return
        if kind in _CONNECTED or event.kind is Kind.DELETE:
            self._waiting[kind].append(partial(self._take, kind, event))
        else:
            self._waiting[kind].append(partial(self._apply, kind, self._read(kind, event)))

    def _is_unchanged(self, key: Key, meta: Mapping[str, Any]) -> bool:
        """Whether the object is held in this very state. (Served in another version of its API, it may differ under the
        same resourceVersion.)"""
        current = self._objects.get(key)
        return (
            current is not None
            and key not in self._rejected
            and bool(current.version)
            and (current.uid, current.version) == (meta.get("uid"), meta.get("resourceVersion"))
        )

    def _take(self, kind: str, event: ReflectorEvent) -> None:
        if event.kind is not Kind.DELETE:
            self._apply(kind, self._read(kind, event))
            return
        meta = event.item["metadata"]
        key = (kind, meta.get("namespace") or "", meta["name"])
        self._delete(key, str(meta.get("resourceVersion") or ""), str(meta.get("uid") or ""))
        if kind in self._relists:
            self._relists[kind].discard(key)

    def _read(self, kind: str, event: ReflectorEvent) -> Projection | _Unreadable:
        if event.message:
            return _Unreadable(event.item, event.message)
        try:
            return self._projector.project(kind, event.item)
        except MalformedObject as error:
            return _Unreadable(event.item, str(error))

    def _apply(self, kind: str, read: Projection | _Unreadable) -> None:
        if isinstance(read, _Unreadable):
            self._reject(kind, read.item, read.message)
            return
        self._see(read.key)
        if read.message:
            self._count_malformed(read.key, f"a part of it, {read.message}")
        if read.events is None:
            self._delete(read.key, read.version, read.uid)
        else:
            self._hold(read.key, read.events)

    def _hold(self, key: Key, new: ServiceEvents) -> list[ServiceKey]:
        """Replace the object's events: what differs is a change of each Service that it affects, or affected. Returns
        these Services."""
        previous, rejection = self._objects.get(key), self._rejected.pop(key, None)
        if previous is None and key[0] == SERVICE_EXPORT.kind and self.commits.synced:
            self._exported.update(new.events)
        if previous is None and rejection is None:
            self._objects[key] = new
            self._change(list(new.events.items()))
            return list(new.events)
        before = previous.events if previous else {}
        events = new.events
        if new.bodies is not None and previous is not None and previous.bodies is not None and previous.uid == new.uid:
            # An object that changed only in what no facet uses (its status) has no new event.
            events = {
                service: before[service] if previous.bodies.get(service) == new.bodies[service] else event
                for service, event in events.items()
            }
        self._objects[key] = new._replace(events=events)
        removed = [service for service in before if service not in events]
        if rejection is not None:
            removed += [service for service in rejection.events if service not in events and service not in before]
        changes = [(service, delete_event(key, service, uid=new.uid, version=new.version)) for service in removed]
        may_patch = key[0] == ENDPOINT_SLICES.kind and self.commits.synced and rejection is None
        changes += [
            (service, (may_patch and patch_event(before.get(service, b""), event)) or event)
            for service, event in events.items()
            if rejection is not None or before.get(service) != event
        ]
        self._change(changes)
        return [service for service, _ in changes]

    def _reject(self, kind: str, item: Any, message: str) -> None:
        """Mark the object as rejected for the Services that it affected or, as far as can be told, affects."""
        meta = item.get("metadata") if isinstance(item, dict) else None
        meta = meta if isinstance(meta, dict) else {}
        namespace, name, uid, version = (
            value if isinstance(value := meta.get(field), str) else ""
            for field in ("namespace", "name", "uid", "resourceVersion")
        )
        key = (kind, namespace, name)
        self._count_malformed(key, message)
        self._take_back(key)
        self._projector.reject(key)
        self._see(key)
        current = self._objects.get(key)
        services: Iterable[ServiceKey] = current.events if current and current.events else affected_services(key, item)
        events = {
            service: reject_event(key, service, uid=uid, version=version, message=message, item=item)
            for service in services
        }
        before = self._rejected.get(key)
        left = [service for service in before.events if service not in events] if before else []
        self._rejected[key] = ServiceEvents(events, uid, version)
        withdrawals = [(service, delete_event(key, service, uid=uid, version=version)) for service in left]
        self._change([*withdrawals, *events.items()])

    def _count_malformed(self, key: Key, message: str) -> None:
        self.malformed += 1
        self.last_malformed = f"{key[0]} {key[1]}/{key[2]} can't be read: {message}"

    def _take_back(self, key: Key) -> None:
        """Forget the object's state if only a cut-off first list had it."""
        current, listed = self._objects.get(key), self._relists.get(key[0])
        if current is not None and listed is not None and key not in listed and key[0] not in self._listed:
            self._delete(key, current.version, current.uid)

    def _see(self, key: Key) -> None:
        listed = self._relists.get(key[0])
        if listed is not None:
            listed.add(key)

    def _delete(self, key: Key, version: str, uid: str) -> None:
        current, rejection = self._objects.pop(key, None), self._rejected.pop(key, None)
        self._projector.drop(key)
        services = {**(current.events if current else {}), **(rejection.events if rejection else {})}
        self._change([(service, delete_event(key, service, uid=uid, version=version)) for service in services])

    def _change(self, changes: _Changes) -> None:
        for service, change in changes:
            self._pending.setdefault(service, []).append(change)
        if len(changes) > 1:
            self._linked.update(service for service, _ in changes)
        self._pending_events += len(changes)

    # ---- out -----------------------------------------------------------------------------------------

    def begin(self, at: str) -> list[JournalRecord]:
        """The epoch's snapshot begin, to every partition."""
        return self.commits.empty("begin", at)

    def begin_in(self, partition: int, at: str) -> JournalRecord:
        """Snapshot begin in one partition: the claim of the epoch. `begin` repeats it everywhere."""
        (record,) = self.commits.empty("begin", at, (partition,))
        return record

    def close(self, at: str) -> list[JournalRecord]:
        """The end of the cluster, in every partition: all its objects are deleted."""
        return self.commits.empty("close", at)

    def flush(self, at: str) -> list[JournalRecord]:
        """All pending changes, as commits of `at`; the flush that completes the snapshot ends it in every partition."""
        completes_snapshot = not self.commits.synced and not self._unlisted
        if self.commits.synced or completes_snapshot:
            self._reproject()
        self._repeat_exported()
        pending, linked = self._take_pending()
        records = list(self.commits.changes(pending, linked, self._pending_frontier, at))
        self.commits.synced = self.commits.synced or completes_snapshot
        if self.commits.synced:
            self.commits.advance(self._pending_frontier)
        if completes_snapshot:
            records += self.commits.empty("end", at)
        return records

    def _reproject(self) -> None:
        """Make the events again that depend on what has changed. They are one change of all the Services: at a cut,
        each of them has it, or none."""
        affected: set[ServiceKey] = set()
        for key, events in self._projector.reproject(self._objects, self._rejected):
            affected.update(self._hold(key, events))
        if len(affected) > 1:
            self._linked |= affected

    def _repeat_exported(self) -> None:
        """Add all objects of the Services that are exported from now on, in full."""
        exported, self._exported = self._exported, set()
        if not exported:
            return
        for held in (self._objects, self._rejected):
            for key, item in held.items():
                if key[0] not in _EXPORTED_KINDS:
                    continue
                for service in exported.intersection(item.events):
                    self._pending.setdefault(service, []).append(item.events[service])
                    self._pending_events += 1

    def _take_pending(self) -> tuple[dict[ServiceKey, list[bytes]], set[ServiceKey]]:
        pending, linked = self._pending, self._linked
        self._pending, self._linked, self._pending_events, self._touched = {}, set(), 0, set()
        return pending, linked

    def heartbeat(self, at: str, partitions: Iterable[int] | None = None) -> list[JournalRecord]:
        """An empty commit to each of these partitions (all, if not given): nothing happened, up to the frontier."""
        return self.commits.empty("live" if self.commits.synced else "snapshot", at, partitions)

    def snapshot(self, at: str) -> list[JournalRecord]:
        """All objects once more, so that the retained journal stays replayable. Only when `settled`: the snapshot is as
        of the frontier."""
        objects = (*self._objects.values(), *self._rejected.values())
        events = [(service, event) for item in objects for service, event in item.events.items()]
        return [*self.begin(at), *self.commits.snapshot(events, at), *self.commits.empty("end", at)]


def _key_of(kind: str, item: Any) -> Key:
    meta = item.get("metadata") if isinstance(item, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    return kind, str(meta.get("namespace")), str(meta.get("name"))
