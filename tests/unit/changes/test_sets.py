"""The clusterset over HTTP: sets joined with what their clusters contribute, looked up and followed."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from streams.fold.table import Write
from streams.serve.http.endpoints import all_endpoints
from streams.serve.http.routes import add_endpoints, in_json
from streams.serve.http.sse import ChangesHub, SseSettings
from streams.serve.xds.server import XdsServer, XdsSettings
from streams.subscription.cursor import Cursor
from streams.subscription.freshness import Silence
from streams.subscription.rows import Row
from streams.wire.keys import is_row, parse_row_key
from streams.wire.records import TABLES, Seal
from tests.support.clustersets import Journal, Member, endpoint_slice, export, joined, service

SET = "/v1/facets/clusterset/shop/cart"


class Served:
    """Two clusters that export a Service, and the server's HTTP side, which gets what is folded of them."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.members = {name: Member(name) for name in ("east", "west")}
        self.hub = ChangesHub(SseSettings(), "nowhere", 1, 60.0)
        self.hub.replace("start", (), {}, self._cursor())
        for member, address in zip(self.members.values(), ("10.1.0.1", "10.2.0.1"), strict=True):
            self.take(self.journal.take(member.begin(service(), endpoint_slice("a", address), export())))

    def change(self, cluster: str, *items: dict[str, Any]) -> None:
        self.take(self.journal.take(self.members[cluster].apply(*items)))

    def take(self, writes: list[Write]) -> None:
        rows = tuple(
            Row(write.table, *parse_row_key(write.key.decode()), write.version, write.value)
            for write in writes
            if is_row(write.key) and write.value is not None
        )
        offset = len(self.journal.values) - 1
        seal = Seal("east", offset, 1, "w", 1, self.members["east"].at(), "live", {}, 8)
        self.hub.apply(0, seal, rows, self._cursor())

    def _cursor(self) -> Cursor:
        return Cursor("2026-11-24T12:00:00.000Z", {0: len(self.journal.values) - 1}, {})


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    made = Served()
    yield made
    await made.hub.close()


async def client(hub: ChangesHub) -> TestClient[Any, Any]:
    app = web.Application(middlewares=[in_json])
    add_endpoints(app, XdsServer(XdsSettings(), 1), hub, time.time, all_endpoints())
    return TestClient(TestServer(app))


async def test_a_look_up_is_the_set_with_the_endpoints_of_all_and_304_until_one_of_them_changes(served: Served) -> None:
    async with await client(served.hub) as http:
        answer = await http.get(SET)
        (row,) = (await answer.json())["items"]
        assert row == {"table": "clusterset", **joined(served.journal.writes)[-1]}
        assert [(each["cluster"], each["address"]) for each in row["endpoints"]] == [
            ("east", "10.1.0.1"), ("west", "10.2.0.1"),
        ]  # fmt: skip
        held = {"If-None-Match": answer.headers["ETag"]}
        assert (await http.get(SET, headers=held)).status == 304
        assert (await (await http.get("/v1/facets/clusterset?namespace=shop")).json())["items"] == [row]
        served.change("west", endpoint_slice("a", "10.2.0.2"))
        answer = await http.get(SET, headers=held)
        (after,) = (await answer.json())["items"]
        assert (answer.status, after["endpoints"][1]["address"], after["previous"]) == (200, "10.2.0.2", row["version"])


async def test_a_cluster_that_is_silent_is_stale_in_its_sets_alone(served: Served) -> None:
    async with await client(served.hub) as http:
        before = (await http.get(SET)).headers["ETag"]
        silence = Silence("WatcherSilent: no commit since then", "then")
        served.hub.set_silent({(0, "north"): silence})
        assert (await http.get(SET)).headers["ETag"] == before
        served.hub.set_silent({(0, "west"): silence})
        answer = await http.get(SET)
        (row,) = (await answer.json())["items"]
        assert answer.headers["ETag"] != before
        assert (row["state"], row["reason"]) == ("ready", "west: stale")
        assert [each["state"] for each in row["exports"]] == ["ready", "stale"]


async def test_what_is_not_to_be_had_is_named_with_the_remedy(served: Served) -> None:
    async with await client(served.hub) as http:
        answer = await http.get("/v1/facets/clusterset/shop/tea")
        assert (answer.status, "no cluster exports it" in (await answer.json())["error"]) == (404, True)
        for path in ("/v1/facets/clusterset?cluster=east", "/v1/changes?table=backend&table=clusterset&cluster=east"):
            answer = await http.get(path)
            assert (answer.status, (await answer.json())["parameter"]) == (400, "cluster")
    few = ChangesHub(SseSettings(), "nowhere", 1, 60.0, TABLES)
    few.replace("start", (), {}, Cursor("", {}, {}))
    async with await client(few) as http:
        for path in (SET, "/v1/facets/clusterset", "/v1/changes?table=clusterset"):
            answer = await http.get(path)
            assert (answer.status, "upgrade" in (await answer.json())["error"]) == (404, True)
    await few.close()


async def test_a_stream_has_the_sets_that_change_and_nothing_of_contributions(served: Served) -> None:
    async with await client(served.hub) as http:
        everything = await http.get("/v1/changes")
        answer = await http.get("/v1/changes?table=clusterset&rows=changes")
        (snapshot,) = await rows_of(answer)
        served.change("east", endpoint_slice("a", "10.1.0.1", "10.1.0.2"))
        (batch,) = await rows_of(answer)
        assert (batch["table"], batch["cluster"], batch["previous"]) == ("clusterset", "", snapshot["version"])
        assert [each["address"] for each in batch["endpoints"]] == ["10.1.0.1", "10.1.0.2", "10.2.0.1"]
        # Who names no table has those of the clusters, as before.
        assert {row["table"] for row in await rows_of(everything)} == set(TABLES)
        assert {row["table"] for row in await rows_of(everything)} == {"backend"}


async def rows_of(answer: Any) -> list[dict[str, Any]]:
    text = (await answer.content.readuntil(b"\n\n")).decode()
    (data,) = (line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: "))
    return list(json.loads(data)["rows"])


async def test_a_list_is_filtered_by_what_is_shown_of_a_silent_cluster(served: Served) -> None:
    async with await client(served.hub) as http:

        async def clusters(query: str) -> list[str]:
            answer = await http.get(f"/v1/facets/backend?{query}")
            return [row["cluster"] for row in (await answer.json())["items"]]

        assert await clusters("state=ready") == ["east", "west"]
        assert await clusters("state=stale&state=empty") == []
        served.hub.set_silent({(0, "west"): Silence("WatcherSilent: no commit since then", "then")})
        assert await clusters("state=stale") == await clusters("reason=WatcherSilent") == ["west"]
        assert await clusters("state=ready") == ["east"]
        assert await clusters("sort=-state") == ["west", "east"]
