"""What `facets serve` takes to have many HTTP clients follow: CPU, memory for each, and how late the changes come.

A worker folds a cluster of 1,000 Services with 10 endpoints each; then clients connect to /v1/changes (backend table,
a snapshot each), and single changes come at a steady rate. Clients count what they get; every hundredth also times each
event, from the commit's time to its reading. All is on the same cores, so late is also what the machine is too small
for: the figure to look at is the server's own CPU.
"""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import psutil
import uvloop

from streams.wire.partitioning import DEFAULT_PARTITIONS
from streams.wire.timestamps import read, write
from tests.bench.bench import SHARED, Bench, free_port
from tests.bench.figures import Figure, at_most
from tests.bench.made_up import MadeUp, producer, publish, sealed

SERVICES, RATE = 1000, 100
_BATCH, _LAST, _AT = b"event: batch\n", b'"last":true', b'"at":"'
_REQUEST = b"GET /v1/changes?table=backend HTTP/1.1\r\nHost: bench\r\n\r\n"


class _Client(asyncio.Protocol):
    """Counts events without keeping them; where it is `timed`, `late` are seconds from commit to reading."""

    def __init__(self, timed: bool) -> None:
        self.batches = 0
        self.ready = asyncio.Event()
        self.late: list[float] = []
        self._timed = timed
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self.ready.is_set():
            self._rest = data[-len(_LAST) + 1 :]
            if _LAST in data:
                self.ready.set()
                self._rest = b""
        elif not self._timed:
            self.batches += data.count(_BATCH)
            self._rest = data[-len(_BATCH) + 1 :]
        else:
            *whole, self._rest = data.split(b"\n\n")
            for each in whole:
                if _BATCH in each:
                    self.batches += 1
                    start = each.index(_AT) + len(_AT)
                    self.late.append(time.time() - read(each[start : start + 24].decode()).timestamp())


def run(bench: Bench) -> Iterator[Figure]:
    """Clients, then changes."""
    clients, seconds = (1000, 10) if bench.quick else (1000, 30)
    bootstrap = bench.kafka(DEFAULT_PARTITIONS)
    cluster = MadeUp(SERVICES, 10, DEFAULT_PARTITIONS)
    bench.facets("work", "work", "--bootstrap-servers", bootstrap, "--http-port", str(free_port()))
    asyncio.run(_fill(bootstrap, cluster))
    port = free_port()
    server = bench.facets(
        "serve", "serve", "--bootstrap-servers", bootstrap, "--http-port", str(port), "--xds-port", "0"
    )
    server.says("HTTP on")
    cpu, each, whole, late, got = uvloop.run(_follow(bench, bootstrap, cluster, server.pid, port, clients, seconds))
    wanted = clients * RATE * seconds
    if got < wanted:
        raise RuntimeError(f"{got} batches came, not {wanted}")
    note = f"{clients} clients, {RATE} changes/s for {seconds} s, each to all of them, 10 endpoints a row. {SHARED}"
    late.sort()
    yield Figure("changes over HTTP: CPU", cpu, "cores", goal=at_most(1), note=note)
    yield Figure(
        "changes over HTTP: memory a client",
        each / 1024,
        "KiB",
        goal=at_most(50),
        note=f"{note} From one client to all of them, each with its snapshot, before the changes.",
    )
    yield Figure("changes over HTTP: memory of the server", whole / 2**20, "MiB", note=f"{note} With all rows and the "
                 "ring, after the changes.")  # fmt: skip
    yield Figure("changes over HTTP: commit to client p50", 1000 * late[len(late) // 2], "ms", note=note)
    yield Figure("changes over HTTP: commit to client p99", 1000 * late[int(len(late) * 0.99)], "ms", note=note)


async def _fill(bootstrap: str, cluster: MadeUp) -> None:
    async with producer(bootstrap) as to:
        records = cluster.start(_now())
        await publish(to, records)
        await to.flush()
    counts: dict[int, int] = {}
    for record in records:
        counts[record.partition] = counts.get(record.partition, -1) + 1
    await sealed(bootstrap, counts)


async def _follow(
    bench: Bench, bootstrap: str, cluster: MadeUp, pid: int, port: int, clients: int, seconds: int
) -> tuple[float, float, float, list[float], int]:
    loop = asyncio.get_running_loop()
    process = psutil.Process(pid)
    bench.say(f"connecting {clients} clients")
    following: list[_Client] = []
    before = 0
    while len(following) < clients:
        timed = len(following) % 100 == 0
        transport, client = await loop.create_connection(lambda timed=timed: _Client(timed), "127.0.0.1", port)
        transport.write(_REQUEST)
        await client.ready.wait()
        following.append(client)
        # The first one has all rows encoded.
        before = before or process.memory_info().rss
    each = (process.memory_info().rss - before) / (clients - 1)
    bench.say(f"{RATE} changes a second for {seconds} s")
    async with producer(bootstrap) as to:
        began, used = time.monotonic(), process.cpu_times()[:2]
        for i in range(RATE * seconds):
            await publish(to, cluster.change(at=_now()))
            await asyncio.sleep(max(0.0, began + (i + 1) / RATE - time.monotonic()))
        await to.flush()
        while sum(client.batches for client in following) < clients * RATE * seconds:
            if time.monotonic() > began + 10 * seconds:
                break
            await asyncio.sleep(0.05)
        user, system = (now - then for now, then in zip(process.cpu_times()[:2], used, strict=True))
        bench.say(
            f"it took {time.monotonic() - began:.0f} s, the server {user:.1f} s of CPU and the kernel {system:.1f}"
        )
    late = [each for client in following for each in client.late]
    # Held against the time that the changes were made in: on a busy machine they come later, at the same cost.
    return (user + system) / seconds, each, process.memory_info().rss, late, sum(client.batches for client in following)


def _now() -> str:
    return write(datetime.now(UTC))
