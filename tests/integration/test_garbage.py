"""Records in the facet topics that no worker wrote, on a real Kafka: nobody ends, nobody is told anything else, and the
worker writes over them."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from streams.facets.changelog_records import unreadable
from streams.fold.fold import PartitionFold
from streams.kafka.bulk_reader import stamp_of
from streams.subscription.client import Batch, Snapshot, Subscriber
from streams.wire.records import JOURNAL, TABLES, topic_of
from tests.integration.journal import AT, PARTITIONS, Churn, clean_topics, publish, read_topic
from tests.integration.test_worker import DEADLINE, Worker

_AHEAD = 10**9


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    running: list[Worker] = []
    yield running
    for worker in running:
        if worker.process.poll() is None:
            worker.kill()


def pollute(bootstrap: str) -> int:
    """Write one of each kind to every partition of every facet topic, over rows and seals that are there; how many."""
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    count = 0
    for table in TABLES:
        newest = {(each.partition, each.key): each for each in read_topic(bootstrap, topic_of(table)) if each.value}
        for partition in range(PARTITIONS):
            rows = [each for (at, key), each in newest.items() if at == partition and key.startswith(b"east/")]
            seal = newest[partition, b"~seal/east"]
            row = rows[0] if rows else seal
            ahead = json.loads(row.value)
            ahead["version" if rows else "offset"] = _AHEAD
            for key, value, stamp in (
                (row.key, b"garbage", b"2"),
                (row.key, row.value, b"none"),
                (row.key, json.dumps(ahead).encode(), b"%d" % _AHEAD),
                (b"\xff", b"{}", b"2"),
                (b"no/row", b"{}", b"2"),
                (b"", b"{}", b"2"),
                (seal.key, b"{}", b"3"),
                (seal.key, json.dumps({**json.loads(seal.value), "offset": _AHEAD}).encode(), b"%d" % _AHEAD),
                (seal.key, seal.value[:-1], dict(seal.headers)["v"]),
            ):
                producer.send(topic_of(table), value, key=key, partition=partition, headers=[("v", stamp)])
                count += 1
    producer.flush()
    producer.close()
    return count


def newest_rows(bootstrap: str) -> dict[tuple[str, bytes], bytes]:
    """What the tables have, as Kafka's compaction would leave it; fails where that can't be read."""
    found: dict[tuple[str, bytes], bytes] = {}
    for table in TABLES:
        last = {(each.partition, each.key or b""): each for each in read_topic(bootstrap, topic_of(table))}
        for (_, key), record in last.items():
            assert not unreadable(table, key, record.value, stamp_of(record.headers)), (table, key, record.value)
            assert stamp_of(record.headers) < _AHEAD
            if record.value is not None and not key.startswith(b"~"):
                found[table, key] = record.value
    return found


def expected_rows(bootstrap: str) -> dict[tuple[str, bytes], bytes]:
    """The rows that follow from the journal."""
    folds = {partition: PartitionFold(partition) for partition in range(PARTITIONS)}
    found: dict[tuple[str, bytes], bytes] = {}
    for record in read_topic(bootstrap, JOURNAL):
        for write in folds[record.partition].step(record.offset, record.value, record.timestamp):
            if write.table in TABLES and not write.key.startswith(b"~"):
                found[write.table, write.key] = write.value or b""
    return {key: value for key, value in found.items() if value}


def mended(bootstrap: str, worker: Worker) -> None:
    """Wait until the tables are what they should be, and nothing of the garbage is the newest of its key."""
    limit = time.monotonic() + DEADLINE
    while True:
        assert worker.process.poll() is None, worker.log.read_text()
        try:
            assert newest_rows(bootstrap) == expected_rows(bootstrap)
        except AssertionError:
            if time.monotonic() > limit:
                print(worker.log.read_text())
                raise
            time.sleep(0.2)
        else:
            return


async def followed(subscriber: Subscriber, until: int) -> dict[tuple[str, str], Any]:
    """The rows that a subscriber holds when every partition has sealed this `seq`."""
    rows: dict[tuple[str, str], Any] = {}
    sealed: dict[int, int] = {}
    async for item in subscriber:
        assert isinstance(item, Snapshot | Batch)
        if isinstance(item, Snapshot):
            assert item.reason == "start"
        for row in item.rows:
            rows[row.table, row.name] = row.decode()
        if isinstance(item, Batch):
            sealed[item.partition] = item.seal.seq
        if len(sealed) == PARTITIONS and min(sealed.values()) >= until:
            break
    return rows


async def test_garbage_in_the_facet_topics_stops_nobody(
    bootstrap_servers: str, tmp_path: Path, workers: list[Worker]
) -> None:
    await asyncio.to_thread(clean_topics, bootstrap_servers)
    churn = Churn(seed=21)
    changes = [record for _ in range(60) for record in churn.change()]
    await asyncio.to_thread(publish, bootstrap_servers, [*churn.start(), *changes, *churn.collector.heartbeat(AT)])
    workers.append(Worker(bootstrap_servers, tmp_path, "only"))
    await asyncio.to_thread(mended, bootstrap_servers, workers[0])

    # Under a worker and a subscriber that are there.
    changes = [record for _ in range(60) for record in churn.change()] + churn.collector.heartbeat(AT)
    async with (
        asyncio.timeout(DEADLINE * 2),
        Subscriber(bootstrap_servers, tables=TABLES, progress=True, silent_after=None) as live,
    ):
        following = asyncio.create_task(followed(live, churn.collector.commits.seq))
        await asyncio.to_thread(pollute, bootstrap_servers)
        await asyncio.to_thread(publish, bootstrap_servers, changes)
        rows = await following
    await asyncio.to_thread(mended, bootstrap_servers, workers[0])
    wanted = await asyncio.to_thread(expected_rows, bootstrap_servers)
    versions = {
        (table, key.decode().rpartition("/")[2]): json.loads(row)["version"] for (table, key), row in wanted.items()
    }
    assert {name: row["version"] for name, row in rows.items()}.items() <= versions.items()

    # Under one that starts, twice: without a checkpoint of it, and with one. And under one that reads all anew.
    for _ in range(2):
        workers[-1].kill(signal.SIGTERM)
        await asyncio.to_thread(pollute, bootstrap_servers)
        async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, tables=TABLES) as late:
            snapshot = await late.snapshot()
        assert {(row.table, row.name): row.version for row in snapshot.rows} == {
            name: version for name, version in versions.items() if not _deleted(wanted, name)
        }
        workers.append(Worker(bootstrap_servers, tmp_path, "only"))
        await asyncio.to_thread(mended, bootstrap_servers, workers[-1])
    log = workers[-1].log.read_text()
    for why in ("its version stamp is no number", "is ahead of the journal", "its key is no CLUSTER/NAMESPACE/NAME"):
        assert why in log
    assert "Traceback" not in log
    assert "is skipped: " in log
    assert workers[-1].get("/v1/backend/east/shop/s1")["name"] == "s1"


def _deleted(rows: dict[tuple[str, bytes], bytes], name: tuple[str, str]) -> bool:
    table, service = name
    return json.loads(rows[table, f"east/shop/{service}".encode()])["state"] == "deleted"
