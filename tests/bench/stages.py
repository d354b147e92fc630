"""Where the time of a change goes, from what `traced` programs wrote down."""

from bisect import bisect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from kafka import KafkaConsumer, TopicPartition

from streams.wire.records import JOURNAL

OURS = "Service Facets"
STAGES = (
    "PATCH to watch event",
    "to the producer",
    "to the server's fold",
    "folded",
    "to the response",
    "to the client",
)
ACKNOWLEDGED = "producer to acknowledgement"
"""Beside the others: the server does not wait for it."""

Place = tuple[int, int]
"""A commit: partition and offset of the journal."""


class Traces(NamedTuple):
    """The files that the watcher and the server write."""

    watch: Path
    serve: Path


def stages(
    bootstrap: str, traces: Traces, sent: Sequence[tuple[str, float]], late: Sequence[float]
) -> dict[str, list[float]]:
    """By stage the milliseconds of each change. `sent` are by resourceVersion the times of the PATCHes, in order,
    `late` the milliseconds until the client had each, or a newer one: that is what the last stages are of then. Raises
    RuntimeError unless each change is in the journal exactly once, and has passed every stage."""
    places = _places(bootstrap, [version for version, _ in sent])
    watch, serve = _steps(traces.watch), _steps(traces.serve)
    responses = sorted((int(offset), at) for (step, offset), at in serve.items() if step == "sent")
    passed: dict[str, list[float]] = {name: [] for name in (*STAGES, ACKNOWLEDGED)}
    for (version, at), delay in zip(sent, late, strict=True):
        place = places[version]
        named = f"{place[0]} {place[1]}"
        try:
            produced = watch["produce", named]
            times = [
                at,
                watch["event", version],
                produced,
                serve["read", named],
                serve["folded", named],
                responses[bisect(responses, (place[1], 0.0))][1],
                at + delay / 1000,
            ]
            passed[ACKNOWLEDGED].append(1000 * (watch["acknowledged", named] - produced))
        except (KeyError, IndexError) as error:
            raise RuntimeError(f"resourceVersion {version} (offset {place[1]}): no step {error}") from None
        for name, begin, end in zip(STAGES, times[:-1], times[1:], strict=True):
            passed[name].append(1000 * (end - begin))
    return passed


def _places(bootstrap: str, versions: Sequence[str]) -> dict[str, Place]:
    wanted = set(versions)
    places: dict[str, Place] = {}
    for record in _journal(bootstrap):
        for event in orjson.loads(record.value).get("events", ()):
            version = event["resourceVersion"]
            if version in wanted:
                if version in places:
                    raise RuntimeError(f"resourceVersion {version} is in the journal twice")
                places[version] = record.partition, record.offset
    if missing := wanted - places.keys():
        raise RuntimeError(f"{len(missing)} changes are not in the journal: {sorted(missing)[:3]}")
    return places


def _steps(path: Path) -> dict[tuple[str, str], float]:
    """When each step was made first."""
    steps: dict[tuple[str, str], float] = {}
    for line in path.read_text().splitlines():
        step, at, *what = line.split()
        steps.setdefault((step, " ".join(what)), float(at))
    return steps


def _journal(bootstrap: str) -> Iterator[Any]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    try:
        parts = [TopicPartition(JOURNAL, partition) for partition in consumer.partitions_for_topic(JOURNAL)]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        while _is_behind(consumer, ends):
            for records in consumer.poll(timeout_ms=500).values():
                yield from records
    finally:
        consumer.close()


def _is_behind(consumer: KafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
    return any(consumer.position(partition) < end for partition, end in ends.items())
