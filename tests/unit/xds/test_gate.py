"""Gates: an address is gone, or present, when each router that follows the Service has acknowledged such a set."""

import asyncio

import pytest

from tests.support.asking import acknowledge, asking, follow
from tests.support.serving import DEADLINE, serving, stream
from tests.unit.xds.world import CART, endpoint, exported_cart, service, slice_of

FIRST, SECOND = "10.1.0.1", "10.1.0.2"


async def test_an_address_is_gone_when_each_router_has_acknowledged_a_set_without_it() -> None:
    async with (
        serving() as served,
        asking(served) as asked,
        stream(served.server, "Delta") as one,
        stream(served.server, "Delta") as other,
    ):
        await acknowledge(one, await follow(one, "n1"))
        await acknowledge(other, await follow(other, "n2"))
        gone = {"gone": FIRST, "acked": "true"}
        assert (await asked.wait(timeout="0.05", **gone))["sealed"] is False
        waiting = asyncio.create_task(asked.wait(timeout=str(DEADLINE), **gone))
        served.put(slice_of(endpoint(SECOND)))
        assert await asked.now(gone=FIRST)
        assert not await asked.now(**gone)
        await acknowledge(one, await one.read())
        behind = await asked.wait(timeout="0.05", **gone)
        assert {router["node"]: router["passed"] for router in behind["routers"]} == {"n1": True, "n2": False}
        assert not waiting.done()
        await acknowledge(other, await other.read())
        answer = await waiting
        assert (answer["done"], [router["passed"] for router in answer["routers"]]) == (True, [True, True])


async def test_a_refused_set_does_not_count() -> None:
    async with serving() as served, asking(served) as asked, stream(served.server, "Delta") as call:
        await acknowledge(call, await follow(call))
        served.put(slice_of(endpoint(SECOND)))
        await acknowledge(call, await call.read(), error="no")
        assert not await asked.now(gone=FIRST, acked="true")
        served.put(slice_of(endpoint("10.1.0.3")))
        await acknowledge(call, await call.read())
        assert (await asked.wait(gone=FIRST, acked="true", timeout=str(DEADLINE)))["done"]


async def test_an_address_that_comes_back_is_not_gone_by_an_old_acknowledgement() -> None:
    async with serving() as served, asking(served) as asked, stream(served.server, "Delta") as call:
        await acknowledge(call, await follow(call))
        waiting = asyncio.create_task(asked.wait(gone=FIRST, acked="true", timeout=str(DEADLINE)))
        served.put(slice_of(endpoint(SECOND)))
        without = await call.read()
        served.put(slice_of(endpoint(FIRST)))
        served.put(slice_of(endpoint(SECOND), endpoint("10.1.0.3")))
        await acknowledge(call, without)
        last = await call.read()
        assert not await asked.now(gone=FIRST, acked="true")
        assert not waiting.done()
        await acknowledge(call, last)
        assert (await waiting)["done"]


async def test_what_is_not_ready_or_drains_is_gone_and_not_present() -> None:
    async with serving() as served, asking(served) as asked:
        served.put(slice_of(endpoint(FIRST, terminating=True, ready=False, serving=True), endpoint(SECOND)))
        assert await asked.now(gone=FIRST)
        assert not await asked.now(present=FIRST)
        assert await asked.now(present=SECOND)
        served.put(slice_of(endpoint(FIRST, ready=False), endpoint(SECOND)))
        assert await asked.now(gone=FIRST)


async def test_present_with_port_and_cluster_and_how_many_routers() -> None:
    async with serving() as served, asking(served) as asked, stream(served.server, "Delta") as call:
        assert await asked.now(present=f"{FIRST}:8080", cluster="east")
        assert not await asked.now(present=f"{FIRST}:8081")
        assert not await asked.now(present=FIRST, cluster="west")
        assert await asked.now(present=FIRST, acked="true")
        assert not await asked.now(present=FIRST, acked="true", atLeastRouters="1")
        waiting = asyncio.create_task(
            asked.wait(present=FIRST, acked="true", atLeastRouters="1", timeout=str(DEADLINE))
        )
        await acknowledge(call, await follow(call))
        assert (await waiting)["done"]


async def test_only_routers_that_are_given_the_clusters_endpoints_are_waited_for() -> None:
    of_set = CART.replace("cluster.local", "clusterset.local")
    async with (
        serving() as served,
        asking(served) as asked,
        stream(served.server, "Delta") as in_east,
        stream(served.server, "Delta") as in_west,
        stream(served.server, "Delta") as of_both,
    ):
        served.world.start("west")
        served.world.put(service(), slice_of(endpoint("10.2.0.1")), cluster="west")
        served.put()
        await acknowledge(in_east, await follow(in_east, "n1", "east"))
        await acknowledge(in_west, await follow(in_west, "n2", "west"))
        present = await asked.wait(present=FIRST, acked="true", timeout=str(DEADLINE))
        assert (present["done"], [router["node"] for router in present["routers"]]) == (True, ["n1"])
        present = await asked.wait(present="10.2.0.1", acked="true", timeout=str(DEADLINE))
        assert [router["node"] for router in present["routers"]] == ["n2"]
        served.put(exported_cart())
        response = await follow(of_both, "n3", "west", of_set)
        assert not await asked.now(present=FIRST, acked="true", cluster="east")
        await acknowledge(of_both, response)
        present = await asked.wait(present=FIRST, acked="true", cluster="east", timeout=str(DEADLINE))
        assert (present["done"], [router["node"] for router in present["routers"]]) == (True, ["n1", "n3"])
        served.put(slice_of(endpoint(SECOND)))
        await acknowledge(in_east, await in_east.read())
        assert not await asked.now(gone=FIRST, acked="true")
        await acknowledge(of_both, await of_both.read())
        assert (await asked.wait(gone=FIRST, acked="true", timeout=str(DEADLINE)))["done"]


async def test_a_deleted_service_has_no_address_once_that_is_acknowledged() -> None:
    async with serving() as served, asking(served) as asked, stream(served.server, "Delta") as call:
        await acknowledge(call, await follow(call))
        waiting = asyncio.create_task(asked.wait(gone=FIRST, acked="true", timeout=str(DEADLINE)))
        assert not await asked.now(gone=FIRST)
        served.drop(service(), slice_of(endpoint(FIRST)))
        removal = await call.read()
        assert list(removal.removed_resources) == [CART]
        assert not waiting.done()
        await acknowledge(call, removal)
        assert (await waiting)["done"]


@pytest.mark.parametrize(
    ("query", "status", "parameter"),
    [
        ({}, 400, "address"),
        ({"address": FIRST}, 400, "until"),
        ({"address": FIRST, "until": "soon"}, 400, "until"),
        ({"gone": "cart"}, 400, "address"),
        ({"present": "10.1.0.1:70000"}, 400, "address"),
        ({"gone": FIRST, "acked": "perhaps"}, 400, "acked"),
        ({"gone": FIRST, "atLeastRouters": "-1"}, 400, "atLeastRouters"),
        ({"gone": FIRST, "timeout": "nan"}, 400, "timeout"),
        ({"gone": FIRST, "service": "crat"}, 404, None),
    ],
)
async def test_what_is_asked_wrongly_is_explained(query: dict[str, str], status: int, parameter: str | None) -> None:
    async with serving() as served, asking(served) as asked:
        answer = await asked.wait(**query)
        assert (answer["status"], answer.get("parameter")) == (status, parameter)


async def test_the_limit_of_waiting_requests_is_one_for_all_endpoints() -> None:
    write = {"cluster": "east", "resourceVersion": "999999", "timeout": str(DEADLINE)}
    async with serving() as served, asking(served) as asked, asyncio.TaskGroup() as group:
        waiting = [group.create_task(asked.wait(present="10.9.9.9", timeout=str(DEADLINE))) for _ in range(51)]
        waiting += [group.create_task(asked.get("/v1/acked", **write)) for _ in range(50)]
        done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result()["status"] for task in done] == [503]
        for task in pending:
            task.cancel()
