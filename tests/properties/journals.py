"""Journals as watchers write them, drawn from few Services: snapshots, live commits, new epochs, stale writers, clocks
that jump; with what each cluster's Services come to in the end."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from hypothesis import strategies as st

from streams.objects.normalize import normalize
from streams.wire import timestamps as rfc3339
from tests.properties.strategies import KINDS, NAMESPACE, SERVICES, SLICES, Object, combinations, objects

CLUSTERS = ("east", "west")
_START = datetime(2026, 11, 23, 12, tzinfo=UTC)

Event = dict[str, Any]
CommitBody = dict[str, Any]
World = dict[tuple[str, str], Object]
"""By kind and name; the namespace is one."""


def service_of(item: Object) -> str:
    """The Service that an object bears on."""
    found = normalize(item["kind"], item, "cluster.local")
    assert found is not None
    return found.service


def apply(item: Object) -> Event:
    """The event of an object that was made or changed."""
    found = normalize(item["kind"], item, "cluster.local")
    assert found is not None
    return {**_head("apply", item, found.service), "object": orjson.loads(found.body)}


def delete(item: Object, version: str) -> Event:
    """The event of an object that is gone."""
    return {**_head("delete", item, service_of(item)), "resourceVersion": version}


def reject(item: Object, version: str) -> Event:
    """The event of an object whose newest state can't be read."""
    return {**_head("reject", item, service_of(item)), "resourceVersion": version, "message": "spec: is a riddle"}


def _head(op: str, item: Object, service: str) -> Event:
    meta = item["metadata"]
    return {
        "op": op,
        "kind": item["kind"],
        "namespace": meta["namespace"],
        "name": meta["name"],
        "service": service,
        "uid": meta["uid"],
        "resourceVersion": meta["resourceVersion"],
    }


@dataclass
class Journal:
    """The records of one partition in order. `worlds` is what each cluster holds at the end, by its own word;
    `stale` are the offsets whose commits must change nothing."""

    commits: list[CommitBody | bytes] = field(default_factory=list)
    worlds: dict[str, World] = field(default_factory=dict)
    stale: set[int] = field(default_factory=set)

    @property
    def values(self) -> list[bytes]:
        """The records as bytes."""
        return [encode(commit) for commit in self.commits]


def encode(commit: CommitBody | bytes) -> bytes:
    """A record's bytes."""
    return commit if isinstance(commit, bytes) else orjson.dumps(commit)


_seconds = st.sampled_from((0.001, 1, 1, 3600, 90000, -5))
_changes = combinations(
    lambda *chosen: chosen,
    ("apply", "apply", "apply", "delete", "reject"),
    ("Service", "EndpointSlice", "EndpointSlice", *KINDS),
    SERVICES[:2],
    SLICES,
)
_up_to_four = st.integers(0, 4)
_action = st.sampled_from(("live",) * 6 + ("again", "restart", "abandon", "stale", "cut"))
_turns = combinations(lambda *chosen: chosen, (0, 1), (1, 2, 3))
"""Which cluster's commits are next, and how many of them."""
_dice = st.integers(0, 9)


class _Cluster:
    """Draws one cluster's commits, in the order in which its partition would hold them."""

    def __init__(self, draw: st.DrawFn, name: str, rejects: bool) -> None:
        self.draw = draw
        self.name = name
        self.rejects = rejects
        self.epoch = 0
        self.seq = 0
        self.version = 0
        self.at = _START
        self.world: World = {}
        self.commits: list[tuple[CommitBody | bytes, bool]] = []

    def commit(self, phase: str, events: Iterable[Event] = (), *, stale: bool = False, **more: Any) -> None:
        self.seq += 1
        self.at += timedelta(seconds=self.draw(_seconds))
        body = {
            "cluster": self.name,
            "epoch": self.epoch - stale,
            "writer": f"watcher-{self.epoch - stale}",
            "seq": self.seq,
            "at": rfc3339.write(self.at),
            "phase": phase,
            "frontier": {"services": str(self.version)},
            "events": list(events),
            **more,
        }
        self.commits.append((body, stale))

    def change(self) -> list[Event]:
        """One object changes, in the world and as events."""
        self.version += 1
        version = str(self.version)
        op, kind, service, label = self.draw(_changes)
        name = label if kind == "EndpointSlice" else service
        was = self.world.get((kind, name))
        if op == "reject" and was is not None and self.rejects:
            return [reject(was, version)]
        if op == "delete" and was is not None:
            del self.world[kind, name]
            return [delete(was, version)]
        item = self.draw(objects(kind, name, service, version))
        self.world[kind, name] = item
        moved = was is not None and service_of(was) != service
        return [*([delete(was, version)] if moved and was else []), apply(item)]

    def changes(self) -> list[Event]:
        return [event for _ in range(self.draw(_up_to_four)) for event in self.change()]

    def snapshot(self, *, complete: bool = True) -> None:
        self.changes()  # while nobody watched
        self.commit("begin")
        listed = [apply(item) for _, item in sorted(self.world.items())]
        cut = self.draw(st.integers(0, len(listed)))
        for part in (listed[:cut], listed[cut:]):
            if part:
                self.commit("snapshot", part)
        if complete:
            self.commit("end")

    def run(self, length: int) -> None:
        self.epoch = 1
        self.snapshot()
        for action in self.draw(st.lists(_action, max_size=length)):
            if action == "live":
                self.commit("live", self.changes())
            elif action == "again":
                self.snapshot()
            elif action in {"restart", "abandon"}:
                if action == "abandon":
                    self.epoch += 1
                    self.snapshot(complete=False)
                self.epoch += 1
                self.snapshot()
            elif action == "stale" and self.epoch > 1:
                world, events = dict(self.world), self.changes()
                self.world = world
                self.commit(self.draw(st.sampled_from(("begin", "snapshot", "end", "live"))), events, stale=True)
            elif action == "cut":
                self.commit("live", self.changes(), staleSince=rfc3339.write(self.at))


@st.composite
def journals(
    draw: st.DrawFn, length: int = 5, clusters: tuple[str, ...] = CLUSTERS, rejects: bool = True, garbage: bool = True
) -> Journal:
    """A partition's journal: the clusters' commits, each in its own order, in any order among them."""
    streams = []
    journal = Journal()
    for name in clusters[: draw(st.integers(1, len(clusters)))]:
        cluster = _Cluster(draw, name, rejects)
        cluster.run(length)
        streams.append(list(cluster.commits))
        journal.worlds[name] = cluster.world
    # Each draw takes a commit, the least of them, too: a loop that zeros don't end is drawn until all room is used up.
    while any(streams):
        own, number = draw(_turns)
        stream = streams[own] if own < len(streams) and streams[own] else next(filter(None, streams))
        for commit, stale in stream[:number]:
            if stale:
                journal.stale.add(len(journal.commits))
            journal.commits.append(commit)
        del stream[:number]
        if garbage and draw(_dice) == 0:
            journal.stale.add(len(journal.commits))
            journal.commits.append(draw(st.sampled_from((b"", b"{", b'{"cluster":"east"}', b"\xff"))))
    return journal


def with_events(commit: CommitBody | bytes, events: Iterable[Event]) -> CommitBody | bytes:
    """The same commit with other events."""
    return commit if isinstance(commit, bytes) else {**commit, "events": list(events)}


def events_of(commit: CommitBody | bytes) -> list[Event]:
    """A commit's events."""
    return [] if isinstance(commit, bytes) else commit["events"]


def sources_of(world: Mapping[tuple[str, str], Object], service: str) -> tuple[list[Object], Object | None]:
    """A Service's EndpointSlices and its legacy Endpoints."""
    slices = [item for (kind, _), item in world.items() if kind == "EndpointSlice" and service_of(item) == service]
    return slices, world.get(("Endpoints", service))


def key_of(cluster: str, service: str) -> str:
    """The rows' key."""
    return f"{cluster}/{NAMESPACE}/{service}"
