"""`facets top` by textual's own Pilot, on real servers of real tables, and as a process in a terminal."""

import asyncio
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from envoy.config.core.v3.base_pb2 import Locality, Node
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from textual.pilot import Pilot
from textual.widgets import Static

from streams.cli import cli
from streams.cli.top.app import TopApp
from streams.cli.top.line_table import LineTable
from streams.local.local_data import server_of_up
from streams.runtime.parent_death import bound
from streams.serve.xds.build.names import TYPE_URLS
from tests.integration.mesh import CART, DEADLINE, Mesh, endpoint_slice, eventually, running, service, serving

WIDE = (200, 40)
CART_SLICE = endpoint_slice("cart-a", "cart", 8080, {"10.1.0.1": "ready", "10.1.0.2": "draining"})
ITEMS = service(), CART_SLICE, service("pay"), endpoint_slice("pay-a", "pay", 9090, {"10.2.0.1": "ready"})
FACETS = [sys.executable, "-m", "streams.cli"]


class Screen:
    """What is on the screen."""

    def __init__(self, app: TopApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def rows(self) -> list[dict[str, str]]:
        table = self.app.query_one(LineTable)
        return [dict(zip(table.columns, table.cells(key), strict=True)) for key in table.keys]

    @property
    def lines(self) -> list[str]:
        """The table's lines as they are drawn."""
        table = self.app.query_one(LineTable)
        return [table.render_line(y).text.rstrip() for y in range(table.size.height)]

    def row(self, name: str, column: str = "NAME") -> dict[str, str]:
        return next((row for row in self.rows if row[column] == name), {})

    def text(self, name: str) -> str:
        return str(self.app.query_one(f"#{name}", Static).content)

    async def until(self, what: str, check: Callable[[], bool]) -> None:
        async def asked() -> bool:
            await self.pilot.pause()
            return check()

        try:
            await eventually(asked, what)
        except AssertionError as error:
            screen = "\n".join(map(str, [*map(self.text, ("head", "path", "text")), *self.rows]))
            raise AssertionError(f"{error}\n{screen}") from None


@asynccontextmanager
async def top(server: str) -> AsyncIterator[Screen]:
    app = TopApp(server)
    async with app.run_test(size=WIDE) as pilot:
        yield Screen(app, pilot)


def address_of(mesh: Mesh) -> str:
    return f"http://127.0.0.1:{mesh.http_port}"


async def test_services_are_live_filtered_and_opened(bootstrap_servers: str) -> None:
    async with running(bootstrap_servers, *ITEMS) as mesh, top(address_of(mesh)) as screen:
        await screen.until("both are there", lambda: len(screen.rows) == 2)
        cart = screen.row("cart")
        assert re.fullmatch(r"CLUSTER +NAMESPACE +NAME +STATE .*", screen.lines[0])
        assert re.fullmatch(r"east +shop +cart +ready +1/2 +127\.0\.9\.1 .*", screen.lines[1])
        assert (cart["CLUSTER"], cart["READY"], cart["CLUSTER-IP"]) == ("east", "1/2", "127.0.9.1")
        assert screen.text("head").startswith("2 Services  ·  0.0 changes/s")
        # The command that it shows has the same.
        command = screen.text("path").partition("$ facets ")[2].split()
        same = await asyncio.to_thread(CliRunner().invoke, cli, [*command, "--bootstrap-servers", bootstrap_servers])
        assert [line.split()[1:4] for line in same.stdout.splitlines()[1:]] == [
            ["shop", row["NAME"], row["READY"]] for row in screen.rows
        ]
        # It changes, and so does the line.
        mesh.tables.put(endpoint_slice("cart-a", "cart", 8080, {"10.1.0.1": "ready", "10.1.0.3": "ready"}))
        await screen.until("the change is shown", lambda: screen.row("cart")["READY"] == "2/2")
        assert float(screen.row("cart")["CHANGES/S"]) > 0
        # By an address, by two words, and by one that must not be there.
        await screen.pilot.press("slash", *"10.2.0.1")
        await screen.until("pay alone", lambda: [row["NAME"] for row in screen.rows] == ["pay"])
        await screen.pilot.press("enter")
        assert screen.text("path").startswith("Services (1)  /10.2.0.1")
        await screen.pilot.press("escape")
        await screen.until("both again", lambda: len(screen.rows) == 2)
        await screen.pilot.press("slash", *"!cart east", "enter")
        await screen.until("what is no cart", lambda: [row["NAME"] for row in screen.rows] == ["pay"])
        # Down to its endpoints, live as well; and back.
        await screen.pilot.press("slash", *["backspace"] * 20, *"cart", "enter", "enter")
        await screen.until("its endpoints", lambda: len(screen.rows) == 2 and "ADDRESS" in screen.rows[0])
        assert screen.text("path").startswith("Services > east/shop/cart (2)")
        assert "$ facets history cart -n shop --cluster east" in screen.text("path")
        assert "frontend  ClusterIP 127.0.9.1  80/TCP  cart.shop" in screen.text("text")
        assert "endpoints +1 -1 ~0  <- EndpointSlice cart-a" in screen.text("text")
        mesh.tables.put(CART_SLICE)
        await screen.until("draining", lambda: screen.row("10.1.0.2:8080", "ADDRESS").get("STATE") == "draining")
        mesh.tables.drop(service(), CART_SLICE)
        await screen.until("it is gone", lambda: screen.text("text").startswith("deleted"))
        await screen.pilot.press("escape", "escape")
        await screen.until("the other is left", lambda: [row["NAME"] for row in screen.rows] == ["pay"])
        await screen.pilot.press("q")
        await screen.until("it has ended", lambda: not screen.app.is_running)


async def test_routers_and_clusters_are_views_of_their_own(bootstrap_servers: str) -> None:
    async with (
        running(bootstrap_servers, *ITEMS) as mesh,
        grpc.aio.insecure_channel(f"127.0.0.1:{mesh.xds_port}") as channel,
        top(address_of(mesh)) as screen,
    ):
        router = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
        eds, node = TYPE_URLS["eds"], Node(id="router-1", locality=Locality(zone="a"))
        await router.write(
            discovery_pb2.DeltaDiscoveryRequest(node=node, type_url=eds, resource_names_subscribe=[CART])
        )
        response: Any = await router.read()
        await screen.pilot.press("3")
        await screen.until("it is behind", lambda: screen.row("router-1", "NODE").get("BEHIND") == "1")
        assert screen.row("router-1", "NODE")["ZONE"] == "a"
        assert "1 routers (1 behind)" in screen.text("head")
        await screen.pilot.press("enter")
        await screen.until("with the Service", lambda: screen.row("cart").get("BEHIND") == "1")
        await router.write(discovery_pb2.DeltaDiscoveryRequest(type_url=eds, response_nonce=response.nonce))
        await screen.until("it has acknowledged", lambda: screen.row("cart").get("BEHIND") == "0")
        assert screen.row("cart")["ACKED"] == screen.row("cart")["SENT"] != ""
        await screen.pilot.press("colon", *"clus", "enter")
        await screen.until("its cluster", lambda: screen.row("east").get("SERVICES") == "2")
        assert screen.row("east")["ENDPOINTS"] == "3"
        await screen.pilot.press("enter")
        await screen.until("the cluster's Services", lambda: len(screen.rows) == 2)
        assert screen.text("path").startswith("Clusters > Services of east (2)")
        await screen.pilot.press("colon", *"pods", "enter")
        assert screen.text("path").startswith("Clusters > Services of east (2)")
        router.cancel()


async def test_it_says_that_it_is_disconnected_and_goes_on(bootstrap_servers: str) -> None:
    async with running(bootstrap_servers, *ITEMS) as mesh:
        async with serving(bootstrap_servers, mesh.tables) as second:
            app = TopApp(address_of(second))
            context = app.run_test(size=WIDE)
            screen = Screen(app, await context.__aenter__())
            await screen.until("it is live", lambda: screen.text("head").endswith("live") and len(screen.rows) == 2)
        try:
            await screen.until("it is not", lambda: "DISCONNECTED" in screen.text("head"))
            assert len(screen.rows) == 2
            mesh.tables.put(endpoint_slice("cart-a", "cart", 8080, {}))
            app.feed._server = address_of(mesh)
            await screen.until("it goes on", lambda: screen.row("cart")["READY"] == "0/0")
            await screen.until("it is live again", lambda: screen.text("head").endswith("live"))
        finally:
            await context.__aexit__(None, None, None)


@contextmanager
def demo(folder: Path) -> Iterator[str]:
    """`facets up --demo`: the address of its server."""
    folder.mkdir()
    environment = {**os.environ, "FACETS_DATA_DIR": str(folder)}
    ports = ["--web-port", "0", "--xds-port", "0", "--http-port", "0", "--watch-port", "0"]
    with (folder / "log").open("wb") as log:
        up = subprocess.Popen(bound([*FACETS, "up", "--demo", *ports]), stdout=log, stderr=log, env=environment)
    try:
        limit = time.monotonic() + 2 * DEADLINE
        while (server := server_of_up(folder)) is None:
            assert up.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < limit, (folder / "log").read_text()
            time.sleep(0.05)
        yield server
    finally:
        up.terminate()
        up.wait(DEADLINE)


async def test_the_recorded_clusters_of_the_demo(tmp_path: Path) -> None:
    with demo(tmp_path / "data") as server:
        async with top(server) as screen:
            await screen.until("two clusters", lambda: {row["CLUSTER"] for row in screen.rows} == {"east", "west"})
            await screen.until("they change", lambda: screen.app.board.changes_a_second > 0)
            await screen.pilot.press("2")
            await screen.until("both are ready", lambda: [row["STATE"] for row in screen.rows] == ["ready", "ready"])
            assert screen.text("head").endswith("live")
        shown = await asyncio.to_thread(in_terminal, ["top", "--server", server], b"Services", b"q")
        assert "changes/s" in shown


def in_terminal(command: list[str], awaited: bytes, keys: bytes) -> str:
    """What a command shows in a terminal: until something is there, then these keys are pressed, and it must end."""
    pid, terminal = pty.fork()
    if not pid:
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [*FACETS, *command])
    shown, pressed = b"", False
    with suppress(OSError):  # Linux says EIO where the other side is closed.
        while chunk := os.read(terminal, 65536):
            shown += chunk
            if awaited in shown and not pressed:
                pressed = True
                os.write(terminal, keys)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert (os.waitstatus_to_exitcode(status), pressed) == (0, True), shown[-3000:]
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode(errors="replace")


@pytest.mark.parametrize("arguments", [["top"], ["top", "--server", "http://127.0.0.1:1"]])
def test_without_a_terminal_it_says_what_to_use(arguments: list[str]) -> None:
    ended = subprocess.run([*FACETS, *arguments], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("facets: error: facets top is for a terminal, and this is none\n")
    assert "facets get -A" in ended.stderr
