"""An endpoint set in xDS names an address once, while a Service's ports change: gRPC refuses the whole resource
otherwise ("duplicate endpoint address"; gRFC A27, grpc-go #5710), and Envoy takes whichever comes first (envoy #23445).
"""

from typing import Any

import pytest

from tests.unit.xds.world import World, endpoint, service, slice_of

WEB = {"name": "web", "port": 8080, "protocol": "TCP"}
OPS = {"name": "ops", "port": 9102, "protocol": "TCP"}
PORTS = {"web": 80, "ops": 81}


def pod(address: str, **fields: Any) -> dict[str, Any]:
    target = {"kind": "Pod", "namespace": "shop", "name": address, "uid": f"uid-{address}"}
    return endpoint(address, targetRef=target, **fields)


def addresses(world: World, port: int) -> list[str]:
    """All addresses of a Service port's endpoint set, as often as they are in it."""
    load = world.get("eds", f"cart.shop.svc.cluster.local:{port}")
    sockets = [each.endpoint.address.socket_address for locality in load.endpoints for each in locality.lb_endpoints]
    return sorted(f"{socket.address}:{socket.port_value}" for socket in sockets)


def ported(*names: str) -> dict[str, Any]:
    return service(ports=[{"name": name, "port": PORTS[name]} for name in names])


@pytest.mark.parametrize("same_pods", [True, False])
def test_ports_are_added_and_removed_with_the_new_slice_before_the_old_one_goes(same_pods: bool) -> None:
    world = World()
    make = pod if same_pods else endpoint
    both = [make("10.7.1.4"), make("10.7.1.5")]
    web, web_and_ops = (
        slice_of(*both, name=name, ports=ports) for name, ports in (("cart-w", [WEB]), ("cart-wo", [OPS, WEB]))
    )
    world.put(ported("web"), web)
    assert addresses(world, 80) == ["10.7.1.4:8080", "10.7.1.5:8080"]
    for step in (
        lambda: world.put(ported("web", "ops")),
        lambda: world.put(web_and_ops),
        lambda: world.put(slice_of(both[0], name="cart-w", ports=[WEB])),
        lambda: world.drop(web),
        lambda: world.put(web),
        lambda: world.put(slice_of(both[1], name="cart-wo", ports=[OPS, WEB])),
        lambda: world.drop(web_and_ops),
    ):
        step()
        assert addresses(world, 80) == ["10.7.1.4:8080", "10.7.1.5:8080"]
        assert len(set(addresses(world, 81))) == len(addresses(world, 81))
    assert addresses(world, 81) == []


def test_the_target_port_changes_and_both_numbers_are_there_once_meanwhile() -> None:
    world = World()
    world.put(ported("web"), slice_of(pod("10.7.1.4"), name="cart-old", ports=[WEB]))
    world.put(slice_of(pod("10.7.1.4"), name="cart-new", ports=[WEB | {"port": 8081}, OPS]))
    world.put(slice_of(pod("10.7.1.4"), name="cart-newest", ports=[WEB, WEB | {"name": "alt"}]))
    assert addresses(world, 80) == ["10.7.1.4:8080", "10.7.1.4:8081"]


def test_the_subsets_of_legacy_endpoints_overlap() -> None:
    world = World()
    subsets = [
        {"addresses": [{"ip": "10.7.1.4"}], "ports": [WEB, WEB]},
        {"addresses": [{"ip": "10.7.1.4"}, {"ip": "10.7.1.5"}], "ports": [WEB, OPS]},
    ]
    meta = {"name": "cart", "namespace": "shop", "uid": "u"}
    world.put(ported("web", "ops"), {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": subsets})
    assert addresses(world, 80) == ["10.7.1.4:8080", "10.7.1.5:8080"]
    assert addresses(world, 81) == ["10.7.1.4:9102", "10.7.1.5:9102"]
