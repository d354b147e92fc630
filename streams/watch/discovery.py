"""The optional resource types of one cluster: found by API discovery, followed while they are served.

A type that is installed later is picked up at the next discovery; one that is removed is forgotten once two discoveries
in a row don't find it. A type that can't be listed (no permission, or an API that answers with errors) is logged, and
blocks nothing: the first snapshot waits for it for `PATIENCE_SECONDS`, and it is tried again later.

If a CRD is replaced by one with more fields, an open watch may continue for minutes with the old schema, which prunes
them, and nothing tells afterwards which objects were pruned. So a type is listed again when the API server's hash of
its group's schema changes (Kubernetes API concepts, OpenAPI v3).
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from streams.kube.api_server import (
    TRANSIENT,
    ApiServer,
    ClusterUnusable,
    Expired,
    ServerBehind,
    ServerBusy,
    Undecodable,
)
from streams.kube.list_watch import ListWatch, Sink, WatchTimes
from streams.objects.reflector import Kind, Reflector, ReflectorEvent
from streams.objects.resources import OPTIONAL, Resource, best_version

log = logging.getLogger("facets.watch")

DISCOVERY_SECONDS = 5.0
DISCOVERY_SHARE = 0.3
"""Seconds between two discoveries for each cluster of a process: one takes a few requests, and mostly finds nothing."""
PATIENCE_SECONDS = 15.0
REFUSED_SECONDS = 10.0

Served = dict[str, Resource]
"""The types that are served, by name in frontiers."""


class Followers(Protocol):
    """Is told which types are followed; each call is queued in order with the events."""

    async def follow(self, resource: Resource) -> None:
        """It is listed from now on."""

    async def give_up(self, resource: Resource) -> None:
        """It can't be listed for now."""

    async def forget(self, resource: Resource) -> None:
        """It is no longer served."""


async def discover(server: ApiServer) -> Served:
    """Which of the optional types the cluster serves, in which version. Raises ClusterUnusable, TRANSIENT, ServerBusy,
    Undecodable."""
    discovered: Served = {}
    groups: dict[str, list[Resource]] = {}
    for resource in OPTIONAL:
        groups.setdefault(resource.group, []).append(resource)
    for group, resources in groups.items():
        versions = await _versions(server, group)
        served: dict[str, list[str]] = {}
        for version in versions:
            root = f"/apis/{group}" if group else "/api"
            for entry in _named(await server.read(f"{root}/{version}"), "resources"):
                served.setdefault(str(entry.get("name")), []).append(version)
        schemas = await _schemas(server, group) if served else {}
        for resource in resources:
            best = best_version(served.get(resource.frontier.partition(".")[0], []))
            if best is not None:
                discovered[resource.frontier] = resource.served_as(best, schemas.get(best, ""))
    return discovered


async def discover_at_start(server: ApiServer) -> Served:
    """As `discover`, and logs which types are missing. If the account may not discover, none are served. Raises
    TRANSIENT, ServerBusy, Undecodable."""
    cluster = server.cluster.name
    try:
        served = await discover(server)
    except ClusterUnusable as error:
        log.warning(
            "%s; going on without the Gateway API, Namespaces and exports, trying again: %s", error, error.remedy
        )
        return {}
    missing = [resource for resource in OPTIONAL if resource.frontier not in served]
    builtin = [resource.frontier for resource in missing if not resource.group]
    if builtin:
        log.warning(
            "cluster %s: API discovery at /api/v1 does not name %s: going on without; is what answers there a whole "
            "Kubernetes API server?",
            cluster,
            ", ".join(builtin),
        )
    installable = [resource.frontier for resource in missing if resource.group]
    if installable:
        log.info(
            "cluster %s: not installed: %s; rows do without, and follow what is installed later",
            cluster,
            ", ".join(installable),
        )
    return served


async def _schemas(server: ApiServer, group: str) -> dict[str, str]:
    """The URL, with a hash, of the schema of each version of a CRD's group. Built-in types need none."""
    if not group:
        return {}
    try:
        paths = (await server.read("/openapi/v3") or {}).get("paths")
    except ClusterUnusable:
        return {}
    prefix = f"apis/{group}/"
    return {
        path.removeprefix(prefix): str(entry.get("serverRelativeURL"))
        for path, entry in (paths.items() if isinstance(paths, dict) else ())
        if path.startswith(prefix) and isinstance(entry, dict)
    }


async def _versions(server: ApiServer, group: str) -> list[str]:
    if not group:
        return ["v1"]
    listed = [str(entry.get("version")) for entry in _named(await server.read(f"/apis/{group}"), "versions")]
    return [version for version in listed if best_version([version])]


def _named(answer: Mapping[str, Any] | None, field: str) -> Iterable[Mapping[str, Any]]:
    listed = (answer or {}).get(field)
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else ()


class OptionalResources:
    """Follows the optional types that are served, for one epoch. `served` are those found before it began; `every` is
    how many seconds are between discoveries, at the least DISCOVERY_SECONDS."""

    def __init__(
        self,
        server: ApiServer,
        sink: Sink,
        followers: Followers,
        served: Served,
        *,
        at_least: Mapping[str, str],
        synced: Callable[[], bool],
        times: WatchTimes | None = None,
        every: float = 0.0,
    ) -> None:
        self._server = server
        self._sink = sink
        self._followers = followers
        self._every = every
        self._followed = dict(served)
        self._at_least = at_least
        self._synced = synced
        self._times = times
        self._missed: set[str] = set()
        self._warned = ""
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            for resource in self._followed.values():
                self._start(resource)
            while True:
                await asyncio.sleep(max(self._every, DISCOVERY_SECONDS))
                try:
                    served = await discover(self._server)
                except ClusterUnusable as error:
                    self._warn(str(error), error.remedy)
                    continue
                except (*TRANSIENT, Expired, ServerBehind, ServerBusy, Undecodable) as error:
                    self._warn(*self._server.explain(error)[:2])
                    continue
                self._warned = ""
                await self._compare(served)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _warn(self, problem: str, remedy: str) -> None:
        """Log what prevents discovery, each problem once."""
        level = logging.DEBUG if problem == self._warned else logging.WARNING
        self._warned = problem
        log.log(
            level, "cluster %s: API discovery: %s; what is known stays, trying again: %s",
            self._server.cluster.name, problem, remedy,
        )  # fmt: skip

    async def _compare(self, served: Served) -> None:
        for name, resource in served.items():
            if self._followed.get(name) == resource:
                continue
            previous = self._followed.get(name)
            await self._stop(name)
            self._followed[name] = resource
            if previous is not None and previous.path == resource.path:
                log.info("cluster %s: %s: its schema has changed; listing again", self._server.cluster.name, name)
            else:
                log.info("cluster %s: %s: following it at %s", self._server.cluster.name, name, resource.path)
            if previous is None:
                await self._followers.follow(resource)
            self._start(resource)
        missing = self._followed.keys() - served.keys()
        for name in missing & self._missed:
            await self._stop(name)
            log.info("cluster %s: %s: no longer served", self._server.cluster.name, name)
            await self._followers.forget(self._followed.pop(name))
        self._missed = missing

    def _start(self, resource: Resource) -> None:
        self._tasks[resource.frontier] = asyncio.create_task(self._follow(resource))

    async def _stop(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, resource: Resource) -> None:
        """List and watch the type until cancelled, whatever the errors."""
        timeout = asyncio.create_task(self._give_up_after_timeout(resource))
        sink = _CancelOnInitDone(self._sink, timeout)
        warned = False
        try:
            while True:
                least = self._at_least.get(resource.frontier, "")
                reflector = Reflector(at_least=least, namespaced=resource.namespaced)
                try:
                    await ListWatch(self._server, resource, reflector, sink, times=self._times).run()
                except ClusterUnusable as error:
                    # If the type was just removed, the next discovery finds out.
                    level = logging.DEBUG if warned else logging.WARNING
                    log.log(level, "%s; going on without it, trying again: %s", error, error.remedy)
                    warned = True
                    timeout.cancel()
                    await self._followers.give_up(resource)
                await asyncio.sleep(REFUSED_SECONDS)
        finally:
            timeout.cancel()

    async def _give_up_after_timeout(self, resource: Resource) -> None:
        await asyncio.sleep(PATIENCE_SECONDS)
        if not self._synced():
            log.warning(
                "cluster %s: %s is not listed after %.0f s: the first snapshot goes without it",
                self._server.cluster.name,
                resource.frontier,
                PATIENCE_SECONDS,
            )
            await self._followers.give_up(resource)


class _CancelOnInitDone:
    """A Sink that cancels the timeout of a type's list when the list is complete."""

    def __init__(self, sink: Sink, waiting: "asyncio.Task[None]") -> None:
        self._sink = sink
        self._waiting = waiting

    async def take(self, resource: Resource, events: list[ReflectorEvent]) -> None:
        """Pass the events on."""
        await self._sink.take(resource, events)
        if any(event.kind is Kind.INIT_DONE for event in events):
            self._waiting.cancel()

    def connected(self, resource: Resource, open_now: bool) -> None:
        """Pass it on."""
        self._sink.connected(resource, open_now)

    def confirmed(self, resource: Resource) -> None:
        """Pass it on."""
        self._sink.confirmed(resource)

    def unconfirmed(self, resource: Resource) -> None:
        """Pass it on."""
        self._sink.unconfirmed(resource)

    def trouble(self, resource: Resource, reason: str) -> None:
        """Pass it on."""
        self._sink.trouble(resource, reason)
