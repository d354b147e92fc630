"""Names of the clusterset at gRPC's own clients in two clusters, from a real Kafka."""

import asyncio
from pathlib import Path

from tests.integration.mesh import endpoint_slice, free_port, running, service
from tests.integration.test_grpc import Backend, client
from tests.support.clustersets import export
from tests.support.journaled_tables import JournaledTables

CART = "cart.shop.svc.clusterset.local:80"


async def test_what_two_clusters_export_is_one_service_in_both_also_while_no_worker_writes(
    bootstrap_servers: str, tmp_path: Path
) -> None:
    port = free_port("127.0.1.1")
    backends = [await Backend.start(f"127.0.1.{i}", port) for i in range(1, 4)]
    east, west, replaced = (backend.address for backend in backends)
    item = export()
    item["metadata"]["uid"] = "uid-export"
    items = service(), endpoint_slice("cart-a", "cart", port, {east: "ready"}), item
    async with running(bootstrap_servers, *items, kind=JournaledTables) as mesh:
        assert isinstance(mesh.tables, JournaledTables)
        other = service(clusterIP="127.0.9.2"), endpoint_slice("cart-b", "cart", port, {west: "ready"})
        await asyncio.to_thread(mesh.tables.start, *other, cluster="west")
        async with (
            client(mesh, tmp_path, CART, "grpc-east", "east") as in_east,
            client(mesh, tmp_path, CART, "grpc-west", "west") as in_west,
        ):
            for caller in (in_east, in_west):
                await caller.until({east})
            mesh.tables.away = True
            await asyncio.to_thread(mesh.tables.put, item, cluster="west")
            for caller in (in_east, in_west):
                await caller.until({east, west})
            await asyncio.to_thread(
                mesh.tables.put, endpoint_slice("cart-b", "cart", port, {replaced: "ready"}), cluster="west"
            )
            for caller in (in_east, in_west):
                await caller.until({east, replaced})
            await asyncio.to_thread(mesh.tables.back)
            await mesh.drop(item, cluster="west")
            for caller in (in_east, in_west):
                await caller.until({east})
            report = await mesh.get("/v1/propagation?namespace=shop&service=cart")
            assert [(each["node"], each["nacks"]) for each in report["clients"]] == [("grpc-east", 0), ("grpc-west", 0)]
    for backend in backends:
        await backend.stop()
