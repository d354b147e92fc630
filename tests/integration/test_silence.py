"""A cluster whose watcher is gone is stale to every reader, by a clock that the tests move; none of it is written."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from streams.cli.read.follow import follow_command
from streams.cli.read.get import get_command
from streams.kafka.admin import config
from streams.local.doctor import broker_checks
from streams.local.pipeline_checks import Check, pipeline_checks, read_pipeline
from streams.subscription.client import Batch, ClusterStatus, Snapshot, Subscriber
from streams.wire.records import JOURNAL, TABLES
from streams.wire.timestamps import read
from tests.integration.journal import PARTITIONS, publish, read_topic
from tests.integration.mesh import AT, DEADLINE, Mesh, Tables, endpoint_slice, eventually, running, service
from tests.support.server_sent_events import changes

START = read(AT).timestamp()
CART = service(), endpoint_slice("cart-a", "cart", 8080, {"10.1.0.1": "ready"})


class Clock:
    """Seconds since the epoch, as the test says."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tables(bootstrap_servers: str, clock: Clock) -> Iterator[Tables]:
    made = Tables(bootstrap_servers, clock)
    made.start(*CART)
    yield made
    made.close()


@pytest.fixture
async def mesh(bootstrap_servers: str, clock: Clock) -> AsyncIterator[Mesh]:
    async with running(bootstrap_servers, *CART, clock=clock, heartbeat=0.2) as made:
        yield made


def states(rows: Any) -> set[str]:
    return {f"{row['state']} {row['reason'].partition(':')[0]}".strip() for row in rows}


async def test_a_subscriber_is_told_when_a_cluster_falls_silent_and_when_it_is_heard_of_again(
    bootstrap_servers: str, tables: Tables, clock: Clock
) -> None:
    seen: list[ClusterStatus] = []
    async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, tables=TABLES, clock=clock) as subscriber:
        async for item in subscriber:
            if isinstance(item, Snapshot):
                assert states(row.decode() for row in item.rows) == {"ready"}
                clock.now += 60
            elif isinstance(item, ClusterStatus):
                seen.append(item)
                if len(seen) == 1:
                    # Only one partition is heard of: the others stay stale.
                    await asyncio.to_thread(tables.beat, [0])
                elif len(seen) == 2:
                    await asyncio.to_thread(tables.put, *CART)
                    await asyncio.to_thread(tables.beat)
                elif not item.stale:
                    break
            elif isinstance(item, Batch) and item.rows:
                assert all(b'"stale"' not in row.value for row in item.rows)
    assert (seen[0].cluster, seen[0].since, seen[0].partitions) == ("east", AT, tuple(range(PARTITIONS)))
    assert seen[0].stale == f"WatcherSilent: no commit since {AT}"
    assert seen[1].partitions == tuple(range(1, PARTITIONS))
    assert (seen[-1].stale, seen[-1].partitions) == ("", ())


async def test_one_that_comes_back_with_a_cursor_is_told_too(
    bootstrap_servers: str, tables: Tables, clock: Clock
) -> None:
    async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, clock=clock) as subscriber:
        first = await anext(aiter(subscriber))
    clock.now += 60
    async with (
        asyncio.timeout(DEADLINE),
        Subscriber(bootstrap_servers, clock=clock, cursor=first.cursor) as subscriber,
    ):
        item = await anext(aiter(subscriber))
    assert isinstance(item, ClusterStatus)
    assert (item.cluster, item.since) == ("east", AT)
    # And from a snapshot, whose rows say so themselves.
    async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, clock=clock) as subscriber:
        snapshot = await subscriber.snapshot()
        assert states(row.decode() for row in snapshot.rows) == {"stale WatcherSilent"}
        assert {place[1] for place in subscriber.silent()} == {"east"}


async def test_serve_shows_it_in_look_ups_streams_status_and_metrics(mesh: Mesh, clock: Clock) -> None:
    async def metrics() -> dict[str, float]:
        text = await mesh.text("/metrics")
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.labels.get("cluster") == "east"
        }

    async def lookup_is(state: str) -> bool:
        return states((await mesh.get("/v1/facets/backend/shop/cart"))["items"]) == {state}

    assert await lookup_is("ready")
    async with changes(mesh, "table=backend") as client:
        assert states((await client.read())[2]["rows"]) == {"ready"}
        assert (await client.any())[2]["stale"] == {}
        clock.now += 60
        while not (stale := (await client.any())[2]["stale"]):
            pass
        assert stale["east"]["since"] == AT
        assert stale["east"]["partitions"] == list(range(PARTITIONS))
    await eventually(lambda: lookup_is("stale WatcherSilent"), "a look-up says so")
    assert states((await mesh.get("/v1/facets/frontend"))["items"]) == {"stale WatcherSilent"}
    async with changes(mesh, "table=backend") as client:
        assert states((await client.read())[2]["rows"]) == {"stale WatcherSilent"}
    frontiers = (await mesh.get("/v1/propagation"))["frontiers"]
    assert {(each["stale"].partition(":")[0], each["ageSeconds"]) for each in frontiers} == {("WatcherSilent", 60)}
    found = await metrics()
    assert found["facets_cluster_frontier_age_seconds"] == 60
    assert found["facets_cluster_stale_partitions"] == PARTITIONS
    assert found["facets_cluster_clock_skew_seconds"] == 0
    await asyncio.to_thread(mesh.tables.beat)
    await eventually(lambda: lookup_is("ready"), "it is heard of again")
    assert (await metrics())["facets_cluster_frontier_age_seconds"] == 0


def checks(bootstrap: str, now: float, silent_after: float) -> list[Check]:
    pipeline = read_pipeline(bootstrap, PARTITIONS, silent_after)
    return [each for each in pipeline_checks(pipeline, now) if each.name == "cluster east"]


def test_the_commands_show_it(bootstrap_servers: str, tables: Tables, clock: Clock) -> None:
    clock.now = time.time()
    tables.beat()
    # The journal itself, by the broker's clock.
    publish(bootstrap_servers, tables.last * 10)
    here = ["--bootstrap-servers", bootstrap_servers, "--silent-after"]

    def get(after: str) -> set[str]:
        result = CliRunner().invoke(get_command, ["backend", "-n", "shop", "-o", "json", *here, after])
        return states(json.loads(result.stdout)["items"])

    assert (get("1h"), get("0s")) == ({"ready"}, {"stale WorkerSilent"})
    assert {record.timestamp_type for record in read_topic(bootstrap_servers, JOURNAL)} == {1}
    assert config(bootstrap_servers, JOURNAL)["message.timestamp.type"] == "LogAppendTime"
    result = CliRunner().invoke(follow_command, ["--max", "2", *here, "0s"])
    _, status = map(json.loads, result.stdout.splitlines())
    assert (status["type"], status["cluster"], status["stale"].partition(":")[0]) == ("cluster", "east", "WorkerSilent")


def test_doctor_says_of_each_cluster_when_it_was_heard_of(bootstrap_servers: str, tables: Tables, clock: Clock) -> None:
    publish(bootstrap_servers, tables.last)
    clock.now = time.time()
    tables.beat()
    heard, skewed = checks(bootstrap_servers, clock.now, 3600.0)
    assert (heard.status, heard.detail.startswith("last commit")) == ("ok", True)
    # By their own time the commits are days older than by the broker's.
    assert (skewed.status, skewed.detail.startswith("its watcher's clock is")) == ("warn", True)
    gone, _ = checks(bootstrap_servers, clock.now + 120, 0.0)
    assert (gone.status, gone.detail.startswith("no commit for 2")) == ("fail", True)
    assert "facets clusters forget east" in gone.remedy
    assert any(each.name == "cluster east" and each.status == "fail" for each in broker_checks(bootstrap_servers, 0.0))
