"""What is known of many clusters from one scan of the logs."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import msgspec
import pytest

from streams.kafka import log_scan
from streams.kafka.epochs import home, standing_in
from streams.kafka.journal_reader import _ClusterView
from streams.kafka.log_scan import LogScan
from streams.kafka.range_reader import RangeReader
from streams.objects.commits import CommitWriter
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import FOLD_VERSION, JOURNAL, Seal, topic_of

AT = "2026-11-24T12:00:00.000Z"
FRONTEND = topic_of("frontend")
PARTITIONS = 2
TAIL = 20
CLUSTERS = [f"c{number}" for number in range(40)]


class Record(NamedTuple):
    offset: int
    key: bytes
    value: bytes
    timestamp: int = 0
    headers: Sequence[tuple[str, bytes]] = ()


class Logs:
    """As RangeReader; counts what is read."""

    def __init__(self) -> None:
        self.logs: dict[tuple[str, int], list[Record]] = {
            (topic, p): [] for topic in (JOURNAL, FRONTEND) for p in range(PARTITIONS)
        }
        self.read: list[tuple[str, int, int]] = []

    def append(self, topic: str, partition: int, key: bytes, value: bytes, version: int) -> None:
        log = self.logs[topic, partition]
        log.append(Record(len(log), key, value, headers=[("v", b"%d" % version)]))

    def partitions(self, topic: str) -> int:
        return PARTITIONS

    def bounds(self, topic: str, partitions: list[int]) -> tuple[dict[int, int], dict[int, int]]:
        return dict.fromkeys(partitions, 0), {p: len(self.logs[topic, p]) for p in partitions}

    def records(self, topic: str, partition: int, start: int, end: int) -> Iterator[Record]:
        for record in self.logs[topic, partition][start:end]:
            self.read.append((topic, partition, record.offset))
            yield record


def written(sealed: int) -> Logs:
    """Three epochs of each cluster, of which the first `sealed` commits in each partition are folded."""
    logs = Logs()
    for epoch in (1, 2, 3):
        for cluster in CLUSTERS:
            writer = CommitWriter(cluster, epoch=epoch, writer=f"w{epoch}", seq=10 * epoch, partitions=PARTITIONS)
            writer.synced, writer.frontier = True, {"services": f"{epoch}00"}
            for record in (*writer.empty("begin", AT), *writer.empty("end", AT)):
                logs.append(JOURNAL, record.partition, record.key, record.value, 0)
    for partition in range(PARTITIONS):
        for record in logs.logs[JOURNAL, partition][:sealed]:
            commit = msgspec.json.decode(record.value)
            seal = Seal(commit["cluster"], record.offset, commit["epoch"], commit["writer"], commit["seq"], AT,
                        commit["phase"], commit["frontier"], FOLD_VERSION)  # fmt: skip
            key = SEAL_PREFIX + commit["cluster"].encode()
            logs.append(FRONTEND, partition, key, msgspec.json.encode(seal), record.offset)
    return logs


def standings(logs: Logs, *, apart: bool) -> dict[str, Any]:
    shared = LogScan(cast(RangeReader, logs))
    names = [*CLUSTERS, "another"]
    return {
        name: standing_in(
            _ClusterView(LogScan(cast(RangeReader, logs)) if apart else shared, name),
            home(name, PARTITIONS),
            PARTITIONS,
            TAIL,
        )
        for name in names
    }


@pytest.mark.parametrize("kept", [log_scan.MAX_KEPT, 10])
@pytest.mark.parametrize("sealed", [0, 90, 240])
def test_one_scan_says_of_all_what_a_scan_of_each_says(sealed: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_scan, "MAX_KEPT", kept)
    logs = written(sealed)
    together = standings(logs, apart=False)
    assert together == standings(logs, apart=True)
    assert {(each.epoch, each.seq) for name, each in together.items() if name != "another"} == {(3, 32)}
    assert together["another"] == (0, 0, {}, False)


@pytest.mark.parametrize("sealed", [0, 90, 240])
def test_one_scan_reads_no_record_twice(sealed: int) -> None:
    logs = written(sealed)
    standings(logs, apart=False)
    assert len(logs.read) == len({*logs.read})


def test_a_long_journal_that_does_not_name_a_cluster_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_scan, "MAX_KEPT", 10)
    logs = written(sealed=0)
    scan = LogScan(cast(RangeReader, logs))
    end = len(logs.logs[JOURNAL, 0])
    for name in ("another", "a third"):
        assert not list(scan.stamps(name, 0, 0, end))
    assert len(logs.read) == end
    assert list(scan.stamps("c0", 0, 0, end))


def test_of_a_new_cluster_only_what_is_not_sealed_is_read() -> None:
    logs = written(sealed=200)
    assert standings(logs, apart=False)["another"] == standings(written(sealed=0), apart=False)["another"]
    logs.read.clear()
    view = _ClusterView(LogScan(cast(RangeReader, logs)), "another")
    partition = home("another", PARTITIONS)
    assert standing_in(view, partition, PARTITIONS, TAIL).epoch == 0
    assert min(offset for topic, at, offset in logs.read if (topic, at) == (JOURNAL, partition)) == 200


def test_where_a_seal_can_not_be_read_the_journal_is() -> None:
    logs = written(sealed=200)
    partition = home(CLUSTERS[3], PARTITIONS)
    log = logs.logs[FRONTEND, partition]
    key = SEAL_PREFIX + CLUSTERS[3].encode()
    # Compaction has removed the cluster's seals before it.
    log[:] = [record for record in log if record.key != key]
    log[:] = [record._replace(offset=offset) for offset, record in enumerate(log)]
    logs.append(FRONTEND, partition, key, b"{", 199)
    view = _ClusterView(LogScan(cast(RangeReader, logs)), CLUSTERS[3])
    assert standing_in(view, partition, PARTITIONS, TAIL).epoch == 3
