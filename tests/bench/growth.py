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

from streams.core.collector import JournalRecord
from streams.core.partitioning import DEFAULT_PARTITIONS
from streams.core.records import JOURNAL
from tests.bench import plots
from tests.bench.bench import SHARED, Bench, Part, free_port
from tests.bench.figures import Figure, at_most_times
from tests.bench.made_up import MadeUp, ends_of, producer, publish, sealed

FLAT = 1.5
"""A cost that grows by less, while Services become 100 times as many, is called flat."""


def run(bench: Bench) -> Iterator[Figure]:
    """Workers, Services, endpoints, memory."""
    changes = 2000 if bench.quick else 10_000
    yield from _workers(bench, changes)
    services = (100, 1000) if bench.quick else (100, 1000, 10_000)
    costs: dict[str, list[tuple[float, float]]] = {"10 endpoints each": []}
    sizes: list[tuple[int, float]] = []
    for count in services:
        cost, memory = _cost(bench, f"services-{count}", count, 10, changes)
        costs["10 endpoints each"].append((count, cost))
        sizes.append((count * 10, memory))
    (_, first), *_, (most, last) = costs["10 endpoints each"]
    yield Figure(f"cost of a change with {most:.0f} Services", last, "us of a core", first, f"with {services[0]}",
                 at_most_times(FLAT), f"{changes} changes of one of 10 endpoints, in commits of one.")  # fmt: skip
    endpoints, memory = sizes[-1]
    yield Figure("worker memory for 1,000 endpoints", memory / endpoints * 1000 / 1024, "KiB",
                 note=f"{services[-1]} Services of 10 endpoints; resident size beyond an empty worker's.")  # fmt: skip
    plots.lines(
        bench.out / "growth-services.svg", costs, "Cost of a change as Services grow", "Services", "us of a core"
    )
    by_endpoints: list[tuple[float, float]] = []
    for count in (1, 10, 100, 1000) if bench.quick else (1, 10, 100, 1000, 5000):
        some = max(100, changes // max(1, count // 10))
        cost, _ = _cost(bench, f"endpoints-{count}", 20, count, some)
        by_endpoints.append((count, cost))
        yield Figure(f"cost of a change, {count} endpoints in the slice", cost, "us of a core",
                     note="One endpoint of the slice changes; the journal carries the whole slice.")  # fmt: skip
    plots.lines(bench.out / "growth-endpoints.svg", {"20 Services": by_endpoints},
                "Cost of a change as a slice grows", "endpoints in the slice", "us of a core")  # fmt: skip


def _workers(bench: Bench, changes: int) -> Iterator[Figure]:
    rates = []
    for count in (1, 2):
        with Bench(bench.name, bench.folder / f"workers-{count}", bench.out, quick=bench.quick, say=bench.say) as own:
            bootstrap = own.kafka(DEFAULT_PARTITIONS)
            cluster = MadeUp(1000, 10, DEFAULT_PARTITIONS)
            workers = [_worker(own, bootstrap, f"w{i}") for i in range(count)]
            for worker in workers:
                worker.says("assigned partitions")
            bench.say(f"{changes} changes with {count} workers")
            rates.append(asyncio.run(_throughput(bootstrap, cluster, changes)))
            for worker in workers:
                worker.check()
    note = f"{changes} commits of one change each, 8 partitions. {SHARED}"
    yield Figure("throughput, 1 worker", rates[0], "commits/s", note=note)
    yield Figure("throughput, 2 workers", rates[1], "commits/s", rates[0], "1 worker", note=note)


def _worker(bench: Bench, bootstrap: str, name: str) -> Part:
    return bench.facets(name, "work", "--bootstrap-servers", bootstrap, "--web-port", str(free_port()),
                        "--instance", name, "--data-dir", str(bench.folder / "data"))  # fmt: skip


async def _throughput(bootstrap: str, cluster: MadeUp, changes: int) -> float:
    """Commits a second, of a burst."""
    records = cluster.start()
    await _write(bootstrap, records)
    await _all_sealed(bootstrap)
    burst = [record for _ in range(changes) for record in cluster.change()]
    began = time.time()
    await _write(bootstrap, burst)
    return changes / (await _all_sealed(bootstrap) - began)


def _cost(bench: Bench, name: str, services: int, endpoints: int, changes: int) -> tuple[float, float]:
    """Microseconds of a core that a change costs the worker, and how many bytes the cluster takes in it."""
    with Bench(bench.name, bench.folder / name, bench.out, quick=bench.quick, say=bench.say) as own:
        bootstrap = own.kafka(DEFAULT_PARTITIONS)
        worker = _worker(own, bootstrap, "worker")
        worker.says("assigned partitions")
        bench.say(f"{changes} changes of {services} Services of {endpoints} endpoints")
        process = psutil.Process(worker.pid)
        empty = process.memory_info().rss
        cluster = MadeUp(services, endpoints, DEFAULT_PARTITIONS)
        asyncio.run(_settle(bootstrap, cluster.start()))
        size = process.memory_info().rss - empty
        # Processor time that passes without changes is not theirs: heartbeats are few, and the worker is idle else.
        before = process.cpu_times()
        asyncio.run(_settle(bootstrap, [record for _ in range(changes) for record in cluster.change()]))
        after = process.cpu_times()
        worker.check()
    return 1e6 * (after.user + after.system - before.user - before.system) / changes, size


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
