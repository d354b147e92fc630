"""The subscriber client on a real Kafka: snapshot, sealed batches, resuming, gaps, duplicates."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from streams.errors import FacetsError
from streams.subscription.client import Batch, Snapshot, Subscriber
from streams.subscription.cursor import Cursor
from streams.subscription.rows import Row
from streams.wire.records import TABLES
from tests.integration.journal import clean_topics
from tests.support.backend_rows import row as backend_row
from tests.support.tables import DEADLINE, Tables


@pytest.fixture
def tables(bootstrap_servers: str) -> Any:
    clean_topics(bootstrap_servers)
    made = Tables(bootstrap_servers, seed=3)
    yield made
    made.close()


def state_of(rows: tuple[Row, ...], state: dict[tuple[str, str], int]) -> None:
    for row in rows:
        state[row.table, f"{row.cluster}/{row.namespace}/{row.name}"] = row.version


async def test_without_an_address_the_named_or_the_local_broker_is_taken(
    tables: Tables, bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FACETS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FACETS_BOOTSTRAP_SERVERS", bootstrap_servers)
    async with Subscriber() as subscriber:
        assert (await subscriber.snapshot()).rows
    monkeypatch.delenv("FACETS_BOOTSTRAP_SERVERS")
    with pytest.raises(FacetsError) as refused:
        await Subscriber().__aenter__()
    assert refused.value.exit_code == 69
    # Below the traceback of a program that does not catch it.
    assert any("facets up" in note for note in refused.value.__notes__)


async def test_a_snapshot_and_batches_add_up_to_the_tables(bootstrap_servers: str, tables: Tables) -> None:
    state: dict[tuple[str, str], int] = {}
    async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, tables=TABLES) as subscriber:
        async for item in subscriber:
            state_of(item.rows, state)
            if isinstance(item, Snapshot):
                assert item.reason == "start"
                for _ in range(50):
                    tables.write(tables.churn.change())
            if state == tables.rows():
                break


async def test_a_snapshot_that_took_longer_to_read_than_deletions_are_kept_is_read_again(
    bootstrap_servers: str, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulation, seed 20768: the machine sleeps after a row was read; meanwhile the row's tombstone goes."""
    asleep, real_time, real_gather = [0.0], time.time, Subscriber._gather

    def gather(self: Subscriber, chunk: Any, **how: Any) -> None:
        real_gather(self, chunk, **how)
        if not asleep[0]:
            asleep[0] = 2 * 86400
            ghost = b"east/shop/ghost"
            self._subscription().gather("backend", 0, [(0, ghost, backend_row(ghost, 0), 0)])

    monkeypatch.setattr(Subscriber, "_gather", gather)
    monkeypatch.setattr("streams.subscription.client.time.time", lambda: real_time() + asleep[0])
    async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, tables=TABLES) as subscriber:
        state: dict[tuple[str, str], int] = {}
        state_of((await subscriber.snapshot()).rows, state)
    assert asleep[0]
    assert state == tables.rows()


async def test_a_cursor_resumes_with_each_change_once(bootstrap_servers: str, tables: Tables) -> None:
    seen: list[tuple[str, str, int]] = []
    cursor = None
    for _ in range(5):
        async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, cursor=cursor) as subscriber:
            count = 0
            tables.write([record for _ in range(20) for record in tables.churn.change()])
            async for item in subscriber:
                assert isinstance(item, Batch) or cursor is None
                if isinstance(item, Batch):
                    seen += [(row.namespace, row.name, row.version) for row in item.rows]
                cursor = item.cursor
                count += 1
                if isinstance(item, Snapshot) or count == 7:
                    break
    assert len(seen) == len(set(seen))
    state = {name: version for _, name, version in seen}
    async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, cursor=cursor) as subscriber:
        async for item in subscriber:
            state |= {row.name: row.version for row in item.rows}
            wanted = {key[1].rpartition("/")[2]: v for key, v in tables.rows().items() if key[0] == "backend"}
            if {name: wanted[name] for name in state} == state:
                break


async def test_a_missed_change_is_said_and_mended_by_a_snapshot(bootstrap_servers: str, tables: Tables) -> None:
    async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers) as subscriber:
        reasons = []
        async for item in subscriber:
            if isinstance(item, Snapshot):
                reasons.append(item.reason)
                if item.reason == "gap":
                    break
                for number in range(400):
                    tables.write(tables.churn.change(), skip="east/shop/s1" if number < 200 else "")
    assert reasons == ["start", "gap"]


async def test_what_a_replaced_worker_writes_again_is_not_delivered_again(
    bootstrap_servers: str, tables: Tables
) -> None:
    async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, tables=TABLES) as subscriber:
        seen: list[tuple[str, str, int]] = []
        async for item in subscriber:
            if isinstance(item, Snapshot):
                tables.write([record for _ in range(50) for record in tables.churn.change()], twice=True)
                tables.write(tables.churn.collector.heartbeat("2026-11-24T12:00:09.000Z"))
            else:
                seen += [(row.table, row.name, row.version) for row in item.rows]
                if {each[2] for each in seen} and item.rows and tables.rows().items() <= {
                    **tables.rows(),
                    **{(t, f"east/shop/{n}"): v for t, n, v in seen},
                }.items():  # fmt: skip
                    break
        assert len(seen) == len(set(seen))


async def test_a_cursor_older_than_the_window_gets_a_snapshot_that_says_so(
    bootstrap_servers: str, tables: Tables
) -> None:
    async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers) as subscriber:
        first = await anext(aiter(subscriber))
    old = Cursor.decode(first.cursor)._replace(at="2020-01-01T00:00:00.000Z").encode()
    async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, cursor=old) as subscriber:
        item = await anext(aiter(subscriber))
    assert isinstance(item, Snapshot)
    assert item.reason == "expired"


async def test_filters_drop_rows_and_wait_sees_the_frontier(bootstrap_servers: str, tables: Tables) -> None:
    async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, services=("s1",)) as subscriber:
        snapshot = await subscriber.snapshot()
        assert {row.name for row in snapshot.rows} == {"s1"}
        version = max(int(seal.frontier["endpointslices.discovery.k8s.io"]) for seal in snapshot.seals)
        waiting = asyncio.create_task(subscriber.wait(str(version + 1), cluster="east", namespace="shop", service="s1"))
        tables.write(tables.churn.change())
        tables.write(tables.churn.collector.heartbeat("2026-11-24T12:00:09.000Z"))
        await waiting
