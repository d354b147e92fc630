"""The clients that measure: a response counts when it has come, and the next one only comes if it was acknowledged."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse

from tests.bench import light_clients
from tests.bench.delta_client import responses
from tests.support.serving import serving
from tests.unit.xds.world import CART, endpoint, service, slice_of


def _addresses(message: bytes) -> set[str]:
    (resource,) = DeltaDiscoveryResponse.FromString(message).resources
    assert resource.name == CART
    return {address for address in ("10.1.0.1", "10.1.0.2", "10.1.0.3") if address.encode() in resource.resource.value}


async def test_the_single_client_gets_each_state_and_acknowledges_it() -> None:
    async with serving() as served:
        stream: Iterator[bytes] = responses(served.server.port, [CART])
        assert _addresses(await asyncio.to_thread(next, stream)) == {"10.1.0.1"}
        for last in (2, 3):
            served.put(service(), slice_of(endpoint(f"10.1.0.{last}")))
            assert _addresses(await asyncio.to_thread(next, stream)) == {f"10.1.0.{last}"}
        stream.close()  # type: ignore[attr-defined]


@pytest.mark.skipif(not light_clients.has_go(), reason="needs Go")
async def test_many_clients_have_each_turn_or_a_later_one_of_its_service(tmp_path: Path) -> None:
    program = await asyncio.to_thread(light_clients.build)
    out = tmp_path / "out.json"
    async with serving() as served:
        served.put(service(), slice_of(endpoint("10.100.0.1")))
        clients = await asyncio.create_subprocess_exec(
            program, "xds", str(served.server.port), "20", "1", str(out), CART,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert clients.stdout is not None
        assert await clients.stdout.readline() == b"ready\n"
        for turn in range(2, 6):
            served.put(service(), slice_of(endpoint(f"10.100.0.{turn}")))
        await clients.communicate(b"5\n")
        assert clients.returncode == 0
    turns = orjson.loads(out.read_bytes())["turns"]
    assert {turn: arrival["clients"] for turn, arrival in turns.items()} == {str(turn): 20 for turn in range(1, 6)}
    last = [turns[str(turn)]["last"] for turn in range(2, 6)]
    assert last == sorted(last)
