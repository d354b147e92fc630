"""Lists of rows over HTTP, on a real Kafka: filters, orders, pages and fields against plain loops over the rows that
workers have written; moments against what was written, and when."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiohttp
import pytest

from streams.objects.commits import JournalRecord
from streams.wire.partitioning import partition_of
from streams.wire.records import decode_row, topic_of
from streams.wire.timestamps import later
from tests.integration.journal import PARTITIONS, read_topic
from tests.integration.mesh import DEADLINE, Tables, endpoint_slice, eventually, service, serving
from tests.support.asking_views import Client, Json, asking
from tests.support.recorded_fleet import ADDRESSES, BEGIN, CLUSTERS, NODES, SERVICES, ZONES
from tests.support.server_sent_events import Described

TABLES = ("frontend", "backend", "routing")
NAMES = [f"c{i}" for i in range(12)]
IDENTITY = ("table", "cluster", "namespace", "name", "version")


def newest(bootstrap: str, table: str, at: str = "~") -> list[Json]:
    """The newest row of each key that workers have written, now or up to a time."""
    rows: dict[str, Json] = {}
    for record in read_topic(bootstrap, topic_of(table)):
        if not record.key.startswith(b"~") and record.value:
            row = decode_row(table, record.value)
            if row["asOf"]["at"] <= at:
                rows[record.key.decode()] = {"table": table, **row}
    return [row for _, row in sorted(rows.items()) if row["state"] != "deleted"]


def fits(row: Json, query: dict[str, Any]) -> bool:
    """Whether a row is one that is asked for."""
    for name in ("cluster", "namespace", "state"):
        if query.get(name) and row[name] not in query[name]:
            return False
    if query.get("service") and row["name"] not in query["service"]:
        return False
    reasons = [part.split(":")[0] for part in row["reason"].split("; ")]
    if row["table"] == "routing":
        reasons += [row["gateway"]["reason"], row["mesh"]["reason"]]
    if query.get("reason") and not any(reason in query["reason"] for reason in reasons):
        return False
    if row["table"] == "frontend":
        return not query.get("address") or any(ip in query["address"] for ip in row["clusterIPs"])
    if not any(query.get(name) for name in ("address", "zone", "node", "pod")):
        return True
    return any(
        (not query.get("address") or endpoint["address"] in query["address"])
        and (not query.get("zone") or endpoint["zone"] in query["zone"])
        and (not query.get("node") or endpoint["node"] in query["node"])
        and (not query.get("pod") or endpoint["target"]["name"] in query["pod"])
        for endpoint in row["endpoints"]
    )


def in_order(rows: Iterable[Json], sort: str) -> list[Json]:
    """The rows as they are sorted: by the field, and where it is the same by cluster, namespace and name."""

    def value(row: Json) -> Any:
        name = sort.lstrip("-")
        if name == "endpoints":
            return len(row["endpoints"])
        return row["asOf"]["at"] if name == "at" else row[name]

    ordered = sorted(rows, key=lambda row: (row["cluster"], row["namespace"], row["name"]))
    return sorted(ordered, key=value, reverse=sort.startswith("-")) if sort else ordered


def drawn(rng: random.Random, table: str) -> dict[str, Any]:
    """A query at random."""
    choices: dict[str, list[str]] = {
        "cluster": [*CLUSTERS, "north"],
        "namespace": ["shop", "other"],
        "service": [*SERVICES, "db"],
        "state": ["ready", "empty", "stale"],
        "reason": ["Default", "ServiceNotFound", "ExternalName"],
    }
    if table == "frontend":
        choices["address"] = [f"10.9{i}.0.{j}" for i in range(2) for j in range(1, 5)]
    if table == "backend":
        addresses = [f"{network}.{i}" for network in CLUSTERS.values() for i in range(1, ADDRESSES + 1)]
        choices |= {"address": addresses, "zone": [*ZONES], "node": [*NODES], "pod": ["s0-1", "s1-2", "s2-3", "s3-4"]}
    chosen = rng.sample([*choices], rng.randrange(4))
    return {name: rng.sample(choices[name], rng.randrange(1, len(choices[name]))) for name in chosen}


async def pages(client: Client, path: str, limit: int, **query: Any) -> list[Json]:
    """All pages of a list."""
    items: list[Json] = []
    after: dict[str, str] = {}
    while True:
        answer = await client.get(path, limit=limit, **query, **after)
        items += answer["items"]
        assert len(answer["items"]) <= limit
        if "next" not in answer:
            return items
        assert len(answer["items"]) == limit
        after = {"after": answer["next"]}


@pytest.mark.parametrize("table", TABLES)
async def test_lists_are_the_rows_that_fit_in_their_order(bootstrap_servers: str, table: str) -> None:
    async with asking(bootstrap_servers, seed=3) as (_, client):
        rows = await asyncio.to_thread(newest, bootstrap_servers, table)
        path = f"/v1/facets/{table}"
        assert (await client.get(path)) == {"items": rows}
        assert len(rows) >= len(SERVICES) * len(CLUSTERS)
        rng = random.Random(table)
        orders = ["", *(sign + name for name in ("name", "version", "state", "at", "namespace") for sign in ("", "-"))]
        orders += ["endpoints", "-endpoints"] if table == "backend" else []
        sizes = set()
        for _turn in range(60):
            query, sort = drawn(rng, table), rng.choice(orders)
            expected = in_order([row for row in rows if fits(row, query)], sort)
            asked = query | ({"sort": sort} if sort else {})
            assert (await client.get(path, **asked))["items"] == expected, asked
            assert await pages(client, path, rng.randrange(1, 4), **asked) == expected, asked
            sizes.add(len(expected))
        assert len(sizes) > 3  # The queries do tell rows apart.
        chosen = ["state", "asOf", *(["endpoints"] if table == "backend" else [])]
        answer = await client.get(path, fields=chosen, sort="-version")
        assert answer["items"] == [
            {name: row[name] for name in row if name in {*IDENTITY, *chosen}} for row in in_order(rows, "-version")
        ]


async def test_sets_are_listed_alike(bootstrap_servers: str) -> None:
    async with asking(bootstrap_servers) as (fleet, client):
        (whole,) = (await client.get("/v1/facets/clusterset"))["items"]
        for held in fleet.endpoints():
            exported = held.service == whole["name"]
            for query in ({"address": held.address}, {"pod": f"shop/{held.pod}", "zone": held.zone, "node": held.node}):
                answer = await client.get("/v1/facets/clusterset", **query)
                assert answer["items"] == ([whole] if exported else []), query
        answer = await client.get("/v1/facets/clusterset", fields=["endpoints"])
        assert answer["items"] == [{name: whole[name] for name in whole if name in {*IDENTITY, "endpoints"}}]


async def test_a_list_that_changes_between_its_pages_has_each_service_once(bootstrap_servers: str) -> None:
    async with asking(bootstrap_servers) as (fleet, client):
        for sort in ("", "name", "-name"):
            seen: list[tuple[str, str]] = []
            after: dict[str, str] = {}
            asked = {"sort": sort} if sort else {}
            while True:
                answer = await client.get("/v1/facets/backend", limit=2, **asked, **after)
                seen += [(row["cluster"], row["name"]) for row in answer["items"]]
                if "next" not in answer:
                    break
                after = {"after": answer["next"]}
                await asyncio.to_thread(fleet.change)
            assert sorted(seen) == [(cluster, name) for cluster in CLUSTERS for name in ("db", *SERVICES)]


async def test_a_list_of_the_past_is_what_was_written_by_then(bootstrap_servers: str) -> None:
    async with asking(bootstrap_servers) as (_, client):
        for second in (0, 17, 40):
            at = later(BEGIN, second)
            for table in TABLES:
                rows = await asyncio.to_thread(newest, bootstrap_servers, table, at)
                assert (await client.get(f"/v1/facets/{table}", at=at))["items"] == rows
                west = [row for row in rows if row["cluster"] == "west"]
                assert await pages(client, f"/v1/facets/{table}", 3, at=at, cluster="west") == west


async def test_who_has_the_page_is_told_so_until_it_or_what_follows_differs(bootstrap_servers: str) -> None:
    async with asking(bootstrap_servers) as (fleet, client):

        async def ask(tag: str = "", **query: Any) -> tuple[int, str]:
            return await client.status("/v1/facets/backend", tag, **query)

        status, tag = await ask(limit=2, sort="name")
        assert status == 200
        assert await ask(tag, limit=2, sort="name") == (304, tag)
        everything = await ask(limit=1000, cluster="east")
        assert await ask(everything[1], limit=1000, cluster="east") == (304, everything[1])
        # The same rows, but no longer the last ones.
        few = await ask(limit=5, cluster="east")
        assert few[1] == everything[1]
        extra = service("s9"), endpoint_slice("s9-a", "s9", 8080, {"10.1.0.99": "ready"})
        version = await asyncio.to_thread(lambda: fleet.tables.put(*extra, cluster="east"))
        await client.get(
            "/v1/facets/backend", cluster="east", atLeast=version, namespace="shop", service="s9", timeout=DEADLINE
        )
        status, tag = await ask(few[1], limit=5, cluster="east")
        assert (status, tag != few[1]) == (200, True)


async def test_at_least_waits_for_a_write(bootstrap_servers: str) -> None:
    async with asking(bootstrap_servers) as (fleet, client):
        due = fleet.tables.version + 1
        of_cart: dict[str, Any] = {"cluster": "east", "namespace": "shop", "service": "s1"}
        asked = asyncio.create_task(client.get("/v1/facets/backend", **of_cart, atLeast=due, timeout=DEADLINE))
        await client.mesh.get("/healthz")
        assert not asked.done()
        item = endpoint_slice("s1-z", "s1", 8080, {"10.1.0.77": "ready"})
        assert await asyncio.to_thread(fleet.tables.put, item) == due
        (row,) = (await asked)["items"]
        assert "10.1.0.77" in [endpoint["address"] for endpoint in row["endpoints"]]
        refused = await client.get("/v1/facets/backend", **of_cart, atLeast=due + 1, timeout=0.01)
        assert (refused["status"], refused["reason"]) == (503, "NOT_UP_TO_BOUND")
        assert f"partitions {partition_of('shop', 's1', PARTITIONS)}" in refused["error"]
        refused = await client.get("/v1/facets/backend", cluster="eaast", atLeast=1)
        assert (refused["status"], refused["reason"]) == (404, "DOES_NOT_EXIST")
        assert 'did you mean "east"' in refused["error"]


class HeldTables(Tables):
    """Tables of which some partitions may be held back."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(bootstrap)
        self.held_back: frozenset[int] = frozenset()
        self._held: list[JournalRecord] = []

    def release(self) -> None:
        """Write what was held back."""
        self.held_back, held, self._held = frozenset(), self._held, []
        super()._write(held)

    def _write(self, records: Iterable[JournalRecord]) -> None:
        everything = list(records)
        self._held += [record for record in everything if record.partition in self.held_back]
        super()._write([record for record in everything if record.partition not in self.held_back])


@contextlib.asynccontextmanager
async def held(bootstrap: str) -> AsyncIterator[tuple[HeldTables, Client]]:
    tables = await asyncio.to_thread(HeldTables, bootstrap)
    try:
        items = [item for name in NAMES for item in (service(name), slice_of(name, 1))]
        await asyncio.to_thread(tables.start, *items)
        async with serving(bootstrap, tables) as mesh:
            described = await Described.of(mesh)
            async with aiohttp.ClientSession(f"http://127.0.0.1:{mesh.http_port}") as session:
                yield tables, Client(mesh, session, described)
    finally:
        await asyncio.to_thread(tables.close)


def slice_of(name: str, number: int) -> Json:
    return endpoint_slice(f"{name}-a", name, 8080, {f"10.{number}.0.{NAMES.index(name) + 1}": "ready"})


def networks(items: list[Json]) -> dict[str, str]:
    return {row["name"]: row["endpoints"][0]["address"].split(".")[1] for row in items}


async def test_a_cut_is_of_one_moment_though_partitions_are_not(bootstrap_servers: str) -> None:
    async with held(bootstrap_servers) as (tables, client):
        first, *others = sorted({partition_of("shop", name, PARTITIONS) for name in NAMES})
        assert len(others) == PARTITIONS - 1
        in_first = [name for name in NAMES if partition_of("shop", name, PARTITIONS) == first]

        async def sealed() -> list[int]:
            (cluster,) = (await client.get("/v1/clusters"))["items"]
            return [partition["seq"] for partition in cluster["partitions"]]

        before = await client.get("/v1/facets/backend", cut="sealed")
        assert networks(before["items"]) == dict.fromkeys(NAMES, "1")
        seq = before["cut"]["east"]
        # One commit of all partitions, of which only the first has its part yet.
        tables.held_back = frozenset(others)
        await asyncio.to_thread(tables.put, *(slice_of(name, 2) for name in NAMES))

        async def is_ahead() -> bool:
            return (await sealed())[first] > seq

        await eventually(is_ahead, "the first partition is ahead")
        torn = networks((await client.get("/v1/facets/backend"))["items"])
        assert torn == {name: "2" if name in in_first else "1" for name in NAMES}
        refused = await client.get("/v1/facets/backend", cut="sealed", timeout=0.01)
        assert (refused["status"], refused["reason"]) == (503, "NOT_UP_TO_BOUND")
        assert f"partitions {', '.join(map(str, others))}" in refused["error"]
        asked = asyncio.create_task(client.get("/v1/facets/backend", cut="sealed", timeout=DEADLINE))
        await client.mesh.get("/healthz")
        # The first goes on, and the others come up to where it was.
        await asyncio.to_thread(tables.put, *(slice_of(name, 3) for name in in_first))

        async def is_further() -> bool:
            return (await sealed())[first] == seq + 2

        await eventually(is_further, "the first partition goes on")
        await asyncio.to_thread(tables.release)
        cut = await asked
        assert networks(cut["items"]) == dict.fromkeys(NAMES, "2")
        assert cut["cut"] == {"east": seq + 1}


async def test_moments_that_exclude_each_other_are_refused(bootstrap_servers: str) -> None:
    async with asking(bootstrap_servers) as (_, client):
        cases: list[tuple[Json, str, str]] = [
            ({"at": BEGIN, "cut": "sealed"}, "cut", "UNKNOWN_QUERY_TYPE"),
            ({"at": BEGIN, "atLeast": 1, "cluster": "east"}, "atLeast", "UNKNOWN_QUERY_TYPE"),
            ({"atLeast": 1}, "cluster", "UNKNOWN_QUERY_TYPE"),
            ({"atLeast": 1, "cluster": ["east", "west"]}, "cluster", "UNKNOWN_QUERY_TYPE"),
            ({"sort": "colour"}, "sort", "INVALID_PARAMETER"),
            ({"fields": "colour"}, "fields", "INVALID_PARAMETER"),
            ({"limit": 0}, "limit", "INVALID_PARAMETER"),
            ({"after": "x"}, "after", "INVALID_PARAMETER"),
            ({"address": "nonsense"}, "address", "INVALID_PARAMETER"),
            ({"zones": "z1"}, "zones", "UNKNOWN_QUERY_TYPE"),
        ]
        for query, parameter, reason in cases:
            answer = await client.get("/v1/facets/backend", **query)
            assert (answer["status"], answer["parameter"], answer["reason"]) == (400, parameter, reason), query
        answer = await client.get("/v1/facets/routing", zone="z1")
        assert (answer["status"], answer["parameter"]) == (400, "zone")
