"""Recorded clusters served as API servers: the recording as state and events, and what a client gets over HTTP."""

import asyncio
import lzma
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from streams.kube.api_server import ApiServer, ClusterConfig
from streams.kube.list_watch import ListWatch
from streams.local import demo_server
from streams.local.demo_server import DemoServer, NoRecording, load
from streams.local.outage import Outage
from streams.local.recording import DamagedRecording
from streams.local.recording_api import with_namespaces
from streams.local.recording_loop import HISTORY_CYCLES, RecordingLoop
from streams.objects.reflector import Kind, Reflector, ReflectorEvent
from streams.objects.resources import RESOURCES, Resource
from streams.watch.discovery import discover_at_start
from tests.support.recordings import final_objects

SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
ENDPOINTS = "/api/v1/endpoints"
HOUR = 3_600_000


def item(name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop", "uid": f"u-{name}", "resourceVersion": str(version)}} | more


def event(ms: int, kind: str, name: str, version: int, path: str = SERVICES) -> dict[str, Any]:
    return {"path": path, "ms": ms, "event": {"type": kind, "object": item(name, version)}}


def bookmark(ms: int, version: int, path: str = SERVICES) -> dict[str, Any]:
    return {"path": path, "ms": ms, "event": {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}}


def lines(*events: dict[str, Any], cluster: str = "east", duration: int = HOUR) -> list[dict[str, Any]]:
    kinds = {SERVICES: "Service", SLICES: "EndpointSlice", ENDPOINTS: "Endpoints"}
    listed = {SERVICES: [item(name, 10 + place) for place, name in enumerate("abc")], SLICES: [], ENDPOINTS: []}
    return [
        {
            "format": 1, "cluster": cluster, "kubernetes": "1.36.3", "recorded": "2026-11-24T12:00:00Z",
            "duration_ms": duration, "resources": [{"path": path, "kind": kind} for path, kind in kinds.items()],
        },
        *(
            {
                "path": path,
                "list": {
                    "kind": f"{kinds[path]}List", "metadata": {"resourceVersion": "100"}, "items": items,
                    "apiVersion": "discovery.k8s.io/v1" if path == SLICES else "v1",
                },
            }
            for path, items in listed.items()
        ),
        *events,
    ]  # fmt: skip


CHURN = (
    event(10, "MODIFIED", "a", 101),
    event(20, "ADDED", "a-1", 103, SLICES),
    event(20, "DELETED", "b", 102),
    bookmark(30, 110),
    event(40, "ADDED", "d", 111),
)


def write(folder: Path, *events: dict[str, Any], cluster: str = "east", duration: int = HOUR) -> Path:
    path = folder / f"{cluster}.jsonl.xz"
    path.write_bytes(
        lzma.compress(
            b"".join(orjson.dumps(line) + b"\n" for line in lines(*events, cluster=cluster, duration=duration))
        )
    )
    return path


class Client:
    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self.session = session
        self.server = server

    async def get(self, path: str, **params: str | int) -> tuple[int, Any]:
        async with self.session.get(self.server + path, params=params) as response:
            return response.status, orjson.loads(await response.read())

    async def watch(self, count: int | None = None, path: str = SERVICES, **params: str | int) -> list[Any]:
        """The first events of a watch, or all of them until the server ends it."""
        said: list[Any] = []
        async with self.session.get(self.server + path, params={"watch": "true", **params}) as response:
            assert response.status == 200
            while count is None or len(said) < count:
                line = await response.content.readline()
                if not line:
                    break
                said.append(orjson.loads(line))
        return said


@asynccontextmanager
async def serving(*paths: Path, speed: float = math.inf) -> AsyncIterator[tuple[DemoServer, Client]]:
    async with asyncio.timeout(60), DemoServer(paths, speed=speed) as server, aiohttp.ClientSession() as session:
        address = orjson.loads(server.kubeconfig.read_bytes())["clusters"][0]["cluster"]["server"]
        yield server, Client(session, address)


def short(events: list[Any]) -> list[tuple[str, str, str]]:
    return [
        (each["type"], each["object"]["metadata"].get("name", ""), str(each["object"]["metadata"]["resourceVersion"]))
        for each in events
    ]


def names(listed: dict[str, Any]) -> list[str]:
    return [each["metadata"]["name"] for each in listed["items"]]


def test_state_and_versions_follow_time(tmp_path: Path) -> None:
    recording = load(write(tmp_path, *CHURN))
    track = recording.tracks[SERVICES]
    assert [track.version(ms) for ms in (0, 9.9, 10, 20, 30, 40)] == [100, 100, 101, 102, 110, 111]
    assert [each["metadata"]["name"] for each in track.state(100)] == ["a", "b", "c"]
    assert [each["metadata"]["name"] for each in track.state(105)] == ["a", "c"]
    assert [each["metadata"]["name"] for each in track.state(111)] == ["a", "c", "d"]
    assert [track.moments[place].version for place in map(track.since, (100, 101, 105))] == [101, 102, 110]
    assert track.since(111) == len(track.moments)


def test_a_list_carries_the_clusters_version_only_when_nothing_can_come_any_more(tmp_path: Path) -> None:
    recording = load(write(tmp_path, *CHURN))
    assert recording.version(recording.tracks[SLICES], HOUR - 1) == 103
    assert recording.version(recording.tracks[SLICES], HOUR) == 111


def test_what_a_recorder_saw_twice_is_served_once(tmp_path: Path) -> None:
    again = event(50, "MODIFIED", "a", 101)
    track = load(write(tmp_path, *CHURN, again)).tracks[SERVICES]
    assert [each.version for each in track.moments] == [101, 102, 110, 111]


def test_final_objects_are_one_list_with_kinds(tmp_path: Path) -> None:
    final = final_objects(load(write(tmp_path, *CHURN)))
    assert final["kind"] == "List"
    assert [(each["kind"], each["apiVersion"], each["metadata"]["name"]) for each in final["items"]] == [
        ("Service", "v1", "a"),
        ("Service", "v1", "c"),
        ("Service", "v1", "d"),
        ("EndpointSlice", "discovery.k8s.io/v1", "a-1"),
    ]


def test_watch_events_are_the_lists_then_time_in_order(tmp_path: Path) -> None:
    assert short(list(load(write(tmp_path, *CHURN)).events())) == [
        ("ADDED", "a", "10"), ("ADDED", "b", "11"), ("ADDED", "c", "12"),
        ("MODIFIED", "a", "101"), ("DELETED", "b", "102"), ("ADDED", "a-1", "103"), ("BOOKMARK", "", "110"),
        ("ADDED", "d", "111"),
    ]  # fmt: skip


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoRecording, match=r"none\.jsonl\.xz can't be read: No such file"):
        DemoServer([tmp_path / "none.jsonl.xz"])
    with pytest.raises(NoRecording, match="no recording to serve"):
        DemoServer([])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"not xz", "damaged"),
        (lzma.compress(b"{}\n" * 1000)[:-20], "damaged|line 1"),
        (lzma.compress(b'{"format":'), "damaged"),
        (lzma.compress(b""), "is empty"),
        (lzma.compress(b'{"format":2}'), "line 1 .* format 2, not 1"),
        (lzma.compress(orjson.dumps(lines()[0])), "without the list of /api/v1/endpoints"),
        (lzma.compress(b"\n".join(map(orjson.dumps, [*lines(), {"path": "/x", "ms": 1}]))), "line 5 .* no '/x'"),
        (lzma.compress(b"\n".join(map(orjson.dumps, [*lines(), event(1, "EATEN", "a", 101)]))), "line 5 .* 'EATEN'"),
        (lzma.compress(b"\n".join(map(orjson.dumps, [*lines(), 7]))), "line 5"),
    ],
)  # fmt: skip
def test_a_damaged_recording_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "east.jsonl.xz"
    path.write_bytes(content)
    with pytest.raises(DamagedRecording, match=rf"east\.jsonl\.xz.*({says})"):
        load(path)


def test_two_recordings_of_one_cluster_and_a_speed_of_nothing_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(DamagedRecording, match="of one cluster"):
        DemoServer([path, path])
    with pytest.raises(ValueError, match="speed"):
        DemoServer([path], speed=0)


async def test_a_list_is_of_its_time(tmp_path: Path) -> None:
    path = write(tmp_path, event(HOUR, "ADDED", "d", 111))
    async with serving(path, speed=1) as (_, client):
        status, listed = await client.get(SERVICES)
        assert (status, listed["kind"], listed["apiVersion"]) == (200, "ServiceList", "v1")
        assert (names(listed), listed["metadata"]) == (["a", "b", "c"], {"resourceVersion": "100"})
    async with serving(path) as (_, client):
        _, listed = await client.get(SERVICES)
        assert (names(listed), listed["metadata"]) == (["a", "b", "c", "d"], {"resourceVersion": "111"})
        assert "kind" not in listed["items"][3]
        _, listed = await client.get(SERVICES, resourceVersion=100, resourceVersionMatch="Exact")
        assert names(listed) == ["a", "b", "c"]


async def test_pages_are_of_one_version(tmp_path: Path) -> None:
    async with serving(write(tmp_path, *CHURN)) as (_, client):
        _, first = await client.get(SERVICES, limit=2)
        assert (names(first), first["metadata"]["remainingItemCount"]) == (["a", "c"], 1)
        _, second = await client.get(SERVICES, limit=2, **{"continue": first["metadata"]["continue"]})
        assert (names(second), second["metadata"]) == (["d"], {"resourceVersion": "111"})
        status, refused = await client.get(SERVICES, limit=2, **{"continue": "bm9uZQ=="})
        assert (status, refused["reason"]) == (400, "BadRequest")


async def test_a_watch_says_what_came_after_a_version_then_bookmarks(tmp_path: Path) -> None:
    async with serving(write(tmp_path, *CHURN)) as (_, client):
        events = await client.watch(5, resourceVersion=101, allowWatchBookmarks="true")
        assert short(events) == [
            ("DELETED", "b", "102"), ("BOOKMARK", "", "110"), ("ADDED", "d", "111"),
            ("BOOKMARK", "", "111"), ("BOOKMARK", "", "111"),
        ]  # fmt: skip
        assert {(each["object"]["kind"], each["object"]["apiVersion"]) for each in events} == {("Service", "v1")}
        assert short(await client.watch(2, resourceVersion=101)) == [("DELETED", "b", "102"), ("ADDED", "d", "111")]
        assert short(await client.watch(3)) == [("ADDED", "a", "101"), ("ADDED", "c", "12"), ("ADDED", "d", "111")]


async def test_a_streaming_list_ends_in_its_bookmark(tmp_path: Path) -> None:
    asks = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with serving(write(tmp_path, event(HOUR, "ADDED", "d", 111)), speed=1) as (_, client):
        events = await client.watch(4, **asks, resourceVersion="")
        assert short(events) == [
            ("ADDED", "a", "10"),
            ("ADDED", "b", "11"),
            ("ADDED", "c", "12"),
            ("BOOKMARK", "", "100"),
        ]
        assert events[3]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        status, refused = await client.get(SERVICES, watch="true", **asks, resourceVersion=500)
        assert (status, refused["details"]["causes"][0]["reason"]) == (504, "ResourceVersionTooLarge")
        status, refused = await client.get(SERVICES, watch="true", sendInitialEvents="true")
        assert (status, refused["reason"]) == (422, "Invalid")


async def test_a_version_from_before_the_recording_is_gone(tmp_path: Path) -> None:
    async with serving(write(tmp_path, *CHURN)) as (_, client):
        status, refused = await client.get(SERVICES, resourceVersion=99, resourceVersionMatch="Exact")
        assert (status, refused["kind"], refused["reason"], refused["code"]) == (410, "Status", "Expired", 410)
        (said,) = await client.watch(resourceVersion=99)
        assert (said["type"], said["object"]["kind"], said["object"]["code"]) == ("ERROR", "Status", 410)
        status, refused = await client.get(SERVICES, watch="true", resourceVersion="new")
        assert (status, refused["reason"]) == (400, "BadRequest")


async def test_other_paths_are_not_found_and_the_version_is_told(tmp_path: Path) -> None:
    async with serving(write(tmp_path)) as (_, client):
        status, refused = await client.get("/api/v1/secrets")
        assert (status, refused["reason"]) == (404, "NotFound")
        assert await client.get("/version") == (200, {"major": "1", "minor": "36", "gitVersion": "v1.36.3"})
        async with client.session.post(client.server + SERVICES) as response:
            assert response.status == 405


async def test_a_watch_ends_at_its_timeout(tmp_path: Path) -> None:
    async with serving(write(tmp_path, event(HOUR, "ADDED", "d", 111)), speed=1) as (_, client):
        assert await client.watch(resourceVersion=100, timeoutSeconds=1) == []


async def test_stopping_ends_watches(tmp_path: Path) -> None:
    async with serving(write(tmp_path), speed=1) as (server, client):
        kubeconfig = server.kubeconfig
        params = {"watch": "true", "resourceVersion": "100"}
        async with client.session.get(client.server + SERVICES, params=params) as response:
            await server.stop()
            assert await response.content.read() == b""
    assert not kubeconfig.exists()


async def test_time_begins_with_the_first_request_and_runs_at_its_speed(tmp_path: Path) -> None:
    path = write(tmp_path, event(HOUR // 2, "ADDED", "d", 111), duration=HOUR)
    async with serving(path, speed=18_000) as (server, client):
        assert server.duration == pytest.approx(0.2)
        assert server.now() == 0
        events = await client.watch(2, resourceVersion=100, allowWatchBookmarks="true")
        assert short(events) == [("ADDED", "d", "111"), ("BOOKMARK", "", "111")]
        await server.finished.wait()


async def test_two_watchers_and_two_clusters_are_independent(tmp_path: Path) -> None:
    paths = [write(tmp_path, *CHURN), write(tmp_path, cluster="west")]
    async with serving(*paths) as (server, client):
        assert server.clusters == ["east", "west"]
        one, other = await asyncio.gather(client.watch(2, resourceVersion=100), client.watch(1, resourceVersion=102))
        assert (short(one)[1], short(other)[0]) == (("DELETED", "b", "102"), ("ADDED", "d", "111"))


class HeldObjects:
    """A sink that holds each object's name and resourceVersion; `done` once the version `until` is reached."""

    def __init__(self, until: str) -> None:
        self.held: dict[str, str] = {}
        self.done = asyncio.Event()
        self._until = until

    async def take(self, resource: Resource, events: list[ReflectorEvent]) -> None:
        for event in events:
            if event.kind in {Kind.INIT_APPLY, Kind.APPLY}:
                self.held[event.item["metadata"]["name"]] = event.item["metadata"]["resourceVersion"]
            elif event.kind is Kind.DELETE:
                del self.held[event.item["metadata"]["name"]]
            if event.resource_version == self._until and event.kind in {Kind.APPLY, Kind.INIT_DONE}:
                self.done.set()

    def connected(self, resource: Resource, open_now: bool) -> None: ...

    def confirmed(self, resource: Resource) -> None: ...

    def unconfirmed(self, resource: Resource) -> None: ...

    def trouble(self, resource: Resource, reason: str) -> None: ...


@pytest.mark.parametrize("streaming", [True, False])
async def test_the_watcher_follows_it_unchanged(tmp_path: Path, streaming: bool) -> None:
    sink = HeldObjects(until="111")
    services = next(each for each in RESOURCES if each.path == SERVICES)
    async with (
        serving(write(tmp_path, *CHURN), speed=0.1) as (server, _),
        ApiServer(ClusterConfig("east", server.kubeconfig, "east")) as source,
    ):
        follow = asyncio.create_task(ListWatch(source, services, Reflector(streaming=streaming), sink).run())
        await sink.done.wait()
        follow.cancel()
    assert sink.held == {"a": "101", "c": "12", "d": "111"}


def test_the_packages_recordings_are_sound() -> None:
    for path in demo_server.recordings():
        assert load(path).duration_ms > 0


async def test_a_demo_that_has_run_for_a_day_still_changes() -> None:
    now = 1000.0
    path = demo_server.recordings()[0]
    async with (
        asyncio.timeout(60),
        DemoServer([path], forever=True, clock=lambda: now) as server,
        aiohttp.ClientSession() as session,
    ):
        address = orjson.loads(server.kubeconfig.read_bytes())["clusters"][0]["cluster"]["server"]
        client = Client(session, address)
        _, begin = await client.get(SERVICES)
        now += 24 * 3600
        _, listed = await client.get(SERVICES)
        assert int(listed["metadata"]["resourceVersion"]) > int(begin["metadata"]["resourceVersion"])
        assert names(listed) == names(begin)
        await_next = asyncio.create_task(
            client.watch(1, SLICES, resourceVersion=(await client.get(SLICES))[1]["metadata"]["resourceVersion"])
        )
        now += 30
        (change,) = await await_next
        assert change["type"] in {"ADDED", "MODIFIED", "DELETED"}
        (error,) = await client.watch(resourceVersion=begin["metadata"]["resourceVersion"])
        assert (error["type"], error["object"]["code"]) == ("ERROR", 410)
        assert not server.finished.is_set()


async def test_a_watch_that_slept_through_the_history_is_told_so() -> None:
    now = 1000.0
    async with (
        asyncio.timeout(60),
        DemoServer(demo_server.recordings()[:1], forever=True, clock=lambda: now, speed=100) as server,
        aiohttp.ClientSession() as session,
    ):
        address = orjson.loads(server.kubeconfig.read_bytes())["clusters"][0]["cluster"]["server"]
        _, listed = await Client(session, address).get(SERVICES)
        params = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
        async with session.get(address + SERVICES, params=params) as response:
            now += 3600
            error = orjson.loads(await response.content.readline())
            assert (error["type"], error["object"]["code"]) == ("ERROR", 410)
            assert await response.content.read() == b""


async def test_discovery_names_what_was_recorded_and_the_namespaces(tmp_path: Path) -> None:
    async with serving(write(tmp_path, *CHURN)) as (_, client):
        _, core = await client.get("/api/v1")
        assert core["groupVersion"] == "v1"
        assert [each["name"] for each in core["resources"]] == ["services", "endpoints", "namespaces"]
        _, groups = await client.get("/apis")
        assert [each["name"] for each in groups["groups"]] == ["discovery.k8s.io"]
        _, group = await client.get("/apis/discovery.k8s.io")
        assert group["preferredVersion"] == {"groupVersion": "discovery.k8s.io/v1", "version": "v1"}
        _, slices = await client.get("/apis/discovery.k8s.io/v1")
        assert [each["kind"] for each in slices["resources"]] == ["EndpointSlice"]
        assert (await client.get("/apis/gateway.networking.k8s.io"))[0] == 404
        _, namespaces = await client.get("/api/v1/namespaces")
        assert names(namespaces) == ["shop"]


async def test_the_watcher_finds_nothing_missing_in_the_demo(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        asyncio.timeout(60),
        DemoServer(forever=True) as server,
        ApiServer(ClusterConfig(server.clusters[0], server.kubeconfig)) as api,
    ):
        served = await discover_at_start(api)
    assert list(served) == ["namespaces"]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


def test_who_watches_the_namespaces_never_falls_out_of_the_history() -> None:
    loop = RecordingLoop(with_namespaces(load(demo_server.recordings()[0])))
    held = -1
    for cycle in range(2 * HISTORY_CYCLES + 2):
        window = loop.window(cycle * loop.period_ms)
        track = window.tracks["/api/v1/namespaces"]
        assert held < 0 or track.first <= held, f"cycle {cycle}: too old"
        before, held = held, window.version(track, (cycle + 1) * loop.period_ms - 1)
        assert held > before


async def test_an_outage_breaks_watches_and_refuses_requests_until_it_is_over(tmp_path: Path) -> None:
    now = 0.0
    outage = Outage("east", begins=5, lasts=10, every=60)
    paths = [write(tmp_path), write(tmp_path, cluster="west")]
    async with DemoServer(paths, outage=outage, clock=lambda: now) as server, aiohttp.ClientSession() as session:
        contexts = orjson.loads(server.kubeconfig.read_bytes())["clusters"]
        urls = {context["name"]: context["cluster"]["server"] for context in contexts}
        async with session.get(urls["east"] + SERVICES) as answer:
            assert answer.status == 200
        now = 4.9
        async with session.get(urls["east"] + SERVICES + "?watch=true") as stream:
            assert stream.status == 200
            now = 6.0
            with pytest.raises(aiohttp.ClientPayloadError):
                await stream.read()
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(urls["east"] + SERVICES)
        async with session.get(urls["west"] + SERVICES) as answer:
            assert answer.status == 200
        now = 15.0
        async with session.get(urls["east"] + SERVICES) as answer:
            assert answer.status == 200


async def test_exports_are_a_resource_type_of_their_own(tmp_path: Path) -> None:
    exports = {("shop", "a"): {"service-facets.io/drop-unavailable-after": "4s"}}
    async with DemoServer([write(tmp_path)], exports=exports) as server, aiohttp.ClientSession() as session:
        (context,) = orjson.loads(server.kubeconfig.read_bytes())["clusters"]
        url = context["cluster"]["server"]
        async with session.get(f"{url}/apis/multicluster.x-k8s.io/v1beta1/serviceexports") as answer:
            (item,) = (await answer.json())["items"]
        assert (item["metadata"]["name"], item["metadata"]["annotations"]) == ("a", exports["shop", "a"])
        async with session.get(f"{url}/apis") as answer:
            assert "multicluster.x-k8s.io" in {group["name"] for group in (await answer.json())["groups"]}


def test_outages_come_again() -> None:
    outage = Outage("east", begins=5, lasts=10, every=60)
    assert [outage.is_on(seconds) for seconds in (0, 5, 14, 15, 64, 65, 75)] == [
        False,
        True,
        True,
        False,
        False,
        True,
        False,
    ]
    assert [outage.seconds_to_next(seconds) for seconds in (0, 6, 15)] == [5, 0, 50]
