"""`GET /v1/routers`: the routers that this server has, or those of all servers at a time."""

from functools import partial
from typing import Annotated, Any

import msgspec
from aiohttp import web

from streams.history.acks import fold_acks
from streams.history.router_log import RouterLog
from streams.serve.http.endpoint import Endpoint, Parameters
from streams.serve.http.parameters import Time
from streams.serve.http.query import read_time
from streams.serve.http.rows import now_text
from streams.serve.xds.server import Connection, XdsServer
from streams.wire.ack_records import Variant
from streams.wire.records import Record
from streams.wire.timestamps import milliseconds, of_milliseconds


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """When."""

    at: Annotated[Time, msgspec.Meta(description="At that time, of all servers; without it now, of this one.")] | (
        msgspec.UnsetType
    ) = msgspec.UNSET


class Router(Record):
    """A router. `since` is when its newest connection, to `server`, was opened or, where it is not connected, has
    ended; `services` counts those that it follows, `behind` those of them whose newest version it has not acknowledged
    (null: not known, of the past). `variant` is null where nothing is known of a connection."""

    node: str
    connected: bool
    since: str
    variant: Variant | None
    agent: str
    cluster: str
    zone: str
    server: str
    services: int
    behind: int | None


class Routers(Record):
    """The routers by node id, as they were `at` that time; `remarks` say what is not known of it."""

    at: str
    routers: list[Router]
    remarks: list[str]


async def _handle(parts: Any, request: web.Request, parameters: Parameters) -> Routers:
    query: Query = parameters.query
    now = now_text(parts)
    if not query.at:
        return Routers(now, live_routers(parts.xds), [])
    at = read_time("at", query.at, now)
    log = RouterLog(milliseconds(at))
    remarks = await parts.past.ask(partial(fold_acks, parts.hub.bootstrap, log, at, "", ()))
    routers = [
        Router(
            each.node, each.connected, of_milliseconds(each.since), each.variant, each.agent, each.cluster, each.zone,
            each.server, each.services, None,
        )
        for each in log.routers()
    ]  # fmt: skip
    return Routers(at, routers, remarks)


def live_routers(server: XdsServer) -> list[Router]:
    """The routers that are connected to this server, by node id; several under one are one."""
    routers: dict[str, Router] = {}
    for connection in sorted(server.connections.values(), key=lambda each: each.since):
        routers[connection.node] = _router(server, connection)
    return [routers[node] for node in sorted(routers)]


def _router(server: XdsServer, connection: Connection) -> Router:
    place = connection.stream.client.place
    stream = connection.stream
    services = sum(1 for key in server.catalog.services() if stream.follows_service(key, server.catalog))
    return Router(
        node=connection.node,
        connected=True,
        since=of_milliseconds(round(connection.since * 1000)),
        variant=connection.variant,
        agent=connection.agent,
        cluster=place.cluster,
        zone=place.zone,
        server=server.acks.server if server.acks is not None else "",
        services=services,
        behind=len(connection.ledger.behind),
    )


ENDPOINT = Endpoint(
    "/v1/routers",
    "listRouters",
    "The routers, now or at a time.",
    Routers,
    _handle,
    query=Query,
    description="With `at`, what all servers have recorded in facets.acks is read up to that time: one such request at "
    "a time. Without it, the routers that are connected to this server.",
)
