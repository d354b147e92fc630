"""`facets serve` over HTTP, on a real Kafka: changes, resuming, limits, look-ups; answers are as OpenAPI has them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY

from streams.subscription.client import Batch, Subscriber
from streams.subscription.cursor import Cursor
from tests.integration.mesh import CART, DEADLINE, Mesh, endpoint_slice, eventually, running, service
from tests.support.server_sent_events import Changes, Described, changes, small_socket

LARGE = 20
"""So many batches of a megabyte are more than sockets and their buffers hold."""


def large(turn: int) -> dict[str, Any]:
    many = {f"10.{turn}.{i // 250}.{i % 250 + 1}": "ready" for i in range(1000)}
    return endpoint_slice("cart-a", "cart", 8080, many)


def cart(i: int, owner: str = "cart") -> dict[str, Any]:
    return endpoint_slice(f"{owner}-a", owner, 8080, {f"10.1.{i // 250}.{i % 250 + 1}": "ready"})


async def put(mesh: Mesh, *items: dict[str, Any]) -> None:
    await asyncio.to_thread(mesh.tables.put, *items)


async def test_a_snapshot_then_batches_and_a_cursor_that_goes_on_anywhere(bootstrap_servers: str) -> None:
    async with running(bootstrap_servers, service(), cart(0), heartbeat=0.2) as mesh:
        async with changes(mesh, "table=backend&namespace=shop") as client:
            kind, cursor, data = await client.read()
            assert (kind, data["reason"], data["first"], data["last"]) == ("snapshot", "start", True, True)
            assert [row["endpoints"][0]["address"] for row in data["rows"]] == ["10.1.0.1"]
            for i in (1, 2, 3):
                await put(mesh, cart(i))
            seen, cursor = await client.versions(1)
        # The ring goes on from it, and so does a subscriber of our own.
        async with changes(mesh, "table=backend", cursor) as client:
            more, _ = await client.versions(2)
        versions = [version for _, _, version in seen + more]
        assert versions == sorted(set(versions))
        assert len(versions) == 3
        async with asyncio.timeout(DEADLINE), Subscriber(bootstrap_servers, cursor=cursor) as subscriber:
            items = aiter(subscriber)
            again = [await anext(items), await anext(items)]
        assert all(isinstance(each, Batch) for each in again)
        assert [row.version for each in again for row in each.rows] == versions[1:]
        async with changes(mesh, "table=backend", again[0].cursor) as client:
            assert [version for _, _, version in (await client.versions(1))[0]] == versions[2:]


async def test_filters_and_heartbeats_with_the_frontier(bootstrap_servers: str) -> None:
    items = service(), cart(0), service("tea"), cart(0, "tea")
    async with running(bootstrap_servers, *items, heartbeat=0.1) as mesh:
        async with changes(mesh, "service=tea&cluster=east") as client:
            _, _, data = await client.read()
            assert {row["name"] for row in data["rows"]} == {"tea"}
            assert {row["table"] for row in data["rows"]} >= {"frontend", "backend"}
            await put(mesh, cart(1), cart(1, "tea"))
            assert [name for _, name, _ in (await client.versions(1))[0]] == ["tea"]
            while (event := await client.any())[0] != "heartbeat":
                pass
            assert int(event[2]["frontiers"]["east"]["endpointslices.discovery.k8s.io"]) > 0
            cursor = event[1]
        async with changes(mesh, "service=tea", cursor) as client:
            await put(mesh, cart(2, "tea"))
            assert [name for _, name, _ in (await client.versions(1))[0]] == ["tea"]
        async with changes(mesh, "service=nobody") as client:
            assert (await client.read())[2]["rows"] == []


async def test_a_cursor_older_than_the_ring_is_caught_up_from_kafka_with_each_change_once(
    bootstrap_servers: str,
) -> None:
    async with running(bootstrap_servers, service(), cart(0), ring_events=2, max_catching_up=1) as mesh:
        async with changes(mesh) as client:
            _, cursor, _ = await client.read()
        before = counted("facets_http_caught_up_total")
        for i in range(1, 20):
            await put(mesh, cart(i))
        async with changes(mesh, "table=backend", cursor) as client:
            seen, _ = await client.versions(19)
            for i in range(20, 25):
                await put(mesh, cart(i))
            more, _ = await client.versions(5)
            versions = [version for _, _, version in seen + more]
            assert versions == sorted(set(versions))
            assert len(versions) == 24
            assert counted("facets_http_caught_up_total") == before + 1
            # The slot is free again, though the first one still follows.
            async with changes(mesh, "table=backend", cursor) as other:
                assert len((await other.versions(24))[0]) == 24


async def test_a_cursor_older_than_the_window_is_told_so_and_gets_a_snapshot(bootstrap_servers: str) -> None:
    async with running(bootstrap_servers, service(), cart(0)) as mesh:
        async with changes(mesh) as client:
            _, cursor, _ = await client.read()
        old = Cursor.decode(cursor)._replace(at="2020-01-01T00:00:00.000Z").encode()
        async with changes(mesh, "table=backend", old) as client:
            kind, _, data = await client.read()
            assert (kind, data["reason"], len(data["rows"])) == ("snapshot", "expired", 1)
        # Of another log: the topics have not so much.
        decoded = Cursor.decode(cursor)
        lost = decoded._replace(positions={each: at + 1000 for each, at in decoded.positions.items()})
        ahead = lost._replace(applied={p: offset + 1000 for p, offset in lost.applied.items()}).encode()
        async with changes(mesh, "table=backend", ahead) as client:
            assert (await client.read())[2]["reason"] == "lost"


async def test_a_client_that_reads_nothing_is_put_out_and_delays_nobody(bootstrap_servers: str) -> None:
    async with running(bootstrap_servers, service(), cart(0), read_within=1.0, heartbeat=0.2) as mesh:
        before = counted("facets_http_ended_total", reason="stalled")
        silent = small_socket((socket.AF_INET, socket.SOCK_STREAM, 0))
        silent.connect(("127.0.0.1", mesh.http_port))
        silent.sendall(b"GET /v1/changes HTTP/1.1\r\nHost: x\r\n\r\n")
        async with changes(mesh, "table=backend") as client:
            await client.read()
            for turn in range(LARGE):
                await put(mesh, large(turn))
                _, _, data = await client.read()
                assert len(data["rows"][0]["endpoints"]) == 1000

            async def is_out() -> bool:
                return counted("facets_http_ended_total", reason="stalled") == before + 1

            await eventually(is_out, "the silent client is put out")
        silent.close()


async def test_one_that_loses_its_place_is_told_to_come_back_and_does(bootstrap_servers: str) -> None:
    async with running(bootstrap_servers, service(), cart(0), ring_bytes=1_000_000, read_within=DEADLINE) as mesh:
        async with changes(mesh, "table=backend") as client:
            _, cursor, _ = await client.read()
            for turn in range(LARGE):
                await put(mesh, large(turn))
            seen = []
            while (event := await client.read())[0] == "batch":
                _, cursor, data = event
                seen += [row["version"] for row in data["rows"]]
            assert (event[0], event[2]["reason"]) == ("end", "slow")
        async with changes(mesh, "table=backend", cursor) as client:
            rest, _ = await client.versions(LARGE - len(seen))
        versions = seen + [version for _, _, version in rest]
        assert versions == sorted(set(versions))
        assert len(versions) == LARGE


async def test_look_ups_and_all_other_answers_are_as_described(bootstrap_servers: str) -> None:
    async with running(bootstrap_servers, service(), cart(0)) as mesh:
        described = await Described.of(mesh)
        described.check_answer("/v1/facets/backend", 200, found := await mesh.get("/v1/facets/backend?namespace=shop"))
        assert [row["name"] for row in found["items"]] == ["cart"]
        path = "/v1/facets/{}/{{namespace}}/{{service}}"
        for table in ("frontend", "backend"):
            found = await mesh.get(f"/v1/facets/{table}/shop/cart")
            described.check_answer(path.format(table), 200, found)
            assert [(row["table"], row["cluster"]) for row in found["items"]] == [(table, "east")]
        for name in ("/healthz", "/readyz", "/v1/propagation"):
            described.check_answer(name, 200, await mesh.get(name))
        asked = f"/v1/acked?cluster=east&resourceVersion={mesh.tables.version}&timeout=0"
        described.check_answer("/v1/acked", 200, await mesh.get(asked))
        asked = "/v1/wait?namespace=shop&service=cart&address=10.9.9.9&until=gone&timeout=0"
        described.check_answer("/v1/wait", 200, await mesh.get(asked))
        async with aiohttp.ClientSession(f"http://127.0.0.1:{mesh.http_port}") as session:
            async with session.get("/v1/facets/backend/shop/nobody") as answer:
                described.check_answer(path.format("backend"), answer.status, await answer.json())
                assert answer.status == 404
            async with session.get("/v2/pods") as answer:
                assert (answer.status, "openapi" in (await answer.json())["error"]) == (404, True)
            async with session.post("/v1/changes") as answer:
                assert (answer.status, answer.headers["Allow"]) == (405, "GET")
            async with session.get("/metrics") as answer:
                assert "facets_http_clients" in await answer.text()
        assert CART.startswith("cart.shop")


async def test_changes_alone_make_the_same_sets_as_whole_rows(bootstrap_servers: str) -> None:
    """A client that gets `rows=changes` applies them to what it holds: from the ring, and from topics before it."""
    async with running(bootstrap_servers, service(), cart(0), ring_events=2) as mesh:
        query = "table=backend&rows=changes"
        async with changes(mesh, query) as live, changes(mesh, "table=backend") as whole:
            _, cursor, data = await live.read()
            (row,) = data["rows"]
            start = row["version"], by_port(row["endpoints"])
            await whole.read()
            states = (1, "ready"), (2, "ready"), (3, "draining")
            for addresses in [*({f"10.1.0.{i}": "ready", "10.1.0.9": state} for i, state in states), {}]:
                await put(mesh, endpoint_slice("cart-a", "cart", 8080, addresses))
            sets = []
            for _ in range(4):
                _, _, data = await whole.read()
                sets.append((data["rows"][0]["version"], by_port(data["rows"][0]["endpoints"])))
            assert await apply_changes(live, start, 4) == sets
        async with changes(mesh, query, cursor) as late:
            assert await apply_changes(late, start, 4) == sets


def by_port(endpoints: list[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    return {
        (each["family"], each["address"], port["name"], port["protocol"], port["port"]): {**each, "ports": [port]}
        for each in endpoints
        for port in each["ports"]
    }


async def apply_changes(client: Changes, start: tuple[int, dict[Any, Any]], count: int) -> list[tuple[int, Any]]:
    version, held = start
    sets = []
    for _ in range(count):
        _, _, data = await client.read()
        (row,) = data["rows"]
        assert "endpoints" not in row
        assert row["previous"] == version
        removed = by_port(row["change"]["removed"])
        held = {key: endpoint for key, endpoint in held.items() if key not in removed}
        held |= by_port(row["change"]["added"]) | by_port(row["change"]["updated"])
        version = row["version"]
        sets.append((version, held))
    return sets


async def test_who_has_the_rows_is_told_so_in_short(bootstrap_servers: str) -> None:
    async with running(bootstrap_servers, service(), cart(0)) as mesh, aiohttp.ClientSession() as session:

        async def look_up(path: str, tag: str = "") -> tuple[int, str, bytes]:
            url = f"http://127.0.0.1:{mesh.http_port}/v1/facets/{path}"
            async with session.get(url, headers={"If-None-Match": tag} if tag else {}) as answer:
                return answer.status, answer.headers["ETag"], await answer.read()

        for path in ("backend/shop/cart", "backend", "backend?namespace=shop"):
            status, tag, body = await look_up(path)
            assert (status, bool(body)) == (200, True)
            assert await look_up(path, tag) == (304, tag, b"")
            assert await look_up(path, f'"other", W/{tag}') == (304, tag, b"")
            assert await look_up(path, "*") == (304, tag, b"")
            assert (await look_up(path, '"other"'))[0] == 200
        await put(mesh, cart(1))

        async def has_changed() -> bool:
            return (await look_up("backend", tag))[0] == 200

        await eventually(has_changed, "another ETag")
        assert b"10.1.0.2" in (await look_up("backend", tag))[2]


@pytest.mark.parametrize(
    ("query", "headers", "name"),
    [
        ("table=pods", {}, "table"),
        ("tabel=backend", {}, "tabel"),
        ("namespace=UP", {}, "namespace"),
        ("namespace=" + "a" * 300, {}, "namespace"),
        ("service=%0a", {}, "service"),
        ("cluster=a/b", {}, "cluster"),
        ("&".join(f"service=s{i}" for i in range(101)), {}, "service"),
        ("cursor=nonsense", {}, "cursor"),
        ("", {"Last-Event-ID": "e30="}, "Last-Event-ID"),
    ],
)
async def test_what_is_wrong_is_named(shared: Mesh, query: str, headers: dict[str, str], name: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{shared.http_port}/v1/changes?{query}", headers=headers) as answer,
    ):
        said = await answer.json()
        assert (answer.status, said["parameter"]) == (400, name)
        assert name in said["error"]


async def test_no_more_clients_and_no_longer_headers_than_are_allowed(shared: Mesh) -> None:
    url = f"http://127.0.0.1:{shared.http_port}/v1/changes"
    async with changes(shared) as client, aiohttp.ClientSession() as session:
        await client.read()
        async with session.get(url) as answer:
            assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (503, True)
            assert "--max-http-clients" in (await answer.json())["error"]
        async with session.get(url, headers={"Last-Event-ID": "x" * 100_000}) as answer:
            assert answer.status == 400


@pytest.fixture
async def shared(bootstrap_servers: str) -> AsyncIterator[Mesh]:
    async with running(bootstrap_servers, service(), cart(0), max_clients=1) as mesh:
        yield mesh


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0
