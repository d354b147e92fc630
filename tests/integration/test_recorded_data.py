"""Data that an earlier version has written is read on: `recorded/` has the data folder of one, as its broker left it.

`flat_core.tar.xz`: two demo clusters of the version before the rooms, two partitions, fold version 2.
`whole_rows.tar.xz`: a Service with 300 endpoints in three slices, and a small one, of the last version that wrote no
row in parts; two partitions, fold version 5.
"""

import asyncio
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from streams.cli.admin.topics import topics_command
from streams.cli.past.replay import replay_command
from streams.local.kafka.broker import EmbeddedKafka
from streams.objects.commits import JournalRecord
from streams.subscription.client import Batch, Subscriber
from streams.wire.records import FOLD_VERSION, JOURNAL, TABLES
from tests.integration.journal import publish, read_topic
from tests.support.worker_processes import Worker

RECORDED = Path(__file__).parent / "recorded"
PARTITIONS = 2
DEADLINE = 120


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[str]:
    """The address of a broker on a copy of the data folder."""
    with broker_on("flat_core", tmp_path) as address:
        yield address


@contextmanager
def broker_on(name: str, tmp_path: Path) -> Iterator[str]:
    """The address of a broker on a copy of this data folder."""
    with tarfile.open(RECORDED / f"{name}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    with EmbeddedKafka(tmp_path) as broker:
        # What is as old as this is expired otherwise.
        arguments = ["create", "--retention", "36500d", "--bootstrap-servers", broker.bootstrap_servers]
        result = CliRunner().invoke(topics_command, arguments)
        assert result.exit_code == 0, result.output
        yield broker.bootstrap_servers


def verified(bootstrap: str) -> str:
    """What `facets replay --verify` says."""
    result = CliRunner().invoke(replay_command, ["--verify", "--bootstrap-servers", bootstrap])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_rows_of_an_earlier_version_follow_from_its_journal(recorded: str) -> None:
    """Byte for byte, but for two Services whose ports changed last: fold version 4 says what changed port by port."""
    assert verified(recorded).splitlines() == [
        "88 rows of frontend, backend, routing follow from the journal byte for byte",
        "2 rows have the same content; their commits have expired, or another version wrote them",
    ]


def heartbeats(bootstrap: str) -> list[JournalRecord]:
    """For each cluster and partition the commit that its watcher would have written next, had it not ended."""
    newest = {}
    for record in read_topic(bootstrap, JOURNAL, PARTITIONS):
        commit = orjson.loads(record.value)
        newest[commit["cluster"], record.partition] = {**commit, "seq": commit["seq"] + 1}
    for commit in newest.values():
        commit.pop("events", None)
        assert commit["phase"] == "live"
    return [JournalRecord(partition, orjson.dumps(commit), 0) for (_, partition), commit in newest.items()]


async def test_a_worker_goes_on_from_the_tables_of_an_earlier_version(
    recorded: str, tmp_path: Path, workers: list[Worker]
) -> None:
    next_commits = await asyncio.to_thread(heartbeats, recorded)
    sealed = set()
    reader = Subscriber(recorded, tables=TABLES, progress=True, silent_after=None)
    async with asyncio.timeout(DEADLINE), reader as subscriber:
        before = await subscriber.snapshot()
        workers.append(Worker(recorded, tmp_path, "later"))
        await asyncio.to_thread(publish, recorded, next_commits)
        async for item in subscriber:
            if isinstance(item, Batch):
                sealed.add((item.seal.cluster, item.partition, item.seal.fold))
            if len(sealed) == len(next_commits):
                break
    assert {fold for _, _, fold in sealed} == {FOLD_VERSION}
    again = Subscriber(recorded, tables=TABLES, silent_after=None)
    async with asyncio.timeout(DEADLINE), again as subscriber:
        after = await subscriber.snapshot()
    names = {(row.table, row.cluster, row.namespace, row.name) for row in before.rows}
    assert len(names) == 90
    assert {(row.table, row.cluster, row.namespace, row.name) for row in after.rows} == names
    assert "88 rows" in await asyncio.to_thread(verified, recorded)


def a_change(bootstrap: str, slice_name: str) -> JournalRecord:
    """The commit in which the slice's first endpoint becomes unready, after the last one of its partition."""
    records = list(read_topic(bootstrap, JOURNAL, PARTITIONS))
    at, event = next(
        (record.partition, event)
        for record in records
        for event in orjson.loads(record.value).get("events", ())
        if event["name"] == slice_name and event["op"] == "apply"
    )
    last = [orjson.loads(record.value) for record in records if record.partition == at][-1]
    event["resourceVersion"] = "900"
    event["object"]["groups"][0]["endpoints"][0]["ready"] = False
    return JournalRecord(at, orjson.dumps({**last, "seq": last["seq"] + 1, "events": [event]}), 1)


async def test_whole_rows_of_large_services_are_read_on_and_written_in_parts(
    tmp_path: Path, workers: list[Worker]
) -> None:
    with broker_on("whole_rows", tmp_path) as bootstrap:
        assert "byte for byte" in await asyncio.to_thread(verified, bootstrap)
        async with asyncio.timeout(DEADLINE), Subscriber(bootstrap, silent_after=None) as subscriber:
            before = await subscriber.snapshot()
        (big,) = (row for row in before.rows if row.name == "big")
        workers.append(Worker(bootstrap, tmp_path, "later"))
        change = await asyncio.to_thread(a_change, bootstrap, "big-1")
        await asyncio.to_thread(publish, bootstrap, [change])
        # With the cursor of before; by what the workers write, and by the journal.
        resumed = Subscriber(bootstrap, silent_after=None, cursor=before.cursor)
        async with asyncio.timeout(DEADLINE), resumed as subscriber:
            async for item in subscriber:
                assert isinstance(item, Batch)
                rows = [row for row in item.rows if row.name == "big"]
                if rows:
                    break
        (row,) = rows
        assert row.decode()["previous"] == big.version
        assert [each["address"] for each in row.decode()["change"]["updated"]] == ["10.1.1.0", "10.1.1.4"]
        assert len(row.decode()["endpoints"]) == 300
        async with asyncio.timeout(DEADLINE), Subscriber(bootstrap, silent_after=None) as subscriber:
            after = {row.name: row for row in (await subscriber.snapshot()).rows}
        assert after["big"] == row
        assert after["small"] == next(row for row in before.rows if row.name == "small")
        records = await asyncio.to_thread(list, read_topic(bootstrap, "facets.backend", PARTITIONS))
        assert {record.key.split(b"/")[4] for record in records if record.key.startswith(b"~part/")} == {
            b"big-0", b"big-1", b"big-2"
        }  # fmt: skip
        assert "byte for byte" in await asyncio.to_thread(verified, bootstrap)
