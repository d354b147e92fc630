"""Routes that name a ServiceImport (GEP-1748): what its cluster's routing row says of it, beside the Service of its
name, with which it has nothing in common."""

from typing import Any

import pytest

from tests.support.routed_service import service
from tests.support.routes import (
    Object,
    backend_tls_policy,
    by_cookie,
    gateway,
    grant,
    named,
    policy,
    route,
    rule,
    to_gateway,
    to_import,
    to_service,
)
from tests.support.routing_rows import DEFAULT, NEW, OLD, STICKY, choice, fold, reasons

IMPORT = ("endpoint", "NoClusterSetIP")
ITSELF = [{"kind": "ServiceImport", "namespace": "shop", "name": "cart"}]


def to_cart(
    name: str, parents: list[Object], cookie: str = "", *, kind: str = "HTTPRoute", path: str = "/", **more: Any
) -> Object:
    """A route to the ServiceImport shop/cart; with a `cookie` it asks for session persistence."""
    persistence = by_cookie(cookie) if cookie else None
    asked = rule(to_import(namespace="shop", port=80), path=path, persistence=persistence)
    return route(name, parents, [asked], kind, **more)


def session(direction: Any) -> str | None:
    persistence = direction["sessionPersistence"]
    return persistence and str(persistence["sessionName"])


# ---- as a backend ----------------------------------------------------------------------------------------


def test_a_backend_is_known_and_the_service_of_its_name_is_another() -> None:
    row = fold(service(), gateway(), to_cart("r", [to_gateway()], "a"))["shop/cart"]
    of_import = row["clusterset"]
    assert (choice(of_import["gateway"]), session(of_import["gateway"])) == (IMPORT, "a")
    assert (of_import["gateway"]["because"], reasons(of_import["gateway"])) == (ITSELF, [("r", "NoClusterSetIP")])
    assert (choice(of_import["mesh"]), session(of_import["mesh"]), of_import["mesh"]["rules"]) == (IMPORT, None, [])
    assert [(choice(row[way]), row[way]["rules"]) for way in ("gateway", "mesh")] == [(DEFAULT, [])] * 2
    assert [(held["name"], "unresolved" in held) for held in row["routes"]] == [("r", False)]
    (backend,) = row["routes"][0]["backends"]
    assert (backend["kind"], backend["permitted"], backend["totalWeight"]) == ("ServiceImport", True, 1)


def test_a_service_does_not_speak_for_the_import_of_its_name() -> None:
    row = fold(service(), gateway(), route("r", [to_gateway()], [rule("cart", persistence=by_cookie("a"))]))
    assert "clusterset" not in row["shop/cart"]
    both = rule("cart", to_import(port=80, weight=3), persistence=by_cookie("a"))
    row = fold(service(sessionAffinity="ClientIP"), gateway(), route("r", [to_gateway()], [both]))["shop/cart"]
    shares = [(way["rules"][0]["weight"], len(way["rules"])) for way in (row["gateway"], row["clusterset"]["gateway"])]
    assert shares == [(1, 1), (3, 1)]
    assert (choice(row["gateway"]), choice(row["clusterset"]["gateway"])) == (STICKY, IMPORT)
    assert choice(row["clusterset"]["mesh"]) == IMPORT


def test_no_service_of_the_name_is_needed() -> None:
    row = fold(gateway(), to_cart("r", [to_gateway()], "a"))["shop/cart"]
    assert (row["service"], choice(row["gateway"]), row["gateway"]["because"]) == (
        None,
        ("none", "ServiceNotFound"),
        [],
    )
    assert session(row["clusterset"]["gateway"]) == "a"


def test_mirrors_and_authorizers_are_named_with_their_role() -> None:
    filters = [
        {"requestMirror": {"backendRef": to_import("shadow", port=80), "percent": 20}},
        {"externalAuth": {"protocol": "GRPC", "backendRef": to_import("gate", port=80)}},
    ]
    asked = rule("cart", persistence=by_cookie("a"), filters=filters)
    rows = fold(service(), gateway(), route("r", [to_gateway()], [asked]))
    ways = {name: rows[f"shop/{name}"]["clusterset"]["gateway"] for name in ("shadow", "gate")}
    roles = {name: [(item["role"], item["weight"], item["totalWeight"]) for item in way["rules"]]
             for name, way in ways.items()}  # fmt: skip
    assert roles == {"shadow": [("mirror", 20, 100)], "gate": [("auth", 1, 1)]}
    assert {session(way) for way in ways.values()} == {None}


@pytest.mark.parametrize("group", ["", "multicluster.k8s.io", "net.gke.io"])
def test_an_import_of_another_group_is_unknown(group: str) -> None:
    asked = route("r", [to_gateway()], [rule("cart", {**to_import(), "group": group})])
    row = fold(service(), gateway(), asked)["shop/cart"]
    assert "clusterset" not in row
    assert [each["reason"] for each in row["routes"][0]["unresolved"]] == ["InvalidKind"]


# ---- grants ----------------------------------------------------------------------------------------------


def test_a_gateways_route_of_another_namespace_needs_a_grant_for_imports() -> None:
    """Which the mesh does not (GEP-1294)."""
    asked = to_cart("r", [to_gateway(), to_service("till")], "a", namespace="web")
    items = [service("till", "web"), gateway(namespace="web"), asked]
    sources = [("HTTPRoute", "web")]

    def said(*events: Object) -> tuple[str, str | None, str | None]:
        of_import = fold(*items, events=list(events))["shop/cart"]["clusterset"]
        ((_, reason),) = reasons(of_import["gateway"])
        return reason, session(of_import["gateway"]), session(of_import["mesh"])

    def added(item: Object) -> Object:
        return {"type": "ADDED", "object": item}

    refused, granted = ("RefNotPermitted", None, "a"), ("NoClusterSetIP", "a", "a")
    of_all = grant("g", sources, imports=True)
    assert said() == refused
    assert said(added(grant("g", sources))) == refused
    assert said(added(grant("g", sources, ["tea"], imports=True))) == refused
    assert said(added(grant("g", [("GRPCRoute", "web")], imports=True))) == refused
    assert said(added(of_all)) == granted
    assert said(added(grant("g", sources, ["cart"], imports=True))) == granted
    assert said(added(of_all), {"type": "DELETED", "object": of_all}) == refused
    broken = named("ReferenceGrant", "g", {"from": 7})
    assert said(added(broken))[0] == "GrantUnreadable"


def test_a_grant_for_imports_is_none_for_services() -> None:
    asked = route("r", [to_gateway()], [rule({"name": "cart", "namespace": "shop"})], namespace="web")
    items = [service(), gateway(namespace="web"), asked, grant("g", [("HTTPRoute", "web")], imports=True)]
    assert reasons(fold(*items)["shop/cart"]["gateway"]) == [("r", "RefNotPermitted")]


# ---- as a parent (GEP-1748, Mesh: ServiceImport as Parent) ------------------------------------------------


def test_a_parent_has_its_producers_routes_and_those_of_consumers() -> None:
    producer = to_cart("producer", [to_import()], "p", created=OLD)
    consumer = to_cart("consumer", [to_import(namespace="shop")], "c", namespace="buyer", created=NEW)
    mesh = fold(producer, consumer)["shop/cart"]["clusterset"]["mesh"]
    assert (session(mesh), reasons(mesh)) == ("p", [("producer", "NoClusterSetIP")])
    assert list(mesh["consumers"]) == ["buyer"]
    buyer = mesh["consumers"]["buyer"]
    assert (session(buyer), reasons(buyer)) == ("c", [("consumer", "NoClusterSetIP")])


def test_a_parent_is_attached_by_its_name_and_numbers_of_ports() -> None:
    def parents(*routes: Object) -> dict[str, tuple[bool, str, list[int]]]:
        held = fold(*routes)["shop/cart"]["routes"]
        return {each["name"]: (parent["attached"], parent["reason"], parent.get("ports", []))
                for each in held for parent in each["parents"]}  # fmt: skip

    assert parents(to_cart("all", [to_import()])) == {"all": (True, "", [0])}
    assert parents(to_cart("all", [to_import()]), to_cart("one", [to_import(port=81)])) == {
        "all": (True, "", [0, 81]),
        "one": (True, "", [81]),
    }
    grpc = to_cart("grpc", [to_import(port=81)], kind="GRPCRoute")
    assert parents(to_cart("all", [to_import()]), to_cart("one", [to_import(port=81)]), grpc) == {
        "all": (True, "", [0]),
        "one": (False, "Conflicted", []),
        "grpc": (True, "", [81]),
    }
    named_port = parents(to_cart("name", [to_import(sectionName="http")]))
    assert named_port == {"name": (False, "NoMatchingParent", [])}


def test_a_consumers_route_for_one_port_leaves_the_producers_for_the_others() -> None:
    producer = to_cart("producer", [to_import()], "p")
    consumer = route("consumer", [to_import(namespace="shop", port=81)], [rule("till")], namespace="buyer")
    assert session(fold(producer, consumer)["shop/cart"]["clusterset"]["mesh"]["consumers"]["buyer"]) == "p"
    at_one = to_cart("producer", [to_import(port=81)], "p")
    assert session(fold(at_one, consumer)["shop/cart"]["clusterset"]["mesh"]["consumers"]["buyer"]) is None


def test_requests_for_an_import_may_go_to_a_service_and_the_other_way() -> None:
    over = route("over", [to_import("front")], [rule("cart", persistence=by_cookie("a"))])
    assert choice(fold(service(), over)["shop/cart"]["mesh"]) == STICKY
    row = fold(service(), to_cart("back", [to_service()], "b"))["shop/cart"]
    assert (session(row["clusterset"]["mesh"]), choice(row["mesh"])) == ("b", DEFAULT)
    # A consumer of the Service is none of the import's.
    consumer = route("c", [to_service(namespace="shop")], [rule("till")], namespace="buyer")
    row = fold(service(), to_cart("p", [to_import()], "b"), consumer)["shop/cart"]
    assert list(row["mesh"]["consumers"]) == ["buyer"]
    assert row["clusterset"]["mesh"].get("consumers") is None


# ---- precedence, and changes ------------------------------------------------------------------------------


def test_the_oldest_routes_session_persistence_holds() -> None:
    old, new = (
        to_cart(name, [to_gateway()], name, path=f"/{name}", creationTimestamp=created)
        for name, created in (("old", OLD), ("new", NEW))
    )
    way = fold(gateway(), new, old)["shop/cart"]["clusterset"]["gateway"]
    assert session(way) == "old"
    assert way["sessionConflicts"] == [{"kind": "HTTPRoute", "namespace": "shop", "name": "new"}]
    same = to_cart("new", [to_gateway()], "new", creationTimestamp=NEW), to_cart("old", [to_gateway()], "old")
    assert ("old", "RuleShadowed") in reasons(fold(gateway(), *same)["shop/cart"]["clusterset"]["gateway"])


def test_what_is_said_of_an_import_goes_with_its_last_route() -> None:
    one, two = to_cart("one", [to_gateway()], "a"), to_cart("two", [to_import()], "b")
    deleted = [{"type": "DELETED", "object": each} for each in (one, two)]
    row = fold(service(), gateway(), one, two, events=deleted[:1])["shop/cart"]
    assert (session(row["clusterset"]["gateway"]), session(row["clusterset"]["mesh"])) == (None, "b")
    row = fold(service(), gateway(), one, two, events=deleted)["shop/cart"]
    assert ("clusterset" in row, row["state"], row["routes"]) == (False, "ready", [])
    assert fold(gateway(), one, events=deleted[:1])["shop/cart"]["state"] == "deleted"
    # The route goes on, to the Service.
    changed = {"type": "MODIFIED", "object": route("one", [to_gateway()], [rule("cart", persistence=by_cookie("a"))])}
    row = fold(service(), gateway(), one, events=[changed])["shop/cart"]
    assert ("clusterset" in row, choice(row["gateway"])) == (False, STICKY)


def test_gateways_and_grants_that_come_later_count_then() -> None:
    asked = to_cart("r", [to_gateway()], "a", namespace="web")
    said = []
    events = [
        gateway("other", namespace="web"),
        gateway(namespace="web"),
        grant("g", [("HTTPRoute", "web")], imports=True),
    ]
    for count in range(len(events) + 1):
        added = [{"type": "ADDED", "object": each} for each in events[:count]]
        way = fold(asked, events=added)["shop/cart"]["clusterset"]["gateway"]
        said.append(([reason for _, reason in reasons(way)], session(way)))
    # While nothing is known of any Gateway, a route counts as attached.
    assert said == [(["RefNotPermitted"], None), ([], None), (["RefNotPermitted"], None), (["NoClusterSetIP"], "a")]


# ---- policies (XBackendTrafficPolicy spec.targetRefs) ------------------------------------------------------


def test_a_traffic_policy_counts_for_what_it_targets() -> None:
    of_import = policy("p", to_import(), persistence=by_cookie("p"))
    row = fold(service(), of_import)["shop/cart"]
    assert [choice(row[way]) for way in ("gateway", "mesh")] == [DEFAULT, DEFAULT]
    assert [session(row["clusterset"][way]) for way in ("gateway", "mesh")] == ["p", "p"]
    assert row["policies"][0]["targets"] == ["ServiceImport"]
    both = policy("p", "cart", to_import(), persistence=by_cookie("p"))
    row = fold(service(), both)["shop/cart"]
    assert choice(row["gateway"]) == ("endpoint", "BackendTrafficPolicy")
    assert session(row["clusterset"]["gateway"]) == "p"
    row = fold(service(), policy("p", "cart", persistence=by_cookie("p")))["shop/cart"]
    assert ("clusterset" in row, "targets" in row["policies"][0]) == (False, False)
    # A route's precedes.
    row = fold(gateway(), of_import, to_cart("r", [to_gateway()], "r"))["shop/cart"]
    assert [session(row["clusterset"][way]) for way in ("gateway", "mesh")] == ["r", "p"]
    assert row["clusterset"]["gateway"]["sessionConflicts"] == [
        {"kind": "XBackendTrafficPolicy", "namespace": "shop", "name": "p"}
    ]
    row = fold(service(), of_import, events=[{"type": "DELETED", "object": of_import}])["shop/cart"]
    assert "clusterset" not in row


def test_a_policy_of_another_groups_service_is_one_of_the_import_that_it_targets() -> None:
    foreign = {"group": "core", "kind": "Service", "name": "cart"}
    row = fold(service(), policy("p", foreign, to_import(), persistence=by_cookie("p")))["shop/cart"]
    assert (choice(row["gateway"]), session(row["clusterset"]["gateway"])) == (DEFAULT, "p")


# ---- what can't be read -----------------------------------------------------------------------------------


def test_a_route_that_can_not_be_read_is_named_where_its_import_is() -> None:
    broken = to_cart("r", [to_gateway()])
    broken["spec"]["hostnames"] = 7
    row = fold(gateway(), broken)["shop/cart"]
    assert [each["name"] for each in row["rejected"]] == ["r"]
    assert row["state"] == "unknown"


def test_a_policy_that_can_not_be_read_is_named_where_it_may_count() -> None:
    broken = policy("p", to_import(), persistence=by_cookie("p"))
    broken["spec"]["sessionPersistence"] = 7
    assert [each["name"] for each in fold(service(), broken)["shop/cart"]["rejected"]] == ["p"]
    tls = backend_tls_policy("p", "cart")
    tls["spec"].update(targetRefs=[to_import()], validation=7)
    assert "rejected" not in fold(service(), tls)["shop/cart"]


@pytest.mark.parametrize("odd", [[], {}, 7, None])
def test_kinds_and_groups_of_any_type_stop_nothing(odd: Any) -> None:
    odd_grant = grant("g", [("HTTPRoute", "web")])
    odd_grant["spec"]["to"] = [{"group": odd, "kind": odd}, {"group": "", "kind": odd}]
    odd_route = route("odd", [{**to_import(), "kind": odd}], [rule({**to_import(), "group": odd, "kind": odd})])
    row = fold(gateway(), odd_grant, odd_route, to_cart("r", [to_gateway()], "a"))["shop/cart"]
    assert session(row["clusterset"]["gateway"]) == "a"
