"""`GET /v1/routers/NODE/versions`: which version of each Service a router has, or had at a time."""

from functools import partial
from typing import Annotated, Any

import msgspec
from aiohttp import web

from streams.history.acks import fold_acks
from streams.history.router_log import Held, RouterLog
from streams.serve.http.endpoint import Endpoint, Parameters
from streams.serve.http.endpoints.propagation import followed_services
from streams.serve.http.parameters import KubernetesName, RouterNode, Time
from streams.serve.http.query import read_time
from streams.serve.http.rows import now_text
from streams.serve.xds.build.service_index import Key
from streams.serve.xds.server import XdsServer
from streams.subscription.names import unknown_name
from streams.wire.records import Record
from streams.wire.timestamps import milliseconds, of_milliseconds


class Path(msgspec.Struct, forbid_unknown_fields=True):
    """Which router."""

    node: RouterNode


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """When, and of which Services."""

    at: Annotated[Time, msgspec.Meta(description="At that time; without it now, of this server's clients.")] | (
        msgspec.UnsetType
    ) = msgspec.UNSET
    namespace: KubernetesName | msgspec.UnsetType = msgspec.UNSET
    service: KubernetesName | msgspec.UnsetType = msgspec.UNSET


class RouterRefusal(Record):
    """A NACK, after which nothing was acknowledged: of which version, of which type of resources, and why."""

    at: str
    version: int
    type: str
    error: str


class RouterVersion(Record):
    """What a router has of a Service: the newest version that it has acknowledged, and the newest that it was sent
    (-1: none); the rows of that version in the tables are what it has. `ackedAt` and `sentAt` are of the past: now they
    are empty."""

    namespace: str
    name: str
    acked: int
    acked_at: str
    sent: int
    sent_at: str
    refused: RouterRefusal | None


class RouterVersions(Record):
    """What a router had `at` that time, by Service; `remarks` say what is not known of it."""

    node: str
    at: str
    services: list[RouterVersion]
    remarks: list[str]


async def _handle(parts: Any, request: web.Request, parameters: Parameters) -> RouterVersions:
    node, query = parameters.path.node, parameters.query
    now = now_text(parts)
    if not query.at:
        parts.hub.check_ready()
        return RouterVersions(node, now, _live(parts.xds, node, query), [])
    at = read_time("at", query.at, now)
    log = RouterLog(milliseconds(at), (node,))
    remarks = await parts.past.ask(partial(fold_acks, parts.hub.bootstrap, log, at, node, ()))
    versions = log.versions(node)
    return RouterVersions(
        node, at, [_version(key, held) for key, held in versions.items() if _is_wanted(key, query)], remarks
    )


def _version(key: Key, held: Held) -> RouterVersion:
    refusal = held.refused
    refused = refusal and RouterRefusal(of_milliseconds(refusal.at), refusal.version, refusal.type, refusal.error)
    return RouterVersion(
        *key, held.acked, of_milliseconds(held.acked_at), held.sent, of_milliseconds(held.sent_at), refused
    )


def _live(server: XdsServer, node: str, query: Query) -> list[RouterVersion]:
    """Of the newest connection of that node. Raises UnknownName."""
    of_node = [each for each in server.connections.values() if each.node == node]
    if not of_node:
        raise unknown_name("router", node, {each.node for each in server.connections.values()}, " on this server")
    ledger = max(of_node, key=lambda each: each.since).ledger
    return [
        RouterVersion(*key, standing.acked, "", standing.sent, "", None)
        for key in sorted(followed_services(server))
        if _is_wanted(key, query) and (standing := ledger.standing(key, server.catalog, 0.0)) is not None
    ]


def _is_wanted(key: Key, query: Query) -> bool:
    return (not query.namespace or key[0] == query.namespace) and (not query.service or key[1] == query.service)


ENDPOINT = Endpoint(
    "/v1/routers/{node}/versions",
    "getRouterVersions",
    "Which version of each Service a router has, or had at a time.",
    RouterVersions,
    _handle,
    query=Query,
    path_parameters=Path,
    description="With `at`, what all servers have recorded in facets.acks is read up to that time: one such request at "
    "a time. Without it, what this server knows of a router that is connected to it.",
)
