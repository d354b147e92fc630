"""A Service with 10,000 endpoints, the most that is promised, goes through journal, worker, log and subscriber."""

import asyncio
from pathlib import Path
from typing import Any

from streams.kafka.journal import Publisher
from streams.objects.collector import Collector
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import RESOURCES
from streams.subscription.client import ClusterStatus, Subscriber
from tests.integration.journal import AT, PARTITIONS, clean_topics, endpoint_slice, service
from tests.support.worker_processes import DEADLINE, Worker, workers

__all__ = ["workers"]

SLICES, EACH = 100, 100


def big(index: int, version: int, unready: int | None = None) -> dict[str, Any]:
    """A full slice; one of its endpoints may be unready."""
    return endpoint_slice(
        f"big-{index:03}", "big", version, {f"10.1.{index}.{i}": i != unready for i in range(EACH)}
    )  # fmt: skip


async def test_a_service_with_ten_thousand_endpoints_flows_and_changes_by_one(
    bootstrap_servers: str, tmp_path: Path, workers: list[Worker]
) -> None:
    clean_topics(bootstrap_servers)
    workers.append(Worker(bootstrap_servers, tmp_path, "big"))
    collector = Collector("east", epoch=1, writer="big", seq=0, partitions=PARTITIONS)
    publisher = Publisher(bootstrap_servers, "east")
    try:
        await publisher.publish(collector.begin(AT))
        for each in RESOURCES:
            collector.ingest(each.kind, ReflectorEvent(Kind.INIT, None, ""))
        collector.ingest("Service", ReflectorEvent(Kind.INIT_APPLY, service("big", 1), ""))
        for index in range(SLICES):
            collector.ingest("EndpointSlice", ReflectorEvent(Kind.INIT_APPLY, big(index, 2), ""))
        for each in RESOURCES:
            collector.ingest(each.kind, ReflectorEvent(Kind.INIT_DONE, None, "100"))
        await publisher.publish(collector.flush(AT))
        async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, silent_after=None) as subscriber:
            first = await _row(subscriber)
            cursor = subscriber.position
            assert len(first["endpoints"]) == SLICES * EACH
            assert len({endpoint["address"] for endpoint in first["endpoints"]}) == SLICES * EACH
        # Of a worker that has to read the row back.
        workers[0].kill()
        workers.append(Worker(bootstrap_servers, tmp_path, "big"))
        collector.ingest("EndpointSlice", ReflectorEvent(Kind.APPLY, big(7, 101, unready=42), "101"))
        await publisher.publish(collector.flush(AT))
        async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, silent_after=None) as subscriber:
            second = await _row(subscriber, after=first["version"])
        # Of one who was away meanwhile, and has nothing but its cursor.
        async with (
            asyncio.timeout(DEADLINE),
            Subscriber(bootstrap_servers, cursor=cursor, silent_after=None) as subscriber,
        ):
            assert await _row(subscriber) == second
    finally:
        await publisher.close()
    assert second["previous"] == first["version"]
    assert [each["address"] for each in second["change"]["updated"]] == ["10.1.7.42"]
    assert second["change"]["added"] == second["change"]["removed"] == []
    assert len(second["endpoints"]) == SLICES * EACH
    assert [each["address"] for each in second["endpoints"] if not each["ready"]] == ["10.1.7.42"]


async def _row(subscriber: Subscriber, after: int = -1) -> dict[str, Any]:
    """The first backend row of the Service with a higher version."""
    async for item in subscriber:
        # Nobody watches here: on a slow machine the cluster counts as silent meanwhile.
        if isinstance(item, ClusterStatus):
            continue
        for row in item.rows:
            if row.name == "big" and row.version > after:
                return row.decode()
    raise AssertionError("the subscription ended")
