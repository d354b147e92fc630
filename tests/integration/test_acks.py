"""`facets.acks` on a real Kafka, against what incremental clients themselves noted of what they got."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import click
import grpc
import pytest
from click.testing import CliRunner, Result
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from jsonschema import Draft202012Validator
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient

from streams.cli import cli
from streams.history.acks import AckReader
from streams.history.router_log import RouterLog
from streams.serve.xds.build.names import TYPE_URLS
from streams.wire.ack_records import ACKS
from streams.wire.partitioning import partition_of
from streams.wire.timestamps import later, milliseconds, of_milliseconds, write
from tests.integration.journal import PARTITIONS, read_topic
from tests.integration.mesh import CART, Mesh, endpoint_slice, eventually, running, service, serving
from tests.support.journaled_tables import JournaledTables
from tests.support.server_sent_events import changes

KEY = ("shop", "cart")
FAILURES = (
    "not found on this server", 'did you mean "envoy-two"', "is before what is known of routers", "is in the future",
    "RFC 3339",
)  # fmt: skip
TEA = "tea.shop.svc.cluster.local:80"


class Got(NamedTuple):
    """What a client got, by its own clock (milliseconds): the endpoints, and whether it accepted them."""

    at: int
    addresses: frozenset[str]
    accepted: bool


def now() -> int:
    return time.time_ns() // 1_000_000


def moment() -> int:
    """Now, once that millisecond has passed: whatever comes is later."""
    at = now()
    while now() <= at:
        continue
    return at


class DeltaClient:
    """An incremental client of endpoint sets, that notes what it gets. It refuses sets with an address in `bad`."""

    def __init__(self, call: Any, node: str) -> None:
        self.got: dict[str, list[Got]] = {}
        self.bad: set[str] = set()
        self._call = call
        self._node = Node(id=node, user_agent_name="test")
        self._node.locality.zone = "zone-1"

    async def ask(self, *names: str, drop: tuple[str, ...] = ()) -> None:
        await self._call.write(
            DeltaDiscoveryRequest(
                node=self._node, type_url=TYPE_URLS["eds"], resource_names_subscribe=names,
                resource_names_unsubscribe=drop,
            )
        )  # fmt: skip

    async def run(self) -> None:
        while (response := await self._call.read()) is not grpc.aio.EOF:
            refused = False
            for resource in response.resources:
                assignment = ClusterLoadAssignment.FromString(resource.resource.value)
                addresses = frozenset(
                    endpoint.endpoint.address.socket_address.address
                    for locality in assignment.endpoints
                    for endpoint in locality.lb_endpoints
                )
                is_bad = bool(self.bad & addresses)
                refused = refused or is_bad
                self.got.setdefault(resource.name, []).append(Got(now(), addresses, not is_bad))
            answer = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
            if refused:
                answer.error_detail.message = "an address that is not wanted"
            await self._call.write(answer)

    def accepted(self, name: str, until: int) -> frozenset[str]:
        """By its own notes, the endpoints that it had accepted by then."""
        return [got.addresses for got in self.got[name] if got.accepted and got.at <= until][-1]


@contextlib.asynccontextmanager
async def client(port: int, node: str) -> AsyncIterator[DeltaClient]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
        made = DeltaClient(call, node)
        running_client = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            call.cancel()
            running_client.cancel()
            await asyncio.gather(running_client, return_exceptions=True)


def cart(i: int) -> dict[str, Any]:
    return endpoint_slice("cart-a", "cart", 8080, {f"10.1.0.{i}": "ready"})


async def version(mesh: Mesh) -> int:
    (row,) = (await mesh.get("/v1/facets/backend/shop/cart"))["items"]
    return int(row["version"])


async def failure(mesh: Mesh, path: str) -> tuple[int, str]:
    """The status of an answer, and of its error text what is looked for, if it is in it."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{mesh.http_port}{path}") as answer:
        error = (await answer.json())["error"]
        known = [each for each in FAILURES if each in error]
        return answer.status, known[0] if known else error


async def have_newest(mesh: Mesh, count: int) -> bool:
    """Whether so many routers follow the Service, and have acknowledged its newest version."""
    (found,) = (await mesh.get("/v1/propagation?namespace=shop&service=cart"))["services"]
    return len(found["clients"]) == count and not any(each["behind"] for each in found["clients"])


async def is_only_with(mesh: Mesh, node: str) -> bool:
    """Whether this router alone has acknowledged the newest version, and another has refused it."""
    answer = await mesh.get("/v1/propagation?namespace=shop&service=cart")
    newest = {each["node"] for each in answer["services"][0]["clients"] if not each["behind"]}
    return newest == {node} and any(each["nacks"] for each in answer["clients"])


def log_at(bootstrap: str, until: int, partitions: tuple[int, ...] = ()) -> tuple[RouterLog, AckReader]:
    log = RouterLog(until)
    with AckReader(bootstrap) as reader:
        for batch, partition in reader.batches(until, partitions):
            log.take(batch, partition)
    return log, reader


async def test_each_routers_versions_at_any_time_are_what_it_noted_itself(bootstrap_servers: str) -> None:
    began = moment()
    moments: list[tuple[int, dict[str, frozenset[str]]]] = []
    async with running(bootstrap_servers, service(), cart(0), service("tea")) as mesh:
        versions = {frozenset({"10.1.0.0"}): await version(mesh)}
        async with client(mesh.xds_port, "one") as one, client(mesh.xds_port, "two") as two:
            await one.ask(CART)
            await two.ask(CART, TEA)
            await eventually(lambda: have_newest(mesh, 2), "both have what is there")
            for i in range(1, 6):
                await mesh.put(cart(i))
                versions[frozenset({f"10.1.0.{i}"})] = await version(mesh)
                at = moment()
                moments.append((at, {"one": one.accepted(CART, at), "two": two.accepted(CART, at)}))
            two.bad.add("10.1.0.6")
            await asyncio.to_thread(mesh.tables.put, cart(6))

            await eventually(lambda: is_only_with(mesh, "one"), "one router accepts it, and one refuses it")
            versions[frozenset({"10.1.0.6"})] = await version(mesh)
            acked = await mesh.get("/v1/propagation?namespace=shop&service=cart")
            standing = {each["node"]: each["acked"] for each in acked["services"][0]["clients"]}
            at = moment()
            moments.append((at, {"one": one.accepted(CART, at), "two": two.accepted(CART, at)}))
            assert moments[-1][1] == {"one": {"10.1.0.6"}, "two": {"10.1.0.5"}}
            await two.ask(drop=(CART,))

            async def is_dropped() -> bool:
                (found,) = (await mesh.get("/v1/propagation?namespace=shop&service=cart"))["services"]
                return [each["node"] for each in found["clients"]] == ["one"]

            await eventually(is_dropped, "one router no longer follows it")
            dropped = moment()
    ended = moment()
    for at, accepted in moments:
        log, _ = await asyncio.to_thread(log_at, bootstrap_servers, at)
        assert {node: held.acked for node, held in log.holders(KEY).items()} == {
            node: versions[addresses] for node, addresses in accepted.items()
        }, at
        # It was sent before the router had it, and acknowledged after: all by the clock of one machine.
        for node, which in (("one", one), ("two", two)):
            held = log.holders(KEY)[node]
            (first,) = [got.at for got in which.got[CART] if got.addresses == accepted[node]]
            assert held.acked_sent_at - 1 <= first <= held.acked_at + 1
        assert {(each.node, each.connected, each.zone, each.agent) for each in log.routers()} == {
            ("one", True, "zone-1", "test"), ("two", True, "zone-1", "test"),
        }  # fmt: skip
    assert standing == {"one": versions[frozenset({"10.1.0.6"})], "two": versions[frozenset({"10.1.0.5"})]}
    held = log.holders(KEY)["two"]
    assert held.sent == versions[frozenset({"10.1.0.6"})]
    assert held.refused is not None
    assert (held.refused.type, held.refused.error) == ("eds", "an address that is not wanted")
    # Of a time before, nothing; of one after it no longer followed it, nothing of that router.
    before, _ = await asyncio.to_thread(log_at, bootstrap_servers, began)
    assert before.routers() == []
    partition = partition_of(*KEY, PARTITIONS)
    after, _ = await asyncio.to_thread(log_at, bootstrap_servers, dropped, (partition,))
    assert set(after.holders(KEY)) == {"one"}
    # The server's end is told before it ends.
    last, reader = await asyncio.to_thread(log_at, bootstrap_servers, ended)
    assert {each.node: each.connected for each in last.routers()} == {"one": False, "two": False}
    assert (reader.skipped, reader.is_whole) == (0, True)
    check = Draft202012Validator(json.loads((Path(__file__).parents[2] / "schemas" / "acks.json").read_text()))
    records = await asyncio.to_thread(lambda: list(read_topic(bootstrap_servers, ACKS)))
    for record in records:
        check.validate(json.loads(record.value))
        assert record.key.decode() == json.loads(record.value)["server"]
    # And what is no record is skipped and counted.
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
    for value in (b"garbage", None, b'{"server":"x","at":"noon"}'):
        producer.send(ACKS, value, key=b"x", partition=partition)
    producer.flush()
    producer.close()
    with_garbage, reader = await asyncio.to_thread(log_at, bootstrap_servers, dropped)
    assert reader.skipped == 3
    assert with_garbage.holders(KEY) == after.holders(KEY)


async def test_without_the_topic_it_serves_and_says_so(
    bootstrap_servers: str, caplog: pytest.LogCaptureFixture
) -> None:
    def drop_topic() -> None:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
        admin.delete_topics([ACKS])
        while ACKS in admin.list_topics():
            continue
        admin.close()

    async with running(bootstrap_servers, service(), cart(0)) as mesh:
        await asyncio.to_thread(drop_topic)
        async with serving(bootstrap_servers, mesh.tables) as second, client(second.xds_port, "one") as one:
            await one.ask(CART)
            await eventually(lambda: have_newest(second, 1), "it has what is there")
            await second.put(cart(1))
            assert one.accepted(CART, now()) == {"10.1.0.1"}
    assert "facets topics create" in caplog.text


async def is_gone(bootstrap: str, router: str) -> bool:
    """Whether the end of a router's connection is in the log, and so all that was before."""
    return "disconnected" in (await facets(bootstrap, "history", "--router", router)).stdout


class TimedTables(JournaledTables):
    """Their commits are of now."""

    def put(self, *items: dict[str, Any], cluster: str = "east") -> int:
        """Apply objects in one commit, of now."""
        self.at = write(datetime.now(UTC))
        return super().put(*items, cluster=cluster)

    def beat(self, partitions: Iterable[int] | None = None) -> None:
        """An empty commit of each cluster, of now."""
        self.at = write(datetime.now(UTC))
        super().beat(partitions)


async def facets(bootstrap: str, *arguments: str) -> Result:
    command = [*arguments, "--bootstrap-servers", bootstrap]
    return await asyncio.to_thread(lambda: CliRunner().invoke(cli, command, standalone_mode=False))


async def check_as_seen_by(bootstrap: str, clients: dict[str, DeltaClient], moments: list[str]) -> None:
    """What a router had at these moments is what it had noted itself."""
    for router, which in clients.items():
        for at in moments:
            result = await facets(
                bootstrap, "get", "backend", "shop/cart", "--at", at, "--as-seen-by", router, "-o", "json"
            )
            (row,) = json.loads(result.stdout)["items"]
            assert {each["address"] for each in row["endpoints"]} == which.accepted(CART, milliseconds(at))
        # Nothing has come since.
        result = await facets(bootstrap, "get", "backend", "shop/cart", "--as-seen-by", router, "-o", "json")
        (row,) = json.loads(result.stdout)["items"]
        assert {each["address"] for each in row["endpoints"]} == which.accepted(CART, now())
    result = await facets(bootstrap, "get", "backend", "shop/cart", "--as-seen-by", "envoy-on")
    assert 'router "envoy-on" not found' in str(result.exception)
    result = await facets(bootstrap, "get", "backend", "-n", "shop", "--at", moments[0], "--as-seen-by", "envoy-one")
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [["east", "cart"]]
    result = await facets(bootstrap, "get", "backend", "-w", "--as-seen-by", "envoy-one")
    assert isinstance(result.exception, click.UsageError)


async def test_commands_say_what_a_router_had_and_who_had_an_address(bootstrap_servers: str) -> None:
    async with running(bootstrap_servers, service(), cart(0), kind=TimedTables) as mesh:
        async with client(mesh.xds_port, "envoy-one") as one, client(mesh.xds_port, "envoy-two") as two:
            await one.ask(CART)
            await two.ask(CART)
            await eventually(lambda: have_newest(mesh, 2), "both have what is there")
            await mesh.put(cart(1))
            first, first_version = of_milliseconds(moment()), await version(mesh)
            two.bad.add("10.1.0.2")
            await asyncio.to_thread(mesh.tables.put, cart(2))

            await eventually(lambda: is_only_with(mesh, "envoy-one"), "one router accepts it, and one refuses it")
            second, second_version = of_milliseconds(moment()), await version(mesh)
            live = (await mesh.get("/v1/routers"))["routers"]
            assert [(each["node"], each["zone"], each["services"], each["behind"]) for each in live] == [
                ("envoy-one", "zone-1", 1, 0), ("envoy-two", "zone-1", 1, 1),
            ]  # fmt: skip
            (held,) = (await mesh.get("/v1/routers/envoy-two/versions"))["services"]
            assert (held["name"], held["acked"], held["sent"]) == ("cart", first_version, second_version)
        await asyncio.to_thread(mesh.tables.beat)
        for router in ("envoy-one", "envoy-two"):
            await eventually(lambda router=router: is_gone(bootstrap_servers, router), "its end is recorded")

        async def who(address: str, at: str) -> dict[str, tuple[str, int]]:
            result = await facets(bootstrap_servers, "who", address, "--at", at, "-o", "json")
            assert isinstance(result.exception, SystemExit | None), result.exception
            return {each["router"]: (each["had"], each["version"]) for each in json.loads(result.stdout)["routers"]}

        assert await who("10.1.0.1", first) == dict.fromkeys(("envoy-one", "envoy-two"), ("yes", first_version))
        # The Service has it no more, but the router that refused what is newer still has it.
        assert await who("10.1.0.1", second) == {"envoy-two": ("still", first_version)}
        assert await who("10.1.0.2", second) == {
            "envoy-one": ("yes", second_version), "envoy-two": ("not yet", first_version),
        }  # fmt: skip
        text = (await facets(bootstrap_servers, "who", "10.1.0.2", "--at", second)).stdout
        assert [line.split()[0] for line in text.splitlines() if line] == [
            "CLUSTER", "east", "Routers:", "ROUTER", "envoy-one", "envoy-two",
        ]  # fmt: skip
        await check_as_seen_by(bootstrap_servers, {"envoy-one": one, "envoy-two": two}, [first, second])
        for router, which in (("envoy-one", one), ("envoy-two", two)):
            result = await facets(bootstrap_servers, "history", "--router", router, "shop/cart", "-o", "json")
            steps = [json.loads(line) for line in result.stdout.splitlines()]
            assert sum(step["what"] == "acked" for step in steps) == sum(got.accepted for got in which.got[CART])
            assert sum(step["what"] == "refused" for step in steps) == sum(not got.accepted for got in which.got[CART])
        text = (
            await facets(bootstrap_servers, "history", "--router", "envoy-two", "--since", later(first, 0.001))
        ).stdout
        assert [line.split()[1] for line in text.splitlines()] == ["sent", "refused", "disconnected"]
        assert "EDS: an address that is not wanted" in text
        for router, at, acked, refused in (
            ("envoy-one", first, first_version, None), ("envoy-one", second, second_version, None),
            ("envoy-two", first, first_version, None), ("envoy-two", second, first_version, second_version),
        ):  # fmt: skip
            (held,) = (await mesh.get(f"/v1/routers/{router}/versions?at={at}&namespace=shop"))["services"]
            assert held["acked"] == acked
            assert held["sentAt"] <= at
            assert (held["refused"] and held["refused"]["version"]) == refused
            assert (await mesh.get(f"/v1/routers/{router}/versions?at={at}&namespace=elsewhere"))["services"] == []
        then = await mesh.get(f"/v1/routers?at={second}")
        assert [(each["node"], each["connected"], each["variant"]) for each in then["routers"]] == [
            ("envoy-one", True, "delta"), ("envoy-two", True, "delta"),
        ]  # fmt: skip
        for path, status, text in (
            ("/v1/routers/envoy-tow/versions", 404, "not found on this server"),
            (f"/v1/routers/envoy-tow/versions?at={second}", 404, 'did you mean "envoy-two"'),
            ("/v1/routers?at=2020-01-01T00:00:00Z", 410, "is before what is known of routers"),
            ("/v1/routers?at=2120-01-01T00:00:00Z", 400, "is in the future"),
            ("/v1/routers?at=noon", 400, "RFC 3339"),
        ):
            assert await failure(mesh, path) == (status, text), path
        result = await facets(bootstrap_servers, "history", "--router", "envoy-tow")
        assert str(result.exception) == 'router "envoy-tow" not found in facets.acks'
        assert 'did you mean "envoy-two"' in result.exception.remedy
        result = await facets(bootstrap_servers, "history", "--router", "envoy-two", "--until", "2h")
        assert "is before what is known of routers" in str(result.exception)
        result = await facets(bootstrap_servers, "history", "--router", "envoy-two", "--table", "backend")
        assert isinstance(result.exception, click.UsageError)


async def test_what_an_sse_client_was_sent_is_recorded_too(bootstrap_servers: str) -> None:
    async with running(bootstrap_servers, service(), cart(0), kind=TimedTables, heartbeat=0.2) as mesh:
        seen: list[tuple[str, set[str]]] = []
        async with changes(mesh, "table=backend&namespace=shop") as stream:
            for i in range(3):
                if i:
                    await asyncio.to_thread(mesh.tables.put, cart(i))
                rows = (await stream.read())[2]["rows"]
                addresses = {each["address"] for each in rows[0]["endpoints"]}

                async def is_recorded(addresses: set[str] = addresses) -> bool:
                    routers = await asyncio.to_thread(log_at, bootstrap_servers, now())
                    nodes = [each.node for each in routers[0].routers() if each.variant == "sse"]
                    if not nodes:
                        return False
                    result = await facets(
                        bootstrap_servers, "get", "backend", "shop/cart", "--as-seen-by", nodes[0], "-o", "json"
                    )
                    return any(
                        {each["address"] for each in row["endpoints"]} == addresses
                        for row in json.loads(result.stdout)["items"]
                    )

                await eventually(is_recorded, "what was sent is in the log")
                seen.append((of_milliseconds(moment()), addresses))
        await asyncio.to_thread(mesh.tables.beat)
        log, _ = await asyncio.to_thread(log_at, bootstrap_servers, now())
        (router,) = log.routers()
        for at, addresses in seen:
            result = await facets(
                bootstrap_servers, "get", "backend", "shop/cart", "--at", at, "--as-seen-by", router.node, "-o", "json"
            )
            (row,) = json.loads(result.stdout)["items"]
            assert {each["address"] for each in row["endpoints"]} == addresses
