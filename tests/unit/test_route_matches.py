"""Which rule gets a request, and in which order rules are to be tried: inputs after public bug reports about
implementations of the Gateway API (the sources are named with the cases), each with the right routing row."""

from typing import Any

import pytest

from tests.support.routed_service import service
from tests.support.routes import (
    Object,
    gateway,
    listener,
    route,
    rule,
    to_gateway,
    to_service,
)
from tests.support.routing_rows import DEFAULT, NEW, OLD, STICKY, asking, choice, fold, plain, reasons

# ---- equal matches (envoyproxy/gateway #4912, gateway-api #457, #657) ----------------------------------

PAY, BILL = {"path": {"type": "PathPrefix", "value": "/pay"}}, {"path": {"value": "/bill/"}}
EQUAL = [
    ([PAY, BILL], [BILL, PAY]),
    ([PAY, PAY], [PAY]),
    (None, [{}]),
    ([{"path": {"value": "/"}}], [{"path": {"type": "PathPrefix"}}]),
    (
        [{"headers": [{"name": "X-Tier", "value": "a"}]}],
        [{"headers": [{"type": "Exact", "name": "x-tier", "value": "a"}]}],
    ),
    (
        [{"headers": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]}],
        [{"headers": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}, {"name": "a", "value": "9"}]}],
    ),
    ([{"queryParams": [{"name": "q", "value": "1"}, {"name": "p", "value": "2"}]}],
     [{"queryParams": [{"name": "p", "value": "2"}, {"name": "q", "value": "1", "type": "Exact"}]}]),
]  # fmt: skip
DIFFERENT = [
    ([PAY], [{"path": {"type": "Exact", "value": "/pay"}}]),
    ([PAY, BILL], [{"path": {"value": "/other"}}]),
    ([{"method": "GET"}], [{"method": "POST"}]),
    ([{"queryParams": [{"name": "q", "value": "1"}]}], [{"queryParams": [{"name": "Q", "value": "1"}]}]),
]


@pytest.mark.parametrize(("older", "younger"), EQUAL)
def test_equal_matches_are_the_olders(older: Any, younger: Any) -> None:
    for parents, way in (([to_gateway()], "gateway"), ([to_service()], "mesh")):
        items = plain("older", parents, matches=older), asking("younger", parents, matches=younger)
        direction = fold(service(), gateway(), *items)["shop/cart"][way]
        assert (choice(direction), dict(reasons(direction))["younger"]) == (DEFAULT, "RuleShadowed")


@pytest.mark.parametrize(("older", "younger"), DIFFERENT)
def test_other_matches_are_other_requests(older: Any, younger: Any) -> None:
    items = plain("older", [to_gateway()], matches=older), asking("younger", [to_gateway()], matches=younger)
    assert choice(fold(service(), gateway(), *items)["shop/cart"]["gateway"]) == STICKY


def test_a_rule_is_shadowed_also_by_one_that_names_another_service() -> None:
    older = route("older", [to_gateway()], [rule("till")], creationTimestamp=OLD)
    row = fold(service(), service("till"), gateway(), older, asking("younger", [to_gateway()]))["shop/cart"]
    assert (choice(row["gateway"]), reasons(row["gateway"])) == (DEFAULT, [("younger", "RuleShadowed")])
    row = fold(
        service(), service("till"), gateway(), older, asking("younger", [to_gateway()]),
        events=[{"type": "DELETED", "object": older}],
    )["shop/cart"]  # fmt: skip
    assert choice(row["gateway"]) == STICKY


def test_all_ports_are_each_of_them() -> None:
    two = service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 81}])
    younger = asking("younger", [to_service(port=80)])
    row = fold(two, plain("older", [to_service()]), younger)["shop/cart"]
    assert reasons(row["mesh"]) == [("older", "Default"), ("younger", "RuleShadowed")]
    row = fold(two, plain("older", [to_service(port=81)]), younger)["shop/cart"]
    assert choice(row["mesh"]) == STICKY


def test_another_listener_or_hostname_is_other_requests() -> None:
    two = gateway("edge", listener("a"), listener("b", port=81))
    for older, younger in (
        ([to_gateway(sectionName="a")], [to_gateway()]),
        ([to_gateway(sectionName="a")], [to_gateway(port=81)]),
    ):
        row = fold(service(), two, plain("older", older), asking("younger", younger))["shop/cart"]
        assert choice(row["gateway"]) == STICKY
    older_all, younger_one = plain("older", [to_gateway()]), asking("younger", [to_gateway(sectionName="a")])
    row = fold(service(), two, older_all, younger_one)["shop/cart"]
    assert choice(row["gateway"]) == DEFAULT
    hosts = {"hostnames": ["a.example.com", "b.example.com"]}
    older_a = plain("older", [to_gateway()], hostnames=["a.example.com"])
    assert (
        choice(fold(service(), two, older_a, asking("younger", [to_gateway()], **hosts))["shop/cart"]["gateway"])
        == STICKY
    )


# ---- the order of rules (HTTPRouteMatchingAcrossRoutes) ------------------------------------------------


def order(*routes: Object, **spec: Any) -> list[tuple[str, int]]:
    row = fold(service(**spec), gateway(), *routes)["shop/cart"]
    return [(item["route"]["name"], item["rule"]) for item in row["gateway"]["rules"]]


def test_rules_stand_in_the_order_in_which_they_must_be_tried() -> None:
    matches = [
        [{"path": {"value": "/"}}],
        [{"path": {"value": "/"}, "queryParams": [{"name": "q", "value": "1"}]}],
        [{"path": {"value": "/"}, "headers": [{"name": "a", "value": "1"}]}],
        [{"path": {"value": "/"}, "method": "GET"}],
        [{"path": {"value": "/cart"}}],
        [{"path": {"type": "RegularExpression", "value": "/c.*"}}],
        [{"path": {"type": "Exact", "value": "/"}}],
    ]
    backend = [{"name": "cart", "port": 80}]
    rules = [{"matches": match, "backendRefs": backend} for match in matches]
    assert order(route("r", [to_gateway()], rules)) == [("r", number) for number in (6, 5, 4, 3, 2, 1, 0)]
    hosts = ["*.a.example.com", "x.example.com", "*.example.com", "long.x.example.com"]
    at_hosts = [plain(f"r{i}", [to_gateway()], hostnames=[host]) for i, host in enumerate(hosts)]
    assert [name for name, _ in order(*at_hosts, plain("any", [to_gateway()]))] == ["r3", "r1", "r0", "r2", "any"]


def test_a_rule_stands_twice_where_anothers_match_has_to_be_tried_between_its_own() -> None:
    wide = plain("wide", [to_gateway()], matches=[{"path": {"value": "/"}}, {"path": {"value": "/a/b/c"}}])
    mid = plain("mid", [to_gateway()], matches=[{"path": {"value": "/a"}}], created=NEW)
    row = fold(service(), gateway(), wide, mid)["shop/cart"]
    assert [(item["route"]["name"], item["matches"]) for item in row["gateway"]["rules"]] == [
        ("wide", [{"hostname": "", "match": 0}]),
        ("mid", []),
        ("wide", [{"hostname": "", "match": 1}]),
    ]
    held = next(held for held in row["routes"] if held["name"] == "wide")
    assert [match["path"]["value"] for match in held["backends"][0]["matches"]] == ["/a/b/c", "/"]


def test_grpc_methods_stand_before_services_and_headers() -> None:
    matches: list[Any] = [
        [{}],
        [{"headers": [{"name": "a", "value": "1"}]}],
        [{"method": {"method": "Get"}}],
        [{"method": {"service": "shop.Cart"}}],
        [{"method": {"service": "shop.Cart", "method": "Get"}}],
    ]
    rules = [{"matches": match, "backendRefs": [{"name": "cart", "port": 80}]} for match in matches]
    assert order(route("r", [to_gateway()], rules, "GRPCRoute")) == [("r", number) for number in (4, 3, 2, 1, 0)]
