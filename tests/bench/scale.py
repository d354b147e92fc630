"""Many clusters as one: 250 of 1,000 endpoints (100 nodes) each, and 325 changes a second, after cilium #33562.

The clusters are a fleet of mocked API servers in one process (`fleet`); `facets watch` follows all of them in one
process, `facets work` and `facets serve` run beside it, all as users run them, on a real broker. A tenth of the
Services is exported by all clusters (sets of 5,000 endpoints), a tenth by three each.

In this order: the first lists of all; a time in which nothing changes; changes of one endpoint each at a steady rate;
the same while a cluster joins (a `facets watch` of its own); the same while one cluster changes as fast as it can
(linkerd #12608). A latency is from the moment before a change until a subscriber has its address: one that follows all
endpoint sets over SSE, routers that follow all Services of their own cluster over xDS, and one router that follows
the clusterset's names.
"""

import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from kafka import KafkaConsumer, TopicPartition

from streams.wire.partitioning import DEFAULT_PARTITIONS
from streams.wire.records import FOLDED_TABLES, JOURNAL, topic_of
from tests.bench.bench import Bench, Part, free_port
from tests.bench.figures import Figure, Goal, at_least, at_most
from tests.bench.fleet import Change, change, changes
from tests.bench.fleet_cluster import NAMESPACE, Shape, cluster_name, service_name
from tests.bench.scale_clients import READY

DAY = 86_400
SHAPE = Shape(services=50, endpoints=20, nodes=100, shared=5, some=5)
_ALL_CAME_SECONDS = 120.0
_SEAL_BACK = 64
"""How many records from a changelog's end the newest seal is looked for at first."""


class Load(NamedTuple):
    """How much: clusters, changes a second of all of them, and of the one that floods; times in seconds. `routers` is
    how many clusters have one that follows its own cluster."""

    clusters: int
    rate: float
    flood_rate: float
    settle: float
    idle: float
    churn: float
    beside: float
    routers: int


FULL = Load(250, 325, 2000, settle=10, idle=305, churn=40, beside=20, routers=10)
QUICK = Load(10, 33, 500, settle=3, idle=4, churn=5, beside=6, routers=3)


class Used(NamedTuple):
    """Processor seconds of each process, the bytes of all topics, and when that was."""

    cpu: dict[str, float]
    bytes: int
    at: float


class Client(NamedTuple):
    """A subscriber: its name in figures, its process, and the file that it writes; `clusters` are those whose changes
    come to it, `services` the beginnings of the names of their Services."""

    name: str
    part: Part
    file: Path
    clusters: frozenset[str]
    services: tuple[str, ...] = ("",)

    def is_sent(self, each: Change) -> bool:
        """Whether a change should come to it."""
        return each.cluster in self.clusters and each.service.startswith(self.services)


def run(bench: Bench) -> Iterator[Figure]:
    """The phases, one after the other."""
    yield from measure(bench, QUICK if bench.quick else FULL)


def measure(bench: Bench, load: Load) -> Iterator[Figure]:
    """All figures at this load."""
    scale = _Scale(bench, load)
    yield from scale.first_list()
    yield from scale.idle()
    scale.connect()
    yield from scale.steady()
    yield from scale.join()
    yield from scale.flood()
    yield from scale.memory()


class _Scale:
    """The parts, and the phases in which they are measured. The fleet has one cluster more than are followed at first:
    the one that joins."""

    def __init__(self, bench: Bench, load: Load) -> None:
        self._bench = bench
        self._load = load
        self._bootstrap = bench.kafka(DEFAULT_PARTITIONS)
        self._config = bench.folder / "kubeconfig"
        self._fleet = free_port()
        shape = [f"--{name}={value}" for name, value in SHAPE._asdict().items()]
        bench.start("fleet", "-m", "tests.bench.fleet", str(self._fleet), str(load.clusters + 1), str(self._config),
                    *shape).says("Running on")  # fmt: skip
        worker = bench.facets("worker", "work", "--bootstrap-servers", self._bootstrap, "--http-port",
                              str(free_port()), "--instance", "scale", "--data-dir",
                              str(bench.folder / "data"))  # fmt: skip
        worker.says("assigned partitions")
        self._xds, self._http = free_port(), free_port()
        serve = bench.facets("serve", "serve", "--bootstrap-servers", self._bootstrap, "--http-port", str(self._http),
                             "--xds-port", str(self._xds))  # fmt: skip
        serve.says("xDS on")
        self._parts = {"worker": worker, "serve": serve}
        self._broker = bench.broker_pid
        self._clients: list[Client] = []
        self._names = [cluster_name(number) for number in range(load.clusters)]
        endpoints = SHAPE.services * SHAPE.endpoints
        self._about = (
            f"{load.clusters} clusters of {endpoints} endpoints and {SHAPE.nodes} nodes. Fleet, load, broker and "
            "subscribers share the cores with what is measured."
        )

    # ---- the phases --------------------------------------------------------------------------------------

    def first_list(self) -> Iterator[Figure]:
        """From the watcher's start until all is sealed."""
        self._bench.say(f"the first lists of {self._load.clusters} clusters")
        before = self._used()
        began = time.monotonic()
        self._parts["watch"] = self._watch("watch", self._names)
        listed = time.monotonic() - began
        self._wait_for_seals()
        sealed = time.monotonic() - began
        used = self._shares(before, self._used())
        yield self._figure("first lists of all, in the journal", listed, "s")
        yield self._figure("first lists of all, in sealed tables", sealed, "s", note=_listed(used))
        rows = self._load.clusters * SHAPE.services
        yield self._figure("first lists: endpoints sealed a second", rows * SHAPE.endpoints / sealed, "")

    def idle(self) -> Iterator[Figure]:
        """Nothing changes but resourceVersions."""
        load = self._load
        self._bench.say(f"{load.settle + load.idle:.0f} s in which nothing happens")
        time.sleep(load.settle)
        before = self._used()
        time.sleep(load.idle)
        after = self._used()
        shares = self._shares(before, after)
        a_day = (after.bytes - before.bytes) * DAY / (after.at - before.at) / 2**20
        yield self._figure("idle: CPU of all processes", sum(shares.values()), "% of a core", at_most(10),
                           _listed(shares))  # fmt: skip
        yield self._figure("idle: bytes a day", a_day, "MiB", at_most(1024))

    def connect(self) -> None:
        """The subscribers come."""
        self._bench.say("subscribers connect")
        everywhere = frozenset(cluster_name(number) for number in range(self._load.clusters + 1))
        self._client("SSE, all endpoint sets", "sse", self._http, everywhere, ("",),
                     "table=backend&rows=changes")  # fmt: skip
        step = max(1, self._load.clusters // self._load.routers)
        for number in range(0, step * self._load.routers, step):
            names = [
                f"{service_name(SHAPE, number, i)}.{NAMESPACE}.svc.cluster.local:80" for i in range(SHAPE.services)
            ]
            self._client("xDS, a cluster's Services", "eds", self._xds, frozenset({cluster_name(number)}), ("",),
                         cluster_name(number), *names)  # fmt: skip
        first = [cluster_name(number) for number in range(3)]
        sets = [f"{service_name(SHAPE, 0, i)}" for i in range(SHAPE.shared, SHAPE.shared + SHAPE.some)]
        self._client("xDS, sets of 3 clusters", "eds", self._xds, frozenset(first), tuple(sets), first[0],
                     *(f"{name}.{NAMESPACE}.svc.clusterset.local:80" for name in sets))  # fmt: skip
        shared = [service_name(SHAPE, 0, i) for i in range(SHAPE.shared)]
        self._client("xDS, sets of all clusters", "eds", self._xds, everywhere, tuple(shared), first[1],
                     *(f"{name}.{NAMESPACE}.svc.clusterset.local:80" for name in shared))  # fmt: skip

    def steady(self) -> Iterator[Figure]:
        """Changes at the rate."""
        load = self._load
        self._bench.say(f"{load.rate:g} changes a second for {load.churn:g} s")
        begin = time.time()
        before = self._used()
        made = change(self._fleet, load.rate, load.churn, 0, load.clusters)
        shares = self._shares(before, self._used())
        sent = self._made(begin)
        self._wait_for_last(sent)
        after = self._used()
        seconds = sum(after.cpu.values()) - sum(before.cpu.values())
        at = f"at {load.rate:g}/s"
        yield self._figure(f"{at}: changes made", made / load.churn, "/s")
        yield self._figure(f"{at}: CPU of all processes", sum(shares.values()), "% of a core", note=_listed(shares))
        yield self._figure(f"{at}: CPU of a change, all processes", 1e6 * seconds / made, "us",
                           note="From the first change until all have come.")  # fmt: skip
        yield self._figure(f"{at}: bytes of a change", (after.bytes - before.bytes) / made, "bytes")
        yield from self._latencies(at, sent, at_most(250))

    def join(self) -> Iterator[Figure]:
        """Changes at the rate, while a cluster comes."""
        load, name = self._load, cluster_name(self._load.clusters)
        self._bench.say(f"cluster {name} joins")
        begin = time.time()
        with ThreadPoolExecutor(1) as pool:
            churn = pool.submit(change, self._fleet, load.rate, load.beside, 0, load.clusters)
            time.sleep(2)
            began = time.monotonic()
            self._parts["watch of one"] = self._watch("joining", [name])
            listed = time.monotonic() - began
            self._wait_for_rows(name)
            joined = time.monotonic() - began
            churn.result()
        made = self._made(begin)
        self._wait_for_last(made)
        yield self._figure("a cluster joins: in the journal", listed, "s", note="With the start of its watcher.")
        yield self._figure("a cluster joins: its rows are served", joined, "s", note="With the start of its watcher.")
        yield self._figure("while it joins: longest time in which no change came", self._longest_gap(made), "ms",
                           at_most(250), "Of all clusters' over SSE.")  # fmt: skip
        yield from self._latencies("while it joins", made, at_most(250))

    def flood(self) -> Iterator[Figure]:
        """Changes at the rate, while one cluster changes as fast as it can."""
        load, name = self._load, self._names[-1]
        self._bench.say(f"cluster {name} floods: {load.flood_rate:g} changes a second")
        begin = time.time()
        before = self._used()
        with ThreadPoolExecutor(2) as pool:
            churn = pool.submit(change, self._fleet, load.rate, load.beside, 0, load.clusters - 1)
            time.sleep(1)
            flood = pool.submit(change, self._fleet, load.flood_rate, load.beside - 2, load.clusters - 1, load.clusters)
            churn.result()
            flooded = flood.result()
        shares = self._shares(before, self._used())
        made = self._made(begin)
        others = [each for each in made if each.cluster != name]
        self._wait_for_last(made)
        yield self._figure("flood: changes of one cluster", flooded / (load.beside - 2), "/s", note=_listed(shares))
        yield from self._latencies("flood: the others' changes", others, at_most(250))
        mine = [each for each in made if each.cluster == name]
        came = self._came(self._clients[0], mine)
        late = [1000 * (came[each.address] - each.at) for each in mine if each.address in came]
        yield self._figure("flood: its own changes, p99", float(np.percentile(late, 99)), "ms")

    def memory(self) -> Iterator[Figure]:
        """At the end."""
        sizes = {name: process.memory_info().rss / 2**20 for name, process in self._processes().items()}
        for name, size in sizes.items():
            yield self._figure(f"memory of {name}", size, "MiB")

    # ---- parts -------------------------------------------------------------------------------------------

    def _watch(self, name: str, clusters: Sequence[str]) -> Part:
        """Start a watcher; returns when its first lists are in the journal."""
        probe = free_port()
        named = [argument for each in clusters for argument in ("--cluster", f"{each}={each}")]
        part = self._bench.facets(name, "watch", "--bootstrap-servers", self._bootstrap, "--kubeconfig",
                                  str(self._config), "--http-port", str(probe), *named)  # fmt: skip
        part.until(lambda: is_ready(probe), "every cluster's first lists are in the journal", 300)
        return part

    def _client(
        self, name: str, kind: str, port: int, clusters: frozenset[str], services: tuple[str, ...], *query: str
    ) -> None:
        file = self._bench.folder / f"client-{len(self._clients)}.txt"
        part = self._bench.start(f"client-{len(self._clients)}", "-m", "tests.bench.scale_clients", kind, str(port),
                                 str(file), *query)  # fmt: skip
        part.until(lambda: file.exists() and READY in file.read_text(), "it is ready")
        self._clients.append(Client(name, part, file, clusters, services))

    def _processes(self) -> dict[str, psutil.Process]:
        pids = {name: part.pid for name, part in self._parts.items()} | {"broker": self._broker}
        return {name: psutil.Process(pid) for name, pid in pids.items()}

    def _used(self) -> Used:
        for part in self._parts.values():
            part.check()
        cpu = {}
        for name, process in self._processes().items():
            times = process.cpu_times()
            cpu[name] = times.user + times.system
        logs = (self._bench.folder / "kafka").rglob("*.log")
        return Used(cpu, sum(path.stat().st_size for path in logs), time.monotonic())

    @staticmethod
    def _shares(before: Used, after: Used) -> dict[str, float]:
        """Percent of a core."""
        seconds = after.at - before.at
        return {name: 100 * (value - before.cpu.get(name, 0.0)) / seconds for name, value in after.cpu.items()}

    def _figure(self, name: str, value: float, unit: str, goal: Goal | None = None, note: str = "") -> Figure:
        goal = None if self._bench.quick else goal
        return Figure(f"{self._load.clusters} clusters, {name}", value, unit, goal=goal,
                      note=f"{note} {self._about}".strip())  # fmt: skip

    # ---- what came ---------------------------------------------------------------------------------------

    def _made(self, begin: float) -> list[Change]:
        return [each for each in changes(self._config) if each.at >= begin]

    def _came(self, client: Client, made: Sequence[Change]) -> dict[str, float]:
        """When the changes came to a client first (unix time), by address."""
        client.part.check()
        wanted = {each.address for each in made}
        lines = (line.split() for line in client.file.read_text().splitlines())
        return {line[1]: float(line[0]) for line in lines if len(line) == 2 and line[1] in wanted}

    def _latencies(self, when: str, made: Sequence[Change], goal: Goal) -> Iterator[Figure]:
        """Of the clients of each name together."""
        late: dict[str, list[float]] = {}
        sent: Counter[str] = Counter()
        for client in self._clients:
            mine = [each for each in made if client.is_sent(each)]
            came = self._came(client, mine)
            sent[client.name] += len(mine)
            late.setdefault(client.name, []).extend(
                1000 * (came[each.address] - each.at) for each in mine if each.address in came
            )
        for name, values in late.items():
            note = f"{len(values)} changes."
            for share in (50, 99):
                value = float(np.percentile(values, share)) if values else float("inf")
                yield self._figure(f"{when}: {name}, p{share}", value, "ms", goal if share == 99 else None, note)
            yield self._figure(f"{when}: {name}, changes that came", 100 * len(values) / max(1, sent[name]), "%",
                               at_least(99), note)  # fmt: skip

    def _longest_gap(self, made: Sequence[Change]) -> float:
        """Milliseconds, from the first arrival to the last, of the subscriber of all."""
        came = np.sort(np.array(list(self._came(self._clients[0], made).values())))
        return 1000 * float(np.max(np.diff(came)))

    def _wait_for_last(self, made: Sequence[Change]) -> None:
        """Until the last change of each cluster has come."""
        client = self._clients[0]
        last = {each.cluster: each.address for each in made}
        wanted = set(last.values())
        client.part.until(lambda: wanted <= self._came(client, made).keys(), "all came", _ALL_CAME_SECONDS)
        time.sleep(1)

    def _wait_for_rows(self, cluster: str) -> None:
        """Until a cluster's rows are served."""
        service = service_name(SHAPE, self._load.clusters, SHAPE.services - 1)
        address = f"http://127.0.0.1:{self._http}/v1/facets/backend/{NAMESPACE}/{service}"
        wanted = b'"cluster":"%b"' % cluster.encode()

        def is_served() -> bool:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return wanted in answer.read()

        self._parts["serve"].until(is_served, f"cluster {cluster} is served")

    def _wait_for_seals(self) -> None:
        """Until the tables have sealed what is in the journal now."""
        consumer = KafkaConsumer(bootstrap_servers=self._bootstrap, enable_auto_commit=False)
        try:
            places = [TopicPartition(JOURNAL, partition) for partition in range(DEFAULT_PARTITIONS)]
            wanted = {place.partition: end - 1 for place, end in consumer.end_offsets(places).items() if end}
            for table in FOLDED_TABLES:
                for partition, offset in wanted.items():
                    self._wait_for_seal(consumer, TopicPartition(topic_of(table), partition), offset)
        finally:
            consumer.close()

    def _wait_for_seal(self, consumer: KafkaConsumer, place: TopicPartition, offset: int) -> None:
        consumer.assign([place])
        (end,) = consumer.end_offsets([place]).values()
        consumer.seek(place, max(0, end - _SEAL_BACK))
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=200).values():
                if any(int(dict(record.headers)["v"]) >= offset for record in records):
                    return
        raise TimeoutError(f"{place} has not sealed offset {offset}")


def is_ready(port: int) -> bool:
    """Whether what answers there is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _listed(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.1f}" for name, share in shares.items()) + "."
