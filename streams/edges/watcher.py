"""The watcher: clusters' objects into the journal, as commits of what was seen together."""

import asyncio
import logging
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes import config as kube_config

from streams.core.collector import RESOURCES, Collector
from streams.core.errors import FacetsError
from streams.core.reflector import Reflector, ReflectorEvent
from streams.core.rfc3339 import write
from streams.edges.apiserver import ApiServer, BadKubeconfig, ClusterConfig
from streams.edges.journal import JournalReader, Publisher, claim
from streams.edges.topics import ensure

log = logging.getLogger("facets.watch")
_kube: Any = kube_config

HEARTBEAT_SECONDS = 1.0
STALE_AFTER_SECONDS = 60.0
_QUEUE = 10_000
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


def cluster_configs(
    *, kubeconfig: Path | None, context: str | None, clusters: Sequence[str], cluster_domain: str, every_context: bool
) -> list[ClusterConfig]:
    """The clusters that the options name. Raises FacetsError for a name that no row could carry."""
    named = [each.partition("=")[::2] for each in clusters]
    if not named and (every_context or context is None):
        try:
            contexts, current = _kube.list_kube_config_contexts(str(kubeconfig) if kubeconfig else None)
        except (kube_config.ConfigException, OSError) as error:
            raise BadKubeconfig(f"no usable kubeconfig: {error}", "name one with --kubeconfig or KUBECONFIG") from error
        chosen = contexts if every_context else [current]
        named = [(re.sub(r"[^A-Za-z0-9._-]+", "-", each["name"]).strip("-._"), each["name"]) for each in chosen]
    elif not named and context is not None:
        named = [(re.sub(r"[^A-Za-z0-9._-]+", "-", context).strip("-._"), context)]
    for name, _ in named:
        if not _NAME.fullmatch(name):
            raise FacetsError(f"{name!r} is not a cluster's name", "use letters, digits, '.', '_' and '-'", 64)
    return [ClusterConfig(name, kubeconfig, found or context, cluster_domain) for name, found in named]


async def run_watchers(
    configs: Sequence[ClusterConfig], bootstrap: str, *, stop: asyncio.Event, accept_older_list: bool = False
) -> None:
    """Watch the clusters until `stop`; the first failure ends all. Raises FacetsError."""
    partitions = await asyncio.to_thread(ensure, bootstrap)
    stopping = asyncio.create_task(stop.wait())
    tasks = [asyncio.create_task(_watch(each, bootstrap, partitions, accept_older_list, stop)) for each in configs]
    try:
        await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                await task
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        stopping.cancel()


async def _watch(
    cluster: ClusterConfig, bootstrap: str, partitions: int, accept_older_list: bool, stop: asyncio.Event
) -> None:
    publisher = await asyncio.to_thread(Publisher, bootstrap, cluster.name)
    reader = await asyncio.to_thread(JournalReader, bootstrap, partitions)
    collector = Collector(
        cluster.name, epoch=1, writer=uuid.uuid4().hex, seq=0, partitions=partitions,
        cluster_domain=cluster.cluster_domain,
    )  # fmt: skip
    queue: asyncio.Queue[tuple[str, ReflectorEvent]] = asyncio.Queue(_QUEUE)
    reached = datetime.now(UTC)

    def contact(good: bool) -> None:
        nonlocal reached
        if good:
            reached = datetime.now(UTC)

    async def sink(kind: str, event: ReflectorEvent) -> None:
        await queue.put((kind, event))

    try:
        async with ApiServer(cluster) as server:
            standing = await asyncio.to_thread(reader.standing, cluster.name)
            await claim(publisher, reader, collector, _now())
            frontier = {} if accept_older_list else standing.frontier
            follows = [
                asyncio.create_task(
                    server.follow(each, Reflector(at_least=frontier.get(each.frontier, "")), sink, contact)
                )
                for each in RESOURCES
            ]
            try:
                while not stop.is_set():
                    await _commit(collector, queue, publisher)
                    for task in follows:
                        if task.done():
                            await task
                    silent = (datetime.now(UTC) - reached).total_seconds()
                    collector.stale_since = write(reached) if silent > max(STALE_AFTER_SECONDS, 300) else ""
            finally:
                for task in follows:
                    task.cancel()
                await asyncio.gather(*follows, return_exceptions=True)
    finally:
        await publisher.close()
        await asyncio.to_thread(reader.close)


async def _commit(collector: Collector, queue: asyncio.Queue[tuple[str, ReflectorEvent]], publisher: Publisher) -> None:
    """One round: what has come (waiting a heartbeat's time for the first), written as commits."""
    try:
        kind, event = await asyncio.wait_for(queue.get(), HEARTBEAT_SECONDS)
    except TimeoutError:
        await publisher.publish([*collector.flush(_now()), *collector.heartbeat(_now())])
        return
    collector.ingest(kind, event)
    while not queue.empty() and collector.pending < 5000:
        collector.ingest(*queue.get_nowait())
    await publisher.publish(collector.flush(_now()))


def _now() -> str:
    return write(datetime.now(UTC))
