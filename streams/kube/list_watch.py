"""List and watch of one resource type, for ever: drives the core's Reflector against an API server.

Events go to a Sink; errors are retried with full jitter, except those that a person must fix.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol

from streams.kube.api_server import (
    TRANSIENT,
    ApiServer,
    ClusterUnusable,
    Event,
    Expired,
    ServerBehind,
    ServerBusy,
    SilentStream,
    Undecodable,
    Unsupported,
)
from streams.objects.reflector import Kind, LaggingServer, Reflector, ReflectorEvent, UnknownEvent
from streams.objects.resources import Resource
from streams.runtime.retry import Pauses, RetryPolicy, Sleep

log = logging.getLogger("facets.watch")

_STEADY_SHARE = 0.8
_OLD_BOOKMARKS = 3
_UNDECODABLE = 3
_WARN_SECONDS = 60

SERVER_RETRY = RetryPolicy(first=0.2, longest=8.0)
"""For requests to an API server: after an outage of any length, the next request is at most eight seconds away."""

_TROUBLES = (
    Expired, ServerBusy, LaggingServer, ServerBehind, Undecodable, ClusterUnusable, SilentStream, *TRANSIENT
)  # fmt: skip


class WatchTimes(NamedTuple):
    """How long requests last, in seconds.

    An API server ends a watch after its `timeoutSeconds`, and sends a bookmark some two seconds before that
    (kube-apiserver, cacher: "right before the watcher timeout"; measured with 1.36: 1.2 to 2.1 s before, from 3 s on).
    So a healthy watch of `watch` seconds is never silent for `silence`, however quiet the cluster is. After any trouble
    the next watch lasts only `confirm` seconds: its bookmark soon shows that the server is healthy again.
    """

    listing: int = 290
    watch: int = 50
    silence: float = 60.0
    confirm: int = 5
    grace: float = 5.0


class Sink(Protocol):
    """Receives the events of a cluster's lists and watches."""

    async def take(self, resource: Resource, events: list[ReflectorEvent]) -> None:
        """Take these events, in order; waiting here delays the stream."""

    def connected(self, resource: Resource, open_now: bool) -> None:
        """The server has just answered for the resource; whether its stream stays open."""

    def confirmed(self, resource: Resource) -> None:
        """The stream was just alive: a list, an event, a bookmark, or its end at its time-out."""

    def unconfirmed(self, resource: Resource) -> None:
        """Streams are opened, but nothing arrives: the state is as of the last `confirmed`."""

    def trouble(self, resource: Resource, reason: str) -> None:
        """The stream ended for this reason (a keyword), and will be opened again."""


class ListWatch:
    """Follows one resource type."""

    def __init__(
        self,
        server: ApiServer,
        resource: Resource,
        reflector: Reflector,
        sink: Sink,
        policy: RetryPolicy = SERVER_RETRY,
        times: WatchTimes | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._server = server
        self._resource = resource
        self._reflector = reflector
        self._sink = sink
        self._pauses = Pauses(policy)
        self._sleep = sleep
        self._times = times or WatchTimes()
        self._synced = False
        self._doubtful = False
        self._silent = False
        self._old_bookmarks = 0
        self._undecodable = 0
        self._warned = -float(_WARN_SECONDS)

    async def run(self) -> None:
        """List and watch until cancelled. Raises ClusterUnusable if the first list is not permitted."""
        while True:
            wait = await self._once()
            if wait > 0:
                await self._sleep(wait)

    async def _once(self) -> float:
        """One request; how long to wait before the next, in seconds."""
        seconds, silence = self._durations()
        request = self._reflector.request(seconds)
        error: Exception | None = None
        try:
            if not request.watch:
                await self._page(request.params)
                return 0
            if await self._watch(request.params, seconds, silence):
                return 0
            reason = "short"
        except Unsupported as unsupported:
            self._say(logging.INFO, "no streaming lists (%s): listing in pages", unsupported)
            self._reflector.unsupported()
            return 0
        except _TROUBLES as trouble:
            error, reason = trouble, self._handle(trouble, request.watch)
        self._doubtful = True
        if request.watch:
            self._reflector.interrupted()
        self._sink.trouble(self._resource, reason)
        return self._pauses.next(error)

    def _durations(self) -> tuple[int, float]:
        """How long the next request lasts, and how long it may be silent, in seconds."""
        times = self._times
        if self._reflector.listing:
            return times.listing, times.silence
        if self._doubtful:
            return times.confirm, times.confirm + times.grace
        return times.watch, times.silence

    def _handle(self, error: Exception, watching: bool) -> str:
        """Handle an error; returns its reason as a keyword. Raises ClusterUnusable before the first list."""
        reflector = self._reflector
        match error:
            case Expired():
                self._say(logging.INFO, "%s: listing again", error)
                reflector.expired()
                return "expired"
            case ServerBusy():
                self._say(logging.WARNING, "%s: asking again after %.0f s", error, error.retry_after)
                return "busy"
            case LaggingServer():
                self._behind(f"lists resourceVersion {error.listed}, but {error.reached} was already seen")
                return "behind"
            case ServerBehind():
                version = reflector.resource_version
                self._behind(f"has not reached resourceVersion {version}, which was seen before: {error}")
                reflector.expired()
                return "behind"
            case Undecodable():
                self._count_undecodable(error)
                return "undecodable"
            case ClusterUnusable():
                if not self._synced:
                    raise error
                self._warn_sometimes(f"{error}; asking again ({error.remedy})")
                return "forbidden"
            case SilentStream():
                self._fall_silent(error)
                return "silent"
        problem = self._server.explain(error)
        self._warn_sometimes(f"{problem.problem}; asking again ({problem.remedy})")
        if isinstance(error, TimeoutError) and reflector.listing and watching:
            reflector.unsupported()
        return "unreachable"

    def _count_undecodable(self, error: Undecodable) -> None:
        self._undecodable += 1
        self._say(logging.WARNING, "%s: asking again", error)
        if self._undecodable >= _UNDECODABLE:
            # The same bytes would be sent again; a list avoids them.
            self._undecodable = 0
            self._reflector.expired()

    def _fall_silent(self, error: SilentStream) -> None:
        self._warn_sometimes(f"{error}; opening it anew")
        if self._reflector.listing:
            self._reflector.unsupported()
        elif self._silent:
            self._sink.unconfirmed(self._resource)
        self._silent = True

    async def _page(self, params: Mapping[str, str]) -> None:
        page = await self._server.page(self._resource, params)
        self._sink.connected(self._resource, True)
        self._confirm()
        try:
            await self._deliver(list(self._reflector.page(page)))
        finally:
            self._sink.connected(self._resource, False)
        self._synced = self._synced or not self._reflector.listing

    async def _watch(self, params: Mapping[str, str], seconds: float, silence: float) -> bool:
        """Whether it went well enough to watch again at once. `seconds` is the requested duration, `silence` how long
        the stream may be silent. A streaming list ends with the list, and an ordinary watch follows.
        """
        reflector = self._reflector
        listing = reflector.listing
        begin = time.monotonic()
        news = False
        try:
            async with aclosing(self._server.watch(self._resource, params, silence)) as chunks:
                async for chunk in chunks:
                    self._sink.connected(self._resource, True)
                    if not chunk:
                        continue
                    self._confirm()
                    await self._take(chunk)
                    self._undecodable = 0
                    if not reflector.listing:
                        self._synced = news = True
                        if listing:
                            return True
                        self._pauses.reset()
        finally:
            self._sink.connected(self._resource, False)
        if reflector.listing:
            raise Unsupported("the list ended without its end being marked")
        if time.monotonic() - begin > seconds * _STEADY_SHARE:
            self._confirm()
            self._pauses.reset()
            return True
        return news

    async def _take(self, chunk: list[Event]) -> None:
        events: list[ReflectorEvent] = []
        for kind, item in chunk:
            if kind == "BOOKMARK":
                self._notice_old_bookmark(item)
            try:
                events.extend(self._reflector.event(kind, item))
            except UnknownEvent as error:
                self._say(logging.WARNING, "%s: passed over", error)
                self._sink.trouble(self._resource, "unknown-event")
        await self._deliver(events)

    def _confirm(self) -> None:
        self._doubtful = self._silent = False
        self._sink.confirmed(self._resource)

    async def _deliver(self, events: list[ReflectorEvent]) -> None:
        if events:
            if events[-1].kind is Kind.INIT_DONE:
                log.info(
                    "cluster %s: %s listed, as of resourceVersion %s",
                    self._server.cluster.name,
                    self._resource.frontier,
                    self._reflector.resource_version,
                )
            await self._sink.take(self._resource, events)

    def _notice_old_bookmark(self, item: Any) -> None:
        """Bookmarks that stay below the version reached come from a server that was restored: only a list shows it."""
        if self._reflector.listing:
            return
        meta = item.get("metadata") if isinstance(item, dict) else None
        version = str(meta.get("resourceVersion")) if isinstance(meta, dict) else ""
        if not (version.isdecimal() and self._reflector.resource_version.isdecimal()):
            return
        old = int(version) < int(self._reflector.resource_version)
        self._old_bookmarks = self._old_bookmarks + 1 if old else 0
        if self._old_bookmarks >= _OLD_BOOKMARKS:
            self._old_bookmarks = 0
            raise ServerBehind(f"its bookmarks stay at {version}")

    def _behind(self, symptom: str) -> None:
        self._warn_sometimes(
            f"the API server of cluster {self._server.cluster.name} {symptom}; asking again "
            "(restored from a backup? then start with --accept-older-list)"
        )

    def _warn_sometimes(self, text: str) -> None:
        now = time.monotonic()
        if now - self._warned >= _WARN_SECONDS:
            self._warned = now
            self._say(logging.WARNING, "%s", text)
        else:
            self._say(logging.DEBUG, "%s", text)

    def _say(self, level: int, text: str, *values: object) -> None:
        log.log(level, f"cluster %s: %s: {text}", self._server.cluster.name, self._resource.frontier, *values)
