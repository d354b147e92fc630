"""The lease between candidates that share one API server's Lease object, each with a clock of its own."""

import asyncio
import copy
from typing import Any

import pytest

from streams.kube.api_server import ClusterUnusable
from streams.kube.lease import Lease, LeaseLost, lease_name


class Server:
    """The Lease's part of an API server: one object, guarded by its resourceVersion."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.away = False
        self.refuse = 0
        self.before_put: list[Any] = []

    async def send(self, method: str, path: str, body: Any = None, *, seconds: float) -> tuple[int, Any]:
        if self.away:
            raise TimeoutError
        if self.refuse:
            return self.refuse, {"message": "not yours"}
        if method == "GET":
            return (404, {}) if self.lease is None else (200, copy.deepcopy(self.lease))
        if method == "POST":
            if self.lease is not None:
                return 409, {}
            self.lease = {**copy.deepcopy(body), "metadata": {**body["metadata"], "resourceVersion": "1"}}
            return 201, copy.deepcopy(self.lease)
        if self.before_put:
            await self.before_put.pop()()
        assert self.lease is not None
        version = self.lease["metadata"]["resourceVersion"]
        if body["metadata"]["resourceVersion"] != version:
            return 409, {"message": "the object has been modified"}
        self.lease = {**copy.deepcopy(body), "metadata": {**body["metadata"], "resourceVersion": str(int(version) + 1)}}
        return 200, copy.deepcopy(self.lease)

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        found: dict[str, Any] = self.lease["spec"]
        return found


class Clock:
    """Seconds that pass when told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def candidate(server: Server, identity: str, clock: Clock, **more: Any) -> Lease:
    return Lease(server, "east", identity, clock=clock, **more)  # type: ignore[arg-type]


async def tries(lease: Lease) -> bool:
    return await lease._try()


async def test_the_first_has_it_and_the_second_waits() -> None:
    server, clock = Server(), Clock(0)
    one, two = candidate(server, "one", clock), candidate(server, "two", clock)
    assert await tries(one)
    assert not await tries(two)
    assert (one.is_held, two.is_held) == (True, False)
    assert server.spec["holderIdentity"] == "one"
    assert server.spec["leaseTransitions"] == 0


async def test_expiry_is_judged_by_the_own_clock_from_the_last_change_seen() -> None:
    server = Server()
    fast, slow = Clock(1_000_000), Clock(0)
    one, two = candidate(server, "one", slow), candidate(server, "two", fast)
    assert await tries(one)
    fast.now += 3600
    # Seen for the first time: however old its times look, it must first stand unchanged for its whole duration.
    assert not await tries(two)
    fast.now += 4.9
    assert not await tries(two)
    slow.now += 3
    assert await tries(one)
    fast.now += 4.9
    assert not await tries(two)
    fast.now += 5.1
    assert await tries(two)
    assert server.spec["leaseTransitions"] == 1
    assert not await tries(one)


async def test_the_holder_gives_up_before_the_others_may_take_it() -> None:
    server, clock = Server(), Clock(0)
    one, two = candidate(server, "one", clock), candidate(server, "two", clock)
    assert await tries(one)
    assert not await tries(two)
    server.away = True
    clock.now = 4.1
    assert not await tries(one)
    assert not one.is_held
    server.away = False
    assert not await tries(two)
    clock.now = 5.1
    assert await tries(two)


async def test_the_time_counts_from_before_the_request() -> None:
    server, clock = Server(), Clock(0)
    one = candidate(server, "one", clock)
    assert await tries(one)

    async def slow() -> None:
        clock.now += 4.5

    server.before_put.append(slow)
    assert await tries(one)
    assert not one.is_held


async def test_of_two_that_race_one_gets_it() -> None:
    server, clock = Server(), Clock(0)
    one, two, three = (candidate(server, name, clock) for name in ("one", "two", "three"))
    assert await tries(one)
    assert not await tries(two)
    assert not await tries(three)
    clock.now = 6

    async def overtake() -> None:
        assert await tries(three)

    server.before_put.append(overtake)
    assert not await tries(two)
    assert server.spec["holderIdentity"] == "three"
    assert [each.is_held for each in (one, two, three)] == [False, False, True]


async def test_keep_ends_when_another_holds_it() -> None:
    server, clock = Server(), Clock(0)
    one = candidate(server, "one", clock, renew=0)
    assert await tries(one)
    server.lease = {**server.lease, "spec": {**server.spec, "holderIdentity": "two", "renewTime": "later"}}  # type: ignore[dict-item]
    with pytest.raises(LeaseLost, match="two"):
        await asyncio.wait_for(one.keep(), 10)
    assert not one.is_held


async def test_released_it_is_free_at_once() -> None:
    server, clock = Server(), Clock(0)
    one, two = candidate(server, "one", clock), candidate(server, "two", clock, renew=0)
    assert await tries(one)
    assert not await tries(two)
    await one.release()
    assert not one.is_held
    await asyncio.wait_for(two.acquire(), 10)
    await one.release()
    assert server.spec["holderIdentity"] == "two"


async def test_a_lease_taken_up_again_by_its_holder_is_no_transition() -> None:
    server, clock = Server(), Clock(0)
    one = candidate(server, "one", clock)
    assert await tries(one)
    begun = server.spec["acquireTime"]
    clock.now = 100
    assert await tries(one)
    assert (server.spec["leaseTransitions"], server.spec["acquireTime"]) == (0, begun)


@pytest.mark.parametrize("code", [401, 403])
async def test_without_the_right_it_says_which(code: int) -> None:
    server = Server()
    server.refuse = code
    with pytest.raises(ClusterUnusable, match="get the lease default/service-facets-watcher-east") as raised:
        await candidate(server, "one", Clock(0)).acquire()
    assert "coordination.k8s.io" in raised.value.remedy


@pytest.mark.parametrize(
    "spec", [None, 7, {}, {"holderIdentity": 7, "leaseDurationSeconds": "x", "leaseTransitions": "y"}]
)
async def test_a_lease_that_makes_no_sense_runs_out(spec: Any) -> None:
    server, clock = Server(), Clock(0)
    server.lease = {"metadata": {"resourceVersion": "1"}, "spec": spec}
    one = candidate(server, "one", clock)
    await tries(one)
    clock.now = 6
    assert await tries(one)


def test_names_are_labels_and_stay_different() -> None:
    assert lease_name("east") == "service-facets-watcher-east"
    assert lease_name("East") != lease_name("east")
    assert lease_name("a_b") != lease_name("a.b")
    assert len(lease_name("x" * 253)) <= 253
