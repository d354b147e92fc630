"""The watcher's state for one cluster: what reflectors say in, the journal's commits out.

- The first lists of an epoch are one snapshot: `begin` to every partition, what is listed as it comes, and `end`
  once every resource type has its InitDone.
- A later relist of one type (410 Gone) is compared with what is held and becomes live changes at its InitDone;
  until then that type's frontier stands still, and nothing counts as deleted. Of a list that was cut off (it may have
  been that of a lagging server, which is refused) nothing counts as the last good state of an object that can't be
  read.
- All changes of one Service that are seen together are in one commit; a commit is split only between Services, and
  not between those that one object's change bears on (a route's, a slice's whose label moved).
- An optional type is waited for from `follow` to its first InitDone, or to `give_up`; what it can't list is named in
  the frontier with no version (""), and the fold keeps what it had of it.
- What routes and Services say depends on others (`ServiceProjector`): they are looked at again when those change.
- The objects are held as the bytes of their event, so that a full snapshot can be written again at any time.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from streams.objects.commits import CommitWriter, JournalRecord
from streams.objects.fields import MalformedObject
from streams.objects.gateway_api.references import ServiceKey
from streams.objects.projection import ServiceEvents, ServiceProjector, affected_services
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import RESOURCES, Resource
from streams.wire.event_encoding import Key, delete_event, reject_event

_Changes = list[tuple[ServiceKey, bytes]]
_SINGLE = frozenset({Kind.APPLY, Kind.DELETE, Kind.MALFORMED})
"""What says something new of one object."""


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
        self._relisted: dict[str, list[_Changes]] = {}
        self._listed: dict[str, dict[Key, ServiceEvents | None]] = {}
        """The types whose list was complete once, with what was held then of the objects that a relist has changed."""
        self._given_up: set[str] = set()
        self._required = frozenset(self._unlisted)
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
        # A relist of an optional type may never end: it must not keep the journal from being replayable.
        return (
            self.commits.synced and not self._pending and self._required.isdisjoint((*self._relists, *self._relisted))
        )

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
            case Kind.INIT_APPLY | Kind.APPLY | Kind.MALFORMED:
                self._apply(kind, event)
            case Kind.DELETE:
                self._take_delete(kind, event.item["metadata"])
            case Kind.INIT_DONE:
                self._end_list(kind, event.resource_version)
        if event.resource_version and event.kind not in {Kind.INIT, Kind.INIT_APPLY} and kind not in self._relists:
            self._pending_frontier[self._frontier_names[kind]] = event.resource_version

    def _begin_list(self, kind: str) -> None:
        # A relist that was cut off has already changed what is held: its changes wait for the next one.
        self._relists[kind] = set()
        self._relisted.setdefault(kind, [])
        if not self.commits.synced and kind not in self._given_up:
            # Listed again before the others were once: half of a list must not end the snapshot.
            self._unlisted.add(kind)

    def _end_list(self, kind: str, version: str) -> None:
        """Absence means deletion only now."""
        seen = self._relists.pop(kind)
        for changes in self._relisted.pop(kind):
            self._queue(changes)
        held = dict.fromkeys((*self._objects, *self._rejected))
        for key in [key for key in held if key[0] == kind and key not in seen]:
            self._delete(key, version, "")
        self._listed[kind] = {}
        self._unlisted.discard(kind)
        self._given_up.discard(kind)
        if version:
            self._projector.complete(kind)

    def _take_delete(self, kind: str, meta: Mapping[str, Any]) -> None:
        key = (kind, meta.get("namespace") or "", meta["name"])
        self._delete(key, str(meta.get("resourceVersion") or ""), str(meta.get("uid") or ""))
        if kind in self._relists:
            self._relists[kind].discard(key)
            if kind in self._listed:
                self._listed[kind][key] = None

    def _apply(self, kind: str, event: ReflectorEvent) -> None:
        message = event.message
        if not message:
            try:
                projection = self._projector.project(kind, event.item)
            except MalformedObject as error:
                message = str(error)
        if message:
            self._reject(kind, event.item, message)
            return
        self._see(projection.key)
        if projection.events is None:
            self._delete(projection.key, projection.version, projection.uid)
        else:
            self._hold(projection.key, projection.events)

    def _hold(self, key: Key, new: ServiceEvents) -> None:
        """The object says this now: what is new of it is a change of each Service that it bears on, or bore on."""
        was, bad = self._objects.get(key), self._rejected.pop(key, None)
        if key[0] in self._relists and key[0] in self._listed and (was is None or was.version != new.version):
            self._listed[key[0]].setdefault(key, was)
        if was is None and bad is None:
            self._objects[key] = new
            self._change(key[0], list(new.events.items()))
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
        self._change(key[0], changes)

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
        self._change(kind, list(events.items()))

    def _take_back(self, key: Key) -> None:
        """What a list that was cut off said of the object does not count: it stands as it was held before."""
        now, seen = self._objects.get(key), self._relists.get(key[0])
        if now is None or seen is None or key in seen:
            return
        was = self._listed[key[0]].get(key, now) if key[0] in self._listed else None
        if was is None:
            self._delete(key, now.version, now.uid)
        elif was is not now:
            self._hold(key, was)

    def _see(self, key: Key) -> None:
        seen = self._relists.get(key[0])
        if seen is not None:
            seen.add(key)

    def _delete(self, key: Key, version: str, uid: str) -> None:
        was, bad = self._objects.pop(key, None), self._rejected.pop(key, None)
        self._projector.drop(key)
        services = {**(was.events if was else {}), **(bad.events if bad else {})}
        self._change(key[0], [(each, delete_event(key, each, uid=uid, version=version)) for each in services])

    def _change(self, kind: str, changes: _Changes) -> None:
        if not changes:
            return
        if self.commits.synced and kind in self._relists:
            self._relisted[kind].append(changes)
        else:
            self._queue(changes)

    def _queue(self, changes: _Changes) -> None:
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
