"""Routes whose parent is a Service: inputs after public bug reports about implementations of the
Gateway API (the sources are named with the cases), each with the right routing row."""

import pytest

from tests.support.routed_service import service
from tests.support.routes import (
    Object,
    gateway,
    grant,
    route,
    rule,
    to_gateway,
    to_service,
)
from tests.support.routing_rows import DEFAULT, STICKY, asking, choice, fold, parents_of, plain, reasons

# ---- the mesh (GEP-1294: Namespace boundaries, Allowed service types, Ports, hostnames) ----------------


def test_a_consumers_route_counts_for_its_namespace_and_for_no_other() -> None:
    """istio #45065, MeshConsumerRoute."""
    producer = plain("producer", [to_service()])
    consumer = asking("consumer", [to_service(namespace="shop")], namespace="buyer")
    mesh = fold(service(), producer, consumer)["shop/cart"]["mesh"]
    assert (choice(mesh), reasons(mesh)) == (DEFAULT, [("producer", "Default")])
    assert list(mesh["consumers"]) == ["buyer"]
    buyer = mesh["consumers"]["buyer"]
    assert (choice(buyer), reasons(buyer)) == (STICKY, [("consumer", "SessionPersistence")])


def test_a_consumer_with_routes_of_its_own_has_none_of_the_producers() -> None:
    """Also where its routes don't name the Service as a backend, or not even the Service at all."""
    front = service("front")
    producer = asking("producer", [to_service("front")])
    consumer = route("consumer", [to_service("front", namespace="shop")], [rule("till")], namespace="buyer")
    mesh = fold(service(), front, service("till", "buyer"), producer, consumer)["shop/cart"]["mesh"]
    assert choice(mesh) == STICKY
    assert choice(mesh["consumers"]["buyer"]) == DEFAULT
    # For one port only: at the others the producer's still counts.
    two = service("front", ports=[{"name": "a", "port": 80}, {"name": "b", "port": 81}])
    at_one = route("consumer", [to_service("front", namespace="shop", port=81)], [rule("till")], namespace="buyer")
    mesh = fold(service(), two, service("till", "buyer"), producer, at_one)["shop/cart"]["mesh"]
    assert (choice(mesh), mesh.get("consumers")) == (STICKY, None)


@pytest.mark.parametrize(
    ("parent", "spec"),
    [
        (to_service("ghost"), {}),
        (to_service(), {"clusterIP": "None"}),
        (to_service(), {"type": "ExternalName", "externalName": "cart.example.com"}),
        (to_service(port=8080), {}),
        (to_service(sectionName="https"), {}),
        (to_service(sectionName="http", port=81), {}),
        (to_service(), {"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}),
    ],
)
def test_a_route_is_not_attached_to_a_service_that_can_be_no_parent(parent: Object, spec: Object) -> None:
    """linkerd2 #10545, #10672."""
    row = fold(service(**spec), asking("r", [parent]))["shop/cart"]
    assert parents_of(row) == [(False, "NoMatchingParent")]
    assert row["routes"][0]["parents"][0]["message"]
    assert row["mesh"]["rules"] == []
    assert row["mesh"]["reason"] != "SessionPersistence"


@pytest.mark.parametrize("parent", [to_service(), to_service(port=80), to_service(sectionName="http", port=80)])
def test_a_route_is_attached_to_a_services_ports(parent: Object) -> None:
    row = fold(service(), asking("r", [parent], hostnames=["nowhere.example.com"]))["shop/cart"]
    assert (parents_of(row), choice(row["mesh"])) == ([(True, "")], STICKY)
    assert row["routes"][0]["parents"][0]["ports"] == [80]


def test_routes_follow_the_service_that_is_their_parent() -> None:
    added = {"type": "ADDED", "object": service()}
    assert choice(fold(asking("r", [to_service()]), events=[added])["shop/cart"]["mesh"]) == STICKY
    headless = {"type": "MODIFIED", "object": service(clusterIP="None")}
    row = fold(service(), asking("r", [to_service()]), events=[headless])["shop/cart"]
    assert parents_of(row) == [(False, "NoMatchingParent")]


def test_the_mesh_needs_no_reference_grant_and_gateways_do() -> None:
    """GEP-1294 against the ReferenceGrant's text (kuma #7764, #18014); both parents at once, each by its own rule."""
    items = [service(), service("till", "web"), gateway(namespace="web")]
    both = asking("r", [to_gateway(), to_service("till")], namespace="web")
    row = fold(*items, both)["shop/cart"]
    assert (choice(row["gateway"]), reasons(row["gateway"])) == (DEFAULT, [("r", "RefNotPermitted")])
    assert choice(row["mesh"]) == STICKY
    row = fold(*items, both, grant("g", [("HTTPRoute", "web")]))["shop/cart"]
    assert (choice(row["gateway"]), choice(row["mesh"])) == (STICKY, STICKY)
