"""Rules of the Gateway API that hold for any routes: which matches are equal, the order of rules, and whom a consumer's
routes concern."""

import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.objects.gateway_api.hostnames import common_to, intersection
from streams.objects.gateway_api.matches import canonical_matches, identity
from tests.support.routed_service import service
from tests.support.routes import (
    Object,
    by_cookie,
    gateway,
    grant,
    listener,
    route,
    rule,
    to_gateway,
    to_import,
    to_service,
)
from tests.support.routing_rows import fold

_words = st.sampled_from(("a", "b", "c"))
_types = st.sampled_from(("Exact", "RegularExpression"))
_paths = st.fixed_dictionaries(
    {
        "type": st.sampled_from(("Exact", "PathPrefix", "RegularExpression")),
        "value": st.sampled_from(("/", "/a", "/a/b")),
    }
)
_headers = st.lists(
    st.fixed_dictionaries({"type": _types, "name": _words, "value": _words}),
    max_size=3,
    unique_by=lambda entry: entry["name"],
)
_http = st.fixed_dictionaries(
    {"path": _paths}, optional={"method": st.sampled_from(("GET", "PUT")), "headers": _headers, "queryParams": _headers}
)
_methods = st.fixed_dictionaries({"type": _types, "service": _words, "method": _words})
_grpc = st.fixed_dictionaries({}, optional={"method": _methods, "headers": _headers})
_labels = st.lists(_words, min_size=1, max_size=3).map(".".join)
_hosts = st.one_of(_labels, _labels.map(lambda name: f"*.{name}"))


def restated(match: Object, chance: random.Random) -> Object:
    """The same requests in other words: defaults left out, what has no order in another, header names in capitals."""
    match = dict(match)
    path = dict(match.get("path", {}))
    for field, default in (("type", "PathPrefix"), ("value", "/")):
        if path.get(field) == default and chance.random() < 0.5:
            del path[field]
    if path.get("type", "PathPrefix") == "PathPrefix" and "value" in path and chance.random() < 0.5:
        path["value"] = path["value"].rstrip("/") + "/"
    if "path" in match:
        match["path"] = path
        if not path and chance.random() < 0.5:
            del match["path"]
    for field, fold_case in (("headers", str.upper), ("queryParams", str)):
        entries = [dict(entry) for entry in match.get(field, [])]
        chance.shuffle(entries)
        for entry in entries:
            entry["name"] = fold_case(entry["name"]) if chance.random() < 0.5 else entry["name"]
            if entry["type"] == "Exact" and chance.random() < 0.5:
                del entry["type"]
        if entries or chance.random() < 0.5:
            match[field] = entries
    return match


@given(
    st.one_of(st.tuples(st.just("HTTPRoute"), st.lists(_http)), st.tuples(st.just("GRPCRoute"), st.lists(_grpc))),
    st.randoms(),
)
def test_matches_for_the_same_requests_are_equal_in_any_words(
    drawn: tuple[str, list[Object]], chance: random.Random
) -> None:
    kind, matches = drawn
    others = [restated(match, chance) for match in (*matches, *matches[:1])]
    chance.shuffle(others)
    canonical, other = (canonical_matches(kind, value, "at") for value in (matches, others))
    assert canonical == other
    assert len({identity(match) for match in canonical}) == len(canonical)


@given(_hosts, st.lists(_hosts, max_size=3), _labels)
def test_a_route_gets_requests_for_what_it_has_in_common_with_a_listener(own: str, asked: list[str], host: str) -> None:
    def takes(hostname: str) -> bool:
        return host.endswith(hostname[1:]) if hostname.startswith("*.") else hostname in {"", host}

    common = intersection(own, asked)
    assert (takes(own) and any(map(takes, asked or [""]))) == any(map(takes, common or ()))
    assert all(common_to(one, other) == common_to(other, one) for one in (own, host) for other in asked)


@st.composite
def _routes(draw: st.DrawFn) -> list[Object]:
    """HTTPRoutes of a Gateway for one Service, of several ages."""
    routes = []
    for name in draw(st.lists(_words, unique=True, min_size=1)):
        rules = [
            {"matches": draw(st.lists(_http, max_size=2)), "backendRefs": [{"name": "cart", "port": 80}]}
            for _ in range(draw(st.integers(1, 2)))
        ]
        created = draw(st.sampled_from(("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")))
        item = route(name, [to_gateway(), to_service()], rules, creationTimestamp=created)
        routes.append({**item, "spec": {**item["spec"], "hostnames": draw(st.lists(_hosts, max_size=2, unique=True))}})
    return routes


def places(direction: Any) -> list[Any]:
    return [(entry["route"]["name"], entry["rule"], entry["reason"], entry["matches"]) for entry in direction["rules"]]


@settings(max_examples=60)
@given(_routes(), st.randoms())
def test_the_order_of_rules_does_not_depend_on_the_order_of_objects(
    routes: list[Object], chance: random.Random
) -> None:
    row = fold(service(), gateway(), *routes)["shop/cart"]
    shuffled = [*routes, service(), gateway()]
    chance.shuffle(shuffled)
    other = fold(events=[{"type": "ADDED", "object": item} for item in shuffled])["shop/cart"]
    for way in ("gateway", "mesh"):
        assert places(row[way]) == places(other[way])
        in_use = [place for place in places(row[way]) if place[2] != "RuleShadowed"]
        # Each rule that gets requests stands once, or each of its matches does.
        whole = [(name, number) for name, number, _, matches in in_use if not matches]
        assert len(whole) == len(set(whole))


@st.composite
def _mesh_routes(draw: st.DrawFn, spaces: tuple[str, ...]) -> list[Object]:
    routes = []
    for number in range(draw(st.integers(0, 3))):
        parents = [
            to_service(name, namespace="shop", **draw(st.sampled_from(({}, {"port": 80}, {"port": 81}))))
            for name in draw(st.lists(st.sampled_from(("cart", "tea")), max_size=2))
        ]
        backend = {"name": draw(st.sampled_from(("cart", "tea"))), "namespace": "shop", "port": 80}
        rules = [
            rule(
                backend, path=draw(st.sampled_from(("/", "/a"))), persistence=draw(st.none() | st.just(by_cookie("x")))
            )
        ]
        kind = draw(st.sampled_from(("HTTPRoute", "GRPCRoute", "TCPRoute")))
        routes.append(route(f"r{number}", parents, rules, kind, namespace=draw(st.sampled_from(spaces))))
    return routes


@settings(max_examples=60)
@given(_mesh_routes(("shop", "other")), _mesh_routes(("buyer",)))
def test_a_consumers_routes_concern_its_own_clients_alone(routes: list[Object], buyers: list[Object]) -> None:
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    services = [service("cart", ports=ports), service("tea", ports=ports)]
    before, after = fold(*services, *routes), fold(*services, *routes, *buyers)
    for name in ("shop/cart", "shop/tea"):
        with_buyer, without = after[name]["mesh"], before[name]["mesh"]
        buyer = with_buyer.get("consumers", {}).pop("buyer", None)
        assert {"consumers": {}, **with_buyer} == {"consumers": {}, **without}
        assert after[name]["gateway"] == before[name]["gateway"]
        if buyer is not None:
            namespaces = {entry["route"]["namespace"] for entry in buyer["rules"]}
            assert namespaces <= {"buyer", "shop"}


def _as_import(reference: Object) -> Object:
    """A reference to a Service, to the ServiceImport of its name."""
    return reference if reference.get("kind", "Service") != "Service" else {**reference, **to_import(reference["name"])}


def _of_imports(item: Object) -> Object:
    """The route with each Service replaced by the ServiceImport of its name."""
    spec = item["spec"]
    rules = [{**each, "backendRefs": list(map(_as_import, each["backendRefs"]))} for each in spec["rules"]]
    return {**item, "spec": {**spec, "parentRefs": list(map(_as_import, spec["parentRefs"])), "rules": rules}}


def _in_words_of_services(direction: Object) -> Object:
    text = json.dumps(direction).replace('"NoClusterSetIP"', '"NoClusterIP"').replace('"ServiceImport"', '"Service"')
    return json.loads(text)  # type: ignore[no-any-return]


@settings(max_examples=100)
@given(_mesh_routes(("shop", "other")), _mesh_routes(("buyer",)), _routes(), st.booleans())
def test_of_an_import_is_said_what_is_said_of_a_service_without_an_ip(
    routes: list[Object], buyers: list[Object], at_gateway: list[Object], granted: bool
) -> None:
    """And nothing of the Service that has its name. The third port stands for those that no route names."""
    ports = [{"name": str(number), "port": number} for number in (80, 81, 82)]
    services = [service(name, clusterIP="", ports=ports) for name in ("cart", "tea")]
    crossing = [
        {**each, "spec": {**each["spec"], "parentRefs": [to_gateway(namespace="shop"), *each["spec"]["parentRefs"]]}}
        for each in (*routes, *buyers)
    ]
    named = [*crossing, *at_gateway]
    listeners = {"allowedRoutes": {"namespaces": {"from": "All"}}}
    edge = gateway("edge", listener("http", **listeners))
    sources = [("HTTPRoute", "other"), ("GRPCRoute", "buyer")] if granted else []
    one = fold(edge, grant("g", sources), *services, *named)
    other = fold(edge, grant("g", sources, imports=True), *services, *map(_of_imports, named))
    for name in ("shop/cart", "shop/tea"):
        assert ("clusterset" in other[name]) == bool(one[name]["routes"])
        assert "clusterset" not in one[name]
        for way in ("gateway", "mesh"):
            if one[name]["routes"]:
                assert _in_words_of_services(other[name]["clusterset"][way]) == one[name][way]
            assert other[name][way]["rules"] == []
            assert other[name][way]["sessionPersistence"] is None
