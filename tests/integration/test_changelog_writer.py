"""Writing rows to a real Kafka that does not take them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from streams.exit_codes import ExitCode
from streams.fold.table import Write
from streams.kafka.admin import admin_client
from streams.worker.changelog import ChangelogWriter, RowsNotWritten
from tests.integration.journal import clean_topics


@pytest.fixture
async def writer(bootstrap_servers: str) -> AsyncIterator[ChangelogWriter]:
    await asyncio.to_thread(clean_topics, bootstrap_servers, 1)
    writer = ChangelogWriter(bootstrap_servers, lambda *_: None, write_seconds=1.0)
    await writer.start()
    yield writer
    await writer.stop()


def row(version: int, table: str = "backend") -> list[Write]:
    return [Write(table, b"a/b/c", b"{}", version)]


async def test_rows_of_a_partition_without_a_leader_are_given_up_by_name(
    bootstrap_servers: str, writer: ChangelogWriter
) -> None:
    """As where its brokers stay away, or somebody deletes the topic."""
    await asyncio.gather(*writer.send(0, row(1)))
    with admin_client(bootstrap_servers) as client:
        client.delete_topics(["facets.backend"])
    lost = writer.send(0, row(2))
    with pytest.raises(RowsNotWritten, match=r"facets.backend\[0\]: rows could not be written: .* no leader") as caught:
        async with asyncio.timeout(30):
            await asyncio.gather(*lost)
    assert caught.value.exit_code == ExitCode.FATAL
    assert "facets.backend is there" in caught.value.remedy
    # What would follow is not written either; other tables' rows are.
    (following,) = writer.send(0, row(3))
    assert isinstance(following.exception(), RowsNotWritten)
    await asyncio.gather(*writer.send(0, row(3, "frontend")))
