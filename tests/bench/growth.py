"""What grows with a cluster: throughput with workers, cost of a change with Services and with endpoints, and memory.

Workers: a burst of single changes is written to the journal as fast as it goes, and folded by one worker or by two; the
time is from its first record to the last seal. The cost of a change is the processor time that a worker
took for it (its own, user and system, whatever else the cores did), by the number of Services at 10 endpoints each, and
by the number of endpoints of 20 Services. Memory is the worker's resident size beyond an empty one's.
"""

import asyncio
import time
from collections.abc import Iterator

import psutil
from aiokafka import AIOKafkaConsumer

from streams.objects.commits import JournalRecord
from streams.wire.partitioning import DEFAULT_PARTITIONS
from streams.wire.records import JOURNAL
from tests.bench import plots
from tests.bench.bench import SHARED, Bench, Part, free_port
from tests.bench.figures import Figure, at_most_times
from tests.bench.made_up import MadeUp, ends_of, producer, publish, sealed

FLAT = 1.5
"""A cost that grows by less, while Services become 100 times as many, is called flat."""

ROUNDS = 3
"""The cheapest of three counts: a checkpoint, of all that the worker holds, falls into one of them at most."""


def run(bench: Bench) -> Iterator[Figure]:
    """Workers, Services, endpoints, memory."""
    changes = 1000 if bench.quick else 10_000
    yield from _workers(bench, changes)
    bootstrap = bench.kafka(DEFAULT_PARTITIONS)
    worker = _worker(bench, bootstrap, "worker")
    worker.says("assigned partitions")
    services = (100, 1000) if bench.quick else (100, 1000, 10_000)
    costs: list[tuple[float, float]] = []
    for count in services:
        cost, memory = _cost(bench, worker, bootstrap, count, 10, changes)
        costs.append((count, cost))
    yield Figure(f"cost of a change with {services[-1]} Services", costs[-1][1], "us of a core",
                 costs[0][1], f"with {services[0]}", at_most_times(FLAT),
                 f"{changes} changes of one of 10 endpoints, in commits of one.")  # fmt: skip
    yield Figure("worker memory for 1,000 endpoints", memory / services[-1] / 10 * 1000 / 1024, "KiB",
                 note=f"{services[-1]} Services of 10 endpoints; what the worker's resident size grew by.")  # fmt: skip
    plots.lines(bench.out / "growth-services.svg", {"10 endpoints each": costs},
                "Cost of a change as Services grow", "Services", "us of a core")  # fmt: skip
    costs = []
    for count in (1, 10, 100, 1000) if bench.quick else (1, 10, 100, 1000, 5000):
        cost, _ = _cost(bench, worker, bootstrap, 20, count, max(100, changes // max(1, count // 10)))
        costs.append((count, cost))
        yield Figure(f"cost of a change, {count} endpoints in the slice", cost, "us of a core",
                     note="One endpoint of the slice changes; the journal and the row carry all of it.")  # fmt: skip
    plots.lines(bench.out / "growth-endpoints.svg", {"20 Services": costs},
                "Cost of a change as a slice grows", "endpoints in the slice", "us of a core")  # fmt: skip


def _workers(bench: Bench, changes: int) -> Iterator[Figure]:
    rates = []
    with Bench(bench.name, bench.folder / "workers", bench.out, quick=bench.quick, say=bench.say) as own:
        bootstrap = own.kafka(DEFAULT_PARTITIONS)
        cluster = MadeUp(1000, 10, DEFAULT_PARTITIONS)
        first = _worker(own, bootstrap, "w1")
        first.says("assigned partitions")
        asyncio.run(_settle(bootstrap, cluster.start()))
        for count in (1, 2):
            if count == 2:
                known = len(first.text())
                # With a static name each keeps what it is given: the first gives up half when the second comes.
                second = _worker(own, bootstrap, "w2")
                second.says("assigned partitions [")
                first.says("assigned partitions [", after=known)
            bench.say(f"{changes} changes with {count} workers")
            rates.append(asyncio.run(_throughput(bootstrap, cluster, changes)))
        for worker in (first, second):
            worker.check()
    note = f"{changes} commits of one change each, 8 partitions. {SHARED}"
    yield Figure("throughput, 1 worker", rates[0], "commits/s", note=note)
    yield Figure("throughput, 2 workers", rates[1], "commits/s", rates[0], "1 worker", note=note)


def _worker(bench: Bench, bootstrap: str, name: str) -> Part:
    return bench.facets(name, "work", "--bootstrap-servers", bootstrap, "--http-port", str(free_port()),
                        "--instance", name, "--data-dir", str(bench.folder / "data"))  # fmt: skip


async def _throughput(bootstrap: str, cluster: MadeUp, changes: int) -> float:
    """Commits a second, of a burst."""
    burst = [record for _ in range(changes) for record in cluster.change()]
    began = time.time()
    await _write(bootstrap, burst)
    return changes / (await _all_sealed(bootstrap) - began)


def _cost(
    bench: Bench, worker: Part, bootstrap: str, services: int, endpoints: int, changes: int
) -> tuple[float, float]:
    """Microseconds of a core that a change costs the worker, and by how many bytes a cluster of its own made it grow.
    What other clusters it holds by then takes no part in the change."""
    bench.say(f"{changes} changes of {services} Services of {endpoints} endpoints")
    process = psutil.Process(worker.pid)
    before = process.memory_info().rss
    cluster = MadeUp(services, endpoints, DEFAULT_PARTITIONS, cluster=f"c{services}-{endpoints}")
    asyncio.run(_settle(bootstrap, cluster.start()))
    grown = process.memory_info().rss - before
    costs = []
    for _ in range(ROUNDS):
        burst = [record for _ in range(changes // ROUNDS) for record in cluster.change()]
        idle = process.cpu_times()
        asyncio.run(_settle(bootstrap, burst))
        used = process.cpu_times()
        costs.append(1e6 * (used.user + used.system - idle.user - idle.system) / len(burst))
    worker.check()
    return min(costs), grown


async def _settle(bootstrap: str, records: list[JournalRecord]) -> None:
    await _write(bootstrap, records)
    await _all_sealed(bootstrap)


async def _write(bootstrap: str, records: list[JournalRecord]) -> None:
    async with producer(bootstrap) as to:
        await publish(to, records)


async def _all_sealed(bootstrap: str) -> float:
    """When all that is in the journal is sealed."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as probe:
        ends = await ends_of(probe, JOURNAL, DEFAULT_PARTITIONS)
    return max(await sealed(bootstrap, {p: end - 1 for p, end in ends.items() if end}))
