"""A recording of one API server's list and watch traffic, as state at a time and events from a version. No IO.

A recording is JSON lines: a header (`format`, `cluster`, `kubernetes`, `duration_ms`, `resources` with `path` and
`kind`), then for each path its List as served (`path`, `list`), then watch events (`path`, `ms` since the lists,
`event` with `type` and `object`), BOOKMARKs among them.

resourceVersions are compared as numbers, within one path only (KEP-5504).
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.objects.reflector import INITIAL_EVENTS_END

FORMAT = 1
Key = tuple[str, str]
_TYPES = {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"}


class DamagedRecording(FacetsError):
    """A file that is not a valid recording."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "record it again, or take the file anew from the release", ExitCode.BAD_DATA)


class Moment(NamedTuple):
    """A watch event of the recording: `ms` milliseconds after the lists."""

    ms: float
    version: int
    kind: str
    item: Mapping[str, Any]


class Track:
    """The recording of one path. `first` and `last` are the lowest and the highest resourceVersion that can be
    requested; `moments` are in order of time and of version."""

    def __init__(self, path: str, kind: str, listed: Mapping[str, Any]) -> None:
        self.path = path
        self.kind = kind
        self.api_version = str(listed["apiVersion"])
        self.first = self.last = number(listed["metadata"]["resourceVersion"])
        self.moments: list[Moment] = []
        self._items = {key_of(item): item for item in listed.get("items") or ()}

    def add(self, ms: float, kind: str, item: Mapping[str, Any]) -> None:
        """The next event. One at or below the version reached is left out: a recorder that reconnected got it twice,
        which a watch never does."""
        version = number(item["metadata"]["resourceVersion"])
        if kind not in _TYPES or (self.moments and ms < self.moments[-1].ms):
            raise ValueError(f"a {kind!r} event at {ms} ms")
        if version > self.last or (version == self.last and kind == "BOOKMARK"):
            if kind != "BOOKMARK":
                key_of(item)
            self.last = version
            self.moments.append(Moment(ms, version, kind, item))

    def replaced(self, first: int, items: Iterable[Mapping[str, Any]], moments: list[Moment]) -> "Track":
        """The same path with another history."""
        track = Track(self.path, self.kind, {"apiVersion": self.api_version, "metadata": {"resourceVersion": first}})
        track._items = {key_of(item): item for item in items}
        track.moments = moments
        track.last = moments[-1].version if moments else first
        return track

    def version(self, ms: float) -> int:
        """The version reached at a time."""
        reached = bisect_right(self.moments, ms, key=lambda moment: moment.ms)
        return self.moments[reached - 1].version if reached else self.first

    def since(self, version: int) -> int:
        """The index in `moments` of the first event above a version."""
        return bisect_right(self.moments, version, key=lambda moment: moment.version)

    def state(self, version: int) -> list[Mapping[str, Any]]:
        """The objects as of a version, by namespace and name."""
        items = dict(self._items)
        for moment in self.moments[: self.since(version)]:
            if moment.kind == "DELETED":
                items.pop(key_of(moment.item), None)
            elif moment.kind != "BOOKMARK":
                items[key_of(moment.item)] = moment.item
        return [items[key] for key in sorted(items)]

    def typed(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The object as in a watch event: with its kind, which list items don't have."""
        return {"kind": self.kind, "apiVersion": self.api_version, **item}

    def bookmark(self, version: int, initial_events_end: bool = False) -> dict[str, Any]:
        """A BOOKMARK event; `initial_events_end` ends a streaming list (KEP-3157)."""
        metadata: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
        if initial_events_end:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        return {"type": "BOOKMARK", "object": self.typed({"metadata": metadata})}


class Recording:
    """One cluster's tracks. `duration_ms` is when it ends; nothing happens after it."""

    def __init__(self, header: Mapping[str, Any], tracks: Mapping[str, Track]) -> None:
        self.header = header
        self.cluster = str(header["cluster"])
        self.kubernetes = str(header["kubernetes"])
        self.tracks = tracks
        latest = max((track.moments[-1].ms for track in tracks.values() if track.moments), default=0.0)
        self.duration_ms = max(float(header["duration_ms"]), latest)

    def version(self, track: Track, ms: float) -> int:
        """The version that a list of the track carries at a time. After the recording's end that is the
        cluster's, as no event below it can follow; before, it could be ahead of an event still to be served."""
        if ms < self.duration_ms:
            return track.version(ms)
        return max(track.last for track in self.tracks.values())

    def events(self) -> Iterator[dict[str, Any]]:
        """The lists as ADDED events, then the watch events in order of time (BOOKMARKs among them)."""
        for track in self.tracks.values():
            for item in track.state(track.first):
                yield {"type": "ADDED", "object": track.typed(item)}
        moments = [(moment, track) for track in self.tracks.values() for moment in track.moments]
        for moment, track in sorted(moments, key=lambda pair: pair[0].ms):
            yield {"type": moment.kind, "object": track.typed(moment.item)}


def parse(lines: Iterable[Any], name: str) -> Recording:
    """The recording in decoded lines; `name` is its name in errors. Raises DamagedRecording."""
    header: Mapping[str, Any] | None = None
    kinds: dict[str, str] = {}
    tracks: dict[str, Track] = {}
    count = 0
    for count, line in enumerate(lines, 1):
        try:
            if header is None:
                if line["format"] != FORMAT:
                    raise ValueError(f"format {line['format']!r}, not {FORMAT}")
                kinds = {resource["path"]: resource["kind"] for resource in line["resources"]}
                header = line
            elif "list" in line:
                tracks[line["path"]] = Track(line["path"], kinds[line["path"]], line["list"])
            else:
                tracks[line["path"]].add(float(line["ms"]), line["event"]["type"], line["event"]["object"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise DamagedRecording(f"{name} line {count} is not what a recording has: {problem}") from error
    if header is None:
        raise DamagedRecording(f"{name} is empty")
    if missing := sorted(kinds.keys() - tracks.keys()):
        raise DamagedRecording(f"{name} ends after line {count} without the list of {', '.join(missing)}")
    try:
        return Recording(header, {path: tracks[path] for path in kinds})
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedRecording(f"{name} line 1 is not what a recording has: {error}") from error


def number(version: Any) -> int:
    """A resourceVersion as a number. Raises ValueError."""
    text = str(version)
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"invalid resource version {text!r}")
    return int(text)


def key_of(item: Mapping[str, Any]) -> Key:
    """An object's namespace ("" if it has none) and name."""
    meta = item["metadata"]
    return str(meta.get("namespace") or ""), str(meta["name"])
