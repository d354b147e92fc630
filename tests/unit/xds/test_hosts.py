"""Names of single hosts of a headless set: what they have, who gets them, and when nothing of them is known."""

import asyncio
import time
from typing import Any

import pytest

from streams.serve.http.endpoints.propagation import report
from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.hosts import HostName, host_of
from streams.serve.xds.build.resource import Absence, Resource
from streams.serve.xds.protocol.delta import DeltaStream
from tests.support.asking import acknowledge, asking, follow
from tests.support.clustersets import cluster_id
from tests.support.serving import DEADLINE, serving, stream
from tests.support.xds_client import Delta, Said, Sotw
from tests.unit.xds.world import CART, World, endpoint, exported_cart, owners, service, slice_of, summary
from tests.unit.xds.world import EXPORTED_CART as SET

KINDS = ("cds", "eds", "lds", "rds")
KEY = ("shop", "cart")
HEADLESS = {"clusterIP": "None"}
WEST = Client(Place(cluster="west"))


def host(hostname: str, cluster: str = "east", port: str = "80") -> str:
    return f"{hostname}.{cluster}.cart.shop.svc.clusterset.local:{port}"


WEB_0, WEB_1, IN_WEST = host("web-0"), host("web-1"), host("web-0", "west")


def web(number: int, network: int = 1, **fields: Any) -> dict[str, Any]:
    return endpoint(f"10.{network}.0.{number}", hostname=f"web-{number}", **fields)


def stateful() -> World:
    """Two clusters that export a headless Service; one has two hosts and an endpoint without a hostname, the other has
    one."""
    world = World("east", "west")
    world.put(service(**HEADLESS), slice_of(web(0), web(1), endpoint("10.1.0.9")), exported_cart())
    world.put(service(**HEADLESS), slice_of(web(0, 2)), exported_cart(), cluster="west")
    return world


# ---- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (WEB_0, HostName("web-0", "east", KEY, SET)),
        (host("web-0", "id.of.west"), HostName("web-0", "id.of.west", KEY, SET)),
        (host("web-0", "svc.svc", "53/udp"), HostName("web-0", "svc.svc", KEY, SET.replace(":80", ":53/udp"))),
        (SET, None),
        # Of a cluster alone there is no name.
        ("east.cart.shop.svc.clusterset.local:80", None),
        (CART, None),
        ("web-0.east.cart.shop.svc.cluster.local:80", None),
        ("web-0.east.cart.shop.svc.clusterset.local.example:80", None),
        (".svc.clusterset.local:80", None),
    ],
)
def test_the_first_label_is_the_host_and_what_is_before_the_service_the_id(name: str, expected: Any) -> None:
    assert host_of(name) == expected


def test_a_host_has_the_endpoints_of_its_cluster_with_its_hostname() -> None:
    world = stateful()
    assert owners(world, name=WEB_0) == owners(world, WEST, WEB_0) == {"10.1.0.0": "east"}
    assert owners(world, name=WEB_1) == {"10.1.0.1": "east"}
    assert owners(world, name=IN_WEST) == {"10.2.0.0": "west"}
    assert len(owners(world)) == 4
    for kind in KINDS:
        assert isinstance(world.catalog.resource(kind, WEB_0, WEST), Resource)
        for other in (host("web-1", "west"), host("web-2"), host("", "east"), host("web-0", "north"), "east." + SET):
            assert world.get(kind, other) is Absence.MISSING
    assert world.get("lds", WEB_0).name == WEB_0
    assert world.get("rds", WEB_0).virtual_hosts[0].routes[0].route.cluster == WEB_0
    assert world.get("cds", WEB_0).metadata.filter_metadata["facets"]["reason"] == "Headless"


def test_no_wildcard_has_hosts() -> None:
    world = stateful()
    named = [*world.catalog.names("cds"), *world.catalog.names_of(KEY), *world.catalog.names_for(KEY, WEST)]
    assert set(named) == {CART, SET}
    changed = world.put(slice_of(web(0), web(2)))
    assert (changed, world.changed_hosts) == ({CART, SET}, {KEY})
    client = Client(Place(cluster="east"))
    for variant in (Sotw, Delta):
        assert variant(world, client).ask("cds") == [Said("cds", [CART, SET])]


def test_what_is_not_of_a_headless_set_concerns_no_host() -> None:
    world = World("east", "west")
    world.put(service(), slice_of(web(0)), exported_cart())
    assert world.changed_hosts == set()
    world.put(service(**HEADLESS), slice_of(web(0)), cluster="west")
    assert world.changed_hosts == set()
    assert world.get("eds", WEB_0) is Absence.MISSING


def test_hosts_follow_what_becomes_of_their_endpoints() -> None:
    world = stateful()
    world.put(slice_of(web(1), endpoint("10.1.0.7", hostname="web-7")))
    assert world.get("eds", WEB_0) is Absence.MISSING
    assert owners(world, name=host("web-7")) == {"10.1.0.7": "east"}
    world.put(slice_of(web(0, 2), web(5, 2)), cluster="west")
    assert owners(world, name=host("web-5", "west")) == {"10.2.0.5": "west"}
    # Another id is another name, and the same one in another cluster another host.
    world.put(cluster_id("id.of.west"), cluster="west")
    assert world.get("eds", IN_WEST) is Absence.MISSING
    assert owners(world, name=host("web-0", "id.of.west")) == {"10.2.0.0": "west"}
    world.drop(exported_cart(), cluster="west")
    assert world.changed_hosts == {KEY}
    assert world.get("eds", host("web-0", "id.of.west")) is Absence.MISSING
    world.put(service())
    assert world.changed_hosts == {KEY}
    assert {world.get(kind, WEB_1) for kind in KINDS} == {Absence.MISSING}


def test_an_address_of_two_clusters_is_in_each_ones_host() -> None:
    world = stateful()
    world.put(slice_of(endpoint("10.1.0.0", hostname="web-0")), cluster="west")
    assert owners(world)["10.1.0.0"] == "east"
    assert owners(world, name=WEB_0) == {"10.1.0.0": "east"}
    assert owners(world, name=IN_WEST) == {"10.1.0.0": "west"}


def test_several_endpoints_of_a_hostname_are_one_host() -> None:
    world = stateful()
    pod = {"targetRef": {"kind": "Pod", "name": "web-0", "namespace": "shop", "uid": "u0"}}
    six = slice_of(endpoint("fd00::1", hostname="web-0", **pod), name="cart-6", addressType="IPv6")
    world.put(slice_of(web(0, **pod), endpoint("10.1.0.8", hostname="web-0", ready=False), web(1)), six)
    assert set(owners(world, name=WEB_0)) == {"10.1.0.0", "fd00::1", "10.1.0.8"}
    (locality,) = world.get("eds", WEB_0).endpoints
    assert len(locality.lb_endpoints) == 2
    assert summary(world.get("eds", WEB_0))["10.1.0.8:8080"] == (0, "", "UNHEALTHY")


def test_a_host_has_those_of_the_sets_ports_that_its_cluster_exposes() -> None:
    world = stateful()
    ports = [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]
    own = [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "admin", "port": 9081, "protocol": "TCP"}]
    world.put(service(ports=ports, **HEADLESS), slice_of(web(0, 2), ports=own), cluster="west")
    assert list(summary(world.get("eds", host("web-0", "west", "81")))) == ["10.2.0.0:9081"]
    assert world.get("eds", host("web-0", "east", "81")) is Absence.MISSING
    assert world.get("eds", host("web-0", "east", "82")) is Absence.MISSING
    # A set's port of which the host's endpoints have none.
    world.put(slice_of(web(0, 2)), cluster="west")
    assert world.get("eds", host("web-0", "west", "81")) is Absence.MISSING
    assert isinstance(world.catalog.resource("eds", SET.replace(":80", ":81"), Client()), Resource)


def test_a_hosts_udp_port_has_the_name_that_the_sets_has() -> None:
    world = stateful()
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    own = [{"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "dns-tcp", "port": 5353, "protocol": "TCP"}]
    world.put(service(ports=ports, **HEADLESS), slice_of(web(0), ports=own))
    for port in ("53", "53/udp"):
        assert list(summary(world.get("eds", host("web-0", port=port)))) == ["10.1.0.0:5353"]
    assert world.get("eds", host("web-0", port="53/udp"), Client(grpc=True)) is Absence.MISSING


def test_the_other_servers_hosts_are_the_same() -> None:
    world = stateful()
    for kind in KINDS:
        one, other = (catalog.resource(kind, IN_WEST, WEST) for catalog in (world.catalog, world.replica()))
        assert isinstance(one, Resource)
        assert isinstance(other, Resource)
        assert (one.version, one.body) == (other.version, other.body)
    before = world.version("eds", IN_WEST)
    world.put(slice_of(web(0)))
    assert world.version("eds", IN_WEST) == before


# ---- what is known ----------------------------------------------------------------------------------------


def test_a_host_is_not_missing_while_a_cluster_is_not_known() -> None:
    world = World("east")
    world.put(service(**HEADLESS), slice_of(web(0)), exported_cart())
    assert world.get("eds", WEB_1) is Absence.MISSING
    world.start("west", complete=False)
    assert owners(world, name=WEB_0) == {"10.1.0.0": "east"}
    assert {world.get("eds", name) for name in (WEB_1, IN_WEST)} == {Absence.UNKNOWN}
    world.start("west", service(**HEADLESS), slice_of(web(0, 2)), exported_cart())
    assert owners(world, name=IN_WEST) == {"10.2.0.0": "west"}
    assert world.get("eds", WEB_1) is Absence.MISSING


def test_a_host_may_be_what_could_not_be_read() -> None:
    world = stateful()
    bad = {"addresses": ["10.1.0.300"], "hostname": "web-1"}
    world.put(slice_of(web(0), bad))
    assert owners(world, name=WEB_0) == {"10.1.0.0": "east"}
    assert world.get("eds", WEB_1) is Absence.UNKNOWN
    assert world.get("eds", host("web-1", "west")) is Absence.MISSING
    for variant in (Sotw, Delta):
        client = variant(world, WEST)
        assert client.ask("eds", WEB_1) == []
        changed = world.put(slice_of(web(0)))
        assert world.get("eds", WEB_1) is Absence.MISSING
        # It is looked at again, and known: nothing is owed to the client any more.
        assert [said for said in client.read(changed) if said.names] == []
        assert not client.stream.unsent([WEB_1])
        world.put(slice_of(web(0), bad))
    # No host of a ClusterSetIP has a name.
    world.put(service())
    assert world.get("eds", WEB_1) is Absence.MISSING


# ---- the protocol -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [Sotw, Delta])
def test_who_asks_for_a_host_follows_it(variant: type[Any]) -> None:
    world = stateful()
    client = variant(world, WEST)
    for kind in KINDS:
        assert client.ask(kind, WEB_0, ack=True) == [Said(kind, [WEB_0])]
    assert client.read(world.put(slice_of(web(0), web(1), web(2)))) == []
    moved = slice_of(endpoint("10.1.0.5", hostname="web-0"), web(1))
    assert client.read(world.put(moved)) == [Said("eds", [WEB_0])]
    said = client.read(world.put(slice_of(web(1))))
    if variant is Delta:
        assert said == [Said(kind, [], [WEB_0]) for kind in ("rds", "lds", "eds", "cds")]
    else:  # Routes and endpoints can't be removed; the others go by absence.
        assert said == [Said("lds", []), Said("cds", [])]
    said = client.read(world.put(slice_of(web(0))))
    assert said == [Said(kind, [WEB_0]) for kind in KINDS]


@pytest.mark.parametrize("variant", [Sotw, Delta])
def test_beside_a_wildcard_a_host_comes_and_goes_with_its_own_subscription(variant: type[Any]) -> None:
    world = stateful()
    client = variant(world, WEST)
    assert client.ask("cds", "*", WEB_0) == [Said("cds", sorted([CART, SET, WEB_0]))]
    if variant is Delta:
        # The wildcard does not include it: the client is told so.
        assert client.ask("cds", drop=[WEB_0]) == [Said("cds", [], [WEB_0])]
    else:
        assert client.ask("cds", "*") == []
    said = client.read(world.put(service(sessionAffinity="ClientIP", **HEADLESS)))
    assert all(WEB_0 not in each.names for each in said)
    assert SET in said[0].names
    assert client.stream.hosts_of(KEY) == frozenset()


def test_delta_a_host_from_an_earlier_stream_is_taken_back_unless_it_is_asked_for() -> None:
    world = stateful()
    first = Delta(world, WEST)
    first.ask("cds", "*", WEB_0)
    has = {name.removeprefix("cds "): version for name, version in first.versions.items()}
    assert Delta(world, WEST).ask("cds", has=has) == [Said("cds", [], []), Said("cds", [], [WEB_0])]
    assert Delta(world, WEST).ask("cds", "*", WEB_0, has=has) == [Said("cds", [], [])]


def test_a_name_that_becomes_known_is_not_unsent_any_more() -> None:
    world = World("east")
    world.start("west", complete=False)
    for variant in (Sotw, Delta):
        client = variant(world, Client(Place(cluster="east")))
        assert client.ask("eds", WEB_0) == []
        assert client.stream.unsent([WEB_0])
        assert client.read(world.put(service(**HEADLESS), slice_of(web(0)), exported_cart())) == [Said("eds", [WEB_0])]
        assert not client.stream.unsent([WEB_0])
        world.drop(exported_cart())


def test_a_stream_notes_nothing_of_a_sets_hosts_that_it_does_not_ask_for() -> None:
    world = stateful()
    following, wildcard = DeltaStream(Client()), DeltaStream(Client())
    for client, names in ((following, [WEB_0]), (wildcard, ["*"])):
        request = Delta(world)
        request.stream = client
        request.ask("cds", *names)
    assert wildcard.touch_hosts(KEY) == frozenset()
    assert not wildcard.due
    assert following.touch_hosts(("shop", "tea")) == frozenset()
    assert following.touch_hosts(KEY) == {WEB_0}
    assert following.due


# ---- who has what -----------------------------------------------------------------------------------------


async def test_a_router_that_follows_a_host_alone_counts() -> None:
    async with (
        serving() as served,
        asking(served) as asked,
        stream(served.server, "Delta") as one,
        stream(served.server, "Delta") as other,
    ):
        served.put(service(**HEADLESS), slice_of(web(0), web(1)), exported_cart())
        await acknowledge(one, await follow(one, "n1", "west", WEB_0))
        await acknowledge(other, await follow(other, "n2", "west", WEB_1))

        async def are_acknowledged(expected: dict[str, bool]) -> None:
            async with asyncio.timeout(DEADLINE):
                while True:
                    (cart,) = report(served.server, "shop", "cart", time.time()).services
                    if {each.node: each.acked == cart.version for each in cart.clients} == expected:
                        return
                    await served.server.wait_for_change()

        await are_acknowledged({"n1": True, "n2": True})
        # Who can't get the address by its host's name is not waited for.
        present = await asked.wait(present="10.1.0.0", acked="true", timeout=str(DEADLINE))
        assert (present["done"], [router["node"] for router in present["routers"]]) == (True, ["n1"])
        served.put(slice_of(endpoint("10.1.0.7", hostname="web-0"), web(1)))
        response = await one.read()
        await are_acknowledged({"n1": False, "n2": True})
        assert await asked.now(gone="10.1.0.0")
        assert not await asked.now(gone="10.1.0.0", acked="true")
        await acknowledge(one, response)
        gone = await asked.wait(gone="10.1.0.0", acked="true", timeout=str(DEADLINE))
        assert (gone["done"], {router["node"] for router in gone["routers"]}) == (True, {"n1", "n2"})
        write = {"cluster": "east", "resourceVersion": "1", "namespace": "shop", "service": "cart"}
        acked = await asked.get("/v1/acked", timeout=str(DEADLINE), **write)
        assert (acked["acked"], sorted(acked["clients"])) == (True, ["n1", "n2"])
