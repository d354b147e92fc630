"""`facets clusters` on a real Kafka with a real worker: what it lists, and a cluster's end in every view."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from click.testing import CliRunner, Result

from streams.cli.admin.clusters import clusters_command
from streams.kafka.journal_reader import JournalReader
from streams.objects.collector import Collector
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import OPTIONAL, RESOURCES
from streams.serve.run import ServeSettings, Serving, serve
from streams.serve.xds.server import XdsSettings
from streams.subscription.client import Subscriber
from streams.watch.session import now
from streams.wire.records import JOURNAL
from tests.integration.journal import PARTITIONS, clean_topics, endpoint_slice, publish, read_topic, service
from tests.integration.mesh import DEADLINE, Mesh, eventually
from tests.support.server_sent_events import changes
from tests.support.worker_processes import Worker, await_sealed, workers

__all__ = ["workers"]

_ALL = (*RESOURCES, *OPTIONAL)


class Cluster:
    """A made-up cluster with one Service."""

    def __init__(self, bootstrap: str, name: str, epoch: int = 1, source: str = "") -> None:
        self.bootstrap = bootstrap
        self.collector = Collector(
            name, epoch=epoch, writer=f"{name}-{epoch}", seq=100 * epoch, partitions=PARTITIONS, resources=_ALL,
            source=source,
        )  # fmt: skip

    def open(self, service_name: str) -> None:
        made = self.collector
        records = made.begin(now())
        items = {
            "Service": service(service_name, 1),
            "EndpointSlice": endpoint_slice(f"{service_name}-a", service_name, 2, {"10.1.0.1": True}),
        }
        for resource in _ALL:
            made.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
            if resource.kind in items:
                made.ingest(resource.kind, ReflectorEvent(Kind.INIT_APPLY, items[resource.kind], ""))
            made.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, "9"))
        publish(self.bootstrap, records + made.flush(now()))

    def beat(self) -> None:
        publish(self.bootstrap, self.collector.heartbeat(now()))


@pytest.fixture
def clusters(bootstrap_servers: str, tmp_path: Path, workers: list[Worker]) -> dict[str, Cluster]:
    clean_topics(bootstrap_servers)
    made = {"east": Cluster(bootstrap_servers, "east"), "demo": Cluster(bootstrap_servers, "demo", source="demo")}
    made["east"].open("cart")
    made["demo"].open("tea")
    workers.append(Worker(bootstrap_servers, tmp_path, "one"))
    await_sealed(bootstrap_servers, workers)
    return made


@pytest.fixture
async def mesh(bootstrap_servers: str, clusters: dict[str, Cluster]) -> AsyncIterator[Mesh]:
    stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()

    def listening(at: Serving) -> None:
        started.set_result(at)

    server = asyncio.create_task(
        serve(ServeSettings(bootstrap_servers, XdsSettings(port=0), http_port=0), stop, listening)
    )
    async with asyncio.timeout(DEADLINE):
        at = await started
    yield Mesh(None, at)  # type: ignore[arg-type]
    stop.set()
    await server


def command(bootstrap: str, *arguments: str) -> Result:
    return CliRunner().invoke(clusters_command, [*arguments, "--bootstrap-servers", bootstrap], catch_exceptions=True)


def listed(bootstrap: str, *arguments: str) -> dict[str, dict[str, Any]]:
    items = json.loads(command(bootstrap, "-o", "json", *arguments).output)["items"]
    return {each["name"]: each for each in items}


def test_what_is_listed(bootstrap_servers: str, clusters: dict[str, Cluster]) -> None:
    found = listed(bootstrap_servers, "--silent-after", "1h")
    assert [(name, each["source"], each["state"]) for name, each in found.items()] == [
        ("demo", "demo", "ready"), ("east", "kubernetes", "ready"),
    ]  # fmt: skip
    assert 0 <= found["east"]["ageSeconds"] < 3600
    assert abs(found["east"]["clockSkewSeconds"]) < 60
    stale = listed(bootstrap_servers, "--silent-after", "0s")["east"]
    assert (stale["state"], stale["reason"].partition(":")[0]) == ("stale", "WatcherSilent")
    assert command(bootstrap_servers, "-o", "name").output.split() == ["demo", "east"]
    assert len(yaml.safe_load(command(bootstrap_servers, "-o", "yaml").output)["items"]) == 2
    assert command(bootstrap_servers).output.split("\n")[0].split()[:3] == ["NAME", "SOURCE", "STATE"]


async def test_a_forgotten_cluster_is_gone_from_every_view_and_may_be_opened_anew(
    bootstrap_servers: str, clusters: dict[str, Cluster], mesh: Mesh, workers: list[Worker]
) -> None:
    async def names(table: str) -> set[str]:
        found = await mesh.get(f"/v1/facets/{table}")
        return {f"{row['cluster']}/{row['name']}" for row in found["items"]}

    async def services() -> set[str]:
        return {each["name"] for each in (await mesh.get("/v1/propagation"))["services"]}

    async def status(path: str) -> int:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{workers[0].port}{path}") as got:
            await got.read()
            return got.status

    assert await names("backend") == {"east/cart", "demo/tea"}
    assert await services() == {"cart", "tea"}
    async with changes(mesh, "table=backend") as client:
        await client.read()
        done = await asyncio.to_thread(command, bootstrap_servers, "forget", "demo", "--silent-after", "0s")
        assert (done.exit_code, "demo is forgotten" in done.output) == (0, True)
        kind, _, data = await client.read()
        assert (kind, [(row["name"], row["state"]) for row in data["rows"]]) == ("batch", [("tea", "deleted")])
        assert data["phase"] == "close"

    async def is_gone() -> bool:
        return await names("backend") == {"east/cart"} and await services() == {"cart"}

    await eventually(is_gone, "look-ups and xDS have nothing of it")
    async with Subscriber(bootstrap_servers) as subscriber:
        assert {row.cluster for row in (await subscriber.snapshot()).rows} == {"east"}
    propagation = await mesh.get("/v1/propagation")
    assert {each["cluster"] for each in propagation["frontiers"]} == {"east"}
    assert 'cluster="demo"' not in await mesh.text("/metrics")
    assert workers[0].get("/v1/backend/demo/shop/tea")["state"] == "deleted"
    assert await status("/v1/backend/east/shop/cart") == 200

    found = await asyncio.to_thread(listed, bootstrap_servers)
    assert list(found) == ["east"]
    found = await asyncio.to_thread(listed, bootstrap_servers, "--all")
    assert found["demo"]["state"] == "ended"
    again = await asyncio.to_thread(command, bootstrap_servers, "forget", "demo")
    assert (again.exit_code, "has been forgotten before" in again.output) == (0, True)

    # Its old watcher's late commits count for nothing; one that opens it anew may list what is older.
    await asyncio.to_thread(clusters["demo"].beat)
    reader = await asyncio.to_thread(JournalReader, bootstrap_servers)
    standing = await reader.call(reader.standing, "demo")
    await reader.close()
    assert (standing.frontier, standing.closed) == ({}, True)
    await asyncio.to_thread(Cluster(bootstrap_servers, "demo", standing.epoch + 1).open, "milk")

    async def is_back() -> bool:
        return await names("backend") == {"east/cart", "demo/milk"}

    await eventually(is_back, "it is opened anew")


def test_a_live_cluster_is_not_forgotten_unless_forced_and_an_unknown_one_is_named(
    bootstrap_servers: str, clusters: dict[str, Cluster]
) -> None:
    clusters["east"].beat()
    before = len(list(read_topic(bootstrap_servers, JOURNAL)))
    refused = command(bootstrap_servers, "forget", "east", "--silent-after", "1h")
    assert (refused.exit_code, "cluster east is live" in refused.output) == (1, True)
    assert "--force" in refused.output
    assert len(list(read_topic(bootstrap_servers, JOURNAL))) == before
    unknown = command(bootstrap_servers, "forget", "eats")
    assert 'cluster "eats" not found' in str(unknown.exception)
    assert "east" in unknown.exception.remedy  # type: ignore[union-attr]
    assert command(bootstrap_servers, "forget", "east", "--force").exit_code == 0
    deadline = time.monotonic() + DEADLINE
    while "east" in listed(bootstrap_servers):
        assert time.monotonic() < deadline
