"""How long a killed worker takes to serve again. Prints figures; asserts nothing.

    python -m tests.bench.recovery --services 10000 --endpoints 10 --changes 50000 --heartbeats 30000

A worker folds a cluster of that many Services with that many endpoints each, then that many single changes, and
heartbeats (one commit to each of 8 partitions). It is killed with SIGKILL; a heartbeat that the fold has not seen is
put into the journal; the worker is started again. The time is from its start to the seal of that heartbeat: in the
first partition to have it, and in all. With the checkpoint, and with the checkpoint deleted.
"""

import argparse
import asyncio
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.core.collector import RESOURCES, Collector, JournalRecord
from streams.core.partitioning import DEFAULT_PARTITIONS
from streams.core.records import JOURNAL, SEAL_PREFIX, TABLES, topic_of
from streams.core.reflector import Kind, ReflectorEvent
from streams.edges.embedded_kafka import EmbeddedKafka
from streams.edges.topics import ensure
from tests.integration.journal import service

AT = "2026-11-24T12:00:00.000Z"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Cluster:
    """Services with one slice each, as a kubelet and the slice controller write them."""

    def __init__(self, services: int, endpoints: int) -> None:
        self.collector = Collector("east", epoch=1, writer="bench", seq=0, partitions=DEFAULT_PARTITIONS)
        self._chance = random.Random(1)
        self._services, self._endpoints, self._version = services, endpoints, 1000

    def start(self) -> list[JournalRecord]:
        records = self.collector.begin(AT)
        for resource in RESOURCES:
            self.collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
        for i in range(self._services):
            self.collector.ingest("Service", ReflectorEvent(Kind.INIT_APPLY, service(f"s{i}", 1), ""))
            self.collector.ingest("EndpointSlice", ReflectorEvent(Kind.INIT_APPLY, self._slice(i), ""))
        for resource in RESOURCES:
            self.collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, "1000"))
        return records + self.collector.flush(AT)

    def change(self) -> list[JournalRecord]:
        item = self._slice(self._chance.randrange(self._services))
        self.collector.ingest("EndpointSlice", ReflectorEvent(Kind.APPLY, item, str(self._version)))
        return self.collector.flush(AT)

    def _slice(self, i: int) -> dict[str, Any]:
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
                    "addresses": [f"10.{i >> 8}.{i & 255}.{j}"],
                    "conditions": {"ready": j != changed, "serving": True, "terminating": False},
                    "nodeName": f"node-{j}", "zone": f"zone-{j % 3}",
                    "targetRef": {"kind": "Pod", "namespace": "shop", "name": f"s{i}-5d9c7b6f4-{j}",
                                  "uid": f"9c1f7a52-0000-4000-{j:04d}-{i:012d}"},
                }
                for j in range(self._endpoints)
            ],
        }  # fmt: skip


class Worker:
    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.log = folder / "worker.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "streams.cli", "work", "--bootstrap-servers", bootstrap),
                    *("--web-port", str(free_port()), "--instance", "bench", "--data-dir", str(folder)),
                ],
                stdout=log,
                stderr=log,
            )

    def assigned(self) -> str:
        lines = reversed(self.log.read_text().splitlines())
        return next((line for line in lines if "assigned partitions" in line), "?")


async def ends_of(consumer: AIOKafkaConsumer, topic: str) -> dict[int, int]:
    parts = [TopicPartition(topic, p) for p in range(DEFAULT_PARTITIONS)]
    return {each.partition: end for each, end in (await consumer.end_offsets(parts)).items()}


async def sealed(bootstrap: str, wanted: dict[int, int]) -> list[float]:
    """When each partition of every table had the seal of at least these journal offsets (unix time, in order)."""
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


async def publish(producer: AIOKafkaProducer, records: list[JournalRecord]) -> None:
    for record in records:
        await producer.send(JOURNAL, record.value, key=b"east", partition=record.partition)


async def run(options: argparse.Namespace, folder: Path, bootstrap: str) -> None:
    ensure(bootstrap, partitions=DEFAULT_PARTITIONS)
    cluster = Cluster(options.services, options.endpoints)
    worker = Worker(bootstrap, folder)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=16 * 1024 * 1024, linger_ms=5,
                                max_batch_size=1024 * 1024)  # fmt: skip
    probe = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await producer.start()
    await probe.start()
    try:
        began = time.time()
        await publish(producer, cluster.start())
        for i in range(max(options.changes, options.heartbeats)):
            if i < options.changes:
                await publish(producer, cluster.change())
            if i < options.heartbeats:
                await publish(producer, cluster.collector.heartbeat(AT))
        await producer.flush()
        ends = await ends_of(probe, JOURNAL)
        await sealed(bootstrap, {p: end - 1 for p, end in ends.items()})
        commits, seconds = sum(ends.values()), time.time() - began
        print(
            f"history: {options.services} Services, {options.services * options.endpoints} endpoints, {commits} commits"
        )
        print(f"folded in {seconds:.1f} s ({commits / seconds:.0f} commits/s, with the journal written meanwhile)")
        logs = {table: sum((await ends_of(probe, topic_of(table))).values()) for table in TABLES}
        print(f"changelogs: {logs} records", flush=True)
        checkpoints = folder / "work" / "bench" / "checkpoints"
        for name in options.runs.split(","):
            worker.process.send_signal(signal.SIGKILL)
            worker.process.wait()
            if name == "without":
                shutil.rmtree(checkpoints, ignore_errors=True)
            size = sum(each.stat().st_size for each in checkpoints.glob("*")) if checkpoints.exists() else 0
            before = await ends_of(probe, JOURNAL)
            await publish(producer, cluster.collector.heartbeat(AT))
            await producer.flush()
            watching = asyncio.create_task(sealed(bootstrap, before))
            await asyncio.sleep(1)
            started = time.time()
            worker = Worker(bootstrap, folder)
            times = await watching
            print(
                f"{name:8} checkpoint ({size / 1e6:.1f} MB): first new seal {times[0] - started:.2f} s, "
                f"all partitions {times[-1] - started:.2f} s after the restart"
            )
            print("         " + worker.assigned(), flush=True)
            # Long enough for the checkpoints of what was read back.
            await asyncio.sleep(8)
    finally:
        await probe.stop()
        await producer.stop()
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=10, help="of each Service")
    parser.add_argument("--changes", type=int, default=50_000, help="of one endpoint each")
    parser.add_argument("--heartbeats", type=int, default=30_000, help="empty commits to every partition")
    parser.add_argument("--runs", default="without,with,with", help="restarts, by whether the checkpoint is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder) / "kafka") as kafka:
        asyncio.run(run(options, Path(folder), kafka.bootstrap_servers))


if __name__ == "__main__":
    main()
