"""The real Envoy, pointed at this xDS server by our own bootstrap, with real requests to real backends."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from streams.runtime.parent_death import bound
from streams.serve.xds.build.bootstrap import Router, envoy_bootstrap
from tests.integration.mesh import (
    CART,
    EXPORTED_CART,
    Backend,
    Mesh,
    endpoint_slice,
    eventually,
    free_port,
    running,
    service,
)
from tests.support.routes import annotated, by_cookie, route, rule, to_service
from tests.unit.xds.world import exported_cart


class Envoy:
    """A running Envoy; `get` sends it a request."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    async def get(self, host: str = CART, cookies: dict[str, str] | None = None) -> tuple[int, str]:
        headers = {"Host": host}
        if cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        async with self.session.get(f"http://127.0.0.1:{self.port}/", headers=headers) as answer:
            return answer.status, await answer.text()

    async def cookies(self) -> dict[str, str]:
        """The cookies that a new client is given."""
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(f"http://127.0.0.1:{self.port}/", headers={"Host": CART}) as answer,
        ):
            return {name: morsel.value for name, morsel in answer.cookies.items()}

    async def until(self, text: str, host: str = CART) -> None:
        """Ask until this is the answer."""
        await eventually(lambda: self._says(text, host), f"{host} answers {text}")

    async def _says(self, text: str, host: str) -> bool:
        return (await self.get(host))[1] == text


@contextlib.asynccontextmanager
async def envoy(
    mesh: Mesh,
    tmp_path: Path,
    *,
    server: str = "127.0.0.1",
    service: str = "",
    delta: bool = True,
    listeners: Sequence[dict[str, Any]] = (),
) -> AsyncIterator[Envoy]:
    port, admin = free_port(), free_port()
    router = Router(
        (server, mesh.xds_port), "envoy-1", listen=("127.0.0.1", port), admin=("127.0.0.1", admin),
        service=service, delta=delta,
    )  # fmt: skip
    config = tmp_path / "envoy.json"
    bootstrap = envoy_bootstrap(router)
    bootstrap["static_resources"]["listeners"] += listeners
    config.write_bytes(orjson.dumps(bootstrap))
    log = tmp_path / "envoy.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *bound(
                [
                    str(Path(sys.executable).parent / "envoy"),
                    "-c",
                    str(config),
                    "--use-dynamic-base-id",
                    "--concurrency",
                    "1",
                    "--log-level",
                    "warning",
                ]
            ),
            stdout=out,
            stderr=out,
        )
    running = Envoy(port)

    async def is_ready() -> bool:
        assert process.returncode is None, log.read_text()
        with contextlib.suppress(aiohttp.ClientError):
            async with running.session.get(f"http://127.0.0.1:{admin}/ready") as ready:
                return ready.status == 200
        return False

    try:
        await eventually(is_ready, "Envoy is ready")
        yield running
    except BaseException:
        print(log.read_text())
        raise
    finally:
        await running.session.close()
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
async def test_a_rolling_replacement_of_all_endpoints_fails_no_request(
    bootstrap_servers: str, tmp_path: Path, delta: bool
) -> None:
    port = free_port("127.0.1.1")
    backends = {f"127.0.1.{i}": await Backend.start(f"127.0.1.{i}", port) for i in range(1, 4)}
    states = dict.fromkeys(backends, "ready")
    cart = endpoint_slice("cart-a", "cart", port, states)
    answers: list[tuple[int, str]] = []
    async with running(bootstrap_servers, service(), cart) as mesh, envoy(mesh, tmp_path, delta=delta) as router:
        done = asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                answers.append(await router.get())

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        try:
            for i in range(1, 4):
                new, old = f"127.0.2.{i}", f"127.0.1.{i}"
                backends[new] = await Backend.start(new, port)
                states[new] = "ready"
                await mesh.put(endpoint_slice("cart-a", "cart", port, states))
                states[old] = "draining"
                await mesh.put(endpoint_slice("cart-a", "cart", port, states))
                del states[old]
                await mesh.put(endpoint_slice("cart-a", "cart", port, states))
                await backends.pop(old).stop()
                asked = len(answers)
                while len(answers) < asked + 100:
                    await router.get()
        finally:
            done.set()
            await asyncio.gather(*asking)
        (client,) = (await mesh.get("/v1/propagation?namespace=shop&service=cart"))["clients"]
        assert (client["node"], client["nacks"], client["lastNack"]) == ("envoy-1", 0, "")
    assert {status for status, _ in answers} == {200}
    assert {address for _, address in answers[-30:]} == {"127.0.2.1", "127.0.2.2", "127.0.2.3"}
    for each in backends.values():
        await each.stop()


async def test_services_come_and_go_and_the_host_names_them(bootstrap_servers: str, tmp_path: Path) -> None:
    port = free_port("127.0.1.1")
    backends = [await Backend.start(f"127.0.1.{i}", port) for i in (1, 2)]
    cart = endpoint_slice("cart-a", "cart", port, {"127.0.1.1": "ready"})
    async with running(bootstrap_servers, service(), cart) as mesh, envoy(mesh, tmp_path) as router:
        assert await router.get() == (200, "127.0.1.1")
        tea = "tea.shop.svc.cluster.local:80"
        assert (await router.get(tea))[0] == 503
        await mesh.put(service("tea"), endpoint_slice("tea-a", "tea", port, {"127.0.1.2": "ready"}), service="tea")
        await router.until("127.0.1.2", tea)
        # Known to be empty is sent; and then comes back.
        await mesh.put(endpoint_slice("tea-a", "tea", port, {}), service="tea")
        assert (await router.get(tea))[0] == 503
        await mesh.put(endpoint_slice("tea-a", "tea", port, {"127.0.1.2": "draining"}), service="tea")
        assert await router.get(tea) == (200, "127.0.1.2")
    for each in backends:
        await each.stop()


async def test_a_host_may_leave_out_port_and_domain_and_the_server_may_be_named(
    bootstrap_servers: str, tmp_path: Path
) -> None:
    port = free_port("127.0.1.1")
    backends = [await Backend.start(f"127.0.1.{i}", port) for i in (1, 2)]
    slices = [
        endpoint_slice("cart-a", "cart", port, {"127.0.1.1": "ready"}),
        endpoint_slice("tea-a", "tea", port, {"127.0.1.2": "ready"}),
    ]
    items = service(), service("tea", 8080), *slices
    # Envoy resolves `localhost` to ::1 before 127.0.0.1, where the server listens.
    async with running(bootstrap_servers, *items) as mesh, envoy(mesh, tmp_path, server="localhost") as router:
        for host in ("cart.shop.svc.cluster.local", "cart.shop.svc", "cart.shop", "Cart.Shop.svc.cluster.local."):
            assert await router.get(host) == (200, "127.0.1.1"), host
            assert await router.get(f"{host}:80") == (200, "127.0.1.1"), host
        for host in ("tea.shop.svc.cluster.local:8080", "tea.shop.svc:8080", "tea.shop:8080"):
            assert await router.get(host) == (200, "127.0.1.2"), host
        for host in ("tea.shop", "cart", "cart.shop:8080", "cart.shop.svc.other.domain", "[::1]:80", ".", ""):
            assert (await router.get(host))[0] in {400, 503}, host
    for each in backends:
        await each.stop()


async def test_client_ip_affinity_keeps_to_one_endpoint_while_others_change(
    bootstrap_servers: str, tmp_path: Path
) -> None:
    port = free_port("127.0.1.1")
    backends = [await Backend.start(f"127.0.1.{i}", port) for i in range(1, 6)]
    states = {each.address: "ready" for each in backends}
    items = service(sessionAffinity="ClientIP"), endpoint_slice("cart-a", "cart", port, states)
    async with running(bootstrap_servers, *items) as mesh, envoy(mesh, tmp_path, service=CART) as router:
        found = {await router.get() for _ in range(100)}
        ((status, _),) = found
        assert status == 200
        # A ring of another size may hold the client at another endpoint, but at one.
        del states["127.0.1.5"]
        await mesh.put(endpoint_slice("cart-a", "cart", port, states))
        assert len({await router.get() for _ in range(100)}) == 1
    for each in backends:
        await each.stop()


async def test_a_cookie_reaches_the_same_endpoint_over_a_thousand_requests_while_others_change(
    bootstrap_servers: str, tmp_path: Path
) -> None:
    port = free_port("127.0.1.1")
    backends = [await Backend.start(f"127.0.1.{i}", port) for i in range(1, 7)]
    states = {each.address: "ready" for each in backends[:3]}
    items = service(), endpoint_slice("cart-a", "cart", port, states)
    async with running(bootstrap_servers, *items) as mesh, envoy(mesh, tmp_path, service=CART) as router:
        await mesh.put(route("cart", [to_service()], [rule("cart", persistence=by_cookie("cart-session"))]))

        async def is_sticky() -> bool:
            return "cart-session" in await router.cookies()

        await eventually(is_sticky, "a cookie is set")
        cookies = await router.cookies()
        _, chosen = await router.get(cookies=cookies)
        others = [each.address for each in backends if each.address != chosen]
        for turn in range(10):
            new = {chosen: "draining" if turn >= 7 else "ready"} | dict.fromkeys(
                others[turn % 4 : turn % 4 + 2], "ready"
            )
            await mesh.put(endpoint_slice("cart-a", "cart", port, new))
            assert {await router.get(cookies=cookies) for _ in range(100)} == {(200, chosen)}
    for each in backends:
        await each.stop()


async def test_service_routing_goes_to_the_cluster_ip_and_changes_under_way_without_a_failure(
    bootstrap_servers: str, tmp_path: Path
) -> None:
    port = free_port("127.0.1.1")
    backends = [await Backend.start("127.0.1.1", port), await Backend.start("127.0.9.1", port)]
    name = f"cart.shop.svc.cluster.local:{port}"
    items = service(port=port), endpoint_slice("cart-a", "cart", port, {"127.0.1.1": "ready"})
    async with running(bootstrap_servers, *items) as mesh, envoy(mesh, tmp_path) as router:
        assert await router.get(name) == (200, "127.0.1.1")
        for decision, address in (("service", "127.0.9.1"), ("endpoint", "127.0.1.1"), ("service", "127.0.9.1")):
            await mesh.put(annotated(items[0], mesh=decision))
            seen = {(200, "")}
            while seen != {(200, address)}:
                seen = {await router.get(name) for _ in range(20)}
                assert {status for status, _ in seen} == {200}
    for each in backends:
        await each.stop()


class _Datagrams(asyncio.DatagramProtocol):
    """Answers each datagram with a text, and notes what comes."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.received: asyncio.Queue[str] = asyncio.Queue()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait(data.decode())
        if self.text:
            self.transport.sendto(self.text.encode(), addr)


def udp_listener(port: int, cluster: str) -> dict[str, Any]:
    """A listener that sends datagrams to a cluster."""
    types = "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3"
    action = {"name": "route", "typed_config": {"@type": f"{types}.Route", "cluster": cluster}}
    proxy = {
        "@type": f"{types}.UdpProxyConfig",
        "stat_prefix": "datagrams",
        "matcher": {"on_no_match": {"action": action}},
    }
    return {
        "name": "datagrams",
        "address": {"socket_address": {"protocol": "UDP", "address": "127.0.0.1", "port_value": port}},
        "udp_listener_config": {},
        "listener_filters": [{"name": "envoy.filters.udp_listener.udp_proxy", "typed_config": proxy}],
    }


async def test_datagrams_go_to_a_udp_port_beside_a_tcp_port_of_two_clusters_with_one_address(
    bootstrap_servers: str, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    port, listened = free_port("127.0.1.1"), free_port()
    backend = await Backend.start("127.0.1.1", port)
    resolver, _ = await loop.create_datagram_endpoint(lambda: _Datagrams("resolved"), local_addr=("127.0.1.1", port))
    ports = [{"name": "http", "port": 80}, {"name": "datagrams", "port": 80, "protocol": "UDP"}]
    both = endpoint_slice("cart-a", "cart", port, {"127.0.1.1": "ready"})
    both["ports"].append({"name": "datagrams", "port": port, "protocol": "UDP"})
    listener = udp_listener(listened, f"{EXPORTED_CART}/udp")
    async with (
        running(bootstrap_servers, service(ports=ports), both, exported_cart()) as mesh,
        envoy(mesh, tmp_path, listeners=[listener]) as router,
    ):
        await asyncio.to_thread(mesh.tables.start, cluster="west")
        await mesh.put(exported_cart(), service(ports=ports), both, cluster="west")
        asker, questions = await loop.create_datagram_endpoint(_Datagrams, remote_addr=("127.0.0.1", listened))

        async def is_answered() -> bool:
            asker.sendto(b"question")
            try:
                async with asyncio.timeout(1):
                    return await questions.received.get() == "resolved"
            except TimeoutError:
                return False

        await eventually(is_answered, "a datagram is answered")
        assert await router.get(EXPORTED_CART) == (200, "127.0.1.1")
        report = await mesh.get("/v1/propagation?namespace=shop&service=cart")
        (seen,) = report["clients"]
        assert (seen["node"], seen["nacks"], seen["lastNack"]) == ("envoy-1", 0, "")
        shared = [(entry["resource"], entry["clusters"]) for entry in report["services"][0]["sharedAddresses"]]
        assert shared == [(EXPORTED_CART, ["east", "west"]), (f"{EXPORTED_CART}/udp", ["east", "west"])]
        asker.close()
    resolver.close()
    await backend.stop()


@pytest.mark.parametrize("named", ["by-header", "by-bootstrap"])
async def test_a_hosts_name_is_asked_for_when_a_request_comes(
    bootstrap_servers: str, tmp_path: Path, named: str
) -> None:
    port = free_port("127.0.1.1")
    backends = [await Backend.start(f"127.0.1.{i}", port) for i in range(1, 4)]

    def slice_of(hosts: dict[str, str]) -> dict[str, Any]:
        item = endpoint_slice("cart-a", "cart", port, dict.fromkeys(hosts.values(), "ready"))
        for endpoint, hostname in zip(item["endpoints"], hosts, strict=True):
            endpoint["hostname"] = hostname
        return item

    host = f"cart-0.east.{EXPORTED_CART}"
    items = service(clusterIP="None"), slice_of({"cart-0": "127.0.1.1", "cart-1": "127.0.1.2"}), exported_cart()
    async with (
        running(bootstrap_servers, *items) as mesh,
        envoy(mesh, tmp_path, service=host if named == "by-bootstrap" else "") as router,
    ):
        assert await router.get(host) == (200, "127.0.1.1")
        if named == "by-header":
            assert await router.get(f"cart-1.east.{EXPORTED_CART}") == (200, "127.0.1.2")
            assert (await router.get(f"cart-2.east.{EXPORTED_CART}"))[0] == 503
        await mesh.put(slice_of({"cart-0": "127.0.1.3", "cart-1": "127.0.1.2"}))
        await router.until("127.0.1.3", host)
        await mesh.put(slice_of({"cart-1": "127.0.1.2"}))
        assert (await router.get(host))[0] == 503
        await mesh.put(slice_of({"cart-0": "127.0.1.1"}))
        await router.until("127.0.1.1", host)
        (seen,) = (await mesh.get("/v1/propagation?namespace=shop&service=cart"))["clients"]
        assert (seen["node"], seen["nacks"], seen["lastNack"]) == ("envoy-1", 0, "")
    for backend in backends:
        await backend.stop()
