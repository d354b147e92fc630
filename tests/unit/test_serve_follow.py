"""What serve does with what its subscriber delivers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from streams.serve.http.sse import ChangesHub, SseSettings
from streams.serve.run import _follow
from streams.serve.xds.server import XdsServer, XdsSettings
from streams.subscription.client import Batch, Snapshot
from streams.subscription.delivery import Cursor
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
