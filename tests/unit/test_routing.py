"""The rules of the choice between Service and endpoint routing, each as cases: objects in, decisions with reasons out.

The objects go through the real normalizing, collector and fold (`AuditFold`)."""

import re
from typing import Any

import pytest

from streams.cli.output import RowPrinter, row_line
from tests.support.routed_service import service
from tests.support.routes import (
    Object,
    annotated,
    by_cookie,
    gateway,
    grant,
    namespace,
    policy,
    route,
    rule,
    to_gateway,
    to_import,
    to_service,
)
from tests.support.routing_rows import fold

Said = tuple[str, str, str, str]

DEFAULT = ("endpoint", "Default")
STICKY = ("endpoint", "SessionPersistence")
MISSING = ("none", "ServiceNotFound")


def said(row: Any) -> Said:
    return row["gateway"]["decision"], row["gateway"]["reason"], row["mesh"]["decision"], row["mesh"]["reason"]


CASES: dict[str, tuple[list[Object], Said]] = {
    # What can't be.
    "external name": ([service(type="ExternalName", externalName="x.org", clusterIP="")], ("dns", "ExternalName") * 2),
    "headless": ([annotated(service(clusterIP="None"), mesh="service")], ("endpoint", "Headless") * 2),
    "no cluster IP": ([annotated(service(clusterIP=""), gateway="service")], ("endpoint", "NoClusterIP") * 2),
    # What is asked.
    "a rule's session persistence, for gateways": (
        [
            annotated(service(sessionAffinity="ClientIP"), gateway="service"),
            gateway(),
            route("r", [to_gateway()], [rule("cart", persistence=by_cookie("a"))]),
        ],
        (*STICKY, "endpoint", "SessionAffinity"),
    ),
    "a rule's session persistence, in the mesh": (
        [service(), route("r", [to_service()], [rule("cart", persistence=by_cookie("a"))], "GRPCRoute")],
        (*DEFAULT, *STICKY),
    ),
    "a policy's session persistence": (
        [annotated(service(), mesh="service"), policy("p", "cart", persistence=by_cookie("a"))],
        ("endpoint", "BackendTrafficPolicy") * 2,
    ),
    "a policy that asks for nothing": ([service(), policy("p", "cart", persistence=None)], DEFAULT * 2),
    "session affinity": (
        [annotated(service(sessionAffinity="ClientIP"), mesh="service")],
        ("endpoint", "SessionAffinity") * 2,
    ),
    "a weight of nothing": (
        [
            service(),
            gateway(),
            route("r", [to_gateway()], [rule({"name": "cart", "weight": 0}, persistence=by_cookie("a"))]),
        ],
        DEFAULT * 2,
    ),
    # What operators set.
    "a Service's annotation before its Namespace's": (
        [annotated(service(), gateway="service"), namespace("shop", gateway="endpoint", mesh="service")],
        ("service", "ServiceAnnotation", "service", "NamespaceAnnotation"),
    ),
    "endpoint by annotation": (
        [annotated(service(), gateway="endpoint"), namespace("shop", gateway="service")],
        ("endpoint", "ServiceAnnotation", *DEFAULT),
    ),
    "another Namespace's annotation": ([service(), namespace("other", gateway="service")], DEFAULT * 2),
    "nothing": ([service()], DEFAULT * 2),
    # Whether a route counts.
    "a Gateway that is not there": (
        [service(), gateway("other"), route("r", [to_gateway()], [rule("cart", persistence=by_cookie("a"))])],
        DEFAULT * 2,
    ),
    "no Gateway known at all": (
        [service(), route("r", [to_gateway()], [rule("cart", persistence=by_cookie("a"))])],
        (*STICKY, *DEFAULT),
    ),
    "a parent of another kind": (
        [service(), route("r", [{"kind": "XMesh", "name": "m"}], [rule("cart", persistence=by_cookie("a"))])],
        DEFAULT * 2,
    ),
    "a backend of another kind": (
        [
            service(),
            gateway(),
            route("r", [to_gateway()], [rule({"kind": "XBackend", "name": "cart"}, persistence=by_cookie("a"))]),
        ],
        DEFAULT * 2,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_first_rule_that_applies_decides(case: str) -> None:
    items, expected = CASES[case]
    assert said(fold(*items)["shop/cart"]) == expected
    assert said(fold(*reversed(items))["shop/cart"]) == expected


def test_defaults_of_the_cluster_are_last() -> None:
    chosen = {"gateway": "service", "mesh": "service"}
    assert said(fold(service(), defaults=chosen)["shop/cart"]) == ("service", "ClusterDefault") * 2
    items = service(), namespace("shop", mesh="endpoint")
    assert said(fold(*items, defaults=chosen)["shop/cart"])[2:] == ("endpoint", "NamespaceAnnotation")


def test_the_objects_that_led_to_a_decision_are_named() -> None:
    rows = fold(
        service(),
        namespace("shop", mesh="service"),
        gateway(),
        route("r", [to_gateway()], [rule("cart", persistence=by_cookie("a"))]),
    )
    assert rows["shop/cart"]["gateway"]["because"] == [{"kind": "HTTPRoute", "namespace": "shop", "name": "r"}]
    assert rows["shop/cart"]["mesh"]["because"] == [{"kind": "Namespace", "namespace": "", "name": "shop"}]
    assert {each["kind"] for each in rows["shop/cart"]["cause"]} == {"Service", "HTTPRoute"}


def test_an_annotation_that_says_neither_counts_for_nothing_and_is_named() -> None:
    row = fold(annotated(service(), gateway="both", mesh="service"))["shop/cart"]
    assert said(row) == (*DEFAULT, "service", "ServiceAnnotation")
    named = "Service annotation service-facets.io/gateway-routing: 'both' is neither service nor endpoint"
    assert (row["state"], row["reason"]) == ("ready", f"InvalidAnnotation: {named}")


# ---- routes ------------------------------------------------------------------------------------------


def test_the_oldest_route_wins_then_the_first_by_name() -> None:
    def asking(name: str, created: str, **more: Any) -> Object:
        rules = [rule("cart", path=f"/{name}", persistence=by_cookie(name))]
        return route(name, [to_gateway()], rules, creationTimestamp=created, **more)

    young, old, twin = (
        asking("a", "2026-02-01T00:00:00Z"),
        asking("c", "2026-01-01T00:00:00Z"),
        asking("b", "2026-01-01T00:00:00Z"),
    )
    for items in ((young, old, twin), (twin, old, young)):
        row = fold(service(), gateway(), *items)["shop/cart"]["gateway"]
        assert row["sessionPersistence"]["sessionName"] == "b"
        assert [each["sessionPersistence"]["sessionName"] for each in row["rules"]] == ["b", "c", "a"]


def test_of_two_routes_for_the_same_requests_only_the_first_has_a_say() -> None:
    old = route("old", [to_gateway()], [rule("cart")], creationTimestamp="2026-01-01T00:00:00Z")
    new = route(
        "new", [to_gateway()], [rule("cart", persistence=by_cookie("n"))], creationTimestamp="2026-02-01T00:00:00Z"
    )
    row = fold(service(), gateway(), old, new)["shop/cart"]["gateway"]
    assert (row["decision"], row["reason"]) == DEFAULT
    assert [(each["route"]["name"], each["reason"]) for each in row["rules"]] == [
        ("old", "Default"),
        ("new", "RuleShadowed"),
    ]
    # Another hostname, another parent, other matches: other requests.
    for other in (
        {**new, "spec": {**new["spec"], "hostnames": ["shop.example.com"]}},
        {**new, "spec": {**new["spec"], "parentRefs": [to_gateway("second")]}},
        {**new, "spec": {**new["spec"], "rules": [rule("cart", path="/cart", persistence=by_cookie("n"))]}},
    ):
        row = fold(service(), gateway(), gateway("second"), old, other)["shop/cart"]["gateway"]
        assert (row["decision"], row["reason"]) == STICKY


def test_each_rule_has_its_own_decision() -> None:
    rules = [
        rule("cart", path="/a"),
        rule("cart", path="/b", persistence=by_cookie("b"), name="sticky"),
        rule("tea", path="/c", persistence=by_cookie("c")),
    ]
    rows = fold(annotated(service(), gateway="service"), gateway(), route("r", [to_gateway()], rules))
    row = rows["shop/cart"]["gateway"]
    assert [(each["rule"], each["ruleName"], each["decision"], each["reason"]) for each in row["rules"]] == [
        (0, None, "service", "ServiceAnnotation"),
        (1, "sticky", *STICKY),
    ]
    assert (row["decision"], row["reason"]) == STICKY


def test_a_rules_persistence_goes_before_a_policys() -> None:
    items = [
        service(),
        gateway(),
        policy("p", "cart", persistence={"type": "Header", "sessionName": "x-p"}),
        route("r", [to_gateway()], [rule("cart", path="/a"), rule("cart", path="/b", persistence=by_cookie("b"))]),
    ]
    row = fold(*items)["shop/cart"]
    assert row["gateway"]["sessionPersistence"]["sessionName"] == "b"
    assert [each["sessionPersistence"]["sessionName"] for each in row["gateway"]["rules"]] == ["x-p", "b"]
    assert row["mesh"]["sessionPersistence"] == {
        "type": "Header", "sessionName": "x-p", "absoluteTimeout": None, "idleTimeout": None, "cookieLifetime": None,
    }  # fmt: skip


def test_a_service_that_is_not_there_is_a_decision() -> None:
    rows = fold(gateway(), route("r", [to_gateway(), to_service()], [rule("cart")]))
    row = rows["shop/cart"]
    assert said(row) == MISSING * 2
    assert (row["state"], row["reason"], row["service"]) == ("empty", "ServiceNotFound", None)
    assert row["gateway"]["because"] == [{"kind": "HTTPRoute", "namespace": "shop", "name": "r"}]
    assert rows["dead"] == []


def test_headless_services_keep_what_is_asked() -> None:
    row = fold(service(clusterIP="None"), policy("p", "cart", persistence=by_cookie("p")))["shop/cart"]["mesh"]
    assert (row["decision"], row["reason"], row["sessionPersistence"]["sessionName"]) == ("endpoint", "Headless", "p")


# ---- references --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granted", "permitted"),
    [
        ([], False),
        ([grant("g", [("HTTPRoute", "web")])], True),
        ([grant("g", [("HTTPRoute", "web")], ["cart"])], True),
        ([grant("g", [("HTTPRoute", "web")], ["tea"])], False),
        ([grant("g", [("GRPCRoute", "web")])], False),
        ([grant("g", [("HTTPRoute", "elsewhere")])], False),
        ([grant("g", [("HTTPRoute", "web")], namespace="web")], False),
        ([grant("g", [("HTTPRoute", "elsewhere")]), grant("h", [("HTTPRoute", "web")])], True),
    ],
)
def test_another_namespaces_service_needs_a_grant(granted: list[Object], permitted: bool) -> None:
    backend = {"name": "cart", "namespace": "shop", "port": 80}
    items = [
        service(),
        gateway(namespace="web"),
        route("r", [to_gateway()], [rule(backend, persistence=by_cookie("a"))], namespace="web"),
        *granted,
    ]
    row = fold(*items)["shop/cart"]["gateway"]
    assert (row["decision"], row["reason"]) == (STICKY if permitted else DEFAULT)
    assert row["rules"][0]["reason"] == ("SessionPersistence" if permitted else "RefNotPermitted")


def _allowing(**allowed: Any) -> Object:
    return {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": allowed}


LABELLED = {"matchLabels": {"team": "web"}}
EXPRESSED = {"matchExpressions": [{"key": "team", "operator": "In", "values": ["web", "shop"]}]}


@pytest.mark.parametrize(
    ("listener", "parent", "reason"),
    [
        (_allowing(namespaces={"from": "All"}), {}, ""),
        (_allowing(namespaces={"from": "Same"}), {}, "NotAllowedByListeners"),
        (_allowing(), {}, "NotAllowedByListeners"),
        (_allowing(namespaces={"from": "None"}), {}, "NotAllowedByListeners"),
        (_allowing(namespaces={"from": "Selector", "selector": LABELLED}), {}, ""),
        (_allowing(namespaces={"from": "Selector", "selector": EXPRESSED}), {}, ""),
        (
            _allowing(namespaces={"from": "Selector", "selector": {"matchLabels": {"team": "x"}}}),
            {},
            "NotAllowedByListeners",
        ),
        (
            _allowing(
                namespaces={
                    "from": "Selector",
                    "selector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]},
                }
            ),
            {},
            "NotAllowedByListeners",
        ),
        (
            _allowing(
                namespaces={"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}
            ),
            {},
            "",
        ),
        (_allowing(namespaces={"from": "All"}, kinds=[{"kind": "GRPCRoute"}]), {}, "NotAllowedByListeners"),
        (_allowing(namespaces={"from": "All"}, kinds=[{"kind": "HTTPRoute"}]), {}, ""),
        ({**_allowing(namespaces={"from": "All"}), "protocol": "TCP"}, {}, "NotAllowedByListeners"),
        (_allowing(namespaces={"from": "All"}), {"sectionName": "http"}, ""),
        (_allowing(namespaces={"from": "All"}), {"sectionName": "https"}, "NoMatchingParent"),
        (_allowing(namespaces={"from": "All"}), {"port": 80}, ""),
        (_allowing(namespaces={"from": "All"}), {"port": 443}, "NoMatchingParent"),
    ],
)
def test_a_gateways_listeners_say_whose_routes_they_take(listener: Object, parent: Object, reason: str) -> None:
    items = [
        service(),
        namespace("shop", {"team": "web"}),
        gateway("edge", listener, namespace="infra"),
        route("r", [to_gateway(namespace="infra", **parent)], [rule("cart", persistence=by_cookie("a"))]),
    ]
    row = fold(*items)["shop/cart"]
    assert [(each["attached"], each["reason"]) for each in row["routes"][0]["parents"]] == [(not reason, reason)]
    assert said(row)[:2] == (DEFAULT if reason else STICKY)


# ---- bad input ---------------------------------------------------------------------------------------

BAD = [
    {"parentRefs": "edge"},
    {"parentRefs": [{"name": 7}]},
    {"rules": [7]},
    {"rules": [rule({"name": "cart", "weight": -1})]},
    {"rules": [rule({"name": "cart", "port": 70000})]},
    {"rules": [rule("cart", persistence={"type": "Fingerprint"})]},
    {"rules": [rule("cart", persistence=by_cookie("a", absoluteTimeout="soon"))]},
]


@pytest.mark.parametrize("spec", BAD)
def test_a_bad_route_keeps_its_last_good_state_and_is_named(spec: Object) -> None:
    good = route("r", [to_gateway()], [rule("cart", persistence=by_cookie("a"))])
    bad = {**good, "metadata": {**good["metadata"], "resourceVersion": "99"}, "spec": {**good["spec"], **spec}}
    items = service(), gateway(), good
    rows = fold(*items, events=[{"type": "MODIFIED", "object": bad}])
    row = rows["shop/cart"]
    assert said(row)[:2] == STICKY
    assert [(each["kind"], each["name"], each["resourceVersion"]) for each in row["rejected"]] == [
        ("HTTPRoute", "r", "99")
    ]
    assert row["reason"].startswith("ObjectRejected: HTTPRoute r at 99: spec.")
    assert rows["dead"] == ["shop/r"]
    well = {**good, "metadata": {**good["metadata"], "resourceVersion": "100"}}
    events = [{"type": "MODIFIED", "object": bad}, {"type": "MODIFIED", "object": well}]
    row = fold(*items, events=events)["shop/cart"]
    assert (said(row)[:2], row["reason"], "rejected" in row) == (STICKY, "", False)


def test_a_bad_gateway_or_namespace_leaves_everything_as_it_was() -> None:
    good = [service(), gateway(), route("r", [to_gateway()], [rule("cart", persistence=by_cookie("a"))])]
    bad = {**gateway(), "spec": {"listeners": "all of them"}}
    rows = fold(*good, events=[{"type": "MODIFIED", "object": bad}])
    assert said(rows["shop/cart"])[:2] == STICKY
    assert rows["dead"] == ["shop/edge"]


def test_gateways_and_services_of_other_apis_are_not_taken_for_ours() -> None:
    foreign = {**gateway(), "apiVersion": "networking.istio.io/v1"}
    items = [service(), foreign, route("r", [to_gateway()], [rule("cart", persistence=by_cookie("a"))])]
    assert said(fold(*items)["shop/cart"])[:2] == STICKY  # no Gateway is known at all


# ---- as it is printed --------------------------------------------------------------------------------


def test_rows_as_a_person_reads_them(capsys: pytest.CaptureFixture[str]) -> None:
    sticky = route("r", [to_gateway()], [rule("cart", "gone", persistence=by_cookie("a"))])
    rows = fold(annotated(service(sessionAffinity="ClientIP"), mesh="service"), gateway(), sticky)
    RowPrinter("routing", "wide").print([rows["shop/cart"], rows["shop/gone"]])
    head, cart, gone = (
        re.sub(r" (\d+[a-z]+)+ \d+ ", " AGE ", " ".join(line.split())) for line in capsys.readouterr().out.splitlines()
    )
    columns = "CLUSTER NAMESPACE NAME GATEWAY REASON MESH REASON STATE AGE VERSION STICKY ROUTES CONSUMERS NOT-IN-USE"
    assert head == f"{columns} SERVICE-IMPORT BECAUSE"
    decided = "endpoint SessionPersistence endpoint SessionAffinity ready AGE Cookie,ClientIP 1"
    assert cart.startswith(f"local shop cart {decided} ")
    assert cart.endswith(" HTTPRoute/r,Service/cart")
    assert gone.startswith("local shop gone none ServiceNotFound none ServiceNotFound empty AGE <none> 1 ")
    assert gone.endswith(" HTTPRoute/r")
    consumer = route(
        "c", [to_service(namespace="shop")], [rule({"name": "cart", "namespace": "shop"})], namespace="buyer"
    )
    lost = route("lost", [to_gateway("other"), to_gateway()], [rule("cart")])
    row = fold(service(), gateway(), sticky, lost, consumer)["shop/cart"]
    RowPrinter("routing", "wide").print([row])
    unused = "HTTPRoute/lost:GatewayNotFound,HTTPRoute/r[0]:RuleShadowed"
    assert f" buyer=endpoint(Default)  {unused} " in capsys.readouterr().out
    of_import = [
        route("i", [to_gateway()], [rule(to_import(), persistence=by_cookie("a"))]),
        route("j", [to_import(namespace="shop")], [rule(to_import(namespace="shop"))], namespace="buyer"),
        route("k", [to_gateway("web")], [rule(to_import(namespace="shop"))], namespace="web"),
    ]
    web = gateway("web", namespace="web")
    RowPrinter("routing", "wide").print([fold(service(), gateway(), web, *of_import)["shop/cart"]])
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.endswith(" <none> HTTPRoute/k[0]:RefNotPermitted gateway=Cookie,mesh=None,mesh/buyer=None <none>")
    assert row_line("routing", rows["shop/cart"]).endswith(
        "routing ready  gateway endpoint (SessionPersistence)  mesh endpoint (SessionAffinity)"
    )
