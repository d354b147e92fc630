"""How long a killed worker takes to serve again, and a new subscriber to have everything.

A worker folds a cluster of Services with 10 endpoints each, then single changes, and heartbeats (one commit to each
of 8 partitions). It is killed with SIGKILL; a heartbeat that the fold has not seen is put into the journal; the worker
is started again. The time is from its start to the seal of that heartbeat: in the first partition to have it, and in
all. With the checkpoint, and with the checkpoint deleted. Then a Subscriber takes a snapshot of the backend table.
"""

import asyncio
import random
import shutil
import time
from collections.abc import Iterator

from aiokafka import AIOKafkaConsumer

from streams.subscription.client import Subscriber
from streams.wire.partitioning import DEFAULT_PARTITIONS
from streams.wire.records import JOURNAL, TABLES, topic_of
from tests.bench.bench import Bench, Part, free_port
from tests.bench.figures import Figure, at_most
from tests.bench.made_up import AT, MadeUp, ends_of, producer, publish, sealed

ENDPOINTS = 10


def run(bench: Bench) -> Iterator[Figure]:
    """Restarts, then the bootstrap of a subscriber."""
    services, changes, heartbeats = (1000, 5000, 3000) if bench.quick else (10_000, 50_000, 10_000)
    bootstrap = bench.kafka(DEFAULT_PARTITIONS)
    cluster = MadeUp(services, ENDPOINTS, DEFAULT_PARTITIONS)
    worker = _worker(bench, bootstrap)
    size = f"{services} Services, {services * ENDPOINTS} endpoints"
    bench.say(f"folding {size}, {changes} changes and {heartbeats} heartbeats")
    history, commits, seconds = asyncio.run(_fold(bootstrap, cluster, changes, heartbeats))
    yield Figure("history: commits folded a second", commits / seconds, "commits/s",
                 note=f"{size}; {history}, while the load generator wrote the journal on the same cores.")  # fmt: skip
    # Long enough for the checkpoints of what was folded.
    checkpoints = bench.folder / "data" / "work" / "bench" / "checkpoints"
    worker.until(lambda: len(list(checkpoints.glob("*"))) == DEFAULT_PARTITIONS, "it has checkpointed every partition")
    for name, keep in (("with checkpoint", True), ("without checkpoint", False)):
        bench.say(f"restart {name}")
        worker.kill()
        if not keep:
            shutil.rmtree(checkpoints)
        wanted = asyncio.run(_one_more(bootstrap, cluster))
        started = time.time()
        times, worker = asyncio.run(_restart(bench, bootstrap, wanted))
        note = f"{size}; {history}"
        yield Figure(f"restart {name}: first new seal", times[0] - started, "s", goal=at_most(5), note=note)
        yield Figure(f"restart {name}: all partitions", times[-1] - started, "s", note=note)
    bench.say("subscriber bootstrap")
    rows, took = asyncio.run(_bootstrap(bootstrap))
    if rows != services:
        raise RuntimeError(f"the snapshot has {rows} rows, not {services}")
    yield Figure("subscriber bootstrap (backend)", took, "s", goal=at_most(2),
                 note=f"{size}; {history}; uncompacted changelogs, as inside the resume window.")  # fmt: skip


def _worker(bench: Bench, bootstrap: str) -> Part:
    return bench.facets(
        "worker", "work", "--bootstrap-servers", bootstrap, "--http-port", str(free_port()), "--instance", "bench",
        "--data-dir", str(bench.folder / "data"),
    )  # fmt: skip


async def _fold(bootstrap: str, cluster: MadeUp, changes: int, heartbeats: int) -> tuple[str, int, float]:
    """What there is in the journal and the changelogs, how many commits, and in how many seconds they were folded."""
    chance = random.Random(1)
    turns = ["change"] * changes + ["heartbeat"] * heartbeats
    chance.shuffle(turns)
    async with producer(bootstrap) as to, AIOKafkaConsumer(bootstrap_servers=bootstrap) as probe:
        began = time.time()
        await publish(to, cluster.start())
        for turn in turns:
            await publish(to, cluster.change() if turn == "change" else cluster.collector.heartbeat(AT))
        await to.flush()
        ends = await ends_of(probe, JOURNAL, DEFAULT_PARTITIONS)
        await sealed(bootstrap, {p: end - 1 for p, end in ends.items()})
        seconds = time.time() - began
        logs = {table: sum((await ends_of(probe, topic_of(table), DEFAULT_PARTITIONS)).values()) for table in TABLES}
    commits = sum(ends.values())
    return f"{commits} commits, {sum(logs.values())} changelog records", commits, seconds


async def _one_more(bootstrap: str, cluster: MadeUp) -> dict[int, int]:
    """A heartbeat in each partition, and its offsets."""
    async with producer(bootstrap) as to, AIOKafkaConsumer(bootstrap_servers=bootstrap) as probe:
        before = await ends_of(probe, JOURNAL, DEFAULT_PARTITIONS)
        await publish(to, cluster.collector.heartbeat(AT))
        await to.flush()
    return before


async def _restart(bench: Bench, bootstrap: str, wanted: dict[int, int]) -> tuple[list[float], Part]:
    worker = _worker(bench, bootstrap)
    return await sealed(bootstrap, wanted), worker


async def _bootstrap(bootstrap: str) -> tuple[int, float]:
    began = time.perf_counter()
    async with Subscriber(bootstrap, tables=("backend",)) as subscriber:
        snapshot = await subscriber.snapshot()
    return len(snapshot.rows), time.perf_counter() - began
