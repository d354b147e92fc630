"""`python -m tests.routers.gate`: a rolling replacement under load, where each Pod waits in its preStop hook until no
router sends new requests to it, and then ends with the requests that are under way. Measures from the Pod's deletion
to the hook's return.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.routers.services import NAMESPACE, NUMBERS, PodService, resource
from tests.routers.stage import ROUTERS, Stage
from tests.support import network_namespace

SLEEP_SECONDS = 15
_RATE = 60.0
_FINISH_SECONDS = 0.5
"""For how long a backend answers what is under way after SIGTERM, which comes when the hook returns."""
_ON_ITS_WAY_SECONDS = 0.1
"""A request's time is the client's, before it is on its way to the router."""

Hook = Callable[[str], Awaitable[None]]
"""What a Pod of this address does before it ends."""


class Rollout:
    """Replaces the Pods of `cart` one by one; requests to it are under way."""

    def __init__(self, stage: Stage, cart: PodService) -> None:
        self._stage = stage
        self._cart = cart

    async def replace(self, hook: Hook, count: int) -> dict[str, Any]:
        """Replace so many Pods; `seconds` from each deletion to its hook's return, and what became of the requests
        meanwhile: `refused` are connections that Envoy could not make, or requests that it had to send again; `late`
        counts by router and Pod where a request went to the Pod that began after the hook's return."""
        before = await self._totals()
        seconds = []
        late = 0
        for _ in range(count):
            await self._cart.add_pod()
            await self._stage.get("/v1/wait", **self._query(next(reversed(self._cart.ready.values()))[0], "present"))
            name, addresses = next(iter(self._cart.ready.items()))
            began = time.monotonic()
            await self._cart.delete(name)
            await hook(addresses[0])
            ended = time.monotonic()
            seconds.append(ended - began)
            await asyncio.sleep(_FINISH_SECONDS)
            await self._stage.backends.stop(addresses)
            await self._cart.remove(name)
            target = resource(self._cart.name, NUMBERS["http"])
            answered = [load.answered[target].get(addresses[0], 0.0) for load in self._stage.loads.values()]
            late += sum(last > ended + _ON_ITS_WAY_SECONDS for last in answered)
            self._stage.check()
        after = await self._totals()
        return {"seconds": seconds, "late": late, **{key: after[key] - before[key] for key in after}}

    async def wait(self, address: str) -> None:
        """The hook: `GET /v1/wait`."""
        answer = await self._stage.get("/v1/wait", **self._query(address, "gone"))
        if not answer["done"]:
            raise TimeoutError(f"{address} is not gone: {answer}")

    async def wait_by_command(self, address: str) -> None:
        """The hook: `facets wait`."""
        await self._stage.facets(
            "wait", self._cart.name, "-n", NAMESPACE, "--gone", address, "--acked",
            "--at-least-routers", str(len(ROUTERS)), "--timeout", "60s",
        )  # fmt: skip

    @staticmethod
    async def sleep(address: str) -> None:
        """The hook that most use."""
        await asyncio.sleep(SLEEP_SECONDS)

    def _query(self, address: str, until: str) -> dict[str, str]:
        return {
            "service": self._cart.name, "namespace": NAMESPACE, "address": address, "until": until,
            "acked": "true", "atLeastRouters": str(len(ROUTERS)), "timeout": "60",
        }  # fmt: skip

    async def _totals(self) -> dict[str, int]:
        stats = await self._stage.envoy_stats(resource(self._cart.name, NUMBERS["http"]))
        refused = ("upstream_cx_connect_fail", "upstream_rq_retry")
        return {
            "requests": sum(load.requests for load in self._stage.loads.values()),
            "failed": sum(load.failed for load in self._stage.loads.values()),
            "refused": sum(value for name, value in stats.items() if name.rpartition(".")[2] in refused),
        }


async def run(replacements: int, sleeps: int, folder: Path) -> dict[str, Any]:
    """The same replacement with each hook."""
    async with Stage(folder, ("east",), _RATE) as stage:
        cart = PodService(stage, "east")
        await cart.prepare(3)
        await stage.start_facets()
        await stage.start_routers()
        for load in stage.loads.values():
            await load.open(resource(cart.name, NUMBERS["http"]))
        rollout = Rollout(stage, cart)
        await rollout.replace(rollout.wait, 3)  # until all is warm
        return {
            "wait": await rollout.replace(rollout.wait, replacements),
            "command": await rollout.replace(rollout.wait_by_command, replacements),
            "sleep": await rollout.replace(rollout.sleep, sleeps),
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.routers.gate", description=__doc__)
    parser.add_argument("--replacements", type=int, default=40, help="Pods with each hook (default: %(default)s)")
    parser.add_argument("--sleeps", type=int, default=3, help="Pods that sleep (default: %(default)s)")
    parser.add_argument("--report", type=Path, required=True, help="where to write what was measured, as JSON")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if not chosen.inside:
        network_namespace.exec_inside("tests.routers.gate")
    network_namespace.enter()
    with tempfile.TemporaryDirectory(prefix="facets-gate-") as folder:
        outcome = asyncio.run(run(chosen.replacements, chosen.sleeps, Path(folder)))
    chosen.report.write_text(json.dumps(outcome) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
