"""The watcher's state for one cluster: what reflectors say in, the journal's commits out.

- The first lists of an epoch are one snapshot: `begin` to every partition, what is listed as it comes, and `end`
  once every resource type has its InitDone.
- A later relist of one type (410 Gone) counts when it is complete: then it is compared with what is held and becomes
  live changes. Until its InitDone that type's frontier stands still, all that is held (what depends on it, too) stays
  as of the frontier, and nothing counts as deleted. A list that was cut off counts for nothing: it may have been that
  of a lagging server, which is refused.
- All changes of one Service that are seen together are in one commit; a commit is split only between Services, and
  not between those that one object's change bears on (a route's, a slice's whose label moved).
- An optional type is waited for from `follow` to its first InitDone, or to `give_up`; what it can't list is named in
  the frontier with no version (""), and the fold keeps what it had of it.
- What routes and Services say depends on others (`ServiceProjector`): they are looked at again when those change.
- The objects are held as the bytes of their event, so that a full snapshot can be written again at any time.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from streams.objects.commits import CommitWriter, JournalRecord
from streams.objects.fields import MalformedObject
from streams.objects.gateway_api.references import ServiceKey
from streams.objects.projection import Projection, ServiceEvents, ServiceProjector, affected_services
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import CONTEXT_KINDS, RESOURCES, ROUTING_KINDS, SERVICES, Resource
from streams.wire.event_encoding import Key, delete_event, reject_event

_Changes = list[tuple[ServiceKey, bytes]]
_SINGLE = frozenset({Kind.APPLY, Kind.DELETE, Kind.MALFORMED})
"""What says something new of one object."""

_OPTIONAL = CONTEXT_KINDS | ROUTING_KINDS
_CONNECTED = _OPTIONAL | {SERVICES.kind}
"""Kinds whose objects can't be read without an effect on what other objects say."""


class _Unreadable(NamedTuple):
    """An object that can't be read, and why."""

    item: Any
    message: str


class Collector:
    """Collects the changes of one cluster into commits, which `commits` stamps. `malformed` counts the objects that
    could not be read, and `last_malformed` says what was wrong with the last."""

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
    ) -> None:
        self.commits = CommitWriter(cluster, epoch=epoch, writer=writer, seq=seq, partitions=partitions, source=source)
        self.malformed = 0
        self.last_malformed = ""
        self._unlisted = {resource.kind for resource in resources}
        self._frontier_names = {resource.kind: resource.frontier for resource in resources}
        self._objects: dict[Key, ServiceEvents] = {}
        self._rejected: dict[Key, ServiceEvents] = {}
        self._relists: dict[str, set[Key]] = {}
        """What the open list of a type has named so far."""
        self._listed: set[str] = set()
        """The types whose list was complete once."""
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        """What is to be done once the open list of a type is complete, where that is no part of the first snapshot."""
        self._given_up: set[str] = set()
        self._projector = ServiceProjector(cluster_domain, routing_defaults)
        self._pending: dict[ServiceKey, list[bytes]] = {}
        self._linked: set[ServiceKey] = set()
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
    def settled(self) -> bool:
        """Whether what is held is what the journal says at the frontier: only then is a `snapshot` one."""
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
        """The type is served no longer: nothing of it is there."""
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
        """Take what a resource type's reflector says."""
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
        """Absence means deletion only now."""
        for act in self._waiting.pop(kind, ()):
            act()
        seen = self._relists.pop(kind)
        held = dict.fromkeys((*self._objects, *self._rejected))
        for key in [key for key in held if key[0] == kind and key not in seen]:
            self._delete(key, version, "")
        self._listed.add(kind)
        self._unlisted.discard(kind)
        self._given_up.discard(kind)
        if version:
            self._projector.complete(kind)

    def _wait(self, kind: str, event: ReflectorEvent) -> None:
        """What an open relist shows is taken when it is complete. What can be read now is, for that takes less memory
        than the object; and of one that is first shown as it is held, it is enough to know that it is there."""
        if event.kind is Kind.INIT_APPLY and kind not in _OPTIONAL:
            key, seen = _key_of(kind, event.item), self._relists[kind]
            is_first = key not in seen
            seen.add(key)
            if is_first and self._is_held(key, event.item["metadata"]):
                return
        if kind in _CONNECTED or event.kind is Kind.DELETE:
            self._waiting[kind].append(partial(self._take, kind, event))
        else:
            self._waiting[kind].append(partial(self._apply, kind, self._read(kind, event)))

    def _is_held(self, key: Key, meta: Mapping[str, Any]) -> bool:
        """Whether the object is held in this very state. (One that is served in another version of its API may say
        something else by the same resourceVersion.)"""
        held = self._objects.get(key)
        return (
            held is not None
            and key not in self._rejected
            and bool(held.version)
            and (held.uid, held.version) == (meta.get("uid"), meta.get("resourceVersion"))
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
        if read.events is None:
            self._delete(read.key, read.version, read.uid)
        else:
            self._hold(read.key, read.events)

    def _hold(self, key: Key, new: ServiceEvents) -> None:
        """The object says this now: what is new of it is a change of each Service that it bears on, or bore on."""
        was, bad = self._objects.get(key), self._rejected.pop(key, None)
        if was is None and bad is None:
            self._objects[key] = new
            self._change(list(new.events.items()))
            return
        before = was.events if was else {}
        events = new.events
        if new.bodies is not None and was is not None and was.bodies is not None and was.uid == new.uid:
            # Of an object that changed only in what no facet uses (its status) there is nothing to tell.
            events = {
                each: before[each] if was.bodies.get(each) == new.bodies[each] else event
                for each, event in events.items()
            }
        self._objects[key] = new._replace(events=events)
        gone = [each for each in before if each not in events]
        if bad is not None:
            gone += [each for each in bad.events if each not in events and each not in before]
        changes = [(each, delete_event(key, each, uid=new.uid, version=new.version)) for each in gone]
        changes += [(each, event) for each, event in events.items() if bad is not None or before.get(each) != event]
        self._change(changes)

    def _reject(self, kind: str, item: Any, message: str) -> None:
        """The object can't be read: say so to the Services that it bore on, or (as far as can be told) bears on."""
        meta = item.get("metadata") if isinstance(item, dict) else None
        meta = meta if isinstance(meta, dict) else {}
        namespace, name, uid, version = (
            value if isinstance(value := meta.get(field), str) else ""
            for field in ("namespace", "name", "uid", "resourceVersion")
        )
        self.malformed += 1
        self.last_malformed = f"{kind} {namespace}/{name} can't be read: {message}"
        key = (kind, namespace, name)
        self._take_back(key)
        self._see(key)
        was = self._objects.get(key)
        services: Iterable[ServiceKey] = was.events if was and was.events else affected_services(key, item)
        events = {
            each: reject_event(key, each, uid=uid, version=version, message=message, item=item) for each in services
        }
        self._rejected[key] = ServiceEvents(events, uid, version)
        self._change(list(events.items()))

    def _take_back(self, key: Key) -> None:
        """What a first list that was cut off said of the object does not count."""
        held, seen = self._objects.get(key), self._relists.get(key[0])
        if held is not None and seen is not None and key not in seen and key[0] not in self._listed:
            self._delete(key, held.version, held.uid)

    def _see(self, key: Key) -> None:
        seen = self._relists.get(key[0])
        if seen is not None:
            seen.add(key)

    def _delete(self, key: Key, version: str, uid: str) -> None:
        was, bad = self._objects.pop(key, None), self._rejected.pop(key, None)
        self._projector.drop(key)
        services = {**(was.events if was else {}), **(bad.events if bad else {})}
        self._change([(each, delete_event(key, each, uid=uid, version=version)) for each in services])

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
        """The end of the cluster, in every partition: nothing of it is there any more."""
        return self.commits.empty("close", at)

    def flush(self, at: str) -> list[JournalRecord]:
        """All that waits, as commits of `at`; the one that completes the snapshot ends it in every partition."""
        completes_snapshot = not self.commits.synced and not self._unlisted
        if self.commits.synced or completes_snapshot:
            for key, events in self._projector.reproject(self._objects, self._rejected):
                self._hold(key, events)
        pending, linked = self._take_pending()
        records = list(self.commits.changes(pending, linked, self._pending_frontier, at))
        self.commits.synced = self.commits.synced or completes_snapshot
        if self.commits.synced:
            self.commits.advance(self._pending_frontier)
        if completes_snapshot:
            records += self.commits.empty("end", at)
        return records

    def _take_pending(self) -> tuple[dict[ServiceKey, list[bytes]], set[ServiceKey]]:
        pending, linked = self._pending, self._linked
        self._pending, self._linked, self._pending_events, self._touched = {}, set(), 0, set()
        return pending, linked

    def heartbeat(self, at: str, partitions: Iterable[int] | None = None) -> list[JournalRecord]:
        """An empty commit to each of these partitions (all, if not given): nothing happened, up to the frontier."""
        return self.commits.empty("live" if self.commits.synced else "snapshot", at, partitions)

    def snapshot(self, at: str) -> list[JournalRecord]:
        """Everything that is held, once more, so that the retained journal stays replayable. Only when nothing is
        pending: the snapshot is as of the frontier."""
        held = (*self._objects.values(), *self._rejected.values())
        events = [(service, event) for of_object in held for service, event in of_object.events.items()]
        return [*self.begin(at), *self.commits.snapshot(events, at), *self.commits.empty("end", at)]


def _key_of(kind: str, item: Any) -> Key:
    meta = item.get("metadata") if isinstance(item, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    return kind, str(meta.get("namespace")), str(meta.get("name"))
