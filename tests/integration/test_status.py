"""`facets serve`, `facets status` and `facets wait --acked` as processes, with a scripted router in between."""

import asyncio
import json
import sys
from typing import Any

import grpc
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from streams.serve.xds.build.names import TYPE_URLS
from tests.integration.mesh import CART, DEADLINE, endpoint_slice, running, service

EDS = TYPE_URLS["eds"]


async def facets(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streams.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_status_and_wait_follow_what_a_router_acknowledges(bootstrap_servers: str) -> None:
    items = service(), endpoint_slice("cart-a", "cart", 8080, {"127.0.1.1": "ready"})
    async with (
        running(bootstrap_servers, *items) as mesh,
        grpc.aio.insecure_channel(f"127.0.0.1:{mesh.xds_port}") as channel,
    ):
        server = f"http://127.0.0.1:{mesh.http_port}"
        wait = (
            *("wait", "cart", "-n", "shop", "--cluster", "east", "--acked", "--server", server),
            *("--bootstrap-servers", bootstrap_servers),
        )
        version = str(mesh.tables.version)
        code, out, error = await facets(*wait, "--resource-version", version)
        assert (code, out) == (4, "")
        assert error.startswith("facets: error: sealed; no router that follows shop/cart is connected\n")

        router = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
        await router.write(
            discovery_pb2.DeltaDiscoveryRequest(node=Node(id="r1"), type_url=EDS, resource_names_subscribe=[CART])
        )
        response: Any = await router.read()
        code, _, said = await facets(*wait, "--resource-version", version, "--timeout", "3s")
        assert (code, "sealed, but not acknowledged by: r1" in said) == (75, True)
        await router.write(discovery_pb2.DeltaDiscoveryRequest(type_url=EDS, response_nonce=response.nonce))
        assert (await facets(*wait, "--resource-version", version))[0] == 0

        gate = ("wait", "cart", "-n", "shop", "--acked", "--server", server)
        assert (await facets(*gate, "--present", "127.0.1.1"))[0] == 0
        code, _, said = await facets(*gate, "--gone", "127.0.1.1", "--timeout", "0.2s")
        assert (code, "127.0.1.1 is not gone" in said) == (75, True)
        code, out, said = await facets(
            *gate, "--gone", "127.0.1.9", "--at-least-routers", "2", "--timeout", "0.2s", "-o", "json"
        )
        assert (code, "only 1 of 2 routers follow the Service" in said) == (75, True)
        assert [(router["node"], router["passed"]) for router in json.loads(out)["routers"]] == [("r1", True)]
        code, _, said = await facets("wait", "crat", "-n", "shop", "--gone", "127.0.1.1", "--server", server)
        assert (code, "Service shop/crat not found" in said) == (66, True)
        assert (await facets("wait", "cart", "--gone", "127.0.1.1", "--present", "127.0.1.1"))[0] == 2

        code, out, _ = await facets("status", "cart", "-n", "shop", "--server", server)
        assert code == 0
        assert [line.split()[0] for line in out.splitlines()] == ["shop/cart", "CLIENT", "r1"]
        assert out.splitlines()[2].split()[3] == "0"
        code, out, _ = await facets("status", "--server", server, "-o", "json")
        assert [each["node"] for each in json.loads(out)["clients"]] == ["r1"]
        assert (await facets("status", "--server", server))[0] == 0
        code, _, said = await facets("status", "shop/crat", "--server", server)
        assert (code, 'service "crat" not found' in said, 'did you mean "cart"?' in said) == (66, True, True)
        code, _, said = await facets("status", "--router", "r11", "--server", server)
        assert (code, 'router "r11" not found' in said, 'did you mean "r1"?' in said) == (66, True, True)
        assert (await facets("status", "shop/cart", "--router", "r1", "--no-headers", "--server", server))[0] == 0
        router.cancel()


async def test_without_a_server_it_says_so() -> None:
    code, _, said = await facets("status", "--server", "http://127.0.0.1:9")
    assert code == 69
    assert "no `facets serve` answers at http://127.0.0.1:9 (Connection refused)" in said
