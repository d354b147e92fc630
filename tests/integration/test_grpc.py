"""gRPC's own xDS client (xds:///), in Python, with real calls to real backends."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import grpc
import orjson

from streams.runtime.parent_death import bound
from streams.serve.xds.build.bootstrap import Router, grpc_bootstrap
from tests.integration.mesh import (
    CART,
    DEADLINE,
    EXPORTED_CART,
    Mesh,
    endpoint_slice,
    eventually,
    free_port,
    running,
    service,
)
from tests.support.routes import annotated, by_cookie, route, rule, to_service
from tests.unit.xds.world import exported_cart


class Backend:
    """A gRPC server on an address of its own, that answers with its address."""

    def __init__(self, server: Any, address: str) -> None:
        self.address = address
        self._server = server

    @classmethod
    async def start(cls, address: str, port: int) -> Self:
        async def who(request: bytes, context: Any) -> bytes:
            return address.encode()

        server = grpc.aio.server()
        handlers = {"Who": grpc.unary_unary_rpc_method_handler(who)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Backend", handlers),))
        server.add_insecure_port(f"{address}:{port}")
        await server.start()
        return cls(server, address)

    async def stop(self) -> None:
        await self._server.stop(5)


class GrpcClient:
    """The client process; `call` makes it do one call, and gives status, answer and cookie."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._one_at_a_time = asyncio.Lock()

    async def call(self, cookie: str = "") -> tuple[str, str, str]:
        assert self._process.stdin
        assert self._process.stdout
        async with self._one_at_a_time, asyncio.timeout(DEADLINE):
            self._process.stdin.write(f"{cookie}\n".encode())
            line = (await self._process.stdout.readline()).decode().strip("\n")
        status, _, rest = line.partition(" ")
        answer, _, cookie = rest.partition(" ") if status == "OK" else (rest, "", "")
        return status, answer, cookie

    async def addresses(self, count: int = 30, cookie: str = "") -> set[tuple[str, str]]:
        """Status and answer of some calls."""
        return {(await self.call(cookie))[:2] for _ in range(count)}

    async def until(self, addresses: set[str]) -> None:
        """Call until these, and no others, answer; no call may fail."""

        async def are_those() -> bool:
            seen = await self.addresses()
            assert {status for status, _ in seen} == {"OK"}, seen
            return {address for _, address in seen} == addresses

        await eventually(are_those, f"{addresses} answer")


@contextlib.asynccontextmanager
async def client(
    mesh: Mesh, tmp_path: Path, target: str = CART, node_id: str = "grpc-1", cluster: str = ""
) -> AsyncIterator[GrpcClient]:
    bootstrap = tmp_path / f"{node_id}.json"
    router = Router(("127.0.0.1", mesh.xds_port), node_id, cluster=cluster)
    bootstrap.write_bytes(orjson.dumps(grpc_bootstrap(router)))
    process = await asyncio.create_subprocess_exec(
        *bound([sys.executable, str(Path(__file__).parent / "grpc_client.py"), f"xds:///{target}"]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP": str(bootstrap)},
    )
    try:
        yield GrpcClient(process)
    finally:
        assert process.stdin
        process.stdin.close()
        await process.wait()


async def test_a_rolling_replacement_of_all_endpoints_fails_no_call(bootstrap_servers: str, tmp_path: Path) -> None:
    port = free_port("127.0.1.1")
    backends = {f"127.0.1.{i}": await Backend.start(f"127.0.1.{i}", port) for i in range(1, 4)}
    states = dict.fromkeys(backends, "ready")
    cart = endpoint_slice("cart-a", "cart", port, states)
    answers: list[tuple[str, str]] = []
    async with running(bootstrap_servers, service(), cart) as mesh, client(mesh, tmp_path) as caller:
        await caller.until(set(states))
        done = asyncio.Event()

        async def call() -> None:
            while not done.is_set():
                answers.append((await caller.call())[:2])

        calling = asyncio.create_task(call())
        try:
            for i in range(1, 4):
                new, old = f"127.0.2.{i}", f"127.0.1.{i}"
                backends[new] = await Backend.start(new, port)
                states[new] = "ready"
                await mesh.put(endpoint_slice("cart-a", "cart", port, states))
                states[old] = "draining"
                await mesh.put(endpoint_slice("cart-a", "cart", port, states))
                await caller.until({address for address, how in states.items() if how == "ready"})
                del states[old]
                await mesh.put(endpoint_slice("cart-a", "cart", port, states))
                await backends.pop(old).stop()
                await caller.until(set(states))
        finally:
            done.set()
            await calling
        assert {status for status, _ in answers} == {"OK"}
        (seen,) = (await mesh.get("/v1/propagation?namespace=shop&service=cart"))["clients"]
        assert (seen["node"], seen["nacks"], seen["lastNack"]) == ("grpc-1", 0, "")
    for each in backends.values():
        await each.stop()


async def test_ports_of_a_service_change_and_no_resource_is_refused(bootstrap_servers: str, tmp_path: Path) -> None:
    """The new slice is there before the old one goes: an address twice in a resource would be a NACK (gRFC A27)."""
    port = free_port("127.0.1.1")
    backends = [await Backend.start(f"127.0.1.{i}", port) for i in range(1, 3)]
    states = {each.address: "ready" for each in backends}
    cart = service()
    extra = {name: {"name": name, "port": 9000 + i, "protocol": "TCP"} for i, name in enumerate(("ops", "dbg"))}
    answers: list[tuple[str, str]] = []
    lists: list[list[str]] = [["ops"], ["ops", "dbg"], ["dbg"], []]
    async with (
        running(bootstrap_servers, cart, endpoint_slice("cart-0", "cart", port, states)) as mesh,
        client(mesh, tmp_path) as caller,
    ):
        await caller.until(set(states))
        for number, names in enumerate(lists, 1):
            more = [extra[name] for name in names]
            ports = [*cart["spec"]["ports"], *({"name": each["name"], "port": each["port"]} for each in more)]
            await mesh.put({**cart, "spec": {**cart["spec"], "ports": ports}})
            new = endpoint_slice(f"cart-{number}", "cart", port, states)
            await mesh.put({**new, "ports": [*more, *new["ports"]]})
            answers += await caller.addresses()
            # The old one lets go of its endpoints one by one.
            former = [extra[name] for name in lists[number - 2]] if number > 1 else []
            for left in (dict(list(states.items())[:1]), {}):
                old = endpoint_slice(f"cart-{number - 1}", "cart", port, left)
                await mesh.put({**old, "ports": [*former, *old["ports"]]})
                answers += await caller.addresses()
            await caller.until(set(states))
        assert {status for status, _ in answers} == {"OK"}
        (seen,) = (await mesh.get("/v1/propagation?namespace=shop&service=cart"))["clients"]
        assert (seen["node"], seen["nacks"], seen["lastNack"]) == ("grpc-1", 0, "")
    for each in backends:
        await each.stop()


async def test_one_address_in_two_clusters_and_in_two_slices_is_never_refused(
    bootstrap_servers: str, tmp_path: Path
) -> None:
    port = free_port("127.0.1.1")
    backends = [await Backend.start(f"127.0.1.{i}", port) for i in (1, 2)]
    both = {each.address: "ready" for each in backends}
    one = {"127.0.1.1": "ready"}
    cart = endpoint_slice("cart-a", "cart", port, one)
    async with (
        running(bootstrap_servers, service(), cart, exported_cart()) as mesh,
        client(mesh, tmp_path, EXPORTED_CART) as caller,
    ):
        await caller.until(set(one))
        await asyncio.to_thread(mesh.tables.start, cluster="west")
        await mesh.put(exported_cart(), service(), endpoint_slice("cart-a", "cart", port, both), cluster="west")
        await caller.until(set(both))
        # A port is added: the slice with both ports is there before the other one goes.
        ports = [{"name": "http", "port": 80}, {"name": "ops", "port": 9102}]
        second = endpoint_slice("cart-b", "cart", port, one)
        second["ports"].append({"name": "ops", "port": 9102, "protocol": "TCP"})
        await mesh.put(service(ports=ports), second)
        await caller.until(set(both))
        await mesh.drop(cart)
        await caller.until(set(both))
        await mesh.drop(second)
        await caller.until(set(both))
        (seen,) = (await mesh.get("/v1/propagation?namespace=shop&service=cart"))["clients"]
        assert (seen["node"], seen["nacks"], seen["lastNack"]) == ("grpc-1", 0, "")
    for each in backends:
        await each.stop()


async def test_a_cookie_reaches_the_same_endpoint_while_others_change(bootstrap_servers: str, tmp_path: Path) -> None:
    port = free_port("127.0.1.1")
    backends = [await Backend.start(f"127.0.1.{i}", port) for i in range(1, 5)]
    states = {each.address: "ready" for each in backends[:3]}
    items = service(), endpoint_slice("cart-a", "cart", port, states)
    async with running(bootstrap_servers, *items) as mesh, client(mesh, tmp_path) as caller:
        await mesh.put(route("cart", [to_service()], [rule("cart", persistence=by_cookie("cart-session"))]))

        async def is_sticky() -> bool:
            return (await caller.call())[2].startswith("cart-session=")

        await eventually(is_sticky, "a cookie is set")
        _, chosen, cookie = await caller.call()
        others = [each.address for each in backends if each.address != chosen]
        for turn in range(4):
            await mesh.put(endpoint_slice("cart-a", "cart", port, {chosen: "ready", others[turn % 3]: "ready"}))
            assert await caller.addresses(250, cookie) == {("OK", chosen)}
    for each in backends:
        await each.stop()


async def test_service_routing_goes_to_the_cluster_ip(bootstrap_servers: str, tmp_path: Path) -> None:
    port = free_port("127.0.1.1")
    backends = [await Backend.start("127.0.1.1", port), await Backend.start("127.0.9.1", port)]
    name = f"cart.shop.svc.cluster.local:{port}"
    items = service(port=port), endpoint_slice("cart-a", "cart", port, {"127.0.1.1": "ready"})
    async with running(bootstrap_servers, *items) as mesh, client(mesh, tmp_path, name) as caller:
        await caller.until({"127.0.1.1"})
        await mesh.put(annotated(items[0], mesh="service"))
        await caller.until({"127.0.9.1"})
    for each in backends:
        await each.stop()


async def test_client_ip_affinity_is_a_ring_that_a_channel_keeps_to(bootstrap_servers: str, tmp_path: Path) -> None:
    port = free_port("127.0.1.1")
    backends = [await Backend.start(f"127.0.1.{i}", port) for i in range(1, 5)]
    states = {each.address: "ready" for each in backends}
    items = service(sessionAffinity="ClientIP"), endpoint_slice("cart-a", "cart", port, states)
    async with running(bootstrap_servers, *items) as mesh, client(mesh, tmp_path) as caller:
        found = await caller.addresses(50)
        assert len(found) == 1
        assert {status for status, _ in found} == {"OK"}
    for each in backends:
        await each.stop()
