"""A made-up cluster's journal: Services with one slice each, as a kubelet and the slice controller write them, through
the collector that the watcher uses."""

import random
import time
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import RESOURCES
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import JOURNAL, TABLES, topic_of
from tests.integration.journal import service

AT = "2026-11-24T12:00:00.000Z"


class MadeUp:
    """`start` is the first snapshot, `change` one endpoint's readiness in one slice. The same for the same seed."""

    def __init__(self, services: int, endpoints: int, partitions: int, *, cluster: str = "east", seed: int = 1) -> None:
        self.collector = Collector(cluster, epoch=1, writer="bench", seq=0, partitions=partitions)
        self._chance = random.Random(seed)
        self._services, self._endpoints, self._version = services, endpoints, 1000

    def start(self, at: str = AT) -> list[JournalRecord]:
        """The epoch's begin, everything, and its end."""
        records = self.collector.begin(at)
        for resource in RESOURCES:
            self.collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
        for i in range(self._services):
            self.collector.ingest("Service", ReflectorEvent(Kind.INIT_APPLY, service(f"s{i}", 1), ""))
            self.collector.ingest("EndpointSlice", ReflectorEvent(Kind.INIT_APPLY, self.slice(i), ""))
        for resource in RESOURCES:
            self.collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, "1000"))
        return records + self.collector.flush(at)

    def change(self, count: int = 1, at: str = AT) -> list[JournalRecord]:
        """Commits of so many changes that were seen together."""
        for _ in range(count):
            item = self.slice(self._chance.randrange(self._services))
            self.collector.ingest("EndpointSlice", ReflectorEvent(Kind.APPLY, item, str(self._version)))
        return self.collector.flush(at)

    def slice(self, i: int) -> dict[str, Any]:
        """Service i's slice at the next resourceVersion: one of its endpoints is not ready."""
        self._version += 1
        changed = self._chance.randrange(self._endpoints)
        return {
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"s{i}-x7k2p", "namespace": "shop", "uid": f"1b8d2f6e-0000-4000-8000-{i:012d}",
                "resourceVersion": str(self._version), "labels": {"kubernetes.io/service-name": f"s{i}"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": [f"10.{i >> 8}.{j >> 8}.{j & 255}"],
                    "conditions": {"ready": j != changed, "serving": True, "terminating": False},
                    "nodeName": f"node-{j}", "zone": f"zone-{j % 3}",
                    "targetRef": {"kind": "Pod", "namespace": "shop", "name": f"s{i}-5d9c7b6f4-{j}",
                                  "uid": f"9c1f7a52-0000-4000-{j:04d}-{i:012d}"},
                }
                for j in range(self._endpoints)
            ],
        }  # fmt: skip


def producer(bootstrap: str) -> AIOKafkaProducer:
    """One that can keep up."""
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap, max_request_size=16 * 1024 * 1024, linger_ms=5, max_batch_size=1024 * 1024
    )


async def publish(to: AIOKafkaProducer, records: list[JournalRecord], cluster: str = "east") -> None:
    """Append to the journal."""
    for record in records:
        await to.send(JOURNAL, record.value, key=cluster.encode(), partition=record.partition)


async def ends_of(consumer: AIOKafkaConsumer, topic: str, partitions: int) -> dict[int, int]:
    """Where each partition of a topic ends."""
    parts = [TopicPartition(topic, p) for p in range(partitions)]
    return {each.partition: end for each, end in (await consumer.end_offsets(parts)).items()}


async def sealed(bootstrap: str, wanted: dict[int, int]) -> list[float]:
    """When each partition of every table had the seal of at least these journal offsets (unix time, in order). Starts
    to look at the changelogs' ends; what is sealed already counts as now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_wait_ms=20)
    await consumer.start()
    try:
        waiting = {TopicPartition(topic_of(table), p) for table in TABLES for p in wanted}
        consumer.assign(list(waiting))
        for each, end in (await consumer.end_offsets(list(waiting))).items():
            consumer.seek(each, max(end - 1, 0))
        times = []
        while waiting:
            for each, records in (await consumer.getmany(timeout_ms=1000)).items():
                for record in records:
                    here = each in waiting and record.key.startswith(SEAL_PREFIX)
                    if here and int(dict(record.headers)["v"]) >= wanted[each.partition]:
                        waiting.discard(each)
                        times.append(time.time())
        return times
    finally:
        await consumer.stop()
