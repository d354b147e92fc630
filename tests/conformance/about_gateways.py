"""Conformance tests about HTTP and gRPC through Gateways."""

from tests.conformance.checks import (
    APP,
    INFRA,
    SAME,
    V1,
    V2,
    V3,
    WEB,
    Expectation,
    Step,
    attached,
    decision,
    expect,
    mirrors,
    named_nowhere,
    refused,
    rule_reason,
    sends,
)
from tests.conformance.table import ERROR
from tests.support.routes import gateway, listener, route, rule, to_gateway

G1, G2, G3 = (f"grpc-infra-backend-v{number}" for number in (1, 2, 3))
_ECHO = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho"

_ISOLATED = {
    "bar.com": "empty-hostname",
    "bar.example.com": "wildcard-example-com",
    "bar.foo.example.com": "wildcard-foo-example-com",
    "abc.foo.example.com": "abc-foo-example-com",
}
"""Hosts, and the only listener that may take requests for them."""

_HEADERS = [
    ({"Version": "one"}, 1), ({"Version": "two"}, 2), ({"Version": "two", "Color": "orange"}, 1),
    ({"Version": "two", "Color": "blue"}, 2), ({"Color": "orange"}, 0), ({"Some-Other-Header": "one"}, 0),
    ({"Color": "blue"}, 1), ({"Color": "green"}, 1), ({"Color": "red"}, 2), ({"Color": "yellow"}, 2),
    ({"Color": "purple"}, 0),
]  # fmt: skip
"""Headers, and which of the backends gets requests with them (0: none)."""

_HOSTS = {
    "bar.com": 1, "foo.bar.com": 2, "baz.bar.com": 3, "boo.bar.com": 3, "multiple.prefixes.bar.com": 3,
    "multiple.prefixes.foo.com": 3, "foo.com": 0, "no.matching.host": 0,
}  # fmt: skip

_INTERSECTION = "httproute-hostname-intersection"
_INTERSECTING = [
    ("very.specific.com", "/s1", V1), ("non.matching.com", "/s1", None), ("foo.nonmatchingwildcard.io", "/s1", None),
    ("foo.wildcard.io", "/s1", None), ("very.specific.com", "/non-matching-prefix", None),
    ("foo.wildcard.io", "/s2", V2), ("bar.wildcard.io", "/s2", V2), ("foo.bar.wildcard.io", "/s2", V2),
    ("non.matching.com", "/s2", None), ("wildcard.io", "/s2", None), ("very.specific.com", "/s2", None),
    ("very.specific.com", "/s3", V3), ("foo.specific.com", "/s3", None), ("foo.wildcard.io", "/s3", None),
    ("foo.anotherwildcard.io", "/s4", V1), ("bar.anotherwildcard.io", "/s4", V1), ("anotherwildcard.io", "/s4", None),
    ("foo.wildcard.io", "/s4", None), ("very.specific.com", "/s5", None), ("wildcard.io", "/s5", None),
]  # fmt: skip

_QUERIES = [
    ("/?animal=whale", {}, V1), ("/?animal=dolphin", {}, V2), ("/?animal=dolphin&color=blue", {}, V3),
    ("/?ANIMAL=Whale", {}, V3), ("/?animal=whale&otherparam=irrelevant", {}, V1),
    ("/?animal=dolphin&color=yellow", {}, V2), ("/?color=blue", {}, None), ("/?animal=dog", {}, None),
    ("/?animal=whaledolphin", {}, None), ("/", {}, None), ("/path1?animal=whale", {}, V1),
    ("/?animal=whale", {"version": "one"}, V2), ("/path2?animal=whale", {"version": "two"}, V3),
    ("/path3?animal=shark", {}, V1), ("/path4?animal=kraken", {"version": "three"}, V1), ("/?animal=shark", {}, None),
    ("/path4?animal=kraken", {}, None), ("/path5?animal=hydra", {}, V1), ("/?animal=hydra", {"version": "four"}, V3),
]  # fmt: skip

_METHODS = [
    ("POST", "/", {}, V1), ("GET", "/", {}, V2), ("HEAD", "/", {}, None), ("GET", "/path1", {}, V1),
    ("PUT", "/", {"version": "one"}, V2), ("POST", "/path2", {"version": "two"}, V3), ("PATCH", "/path3", {}, V1),
    ("DELETE", "/path4", {"version": "three"}, V1), ("PUT", "/", {}, None), ("DELETE", "/path4", {}, None),
    ("PATCH", "/path5", {}, V1), ("PATCH", "/", {"version": "four"}, V2),
]  # fmt: skip

MATCHING = [
    ("/", {}, 1), ("/example", {}, 1), ("/", {"Version": "one"}, 1), ("/v2", {}, 2), ("/v2/example", {}, 2),
    ("/", {"Version": "two"}, 2), ("/v2/", {}, 2), ("/v2example", {}, 1), ("/foo/v2/example", {}, 1),
]  # fmt: skip

_ACROSS = [
    ("example.com", "/", {}, V1), ("example.com", "/example", {}, V1), ("example.net", "/example", {}, V1),
    ("example.com", "/example", {"Version": "one"}, V1), ("example.com", "/v2", {}, V2), ("example.net", "/v2", {}, V1),
    ("example.com", "/v2/example", {}, V2), ("example.com", "/", {"Version": "two"}, V2),
]  # fmt: skip

_MISDIRECTED = "/detect-misdirected-requests"
_NO_PARENT = "NoMatchingParent"


def _isolation(name: str, suffix: str) -> list[object]:
    return [
        sends(name, V1 if own == asked else None, host=host, path=f"/{asked}")
        for host, own in _ISOLATED.items()
        for asked in _ISOLATED.values()
    ] + [attached(f"attaches-to-{own}{suffix}", own) for own in _ISOLATED.values()]


def _http(name: str, port: int = 80) -> dict[str, object]:
    return listener(name, port, allowedRoutes={"namespaces": {"from": "All"}})


_ADDED = gateway(
    "gateway-add-listener",
    listener("https", 443, "HTTPS", hostname="secure.test.com", tls={"certificateRefs": [{"name": "any"}]}),
    _http("http"),
    namespace=INFRA,
)
_REMOVED = gateway("gateway-remove-listener", _http("http"), namespace=INFRA)
_PROBE = [
    to_gateway(name, namespace=INFRA)
    for name in ("gateway-only-invalid-route-kind", "gateway-supported-and-invalid-route-kind")
]
_PROTOCOLS = [
    to_gateway("gateway-only-unsupported-protocols", namespace=INFRA),
    to_gateway("gateway-supported-and-unsupported-protocols", namespace=INFRA),
]


def _probe(name: str, parents: list[dict[str, object]], kind: str = "HTTPRoute") -> dict[str, object]:
    """A route of ours that asks a Gateway, where the test reads what the Gateway's status says that it takes."""
    return route(name, parents, [rule({"name": V1, "port": 8080})], kind, namespace=INFRA)


HTTP: dict[str, Expectation] = {
    "GatewayHTTPListenerIsolation": expect(
        ["gateway-http-listener-isolation", "gateway-http-listener-isolation-with-hostname-intersection"],
        *_isolation("http-listener-isolation", ""),  # type: ignore[arg-type]
        *_isolation("http-listener-isolation-with-hostname-intersection", "-with-hostname-intersection"),  # type: ignore[arg-type]
    ),
    "GatewayInvalidRouteKind": expect(
        "gateway-invalid-route-kind",
        then=[
            Step(
                [refused("probe", "NotAllowedByListeners"), attached("probe", parent=1)],
                added=[_probe("probe", _PROBE)],
            )
        ],
        note="supportedKinds, by a route of ours",
    ),
    "GatewayListenerUnsupportedProtocol": expect(
        "gateway-invalid-listeners-unsupported-protocol",
        then=[
            Step(
                [refused("probe", "NotAllowedByListeners"), attached("probe", "http", parent=1)],
                added=[_probe("probe", _PROTOCOLS)],
            )
        ],
        note="supportedKinds, by a route of ours",
    ),
    "GatewayModifyListeners": expect(
        "gateway-modify-listeners",
        attached("http-route-1", "https"),
        attached("http-route-2", "https", "http"),
        then=[
            Step(
                [attached("http-route-1", "https", "http"), attached("http-route-2", "http")], added=[_ADDED, _REMOVED]
            )
        ],
    ),
    "GatewayWithAttachedRoutes": expect(
        "gateway-with-attached-routes",
        attached("http-route-1", "http"),
        attached("http-route-2", "http"),
        attached("http-route-3", "http"),
        refused("http-route-not-accepted", "NoMatchingListenerHostname"),
        attached("http-route-4", "tls"),
        decision("does-not-exist", "none", "ServiceNotFound"),
    ),
    "GatewayWithAttachedRoutesWithPort8080": expect(
        "gateway-with-attached-routes-with-port-8080", attached("http-route-4-port-8080", "http")
    ),
    "GRPCExactMethodMatching": expect(
        "grpcroute-exact-method-matching",
        sends(SAME, G1, call=(_ECHO, "Echo")),
        sends(SAME, G2, call=(_ECHO, "EchoTwo")),
        sends(SAME, None, call=(_ECHO, "EchoThree")),
    ),
    "GRPCRouteHeaderMatching": expect(
        "grpcroute-header-matching",
        *(sends(SAME, [None, G1, G2][number], headers=headers) for headers, number in _HEADERS),
    ),
    "GRPCRouteListenerHostnameMatching": expect(
        "grpcroute-listener-hostname-matching",
        *(
            sends("grpcroute-listener-hostname-matching", [None, G1, G2, G3][number], host=host)
            for host, number in _HOSTS.items()
        ),
    ),
    "GRPCRouteNamedRule": expect("grpcroute-named-rule", attached("grpc-named-rules", kind="GRPCRoute")),
    "GRPCRouteWeight": expect("grpcroute-weight", sends(SAME, {G1: 0.7, G2: 0.3})),
    "HTTPRouteBackendProtocolH2C": expect(
        "httproute-backend-protocol-h2c", sends(SAME, V1), note="the connection's protocol is the router's"
    ),
    "HTTPRouteBackendProtocolWebSocket": expect(
        "httproute-backend-protocol-websocket", sends(SAME, V1), note="the connection's protocol is the router's"
    ),
    "HTTPRouteCrossNamespace": expect(
        "httproute-cross-namespace",
        attached("cross-namespace", namespace=WEB),
        sends("backend-namespaces", "web-backend", namespace=WEB),
    ),
    "HTTPRouteDisallowedKind": expect("httproute-disallowed-kind", refused("disallowed-kind", "NotAllowedByListeners")),
    "HTTPRouteExactPathMatching": expect(
        "httproute-exact-path-matching",
        sends(SAME, V1, path="/one"),
        sends(SAME, V2, path="/two"),
        *(sends(SAME, None, path=path) for path in ("/", "/one/example", "/two/", "/Two")),
    ),
    "HTTPRouteHeaderMatching": expect(
        "httproute-header-matching",
        *(sends(SAME, [None, V1, V2][number], headers=headers) for headers, number in _HEADERS),
    ),
    "HTTPRouteHostnameIntersection": expect(
        "httproute-hostname-intersection",
        *(sends(_INTERSECTION, backend, host=host, path=path) for host, path, backend in _INTERSECTING),
        refused("no-intersecting-hosts", "NoMatchingListenerHostname"),
        *(
            sends(f"{_INTERSECTION}-all", V2, host=host)
            for host in ("first.com", "sub.first.com", "second.com", "sub.second.com")
        ),
        *(sends(f"{_INTERSECTION}-all", None, host=host) for host in ("third.com", "sub.third.com")),
    ),
    "HTTPRouteHTTPSListener": expect(
        "httproute-https-listener",
        sends("same-namespace-with-https-listener", V1, host="example.org", port=443),
        sends("same-namespace-with-https-listener", None, host="unknown-example.org", port=443),
        sends("same-namespace-with-https-listener", V2, host="second-example.org", port=443),
        note="certificates are the router's",
    ),
    "HTTPRouteHTTPSListenerDetectMisdirectedRequests": expect(
        "httproute-https-listener-detect-misdirected-requests",
        *(
            sends("same-namespace-with-https-listener", backend, host=host, port=443, path=_MISDIRECTED)
            for host, backend in (
                ("example.org", V1),
                ("second-example.org", V2),
                ("third-example.wildcard.org", V3),
                ("fourth-example.wildcard.org", V1),
            )
        ),
        note="421 is the router's answer",
    ),
    "HTTPRouteInvalidBackendRefUnknownKind": expect(
        "httproute-invalid-backendref-unknown-kind",
        named_nowhere("invalid-backend-ref-unknown-kind"),
        note="the route names no Service, so it is in no row",
    ),
    "HTTPRouteInvalidCrossNamespaceBackendRef": expect(
        "httproute-invalid-cross-namespace-backend-ref",
        attached("invalid-cross-namespace-backend-ref"),
        rule_reason(f"{WEB}/web-backend", "invalid-cross-namespace-backend-ref", "RefNotPermitted"),
        sends(SAME, ERROR),
    ),
    "HTTPRouteInvalidCrossNamespaceParentRef": expect(
        "httproute-invalid-cross-namespace-parent-ref",
        refused("invalid-cross-namespace-parent-ref", "NotAllowedByListeners", namespace=WEB),
    ),
    "HTTPRouteInvalidNonExistentBackendRef": expect(
        "httproute-invalid-nonexistent-backendref",
        decision("nonexistent", "none", "ServiceNotFound"),
        sends(SAME, ERROR),
    ),
    "HTTPRouteInvalidParentRefNotMatchingListenerPort": expect(
        "httproute-invalid-parentref-not-matching-listener-port",
        refused("httproute-listener-not-matching-route-port", _NO_PARENT),
    ),
    "HTTPRouteInvalidParentRefNotMatchingSectionName": expect(
        "httproute-invalid-parentref-not-matching-section-name",
        refused("httproute-listener-not-matching-section-name", _NO_PARENT),
    ),
    "HTTPRouteInvalidParentRefSectionNameNotMatchingPort": expect(
        "httproute-invalid-parentref-section-name-not-matching-port",
        refused("httproute-listener-section-name-not-matching-port", _NO_PARENT),
    ),
    "HTTPRouteInvalidReferenceGrant": expect(
        "httproute-invalid-reference-grant",
        rule_reason(f"{WEB}/web-backend", "reference-grant", "RefNotPermitted"),
        sends(SAME, ERROR),
    ),
    "HTTPRouteListenerHostnameMatching": expect(
        "httproute-listener-hostname-matching",
        *(
            sends("httproute-listener-hostname-matching", [None, V1, V2, V3][number], host=host)
            for host, number in _HOSTS.items()
        ),
    ),
    "HTTPRouteListenerPortMatching": expect(
        "httproute-listener-port-matching",
        *(
            sends("httproute-listener-port-matching", backend, host=host, port=port)
            for host, port, backend in (
                ("foo.com", 80, V1),
                ("foo.com", 8080, V2),
                ("bar.com", 8080, V2),
                ("foo.com", 8090, V3),
                ("bar.com", 8090, None),
            )
        ),
    ),
    "HTTPRouteMatching": expect(
        "httproute-matching",
        *(sends(SAME, [V1, V2][number - 1], path=path, headers=headers) for path, headers, number in MATCHING),
    ),
    "HTTPRouteMatchingAcrossRoutes": expect(
        "httproute-matching-across-routes",
        *(sends(SAME, backend, host=host, path=path, headers=headers) for host, path, headers, backend in _ACROSS),
    ),
    "HTTPRouteMethodMatching": expect(
        "httproute-method-matching",
        *(
            sends(SAME, backend, method=method, path=path, headers=headers)
            for method, path, headers, backend in _METHODS
        ),
    ),
    "HTTPRouteMultipleGateways": expect(
        "httproute-multiple-gateways",
        sends(SAME, V1, path="/shared"),
        sends(SAME, V2),
        sends("all-namespaces", V1, path="/shared"),
        sends("all-namespaces", V3),
    ),
    "HTTPRouteNamedRule": expect(
        "httproute-named-rule", sends(SAME, V1, path="/named"), sends(SAME, V2, path="/unnamed")
    ),
    "HTTPRouteNoBackendRefs": expect(
        "httproute-omitted-backendrefs",
        sends(SAME, V1, path="/forward"),
        note="a rule without backends names no Service: it is in no row",
    ),
    "HTTPRoutePartiallyInvalidViaInvalidReferenceGrant": expect(
        "httproute-partially-invalid-via-invalid-reference-grant",
        rule_reason(f"{APP}/app-backend-v2", "invalid-reference-grant", "RefNotPermitted"),
        sends(SAME, ERROR, path="/v2"),
        sends(SAME, "app-backend-v1", namespace=APP),
    ),
    "HTTPRoutePathMatchOrder": expect(
        "httproute-path-match-order",
        *(
            sends(SAME, backend, path=path)
            for path, backend in (
                ("/match/exact/one", V3),
                ("/match/exact", V2),
                ("/match", V1),
                ("/match/prefix/one/any", V2),
                ("/match/prefix/any", V1),
                ("/match/any", V3),
            )
        ),
    ),
    "HTTPRouteQueryParamMatching": expect(
        "httproute-query-param-matching",
        *(sends(SAME, backend, path=path, headers=headers) for path, headers, backend in _QUERIES),
    ),
    "HTTPRouteReferenceGrant": expect(
        "httproute-reference-grant",
        sends(SAME, "web-backend", namespace=WEB),
        then=[Step([sends(SAME, ERROR)], deleted=[("ReferenceGrant", WEB, "reference-grant")])],
    ),
    "HTTPRouteRequestHeaderModifierBackendWeights": expect(
        "httproute-request-header-modifier-backend-weights",
        sends(SAME, {V1: 0.5, V2: 0.5}),
        note="the headers are the router's",
    ),
    "HTTPRouteRequestMirror": expect(
        "httproute-request-mirror",
        sends(SAME, V1, path="/mirror"),
        mirrors(SAME, {V2: 1}, path="/mirror"),
        sends(SAME, V1, path="/mirror-and-modify-headers"),
        mirrors(SAME, {V2: 1}, path="/mirror-and-modify-headers"),
    ),
    "HTTPRouteRequestMultipleMirrors": expect(
        "httproute-request-multiple-mirrors",
        sends(SAME, V1, path="/multi-mirror"),
        mirrors(SAME, {V2: 1, V3: 1}, path="/multi-mirror"),
        mirrors(SAME, {V2: 1, V3: 1}, path="/multi-mirror-and-modify-request-headers"),
    ),
    "HTTPRouteRequestPercentageMirror": expect(
        "httproute-request-percentage-mirror",
        mirrors(SAME, {V2: 0.2}, path="/percent-mirror"),
        mirrors(SAME, {V2: 0.5}, path="/percent-mirror-fraction"),
        mirrors(SAME, {V2: 0.35}, path="/percent-mirror-and-modify-headers"),
    ),
    "HTTPRouteServiceTypes": expect(
        "httproute-service-types",
        *(
            sends(SAME, name, path=f"/{name}")
            for name in ("manual-endpointslices", "headless", "headless-manual-endpointslices")
        ),
        decision("headless", "endpoint", "Headless"),
        decision("headless-manual-endpointslices", "endpoint", "Headless"),
    ),
    "HTTPRouteSimpleSameNamespace": expect("httproute-simple-same-namespace", sends(SAME, V1)),
    "HTTPRouteWeight": expect("httproute-weight", sends(SAME, {V1: 0.7, V2: 0.3})),
}
