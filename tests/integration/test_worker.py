"""`facets work` on a real Kafka: killed at any moment, its tables are what one undisturbed fold would make."""

import json
import os
import random
import re
import signal
import time
from pathlib import Path

from streams.facets import tables
from streams.fold.fold import PartitionFold
from streams.wire.records import FOLDED_TABLES, JOURNAL, topic_of
from tests.integration.journal import PARTITIONS, Churn, clean_topics, publish, read_topic
from tests.support.worker_processes import DEADLINE, Worker, await_sealed

AN_HOUR_LATER = """
import sys, time
from faust.transport import consumer
from streams.cli import main
from streams.worker import run as worker

consumer.monotonic = lambda: time.monotonic() + 3600
create, verify = worker.create_app, consumer.Consumer.verify_all_partitions_active

def create_app(settings):
    app = create(settings)
    app.conf.broker_commit_interval = 0.2
    return app

async def verify_all_partitions_active(self):
    await verify(self)
    print(f"looked at {len(self.assignment())} partitions", flush=True)

worker.create_app = create_app
consumer.Consumer.verify_all_partitions_active = verify_all_partitions_active
main()
"""
"""A worker whose consumer has been running for an hour, as Faust's checks see it; they are due every half second."""


def assert_log_is_the_fold(bootstrap: str) -> None:
    """Every table's log: the versions of each key rise, and first occurrences are byte for byte the fold's writes."""
    folds = {p: PartitionFold(p, tables.WORKER_TABLES) for p in range(PARTITIONS)}
    expected: dict[tuple[str, bytes], list[bytes | None]] = {}
    seals: dict[tuple[str, int], list[bytes]] = {}
    for record in read_topic(bootstrap, JOURNAL):
        for write in folds[record.partition].step(record.offset, record.value, record.timestamp):
            if write.key.startswith(b"~seal/"):
                seals.setdefault((write.table, record.partition), []).append(write.value or b"")
            elif write.table in FOLDED_TABLES:
                expected.setdefault((write.table, write.key), []).append(write.value)
    found: dict[tuple[str, bytes], list[bytes | None]] = {}
    sealed: dict[tuple[str, int], list[bytes]] = {}
    for table in FOLDED_TABLES:
        for record in read_topic(bootstrap, topic_of(table)):
            if record.key.startswith(b"~seal/"):
                sealed.setdefault((table, record.partition), []).append(record.value)
            else:
                found.setdefault((table, record.key), []).append(record.value)
    assert {key: list(dict.fromkeys(values)) for key, values in found.items()} == expected
    assert {key: list(dict.fromkeys(values)) for key, values in sealed.items()} == seals


def test_a_worker_killed_again_and_again_makes_the_same_tables(
    bootstrap_servers: str, tmp_path: Path, workers: list[Worker]
) -> None:
    clean_topics(bootstrap_servers)
    chance = random.Random(7)
    churn = Churn(seed=7)
    publish(bootstrap_servers, churn.start())
    for _ in range(4):
        worker = Worker(bootstrap_servers, tmp_path, "only")
        workers.append(worker)
        while worker.get("/v1/status") is None:
            assert worker.process.poll() is None, worker.log.read_text()
            time.sleep(0.02)
        for _ in range(chance.randrange(1, 5)):
            publish(bootstrap_servers, [record for _ in range(100) for record in churn.change()])
        worker.kill()
    workers.append(Worker(bootstrap_servers, tmp_path, "only"))
    publish(bootstrap_servers, churn.collector.heartbeat("2026-11-24T12:00:01.000Z"))
    await_sealed(bootstrap_servers, workers)
    assert_log_is_the_fold(bootstrap_servers)
    row = workers[-1].get("/v1/backend/east/shop/s1")
    assert row["name"] == "s1"
    assert row["endpoints"] == sorted(row["endpoints"], key=lambda each: each["address"])
    assert workers[-1].kill(signal.SIGTERM) == 0


def test_a_second_worker_takes_over_and_the_woken_one_tears_nothing(
    bootstrap_servers: str, tmp_path: Path, workers: list[Worker]
) -> None:
    clean_topics(bootstrap_servers)
    churn = Churn(seed=8)
    publish(bootstrap_servers, churn.start())
    workers.append(Worker(bootstrap_servers, tmp_path, "first"))
    await_sealed(bootstrap_servers, workers)
    publish(bootstrap_servers, [record for _ in range(300) for record in churn.change()])
    workers[0].process.send_signal(signal.SIGSTOP)
    workers.append(Worker(bootstrap_servers, tmp_path, "second"))
    publish(bootstrap_servers, [record for _ in range(300) for record in churn.change()])
    await_sealed(bootstrap_servers, workers[1:])
    os.kill(workers[0].process.pid, signal.SIGCONT)
    publish(bootstrap_servers, [record for _ in range(300) for record in churn.change()])
    publish(bootstrap_servers, churn.collector.heartbeat("2026-11-24T12:00:01.000Z"))
    await_sealed(bootstrap_servers, workers)
    assert_log_is_the_fold(bootstrap_servers)


def test_a_worker_whose_name_another_one_takes_ends_and_says_why(
    bootstrap_servers: str, tmp_path: Path, workers: list[Worker]
) -> None:
    clean_topics(bootstrap_servers)
    churn = Churn(seed=10)
    publish(bootstrap_servers, churn.start())
    for place in ("here", "elsewhere"):
        # Two folders, as on two machines: no lock keeps the second away.
        (tmp_path / place).mkdir()
        workers.append(Worker(bootstrap_servers, tmp_path / place, "one"))
        await_sealed(bootstrap_servers, workers[-1:])
    first, second = workers
    assert first.process.wait(DEADLINE) == 75, first.log.read_text()
    assert re.search(r"a newer worker at /?127\.0\.0\.1 has the name of this one \(one\)", first.log.read_text())
    publish(bootstrap_servers, churn.change())
    await_sealed(bootstrap_servers, [second])
    assert second.process.poll() is None
    assert_log_is_the_fold(bootstrap_servers)


def test_a_record_that_is_no_commit_goes_to_the_dead_letters_and_the_rest_goes_on(
    bootstrap_servers: str, tmp_path: Path, workers: list[Worker]
) -> None:
    clean_topics(bootstrap_servers)
    churn = Churn(seed=9)
    start = churn.start()
    publish(bootstrap_servers, [*start, start[0]._replace(value=b"{not json"), *churn.change()])
    workers.append(Worker(bootstrap_servers, tmp_path, "only"))
    await_sealed(bootstrap_servers, workers)
    assert_log_is_the_fold(bootstrap_servers)
    letters = [json.loads(record.value) for record in read_topic(bootstrap_servers, "facets.deadletter")]
    assert [letter["excerpt"] for letter in letters] == ["{not json"]


def test_a_worker_that_runs_for_long_says_nothing(
    bootstrap_servers: str, tmp_path: Path, workers: list[Worker]
) -> None:
    clean_topics(bootstrap_servers)
    churn = Churn(seed=10)
    publish(bootstrap_servers, churn.start())
    workers.append(Worker(bootstrap_servers, tmp_path, "only", ("-c", AN_HOUR_LATER)))
    await_sealed(bootstrap_servers, workers)
    publish(bootstrap_servers, [record for _ in range(50) for record in churn.change()])
    await_sealed(bootstrap_servers, workers)
    looked = workers[0].log.read_text().count("looked at")
    limit = time.monotonic() + DEADLINE
    # The journal, and the changelogs, which no stream reads.
    line = f"looked at {(1 + len(FOLDED_TABLES)) * PARTITIONS} partitions"
    while workers[0].log.read_text().count(line) < looked + 3:
        assert time.monotonic() < limit, workers[0].log.read_text()
        time.sleep(0.05)
    assert workers[0].kill(signal.SIGTERM) == 0
    noise = [
        line for line in workers[0].log.read_text().splitlines() if "looked at" not in line and " INFO " not in line
    ]
    assert noise == []
