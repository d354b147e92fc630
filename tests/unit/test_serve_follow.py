"""Which tables serve follows, and what it does with what its subscriber delivers."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from streams.serve import run
from streams.serve.http.encoding import Selection
from streams.serve.http.sse import ChangesHub, SseSettings
from streams.serve.run import ServeSettings, _choose_tables, _follow
from streams.serve.xds.server import XdsServer, XdsSettings
from streams.subscription.client import Batch, Snapshot
from streams.subscription.cursor import Cursor
from streams.subscription.rows import EVERYTHING
from streams.wire.records import FOLDED_TABLES, TABLES
from tests.support.clustersets import export
from tests.unit.xds.world import World, endpoint, service, slice_of

_START = Cursor("", {0: -1}, {})


class _Delivered:
    """A subscriber that has fetched some batches together."""

    position = _START

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def sealed(self) -> dict[Any, Any]:
        return {}

    def silent(self) -> dict[Any, Any]:
        return {}

    async def __aiter__(self) -> AsyncIterator[Any]:
        yield Snapshot("start", (), (), _START)
        for batch in self._batches:
            yield batch


async def test_what_was_fetched_together_is_there_before_any_client_is_written_to() -> None:
    world = World()
    for number in range(1, 4):
        world.put(service(), slice_of(endpoint(f"10.1.0.{number}")))
    batches = [Batch(0, batch.seal, batch.rows, Cursor(batch.seal.at, {0: batch.seal.offset}, {}))
               for batch in world.batches if batch.rows]  # fmt: skip
    assert len(batches) >= 3
    hub = ChangesHub(SseSettings(), "", 1, 60.0)
    seen: list[int] = []

    async def client() -> None:
        while True:
            seen.append(hub.feed.next)
            await asyncio.sleep(0)

    running = asyncio.create_task(client())
    await asyncio.sleep(0)
    await _follow(_Delivered(batches), XdsServer(XdsSettings(port=0), 1), hub, ())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    running.cancel()
    await hub.close()
    assert set(seen) == {0, len(batches)}


async def test_the_clusterset_is_followed_but_not_in_tables_of_older_workers_or_for_some_clusters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "_OLDER_CHECKS", 1)
    settings = ServeSettings("", XdsSettings(port=0))
    for is_older, tables in ((False, FOLDED_TABLES), (True, TABLES)):
        monkeypatch.setattr(run, "_has_older_tables", lambda _, answer=is_older: answer)
        assert await _choose_tables(settings) == tables
    monkeypatch.setattr(run, "_has_older_tables", lambda _: False)
    assert await _choose_tables(settings._replace(clusters=("east",))) == TABLES


async def test_the_clusterset_is_for_xds_as_names_and_for_http_as_sets() -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.1")), {**export(), "metadata": {**export()["metadata"], "uid": "u"}})
    batches = [Batch(0, batch.seal, batch.rows, Cursor(batch.seal.at, {0: batch.seal.offset}, {}))
               for batch in world.batches]  # fmt: skip
    hub, xds = ChangesHub(SseSettings(), "", 1, 60.0), XdsServer(XdsSettings(port=0), 1)
    await _follow(_Delivered(batches), xds, hub, ())  # type: ignore[arg-type]
    await hub.close()
    assert "cart.shop.svc.clusterset.local:80" in xds.catalog.names("cds")
    (shown,) = hub.feed.rows(Selection(frozenset({"clusterset"}), EVERYTHING))
    row = json.loads(shown.text)
    assert (row["table"], row["cluster"], [each["address"] for each in row["endpoints"]]) == (
        "clusterset", "", ["10.1.0.1"],
    )  # fmt: skip
