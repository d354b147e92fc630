"""The xDS server on a real port: who is let in, who is put out, and that no client waits for another."""

import asyncio
import contextlib
import time
from typing import Any

import grpc
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.struct_pb2 import Struct
from prometheus_client import generate_latest

from streams.runtime.probes import Readiness, add_probe_routes
from streams.serve.http.endpoints import all_endpoints
from streams.serve.http.routes import add_endpoints, in_json
from streams.serve.http.sse import ChangesHub, SseSettings
from streams.serve.run import serve_readiness
from tests.support.serving import DEADLINE, EDS, serving, stream
from tests.unit.xds.world import CART, endpoint, exported_cart, service, slice_of


def ask(**fields: Any) -> discovery_pb2.DiscoveryRequest:
    fields = {"node": Node(id="n1"), "type_url": EDS, "resource_names": [CART], **fields}
    return discovery_pb2.DiscoveryRequest(**fields)


def ack(response: Any) -> discovery_pb2.DiscoveryRequest:
    return ask(version_info=response.version_info, response_nonce=response.nonce)


async def ended(call: Any) -> tuple[grpc.StatusCode, str]:
    return await call.code(), await call.details()


async def test_a_node_without_an_id_and_one_of_unknown_traffic_are_told_so() -> None:
    async with serving() as served:
        async with stream(served.server) as call:
            await call.write(ask(node=Node()))
            code, text = await ended(call)
            assert (code, "node.id is empty" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        metadata = Struct()
        metadata["traffic"] = "sideways"
        async with stream(served.server) as call:
            await call.write(ask(node=Node(id="n", metadata=metadata)))
            code, text = await ended(call)
            assert (code, "mesh or gateway" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)


@pytest.mark.parametrize("node_id", ["x" * 257, "a\nb", "\x1b[2J"])
async def test_a_malformed_node_id_is_told_so(node_id: str) -> None:
    async with serving() as served, stream(served.server) as call:
        await call.write(ask(node=Node(id=node_id)))
        code, text = await ended(call)
        assert (code, "node.id is longer" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        assert served.server.connections == {}


async def test_what_is_no_request_at_all_ends_its_own_stream_only() -> None:
    async with serving() as served, grpc.aio.insecure_channel(f"127.0.0.1:{served.server.port}") as channel:
        path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
        call = channel.stream_stream(path, lambda raw: raw, lambda raw: raw)()
        async with asyncio.timeout(DEADLINE):
            await call.write(b"\xff" * 100)
            assert (await call.code()) is not grpc.StatusCode.OK
        async with stream(served.server) as good:
            await good.write(ask())
            assert len((await good.read()).resources) == 1


async def test_a_client_that_never_reads_is_put_out_and_another_is_not_delayed() -> None:
    async with serving(answer_within=5.0) as served, stream(served.server) as deaf, stream(served.server) as good:
        # More than HTTP/2 lets be sent to one that takes nothing.
        served.put(slice_of(*(endpoint(f"10.{i // 250}.{i % 250}.1") for i in range(5000))))
        await deaf.write(ask(node=Node(id="deaf")))
        await good.write(ask())
        for i in range(2, 10):
            await good.write(ack(await good.read()))
            served.put(slice_of(endpoint(f"10.1.0.{i}")))
        await good.write(ack(await good.read()))
        while "deaf" in {each.node for each in served.server.connections.values()}:
            await served.server.wait_for_change()
        assert {each.node for each in served.server.connections.values()} == {"n1"}


@pytest.mark.parametrize("type_url", ["", "type.googleapis.com/tea.Pot"])
async def test_an_unknown_type_ends_the_stream_with_what_is_served(type_url: str) -> None:
    async with serving() as served, stream(served.server) as call:
        await call.write(ask(type_url=type_url))
        code, text = await ended(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "served are" in text


async def test_a_client_that_never_answers_is_put_out_and_another_is_not_delayed() -> None:
    async with serving(answer_within=1.0) as served, stream(served.server) as silent, stream(served.server) as good:
        await silent.write(ask(node=Node(id="silent")))
        await silent.read()
        await good.write(ask())
        for i in range(2, 30):
            response = await good.read()
            assert len(response.resources) == 1
            await good.write(ack(response))
            served.put(slice_of(endpoint(f"10.1.0.{i}")))
        code, text = await ended(silent)
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "ACK or NACK" in text
        assert {each.node for each in served.server.connections.values()} <= {"n1"}


async def test_a_client_that_was_sent_nothing_owes_no_answer() -> None:
    async with serving(answer_within=0.5) as served, stream(served.server) as idle, stream(served.server) as silent:
        await idle.write(ask(node=Node(id="idle"), resource_names=[]))
        await silent.write(ask(node=Node(id="silent")))
        await silent.read()
        assert (await ended(silent))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        await idle.write(ask(node=Node(id="idle")))
        assert len((await idle.read()).resources) == 1


async def test_a_client_that_asks_no_more_is_sent_what_it_asked_for() -> None:
    async with serving() as served, stream(served.server) as call:
        await call.write(ask())
        await call.done_writing()
        assert len((await call.read()).resources) == 1
        assert (await ended(call))[0] is grpc.StatusCode.OK


async def test_no_more_clients_than_are_allowed() -> None:
    async with serving(max_clients=1) as served, stream(served.server) as first:
        await first.write(ask())
        await first.read()
        async with stream(served.server) as second:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await second.write(ask())
            assert (await ended(second))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_each_type_has_a_service_of_its_own_too() -> None:
    name = "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints"
    async with serving() as served, stream(served.server, service=name) as call:
        await call.write(ask(type_url=""))
        assert (await call.read()).type_url == EDS


async def test_who_has_what_is_told_and_waited_for() -> None:
    async with serving() as served, stream(served.server, "Delta") as call:
        app = web.Application(middlewares=[in_json])
        add_endpoints(app, served.server, ChangesHub(SseSettings(), "", 1, 60.0), time.time, all_endpoints())
        add_probe_routes(app, Readiness())
        async with TestClient(TestServer(app)) as http:
            await call.write(
                discovery_pb2.DeltaDiscoveryRequest(
                    node=Node(id="n1"), type_url=EDS, resource_names_subscribe=[CART]
                )
            )  # fmt: skip
            first = await call.read()
            path = "/v1/propagation?namespace=shop&service=cart"

            async def standing() -> dict[str, Any]:
                (found,) = (await (await http.get(path)).json())["services"]
                (client,) = found["clients"]
                return {"version": found["version"], **client}

            assert (await standing())["acked"] == -1
            waiting = "/v1/acked?cluster=east&resourceVersion={}&namespace=shop&service=cart&timeout={}"
            version = served.world.objects
            said = await (await http.get(waiting.format(version, 0.1))).json()
            assert said == {"acked": False, "clients": ["n1"], "partitions": {}}
            await call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=EDS, response_nonce=first.nonce))
            said = await (await http.get(waiting.format(version, DEADLINE))).json()
            assert said["acked"]
            now = await standing()
            assert (now["sent"], now["acked"], now["behind"]) == (now["version"], now["version"], 0)

            served.put(slice_of(endpoint("10.1.0.2")))
            served.put(slice_of(endpoint("10.1.0.3")))
            second = await call.read()
            held = await standing()
            assert (held["acked"], held["behind"]) == (now["version"], 2)
            refused = discovery_pb2.DeltaDiscoveryRequest(type_url=EDS, response_nonce=second.nonce)
            refused.error_detail.message = "no"
            await call.write(refused)
            served.put(slice_of(endpoint("10.1.0.4")))
            third = await call.read()
            await call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=EDS, response_nonce=third.nonce))
            said = await (await http.get(waiting.format(served.world.objects, DEADLINE))).json()
            assert said["acked"]
            (client,) = (await (await http.get("/v1/propagation")).json())["clients"]
            assert (client["node"], client["nacks"], client["lastNack"]) == ("n1", 1, "EDS: no")
            assert b"facets_propagation_seconds_count" in generate_latest()
            for query, name in (
                ("cluster=east", "resourceVersion"), ("resourceVersion=1", "cluster"),
                ("cluster=east&resourceVersion=1x", "resourceVersion"), ("cluster=../x&resourceVersion=1", "cluster"),
                ("cluster=east&resourceVersion=1&timeout=nan", "timeout"),
                ("cluster=east&resourceVersion=1&resource=pods", "resource"),
                ("cluster=east&resourceVersion=1&servcie=cart", "servcie"),
            ):  # fmt: skip
                answer = await http.get(f"/v1/acked?{query}")
                assert (answer.status, (await answer.json())["parameter"]) == (400, name)


async def test_addresses_of_several_clusters_and_where_a_client_is_are_shown_and_counted() -> None:
    async with serving() as served:
        hub = ChangesHub(SseSettings(), "", 1, 60.0)
        served.world.start("west")
        of_set = CART.replace("cluster.local", "clusterset.local")
        addresses = slice_of(endpoint("10.1.0.1"), endpoint("10.2.0.1"))
        served.world.put(service(), addresses, exported_cart(), cluster="west")
        served.put(exported_cart())
        metadata = Struct()
        metadata["cluster"], metadata["namespace"] = "west", "shop"
        app = web.Application(middlewares=[in_json])
        add_endpoints(app, served.server, hub, time.time, all_endpoints())
        add_probe_routes(app, serve_readiness(served.server, hub))
        async with stream(served.server) as call, TestClient(TestServer(app)) as http:
            await call.write(ask(resource_names=[of_set], node=Node(id="n1", metadata=metadata)))
            await call.read()
            report = await (await http.get("/v1/propagation")).json()
            assert [(client["cluster"], client["namespace"]) for client in report["clients"]] == [("west", "shop")]
            assert report["services"][0]["sharedAddresses"] == [
                {"resource": of_set, "address": "10.1.0.1:8080", "clusters": ["east", "west"]}
            ]
            assert "facets_xds_shared_addresses 1.0" in await (await http.get("/metrics")).text()
