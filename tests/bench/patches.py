"""Changes of many Services through the API server, at a steady rate whatever the answers take."""

import asyncio
import ssl
import time
from typing import Any, NamedTuple

import aiohttp
import orjson
import uvloop
import yaml

from tests.bench.objects import NAMESPACE, SLICES, create, endpoints, service_with_slice
from tests.support.controlplane import ControlPlane


class Patched(NamedTuple):
    """A change: its turn, and when the PATCH was sent (unix time)."""

    turn: int
    at: float


class Patches:
    """Turn T changes an endpoint of Service T modulo `services`, to the address `marker(T)`."""

    def __init__(self, plane: ControlPlane, services: int, count: int) -> None:
        self.services = services
        self._plane = plane
        self._endpoints = count
        self._turn = 0
        user = yaml.safe_load(plane.kubeconfig.read_text())["users"][0]["user"]
        self._headers = {
            "Authorization": f"Bearer {user['token']}",
            "Content-Type": "application/merge-patch+json",
        }

    def prepare(self, say: Any) -> None:
        """The namespace, and the Services with a slice each."""
        self._plane.api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        items = [each for i in range(self.services) for each in service_with_slice(i, self._endpoints)]
        create(self._plane, items, say)

    def last(self) -> list[int]:
        """The last turn of each Service."""
        return [self._turn - (self._turn - service) % self.services for service in range(self.services)]

    def make(self, rate: float, count: int) -> list[Patched]:
        """So many changes, one Service after the other. Raises RuntimeError if one is refused, or if the API server
        can't keep up with the rate."""
        return uvloop.run(self._make(rate, count))

    async def _make(self, rate: float, count: int) -> list[Patched]:
        turns = range(self._turn + 1, self._turn + count + 1)
        self._turn += count
        trust = ssl.create_default_context(cafile=str(self._plane.ca))
        connector = aiohttp.TCPConnector(limit=0, ssl=trust)
        # Two of one Service must not overtake each other.
        turn_of = [asyncio.Lock() for _ in range(self.services)]
        late = 0.0
        async with (
            aiohttp.ClientSession(self._plane.url, connector=connector, headers=self._headers) as session,
            asyncio.TaskGroup() as group,
        ):
            began = time.time()
            sending = []
            for i, turn in enumerate(turns):
                await asyncio.sleep(max(0.0, began + i / rate - time.time()))
                late = max(late, time.time() - began - i / rate)
                sending.append(group.create_task(self._patch(session, turn, turn_of[turn % self.services])))
        if late > 1:
            raise RuntimeError(f"the load was {late:.1f} s behind {rate:g} changes a second")
        return [task.result() for task in sending]

    async def _patch(self, session: aiohttp.ClientSession, turn: int, turn_of: asyncio.Lock) -> Patched:
        number = turn % self.services
        body = orjson.dumps({"endpoints": endpoints(number, self._endpoints, turn=turn, pods=False)})
        async with turn_of:
            at = time.time()
            async with session.patch(f"{SLICES}/s{number}-0", data=body) as answer:
                if answer.status >= 400:
                    raise RuntimeError(f"turn {turn}: {answer.status} {await answer.text()}")
                await answer.read()
        return Patched(turn, at)
