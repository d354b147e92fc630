"""A cluster whose API server is killed and comes back, under each policy of its exports: two real control planes, their
watchers, Kafka, a worker, and a subscriber of the clusterset."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing
from typing import Any

import pytest

from streams.kafka.admin import ensure
from streams.subscription.client import Batch, ClusterStatus, Snapshot, Subscriber
from streams.subscription.set_client import join_sets
from streams.wire.records import CLUSTERSET
from tests.support.controlplane import ControlPlane, MissingAssets, Workload, service_exports
from tests.support.facets_processes import Facets, free_port

DEADLINE = 90
AFTER, FLOOR = "service-facets.io/drop-unavailable-after", "service-facets.io/drop-unavailable-floor"
POLICIES = {"kept": {}, "dropped": {AFTER: "3s"}, "floored": {AFTER: "3s", FLOOR: "60%"}}
"""The annotations of each Service's exports. Half of a set's endpoints are in the other cluster: fewer than 60 %."""

Sets = dict[str, dict[str, Any]]


class Following:
    """The newest joined sets, and all that were seen."""

    def __init__(self, items: AsyncIterator[Snapshot | Batch | ClusterStatus], logs: Callable[[], str]) -> None:
        self.newest: Sets = {}
        self.history: list[dict[str, Any]] = []
        self._items = items
        self._logs = logs

    async def until(self, condition: Callable[[Sets], bool]) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                while not condition(self.newest):
                    item = await anext(self._items)
                    for row in item.rows:
                        self.newest[row.name] = row.decode()
                        self.history.append(self.newest[row.name])
        except TimeoutError:
            pytest.fail(f"not within {DEADLINE} s; the sets are {self.newest}\n{self._logs()}")


def populate(plane: ControlPlane) -> None:
    workload = Workload(plane.api, subnet={"east": 0, "west": 64}[plane.name], prefix=f"{plane.name}-n")
    workload.add_nodes()
    workload.add_namespace("shop")
    service_exports.install(plane.api)
    for name, annotations in POLICIES.items():
        workload.service("shop", name, [{"name": "http", "port": 80, "targetPort": 8080}])
        workload.app("shop", name, 2)
        workload.await_ready("shop", name, 2)
        service_exports.export(plane.api, "shop", name, annotations)


@pytest.fixture
def planes(facets: Facets) -> Iterator[dict[str, ControlPlane]]:
    """Two control planes that export the same Services, and the parts that follow them."""
    try:
        planes = {name: ControlPlane(name) for name in ("east", "west")}
    except MissingAssets as error:
        pytest.fail(str(error))
    with ExitStack() as stack:
        for plane in planes.values():
            stack.callback(plane.stop)
        with ThreadPoolExecutor() as pool:
            list(pool.map(ControlPlane.start, planes.values()))
            list(pool.map(populate, planes.values()))
        ensure(facets.bootstrap, partitions=2)
        facets.start("work", "work", "--http-port", free_port(), "--instance", "e2e")
        for name, plane in planes.items():
            where = ("--kubeconfig", str(plane.readonly), "--cluster", name, "--http-port", free_port())
            facets.start(f"watch-{name}", "watch", *where, "--stale-after", "5")
        yield planes


def endpoints_by_cluster(row: dict[str, Any]) -> dict[str, int]:
    clusters = [endpoint["cluster"] for endpoint in row["endpoints"]]
    return {name: clusters.count(name) for name in sorted(set(clusters))}


def decision(row: dict[str, Any]) -> str:
    (export,) = (export for export in row["exports"] if export["cluster"] == "east")
    return str(export.get("unavailable", {}).get("action", ""))


BOTH = {"east": 2, "west": 2}


async def test_an_api_server_is_killed_and_comes_back_under_each_policy(
    facets: Facets, planes: dict[str, ControlPlane]
) -> None:
    def are_whole(sets: Sets) -> bool:
        return sets.keys() == POLICIES.keys() and all(endpoints_by_cluster(row) == BOTH for row in sets.values())

    async with (
        Subscriber(facets.bootstrap, tables=(CLUSTERSET,)) as subscriber,
        aclosing(join_sets(subscriber, facets.bootstrap)) as items,
    ):
        following = Following(items, facets.logs)
        await following.until(are_whole)
        planes["east"].kill("kube-apiserver")
        await following.until(lambda sets: {name: decision(row) for name, row in sets.items()} == {
            "kept": "", "dropped": "dropped", "floored": "kept",
        })  # fmt: skip
        sets = following.newest
        assert {name: endpoints_by_cluster(row) for name, row in sets.items()} == {
            "kept": BOTH, "dropped": {"west": 2}, "floored": BOTH,
        }  # fmt: skip
        (export,) = (export for export in sets["dropped"]["exports"] if export["cluster"] == "east")
        unavailable = export["unavailable"]
        assert (export["counted"], unavailable["remaining"], unavailable["endpoints"]) == (False, 2, 4)
        assert export["state"] == "stale"

        await asyncio.to_thread(planes["east"].restart, "kube-apiserver")
        await following.until(lambda sets: are_whole(sets) and not any(map(decision, sets.values())))
        # Not an endpoint was missing from a set whose policy keeps them, at no moment.
        for row in following.history[following.history.index(sets["kept"]) :]:
            if row["name"] != "dropped":
                assert endpoints_by_cluster(row) == BOTH
        versions = [row["version"] for row in following.history if row["name"] == "dropped"]
        assert versions == sorted(versions)
