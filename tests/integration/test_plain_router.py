"""A router in plain kafka-python, by the rules in the README alone, sees what the tables say."""

import ast
import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from streams.subscription.client import Subscriber
from streams.wire.partitioning import partition_of
from streams.wire.records import TABLES, spread
from streams.wire.row_codec import is_deleted
from tests.integration import confluent_router, plain_router
from tests.integration.confluent_router import ConfluentRouter
from tests.integration.journal import PARTITIONS, clean_topics
from tests.integration.plain_router import Gap, PlainRouter
from tests.support.parts import merged, small_parts
from tests.support.tables import DEADLINE, Tables

SCHEMAS = Path(__file__).parents[2] / "schemas"


@pytest.fixture
def tables(bootstrap_servers: str) -> Iterator[Tables]:
    """Some of the rows are in parts."""
    clean_topics(bootstrap_servers)
    with small_parts():
        made = Tables(bootstrap_servers, seed=11)
        yield made
        made.close()


@pytest.fixture
def router(bootstrap_servers: str, tables: Tables) -> Iterator[PlainRouter]:
    made = PlainRouter(bootstrap_servers, TABLES)
    yield made
    made.close()


def poll_until(router: PlainRouter, wanted: dict[tuple[str, str], int]) -> None:
    """Poll until the view has these versions."""
    until = time.monotonic() + DEADLINE
    while {key: row["version"] for key, row in router.view.items()} != wanted:
        router.poll()
        assert time.monotonic() < until


def in_order(row: dict[str, Any]) -> dict[str, Any]:
    """The row, whatever groups its endpoints are in."""
    return merged(row) if "groups" in row else row


async def rows_of(bootstrap: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What the tables say, by our own client."""
    async with asyncio.timeout(DEADLINE), Subscriber(bootstrap, tables=TABLES) as subscriber:
        rows = (await subscriber.snapshot()).rows
    return {
        (row.table, f"{row.cluster}/{row.namespace}/{row.name}"): json.loads(row.value)
        for row in rows
        if not is_deleted(row.value)
    }


@pytest.mark.parametrize("router", [plain_router, confluent_router])
def test_the_router_imports_nothing_of_the_project(router: ModuleType) -> None:
    text = Path(router.__file__ or "").read_text()
    assert text.count("\n") < 150
    tree = ast.parse(text)
    names = {each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(name.startswith(("streams", "tests")) for name in names)


async def test_its_view_is_the_tables(bootstrap_servers: str, tables: Tables, router: PlainRouter) -> None:
    checks = {table: Draft202012Validator(json.loads((SCHEMAS / f"{table}.json").read_text())) for table in TABLES}
    for _ in range(4):
        # A replaced worker's duplicates are among them.
        tables.write([record for _ in range(25) for record in tables.churn.change()])
        tables.write(tables.churn.change(), twice=True)
        tables.write(tables.churn.collector.heartbeat("2026-11-24T12:00:09.000Z"))
        there = await rows_of(bootstrap_servers)
        await asyncio.to_thread(poll_until, router, {key: row["version"] for key, row in there.items()})
        assert {at: in_order(row) for at, row in router.view.items()} == {
            at: in_order(row) for at, row in there.items()
        }
        for (table, key), row in router.view.items():
            checks[table].validate(row)
            _, namespace, name = key.split("/")
            assert router.partition_of(namespace, name) == partition_of(namespace, name, PARTITIONS)
    assert {cluster for _, cluster in router.frontier} == {"east"}


async def test_it_notices_what_it_missed(tables: Tables, router: PlainRouter) -> None:
    while not router.bootstrapped:
        await asyncio.to_thread(router.poll)
    tables.write([record for _ in range(200) for record in tables.churn.change()], skip="east/shop/s1")
    tables.write([record for _ in range(200) for record in tables.churn.change()])

    def poll() -> None:
        until = time.monotonic() + DEADLINE
        while time.monotonic() < until:
            router.poll()

    with pytest.raises(Gap):
        await asyncio.to_thread(poll)


async def test_another_client_ends_at_the_same_sets(bootstrap_servers: str, tables: Tables) -> None:
    tables.write([record for _ in range(150) for record in tables.churn.change()])
    tables.write(tables.churn.change(), twice=True)
    last = tables.churn.collector.heartbeat("2026-11-24T12:00:09.000Z")
    tables.write(last)
    wanted = {
        key: row["groups"] for (table, key), row in (await rows_of(bootstrap_servers)).items() if table == "backend"
    }
    in_parts = {key for key, (_, value) in tables.newest("backend").items() if value and b',"parts":{' in value}
    assert in_parts
    assert not in_parts >= wanted.keys()
    router = ConfluentRouter(bootstrap_servers)
    try:
        ends = tables.ends()
        until = time.monotonic() + DEADLINE
        while router.sealed != ends:
            await asyncio.to_thread(router.poll)
            assert time.monotonic() < until
        sets = router.sets()
    finally:
        router.close()
    assert {key: [(each["address"], each["ready"]) for each in endpoints] for key, endpoints in sets.items()} == {
        key: [(each["address"], each["ready"]) for each in spread(groups)] for key, groups in wanted.items()
    }
    assert all(router.partition_of(key) == partition_of(*key.split("/")[1:], PARTITIONS) for key in sets)
