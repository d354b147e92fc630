"""Lists the clusters in the tables, and ends one: `facets clusters`."""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.kafka.epochs import home
from streams.kafka.journal import EpochGuard, Publisher, claim_epoch
from streams.kafka.journal_reader import JournalReader
from streams.objects.collector import Collector
from streams.subscription.client import Subscriber
from streams.subscription.cluster_list import ClusterSummary, cluster_list
from streams.subscription.freshness import SILENT_AFTER_SECONDS
from streams.subscription.names import unknown_name
from streams.watch.session import now as commit_time
from streams.wire.records import TABLES

log = logging.getLogger("facets.clusters")

DEMO = "demo"


class ClusterIsLive(FacetsError):
    """The cluster's watcher still runs, and would bring it back at its next start."""

    exit_code = ExitCode.NEGATIVE


async def list_clusters(
    bootstrap: str | None, silent_after: float = SILENT_AFTER_SECONDS, clock: Callable[[], float] = time.time
) -> list[ClusterSummary]:
    """All clusters in the tables, including those that have ended. Raises FacetsError."""
    async with Subscriber(bootstrap, tables=TABLES[:1], silent_after=silent_after, clock=clock) as subscriber:
        seals = await subscriber.clusters()
        return cluster_list(seals, clock(), subscriber.silent(), subscriber.partitions)


async def forget_cluster(
    bootstrap: str,
    name: str,
    *,
    force: bool = False,
    silent_after: float = SILENT_AFTER_SECONDS,
    clock: Callable[[], float] = time.time,
) -> bool:
    """Write the cluster's end into the journal; False if it has already ended. Raises ClusterIsLive if a watcher has
    committed something in the last `silent_after` seconds, unless `force`d, and FacetsError if the cluster is unknown
    or a watcher takes it over at the same time."""
    reader = await asyncio.to_thread(JournalReader, bootstrap)
    try:
        standing = await reader.call(reader.standing, name)
        if not standing.epoch:
            raise await _unknown(bootstrap, name)
        if standing.closed:
            return False
        partitions = await reader.call(reader.partitions)
        if not force:
            last = await reader.call(reader.last_heard, name, home(name, partitions))
            if clock() - last < silent_after:
                raise ClusterIsLive(
                    f"cluster {name} is live: its watcher's last commit was {max(0.0, clock() - last):.1f} s ago",
                    f"stop its watcher first, or take the cluster from it: facets clusters forget {name} --force",
                )
        await _close(bootstrap, reader, name, partitions)
    finally:
        await reader.close()
    log.info("cluster %s has ended: its rows are deleted", name)
    return True


async def _close(bootstrap: str, reader: JournalReader, name: str, partitions: int) -> None:
    writer = f"forget-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    collector = Collector(name, epoch=0, writer=writer, seq=0, partitions=partitions)
    publisher = await asyncio.to_thread(Publisher, bootstrap, name)
    try:
        claim = await claim_epoch(publisher, reader, collector, commit_time)
        await publisher.publish(collector.close(commit_time()))
        # If a watcher has opened a higher epoch in between, the cluster lives on.
        await EpochGuard(publisher, reader, collector, claim).check()
    finally:
        await publisher.close()


async def forget_demo(bootstrap: str, *, force: bool) -> list[str]:
    """End the clusters of a demo that is over, or was killed; returns their names. A live one is left alone, unless it
    is certain (`force`) that no demo runs."""
    ended = []
    for cluster in await list_clusters(bootstrap):
        if cluster.source == DEMO and cluster.state != "ended":
            try:
                if await forget_cluster(bootstrap, cluster.name, force=force):
                    ended.append(cluster.name)
            except ClusterIsLive as error:
                log.warning("%s", error)
    return ended


async def _unknown(bootstrap: str, name: str) -> FacetsError:
    names = [cluster.name for cluster in await list_clusters(bootstrap) if cluster.state != "ended"]
    return unknown_name("cluster", name, names)
