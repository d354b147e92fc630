"""`GET /v1/propagation`: who has what."""

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from aiohttp import web

from streams.serve.http.endpoint import Asked, Endpoint
from streams.serve.http.parameters import KubernetesName
from streams.serve.xds.build.catalog import Key
from streams.serve.xds.server import Connection, XdsServer
from streams.subscription.freshness import age_seconds
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


class PropagatedService(Record):
    """A Service's newest version, and who has it."""

    namespace: str
    name: str
    version: int
    at: str
    partition: int
    clients: list[Standing]


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


async def _handle(parts: Any, request: web.Request, asked: Asked) -> Propagation:
    query: Query = asked.query
    return report(parts.xds, query.namespace or "", query.service or "", parts.clock())


def report(server: XdsServer, namespace: str, name: str, now: float) -> Propagation:
    """Clients, Services and where each client stands with each Service; with a namespace or a name, of these only.

    `sent` and `acked` are versions of the Service's rows (-1: none yet); `behind` counts versions, and
    `behindMilliseconds` is how old the oldest unacknowledged one is."""
    keys = sorted(
        key for key in followed(server) if (not namespace or key[0] == namespace) and (not name or key[1] == name)
    )
    return Propagation(
        frontiers=[
            Frontier(
                partition=partition,
                cluster=cluster,
                offset=seal.offset,
                at=seal.at,
                frontier=seal.frontier,
                age_seconds=age_seconds(seal, now),
                stale=silence.reason if (silence := server.silent.get((partition, cluster))) else "",
            )
            for (partition, cluster), seal in sorted(server.catalog.seals.items())
            if not seal.closed
        ],
        clients=[_client(each) for each in server.connections.values()],
        services=[_service(server, key, now) for key in keys],
    )


def followed(server: XdsServer) -> set[Key]:
    """The Services that there are, or that some client still waits for."""
    behind = (each.ledger.behind for each in server.connections.values())
    return set(server.catalog.services()).union(*behind)


def _client(each: Connection) -> Client:
    return Client(
        id=each.number,
        node=each.node,
        peer=each.peer,
        agent=each.agent,
        variant=each.variant,
        traffic=each.stream.client.traffic,
        zone=each.stream.client.place.zone,
        since=write(datetime.fromtimestamp(each.since, UTC)),
        behind=len(each.ledger.behind),
        nacks=each.nacks,
        last_nack=each.last_nack,
    )


def _service(server: XdsServer, key: Key, now: float) -> PropagatedService:
    version, at = server.catalog.newest(key)
    return PropagatedService(
        namespace=key[0],
        name=key[1],
        version=version,
        at=at,
        partition=server.catalog.partition(key),
        clients=[found for each in server.connections.values() if (found := _standing(server, each, key, now))],
    )


def _standing(server: XdsServer, each: Connection, key: Key, now: float) -> Standing | None:
    found = each.ledger.standing(key, server.catalog, now)
    if found is None:
        return None
    return Standing(
        client=each.number,
        node=each.node,
        sent=found.sent,
        acked=found.acked,
        behind=found.behind,
        behind_milliseconds=round(found.seconds * 1000),
    )


ENDPOINT = Endpoint("/v1/propagation", "getPropagation", "Which router has what.", Propagation, _handle, query=Query)
