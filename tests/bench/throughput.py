"""What a core of a worker folds, next to peers of equal work: the same changes, each on a core of its own.

The journal is made by the real Collector and written by the real Publisher before anybody reads it. Each contender in
turn is started on one core, with the broker and this process on the other, and takes the snapshot and a fifth of the
changes to warm up; the rest is timed by where its output stands, wall and CPU time. In the end all must have published
the same endpoint sets. Our worker's first checkpoint is due a minute after its start, so none is in that time; one of
all partitions takes about half a second of a core, once a minute at most.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec
import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from kafka import KafkaConsumer
from kafka.admin import NewTopic

from streams.facets.row_parts import find_newest, join_row
from streams.fold.fold import PartitionFold
from streams.kafka.admin import admin_client
from streams.kafka.journal import Publisher
from streams.local.kafka.jars import ensure_jars, parse_lock
from streams.local.kafka.java import JavaNotFoundError, find_java
from streams.objects import collector
from streams.objects.commits import JournalRecord
from streams.runtime.folders import cache_dir
from streams.wire.keys import is_row
from streams.wire.partitioning import DEFAULT_PARTITIONS
from streams.wire.records import Commit, decode_row, spread, topic_of
from streams.wire.topics import MAX_MESSAGE_BYTES
from tests.bench.bench import ROOT, Bench, Part, free_port
from tests.bench.figures import Figure, at_least_times
from tests.bench.journals import CLUSTER, Fleet

PEERS = Path(__file__).parent / "peers"
QUIX = "quixstreams==3.28.1"
OBJECTS = "peers.objects"
WHOLE_JOURNAL = "peers.journal"
"""The same journal with whole objects in place of patches: what the peers would have without us."""

TOGETHER = 400
"""Changes in a flush of the watcher: some fifty to a commit."""

Sets = dict[str, list[str]]


class Work(NamedTuple):
    """`objects` are the events, those of the snapshot first; `rows` the backend records that the fold makes of the
    snapshot and of all; `sets` are the sets that all must end with."""

    objects: tuple[int, int]
    rows: tuple[int, int]
    sets: Sets


class Contender(NamedTuple):
    """`command` gets the output topic. `expected` is how many records it writes after the snapshot, and in all."""

    name: str
    topic: str
    command: list[str]
    expected: tuple[int, int]
    note: str = ""


class Speed(NamedTuple):
    """Objects a second, by wall time and by CPU time of the process."""

    wall: float
    cpu: float


def run(bench: Bench, alone: bool = False) -> Iterator[Figure]:
    """The figures; `alone` leaves the peers out."""
    services, changes = (1500, 12_000) if bench.quick else (10_000, 40_000)
    bench.say(f"making a journal: {services} Services, {changes} changes")
    fleet = Fleet(services)
    snapshot, live = fleet.snapshot(), list(fleet.changes(changes, TOGETHER))
    work = _work(snapshot, live)
    bootstrap = bench.kafka(DEFAULT_PARTITIONS)
    _pin(_broker(), 0)
    os.sched_setaffinity(0, {0})
    asyncio.run(_publish(bootstrap, [*snapshot, *live]))
    if not alone:
        _create(bootstrap, WHOLE_JOURNAL)
        asyncio.run(_publish_whole(bootstrap, services, changes))
    speeds: dict[str, Speed] = {}
    skipped = []
    for make in (_facets,) if alone else (_facets, _kafka_streams, _quix, _faust):
        made = make(bench, bootstrap, work)
        if isinstance(made, str):
            skipped.append(made)
            bench.say(made)
            continue
        speeds[made.name] = _race(bench, bootstrap, made, work)
        bench.say(f"{made.name}: {speeds[made.name].wall:.0f} objects/s, {speeds[made.name].cpu:.0f} a CPU second")
    ours = speeds["facets work"]
    note = (
        f"{services} Services with {fleet.endpoints} endpoints, {changes} changes of one endpoint, "
        f"{len(live)} commits; one core, and the broker has the other; the peers get whole objects, "
        "we patches; all ended with the same sets" + "".join(f"; {each}" for each in skipped)
    )
    for name, goal in (("Kafka Streams", 2.0), ("Quix Streams", None), ("Faust, one object a message", 15.0)):
        peer = speeds.get(name)
        if peer is not None:
            bound = at_least_times(goal) if goal else None
            yield Figure("throughput of a core", ours.wall, "objects/s", peer.wall, name, bound, note)
            yield Figure("throughput of a CPU second", ours.cpu, "objects", peer.cpu, name, None, note)
    if len(speeds) == 1:
        yield Figure("throughput of a core", ours.wall, "objects/s", note=note)


# ---- the journal -------------------------------------------------------------------------------------


def _work(snapshot: Sequence[JournalRecord], live: Sequence[JournalRecord]) -> Work:
    folds = {partition: PartitionFold(partition) for partition in range(DEFAULT_PARTITIONS)}
    offsets = dict.fromkeys(folds, 0)
    rows: dict[bytes, bytes] = {}
    counts = []
    count = 0
    for records in (snapshot, live):
        for record in records:
            for write in folds[record.partition].step(offsets[record.partition], record.value):
                if write.table == "backend":
                    count += 1
                    if write.value is not None:
                        rows[write.key] = write.value
            offsets[record.partition] += 1
        counts.append(count)
    events = [sum(record.events for record in records) for records in (snapshot, live)]
    return Work((events[0], sum(events)), (counts[0], counts[1]), _sets_of_rows(rows))


def _sets_of_rows(records: dict[bytes, bytes]) -> Sets:
    """Of the table's newest records, parts of rows among them."""
    sets = {}
    for key, value in records.items():
        if is_row(key):
            row = join_row("backend", value, find_newest(records, key.decode())).row
            sets[key.decode()] = _set(decode_row("backend", row)["endpoints"])
    return sets


def _set(endpoints: list[dict[str, Any]]) -> list[str]:
    return sorted(msgspec.json.encode(each, order="deterministic").decode() for each in endpoints)


async def _publish(bootstrap: str, records: Sequence[JournalRecord]) -> None:
    publisher = Publisher(bootstrap, CLUSTER)
    for first in range(0, len(records), 64):
        await publisher.publish(records[first : first + 64])
    await publisher.close()


async def _publish_whole(bootstrap: str, services: int, changes: int) -> None:
    with patch.object(collector, "patch_event", lambda _, __: None):
        fleet = Fleet(services)
        records = [*fleet.snapshot(), *fleet.changes(changes, TOGETHER)]
    async with _producer(bootstrap) as producer:
        for record in records:
            await producer.send(WHOLE_JOURNAL, record.value, partition=record.partition)


def _producer(bootstrap: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap, linger_ms=5, max_batch_size=1 << 20, max_request_size=MAX_MESSAGE_BYTES
    )


def _create(bootstrap: str, topic: str) -> None:
    configs = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
    with admin_client(bootstrap) as admin:
        admin.create_topics([NewTopic(topic, DEFAULT_PARTITIONS, 1, topic_configs=configs)], wait_for_metadata=True)


# ---- the contenders ----------------------------------------------------------------------------------


def _facets(bench: Bench, bootstrap: str, work: Work) -> Contender:
    command = [
        *(sys.executable, "-m", "streams.cli", "work", "--bootstrap-servers", bootstrap),
        *("--http-port", str(free_port()), "--instance", "bench", "--data-dir", str(bench.folder / "work")),
    ]
    return Contender("facets work", topic_of("backend"), command, work.rows)


def _kafka_streams(bench: Bench, bootstrap: str, work: Work) -> Contender | str:
    javac = shutil.which("javac")
    if javac is None:
        return "Kafka Streams is left out: there is no javac on PATH (Debian or Ubuntu: apt-get install default-jdk)"
    try:
        java = find_java()
    except JavaNotFoundError as error:
        return f"Kafka Streams is left out: {error}"
    source = PEERS / "kafkastreams"
    jars = ensure_jars(cache_dir(), lambda *_: None)
    jars += ensure_jars(cache_dir(), lambda *_: None, jars=parse_lock((source / "jars.lock").read_text()))
    path = os.pathsep.join(map(str, jars))
    classes = bench.folder / "classes"
    subprocess.run([javac, "-cp", path, "-d", classes, source / "EndpointSets.java"], check=True, capture_output=True)
    _create(bootstrap, "peers.kafka-streams")
    command = [
        *(str(java.path), "-Xmx1g", "-cp", f"{classes}{os.pathsep}{path}", "EndpointSets", bootstrap, WHOLE_JOURNAL),
        *("peers.kafka-streams", str(bench.folder / "kafka-streams"), "memory"),
    ]
    return Contender("Kafka Streams", "peers.kafka-streams", command, work.objects)


def _quix(bench: Bench, bootstrap: str, work: Work) -> Contender | str:
    python = ROOT / "build" / "peers" / "quix" / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True, capture_output=True)
        subprocess.run([python, "-m", "pip", "install", "-q", QUIX], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        return f"Quix Streams is left out: {QUIX} can't be installed: {error.stderr.decode()[-200:]}"
    _create(bootstrap, "peers.quix")
    command = [str(python), str(PEERS / "quix.py"), bootstrap, WHOLE_JOURNAL, "peers.quix", str(bench.folder / "quix")]
    return Contender("Quix Streams", "peers.quix", command, work.objects)


def _faust(bench: Bench, bootstrap: str, work: Work) -> Contender:
    _create(bootstrap, OBJECTS)
    _create(bootstrap, "peers.faust")
    asyncio.run(_explode(bootstrap))
    command = [
        *(sys.executable, "-m", "tests.bench.peers.faust_naive", bootstrap, OBJECTS, "peers.faust"),
        *(str(bench.folder / "faust"), str(DEFAULT_PARTITIONS), str(free_port())),
    ]
    return Contender("Faust, one object a message", "peers.faust", command, work.objects)


async def _explode(bootstrap: str) -> None:
    """The journal's events, each as a message of its own."""
    async with _producer(bootstrap) as producer:
        async for partition, value in _all(bootstrap, WHOLE_JOURNAL):
            for event in msgspec.json.decode(value[1], type=Commit).events:
                key = f"{event.namespace}/{event.service}".encode()
                await producer.send(OBJECTS, msgspec.json.encode(event), key=key, partition=partition)


# ---- the race ----------------------------------------------------------------------------------------


def _race(bench: Bench, bootstrap: str, contender: Contender, work: Work) -> Speed:
    bench.say(f"{contender.name}: starting")
    first, last = contender.expected
    warm = first + (last - first) // 5
    with _pinned(1):
        part = Part(contender.name.split(",")[0].replace(" ", "-"), contender.command, bench.folder)
    try:
        process = psutil.Process(part.pid)
        with _ends(bootstrap, contender.topic) as written:
            part.until(lambda: written() >= warm, f"{warm} records were written", 600)
            from_time, from_cpu, from_count = time.perf_counter(), _cpu(process), written()
            part.until(lambda: written() >= last, f"{last} records were written", 600)
            wall, cpu = time.perf_counter() - from_time, _cpu(process) - from_cpu
        objects = (work.objects[1] - work.objects[0]) * (last - from_count) / (last - first)
    finally:
        part.end()
    found = asyncio.run(_sets(bootstrap, contender))
    wrong = [key for key in work.sets.keys() | found.keys() if work.sets.get(key) != found.get(key)]
    if wrong:
        raise RuntimeError(f"{contender.name}: {len(wrong)} sets are others than the fold's, as that of {wrong[0]}")
    return Speed(objects / wall, objects / cpu)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _ends(bootstrap: str, topic: str) -> Iterator[Callable[[], int]]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    partitions = [TopicPartition(topic, partition) for partition in range(DEFAULT_PARTITIONS)]
    try:
        yield lambda: sum(consumer.end_offsets(partitions).values())
    finally:
        consumer.close()


async def _sets(bootstrap: str, contender: Contender) -> Sets:
    records: dict[bytes, bytes] = {}
    async for _, (key, value) in _all(bootstrap, contender.topic):
        if value is None:
            records.pop(key, None)
        else:
            records[key] = value
    if contender.topic == topic_of("backend"):
        return _sets_of_rows(records)
    peers = {}
    for value in records.values():
        row = msgspec.json.decode(value)
        for group in row["groups"]:
            group.pop("uid", None)
        peers[row["key"]] = _set(spread(row["groups"]))
    return peers


async def _all(bootstrap: str, topic: str) -> Any:
    """All records: partition, and key and value."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest",
        max_partition_fetch_bytes=1 << 25, fetch_max_bytes=1 << 25,
    )  # fmt: skip
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, partition) for partition in range(DEFAULT_PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        while waiting := [each for each in partitions if await consumer.position(each) < ends[each]]:
            for each, records in (await consumer.getmany(*waiting, timeout_ms=1000)).items():
                for record in records:
                    yield each.partition, (record.key, record.value)
    finally:
        await consumer.stop()


# ---- cores -------------------------------------------------------------------------------------------


def _broker() -> psutil.Process:
    """The broker of this run, a child of this process."""
    (broker,) = [each for each in psutil.Process().children(recursive=True) if "java" in each.name()]
    return broker


def _pin(process: psutil.Process, core: int) -> None:
    for thread in process.threads():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(thread.id, {core})


@contextmanager
def _pinned(core: int) -> Iterator[None]:
    """What is started meanwhile runs on this core only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def main() -> None:
    """Only this, without the frame: `python -m tests.bench.throughput [quick] [alone]`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Bench("throughput", Path(folder), ROOT / "build", quick="quick" in sys.argv, say=print) as bench,
    ):
        for figure in run(bench, "alone" in sys.argv):
            print(figure)


if __name__ == "__main__":
    main()
