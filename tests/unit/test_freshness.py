"""A cluster that is not heard of is stale where it is read: by Kafka's clock, and never in what is written."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.fold.fold import PartitionFold
from streams.objects.collector import Collector
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import RESOURCES
from streams.subscription.freshness import (
    age_seconds,
    clock_skew_seconds,
    of_clusters,
    overlaid_state,
    overlay_json,
    silences,
)
from streams.subscription.rows import Row
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import Seal
from streams.wire.timestamps import of_milliseconds, read

AT = "2026-11-24T12:00:00.000Z"
NOW = read(AT).timestamp()
MS = round(NOW * 1000)


def seal(cluster: str = "east", *, ago: float = 0.0, at: str = AT, offset: int = 7, fold: int = 2) -> Seal:
    appended = of_milliseconds(round((NOW - ago) * 1000)) if fold > 1 else ""
    return Seal(cluster, offset, 1, "w", 3, at, "live", {"services": "5"}, fold, appended=appended)


def test_a_cluster_is_silent_once_its_last_commit_is_older_than_the_limit() -> None:
    seals = {(0, "east"): seal(ago=10.0), (0, "west"): seal("west", ago=10.1), (1, "west"): seal("west", ago=2)}
    found = silences(seals, NOW, 10.0)
    assert found == {(0, "west"): ("WatcherSilent: no commit since 2026-11-24T11:59:49.900Z",
                                   "2026-11-24T11:59:49.900Z")}  # fmt: skip
    assert silences(seals, NOW + 30, 10.0).keys() == seals.keys()
    assert silences(seals, NOW - 3600, 10.0) == {}


def test_where_the_journal_goes_on_and_nothing_is_sealed_it_is_the_worker_that_is_missing() -> None:
    seals = {
        (0, "east"): seal(ago=60, offset=7),
        (0, "west"): seal("west", ago=60, offset=9),
        (1, "east"): seal(ago=60),
    }
    found = silences(seals, NOW, 10.0, {0: 15, 1: 8})
    assert [silence.reason.partition(":")[0] for silence in found.values()] == [
        "WorkerSilent", "WorkerSilent", "WatcherSilent",
    ]  # fmt: skip
    # Another cluster is heard of in the partition: its worker is there.
    seals[0, "west"] = seal("west", ago=1, offset=9)
    assert silences(seals, NOW, 10.0, {0: 15})[0, "east"].reason.startswith("WatcherSilent")


def test_a_watchers_clock_has_no_part_in_it_and_is_seen_when_it_is_wrong() -> None:
    ahead = seal(at=of_milliseconds(MS + 600_000), ago=60)
    assert (age_seconds(ahead, NOW), clock_skew_seconds(ahead)) == (60, 660)
    found = of_clusters({(0, "east"): ahead}, NOW, silences({(0, "east"): ahead}, NOW))["east"]
    assert (found.clock_is_wrong, found.age_seconds, list(found.silences)) == (True, 60, [0])
    assert not of_clusters({(0, "east"): seal(ago=1.9)}, NOW, {})["east"].clock_is_wrong


def test_seals_without_kafkas_time_are_judged_by_their_own_or_not_at_all() -> None:
    assert age_seconds(seal(fold=1), NOW + 5) == 5
    assert silences({(0, "east"): seal(fold=1)}, NOW + 11).keys() == {(0, "east")}
    unknown = msgspec.structs.replace(seal(), appended="")
    assert age_seconds(unknown, NOW + 5) is None
    assert silences({(0, "east"): unknown}, NOW + 3600) == {}
    assert of_clusters({(0, "east"): unknown}, NOW, {})["east"].age_seconds is None


def test_a_clusters_frontier_is_as_old_as_in_the_partition_that_is_furthest_behind() -> None:
    seals = {(0, "east"): seal(ago=3), (1, "east"): seal(ago=50), (1, ""): seal("", ago=500)}
    (found,) = of_clusters(seals, NOW, silences(seals, NOW)).items()
    assert found[0] == "east"
    assert (found[1].age_seconds, found[1].last_commit, list(found[1].silences)) == (
        50,
        of_milliseconds(MS - 3000),
        [1],
    )


@pytest.mark.parametrize(
    ("state", "reason", "shown"),
    [
        ("ready", "", ("stale", "WatcherSilent: x")),
        ("empty", "NoEndpoints", ("stale", "WatcherSilent: x; NoEndpoints")),
        ("stale", "ClusterUnreachable: since y", ("stale", "WatcherSilent: x; ClusterUnreachable: since y")),
        ("unknown", "JournalExpired", ("unknown", "JournalExpired")),
        ("deleted", "ServiceNotFound", ("deleted", "ServiceNotFound")),
    ],
)
def test_a_row_is_shown_as_stale_unless_it_is_deleted_or_unknown(
    state: str, reason: str, shown: tuple[str, str]
) -> None:
    assert overlaid_state(state, reason, "WatcherSilent: x") == shown
    assert overlaid_state(state, reason, "") == (state, reason)
    body = {"table": "frontend", "name": "cart", "version": 3, "state": state, "reason": reason, "ports": [1.0]}
    value = msgspec.json.encode(body)
    assert msgspec.json.decode(overlay_json(value, "WatcherSilent: x")) == body | dict(
        zip(("state", "reason"), shown, strict=True)
    )
    row = Row("frontend", "east", "shop", "cart", 3, value, "WatcherSilent: x")
    assert (row.decode()["state"], row.value) == (shown[0], value)


def commits(count: int) -> list[bytes]:
    collector = Collector("east", epoch=2, writer="w", seq=0, partitions=1)
    records = collector.begin(AT)
    for resource in RESOURCES:
        collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
        collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, "10"))
    records += collector.flush(AT)
    for _ in range(count):
        records += collector.heartbeat(AT)
    return [record.value for record in records]


def seals_of(fold: PartitionFold, *journal: tuple[int, bytes, int]) -> list[Any]:
    writes = [write for offset, value, appended in journal for write in fold.step(offset, value, appended)]
    return [
        msgspec.json.decode(write.value or b"")
        for write in writes
        if write.table == "frontend" and write.key.startswith(SEAL_PREFIX)
    ]


def test_a_seal_says_when_kafka_took_the_last_commit_that_was_accepted() -> None:
    first, last, beat = commits(1)
    old = beat.replace(b'"epoch":2', b'"epoch":1')
    fold = PartitionFold(0)
    found = seals_of(
        fold, (0, first, MS), (1, last, MS + 5), (2, beat, MS + 9), (3, old, MS + 9000), (4, b"{", MS + 9001)
    )
    assert [each.get("appended") for each in found] == [
        AT, of_milliseconds(MS + 5), of_milliseconds(MS + 9), of_milliseconds(MS + 9), None,
    ]  # fmt: skip


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_timestamp_that_a_record_may_have_is_a_time_or_none(milliseconds: int) -> None:
    text = of_milliseconds(milliseconds)
    assert not text or round(read(text).timestamp() * 1000) == milliseconds
    fold = PartitionFold(0)
    assert len(seals_of(fold, (0, commits(0)[0], milliseconds))) == 1


def test_the_end_of_a_seal_tells_whether_another_follows() -> None:
    # Readers look at its last bytes only.
    assert msgspec.json.encode(msgspec.structs.replace(seal(), lost=True, more=True)).endswith(b'"more":true}')
