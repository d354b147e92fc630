"""An endless recording: the recorded changes are repeated in cycles, each time as new ones.

At the end of a cycle the objects are returned to their initial state, one change at a time, and the next cycle begins.
To a watcher it is one history that never repeats:

- resourceVersions rise from cycle to cycle, generations too.
- An object that exists throughout a cycle keeps its uid. Every other uid (of objects that were created or deleted, and
  of Pods that endpoints refer to) is new in each cycle, as a uid is never reused. So an object that is created again
  under its name is deleted and added, not modified (its cluster IP, for one, could not change).
- Times are those of the recording, shifted by the time that has passed since.

Pure: the window of a cycle follows from the recording and the cycle's number.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from streams.local.derived_uid import derived_uid
from streams.local.recording import Key, Moment, Recording, Track, key_of

HISTORY_CYCLES = 3
"""How many whole cycles before the current one can be watched from; older versions are expired."""

_RETURN_STEP_MS = 200.0
_TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


class _Return(NamedTuple):
    """A change that returns to the initial state. A deleted object belongs to the cycle that ends, any other to the
    cycle that begins."""

    path: str
    kind: str
    item: Mapping[str, Any]


class RecordingLoop:
    """One cluster's endless recording. A cycle takes `period_ms` milliseconds."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._returns = list(_returns(recording))
        self.period_ms = recording.duration_ms + _RETURN_STEP_MS * len(self._returns)
        tracks = recording.tracks.values()
        self._base = min(track.first for track in tracks)
        self._last = max(track.last for track in tracks)
        self._span = self._last - self._base + len(self._returns)
        begins, ends = ([item for track in tracks for item in state(track)] for state in (_begin, _end))
        self._lasting = set(_uids(begins)) & set(_uids(ends))
        self._growth = {
            uid: ending - beginning + 1
            for uid, beginning in _generations(begins).items()
            if (ending := _generations(ends).get(uid)) is not None
        }
        self._returned = {
            (change.path, key_of(change.item)): place
            for place, change in enumerate(self._returns)
            if change.kind != "DELETED"
        }
        self._windows: dict[int, Recording] = {}
        self._cycles: dict[int, dict[str, list[Moment]]] = {}

    def window(self, ms: float) -> Recording:
        """What can be listed and watched at a time, in ms since the beginning: its cycle and those before."""
        cycle = int(ms // self.period_ms)
        if cycle not in self._windows:
            oldest = max(0, cycle - HISTORY_CYCLES)
            self._cycles = {k: self._cycles.get(k) or self._moments(k) for k in range(oldest, cycle + 1)}
            tracks = {
                path: track.replaced(
                    track.first if oldest == 0 else self._base + oldest * self._span,
                    self._begin(track, oldest),
                    [moment for moments in self._cycles.values() for moment in moments[path]],
                )
                for path, track in self.recording.tracks.items()
            }
            self._windows = {cycle: Recording({**self.recording.header, "duration_ms": math.inf}, tracks)}
        return self._windows[cycle]

    def ends_ms(self, ms: float) -> float:
        """When the window of a time ends."""
        return (ms // self.period_ms + 1) * self.period_ms

    def _begin(self, track: Track, cycle: int) -> list[Mapping[str, Any]]:
        """The objects at the beginning of a cycle."""
        items = _begin(track)
        if cycle == 0:
            return items
        return [
            item if place is None else self._image(item, cycle, self._return_version(place, cycle - 1))
            for item in items
            for place in (self._returned.get((track.path, key_of(item))),)
        ]

    def _moments(self, cycle: int) -> dict[str, list[Moment]]:
        """A cycle's events by path: the recorded ones, and the returns."""
        began = cycle * self.period_ms
        moments = {
            path: [
                Moment(
                    began + ms,
                    version + cycle * self._span,
                    kind,
                    self._image(item, cycle, version + cycle * self._span),
                )
                for ms, version, kind, item in track.moments
            ]
            for path, track in self.recording.tracks.items()
        }
        for place, (path, kind, item) in enumerate(self._returns):
            version = self._return_version(place, cycle)
            image = self._image(item, cycle if kind == "DELETED" else cycle + 1, version)
            ms = began + self.recording.duration_ms + place * _RETURN_STEP_MS
            moments[path].append(Moment(ms, version, kind, image))
        return moments

    def _return_version(self, place: int, cycle: int) -> int:
        return self._last + cycle * self._span + 1 + place

    def _image(self, item: Mapping[str, Any], cycle: int, version: int) -> Mapping[str, Any]:
        """A recorded object as it is in a cycle."""
        if cycle == 0 and str(version) == item["metadata"]["resourceVersion"]:
            return item
        image: dict[str, Any] = self._with_uids(item, cycle)
        metadata = image["metadata"]
        metadata["resourceVersion"] = str(version)
        uid = item["metadata"].get("uid", "")
        if "generation" in metadata:
            metadata["generation"] += cycle * self._growth.get(uid, 0)
        passed = timedelta(milliseconds=cycle * self.period_ms)
        if metadata.get("creationTimestamp") and uid not in self._lasting:
            metadata["creationTimestamp"] = _later(metadata["creationTimestamp"], passed)
        if _TRIGGER_TIME in metadata.get("annotations", {}):
            metadata["annotations"][_TRIGGER_TIME] = _later(metadata["annotations"][_TRIGGER_TIME], passed)
        return image

    def _with_uids(self, value: Any, cycle: int) -> Any:
        if isinstance(value, Mapping):
            return {
                name: self._uid(part, cycle) if name == "uid" else self._with_uids(part, cycle)
                for name, part in value.items()
            }
        if isinstance(value, list):
            return [self._with_uids(part, cycle) for part in value]
        return value

    def _uid(self, uid: str, cycle: int) -> str:
        return uid if cycle == 0 or uid in self._lasting else derived_uid(f"{uid}/{cycle}")


def _returns(recording: Recording) -> Iterator[_Return]:
    """The changes from a recording's end back to its beginning, as controllers would make them: Services before their
    dependents, and objects that are created again under their name are deleted before."""
    added: list[_Return] = []
    for path, track in recording.tracks.items():
        begin: dict[Key, Mapping[str, Any]] = {key_of(item): item for item in _begin(track)}
        end: dict[Key, Mapping[str, Any]] = {key_of(item): item for item in _end(track)}
        for key, item in end.items():
            if key not in begin or _uid_of(begin[key]) != _uid_of(item):
                yield _Return(path, "DELETED", item)
        for key, item in begin.items():
            if key not in end or _uid_of(end[key]) != _uid_of(item):
                added.append(_Return(path, "ADDED", item))
            elif end[key] != item:
                added.append(_Return(path, "MODIFIED", item))
    yield from added


def _begin(track: Track) -> list[Mapping[str, Any]]:
    return track.state(track.first)


def _end(track: Track) -> list[Mapping[str, Any]]:
    return track.state(track.last)


def _uid_of(item: Mapping[str, Any]) -> Any:
    return item["metadata"].get("uid")


def _uids(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            if name == "uid":
                yield part
            else:
                yield from _uids(part)
    elif isinstance(value, list):
        for part in value:
            yield from _uids(part)


def _generations(items: list[Mapping[str, Any]]) -> dict[str, int]:
    return {
        item["metadata"]["uid"]: item["metadata"]["generation"]
        for item in items
        if "generation" in item["metadata"] and "uid" in item["metadata"]
    }


def _later(time: str, passed: timedelta) -> str:
    """RFC 3339 in UTC, to the second, as Kubernetes writes it."""
    return (datetime.fromisoformat(time) + passed).strftime("%Y-%m-%dT%H:%M:%SZ")
