"""Who has what, over HTTP: `GET /v1/propagation` and `GET /v1/acked`."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from streams.objects.resources import OPTIONAL, RESOURCES
from streams.serve.http.openapi import DEFAULT_RESOURCE
from streams.serve.http.query import NO_SNAPSHOT, BadParameter, Busy, known_only, one, seconds
from streams.serve.xds.build.catalog import Key
from streams.serve.xds.server import Connection, XdsServer
from streams.subscription.delivery import reached
from streams.subscription.freshness import age_seconds
from streams.wire.timestamps import write

_RESOURCES = [resource.frontier for resource in (*RESOURCES, *OPTIONAL)]
_LONGEST_WAIT = 3600.0
_MOST_WAITERS = 100


def add_xds_routes(app: web.Application, server: XdsServer, clock: Callable[[], float] = time.time) -> None:
    """Add `GET /v1/propagation[?namespace=NAMESPACE&service=NAME]` and `GET /v1/acked?cluster=CLUSTER&
    resourceVersion=VERSION[&resource=RESOURCE][&namespace=NAMESPACE&service=NAME][&timeout=SECONDS]`."""

    waiters = 0

    async def propagation(request: web.Request) -> web.Response:
        known_only(request, "namespace", "service")
        namespace, name = one(request, "namespace", ""), one(request, "service", "")
        return web.json_response(report(server, namespace, name, clock()))

    async def wait(request: web.Request) -> web.Response:
        known_only(request, "cluster", "resourceVersion", "resource", "namespace", "service", "timeout")
        cluster, version = one(request, "cluster"), one(request, "resourceVersion")
        resource = request.query.get("resource", DEFAULT_RESOURCE)
        if resource not in _RESOURCES:
            raise BadParameter.invalid("resource", resource, f"one of {', '.join(_RESOURCES)}")
        name = one(request, "service", "")
        service = (one(request, "namespace", "default"), name) if name else None
        timeout = seconds(request, "timeout", 30, _LONGEST_WAIT)
        if not server.ready.is_set():
            raise Busy(NO_SNAPSHOT, 1)
        nonlocal waiters
        if waiters >= _MOST_WAITERS:
            raise Busy(f"too many waiting requests: the limit is {_MOST_WAITERS}", 5)
        waiting: dict[str, Any] = {"clients": [], "partitions": {}}
        waiters += 1
        try:
            async with asyncio.timeout(timeout):
                await acked(server, cluster, resource, version, service, waiting)
        except TimeoutError:
            return web.json_response({"acked": False, **waiting})
        finally:
            waiters -= 1
        return web.json_response({"acked": True, "clients": followers(server, service)})

    app.router.add_get("/v1/propagation", propagation)
    app.router.add_get("/v1/acked", wait)


def report(server: XdsServer, namespace: str, name: str, now: float) -> dict[str, Any]:
    """Clients, Services and where each client stands with each Service; with a namespace or a name, of these only.

    `sent` and `acked` are versions of the Service's rows (-1: none yet); `behind` counts versions, and
    `behindMilliseconds` is how old the oldest unacknowledged one is."""
    catalog = server.catalog
    keys = sorted(
        key for key in _keys(server) if (not namespace or key[0] == namespace) and (not name or key[1] == name)
    )
    return {
        "frontiers": [
            {
                "partition": partition,
                "cluster": cluster,
                "offset": seal.offset,
                "at": seal.at,
                "frontier": seal.frontier,
                "ageSeconds": age_seconds(seal, now),
                "stale": silence.reason if (silence := server.silent.get((partition, cluster))) else "",
            }
            for (partition, cluster), seal in sorted(catalog.seals.items())
            if not seal.closed
        ],
        "clients": [
            {
                "id": each.number,
                "node": each.node,
                "peer": each.peer,
                "agent": each.agent,
                "variant": each.variant,
                "traffic": each.stream.client.traffic,
                "zone": each.stream.client.place.zone,
                "since": write(datetime.fromtimestamp(each.since, UTC)),
                "behind": len(each.ledger.behind),
                "nacks": each.nacks,
                "lastNack": each.last_nack,
            }
            for each in server.connections.values()
        ],
        "services": [_service(server, key, now) for key in keys],
    }


async def acked(
    server: XdsServer, cluster: str, resource: str, version: str, service: Key | None, waiting: dict[str, Any]
) -> None:
    """Return when the cluster's `resource` up to this resourceVersion is in the state, and every client that follows
    the Service (or, without one, any Service) has acknowledged that state or a newer one. `waiting` is kept up to date
    with the partitions and clients that are waited for."""
    catalog = server.catalog
    partitions = {catalog.partition(service)} if service else set(range(catalog.partitions))
    while behind := {p for p in partitions if not reached(catalog.seals, p, cluster, resource, version)}:
        waiting["partitions"] = {
            str(p): seal.frontier.get(resource, "") if (seal := catalog.seals.get((p, cluster))) else "" for p in behind
        }
        await server.moved()
    waiting["partitions"] = {}
    wanted = {key: catalog.newest(key)[0] for key in ([service] if service else _keys(server))}
    while True:
        waiting["clients"] = [
            each.node
            for each in server.connections.values()
            if any(key in wanted and entry.acked < wanted[key] for key, entry in each.ledger.behind.items())
        ]
        if not waiting["clients"]:
            return
        await server.moved()


def followers(server: XdsServer, service: Key | None) -> list[str]:
    """The nodes of the clients that follow the Service; without one, and of one that is deleted, all."""
    names = server.catalog.names_of(service) if service else ()
    return [each.node for each in server.connections.values() if not names or each.stream.follows(names)]


def _keys(server: XdsServer) -> set[Key]:
    behind = (each.ledger.behind for each in server.connections.values())
    return set(server.catalog.services()).union(*behind)


def _service(server: XdsServer, key: Key, now: float) -> dict[str, Any]:
    version, at = server.catalog.newest(key)
    return {
        "namespace": key[0],
        "name": key[1],
        "version": version,
        "at": at,
        "partition": server.catalog.partition(key),
        "clients": [found for each in server.connections.values() if (found := _standing(server, each, key, now))],
    }


def _standing(server: XdsServer, each: Connection, key: Key, now: float) -> dict[str, Any] | None:
    found = each.ledger.standing(key, server.catalog, now)
    if found is None:
        return None
    return {
        "client": each.number,
        "node": each.node,
        "sent": found.sent,
        "acked": found.acked,
        "behind": found.behind,
        "behindMilliseconds": round(found.seconds * 1000),
    }
