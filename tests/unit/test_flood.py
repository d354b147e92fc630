"""A cluster that changes faster than its share of a process: nothing of it is lost, and it is written seldom."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from streams.fold.fold import PartitionFold
from streams.kafka.journal import EpochGuard, Publisher
from streams.kafka.journal_reader import JournalReader
from streams.kube.api_server import ApiServer, Event
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.resources import ENDPOINT_SLICES, SERVICES, Resource
from streams.watch.budget import Budget, Rate
from streams.watch.progress import ProcessProgress
from streams.watch.session import Session
from tests.support.clustersets import endpoint_slice, service

NEVER = 1e-9
STATES = 300


@pytest.mark.parametrize(
    ("objects", "spent", "seconds", "wait"),
    [
        (10, 250, 0.0, 0.0),
        (10, 350, 0.0, 2.0),
        (10, 350, 0.5, 1.5),
        (10, 350, 2.0, 0.0),
        (8000, 8000, 0.0, 0.0),  # all Services of a large cluster at once
        (8000, 8400, 0.0, 1.0),  # whose share is larger
    ],
)
def test_how_long_a_cluster_waits(objects: int, spent: int, seconds: float, wait: float) -> None:
    budget = Budget()
    budget.spend(spent, objects, 100.0)
    assert budget.wait_seconds(objects, 100.0 + seconds) == pytest.approx(wait)


def test_a_quiet_time_saves_up_no_more_than_the_burst() -> None:
    budget = Budget()
    budget.spend(1, 10, 0.0)
    budget.spend(350, 10, 1000.0)
    assert budget.wait_seconds(10, 1000.0) == pytest.approx(2.0)


class Server:
    """An API server with a Service and its slice, which changes as fast as it is read, and then is silent."""

    def __init__(self, between: Callable[[int], None]) -> None:
        self.cluster = SimpleNamespace(name="east")
        self.all_read = asyncio.Event()
        self._between = between

    async def watch(
        self, resource: Resource, params: Mapping[str, str], silence: float
    ) -> AsyncIterator[Sequence[Event]]:
        yield []
        if "sendInitialEvents" in params:
            listed = {SERVICES: service(), ENDPOINT_SLICES: endpoint_slice("a", "10.0.0.1")}
            done = {"metadata": {"resourceVersion": "10", "annotations": {"k8s.io/initial-events-end": "true"}}}
            yield [*([("ADDED", listed[resource])] if resource in listed else []), ("BOOKMARK", done)]
        elif resource == ENDPOINT_SLICES:
            for number in range(1, STATES + 1):
                await asyncio.sleep(0)
                item = endpoint_slice("a", f"10.1.{number >> 8}.{number & 255}")
                item["metadata"]["resourceVersion"] = str(100 + number)
                yield [("MODIFIED", item)]
                self._between(number)
            self.all_read.set()
        await asyncio.Event().wait()

    async def read(self, path: str) -> None:
        return None


class Journal:
    """Takes all records at once; as Publisher."""

    def __init__(self) -> None:
        self.records: list[JournalRecord] = []
        self.skew_seconds = 0.0
        self.news = asyncio.Event()

    async def publish(self, records: Sequence[JournalRecord]) -> list[int]:
        await asyncio.sleep(0)
        self.records += records
        self.news.set()
        return []


@asynccontextmanager
async def watching(budget: Budget | None) -> AsyncIterator[tuple[Server, Journal]]:
    """The session of the server; it has ended in order afterwards."""
    journal = Journal()
    collector = Collector("east", epoch=1, writer="w", seq=0, partitions=1)
    journal.records += collector.begin("2026-11-24T12:00:00.000Z")
    publisher = cast(Publisher, journal)
    progress = ProcessProgress(publisher, cast(JournalReader, None), "w", 1)

    def speak(number: int) -> None:
        """Meanwhile the process says of its clusters how far they are."""
        journal.records += progress._collector.records(
            f"2026-11-24T13:{number // 60:02d}:{number % 60:02d}.000Z", number
        )

    server = Server(speak)
    guard = cast(EpochGuard, SimpleNamespace())
    session = Session(cast(ApiServer, server), publisher, collector, guard, progress, budget=budget)
    stop = asyncio.Event()
    running = asyncio.create_task(session.run(stop))
    try:
        yield server, journal
        stop.set()
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def folded(journal: Journal) -> tuple[list[str], int]:
    """The addresses of the Service at the end, and how many rows they came with."""
    fold = PartitionFold(0)
    rows: list[Any] = []
    for offset, record in enumerate(journal.records):
        rows += [write.value for write in fold.step(offset, record.value) if write.table == "backend"]
    text = next(row for row in reversed(rows) if row and b'"groups"' in row)
    backend = [row for row in rows if row and b'"groups"' in row]
    addresses = [f"10.1.{n >> 8}.{n & 255}" for n in range(1, STATES + 1)]
    return [each for each in addresses if f'"{each}"'.encode() in text.partition(b'"change"')[0]], len(backend)


async def test_a_flood_is_written_together_and_ends_in_its_last_state() -> None:
    async with watching(Budget(Rate(services=NEVER, burst=5, share=0.0))) as (server, journal):
        await server.all_read.wait()
    addresses, rows = folded(journal)
    assert addresses == [f"10.1.{STATES >> 8}.{STATES & 255}"]
    # The first one, the burst and one more, and what was left at the end.
    assert rows <= 1 + 6 + 1


async def test_what_is_said_of_a_flooding_cluster_overtakes_none_of_its_commits() -> None:
    async with watching(Budget(Rate(services=NEVER, burst=40, share=0.0))) as (server, journal):
        await server.all_read.wait()
    assert folded(journal)[0] == [f"10.1.{STATES >> 8}.{STATES & 255}"]


async def test_without_a_budget_each_state_is_written() -> None:
    async with watching(None) as (server, journal):
        await server.all_read.wait()
    addresses, rows = folded(journal)
    assert addresses == [f"10.1.{STATES >> 8}.{STATES & 255}"]
    assert rows == 1 + STATES


async def test_who_waits_writes_by_itself_once_the_budget_has_room() -> None:
    async with watching(Budget(Rate(services=50.0, burst=5, share=0.0))) as (server, journal):
        await server.all_read.wait()
        while folded(journal)[0] != [f"10.1.{STATES >> 8}.{STATES & 255}"]:
            journal.news.clear()
            await journal.news.wait()
