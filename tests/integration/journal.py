"""A journal for integration tests: clean topics on the run's broker, commits of a made-up cluster, read-back."""

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import UnknownTopicOrPartitionError

from streams.kafka.admin import ensure
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import OPTIONAL, RESOURCES
from streams.wire.ack_records import ACKS
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import DEAD_LETTER, FOLDED_TABLES, JOURNAL, topic_of
from tests.support.routes import by_cookie, route, rule, to_service

_ALL = (*RESOURCES, *OPTIONAL)
AT = "2026-11-24T12:00:00.000Z"
PARTITIONS = 4
LAST_RECORDS = 400


def clean_topics(bootstrap: str, partitions: int = PARTITIONS) -> None:
    """Delete the project's topics and make them anew."""
    delete_topics(bootstrap)
    ensure(bootstrap, partitions=partitions)


def delete_topics(bootstrap: str) -> None:
    """Delete the project's topics."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        ours = {JOURNAL, DEAD_LETTER, ACKS, *map(topic_of, FOLDED_TABLES)}
        # A process that was killed may have asked for one just before: it comes after the others have gone.
        while there := ours & set(admin.list_topics()):
            with suppress(UnknownTopicOrPartitionError):
                admin.delete_topics(sorted(there))
    finally:
        admin.close()


def publish(bootstrap: str, records: list[JournalRecord]) -> None:
    """Append records to the journal, in order."""
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    try:
        for record in records:
            producer.send(JOURNAL, record.value, key=b"east", partition=record.partition)
        producer.flush()
    finally:
        producer.close()


def read_topic(bootstrap: str, topic: str, partitions: int = PARTITIONS) -> Iterator[Any]:
    """All records of a topic, partition by partition, in log order."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        for partition in range(partitions):
            each = TopicPartition(topic, partition)
            consumer.assign([each])
            end = consumer.end_offsets([each])[each]
            consumer.seek_to_beginning(each)
            while consumer.position(each) < end:
                for records in consumer.poll(timeout_ms=1000).values():
                    yield from records
    finally:
        consumer.close()


def service(name: str, version: int) -> dict[str, Any]:
    """A ClusterIP Service."""
    return {
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "uid": f"service-{name}", "resourceVersion": str(version)},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]},
    }


def endpoint_slice(name: str, owner: str, version: int, addresses: dict[str, bool]) -> dict[str, Any]:
    """A slice of `owner` with these addresses, ready or not."""
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"slice-{name}",
            "resourceVersion": str(version),
            "labels": {"kubernetes.io/service-name": owner},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}} for address, ready in addresses.items()],
    }


class Churn:
    """A made-up cluster whose slices, and now and then a route, change at random, by seed."""

    def __init__(self, seed: int, services: int = 20, epoch: int = 1, partitions: int = PARTITIONS) -> None:
        self._random = random.Random(seed)
        self._services = services
        self._version = 100
        self.collector = Collector(
            "east", epoch=epoch, writer=f"churn-{seed}", seq=0, partitions=partitions, resources=_ALL
        )

    def start(self) -> list[JournalRecord]:
        """The snapshot."""
        records = self.collector.begin(AT)
        for resource in _ALL:
            self.collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
        for i in range(self._services):
            self.collector.ingest("Service", ReflectorEvent(Kind.INIT_APPLY, service(f"s{i}", 1), ""))
            self.collector.ingest("EndpointSlice", ReflectorEvent(Kind.INIT_APPLY, self._slice(i, "a"), ""))
        for resource in _ALL:
            self.collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, str(self._version)))
        return records + self.collector.flush(AT)

    def change(self) -> list[JournalRecord]:
        """One change, in a commit of each partition that it touches."""
        if self._random.random() < 0.05:
            return self._reroute()
        i = self._random.randrange(self._services)
        item = self._slice(i, self._random.choice("ab"))
        kind = Kind.DELETE if self._random.random() < 0.1 else Kind.APPLY
        self.collector.ingest("EndpointSlice", ReflectorEvent(kind, item, str(self._version)))
        return self.collector.flush(AT)

    def _reroute(self) -> list[JournalRecord]:
        """A route of three that names some other Services than before, or is gone."""
        self._version += 1
        names = [f"s{self._random.randrange(self._services)}" for _ in range(self._random.randrange(1, 4))]
        asked = by_cookie("churn") if self._random.random() < 0.5 else None
        item = route(f"r{self._random.randrange(3)}", [to_service(names[0])], [rule(*names, persistence=asked)])
        item["metadata"]["resourceVersion"] = str(self._version)
        kind = Kind.DELETE if self._random.random() < 0.3 else Kind.APPLY
        self.collector.ingest("HTTPRoute", ReflectorEvent(kind, item, str(self._version)))
        return self.collector.flush(AT)

    def _slice(self, i: int, half: str) -> dict[str, Any]:
        self._version += 1
        base = 0 if half == "a" else 3
        addresses = {
            f"10.0.{i}.{base + j}": self._random.random() < 0.7 for j in range(6) if self._random.random() < 0.7
        }
        return endpoint_slice(f"s{i}-{half}", f"s{i}", self._version, addresses)


def sealed_to(bootstrap: str, topic: str, partitions: int = PARTITIONS) -> dict[int, int]:
    """The highest journal offset that each partition has a seal of, plus one; 0 where there is none. A row that a late
    writer hid is written again after it."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    reached = dict.fromkeys(range(partitions), 0)
    try:
        for partition in reached:
            each = TopicPartition(topic, partition)
            consumer.assign([each])
            end = consumer.end_offsets([each])[each]
            consumer.seek(each, max(0, end - LAST_RECORDS))
            while consumer.position(each) < end:
                for record in consumer.poll(timeout_ms=1000).get(each, ()):
                    if record.key.startswith(SEAL_PREFIX):
                        reached[partition] = max(reached[partition], int(dict(record.headers)["v"]) + 1)
    finally:
        consumer.close()
    return reached
