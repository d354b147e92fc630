"""One `facets serve` process with many clients, at 100 changes a second.

50 Services of 2 endpoints; each change gives one of them an address that it never had. All clients follow all of them:
500 xDS clients (delta EDS, each on its own connection, acknowledging), then 1,000 clients of the server-sent events. A
change's time runs from before it is written to the journal to when the last client has it, or a later state of the same
Service: xDS sends what is newest and has no history. Memory is what the resident size of the serve process grew by when
the clients had come. Then the same with one more client that never reads.
"""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import psutil

from streams.objects.reflector import Kind, ReflectorEvent
from streams.wire.records import JOURNAL
from tests.bench.bench import Bench, Part, free_port
from tests.bench.figures import Figure, at_least, at_most
from tests.bench.made_up import MadeUp, producer, publish

PARTITIONS = 8
SERVICES = 50
RATE = 100
MEMORY_GOAL_KIB = 50
NAMES = [f"s{i}.shop.svc.cluster.local:80" for i in range(SERVICES)]


class Change(NamedTuple):
    """A change of a Service: the version that it made, and when it was written (unix time)."""

    service: int
    version: int
    at: float


class Driver:
    """Writes changes to the journal, at a steady rate."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._cluster = MadeUp(SERVICES, 2, PARTITIONS)
        self._count = 0

    async def start(self) -> None:
        """The first snapshot."""
        async with producer(self._bootstrap) as to:
            await publish(to, self._cluster.start())

    async def change(self, count: int) -> list[Change]:
        """So many changes, one Service after the other."""
        sent = []
        async with producer(self._bootstrap) as to:
            began = time.time()
            for turn in range(count):
                await asyncio.sleep(max(0.0, began + turn / RATE - time.time()))
                service = self._count % SERVICES
                self._count += 1
                item = self._cluster.slice(service)
                address = f"172.{16 + self._count // 65536}.{self._count // 256 % 256}.{self._count % 256}"
                item["endpoints"][0]["addresses"] = [address]
                version = item["metadata"]["resourceVersion"]
                self._cluster.collector.ingest("EndpointSlice", ReflectorEvent(Kind.APPLY, item, version))
                at = time.time()
                (record,) = self._cluster.collector.flush("2026-11-24T12:00:00.000Z")
                future = await to.send(JOURNAL, record.value, key=b"east", partition=record.partition)
                sent.append((service, future, at))
            return [Change(service, (await future).offset, at) for service, future, at in sent]


def run(bench: Bench) -> Iterator[Figure]:
    """xDS, then server-sent events."""
    bootstrap = bench.kafka(PARTITIONS)
    worker = bench.facets("worker", "work", "--bootstrap-servers", bootstrap, "--http-port", str(free_port()),
                          "--instance", "bench", "--data-dir", str(bench.folder / "data"))  # fmt: skip
    worker.says("assigned partitions")
    driver = Driver(bootstrap)
    asyncio.run(driver.start())
    for kind, name, count in (("xds", "xDS", 50 if bench.quick else 500), ("sse", "SSE", 100 if bench.quick else 1000)):
        serve = bench.facets(f"serve-{kind}", "serve", "--bootstrap-servers", bootstrap, "--xds-port", "0",
                             "--http-port", "0", "--max-http-clients", "2000")  # fmt: skip
        serve.says("facets serve: xDS on")
        found = re.search(r"xDS on 127\.0\.0\.1:(\d+), HTTP on http://127\.0\.0\.1:(\d+)", serve.text())
        port = found[1 if kind == "xds" else 2]  # type: ignore[index]
        asyncio.run(driver.change(2 * SERVICES))  # warm
        yield from _measure(bench, driver, serve, port, kind, name, count)
        serve.end()


def _measure(
    bench: Bench, driver: Driver, serve: Part, port: str, kind: str, name: str, count: int
) -> Iterator[Figure]:
    changes = RATE * (5 if bench.quick else 20)
    process = psutil.Process(serve.pid)
    bench.say(f"{count} {name} clients come")
    before = process.memory_info().rss
    names = NAMES if kind == "xds" else []
    late: dict[str, np.ndarray] = {}
    note = (
        f"{count} clients, {changes} changes of {SERVICES} Services. The clients, the worker, the broker and the load "
        "share the cores with the server."
    )
    for run_name in ("alone", "with one that never reads"):
        out = bench.folder / f"{kind}-{run_name.partition(' ')[0]}.npy"
        clients = bench.start(f"clients-{out.stem}", "-m", "tests.bench.fan_out_clients", kind, port, str(count),
                              str(out), *names)  # fmt: skip
        clients.says("ready", 180)
        if run_name == "alone":
            grown = (process.memory_info().rss - before) / count / 1024
            yield Figure(f"{name}: memory a subscriber", grown, "KiB", goal=at_most(MEMORY_GOAL_KIB), note=note)
        else:
            stuck = bench.start(f"stuck-{kind}", "-m", "tests.bench.fan_out_clients", f"stuck-{kind}", port, "1",
                                "-", *names)  # fmt: skip
            stuck.says("ready")
        bench.say(f"{changes} changes to {count} {name} clients, {run_name}")
        used = process.cpu_times()
        began = time.time()
        sent = asyncio.run(driver.change(changes))
        busy = process.cpu_times()
        core = (busy.user + busy.system - used.user - used.system) / (time.time() - began)
        last = {str(each.service): each.version for each in sent}
        clients.process.stdin.write(orjson.dumps(last))  # type: ignore[union-attr]
        clients.process.stdin.close()  # type: ignore[union-attr]
        clients.finish()
        serve.check()
        missed, late[run_name] = _lateness(out, sent, count)
        if run_name == "alone":
            yield Figure(f"{name}: changes that came to all, at {RATE}/s", 100 * (1 - missed / len(sent)), "%",
                         goal=at_least(100), note=note)  # fmt: skip
            for share in (50, 99):
                yield Figure(f"{name}: change to the last subscriber, p{share}",
                             1000 * float(np.percentile(late[run_name], share)), "ms", note=note)  # fmt: skip
            yield Figure(f"{name}: core of the server in use", 100 * core, "%", note=note)
        else:
            both = [1000 * float(np.percentile(late[each], 99)) for each in late]
            yield Figure(f"{name}: p99 beside one that never reads", both[1], "ms", both[0], "without it", note=note)
            yield Figure(f"{name}: changes that came to all beside it", 100 * (1 - missed / len(sent)), "%",
                         goal=at_least(100), note=note)  # fmt: skip


def _lateness(out: Path, sent: list[Change], count: int) -> tuple[int, np.ndarray]:
    """How many changes did not come to all clients, and of the others, how long each took to the last one."""
    came = np.load(out)
    last = np.zeros(len(sent))
    of_service = {
        service: np.array([i for i, each in enumerate(sent) if each.service == service]) for service in range(SERVICES)
    }
    versions = np.array([each.version for each in sent], dtype=float)
    order = np.lexsort((came[:, 2], came[:, 1], came[:, 0]))
    came = came[order]
    groups = np.flatnonzero(np.diff(came[:, 0] * SERVICES + came[:, 1], prepend=-1))
    seen: dict[int, int] = dict.fromkeys(range(SERVICES), 0)
    for begin, end in zip(groups, np.append(groups[1:], len(came)), strict=True):
        service = int(came[begin, 1])
        wanted = of_service[service]
        seen[service] += 1
        # Times of what came can't go back: when a version or any later one came is the least of the times behind it.
        times = np.minimum.accumulate(came[begin:end, 3][::-1])[::-1]
        found = np.searchsorted(came[begin:end, 2], versions[wanted])
        at = np.where(found < end - begin, times[np.minimum(found, end - begin - 1)], np.inf)
        last[wanted] = np.maximum(last[wanted], at)
    for service, clients in seen.items():
        if clients < count:
            last[of_service[service]] = np.inf
    lateness = last - np.array([each.at for each in sent])
    there = np.isfinite(lateness)
    return int(np.count_nonzero(~there)), lateness[there]
