"""One winner for each port of an address, whatever slices (or subsets) of different port lists say; and no endpoints
for an ExternalName."""

from typing import Any

import orjson
import pytest

from streams.facets.backend import BackendTable
from streams.history.queries import differences
from streams.wire.records import decode_row
from tests.unit.xds.world import World, endpoint, service, slice_of

Ports = list[tuple[str, int]]


def ports(*names: str, protocol: str = "TCP", **more: Any) -> list[dict[str, Any]]:
    """Ports as `NAME:NUMBER`."""
    split = (name.partition(":") for name in names)
    return [{"name": name, "port": int(number), "protocol": protocol, **more} for name, _, number in split]


def pod(address: str, name: str, **conditions: bool) -> dict[str, Any]:
    target = {"kind": "Pod", "namespace": "shop", "name": name, "uid": f"uid-{name}"}
    return endpoint(address, targetRef=target, **conditions)


def legacy(*subsets: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": "cart", "namespace": "shop", "uid": "uid-legacy"}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": list(subsets)}


def subset(address: str, *names: str, ready: bool = True) -> dict[str, Any]:
    return {"addresses" if ready else "notReadyAddresses": [{"ip": address}], "ports": ports(*names)}


def raw_row(world: World) -> bytes:
    return world.rows["backend", "east/shop/cart", ""]


def row(world: World) -> dict[str, Any]:
    """The backend row. What is read back from it is the state in memory."""
    table = next(table for table in world.fold.tables if table.name == "backend")
    held = table.entry("east/shop/cart")
    assert BackendTable().read(raw_row(world))._replace(legacy=held.legacy) == held
    return decode_row("backend", raw_row(world))


def told(endpoints: list[dict[str, Any]]) -> list[tuple[str, str, Ports]]:
    """Slice, address and ports of endpoints."""
    return sorted(
        (each["slice"], each["address"], [(port["name"], port["port"]) for port in each["ports"]]) for each in endpoints
    )


def changed(world: World) -> dict[str, list[tuple[str, str, Ports]]]:
    return {name: told(endpoints) for name, endpoints in row(world)["change"].items() if endpoints}


WEB, OPS = ("web", 8080), ("ops", 9102)


def test_a_port_is_added_and_the_new_slice_is_there_before_the_old_one_goes() -> None:
    world, one = World(), pod("10.7.1.4", "ledger-1")
    old = slice_of(one, name="cart-v4", ports=ports("web:8080"))
    world.put(service(), old)
    world.put(slice_of(one, name="cart-v4b", ports=ports("web:8080", "ops:9102")))
    assert told(row(world)["endpoints"]) == [("cart-v4b", "10.7.1.4", [WEB, OPS])]
    assert changed(world) == {
        "added": [("cart-v4b", "10.7.1.4", [OPS])],
        "updated": [("cart-v4b", "10.7.1.4", [WEB])],
    }
    world.drop(old)
    assert changed(world) == {}
    assert told(row(world)["endpoints"]) == [("cart-v4b", "10.7.1.4", [WEB, OPS])]


def test_the_loser_keeps_the_ports_that_it_does_not_lose() -> None:
    world, one = World(), pod("10.7.1.4", "ledger-1")
    world.put(service(), slice_of(one, pod("10.7.1.5", "ledger-2"), name="cart-a", ports=ports("web:8080", "ops:9102")))
    newer = slice_of(one, name="cart-b", ports=ports("web:8080"))
    world.put(newer)
    assert told(row(world)["endpoints"]) == [
        ("cart-a", "10.7.1.4", [OPS]),
        ("cart-a", "10.7.1.5", [WEB, OPS]),
        ("cart-b", "10.7.1.4", [WEB]),
    ]
    groups = [
        (group["slice"], len(group["endpoints"]), len(group.get("shadowed", ())), group.get("partial", False))
        for group in orjson.loads(raw_row(world))["groups"]
    ]
    assert groups == [("cart-a", 1, 1, False), ("cart-a", 1, 0, True), ("cart-b", 1, 0, False)]
    world.drop(newer)
    assert changed(world) == {"updated": [("cart-a", "10.7.1.4", [WEB])]}
    assert told(row(world)["endpoints"])[0] == ("cart-a", "10.7.1.4", [WEB, OPS])


def test_a_port_that_the_loser_kept_is_removed_with_it() -> None:
    world, one = World(), pod("10.7.1.4", "ledger-1")
    older = slice_of(one, name="cart-a", ports=ports("web:8080", "ops:9102"))
    world.put(service(), older)
    world.put(slice_of(one, name="cart-b", ports=ports("web:8080")))
    world.put(slice_of(name="cart-a", ports=ports("web:8080", "ops:9102")))
    assert changed(world) == {"removed": [("cart-a", "10.7.1.4", [OPS])]}


def test_of_two_pods_the_one_that_serves_has_the_port() -> None:
    world = World()
    ending = pod("10.7.1.4", "old", ready=False, serving=True, terminating=True)
    world.put(service(), slice_of(pod("10.7.1.4", "new"), name="cart-a", ports=ports("web:8080")))
    world.put(slice_of(ending, name="cart-b", ports=ports("ops:9102", "web:8080")))
    assert told(row(world)["endpoints"]) == [("cart-a", "10.7.1.4", [WEB]), ("cart-b", "10.7.1.4", [OPS])]


def test_pods_on_the_hosts_network_share_an_address_but_no_port() -> None:
    world = World()
    world.put(
        service(),
        slice_of(pod("198.51.100.9", "a"), name="cart-a", ports=ports("web:8080")),
        slice_of(pod("198.51.100.9", "b"), name="cart-b", ports=ports("web:8081")),
        slice_of(pod("198.51.100.9", "c"), name="cart-c", ports=ports("web:8080", protocol="UDP")),
    )
    assert len(row(world)["endpoints"]) == 3
    assert b"shadowed" not in raw_row(world)


def test_another_app_protocol_of_a_port_is_a_change_of_it() -> None:
    world, one = World(), pod("10.7.1.4", "ledger-1")
    world.put(service(), slice_of(one, ports=ports("web:8080", "ops:9102")))
    world.put(slice_of(one, ports=[*ports("web:8080", appProtocol="http"), *ports("ops:9102")]))
    assert changed(world) == {"updated": [("cart-a", "10.7.1.4", [WEB])]}
    world.put(slice_of(one, ports=[*ports("ops:9102"), *ports("web:8080", appProtocol="http")]))
    assert changed(world) == {}


def test_an_endpoint_without_ports_is_listed_beside_others() -> None:
    world = World()
    world.put(service(), slice_of(pod("10.7.1.4", "a")), slice_of(pod("10.7.1.8", "b"), name="cart-x", ports=None))
    assert told(row(world)["endpoints"]) == [("cart-a", "10.7.1.4", [("http", 8080)]), ("cart-x", "10.7.1.8", [])]


def test_a_port_without_name_and_number_is_not_restricted() -> None:
    world = World()
    unnamed = [{"name": None, "port": None, "protocol": None}]
    world.put(service(), slice_of(endpoint("10.7.1.4") | {"conditions": {}}, ports=unnamed))
    (shown,) = row(world)["endpoints"]
    assert shown["ports"] == [{"name": "", "port": None, "protocol": "TCP", "appProtocol": None}]
    assert shown["ready"]


def test_a_slice_of_a_service_scaled_to_zero_is_known_to_be_empty() -> None:
    world = World()
    world.put(service(), slice_of(endpoints=None, ports=None))
    assert (row(world)["state"], row(world)["reason"]) == ("empty", "NoEndpoints")


@pytest.mark.parametrize("live", [True, False])
def test_subsets_that_overlap_have_one_winner_too(live: bool) -> None:
    world = World()
    subsets = (
        subset("10.7.1.4", "web:8080", "ops:9102", ready=False),
        subset("10.7.1.4", "web:8080", "web:8080"),
        subset("10.7.1.4", "ops:9102"),
    )
    if live:
        world.put(service(), legacy(subsets[0]))
        world.put(legacy(*subsets))
        assert changed(world) == {
            "updated": [("Endpoints/cart", "10.7.1.4", [OPS]), ("Endpoints/cart", "10.7.1.4", [WEB])]
        }
    else:
        world.put(service(), legacy(*subsets))
    assert told(row(world)["endpoints"]) == [
        ("Endpoints/cart", "10.7.1.4", [OPS]),
        ("Endpoints/cart", "10.7.1.4", [WEB]),
    ]
    assert all(each["ready"] for each in row(world)["endpoints"])
    world.put(slice_of(pod("10.7.1.5", "b")))
    world.put(slice_of(name="cart-b"))
    world.drop(slice_of())
    world.drop(slice_of(name="cart-b"))
    assert len(row(world)["endpoints"]) == 2


def test_a_difference_in_time_goes_by_ports_too() -> None:
    world, one = World(), pod("10.7.1.4", "ledger-1")
    world.put(service(), slice_of(one, ports=ports("web:8080", "ops:9102")))
    before = row(world)
    world.put(slice_of(one, ports=ports("web:8080", "dbg:6060")))
    found = [(each.sign, each.what) for each in differences("backend", before, row(world))]
    assert found == [("+", "10.7.1.4:6060"), ("-", "10.7.1.4:9102")]


# ---- ExternalName ------------------------------------------------------------------------------------

EXTERNAL = service(type="ExternalName", externalName="ledger.example.net", clusterIP="")


def has_no_endpoints(world: World) -> bool:
    shown = row(world)
    return (shown["state"], shown["reason"], shown["endpoints"]) == ("empty", "ExternalName", [])


def test_slices_that_are_left_of_a_service_made_external_count_for_nothing_until_it_is_one_again() -> None:
    world = World()
    world.put(service(), slice_of(pod("10.7.1.4", "ledger-1")), legacy(subset("10.7.1.4", "http:8080")))
    world.put(EXTERNAL)
    assert has_no_endpoints(world)
    assert changed(world) == {"removed": [("cart-a", "10.7.1.4", [("http", 8080)])]}
    world.put(slice_of(pod("10.7.1.4", "ledger-1"), name="cart-mirrored"))
    world.put(slice_of(pod("10.7.1.5", "ledger-2")))
    assert has_no_endpoints(world)
    assert changed(world) == {}
    world.put(service())
    assert row(world)["state"] == "ready"
    assert {each["address"] for each in row(world)["endpoints"]} == {"10.7.1.4", "10.7.1.5"}
    assert {address for _, address, _ in changed(world)["added"]} == {"10.7.1.4", "10.7.1.5"}


@pytest.mark.parametrize("listed", [True, False])
def test_an_external_name_with_a_selector_has_no_endpoints(listed: bool) -> None:
    items = (EXTERNAL, slice_of(pod("10.7.1.4", "ledger-1")))
    world = World(*() if not listed else ("west",))
    if listed:
        world.start("east", *items)
    else:
        world.put(*items)
    assert has_no_endpoints(world)


def test_the_legacy_endpoints_of_a_service_made_external_come_back_with_it() -> None:
    world = World()
    world.put(service(), legacy(subset("10.7.1.4", "web:8080")))
    world.put(EXTERNAL)
    assert has_no_endpoints(world)
    world.put(legacy(subset("10.7.1.5", "web:8080")))
    assert has_no_endpoints(world)
    world.put(service())
    assert told(row(world)["endpoints"]) == [("Endpoints/cart", "10.7.1.5", [WEB])]
