"""Names of the clusterset, and Services' own, at gRPC's own clients in two clusters, from a real Kafka."""

import asyncio
from pathlib import Path
from typing import Any

from tests.integration.mesh import CART, EXPORTED_CART, endpoint_slice, eventually, free_port, running, service
from tests.integration.test_grpc import Backend, GrpcClient, client
from tests.support.journaled_tables import JournaledTables
from tests.unit.xds.world import exported_cart


async def test_what_two_clusters_export_is_one_service_in_both_also_while_no_worker_writes(
    bootstrap_servers: str, tmp_path: Path
) -> None:
    port = free_port("127.0.1.1")
    backends = [await Backend.start(f"127.0.1.{i}", port) for i in range(1, 4)]
    east, west, replaced = (backend.address for backend in backends)
    item = exported_cart()
    items = service(), endpoint_slice("cart-a", "cart", port, {east: "ready"}), item
    async with running(bootstrap_servers, *items, kind=JournaledTables) as mesh:
        assert isinstance(mesh.tables, JournaledTables)
        other = service(clusterIP="127.0.9.2"), endpoint_slice("cart-b", "cart", port, {west: "ready"})
        await asyncio.to_thread(mesh.tables.start, *other, cluster="west")
        async with (
            client(mesh, tmp_path, EXPORTED_CART, "grpc-east", "east") as in_east,
            client(mesh, tmp_path, EXPORTED_CART, "grpc-west", "west") as in_west,
            client(mesh, tmp_path, CART, "grpc-own", "west") as own,
        ):
            for caller in (in_east, in_west):
                await caller.until({east})
            await own.until({west})
            mesh.tables.away = True
            await asyncio.to_thread(mesh.tables.put, item, cluster="west")
            for caller in (in_east, in_west):
                await caller.until({east, west})
            await asyncio.to_thread(
                mesh.tables.put, endpoint_slice("cart-b", "cart", port, {replaced: "ready"}), cluster="west"
            )
            for caller in (in_east, in_west):
                await caller.until({east, replaced})
            await own.until({replaced})
            await asyncio.to_thread(mesh.tables.back)
            await mesh.drop(item, cluster="west")
            for caller in (in_east, in_west):
                await caller.until({east})
            assert await own.addresses() == {("OK", replaced)}
            report = await mesh.get("/v1/propagation?namespace=shop&service=cart")
            assert [(each["node"], each["nacks"]) for each in report["clients"]] == [
                ("grpc-east", 0), ("grpc-west", 0), ("grpc-own", 0),
            ]  # fmt: skip
    for backend in backends:
        await backend.stop()


async def test_a_hosts_name_reaches_that_host_in_its_cluster(bootstrap_servers: str, tmp_path: Path) -> None:
    port = free_port("127.0.1.1")
    backends = [await Backend.start(f"127.0.1.{i}", port) for i in range(1, 5)]
    first, second, in_west, moved = (backend.address for backend in backends)

    def slice_of(hosts: dict[str, str]) -> dict[str, Any]:
        item = endpoint_slice("cart-a", "cart", port, dict.fromkeys(hosts.values(), "ready"))
        for endpoint, hostname in zip(item["endpoints"], hosts, strict=True):
            endpoint["hostname"] = hostname
        return item

    headless = service(clusterIP="None")
    items = headless, slice_of({"cart-0": first, "cart-1": second}), exported_cart()
    host = f"cart-0.{{}}.{EXPORTED_CART}"
    async with running(bootstrap_servers, *items) as mesh:
        await asyncio.to_thread(
            mesh.tables.start, headless, slice_of({"cart-0": in_west}), exported_cart(), cluster="west"
        )
        async with (
            client(mesh, tmp_path, host.format("east"), "grpc-of-east", "west") as of_east,
            client(mesh, tmp_path, host.format("west"), "grpc-of-west", "west") as of_west,
            client(mesh, tmp_path, EXPORTED_CART, "grpc-of-all", "west") as of_all,
        ):
            await of_east.until({first})
            await of_west.until({in_west})
            await of_all.until({first, second, in_west})
            # Another Pod takes the host's place.
            await mesh.put(slice_of({"cart-0": moved, "cart-1": second}))
            await of_east.until({moved})
            await of_all.until({moved, second, in_west})
            await mesh.put(slice_of({"cart-1": second}))

            async def is_gone() -> bool:
                return {status for status, _ in await of_east.addresses(1)} == {"UNAVAILABLE"}

            await eventually(is_gone, "the host is gone")
            await mesh.put(slice_of({"cart-0": first}))
            await eventually(lambda: _answers(of_east, first), "the host is back")
            await of_east.until({first})
            await of_west.until({in_west})
            report = await mesh.get("/v1/propagation?namespace=shop&service=cart")
            assert [(each["node"], each["nacks"]) for each in report["clients"]] == [
                ("grpc-of-east", 0), ("grpc-of-west", 0), ("grpc-of-all", 0),
            ]  # fmt: skip
            assert len(report["services"][0]["clients"]) == 3
    for backend in backends:
        await backend.stop()


async def _answers(caller: GrpcClient, address: str) -> bool:
    return await caller.addresses(1) == {("OK", address)}
