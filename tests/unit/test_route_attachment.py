"""Where routes are attached to Gateways and ListenerSets: inputs after public bug reports about implementations of the
Gateway API (the sources are named with the cases), each with the right routing row."""

from typing import Any

import pytest

from tests.support.routed_service import service
from tests.support.routes import (
    Object,
    gateway,
    listener,
    listener_set,
    namespace,
    to_gateway,
    to_listener_set,
    to_service,
)
from tests.support.routing_rows import DEFAULT, NEW, OLD, STICKY, asking, choice, fold, parents_of, plain, reasons


def allowing(**allowed: Any) -> Object:
    return listener("http", allowedRoutes={"namespaces": {"from": "All"}, **allowed})


# ---- listeners (gateway-api #2099, #1667 of linkerd/website, nginx-gateway-fabric #2299, cilium #28186)


FOREIGN = {"group": "policy.linkerd.io", "kind": "HTTPRoute"}

LISTENERS: dict[str, tuple[list[Object], Object, str]] = {
    "a selector that is not given selects nothing": (
        [listener("http", allowedRoutes={"namespaces": {"from": "Selector"}})],
        {},
        "NotAllowedByListeners",
    ),
    "an empty selector selects everything": (
        [listener("http", allowedRoutes={"namespaces": {"from": "Selector", "selector": {}}})],
        {},
        "",
    ),
    "kinds of another group are none": ([allowing(kinds=[FOREIGN])], {}, "NotAllowedByListeners"),
    "a kind that is unknown is none": ([allowing(kinds=[{"kind": "Ingress"}])], {}, "NotAllowedByListeners"),
    "no kinds are the protocol's": ([allowing(kinds=[])], {}, ""),
    "a kind beside a foreign one": ([allowing(kinds=[FOREIGN, {"kind": "HTTPRoute"}])], {}, ""),
    "another kind": ([allowing(kinds=[{"kind": "GRPCRoute"}])], {"sectionName": "http"}, "NotAllowedByListeners"),
    "a kind that the protocol doesn't have": (
        [{**allowing(kinds=[{"kind": "HTTPRoute"}]), "protocol": "TLS"}],
        {},
        "NotAllowedByListeners",
    ),
    "a protocol that nobody has": ([{**allowing(), "protocol": "INVALID"}], {}, "NotAllowedByListeners"),
    "an implementation's own protocol": ([{**allowing(), "protocol": "example.com/quic"}], {}, ""),
    "the other of two listeners selects namespaces": (
        [
            listener("one", port=443, protocol="HTTPS", allowedRoutes={"namespaces": {"from": "All"}}),
            listener(
                "two", port=443, protocol="HTTPS",
                allowedRoutes={"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}},
            ),
        ],
        {"sectionName": "one"},
        "",
    ),
    "TCP on the port of an HTTP listener": (
        [allowing(), listener("tcp", protocol="TCP")], {"sectionName": "http"}, "Conflicted",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LISTENERS)
def test_what_a_listener_takes(case: str) -> None:
    listeners, parent, reason = LISTENERS[case]
    edge = gateway("edge", *listeners, namespace="infra")
    items = [service(), namespace("shop"), edge, asking("r", [to_gateway(namespace="infra", **parent)])]
    row = fold(*items)["shop/cart"]
    assert parents_of(row) == [(not reason, reason)]
    assert choice(row["gateway"]) == (DEFAULT if reason else STICKY)


HOSTNAMES = [
    ("*.example.net", ["shop.example.org"], None),
    ("*.example.com", ["example.com"], None),
    ("example.com", ["*.example.com"], None),
    ("*.example.com", ["a.example.com", "b.a.example.com", "a.example.net"], ["a.example.com", "b.a.example.com"]),
    ("a.example.com", ["*.example.com"], ["a.example.com"]),
    ("*.a.example.com", ["*.example.com"], ["*.a.example.com"]),
    ("*.example.com", ["*.a.example.com"], ["*.a.example.com"]),
    ("A.example.com", ["a.Example.com"], ["a.example.com"]),
    ("", ["a.example.com"], ["a.example.com"]),
    ("a.example.com", [], ["a.example.com"]),
    ("", [], []),
]


@pytest.mark.parametrize(("own", "asked", "common"), HOSTNAMES)
@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute", "TLSRoute"])
def test_hostnames_are_those_that_listener_and_route_have_in_common(
    kind: str, own: str, asked: list[str], common: list[str] | None
) -> None:
    protocol = {"protocol": "TLS", "tls": {"mode": "Passthrough"}} if kind == "TLSRoute" else {}
    edge = gateway("edge", listener("one", hostname=own, **protocol))
    row = fold(service(), edge, asking("r", [to_gateway()], kind=kind, hostnames=asked))["shop/cart"]
    if common is None:
        assert parents_of(row) == [(False, "NoMatchingListenerHostname")]
        assert choice(row["gateway"]) == DEFAULT
    else:
        (at,) = row["routes"][0]["parents"][0]["listeners"]
        assert (at["name"], at.get("hostnames", [])) == ("one", common)


def test_tcp_routes_have_no_hostnames() -> None:
    edge = gateway("edge", listener("tcp", protocol="TCP"))
    assert parents_of(fold(service(), edge, asking("r", [to_gateway()], kind="TCPRoute"))["shop/cart"]) == [(True, "")]


# ---- one kind at one listener (grpcroute_types.go: exactly one, the oldest) ----------------------------


def test_of_a_grpc_and_an_http_route_with_a_common_hostname_the_oldest_stays() -> None:
    def rows(http: str, grpc: str, *, http_created: str, grpc_created: str) -> Any:
        return fold(
            service(),
            gateway(),
            asking("h", [to_gateway()], created=http_created, hostnames=[http]),
            plain("g", [to_gateway()], created=grpc_created, kind="GRPCRoute", hostnames=[grpc]),
        )["shop/cart"]

    row = rows("api.example.net", "*.example.net", http_created=NEW, grpc_created=OLD)
    assert (parents_of(row, "h"), parents_of(row, "g")) == ([(False, "Conflicted")], [(True, "")])
    assert choice(row["gateway"]) == DEFAULT
    row = rows("api.example.net", "*.example.net", http_created=OLD, grpc_created=NEW)
    assert (parents_of(row, "h"), parents_of(row, "g")) == ([(True, "")], [(False, "Conflicted")])
    row = rows("api.example.net", "api.example.org", http_created=NEW, grpc_created=OLD)
    assert (parents_of(row, "h"), parents_of(row, "g")) == ([(True, "")], [(True, "")])


def test_of_several_types_on_a_services_port_the_most_specific_counts() -> None:
    """GEP-1294, Route types; linkerd2 #12782."""
    http = asking("h", [to_service(port=80)], created=OLD)
    grpc = plain("g", [to_service(port=80)], created=NEW, kind="GRPCRoute")
    row = fold(service(), grpc, http)["shop/cart"]
    assert parents_of(row, "h") == [(False, "Conflicted")]
    assert (choice(row["mesh"]), reasons(row["mesh"])) == (DEFAULT, [("g", "Default")])
    # With a second port the HTTPRoute, which is for all, still has that one.
    two = service(ports=[{"name": "http", "port": 80}, {"name": "admin", "port": 81}])
    row = fold(two, grpc, asking("h", [to_service()], created=OLD))["shop/cart"]
    assert parents_of(row, "h") == [(True, "")]
    assert [held["parents"][0]["ports"] for held in row["routes"]] == [[80], [81]]
    for kinds in (("GRPCRoute", "TLSRoute"), ("HTTPRoute", "TCPRoute"), ("TLSRoute", "TCPRoute")):
        first, second = (plain(f"r{i}", [to_service()], kind=kind) for i, kind in enumerate(kinds))
        row = fold(service(), first, second)["shop/cart"]
        assert (parents_of(row, "r0"), parents_of(row, "r1")) == ([(True, "")], [(False, "Conflicted")])
    dns = service(ports=[{"name": "u", "port": 80, "protocol": "UDP"}, {"name": "t", "port": 80}])
    row = fold(dns, plain("u", [to_service()], kind="UDPRoute"), plain("t", [to_service()], kind="TCPRoute"))[
        "shop/cart"
    ]
    assert (parents_of(row, "u"), parents_of(row, "t")) == ([(True, "")], [(True, "")])


# ---- ListenerSets (GEP-1713) ---------------------------------------------------------------------------


def test_a_listener_set_is_a_parent_where_its_gateway_allows_it() -> None:
    extra = listener_set("extra", "edge", listener("more", port=81, hostname="b.example.com"))
    asked = asking("r", [to_listener_set("extra")])
    own = listener("http", hostname="a.example.com")
    for allowed, reason in (({}, "NoMatchingParent"), ({"from": "None"}, "NoMatchingParent"), ({"from": "Same"}, "")):
        edge = gateway("edge", own, allowed=allowed)
        row = fold(service(), edge, extra, asked)["shop/cart"]
        assert (parents_of(row), choice(row["gateway"])) == ([(not reason, reason)], DEFAULT if reason else STICKY)
    at_gateway = asking(
        "r", [to_gateway(), to_gateway(sectionName="more"), to_listener_set("extra", sectionName="more")]
    )
    row = fold(service(), gateway("edge", own, allowed={"from": "All"}), extra, at_gateway)["shop/cart"]
    assert parents_of(row) == [(True, ""), (False, "NoMatchingParent"), (True, "")]
    assert [[at.get("hostnames") for at in parent.get("listeners", [])] for parent in row["routes"][0]["parents"]] == [
        [["a.example.com"]],
        [],
        [["b.example.com"]],
    ]


@pytest.mark.parametrize("events", [False, True])
def test_listener_sets_give_way_by_precedence(events: bool) -> None:
    edge = gateway("edge", listener("http", hostname="a.example.com"), allowed={"from": "All"})
    sets = [
        listener_set("same-host", "edge", listener("l", hostname="A.example.com")),
        listener_set("young", "edge", listener("l", hostname="b.example.com"), creationTimestamp=NEW),
        listener_set("old", "edge", listener("l", hostname="b.example.com"), creationTimestamp=OLD),
    ]
    asked = asking("r", [to_listener_set(item["metadata"]["name"]) for item in sets])
    items = [service(), edge, asked, *sets]
    rows = fold(events=[{"type": "ADDED", "object": item} for item in items]) if events else fold(*items)
    row, conflicted = rows["shop/cart"], (False, "Conflicted")
    assert parents_of(row) == [conflicted, conflicted, (True, "")]
    deleted = [{"type": "DELETED", "object": sets[2]}]
    assert parents_of(fold(*items, events=deleted)["shop/cart"])[1:] == [(True, ""), (False, "NoMatchingParent")]
