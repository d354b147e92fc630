"""The checks of `facets doctor` from watchers to tables: each cluster, its watcher's clock, and the worker."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import msgspec

from streams.kafka.range_reader import RangeReader
from streams.runtime.durations import in_words
from streams.subscription.client import Subscriber
from streams.subscription.freshness import Place, Silence, of_clusters, worst
from streams.subscription.silence import skew_text
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import DEAD_LETTER, JOURNAL, TABLES, DeadLetter, Seal, topic_of
from streams.wire.timestamps import of_milliseconds, read

Status = Literal["ok", "warn", "fail"]

_SKEW_SECONDS = 2.0
_LAG_COMMITS = 100
_SEAL_TAIL = 500
_JOURNAL_TAIL = 50
_READ_SECONDS = 20.0


class Check(NamedTuple):
    """The result of one check."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


class PartitionEnd(NamedTuple):
    """The end of a journal partition: the offset after its last record, when Kafka appended that (seconds since
    the epoch), the offset up to which all tables have sealed it, and when Kafka appended each cluster's newest
    commit."""

    end: int
    written: float
    sealed: int
    commits: dict[str, str]


class Pipeline(NamedTuple):
    """The partitions' ends, the newest dead letter, the newest seal of each cluster in each partition, and which
    clusters are silent where."""

    partitions: dict[int, PartitionEnd]
    dead_letter: DeadLetter | None
    seals: Mapping[Place, Seal]
    silent: Mapping[Place, Silence]


class _Stamp(msgspec.Struct):
    cluster: str


_decode_stamp = msgspec.json.Decoder(_Stamp).decode


def pipeline_checks(pipeline: Pipeline, now: float) -> Iterator[Check]:
    """The checks of a pipeline; `now` in seconds since the epoch."""
    ends = pipeline.partitions
    if not any(end.end for end in ends.values()):
        yield Check("watcher", "warn", "the journal is empty", "facets watch (or facets up)")
        return
    ahead = max(end.written for end in ends.values()) - now
    if ahead > _SKEW_SECONDS:
        yield Check(
            "clocks", "fail", f"the journal's newest record is {ahead:.1f} s in the future of this machine",
            "synchronize the clocks of brokers and this machine (NTP)",
        )  # fmt: skip
    yield _worker(ends)
    yield from _clusters(pipeline, now)
    if dead := sum(seal.dead_letters for seal in pipeline.seals.values()):
        yield Check(
            "dead letters", "warn", f"{dead} objects or records could not be used{_last(pipeline.dead_letter)}",
            f"read {DEAD_LETTER}: each says what is wrong with which object",
        )  # fmt: skip
    else:
        yield Check("dead letters", "ok", "none")


def _last(letter: DeadLetter | None) -> str:
    if letter is None:
        return ""
    subject = " ".join(
        filter(None, (letter.cluster, letter.kind, "/".join(filter(None, (letter.namespace, letter.name)))))
    )
    return f", the last: {subject}{f' at {letter.at}' if letter.at else ''}: {letter.reason[:200]}"


def _worker(ends: Mapping[int, PartitionEnd]) -> Check:
    behind = {p: end.end - 1 - end.sealed for p, end in ends.items() if end.end - 1 > end.sealed}
    worst_one = max(behind, key=lambda p: behind[p], default=0)
    if not behind or behind[worst_one] <= _LAG_COMMITS:
        return Check("worker", "ok", f"{sum(behind.values())} commits behind the journal in {len(ends)} partitions")
    return Check(
        "worker", "fail", f"{JOURNAL}[{worst_one}] is sealed up to {ends[worst_one].sealed} of "
        f"{ends[worst_one].end - 1}", "facets work; if it runs, see its log and `facets topics check`",
    )  # fmt: skip


def _clusters(pipeline: Pipeline, now: float) -> Iterator[Check]:
    for cluster, status in of_clusters(pipeline.seals, now, pipeline.silent).items():
        name = f"cluster {cluster}"
        own = [seal for (_, of), seal in pipeline.seals.items() if of == cluster]
        committed = max((end.commits.get(cluster, "") for end in pipeline.partitions.values()), default="")
        last = max(status.last_commit, committed)
        age = max(0.0, now - read(last).timestamp()) if last else None
        ago = "at an unknown time" if age is None else f"{in_words(age)} ago"
        if status.silences:
            silence = worst(status.silences.values())
            where = "" if len(status.silences) == len(own) else f" in {len(status.silences)} of {len(own)} partitions"
            if silence.reason.startswith("Worker"):
                detail = f"last commit {ago}, but none is folded{where} since {silence.since}: its rows are stale there"
                yield Check(name, "fail", detail, "facets work; if it runs, see its log")
            else:
                detail = f"no commit{where} for {in_words(now - read(silence.since).timestamp())}: its rows are stale"
                remedy = f"is its watcher gone? facets watch; has the cluster ended? facets clusters forget {cluster}"
                yield Check(name, "fail", detail, remedy)
        elif any(seal.lost for seal in own):
            yield Check(
                name, "warn", "its journal expired before it was folded: rows are `unknown`",
                "they are known again after the watcher's next complete snapshot: restart facets watch",
            )  # fmt: skip
        elif since := max((seal.stale_since for seal in own), default=""):
            yield Check(name, "warn", f"its watcher has not reached it since {since}", "check its API server")
        elif any(not seal.frontier for seal in own):
            yield Check(name, "warn", "its snapshot is not complete", "wait, or see the watcher's log")
        else:
            yield Check(name, "ok", f"last commit {ago}")
        if status.clock_is_wrong:
            yield Check(name, "warn", skew_text(status.clock_skew_seconds).partition(":")[0],
                        "synchronize the clocks of its watcher and of the brokers (NTP)")  # fmt: skip


def read_pipeline(bootstrap: str, partitions: int, silent_after: float) -> Pipeline:
    """Read the ends of the journal and of the tables. Raises FacetsError."""
    with RangeReader(bootstrap, read_seconds=_READ_SECONDS) as reader:
        every = range(partitions)
        journal = reader.tails(JOURNAL, every, _JOURNAL_TAIL)
        sealed: dict[int, list[int]] = {p: [] for p in every}
        for table in TABLES:
            for partition, tail in reader.tails(topic_of(table), every, _SEAL_TAIL).items():
                offsets = map(_sealed_by, tail.records)
                # A seal ahead of the journal is not the worker's.
                sealed[partition].append(max((at for at in offsets if at < journal[partition].end), default=-1))
        letters = [record for tail in reader.tails(DEAD_LETTER, every, 1).values() for record in tail.records]
    ends = {
        p: PartitionEnd(
            end, max((record.timestamp / 1000 for record in records), default=0), min(sealed[p]), _commits(records)
        )
        for p, (end, records) in journal.items()
    }
    newest = max(letters, key=lambda record: record.timestamp, default=None)
    letter: DeadLetter | None = None
    with suppress(msgspec.MsgspecError):
        letter = msgspec.json.decode(newest.value or b"", type=DeadLetter) if newest is not None else None
    return Pipeline(ends, letter, *asyncio.run(_seals(bootstrap, silent_after)))


async def _seals(bootstrap: str, silent_after: float) -> tuple[Mapping[Place, Seal], Mapping[Place, Silence]]:
    async with Subscriber(bootstrap, tables=TABLES[:1], silent_after=silent_after) as subscriber:
        return await subscriber.clusters(), subscriber.silent()


def _sealed_by(record: Any) -> int:
    """The journal offset that a record seals; -1 if it is not a seal, or can't be read."""
    if not (record.key or b"").startswith(SEAL_PREFIX) or not record.value:
        return -1
    try:
        return msgspec.json.decode(record.value, type=Seal).offset
    except msgspec.MsgspecError:
        return -1


def _commits(records: list[Any]) -> dict[str, str]:
    newest: dict[str, str] = {}
    for record in records:
        try:
            cluster = _decode_stamp(record.value or b"").cluster
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        newest[cluster] = max(newest.get(cluster, ""), of_milliseconds(record.timestamp))
    return newest
