"""What `facets import` runs: one subscriber of the clusterset, and a member for each cluster that it writes to."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from streams.importer.member import Member, MemberOptions
from streams.importer.plan import Plan
from streams.importer.sets import Sets
from streams.kube.clusters import ClusterConfig
from streams.runtime.probes import Readiness
from streams.subscription.client import ClusterStatus, Snapshot, Subscriber
from streams.subscription.cluster_metrics import show_freshness
from streams.subscription.freshness import of_clusters
from streams.subscription.names import warn_of_unknown
from streams.wire.records import CLUSTERSET

log = logging.getLogger("facets.import")

_NO_SNAPSHOT = "the clusterset has not been read yet"


async def run_import(
    clusters: Sequence[ClusterConfig],
    bootstrap: str,
    options: MemberOptions,
    *,
    stop: asyncio.Event,
    readiness: Readiness,
    silent_after: float,
) -> None:
    """Import until `stop` is set. `readiness` gets a need for each cluster. Raises FacetsError."""
    sets = Sets()
    members = [Member(cluster, sets, options) for cluster in clusters]
    readiness.needs = {
        "clusterset": lambda: "" if sets.is_ready else _NO_SNAPSHOT,
        **{f"cluster {member.name}": member.not_ready for member in members},
    }
    async with Subscriber(bootstrap, tables=(CLUSTERSET,), progress=True, silent_after=silent_after) as subscriber:

        def refresh() -> None:
            if sets.is_ready:
                show_freshness(of_clusters(subscriber.sealed(), time.time(), subscriber.silent()))

        readiness.refresh = refresh
        await _until_first([_follow(subscriber, sets, members), stop.wait(), *(member.run() for member in members)])


async def compare(
    clusters: Sequence[ClusterConfig], bootstrap: str, options: MemberOptions
) -> list[tuple[str, list[Plan]]]:
    """For each cluster, what an import would write now, and what it would leave alone. Raises FacetsError."""
    sets = Sets()
    members = [Member(cluster, sets, options) for cluster in clusters]
    async with Subscriber(bootstrap, tables=(CLUSTERSET,)) as subscriber:
        snapshot = await subscriber.snapshot()
        sets.replace(snapshot.rows, subscriber.sealed(), subscriber.partitions)
        warn_of_unknown(log, (member.name for member in members), sets.clusters)

        async def differences() -> list[tuple[str, list[Plan]]]:
            return [(member.name, await member.differences()) for member in members]

        found: list[tuple[str, list[Plan]]] = await _until_first([differences(), *(member.run() for member in members)])
        return found


async def _follow(subscriber: Subscriber, sets: Sets, members: Sequence[Member]) -> None:
    """Pass on what the subscriber delivers, for ever."""
    async for item in subscriber:
        if isinstance(item, Snapshot):
            if not sets.is_ready:
                known = {seal.cluster for seal in subscriber.sealed().values()}
                warn_of_unknown(log, (member.name for member in members), known)
            sets.replace(item.rows, subscriber.sealed(), subscriber.partitions)
            log.info("the clusterset has %d Services", len(sets.keys()))
            for member in members:
                member.touch_all()
        elif not isinstance(item, ClusterStatus):
            changed, is_other = sets.apply(item.rows, item.seal, item.partition)
            for member in members:
                member.touch(changed)
                if is_other:
                    member.touch_all()


async def _until_first(works: Sequence[Any]) -> Any:
    """Until the first ends, whose result it is; the others are cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        results = [task.result() for task in done]
        return results[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
