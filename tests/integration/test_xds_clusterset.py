"""Names of the clusterset, and Services' own, at gRPC's own clients in two clusters, from a real Kafka."""

import asyncio
from pathlib import Path

from tests.integration.mesh import CART, EXPORTED_CART, endpoint_slice, free_port, running, service
from tests.integration.test_grpc import Backend, client
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
