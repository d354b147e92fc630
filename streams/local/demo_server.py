"""Serves recorded clusters over HTTP as Kubernetes API servers do: list, streaming list, watch.

Each cluster has a port of its own on 127.0.0.1, so a watcher follows them unchanged, through a kubeconfig.
"""

import asyncio
import base64
import binascii
import lzma
import math
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.local.outage import Outage
from streams.local.recording import DamagedRecording, Recording, Track, number, parse
from streams.local.recording_api import discovery, with_exports, with_namespaces
from streams.local.recording_loop import RecordingLoop

BOOKMARK_SECONDS = 1.0
"""Between two bookmarks of a watch after the recording's end."""

IDLE_BOOKMARK_SECONDS = 10.0
"""How long a watch is without an event before it gets a bookmark."""

_REASONS = {400: "BadRequest", 404: "NotFound", 405: "MethodNotAllowed", 410: "Expired", 422: "Invalid", 504: "Timeout"}


class NoRecording(FacetsError):
    """The recording to serve doesn't exist."""

    exit_code = ExitCode.UNKNOWN_NAME


class Refused(Exception):
    """An answer other than 200: `status` is the body, a Status object."""

    def __init__(self, code: int, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": _REASONS[code], "code": code, **({"details": details} if details else {}),
        }  # fmt: skip


class Query(NamedTuple):
    """The parameters of a GET of a resource."""

    watch: bool
    version: int | None
    exact: bool
    initial_events: bool
    bookmarks: bool
    timeout: float
    limit: int
    start: tuple[str, str] | None


def recordings() -> list[Path]:
    """The recordings that come with the package."""
    return sorted((Path(__file__).parent / "recordings").glob("*.jsonl.xz"))


def load(path: Path) -> Recording:
    """Load a recording. Raises NoRecording, DamagedRecording."""
    try:
        with lzma.open(path, "rb") as lines:
            return parse((orjson.loads(line) for line in lines), str(path))
    except OSError as error:
        raise NoRecording(
            f"recording {path} can't be read: {error.strerror or error}", "name an existing .jsonl.xz"
        ) from error
    except (lzma.LZMAError, EOFError, orjson.JSONDecodeError) as error:
        raise DamagedRecording(f"recording {path} is damaged: {error}") from error


class DemoServer:
    """Serves recordings, `speed` times as fast as they were recorded (`math.inf`: all at once). Time begins with the
    first list or watch of any cluster, so a slow watcher misses nothing; all clusters share one time.

    `duration` is in seconds of this server's time. `finished` is set when the recordings have ended; connections stay
    open after that, with a bookmark every second. With `forever` they never end: see `streams.local.recording_loop`.
    `exports` are annotated ServiceExports, by namespace and name (see `with_exports`); during an `outage` connections
    to that cluster break. `clock` is in seconds. Raises NoRecording, DamagedRecording.
    """

    def __init__(
        self,
        recordings: Sequence[Path] | None = None,
        *,
        speed: float = 1.0,
        forever: bool = False,
        exports: Mapping[tuple[str, str], Mapping[str, str]] = MappingProxyType({}),
        outage: Outage | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not speed > 0 or (forever and math.isinf(speed)):
            raise ValueError(f"speed is {speed}, and must be above 0 and, for ever, below infinity")
        paths = _shipped() if recordings is None else list(recordings)
        if not paths:
            raise NoRecording("there is no recording to serve", "install the package anew: its recordings are missing")
        self._recordings = [with_exports(with_namespaces(load(path)), exports) for path in paths]
        self.clusters = [recording.cluster for recording in self._recordings]
        if len(set(self.clusters)) < len(self.clusters):
            raise DamagedRecording(f"two of the recordings are of one cluster: {', '.join(map(str, paths))}")
        self.speed = speed
        self.duration = (
            math.inf if forever else max(recording.duration_ms for recording in self._recordings) / 1000 / speed
        )
        self.finished = asyncio.Event()
        self._stopping = asyncio.Event()
        self._forever = forever
        self._outage = outage
        self._clock = clock
        self._began: float | None = None
        self._end: asyncio.TimerHandle | None = None
        self._runners: list[web.AppRunner] = []
        self._folder: Path | None = None

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig with a context for each cluster, by its name. It exists while the server runs."""
        if self._folder is None:
            raise RuntimeError("the demo server is not started")
        return self._folder / "kubeconfig"

    async def start(self) -> None:
        """Listen. Raises OSError if no port is available."""
        self._folder = Path(tempfile.mkdtemp(prefix="facets-demo-"))
        servers: dict[str, str] = {}
        try:
            for recording in self._recordings:
                app = web.Application()
                history = RecordingLoop(recording) if self._forever else _Once(recording)
                app.router.add_route("*", "/{path:.*}", _Cluster(self, history).answer)
                runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=5)
                self._runners.append(runner)
                await runner.setup()
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                servers[recording.cluster] = f"http://127.0.0.1:{runner.addresses[0][1]}"
            # JSON is YAML.
            self.kubeconfig.write_bytes(orjson.dumps(_kubeconfig(servers), option=orjson.OPT_INDENT_2))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close all connections and delete the kubeconfig."""
        self._stopping.set()
        if self._end is not None:
            self._end.cancel()
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    async def __aenter__(self) -> "DemoServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def begin(self) -> None:
        """Start the clock, once."""
        if self._began is None:
            self._began = self._clock()
            if not self._forever:
                self._end = asyncio.get_running_loop().call_later(self.duration, self.finished.set)

    def now(self) -> float:
        """The current time in the recordings, in milliseconds."""
        if self._began is None:
            return 0.0
        if math.isinf(self.speed):
            return math.inf
        return (self._clock() - self._began) * 1000 * self.speed

    def is_out(self, cluster: str) -> bool:
        """Whether the cluster's API server is out of reach."""
        return self.seconds_to_outage(cluster) == 0

    def seconds_to_outage(self, cluster: str) -> float:
        """How long until that is so next."""
        if self._outage is None or self._outage.cluster != cluster or self._began is None:
            return math.inf
        return self._outage.seconds_to_next(self._clock() - self._began)

    async def pause(self, seconds: float) -> bool:
        """Wait (`math.inf`: until the server stops). Returns whether the server still runs."""
        try:
            await asyncio.wait_for(self._stopping.wait(), None if math.isinf(seconds) else max(0.0, seconds))
        except TimeoutError:
            return True
        return False


class _Once:
    """The history of a recording that is played once."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    def window(self, ms: float) -> Recording:
        """The whole recording, at any time."""
        return self.recording

    def ends_ms(self, ms: float) -> float:
        """When the last event is over."""
        return self.recording.duration_ms


class _Cluster:
    """The API server of one recording."""

    def __init__(self, server: DemoServer, history: RecordingLoop | _Once) -> None:
        self._server = server
        self._history = history

    def _now(self) -> tuple[float, Recording]:
        """The time, in milliseconds, and the recording's window at it."""
        now = self._server.now()
        return now, self._history.window(now)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self._server.is_out(self._history.recording.cluster):
            raise _broken(request)
        try:
            if request.method != "GET":
                raise Refused(405, "a recording can only be read")
            if request.path == "/version":
                release = self._history.recording.kubernetes
                major, minor, *_ = [*release.split("."), "0"]
                return _json(200, {"major": major, "minor": minor, "gitVersion": f"v{release}"})
            tracks = self._history.recording.tracks
            if (discovered := discovery(tracks, request.path)) is not None:
                return _json(200, discovered)
            if request.path not in tracks:
                raise Refused(404, "the server could not find the requested resource")
            query = _query(request.query)
            self._server.begin()
            if query.watch:
                return await self._watch(request, query)
            return _json(200, self._list(request.path, query))
        except Refused as refused:
            response = _json(refused.code, refused.status)
            if refused.code == 504:
                response.headers["Retry-After"] = "1"
            return response

    def _list(self, path: str, query: Query) -> dict[str, Any]:
        now, recording = self._now()
        track = recording.tracks[path]
        current = recording.version(track, now)
        self._not_beyond(query.version, current)
        version = query.version if query.version is not None and query.exact else current
        if version < track.first:
            raise Refused(410, f"The provided resource version is too old: {version} ({track.first})")
        items = track.state(version)
        if query.start is not None:
            items = [item for item in items if _place(item) > query.start]
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        if query.limit and len(items) > query.limit:
            token = {"rv": version, "start": _place(items[query.limit - 1])}
            metadata["continue"] = base64.urlsafe_b64encode(orjson.dumps(token)).decode()
            metadata["remainingItemCount"] = len(items) - query.limit
            items = items[: query.limit]
        bare = [{key: value for key, value in item.items() if key not in {"kind", "apiVersion"}} for item in items]
        return {"kind": f"{track.kind}List", "apiVersion": track.api_version, "metadata": metadata, "items": bare}

    async def _watch(self, request: web.Request, query: Query) -> web.StreamResponse:
        now, recording = self._now()
        if query.initial_events:
            self._not_beyond(query.version, recording.version(recording.tracks[request.path], now))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            async for events in self._events(request.path, query):
                await response.write(b"".join(orjson.dumps(event) + b"\n" for event in events))
            if self._server.is_out(self._history.recording.cluster):
                raise _broken(request)
            await response.write_eof()
        except ConnectionResetError:
            pass  # The watcher went away.
        return response

    async def _events(self, path: str, query: Query) -> AsyncIterator[list[dict[str, Any]]]:
        """The watch's events, in batches, until its time-out."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + query.timeout
        now, recording = self._now()
        version, events = _opening(recording, recording.tracks[path], now, query)
        yield events
        last_sent = clock()
        while True:
            now, recording = self._now()
            track = recording.tracks[path]
            if version < track.first:
                # The client read too slowly, or the machine slept, or the version was too old to begin with.
                yield [_expired(version, track)]
                return
            version, events = _news(track, version, now, bookmarks=query.bookmarks)
            over = now >= recording.duration_ms
            if query.bookmarks and (over or (not events and clock() - last_sent >= IDLE_BOOKMARK_SECONDS)):
                events.append(track.bookmark(max(version, recording.version(track, now))))
            if events:
                yield events
                last_sent = clock()
            seconds = _bookmark_pause(query) if over else self._seconds_to_next(track, version, now)
            outage = self._server.seconds_to_outage(self._history.recording.cluster)
            remaining = min(deadline - clock(), outage)
            if not await self._server.pause(min(seconds, remaining)) or clock() >= deadline:
                return
            if self._server.is_out(self._history.recording.cluster):
                return

    def _seconds_to_next(self, track: Track, version: int, now: float) -> float:
        """The time until the next event or bookmark."""
        place = track.since(version)
        ahead = track.moments[place].ms if place < len(track.moments) else self._history.ends_ms(now)
        return min((ahead - now) / 1000 / self._server.speed, IDLE_BOOKMARK_SECONDS)

    def _not_beyond(self, version: int | None, current: int) -> None:
        if version is not None and version > current:
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            raise Refused(
                504, f"Too large resource version: {version}, current: {current}", causes=[cause], retryAfterSeconds=1
            )


def _broken(request: web.Request) -> ConnectionResetError:
    """Break the client's connection off, as a server that dies does."""
    if request.transport is not None:
        request.transport.abort()
    return ConnectionResetError("the API server is out of reach")


def _opening(recording: Recording, track: Track, now: float, query: Query) -> tuple[int, list[dict[str, Any]]]:
    """The version that a watch begins after, and its first events: none if it resumes from a version. The head of the
    answer is sent before any event."""
    if query.version and not query.initial_events:
        return query.version, []
    version = recording.version(track, now)
    events = [{"type": "ADDED", "object": track.typed(item)} for item in track.state(version)]
    if query.initial_events and query.bookmarks:
        events.append(track.bookmark(version, initial_events_end=True))
    return version, events


def _news(track: Track, version: int, now: float, *, bookmarks: bool) -> tuple[int, list[dict[str, Any]]]:
    """The events after a version, up to now, and the version reached."""
    events = []
    for moment in track.moments[track.since(version) :]:
        if moment.ms > now:
            break
        version = moment.version
        if moment.kind != "BOOKMARK" or bookmarks:
            events.append({"type": moment.kind, "object": track.typed(moment.item)})
    return version, events


def _bookmark_pause(query: Query) -> float:
    return BOOKMARK_SECONDS if query.bookmarks else math.inf


def _expired(version: int, track: Track) -> dict[str, Any]:
    """The event that ends a watch whose version is no longer known."""
    return {"type": "ERROR", "object": Refused(410, f"too old resource version: {version} ({track.first})").status}


def _query(params: Mapping[str, str]) -> Query:
    """Parse a query. Raises Refused (400, 422)."""
    watch = params.get("watch") in {"true", "1"}
    initial_events = params.get("sendInitialEvents") in {"true", "1"}
    match = params.get("resourceVersionMatch", "")
    if initial_events and match != "NotOlderThan":
        message = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise Refused(422, f"ListOptions.meta.k8s.io is invalid: resourceVersionMatch: Forbidden: {message}")
    try:
        version = number(params["resourceVersion"]) if params.get("resourceVersion") else None
        timeout = float(int(params.get("timeoutSeconds") or 0)) or math.inf
        limit = max(0, int(params.get("limit") or 0))
    except ValueError as error:
        raise Refused(400, str(error)) from error
    exact, start = match == "Exact", None
    if params.get("continue"):
        try:
            token = orjson.loads(base64.urlsafe_b64decode(params["continue"]))
            namespace, name = token["start"]
            version, exact, start = number(token["rv"]), True, (str(namespace), str(name))
        except (binascii.Error, ValueError, KeyError, TypeError) as error:
            raise Refused(400, "continue key is not valid") from error
    return Query(
        watch, version, exact, initial_events and watch, params.get("allowWatchBookmarks") in {"true", "1"}, timeout,
        limit, start,
    )  # fmt: skip


def _place(item: Mapping[str, Any]) -> tuple[str, str]:
    return str(item["metadata"].get("namespace") or ""), str(item["metadata"]["name"])


def _json(status: int, body: Any) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")


def _kubeconfig(servers: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": next(iter(servers)),
        "clusters": [{"name": name, "cluster": {"server": server}} for name, server in servers.items()],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "demo"}} for name in servers],
        "users": [{"name": "demo", "user": {}}],
    }


# The constructor's parameter shadows the function.
_shipped = recordings
