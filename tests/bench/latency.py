"""From a PATCH to the API server to the change in a client's hands: a Subscriber next to a raw watch, in one run.

One EndpointSlice of 10 endpoints is patched at a fixed rate, each time with another address, among 100 Services;
`facets watch` and `facets work` run as users run them, and both clients are processes of their own that decode what
they get. A latency is from the moment before the PATCH is sent. The broker stamps the records (LogAppendTime), so the
stages are, by the median: the PATCH until the watcher made its commit, until the broker had it in the journal, until
the broker had the seal, until the Subscriber had the batch. The stamps are in milliseconds; half of one is added.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import JOURNAL, topic_of
from streams.wire.timestamps import read
from tests.bench import plots
from tests.bench.bench import SHARED, Bench, Part, free_port
from tests.bench.figures import Figure, at_least, at_most_times
from tests.bench.objects import SLICES, Object, create, endpoints, service, slice_
from tests.support.controlplane import ControlPlane

PARTITIONS = 8
SERVICES = 100
ENDPOINTS = 10
WARM_UP = 40


class Received(NamedTuple):
    """When a state came, and for a row its journal partition and offset."""

    at: float
    partition: int = -1
    offset: int = -1


def run(bench: Bench) -> Iterator[Figure]:
    """Both rates."""
    bootstrap = bench.kafka(PARTITIONS)
    _stamp(bootstrap)
    plane = bench.plane()
    plane.kill("kube-controller-manager")  # the slices are made by hand
    plane.api.post("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    create(plane, [each for i in range(SERVICES) for each in (service(f"s{i}"), slice_(i, ENDPOINTS))], bench.say)
    bench.say("starting the worker and the watcher")
    worker = bench.facets("worker", "work", "--bootstrap-servers", bootstrap, "--http-port", str(free_port()),
                          "--instance", "bench", "--data-dir", str(bench.folder / "data"))  # fmt: skip
    watcher = bench.facets("watcher", "-v", "watch", "--bootstrap-servers", bootstrap,
                           "--kubeconfig", str(plane.kubeconfig), "--cluster", "east")  # fmt: skip
    watcher.says("objects are in the journal")
    raw_file, ours_file = bench.folder / "raw.txt", bench.folder / "ours.txt"
    raw = bench.start("raw-watch", "-m", "tests.bench.clients", "raw-watch", str(plane.kubeconfig), str(raw_file))
    ours = bench.start("subscriber", "-m", "tests.bench.clients", "subscriber", bootstrap, str(ours_file))
    for part, file in ((raw, raw_file), (ours, ours_file)):
        part.until(lambda file=file: file.exists() and "ready" in file.read_text(), "it is ready")  # type: ignore[misc]
    turn = 0

    def changes(rate: float, count: int) -> dict[str, float]:
        nonlocal turn
        sets = [endpoints(0, ENDPOINTS, turn=turn + i + 1) for i in range(count)]
        turn += count
        return dict(patch(plane, rate, sets))

    changes(20, WARM_UP)
    for rate, seconds in ((4, 60), (33, 30)):
        count = rate * (10 if bench.quick else seconds)
        bench.say(f"{count} changes at {rate}/s")
        sent = changes(rate, count)
        last = list(sent)[-1]
        for part, file in ((raw, raw_file), (ours, ours_file)):
            await_last(part, file, last)
        worker.check()
        yield from _compare(bench, bootstrap, rate, sent, received(raw_file), received(ours_file))


def patch(plane: ControlPlane, rate: float, sets: Iterable[list[Object]]) -> list[tuple[str, float]]:
    """Give Service 0 these endpoints one after the other, at a fixed rate, whatever the answers take: the
    resourceVersion that each got, and when its PATCH was sent (unix time)."""
    sent = []
    began = time.time()
    for i, each in enumerate(sets):
        time.sleep(max(0.0, began + i / rate - time.time()))
        at = time.time()
        answer = plane.api.patch(f"{SLICES}/s0-0", {"endpoints": each})
        sent.append((answer["metadata"]["resourceVersion"], at))
    return sent


def received(file: Path) -> dict[str, Received]:
    """What a client wrote, by state; what came first counts."""
    found: dict[str, Received] = {}
    for line in file.read_text().splitlines():
        at, *rest = line.split()
        if rest:
            found.setdefault(rest[0], Received(float(at), *map(int, rest[1:])))
    return found


def percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def await_last(part: Part, file: Path, state: str) -> None:
    """Wait until a client has a state."""
    part.until(lambda: f" {state}" in file.read_text()[-4096:], f"{state} came", 30)


def _compare(
    bench: Bench,
    bootstrap: str,
    rate: int,
    sent: dict[str, float],
    raw: dict[str, Received],
    ours: dict[str, Received],
) -> Iterator[Figure]:
    delays = {
        name: [1000 * (came[version].at - at) for version, at in sent.items() if version in came]
        for name, came in (("raw watch", raw), ("Subscriber", ours))
    }
    goals = {50: at_most_times(2), 99: at_most_times(3)}
    note = f"{len(sent)} changes of one slice of {ENDPOINTS} endpoints. {SHARED}"
    for share in (50, 90, 99):
        mine, peer = (percentile(delays[name], share / 100) for name in ("Subscriber", "raw watch"))
        yield Figure(f"latency at {rate}/s, p{share}", mine, "ms", peer, "raw watch", goals.get(share), note)
    yield Figure(f"states delivered at {rate}/s", 100 * len(delays["Subscriber"]) / len(sent), "%",
                 100 * len(delays["raw watch"]) / len(sent), "raw watch", at_least(100), note)  # fmt: skip
    stages = _stages(bootstrap, sent, ours)
    for name, values in stages.items():
        yield Figure(f"stage at {rate}/s: {name}, p50", median(values), "ms")
    plots.distribution(bench.out / f"latency-{rate}.svg", delays, f"PATCH to client at {rate} changes/s", "ms")
    plots.stages(bench.out / f"stages-{rate}.svg", {name: median(values) for name, values in stages.items()},
                 f"Median time by stage at {rate} changes/s", "ms")  # fmt: skip


def _stages(bootstrap: str, sent: dict[str, float], ours: dict[str, Received]) -> dict[str, list[float]]:
    rows = {version: each for version, each in ours.items() if version in sent}
    partitions = {each.partition for each in rows.values()}
    made: dict[tuple[int, int], float] = {}
    stored: dict[tuple[int, int], float] = {}
    for record in _records(bootstrap, JOURNAL, partitions):
        key = (record.partition, record.offset)
        made[key] = read(orjson.loads(record.value)["at"]).timestamp()
        stored[key] = record.timestamp / 1000
    seals = {
        (record.partition, int(dict(record.headers)["v"])): record.timestamp / 1000
        for record in _records(bootstrap, topic_of("backend"), partitions)
        if record.key.startswith(SEAL_PREFIX)
    }
    out: dict[str, list[float]] = {
        "API server to watcher": [],
        "watcher to journal": [],
        "journal to sealed row": [],
        "sealed row to subscriber": [],
    }
    for version, each in rows.items():
        key = (each.partition, each.offset)
        times = [sent[version], *(at + 0.0005 for at in (made[key], stored[key], seals[key])), each.at]
        for values, begin, end in zip(out.values(), times[:-1], times[1:], strict=True):
            values.append(1000 * (end - begin))
    return out


def _records(bootstrap: str, topic: str, partitions: set[int]) -> Iterator[object]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    try:
        parts = [TopicPartition(topic, p) for p in partitions]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        while any(consumer.position(each) < end for each, end in ends.items()):
            for records in consumer.poll(timeout_ms=500).values():
                yield from records
    finally:
        consumer.close()


def _stamp(bootstrap: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        stamped = {"message.timestamp.type": "LogAppendTime"}
        names = (JOURNAL, topic_of("backend"))
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=stamped) for name in names])
    finally:
        admin.close()
