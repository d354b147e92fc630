"""`GET /v1/propagation`: which client has which version of each Service."""

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from aiohttp import web

from streams.serve.http.endpoint import Endpoint, Parameters
from streams.serve.http.parameters import KubernetesName
from streams.serve.xds.build.service_index import Key
from streams.serve.xds.server import Connection, XdsServer
from streams.subscription.freshness import age_seconds, alive
from streams.wire.address_text import format_address
from streams.wire.keys import is_cluster
from streams.wire.records import Record
from streams.wire.routing_records import Traffic
from streams.wire.timestamps import write


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """Of which Services; without a name, of all."""

    namespace: KubernetesName | msgspec.UnsetType = msgspec.UNSET
    service: KubernetesName | msgspec.UnsetType = msgspec.UNSET


class Client(Record):
    """A connected xDS client; `behind` counts the Services whose newest version it has not acknowledged."""

    id: int
    node: str
    peer: str
    agent: str
    variant: Literal["sotw", "delta"]
    traffic: Traffic
    cluster: str
    namespace: str
    zone: str
    since: str
    behind: int
    nacks: int
    last_nack: str


class Standing(Record):
    """What a client has of a Service: versions sent and acknowledged (-1: none), and how far behind it is."""

    client: int
    node: str
    sent: int
    acked: int
    behind: int
    behind_milliseconds: int


class SharedAddress(Record):
    """An address, with its port, that several clusters have: a client gets its own cluster's, else that of the first.
    `resource` is the name of the endpoint set."""

    resource: str
    address: str
    clusters: list[str]


class PropagatedService(Record):
    """A Service's newest version, and who has it. `sharedAddresses` are those of the endpoint sets that clients get."""

    namespace: str
    name: str
    version: int
    at: str
    partition: int
    clients: list[Standing]
    shared_addresses: list[SharedAddress]


class Frontier(Record):
    """How far a partition is with a cluster: `ageSeconds` is how old the cluster's newest commit is by Kafka's clock
    (null: not known), `stale` says why the cluster is taken for silent (empty: it is not)."""

    partition: int
    cluster: str
    offset: int
    at: str
    frontier: dict[str, str]
    age_seconds: float | None
    stale: str


class Propagation(Record):
    """Who has what."""

    frontiers: list[Frontier]
    clients: list[Client]
    services: list[PropagatedService]


async def _handle(parts: Any, request: web.Request, parameters: Parameters) -> Propagation:
    query: Query = parameters.query
    return report(parts.xds, query.namespace or "", query.service or "", parts.clock())


def report(server: XdsServer, namespace: str, name: str, now: float) -> Propagation:
    """The clients, the Services, and each client's standing with each Service; with a namespace or a name, of these
    only.

    `sent` and `acked` are versions of the Service's rows (-1: none yet); `behind` counts versions, and
    `behindMilliseconds` is how old the oldest unacknowledged one is.
    """
    keys = sorted(
        key
        for key in followed_services(server)
        if (not namespace or key[0] == namespace) and (not name or key[1] == name)
    )
    shared = _shared_addresses(server)
    newest = alive(server.catalog.seals)
    return Propagation(
        frontiers=[
            Frontier(
                partition=partition,
                cluster=cluster,
                offset=newest[partition, cluster].offset,
                at=newest[partition, cluster].at,
                frontier=seal.frontier,
                age_seconds=age_seconds(newest[partition, cluster], now),
                stale=silence.reason if (silence := server.silent.get((partition, cluster))) else "",
            )
            for (partition, cluster), seal in sorted(server.catalog.seals.items())
            if is_cluster(cluster) and not seal.closed
        ],
        clients=[_client(connection) for connection in server.connections.values()],
        services=[_service(server, key, shared.get(key, []), now) for key in keys],
    )


def followed_services(server: XdsServer) -> set[Key]:
    """The existing Services, and those that some client still has to acknowledge."""
    behind = (connection.ledger.behind for connection in server.connections.values())
    return set(server.catalog.services()).union(*behind)


def _client(connection: Connection) -> Client:
    return Client(
        id=connection.number,
        node=connection.node,
        peer=connection.peer,
        agent=connection.agent,
        variant=connection.variant,
        traffic=connection.stream.client.traffic,
        cluster=connection.stream.client.place.cluster,
        namespace=connection.stream.client.namespace,
        zone=connection.stream.client.place.zone,
        since=write(datetime.fromtimestamp(connection.since, UTC)),
        behind=len(connection.ledger.behind),
        nacks=connection.nacks,
        last_nack=connection.last_nack,
    )


def _shared_addresses(server: XdsServer) -> dict[Key, list[SharedAddress]]:
    shared: dict[Key, list[SharedAddress]] = {}
    for name, (host, port), clusters in sorted(server.catalog.shared_addresses()):
        if key := server.catalog.service_of(name):
            shared.setdefault(key, []).append(SharedAddress(name, format_address(host, (port,)), list(clusters)))
    return shared


def _service(server: XdsServer, key: Key, shared: list[SharedAddress], now: float) -> PropagatedService:
    version, at = server.catalog.newest(key)
    return PropagatedService(
        namespace=key[0],
        name=key[1],
        version=version,
        at=at,
        partition=server.catalog.partition(key),
        clients=[
            standing
            for connection in server.connections.values()
            if (standing := _standing(server, connection, key, now))
        ],
        shared_addresses=shared,
    )


def _standing(server: XdsServer, connection: Connection, key: Key, now: float) -> Standing | None:
    standing = connection.ledger.standing(key, server.catalog, now)
    if standing is None:
        return None
    return Standing(
        client=connection.number,
        node=connection.node,
        sent=standing.sent,
        acked=standing.acked,
        behind=standing.behind,
        behind_milliseconds=round(standing.seconds * 1000),
    )


ENDPOINT = Endpoint("/v1/propagation", "getPropagation", "Which router has what.", Propagation, _handle, query=Query)
