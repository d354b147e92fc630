"""Both variants of the protocol, with a scripted client written against (and at times breaking) the xDS document."""

from typing import Any

import pytest
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)

from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.names import TYPE_URLS
from streams.serve.xds.protocol.delta import DeltaStream
from streams.serve.xds.protocol.sotw import SotwStream
from streams.serve.xds.protocol.stream import Answer, ProtocolViolation
from tests.support.routes import by_cookie, route, rule, to_service
from tests.support.xds_client import Delta, Said, Sotw, received
from tests.unit.xds.world import CART, World, endpoint, service, slice_of

TEA = "tea.shop.svc.cluster.local:80"
A, B = endpoint("10.1.0.1"), endpoint("10.1.0.2")
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def cart(world: World | None = None) -> World:
    world = world or World()
    world.put(service(), slice_of(A))
    return world


# ---- both variants ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [Sotw, Delta])
def test_only_what_changed_is_sent_again(variant: type[Any]) -> None:
    world = cart()
    world.put(service("tea"), slice_of(B, owner="tea"))
    client = variant(world)
    assert client.ask("cds") == [Said("cds", [CART, TEA])]
    assert client.ask("eds", CART, TEA) == [Said("eds", [CART, TEA])]
    assert client.read(world.put(slice_of(A, B))) == [Said("eds", [CART])]
    assert client.read(world.put(slice_of(A, B))) == []
    assert client.read(world.put(service(selector={"app": "cart"}))) == []


@pytest.mark.parametrize("variant", [Sotw, Delta])
def test_an_unacknowledged_client_gets_one_response_and_then_the_newest(variant: type[Any]) -> None:
    world = cart()
    client = variant(world)
    client.ask("eds", CART)
    assert client.read(world.put(slice_of(B)), ack=False) == [Said("eds", [CART])]
    for i in range(5):
        assert client.read(world.put(slice_of(endpoint(f"10.1.1.{i}"))), ack=False) == []
    if isinstance(client, Sotw):
        client.send("eds")
    else:
        client.answer(client.unanswered[0])
    assert client.read() == [Said("eds", [CART])]
    assert client.read() == []


@pytest.mark.parametrize("variant", [Sotw, Delta])
def test_a_refused_resource_is_not_sent_again_until_it_changes(variant: type[Any]) -> None:
    world = cart()
    client = variant(world)
    client.ask("eds", CART)
    assert not client.stream.unanswered([CART])
    assert client.read(world.put(slice_of(B)), error="no such zone") == [Said("eds", [CART])]
    assert client.answers[-1] == Answer("eds", "no such zone", (CART,))
    assert client.read([CART]) == []
    assert client.stream.unanswered([CART])
    assert client.read(world.put(slice_of(A, B))) == [Said("eds", [CART])]
    assert not client.stream.unanswered([CART])


@pytest.mark.parametrize("variant", [Sotw, Delta])
def test_a_changed_cluster_is_sent_its_endpoints_again_so_that_it_warms_up(variant: type[Any]) -> None:
    world = cart()
    client = variant(world)
    client.ask("cds")
    client.ask("eds", CART)
    changed = world.put(service(sessionAffinity="ClientIP"))
    assert client.read(changed) == [Said("cds", [CART]), Said("eds", [CART])]


@pytest.mark.parametrize("variant", [Sotw, Delta])
def test_make_before_break(variant: type[Any]) -> None:
    world = cart()
    client = variant(world)
    client.ask("cds", "*")
    for kind in ("eds", "lds", "rds"):
        client.ask(kind, CART, TEA)
    changed = world.put(service("tea"), slice_of(B, owner="tea")) | world.drop(service(), slice_of(A))
    said = client.read(changed)
    kinds = [each.kind for each in said]
    if variant is Sotw:
        made = [Said("cds", [CART, TEA]), Said("eds", [TEA]), Said("lds", [CART, TEA]), Said("rds", [TEA])]
        assert said == [*made, Said("lds", [TEA]), Said("cds", [TEA])]
    else:
        assert kinds == ["cds", "eds", "lds", "rds", "rds", "lds", "eds", "cds"]
        assert all(each.names == [TEA] and not each.removed for each in said[:4])
        assert all(each.removed == [CART] and not each.names for each in said[4:])


@pytest.mark.parametrize("variant", [Sotw, Delta])
def test_what_is_gone_is_not_taken_back_before_what_refers_to_it_was_sent(variant: type[Any]) -> None:
    world = cart()
    client = variant(world)
    client.ask("cds", "*")
    client.ask("lds", CART)
    # The listener's response is still on its way, and it has changed once more since.
    world.put(route("cart", [to_service()], [rule("cart", persistence=by_cookie("s"))]))
    assert "lds" in [each.kind for each in client.read([CART], ack=False)]
    changed = world.drop(service(), slice_of(A))
    assert [each.kind for each in client.read(changed, ack=False)] == []


@pytest.mark.parametrize("variant", [Sotw, Delta])
def test_wildcard_and_names(variant: type[Any]) -> None:
    world = cart()
    world.put(service("tea"))
    assert variant(world).ask("cds", "*") == [Said("cds", [CART, TEA])]
    assert variant(world).ask("cds", CART) == [Said("cds", [CART])]
    client = variant(world)
    client.ask("cds", CART)
    assert client.read(world.put(service("tea", sessionAffinity="ClientIP"))) == []
    assert variant(world).ask("lds") == [Said("lds", [])]


@pytest.mark.parametrize("variant", [Sotw, Delta])
def test_nobody_is_told_what_all_there_is_before_it_is_known(variant: type[Any]) -> None:
    world = World(complete=False)
    in_west, unplaced = variant(world, Client(Place(cluster="west"))), variant(world)
    for client in (in_west, unplaced):
        assert client.ask("cds") == []
        assert client.ask("eds", CART) == []
    changed = world.start("west", service(), slice_of(A))
    assert in_west.read(changed) == [Said("cds", [CART]), Said("eds", [CART])]
    # Whether the first cluster has the Service is not known yet.
    assert [said for said in unplaced.read(changed) if said.names] == []
    changed = world.start("east")
    assert [said.names for said in unplaced.read(changed) if said.names] == [[CART], [CART]]


def test_sotw_by_name_nothing_is_left_out_before_it_is_known() -> None:
    # Partition 1 is not sealed yet; a client that comes from another server may have its Services.
    world = cart()
    world.catalog.index.partitions = 2
    names = [f"s{i}.shop.svc.cluster.local:80" for i in range(20)]
    other = next(name for name in names if world.catalog.partition(("shop", name.partition(".")[0])) == 1)
    for kind in ("lds", "cds"):
        client = Sotw(world)
        assert client.ask(kind, CART, other) == []
        assert Sotw(world).ask(kind, CART) == [Said(kind, [CART])]
        assert Delta(world).ask(kind, CART, other) == [Said(kind, [CART])]
        seals = world.catalog.seals
        seals[1, "east"] = seals[0, "east"]
        assert client.read([CART]) == [Said(kind, [CART])]
        del seals[1, "east"]
    assert Sotw(world).ask("eds", CART, other) == [Said("eds", [CART])]


@pytest.mark.parametrize("variant", [Sotw, Delta])
def test_what_springs_into_existence_later_is_sent_then(variant: type[Any]) -> None:
    world = World()
    client = variant(world)
    client.ask("eds", CART)
    client.ask("lds", CART)
    assert client.read(world.put(service(), slice_of(A))) == [Said("eds", [CART]), Said("lds", [CART])]


@pytest.mark.parametrize("variant", [Sotw, Delta])
def test_what_is_asked_for_again_is_sent_again(variant: type[Any]) -> None:
    world = cart()
    client = variant(world)
    client.ask("eds", CART)
    if variant is Sotw:
        assert client.ask("eds") == []
    assert client.ask("eds", CART) == [Said("eds", [CART])]


@pytest.mark.parametrize(
    ("request_type", "response_type"),
    [(DiscoveryRequest, DiscoveryResponse), (DeltaDiscoveryRequest, DeltaDiscoveryResponse)],
)
def test_unknown_types_end_the_stream_and_those_of_others_are_answered_with_nothing(
    request_type: type[Any], response_type: type[Any]
) -> None:
    stream: Any = SotwStream(Client()) if request_type is DiscoveryRequest else DeltaStream(Client())
    world = cart()
    with pytest.raises(ProtocolViolation, match=r"tea.Pot.*served are.*Cluster"):
        stream.take(request_type(type_url="type.googleapis.com/tea.Pot"), world.catalog)
    stream.take(request_type(type_url=SECRET), world.catalog)
    (answer,) = received(response_type, stream, world)
    assert (answer.type_url, len(answer.resources)) == (SECRET, 0)


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 600])
def test_names_that_are_none_end_the_stream(name: str) -> None:
    with pytest.raises(ProtocolViolation):
        SotwStream(Client()).take(DiscoveryRequest(type_url=TYPE_URLS["eds"], resource_names=[name]), World().catalog)


# ---- state of the world ----------------------------------------------------------------------------------


def test_sotw_a_stale_nonce_is_ignored() -> None:
    world = cart()
    client = Sotw(world)
    client.ask("eds", CART)
    old = client.last["eds"].nonce
    client.read(world.put(slice_of(B)), ack=False)
    client.send("eds", nonce=old)
    assert client.stream.waiting
    client.send("eds")
    assert not client.stream.waiting


def test_sotw_the_empty_list_is_a_wildcard_only_until_a_name_was_given() -> None:
    world = cart()
    world.put(service("tea"))
    client = Sotw(world)
    assert client.ask("cds") == [Said("cds", [CART, TEA])]
    assert client.ask("cds", "*", CART) == [Said("cds", [CART, TEA])]
    assert client.ask("cds", CART) == []
    assert client.read(world.put(service("tea", sessionAffinity="ClientIP"))) == []
    assert client.ask("cds") == []
    assert client.read(world.put(service(sessionAffinity="ClientIP"))) == []


def test_sotw_versions_are_the_same_on_every_server() -> None:
    world = cart()
    one, other = Sotw(world), Sotw(world)
    one.ask("cds")
    one.read(world.put(service("tea")))
    other.ask("cds")
    assert one.last["cds"].version_info == other.last["cds"].version_info


def test_sotw_a_new_name_gets_all_clusters_but_only_its_own_endpoints() -> None:
    world = cart()
    world.put(service("tea"))
    client = Sotw(world)
    client.ask("cds", CART)
    client.ask("eds", CART)
    assert client.ask("cds", CART, TEA) == [Said("cds", [CART, TEA])]
    assert client.ask("eds", CART, TEA) == [Said("eds", [TEA])]


# ---- incremental -------------------------------------------------------------------------------------------


def test_delta_what_the_client_has_from_an_earlier_stream_is_not_sent_again() -> None:
    world = cart()
    world.put(service("tea"))
    first = Delta(world)
    first.ask("cds")
    first.ask("eds", CART, TEA)
    has = {kind: {n: first.versions[f"{kind} {n}"] for n in (CART, TEA)} for kind in ("cds", "eds")}
    world.put(slice_of(B))
    world.drop(service("tea"))
    again = Delta(world)
    assert again.ask("cds", has=has["cds"]) == [Said("cds", [], []), Said("cds", [], [TEA])]
    assert again.ask("eds", CART, TEA, has=has["eds"]) == [Said("eds", [CART], []), Said("eds", [], [TEA])]


def test_delta_a_name_that_is_not_there_is_said_so() -> None:
    client = Delta(World())
    assert client.ask("eds", CART) == [Said("eds", [], [CART])]


def test_delta_unsubscribing_a_name_under_a_wildcard_is_answered() -> None:
    world = cart()
    client = Delta(world)
    client.ask("cds")
    assert client.ask("cds", CART, TEA) == [Said("cds", [CART], [TEA])]
    assert client.ask("cds", drop=[CART]) == [Said("cds", [CART])]
    assert client.ask("cds", drop=[TEA]) == [Said("cds", [], [TEA])]


def test_delta_the_wildcard_ends_and_the_names_stay() -> None:
    world = cart()
    world.put(service("tea"))
    client = Delta(world)
    client.ask("cds")
    client.ask("cds", CART)
    assert client.ask("cds", drop=["*"]) == []
    assert client.read(world.put(service("tea", sessionAffinity="ClientIP"))) == []
    assert client.read(world.put(service(sessionAffinity="ClientIP"))) == [Said("cds", [CART])]
    assert client.ask("cds", drop=[CART]) == []
    assert client.ask("cds") == []
    assert client.read(world.put(service())) == []
