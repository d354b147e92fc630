"""What `facets serve` answers to questions over HTTP, now and of the past, on a real Kafka, against plain loops over
the objects that the clusters had and over the rows that workers have written."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from streams.serve.http import past
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import TABLES, decode_row, topic_of
from streams.wire.timestamps import later
from tests.integration.journal import read_topic
from tests.support.asking_views import CHANGES, Json, asking
from tests.support.recorded_fleet import (
    ADDRESSES,
    BEGIN,
    CLUSTERS,
    EXPORTED,
    NODES,
    SERVICES,
    ZONES,
    Held,
    RecordedFleet,
)


def written(bootstrap: str, name: str) -> list[Json]:
    """All rows of a Service that workers have written to the tables of single clusters, by time."""
    rows = [
        {"table": table, **decode_row(table, record.value)}
        for table in TABLES
        for record in read_topic(bootstrap, topic_of(table))
        if not record.key.startswith(b"~") and record.key.decode().endswith(f"/shop/{name}") and record.value
    ]
    assert rows
    return sorted(rows, key=lambda row: (row["asOf"]["at"], row["version"]))


def unordered(rows: list[Json]) -> list[Json]:
    return sorted(rows, key=lambda row: (row["table"], row["cluster"], row["version"]))


def found(items: list[Json]) -> set[tuple[str, str, str, str]]:
    """What a look-up has found: table, cluster, Service and address."""
    return {
        (item["table"], endpoint["cluster"], item["name"], endpoint["address"])
        for item in items
        for endpoint in item["endpoints"]
    }


def expected(fleet: RecordedFleet, fits: Callable[[Held], bool], at: str = "") -> set[tuple[str, str, str, str]]:
    """The same of the objects, and of what is exported of them."""
    held = [each for each in fleet.endpoints(at) if fits(each)]
    own = {("backend", each.cluster, each.service, each.address) for each in held}
    return own | {("clusterset", *row[1:]) for row in own if row[2] == EXPORTED}


@pytest.fixture(params=["folded", "indexed"])
def index(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path | None:
    """Where the index is to be, if there is to be one: then nothing is folded for an answer."""
    if request.param == "folded":
        return None
    monkeypatch.setattr(past, "Replay", None)
    return tmp_path / "past.index"


QUESTIONS: list[tuple[dict[str, str], Callable[[Held], bool]]] = [
    *(
        ({"address": address}, lambda held, address=address: held.address == address)
        for network in CLUSTERS.values()
        for address in [f"{network}.{i}" for i in range(1, ADDRESSES + 1, 3)]
    ),
    ({"address": "10.1.0.1:8080"}, lambda held: held.address == "10.1.0.1"),
    ({"address": "10.1.0.1:81"}, lambda held: False),
    *(({"zone": zone}, lambda held, zone=zone: held.zone == zone) for zone in (*ZONES, "z9")),
    *(({"node": node}, lambda held, node=node: held.node == node) for node in NODES),
    ({"pod": "s1-3"}, lambda held: held.pod == "s1-3"),
    ({"pod": "shop/s0-2"}, lambda held: held.pod == "s0-2"),
    ({"pod": "other/s0-2"}, lambda held: False),
    ({"zone": "z1", "cluster": "west"}, lambda held: (held.zone, held.cluster) == ("z1", "west")),
]


@pytest.mark.parametrize("seed", [1, 2])
async def test_look_ups_find_what_the_objects_have_now_and_had_then(
    bootstrap_servers: str, index: Path | None, seed: int
) -> None:
    async with asking(bootstrap_servers, seed, index) as (fleet, client):
        for query, fits in QUESTIONS:
            answer = await client.get("/v1/lookup", **query)
            assert found(answer["items"]) == expected(fleet, fits), query
        for second in (0, CHANGES // 3, CHANGES - 1):
            at = later(BEGIN, second)
            for query, fits in QUESTIONS[::4]:
                answer = await client.get("/v1/lookup", at=at, **query)
                assert found(answer["items"]) == expected(fleet, fits, at), (query, at)
        # A change is seen as soon as it is acknowledged.
        cluster, name, version = await asyncio.to_thread(fleet.change)
        asked = f"cluster={cluster}&resourceVersion={version}&namespace=shop&service={name}&timeout=60"
        assert (await client.mesh.get(f"/v1/acked?{asked}"))["acked"]
        for query, fits in QUESTIONS:
            assert found((await client.get("/v1/lookup", **query))["items"]) == expected(fleet, fits), query


async def test_names_and_cluster_ips_are_looked_up_too(bootstrap_servers: str) -> None:
    async with asking(bootstrap_servers) as (fleet, client):

        async def look_up(**query: str) -> list[tuple[str, str, str, str]]:
            items = (await client.get("/v1/lookup", **query))["items"]
            return [(item["table"], item["cluster"], item["name"], item["heldAs"]) for item in items]

        assert await look_up(address=fleet.cluster_ip("west", "s2")) == [("frontend", "west", "s2", "clusterIP")]
        assert await look_up(address=f"{fleet.cluster_ip('west', 's2')}:81") == []
        both = [("frontend", cluster, "s2", "dnsName") for cluster in CLUSTERS]
        for name in ("s2.shop.svc.cluster.local", "S2.shop.svc.cluster.local.", "s2.shop.svc"):
            assert await look_up(dns=name) == both
        assert await look_up(dns="s2.shop.svc.cluster") == []
        assert await look_up(dns="db.east.example.com") == [("frontend", "east", "db", "externalName")]
        exported = [("clusterset", "", EXPORTED, "dnsName")]
        assert await look_up(dns=f"{EXPORTED}.shop.svc.clusterset.local") == exported
        assert await look_up(dns=f"{EXPORTED}.shop.svc.clusterset.local", cluster="east") == []


async def test_a_look_up_comes_in_pages(bootstrap_servers: str) -> None:
    async with asking(bootstrap_servers) as (_, client):
        whole = (await client.get("/v1/lookup", zone="z1"))["items"]
        pages: list[Json] = []
        after: dict[str, str] = {}
        while True:
            answer = await client.get("/v1/lookup", zone="z1", limit=1, **after)
            pages += answer["items"]
            assert len(answer["items"]) == 1
            if "next" not in answer:
                break
            after = {"after": answer["next"]}
        assert pages == whole
        assert len(pages) > 2
        refused = await client.get("/v1/lookup", zone="z2", **after)
        assert (refused["status"], refused["reason"], refused["parameter"]) == (400, "INVALID_PARAMETER", "after")


async def test_the_history_of_a_service_is_each_row_that_was_written(
    bootstrap_servers: str, index: Path | None
) -> None:
    async with asking(bootstrap_servers, index=index) as (_, client):
        for name in SERVICES[:2]:
            rows = await asyncio.to_thread(written, bootstrap_servers, name)
            answer = await client.history(name, limit=1000)
            assert unordered([row for row in answer["items"] if row["table"] != "clusterset"]) == unordered(rows)
            assert [row["asOf"]["at"] for row in answer["items"]] == sorted(r["asOf"]["at"] for r in answer["items"])
            assert not answer["more"]
            east = [row for row in rows if row["cluster"] == "east"]
            answer = await client.history(name, cluster="east", limit=1000)
            assert unordered(answer["items"]) == unordered(east)
            since, until = later(BEGIN, 5), later(BEGIN, 25)
            window = [r for r in rows if r["table"] == "backend" and since <= r["asOf"]["at"] <= until]
            answer = await client.history(name, table="backend", since=since, until=until)
            assert unordered(answer["items"]) == unordered(window)
            newest = await client.history(name, table="backend", limit=2)
            assert newest["items"] == [row for row in rows if row["table"] == "backend"][-2:]
            assert newest["more"]
        sets = (await client.history(EXPORTED, table="clusterset", limit=1000))["items"]
        assert {"clusterset"} == {row["table"] for row in sets}
        newest_set = (await client.rows("clusterset", EXPORTED))[0]
        assert sets[-1] == newest_set


async def test_a_service_as_it_was_is_the_newest_row_of_then(bootstrap_servers: str, index: Path | None) -> None:
    async with asking(bootstrap_servers, index=index) as (fleet, client):
        for name in SERVICES[:2]:
            rows = await asyncio.to_thread(written, bootstrap_servers, name)
            for second in (0, 11, 23, CHANGES):
                at = later(BEGIN, second)
                for table in TABLES:
                    newest = {r["cluster"]: r for r in rows if r["table"] == table and r["asOf"]["at"] <= at}
                    assert await client.rows(table, name, at=at) == [newest[cluster] for cluster in sorted(newest)]
                then = await client.rows("backend", name, at=at, cluster="west")
                addresses = {(e["address"]) for row in then for e in row["endpoints"]}
                held = [h for h in fleet.endpoints(at) if (h.cluster, h.service) == ("west", name)]
                assert addresses == {each.address for each in held}
        history = (await client.history(EXPORTED, table="clusterset", limit=1000))["items"]
        at = later(BEGIN, 20)
        assert await client.rows("clusterset", EXPORTED, at=at) == [[r for r in history if r["asOf"]["at"] <= at][-1]]


async def test_clusters_say_how_far_they_are_and_what_they_have(bootstrap_servers: str) -> None:
    async with asking(bootstrap_servers) as (fleet, client):
        items = (await client.get("/v1/clusters"))["items"]
        assert [item["name"] for item in items] == sorted(CLUSTERS)
        offsets: dict[tuple[str, int], Json] = {}
        for record in read_topic(bootstrap_servers, topic_of("backend")):
            if record.key.startswith(SEAL_PREFIX):
                seal = orjson.loads(record.value)
                offsets[seal["cluster"], record.partition] = seal
        for item in items:
            held = [each for each in fleet.endpoints() if each.cluster == item["name"]]
            assert (item["endpoints"], item["services"]) == (len(held), len(SERVICES) + 1)
            assert (item["state"], item["epoch"], item["staleSince"]) == ("ready", 1, "")
            assert item["lagSeconds"] >= 0
            own = [(p["partition"], p["offset"], p["seq"], p["frontier"]) for p in item["partitions"]]
            assert own == [
                (partition, seal["offset"], seal["seq"], seal["frontier"])
                for (cluster, partition), seal in sorted(offsets.items())
                if cluster == item["name"]
            ]


async def test_what_can_not_be_answered_is_named(bootstrap_servers: str, index: Path | None) -> None:
    async with asking(bootstrap_servers, index=index) as (_, client):
        early, late = "2020-01-01T00:00:00Z", later(BEGIN, 3600)
        cases: list[tuple[str, Json, int, str, str]] = [
            ("/v1/lookup", {"zone": "z1", "at": early}, 410, "EXPIRED", "before the journal's beginning"),
            ("/v1/lookup", {"zone": "z1", "at": late}, 503, "NOT_UP_TO_BOUND", "after the journal's end"),
            ("/v1/lookup", {"zone": "z1", "at": "2999-01-01T00:00:00Z"}, 400, "INVALID_PARAMETER", "in the future"),
            ("/v1/lookup", {"zone": "z1", "at": "noon"}, 400, "INVALID_PARAMETER", "RFC 3339"),
            ("/v1/lookup", {"zone": "z1", "node": "n1"}, 400, "UNKNOWN_QUERY_TYPE", "give one of"),
            ("/v1/lookup", {}, 400, "UNKNOWN_QUERY_TYPE", "give one of"),
            ("/v1/lookup", {"zone": "z1", "after": "x"}, 400, "INVALID_PARAMETER", "leave it out"),
            ("/v1/lookup", {"zone": "z1", "limit": 1001}, 400, "INVALID_PARAMETER", "from 1 to 1000"),
            ("/v1/lookup", {"zones": "z1"}, 400, "UNKNOWN_QUERY_TYPE", 'did you mean "zone"'),
            ("/v1/lookup", {"address": "10.1.0.1:0"}, 400, "INVALID_PARAMETER", "port"),
            ("/v1/history/shop/s11", {}, 404, "DOES_NOT_EXIST", 'did you mean "s1"'),
            ("/v1/history/shop/s1", {"until": early}, 410, "EXPIRED", "before the journal's beginning"),
            ("/v1/history/shop/s1", {"since": late}, 503, "NOT_UP_TO_BOUND", "after the journal's end"),
            ("/v1/history/shop/s1", {"since": BEGIN, "until": early}, 400, "INVALID_PARAMETER", "after until"),
            ("/v1/history/shop/s1", {"cluster": "east", "table": "clusterset"}, 400, "INVALID_PARAMETER", "leave"),
            ("/v1/facets/backend/shop/s11", {}, 404, "DOES_NOT_EXIST", 'did you mean "s1"'),
            ("/v1/facets/backend/shop/s1", {"at": early}, 410, "EXPIRED", "before the journal's beginning"),
        ]
        for path, query, status, reason, text in cases:
            named = path.replace("/shop/s11", "/{namespace}/{service}").replace("/shop/s1", "/{namespace}/{service}")
            answer = await client.get(path, described_as=named, **query)
            assert (answer["status"], answer["reason"]) == (status, reason), (path, query, answer)
            assert text in answer["error"], (path, query, answer)
