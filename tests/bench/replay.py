"""The core alone, in one process and without Kafka: a replay of the journal, `facets fold`, and the bytes of a change.

Times are CPU times of the process: nothing here waits.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil

from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.kafka.admin import admin_client
from streams.kafka.journal import Publisher
from streams.objects.commits import JournalRecord
from streams.wire.partitioning import DEFAULT_PARTITIONS
from streams.wire.records import JOURNAL, TABLES, Commit, topic_of
from streams.worker.changelog import ChangelogWriter
from tests.bench.bench import ROOT, Bench, Part
from tests.bench.figures import Figure, at_least, at_most
from tests.bench.journals import CLUSTER, Fleet

SIZES = (1, 10, 100, 1000, 5000)
TOGETHER = 400
_MOST_CHANGELOG_BYTES = {100: 1500, 5000: 4000}
_decode = msgspec.json.Decoder(Commit).decode


def run(bench: Bench) -> Iterator[Figure]:
    """The figures."""
    yield from _replay(bench)
    yield from _fold_command(bench)
    yield from _sizes(bench)


# ---- replay ------------------------------------------------------------------------------------------


def _replay(bench: Bench) -> Iterator[Figure]:
    services, changes = (1500, 10_000) if bench.quick else (10_000, 50_000)
    bench.say(f"replay: {services} Services, {changes} changes")
    fleet = Fleet(services)
    snapshot, live = fleet.snapshot(), list(fleet.changes(changes, TOGETHER))
    replay = _Replay()
    listed = replay.seconds(snapshot)
    decoding = _seconds_to_decode(live)
    folding = replay.seconds(live)
    note = (
        f"{services} Services with {fleet.endpoints} endpoints; {sum(len(each.value) for each in live) / changes:.0f} "
        "bytes to an event on average; CPU time of one process, no Kafka"
    )
    yield Figure(
        "replay through the core", changes / folding, "changes/s", changes / decoding, "only decoding the commits",
        at_least(200_000), note,
    )  # fmt: skip
    one = fleet.slices[0]["metadata"]
    wanted = (one["namespace"], one["labels"]["kubernetes.io/service-name"])
    alone = _Replay(lambda _, namespace, name: (namespace, name) == wanted)
    alone.seconds(snapshot)
    yield Figure(
        "replay through the core, the rows of one Service", changes / alone.seconds(live), "changes/s",
        changes / decoding, "only decoding the commits", at_least(200_000),
        f"{note}; what `facets history NAME` folds, over all partitions",
    )  # fmt: skip
    objects = sum(record.events for record in snapshot)
    yield Figure("replay of a snapshot through the core", objects / listed, "objects/s", note=note)


class _Replay:
    """Folds of all partitions, of all Services or of those that are wanted."""

    def __init__(self, wanted: Callable[[str, str, str], bool] | None = None) -> None:
        self._folds = {each: PartitionFold(each, selects=wanted) for each in range(DEFAULT_PARTITIONS)}
        self._offsets = dict.fromkeys(self._folds, 0)

    def step(self, record: JournalRecord) -> list[Write]:
        offset = self._offsets[record.partition]
        self._offsets[record.partition] = offset + 1
        return self._folds[record.partition].step(offset, record.value)

    def seconds(self, records: Sequence[JournalRecord]) -> float:
        began = time.process_time()
        for record in records:
            self.step(record)
        return time.process_time() - began


def _seconds_to_decode(records: Sequence[JournalRecord]) -> float:
    began = time.process_time()
    for record in records:
        _decode(record.value)
    return time.process_time() - began


# ---- facets fold -------------------------------------------------------------------------------------


def _fold_command(bench: Bench) -> Iterator[Figure]:
    """Watch events of Kubernetes objects, as a file: with the start of the command and all it prints."""
    services, changes = (500, 5_000) if bench.quick else (2_000, 30_000)
    bench.say(f"facets fold: {changes} watch events")
    fleet = Fleet(services)
    path = bench.folder / "events.jsonl"
    with path.open("w") as file:
        for item in fleet.objects():
            file.write(json.dumps({"type": "ADDED", "object": item}) + "\n")
        first = services + len(fleet.slices)
        for _ in range(changes):
            file.write(json.dumps({"type": "MODIFIED", "object": fleet.change()}) + "\n")
    part = Part("fold", [sys.executable, "-m", "streams.cli", "fold", str(path)], bench.folder)
    process = psutil.Process(part.pid)
    cpu = 0.0
    while part.process.poll() is None:
        try:
            times = process.cpu_times()
            cpu = float(times.user + times.system)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.01)
    part.finish()
    count = first + changes
    yield Figure(
        "facets fold", count / cpu, "watch events/s", note=f"{count} events of {services} Services from a file, by CPU "
        "time of the whole command: normalizing, a commit for each event, folding, printing",
    )  # fmt: skip


# ---- sizes -------------------------------------------------------------------------------------------


def _sizes(bench: Bench) -> Iterator[Figure]:
    """A one-endpoint change of a Service of so many endpoints, alone in its commit: its time in the core, and its bytes
    in the topics as the broker stores them."""
    bootstrap = bench.kafka(DEFAULT_PARTITIONS)
    costs = []
    for size in SIZES:
        changes = min(2_000 if not bench.quick else 400, 400_000 // size)
        bench.say(f"{size} endpoints: {changes} changes")
        fleet = Fleet(1, size)
        replay = _Replay()
        for record in fleet.snapshot():
            replay.step(record)
        live = list(fleet.changes(changes, 1))
        decoding = _seconds_to_decode(live)
        folding = replay.seconds(live)
        costs.append(folding / changes * 1e6)
        note = "a Service of slices of at most 100 endpoints; one changes in each commit, which stands alone in it"
        yield Figure(
            f"time of a change, {size} endpoints", costs[-1], "us", decoding / changes * 1e6, "only decoding it", None,
            note,
        )  # fmt: skip
        replay = _Replay()
        first = [(record, replay.step(record)) for record in Fleet(1, size).snapshot()]
        journal, rows = asyncio.run(_stored(bootstrap, first, [(record, replay.step(record)) for record in live]))
        each = "bytes"
        stored = "as the broker stores it: in zstd, batched as they come"
        yield Figure(f"journal bytes of a change, {size} endpoints", journal / changes, each, note=stored)
        goal = at_most(_MOST_CHANGELOG_BYTES[size]) if size in _MOST_CHANGELOG_BYTES else None
        yield Figure(f"changelog bytes of a change, {size} endpoints", rows / changes, each, goal=goal, note=stored)
    growth = costs[-1] / costs[-2] / (SIZES[-1] / SIZES[-2])
    yield Figure(
        "growth of a change's time from 1,000 to 5,000 endpoints, by that of the endpoints", growth, "x",
        note="1 is in proportion to the size (the row holds the whole set), 5 would be its square",
    )  # fmt: skip


async def _stored(
    bootstrap: str, before: Sequence[tuple[JournalRecord, Any]], live: Sequence[tuple[JournalRecord, list[Write]]]
) -> tuple[int, int]:
    """How many bytes the broker's logs of the journal and of the tables grow by."""
    publisher = Publisher(bootstrap, CLUSTER)
    writer = ChangelogWriter(bootstrap, lambda *_: None)
    await writer.start()
    sizes = []
    try:
        for part in (before, live):
            for record, writes in part:
                await publisher.publish([record])
                await asyncio.gather(*writer.send(record.partition, writes))
            sizes.append(_log_bytes(bootstrap))
    finally:
        await writer.stop()
        await publisher.close()
    return (sizes[1][0] - sizes[0][0], sizes[1][1] - sizes[0][1])


def _log_bytes(bootstrap: str) -> tuple[int, int]:
    """The sizes of the journal's and of the tables' logs."""
    tables = {topic_of(table) for table in TABLES}
    sizes = {"journal": 0, "tables": 0}
    with admin_client(bootstrap) as admin:
        for broker in admin.describe_log_dirs([JOURNAL, *tables]):
            for folder in broker["log_dirs"]:
                for topic in folder["topics"]:
                    size = sum(partition["partition_size"] for partition in topic["partitions"])
                    sizes["journal" if topic["name"] == JOURNAL else "tables"] += size
    return sizes["journal"], sizes["tables"]


def main() -> None:
    """Only this, without the frame: `python -m tests.bench.replay [quick]`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Bench("replay", Path(folder), ROOT / "build", quick="quick" in sys.argv, say=print) as bench,
    ):
        for figure in run(bench):
            print(figure)


if __name__ == "__main__":
    main()
