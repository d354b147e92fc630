"""`GET /v1/acked`: waits until every router has acknowledged a write."""

import asyncio
from typing import Annotated, Any

import msgspec
from aiohttp import web

from streams.serve.http.endpoint import Endpoint, Parameters
from streams.serve.http.endpoints.propagation import followed_services
from streams.serve.http.parameters import (
    ENDPOINT_SLICES,
    ClusterName,
    KubernetesName,
    Resource,
    ResourceVersion,
    WaitSeconds,
)
from streams.serve.http.query import NotActive
from streams.serve.http.waiters import WAITERS
from streams.serve.xds.build.service_index import Key
from streams.serve.xds.server import XdsServer
from streams.subscription.delivery import reached
from streams.wire.records import Record


class Query(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Whose write, and for how many seconds to wait."""

    cluster: ClusterName
    resource_version: ResourceVersion
    resource: Annotated[Resource, msgspec.Meta(description="The type of the object written.")] = ENDPOINT_SLICES
    namespace: KubernetesName | msgspec.UnsetType = msgspec.UNSET
    service: KubernetesName | msgspec.UnsetType = msgspec.UNSET
    timeout: WaitSeconds = 30.0


class Acked(Record):
    """Whether every client has acknowledged it, with the clients that follow the Service (without one, all); if not,
    the clients (and partitions of the server's own) that are waited for."""

    acked: bool
    clients: list[str]
    partitions: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


async def _handle(parts: Any, request: web.Request, parameters: Parameters) -> Acked:
    query: Query = parameters.query
    server: XdsServer = parts.xds
    service = (query.namespace or "default", query.service) if query.service else None
    if not server.ready.is_set():
        raise NotActive
    waiting = Acked(False, [], {})
    with WAITERS.count_in(server):
        try:
            async with asyncio.timeout(query.timeout):
                await _wait_until_acknowledged(server, query, service, waiting)
        except TimeoutError:
            return waiting
    return Acked(True, _followers(server, service))


async def _wait_until_acknowledged(server: XdsServer, query: Query, service: Key | None, waiting: Acked) -> None:
    """Return when the cluster's `resource` up to this resourceVersion is in the state, and every client that follows
    the Service (or, without one, any Service) has acknowledged that state or a newer one. `waiting` is kept up to date
    with the partitions and clients that it waits for."""
    catalog, resource = server.catalog, query.resource
    partitions = {catalog.partition(service)} if service else set(range(catalog.partitions))
    while behind := {
        p for p in partitions if not reached(catalog.seals, p, query.cluster, resource, query.resource_version)
    }:
        waiting.partitions = {
            str(p): seal.frontier.get(resource, "") if (seal := catalog.seals.get((p, query.cluster))) else ""
            for p in behind
        }
        await server.wait_for_change()
    waiting.partitions = {}
    versions = {key: catalog.newest(key)[0] for key in ([service] if service else followed_services(server))}
    while True:
        waiting.clients = [
            connection.node
            for connection in server.connections.values()
            if any(key in versions and entry.acked < versions[key] for key, entry in connection.ledger.behind.items())
        ]
        if not waiting.clients:
            return
        await server.wait_for_change()


def _followers(server: XdsServer, service: Key | None) -> list[str]:
    """The nodes of the clients that follow the Service; without a Service, or if it is deleted, all."""
    if service is None or not server.catalog.names_of(service):
        return [connection.node for connection in server.connections.values()]
    return [
        connection.node
        for connection in server.connections.values()
        if connection.stream.follows_service(service, server.catalog)
    ]


ENDPOINT = Endpoint(
    "/v1/acked", "waitAcked", "Wait until every router has acknowledged a write.", Acked, _handle, query=Query
)
