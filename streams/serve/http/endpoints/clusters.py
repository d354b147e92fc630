"""`GET /v1/clusters`: how far each cluster is, and how much it has."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from aiohttp import web

from streams.serve.http.encoding import frontiers
from streams.serve.http.endpoint import Endpoint, Parameters
from streams.serve.http.feed import Feed
from streams.subscription.freshness import (
    Place,
    age_seconds,
    alive,
    clock_skew_seconds,
    clusters_in,
    is_complete,
    last_commit,
    worst,
)
from streams.wire.records import Record, Seal

_BETWEEN_PAUSES = 2000
"""How many rows are counted before others have their turn."""


class ClusterPartition(Record):
    """How far a partition is with a cluster: `offset` is the journal's, `appended` when Kafka took the newest commit,
    `lagSeconds` how old that is (of a quiet partition, its watcher's newest progress record; null: not known).
    `complete`: it has a whole snapshot of the cluster. `stale` says why the cluster is taken for silent here (empty: it
    is not)."""

    partition: int
    offset: int
    epoch: int
    seq: int
    at: str
    appended: str
    phase: str
    frontier: dict[str, str]
    complete: bool
    lag_seconds: float | None
    stale: str
    dead_letters: int


class ClusterState(Record):
    """A cluster. `state` is `ready`; `unknown` while some partition has no whole snapshot of it; `stale`, with
    `staleSince`, while its watcher can't reach it or is not heard of; or `closed`: it was taken out. `epoch` is its
    watcher's incarnation, `lagSeconds` how old what is furthest behind is, `clockSkewSeconds` by how much its watcher's
    clock is ahead of Kafka's, `frontier` what all partitions have sealed. `services` and `endpoints` are what the
    tables have."""

    name: str
    state: Literal["ready", "unknown", "stale", "closed"]
    reason: str
    stale_since: str
    epoch: int
    seq: int
    writer: str
    source: str
    last_commit: str
    lag_seconds: float | None
    clock_skew_seconds: float
    frontier: dict[str, str]
    dead_letters: int
    services: int
    endpoints: int
    partitions: list[ClusterPartition]


class Clusters(Record):
    """All clusters, by name."""

    items: list[ClusterState]


async def _handle(parts: Any, request: web.Request, parameters: Parameters) -> Clusters:
    parts.hub.check_ready()
    feed: Feed = parts.hub.feed
    services, endpoints = await _count(feed)
    frontier = frontiers(feed.seals, feed.partitions)
    newest = alive(feed.seals)
    now = parts.clock()
    return Clusters(
        [
            _cluster(name, feed, newest, now, frontier.get(name, {}), services[name], endpoints[name])
            for name in sorted(clusters_in(feed.seals))
        ]
    )


async def _count(feed: Feed) -> tuple[Counter[str], Counter[str]]:
    """How many Services, and endpoints, each cluster has."""
    services: Counter[str] = Counter()
    endpoints: Counter[str] = Counter()
    for number, printed in enumerate(feed.printed_rows(("frontend", "backend"))):
        row = printed.row
        if row.table == "frontend":
            services[row.cluster] += 1
        else:
            endpoints[row.cluster] += printed.endpoints
        if number % _BETWEEN_PAUSES == _BETWEEN_PAUSES - 1:
            await asyncio.sleep(0)
    return services, endpoints


def _cluster(
    name: str,
    feed: Feed,
    newest: Mapping[Place, Seal],
    now: float,
    frontier: dict[str, str],
    services: int,
    endpoints: int,
) -> ClusterState:
    seals = {p: seal for p in range(feed.partitions) if (seal := feed.seals.get((p, name))) is not None}
    alive_seals = [newest[p, name] for p in seals]
    silences = [silence for (_, cluster), silence in feed.silent.items() if cluster == name]
    latest = max(seals.values(), key=lambda seal: (seal.epoch, seal.seq))
    state, reason, since = _state(feed, seals)
    if state == "ready" and silences:
        longest = worst(silences)
        state, reason, since = "stale", longest.reason, longest.since
    is_closed = state == "closed"
    ages = [age for seal in alive_seals if (age := age_seconds(seal, now)) is not None]
    return ClusterState(
        name=name,
        state=state,
        reason=reason,
        stale_since=since,
        epoch=latest.epoch,
        seq=latest.seq,
        writer=latest.writer,
        source=latest.source,
        last_commit=max(map(last_commit, alive_seals)),
        lag_seconds=None if is_closed else max(ages, default=None),
        clock_skew_seconds=clock_skew_seconds(max(alive_seals, key=last_commit)),
        frontier=frontier,
        dead_letters=sum(seal.dead_letters for seal in seals.values()),
        services=services,
        endpoints=endpoints,
        partitions=[
            ClusterPartition(
                partition=p,
                offset=seal.offset,
                epoch=seal.epoch,
                seq=seal.seq,
                at=seal.at,
                appended=newest[p, name].appended,
                phase=seal.phase,
                frontier=seal.frontier,
                complete=is_complete(seal),
                lag_seconds=None if seal.closed else age_seconds(newest[p, name], now),
                stale=silence.reason if (silence := feed.silent.get((p, name))) else "",
                dead_letters=seal.dead_letters,
            )
            for p, seal in sorted(seals.items())
        ],
    )


def _state(feed: Feed, seals: Mapping[int, Seal]) -> tuple[Literal["ready", "unknown", "stale", "closed"], str, str]:
    """What the log says of a cluster: its state, why, and since when it is stale."""
    if all(seal.closed for seal in seals.values()):
        return "closed", "ClusterClosed", ""
    incomplete = [p for p in range(feed.partitions) if not is_complete(seals.get(p))]
    if incomplete:
        lost = any(seal.lost for seal in seals.values())
        partitions = ", ".join(map(str, incomplete))
        return "unknown", f"{'JournalExpired' if lost else 'SnapshotIncomplete'}: partitions {partitions}", ""
    stale_since = min((seal.stale_since for seal in seals.values() if seal.stale_since), default="")
    if stale_since:
        return "stale", f"ClusterUnreachable: since {stale_since}", stale_since
    return "ready", "", ""


ENDPOINT = Endpoint(
    "/v1/clusters",
    "listClusters",
    "How far each cluster is, and how many Services and endpoints it has.",
    Clusters,
    _handle,
)
