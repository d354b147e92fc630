"""`facets serve` folds the journal: changes don't wait for the workers, and the tables count where they differ."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient
from prometheus_client import REGISTRY

from streams.subscription import journal_follower
from streams.subscription.client import Batch, Subscriber
from streams.wire.records import FOLD_VERSION, JOURNAL
from tests.integration.journal import PARTITIONS
from tests.integration.mesh import DEADLINE, Mesh, Tables, endpoint_slice, eventually, running, service, serving
from tests.support.journaled_tables import JournaledTables
from tests.support.server_sent_events import changes


def cart(i: int) -> dict[str, Any]:
    return endpoint_slice("cart-a", "cart", 8080, {f"10.1.0.{i + 1}": "ready"})


async def put(mesh: Mesh, *items: dict[str, Any]) -> None:
    await asyncio.to_thread(mesh.tables.put, *items)


async def back(mesh: Mesh) -> None:
    await asyncio.to_thread(late_tables(mesh).back)


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def late_tables(mesh: Mesh) -> JournaledTables:
    assert isinstance(mesh.tables, JournaledTables)
    return mesh.tables


def address(data: dict[str, Any]) -> str:
    (row,) = data["rows"]
    found: str = row["endpoints"][0]["address"]
    return found


@pytest.fixture
def no_differences() -> Iterator[None]:
    before = counted("facets_journal_differences_total")
    yield
    assert counted("facets_journal_differences_total") == before


@pytest.mark.usefixtures("no_differences")
async def test_changes_come_while_no_worker_writes_and_none_comes_twice(bootstrap_servers: str) -> None:
    async with running(bootstrap_servers, service(), cart(0), kind=JournaledTables) as mesh:
        assert counted("facets_journal_folded_partitions") == PARTITIONS
        compared = counted("facets_journal_compared_records_total")
        late_tables(mesh).away = True
        async with changes(mesh, "table=backend") as client:
            assert address((await client.read())[2]) == "10.1.0.1"
            for i in (1, 2, 3):
                await put(mesh, cart(i))
            seen, cursor = await client.versions(3)
            (row,) = (await mesh.get("/v1/facets/backend/shop/cart"))["items"]
            assert row["endpoints"][0]["address"] == "10.1.0.4"
            await back(mesh)
            await eventually(
                lambda: asyncio.sleep(0, counted("facets_journal_compared_records_total") > compared + 3 * 3),
                "what the worker wrote is compared",
            )
            await put(mesh, cart(4))
            more, _ = await client.versions(1)
        versions = [version for _, _, version in seen + more]
        assert versions == sorted(set(versions))
        # A cursor from before the worker had written is good in the changelogs, too.
        async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, cursor=cursor) as subscriber:
            item = await anext(aiter(subscriber))
        assert isinstance(item, Batch)
        assert [row.version for row in item.rows] == versions[3:]


@pytest.mark.usefixtures("no_differences")
async def test_a_server_that_starts_while_no_worker_writes_has_all_that_the_journal_has(
    bootstrap_servers: str,
) -> None:
    async with running(bootstrap_servers, service(), cart(0), kind=JournaledTables) as first:
        late_tables(first).away = True
        async with changes(first, "table=backend") as client:
            _, old, _ = await client.read()
            await put(first, cart(1))
            _, cursor = await client.versions(1)
        async with serving(bootstrap_servers, first.tables) as mesh:
            async with changes(mesh, "table=backend") as client:
                assert address((await client.read())[2]) == "10.1.0.2"
            async with changes(mesh, "table=backend", cursor) as client:
                await put(mesh, cart(2))
                kind, _, data = await client.read()
                assert (kind, address(data)) == ("batch", "10.1.0.3")
            # What came before this server's start is in no changelog, and not in its ring.
            async with changes(mesh, "table=backend", old) as client:
                kind, _, data = await client.read()
                assert (kind, data["reason"]) == ("snapshot", "expired")
                while address(data) != "10.1.0.3":  # A snapshot may be shared, with the events since.
                    _, _, data = await client.read()
                await back(mesh)
                await put(mesh, cart(3))
                kind, _, data = await client.read()
                assert (kind, address(data)) == ("batch", "10.1.0.4")


async def test_tables_without_their_journal_are_served(bootstrap_servers: str) -> None:
    """As a mirror has them."""

    def delete_journal() -> None:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
        try:
            admin.delete_topics([JOURNAL])
            while JOURNAL in admin.list_topics():
                pass
        finally:
            admin.close()

    tables = await asyncio.to_thread(Tables, bootstrap_servers)
    try:
        await asyncio.to_thread(tables.start, service(), cart(0))
        await asyncio.to_thread(delete_journal)
        async with serving(bootstrap_servers, tables) as mesh, changes(mesh, "table=backend") as client:
            assert address((await client.read())[2]) == "10.1.0.1"
            await put(mesh, cart(1))
            assert address((await client.read())[2]) == "10.1.0.2"
    finally:
        await asyncio.to_thread(tables.close)


async def test_where_the_tables_have_another_row_it_counts(bootstrap_servers: str) -> None:
    async with running(bootstrap_servers, service(), cart(0), kind=JournaledTables) as mesh:
        tables = late_tables(mesh)
        before = counted("facets_journal_differences_total")
        tables.away = True
        tables.alter = lambda value: value.replace(b"10.1.0.2", b"10.1.0.9")
        async with changes(mesh, "table=backend") as client:
            await client.read()
            await put(mesh, cart(1))
            assert address((await client.read())[2]) == "10.1.0.2"
            await back(mesh)
            kind, _, data = await client.read()
            assert (kind, data["reason"], address(data)) == ("snapshot", "corrected", "10.1.0.9")
            # On from there, by the changelogs.
            await put(mesh, cart(2))
            kind, _, data = await client.read()
            assert (kind, address(data)) == ("batch", "10.1.0.3")
        assert counted("facets_journal_differences_total") == before + 1
        assert counted("facets_journal_folded_partitions") == PARTITIONS - 1


@pytest.mark.usefixtures("no_differences")
async def test_while_another_fold_version_writes_the_tables_they_are_followed(
    bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_follower, "_RETRY_SECONDS", 0.1)
    async with running(bootstrap_servers, service(), cart(0), kind=JournaledTables) as mesh:
        tables = late_tables(mesh)
        ours, other = (b'"fold":%d' % version for version in (FOLD_VERSION, FOLD_VERSION + 1))
        tables.alter = lambda value: value.replace(ours, other)
        async with changes(mesh, "table=backend") as client:
            await client.read()
            await put(mesh, cart(1))
            while (event := await client.read())[0] == "batch":
                assert address(event[2]) == "10.1.0.2"
            assert (event[2]["reason"], address(event[2])) == ("corrected", "10.1.0.2")
            tables.away = True
            await put(mesh, cart(2))
            await back(mesh)
            assert address((await client.read())[2]) == "10.1.0.3"
            assert counted("facets_journal_folded_partitions") == PARTITIONS - 1
            tables.alter = lambda value: value
            await put(mesh, cart(3))
            assert address((await client.read())[2]) == "10.1.0.4"
            await eventually(
                lambda: asyncio.sleep(0, counted("facets_journal_folded_partitions") == PARTITIONS),
                "all partitions are folded",
            )
            tables.away = True
            await put(mesh, cart(4))
            assert address((await client.read())[2]) == "10.1.0.5"
