"""From nothing to sealed tables: the first list of a cluster, next to a bare paginated list of the same objects.

The cluster is Kubernetes' own envelope: 10,000 Services with 15 endpoints each. `facets work` waits, `facets watch` is
started as users start it; the time is from the commit that opens its epoch to the seal that ends the snapshot in
the last partition of both tables. The bare list fetches Services, EndpointSlices and Endpoints in pages of 500, one
after the other, and decodes them, in a process of its own with nothing else to do; it runs before and after, and the
faster one counts.
"""

import asyncio
import time
from collections.abc import Iterator

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.subscription.client import Subscriber
from streams.wire.keys import SEAL_PREFIX
from streams.wire.partitioning import DEFAULT_PARTITIONS
from streams.wire.records import TABLES, topic_of
from streams.wire.timestamps import read
from tests.bench.bench import SHARED, Bench, free_port
from tests.bench.figures import Figure, at_most, at_most_times
from tests.bench.objects import create, service, slice_

ENDPOINTS = 15


def run(bench: Bench) -> Iterator[Figure]:
    """The list, and the bootstrap of a subscriber after it."""
    services = 1000 if bench.quick else 10_000
    plane = bench.plane()
    plane.kill("kube-controller-manager")  # the slices are made by hand
    plane.api.post("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    items = (each for i in range(services) for each in (service(f"s{i}"), slice_(i, ENDPOINTS)))
    create(plane, items, bench.say)
    bootstrap = bench.kafka(DEFAULT_PARTITIONS)
    worker = bench.facets("worker", "work", "--bootstrap-servers", bootstrap, "--http-port", str(free_port()),
                          "--instance", "bench", "--data-dir", str(bench.folder / "data"))  # fmt: skip
    worker.says("assigned partitions")
    bench.say("the bare list")
    bare = [_bare(bench, str(plane.kubeconfig))]
    bench.say("the first list")
    launched = time.time()
    watcher = bench.facets("watcher", "watch", "--bootstrap-servers", bootstrap,
                           "--kubeconfig", str(plane.kubeconfig), "--cluster", "east")  # fmt: skip
    rows, opened, done = asyncio.run(_all_sealed(bootstrap))
    for part in (watcher, worker):
        part.check()
    # So that it has nothing to follow while the bare list runs again.
    watcher.end()
    bench.say("the bare list again")
    bare.append(_bare(bench, str(plane.kubeconfig)))
    if min(rows.values()) < services:
        raise RuntimeError(f"the tables have {rows} rows, not {services}")
    note = f"{services} Services, {services * ENDPOINTS} endpoints. {SHARED}"
    yield Figure("first list to sealed tables", done - opened, "s", min(bare), "bare paginated list",
                 at_most_times(1.5), note)  # fmt: skip
    yield Figure("first list, with the watcher's own start", done - launched, "s", note=note)
    took = [asyncio.run(_bootstrap(bootstrap, services)) for _ in range(3)]
    yield Figure("subscriber bootstrap after the first list", min(took), "s", goal=at_most(2), note=note)


def _bare(bench: Bench, kubeconfig: str) -> float:
    """Seconds that the process took by its own clock."""
    part = bench.start(f"bare-{time.time_ns()}", "-m", "tests.bench.clients", "bare-list", kubeconfig)
    part.finish()
    answer = orjson.loads(part.text().splitlines()[-1])
    bench.say(f"the bare list: {answer}")
    seconds: float = answer["seconds"]
    return seconds


async def _all_sealed(bootstrap: str) -> tuple[dict[str, int], float, float]:
    """How many rows each table has once every partition has sealed the end of the snapshot, when the epoch was
    opened, and when the last seal came."""
    waiting = {TopicPartition(topic_of(table), p) for table in TABLES for p in range(DEFAULT_PARTITIONS)}
    counts = dict.fromkeys(map(topic_of, TABLES), 0)
    opened: list[float] = []
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=50) as consumer, asyncio.timeout(600):
        consumer.assign(list(waiting))
        await consumer.seek_to_beginning()
        while waiting:
            for each, records in (await consumer.getmany(timeout_ms=1000)).items():
                for record in records:
                    counts[each.topic] += not record.key.startswith(b"~")
                    if not record.key.startswith(SEAL_PREFIX):
                        continue
                    seal = orjson.loads(record.value)
                    if seal["phase"] == "begin":
                        opened.append(read(seal["at"]).timestamp())
                    elif seal["phase"] == "end":
                        waiting.discard(each)
    return counts, min(opened), time.time()


async def _bootstrap(bootstrap: str, services: int) -> float:
    began = time.perf_counter()
    async with Subscriber(bootstrap, tables=("backend",)) as subscriber:
        snapshot = await subscriber.snapshot()
    took = time.perf_counter() - began
    if len(snapshot.rows) < services:
        raise RuntimeError(f"the snapshot has {len(snapshot.rows)} rows, not {services}")
    return took
