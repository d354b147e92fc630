"""The demo without end: each cluster's history stays one that a real API server could have served."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from streams.local.demo_server import load, recordings
from streams.local.recording import Key, Moment, Recording, key_of
from streams.local.recording_loop import HISTORY_CYCLES, RecordingLoop

CYCLES = 3
SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"


@pytest.fixture(params=recordings(), ids=lambda path: path.name, scope="module")
def recording(request: pytest.FixtureRequest) -> Recording:
    path: Path = request.param
    return load(path)


def changes(loop: RecordingLoop, cycles: int = CYCLES) -> Iterator[tuple[str, Moment]]:
    """What happens, over all paths, in order of time."""
    for cycle in range(cycles):
        window = loop.window((cycle + 0.5) * loop.period_ms)
        begin, end = cycle * loop.period_ms, (cycle + 1) * loop.period_ms
        moments = [(path, each) for path, track in window.tracks.items() for each in track.moments]
        yield from sorted((each for each in moments if begin <= each[1].ms < end), key=lambda each: each[1].ms)


class Store:
    """An API server's objects, which refuses what Kubernetes would not do."""

    def __init__(self, recording: Recording) -> None:
        self.objects = {
            path: {key_of(item): item for item in track.state(track.first)} for path, track in recording.tracks.items()
        }
        self.versions = {path: track.first for path, track in recording.tracks.items()}
        self.used = {item["metadata"]["uid"] for items in self.objects.values() for item in items.values()}

    def take(self, path: str, moment: Moment) -> None:
        items, metadata = self.objects[path], moment.item["metadata"]
        assert int(metadata["resourceVersion"]) == moment.version
        if moment.kind == "BOOKMARK":
            assert moment.version >= self.versions[path]
            self.versions[path] = moment.version
            return
        assert moment.version > self.versions[path]
        self.versions[path] = moment.version
        key = key_of(moment.item)
        if moment.kind == "ADDED":
            assert key not in items, key
            assert metadata["uid"] not in self.used, key
            self.used.add(metadata["uid"])
            items[key] = moment.item
            return
        self._same(items[key], moment.item)
        if moment.kind == "DELETED":
            del items[key]
        else:
            items[key] = moment.item

    def _same(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Only what may change of one object has changed."""
        for name in ("uid", "creationTimestamp", "name", "namespace"):
            assert before["metadata"][name] == after["metadata"][name], (name, before, after)
        assert before["metadata"].get("generation", 0) <= after["metadata"].get("generation", 0), (before, after)
        assert before.get("addressType") == after.get("addressType")
        if "ExternalName" not in {before.get("spec", {}).get("type"), after.get("spec", {}).get("type")}:
            assert before.get("spec", {}).get("clusterIP") == after.get("spec", {}).get("clusterIP")


def test_it_is_one_consistent_history(recording: Recording) -> None:
    loop = RecordingLoop(recording)
    store = Store(recording)
    times: dict[str, float] = {}
    for path, moment in changes(loop):
        assert moment.ms >= times.get(path, 0)
        times[path] = moment.ms
        store.take(path, moment)
    for path, track in loop.window(CYCLES * loop.period_ms).tracks.items():
        began = [each for each in track.moments if each.ms < CYCLES * loop.period_ms]
        assert {key_of(item): item for item in track.state(began[-1].version)} == store.objects[path]


def test_a_cycle_ends_where_it_began(recording: Recording) -> None:
    loop = RecordingLoop(recording)
    store = Store(recording)
    begin = {path: {key: shape(item) for key, item in items.items()} for path, items in store.objects.items()}
    for path, moment in changes(loop, 2):
        store.take(path, moment)
    assert {path: {key: shape(item) for key, item in items.items()} for path, items in store.objects.items()} == begin


def shape(value: Any) -> Any:
    """An object without what differs from cycle to cycle."""
    changing = {
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "endpoints.kubernetes.io/last-change-trigger-time",
    }
    if isinstance(value, Mapping):
        return {name: shape(part) for name, part in value.items() if name not in changing}
    return [shape(part) for part in value] if isinstance(value, list) else value


def test_at_the_beginning_of_each_cycle_slices_belong_to_services_that_are_there(recording: Recording) -> None:
    loop = RecordingLoop(recording)
    for cycle in range(CYCLES):
        tracks = loop.window(cycle * loop.period_ms).tracks
        services = {item["metadata"]["uid"] for item in at(tracks[SERVICES], loop, cycle).values()}
        for key, item in at(tracks[SLICES], loop, cycle).items():
            for owner in item["metadata"].get("ownerReferences", []):
                if owner["kind"] == "Service":
                    assert owner["uid"] in services, (cycle, key)


def at(track: Any, loop: RecordingLoop, cycle: int) -> dict[Key, Any]:
    return {key_of(item): item for item in track.state(track.version(cycle * loop.period_ms - 1))}


def test_the_first_cycle_is_the_recording_itself(recording: Recording) -> None:
    loop = RecordingLoop(recording)
    for path, track in loop.window(0).tracks.items():
        assert track.first == recording.tracks[path].first
        recorded = recording.tracks[path].moments
        assert track.moments[: len(recorded)] == recorded


def test_the_history_is_bounded_and_the_windows_agree(recording: Recording) -> None:
    loop, again = RecordingLoop(recording), RecordingLoop(recording)
    far = 1000 * loop.period_ms
    loop.window(far - loop.period_ms)
    for path, track in loop.window(far).tracks.items():
        fresh = again.window(far).tracks[path]
        assert (track.first, track.moments) == (fresh.first, fresh.moments)
        assert track.state(track.first) == fresh.state(fresh.first)
        assert track.moments[0].ms >= far - HISTORY_CYCLES * loop.period_ms
        assert track.version(far) > track.first > recording.tracks[path].last


def test_something_happens_every_few_seconds(recording: Recording) -> None:
    loop = RecordingLoop(recording)
    times = [moment.ms for _, moment in changes(loop, 2) if moment.kind != "BOOKMARK"]
    assert max(after - before for before, after in pairwise(times)) < 5_000
