"""The index of the past: how fast it is built, how large it is next to its journal, how long questions take, and how
soon it has what is new.

A fleet's changes of one endpoint each are written to the journal as watchers write them at a cluster's own pace: each
change a commit, each commit a batch of its own, in zstd. `facets index --once` builds from there in a process for each
core. Questions are drawn at random over all Services, addresses and times, in one process, the file in the page cache.
Some are compared with a replay of the journal.
"""

import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median

from confluent_kafka import Producer

from streams.history.collectors import LastRows
from streams.history.queries import Until, holders
from streams.history.replay import Replay
from streams.index.past import open_index
from streams.index.reader import IndexReader
from streams.objects.commits import JournalRecord
from streams.subscription.rows import Filter
from streams.wire.partitioning import DEFAULT_PARTITIONS
from streams.wire.records import JOURNAL, TABLES
from streams.wire.timestamps import later
from streams.wire.topics import MAX_MESSAGE_BYTES
from tests.bench.bench import Bench
from tests.bench.figures import Figure, at_least, at_most, at_most_times
from tests.bench.journals import CLUSTER, START, Fleet

_COMPARED = 20
_LIVE = 30
_DEADLINE = 30
_AT_ONCE = 50_000
_FLUSHES_A_SECOND = 50


def run(bench: Bench) -> Iterator[Figure]:
    """The figures."""
    services, changes = (1500, 100_000) if bench.quick else (10_000, 5_000_000)
    bootstrap = bench.kafka(DEFAULT_PARTITIONS)
    fleet = _BusyFleet(services)
    bench.say(f"writing {changes:,} changes of {services:,} Services")
    producer = _Journal(bootstrap)
    producer.write(fleet.snapshot())
    addresses = _addresses(fleet)
    stream = fleet.changes(changes, together=1)
    while written := list(islice(stream, _AT_ONCE)):
        producer.write(written)
    addresses += _addresses(fleet)
    path = bench.folder / "facets.index"
    note = f"{changes:,} changes of {services:,} Services, each a commit and a batch of its own."
    bench.say("building the index")
    began = time.monotonic()
    bench.facets("index", *_command(path, bootstrap), "--once").finish(3600)
    seconds = time.monotonic() - began
    yield Figure("index: built", changes / seconds, "changes/s", goal=at_least(50_000),
                 note=f"{note} The broker is on the same cores; with the process's own start.")  # fmt: skip
    journal = sum(file.stat().st_size for file in (bench.folder / "kafka").rglob(f"{JOURNAL}-*/*.log"))
    yield Figure("index: bytes of a change", path.stat().st_size / changes, "bytes", journal / changes, "the journal's",
                 goal=at_most_times(0.25), note=note)  # fmt: skip
    with open_index(path, bootstrap, Until()) as reader:
        bench.say("comparing with a replay")
        _compare(bootstrap, reader, services, changes)
        yield from _questions(bench, reader, services, changes, addresses, note)
    bench.say("following")
    bench.facets("following", *_command(path, bootstrap)).says("follows the journal")
    delays = sorted(_live(producer, fleet, path, bootstrap))
    yield Figure("index: commit to file, p50", median(delays) * 1000, "ms", note=f"{_LIVE} changes, one at a time.")
    yield Figure("index: commit to file, longest", delays[-1] * 1000, "ms", goal=at_most(1000),
                 note=f"{_LIVE} changes, one at a time.")  # fmt: skip


class _BusyFleet(Fleet):
    """One in which something changes every 20 ms: no partition is silent for long, as in a cluster that is watched."""

    def _now(self) -> str:
        self._flushes += 1
        return _time(self._flushes)


def _time(flush: int) -> str:
    return later(START, flush / _FLUSHES_A_SECOND)


class _Journal:
    """Writes records, each a batch of its own."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap, "compression.type": "zstd", "batch.num.messages": 1,
                "message.max.bytes": MAX_MESSAGE_BYTES, "enable.idempotence": True,
                "queue.buffering.max.messages": 2 * _AT_ONCE,
            }
        )  # fmt: skip

    def write(self, records: list[JournalRecord]) -> None:
        """Write them, and wait for them."""
        for record in records:
            self._producer.produce(JOURNAL, record.value, CLUSTER.encode(), record.partition)
            self._producer.poll(0)
        if self._producer.flush(600):
            raise RuntimeError("the journal could not be written")


def _command(path: Path, bootstrap: str) -> tuple[str, ...]:
    return "index", "--index", str(path), "--bootstrap-servers", bootstrap


def _addresses(fleet: Fleet) -> list[str]:
    return [each["addresses"][0] for item in fleet.slices for each in item["endpoints"]]


def _chosen(i: int) -> Filter:
    return Filter(frozenset({CLUSTER}), frozenset({f"team-{i % 50}"}), frozenset({f"service-{i}"}))


def _compare(bootstrap: str, reader: IndexReader, services: int, changes: int) -> None:
    chance = random.Random(2)
    numbers = [chance.randrange(services) for _ in range(_COMPARED)]
    names = [f"service-{i}" for i in numbers]
    selection = Filter(frozenset({CLUSTER}), frozenset(f"team-{i % 50}" for i in numbers), frozenset(names))
    until = Until(at=_time(changes // 2))
    with Replay(bootstrap) as replay:
        wanted = sorted(replay.tables(until, selection, TABLES).values())
    if sorted(reader.rows_at(TABLES, selection, until)) != wanted:
        raise RuntimeError("the index has other rows than a replay")


def _questions(
    bench: Bench, reader: IndexReader, services: int, changes: int, addresses: list[str], note: str
) -> Iterator[Figure]:
    chance = random.Random(3)
    count = 200 if bench.quick else 1000

    def moment() -> Until:
        return Until(at=_time(chance.randrange(2, changes)))

    def get() -> None:
        if not reader.rows_at(TABLES, _chosen(chance.randrange(services)), moment()):
            raise RuntimeError("a Service has no rows")

    def who() -> None:
        address, until = chance.choice(addresses), moment()
        list(holders(address, reader.owners(address, until)))

    def history() -> None:
        newest = LastRows(TABLES, "", 50)
        for row in reader.history(TABLES, _chosen(chance.randrange(services)), moment(), last=50):
            newest.take(row)
        newest.rows()

    questions: tuple[tuple[str, Callable[[], None]], ...] = (
        ("a Service's rows at a time", get),
        ("who had an address at a time", who),
        ("a Service's last 50 rows before a time", history),
    )
    for name, question in questions:
        bench.say(name)
        times, used = [], []
        for _ in range(count):
            began, began_using = time.perf_counter(), time.thread_time()
            question()
            times.append(time.perf_counter() - began)
            used.append(time.thread_time() - began_using)
        times.sort()
        used.sort()
        yield Figure(f"index: {name}, p50", median(times) * 1000, "ms", note=note)
        yield Figure(f"index: {name}, p99", times[len(times) * 99 // 100] * 1000, "ms", goal=at_most(50), note=note)
        yield Figure(f"index: {name}, p99 of CPU time", used[count * 99 // 100] * 1000, "ms", note=note)


def _live(producer: _Journal, fleet: Fleet, path: Path, bootstrap: str) -> Iterator[float]:
    """From the acknowledgement of a commit until a reader has its rows, in seconds."""
    with open_index(path, bootstrap, Until(offsets={0: 0})) as reader:
        for _ in range(_LIVE):
            (record,) = fleet.changes(1, together=1)
            before = reader.positions()[record.partition].next
            producer.write([record])
            began = time.monotonic()
            while reader.positions()[record.partition].next == before:
                if time.monotonic() - began > _DEADLINE:
                    raise RuntimeError("the index does not follow")
                time.sleep(0.005)
            yield time.monotonic() - began
