"""Who has what, over HTTP: `GET /v1/propagation`, and `/metrics` for Prometheus."""

import time
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streams.core.rfc3339 import write
from streams.core.xds.catalog import Key
from streams.edges.xds import Connection, XdsServer


def add_xds_routes(app: web.Application, server: XdsServer) -> None:
    """Add `GET /v1/propagation[?namespace=NAMESPACE&service=NAME]` and `GET /metrics`."""

    async def propagation(request: web.Request) -> web.Response:
        namespace, name = request.query.get("namespace", ""), request.query.get("service", "")
        return web.json_response(report(server, namespace, name, time.time()))

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/v1/propagation", propagation)
    app.router.add_get("/metrics", metrics)


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
            }
            for (partition, cluster), seal in sorted(catalog.seals.items())
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
