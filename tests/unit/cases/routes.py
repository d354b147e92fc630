"""Routes: where they are attached, which of their rules count, and for whom."""

from typing import Any

from tests.support.routes import gateway, grant, listener, namespace, to_gateway, to_service
from tests.unit.cases.case import CART, Fold, service
from tests.unit.cases.route_cases import (
    FRONT,
    OLD,
    PLAIN,
    SHADOWED,
    STICKY,
    TO_CART,
    asking,
    choice,
    decided,
    for_kinds,
    matched,
    mirror,
    path,
    refusal,
    selecting,
)

_HEADLESS: dict[str, Any] = {"clusterIP": "None", "clusterIPs": ["None"]}
_FANCY = {"group": "routes.example.net", "kind": "FancyRoute"}
_LINKERDS = {"group": "policy.linkerd.io", "kind": "HTTPRoute"}
_TEAM = namespace("shop", {"team": "x"})

CASES = [
    refusal(
        "rt-selector-absent",
        "kubernetes-sigs/gateway-api#2099; metav1.LabelSelector: null matches nothing",
        [_TEAM, service(), gateway("edge", selecting()), asking()],
        "NotAllowedByListeners",
    ),
    refusal(
        "rt-kinds-only-foreign",
        "gateway-api conformance GatewayInvalidRouteKind; nginx/nginx-gateway-fabric#2299",
        [service(), for_kinds(_FANCY), asking()],
        "NotAllowedByListeners",
    ),
    refusal(
        "rt-kinds-foreign-namesake",
        "linkerd/website#1667: two groups have an HTTPRoute",
        [service(), for_kinds(_LINKERDS), asking()],
        "NotAllowedByListeners",
    ),
    refusal(
        "rt-kinds-grpc-only",
        "nginx/nginx-gateway-fabric#2299",
        [service(), for_kinds({"kind": "GRPCRoute"}), asking(parents=[to_gateway(sectionName="http")])],
        "NotAllowedByListeners",
    ),
    refusal(
        "rt-disallowed-kind",
        "gateway-api conformance HTTPRouteDisallowedKind",
        [
            service(),
            gateway(
                "edge",
                listener(
                    "tls", 443, "TLS", tls={"mode": "Passthrough"}, allowedRoutes={"kinds": [{"kind": "TLSRoute"}]}
                ),
            ),
            asking(),
        ],
        "NotAllowedByListeners",
    ),
    Fold(
        "rt-consumer-beside-producer",
        "istio/istio#45065, GEP-1294, conformance MeshConsumerRoute",
        [
            service(),
            asking("producer", TO_CART, created=OLD, asks=False),
            asking("consumer", TO_CART, of="buyer"),
        ],
        decided(consumers={"buyer": STICKY}, refused={"consumer": "", "producer": ""}),
    ),
    refusal(
        "rt-parent-service-missing",
        "linkerd/linkerd2#10545",
        [service(), asking(parents=[to_service("ghost")])],
        "NoMatchingParent",
    ),
    Fold(
        "rt-parent-headless",
        "linkerd/linkerd2#10672, GEP-1294, Allowed service types",
        [service(**_HEADLESS), asking(parents=TO_CART)],
        decided(
            gateway=("endpoint", "Headless"), mesh=("endpoint", "Headless"), rules=[], refused={"r": "NoMatchingParent"}
        ),
    ),
    Fold(
        "rt-grpc-and-http-one-service",
        "linkerd/linkerd2#12782, GEP-1294, Route types",
        [
            service(),
            asking("g", [to_service(port=80)], "GRPCRoute", asks=False),
            asking("h", [to_service(port=80)], created=OLD),
        ],
        decided(refused={"g": "", "h": "Conflicted"}),
    ),
    Fold(
        "rt-grpc-and-http-one-listener",
        "GRPCRouteSpec.hostnames: exactly one, the oldest; cloudflare-tunnel-gateway-controller#420",
        [
            service(),
            *FRONT,
            asking("g", None, "GRPCRoute", created=OLD, asks=False, hostnames=["api.example.net"]),
            asking("h", hostnames=["api.example.net"]),
        ],
        decided(rules=[("g", "Default")], refused={"g": "", "h": "Conflicted"}),
    ),
    Fold(
        "rt-mirror-only",
        "envoyproxy/gateway#5495, #5497, #8541",
        [service(), service("shadow"), *FRONT, asking(asks=False, rule=mirror("shadow"))],
        decided(of="shop/shadow", rules=[("r", "Default")], refused={"r": ""}),
        services=(CART, "shop/shadow"),
    ),
    matched(
        "rt-same-matches-other-order",
        "envoyproxy/gateway#4912; HTTPRouteRule.matches",
        [path("/pay"), path("/bill")],
        [path("/bill"), path("/pay")],
        SHADOWED,
    ),
    matched(
        "rt-header-name-case",
        "kubernetes-sigs/gateway-api#457, #657",
        [{"headers": [{"name": "X-Tier", "value": "a"}]}],
        [{"headers": [{"name": "x-tier", "value": "a"}]}],
        SHADOWED,
    ),
    Fold(
        "rt-mesh-cross-namespace",
        "GEP-1294 against the ReferenceGrant's text; kumahq/kuma#7764, #18014: decided for GEP-1294",
        [service(), service("till", namespace="stand"), asking(parents=[to_service("till")], of="stand")],
        decided(mesh=STICKY, rules=[("r", "SessionPersistence")], refused={"r": ""}),
        services=(CART, "stand/till"),
    ),
    Fold(
        "rt-group-core",
        "linkerd/website#1590, linkerd/linkerd2#10601: the core group is the empty string",
        [
            service(),
            asking(
                parents=[to_service(group="core")],
                rule={"backendRefs": [{"group": "core", "kind": "Service", "name": "cart", "port": 80}]},
            ),
        ],
        {
            "routing": {
                CART: {
                    "mesh": choice(PLAIN),
                    "routes": [
                        {
                            "parents": [{"reason": "InvalidKind", "group": "core"}],
                            "backends": [{"reason": "InvalidKind"}],
                        }
                    ],
                }
            }
        },
    ),
    refusal(
        "rt-listener-hostname",
        "gateway-api conformance HTTPRouteHostnameIntersection; aws-load-balancer-controller#4499",
        [service(), gateway("edge", listener("http", hostname="*.example.net")), asking(hostnames=["a.example.org"])],
        "NoMatchingListenerHostname",
    ),
    Fold(
        "rt-two-grants",
        "envoyproxy/gateway#2149",
        [
            service(),
            gateway("edge", listener("http"), namespace="stand"),
            grant("a", [("HTTPRoute", "stand")], ["till"]),
            grant("b", [("HTTPRoute", "stand")], ["cart"]),
            asking(of="stand"),
        ],
        decided(gateway=STICKY, rules=[("r", "SessionPersistence")]),
    ),
    Fold(
        "rt-grant-names-one-service",
        "gateway-api conformance HTTPRouteInvalidReferenceGrant",
        [
            service(),
            gateway("edge", listener("http"), namespace="stand"),
            grant("a", [("HTTPRoute", "stand")], ["till"]),
            asking(of="stand"),
        ],
        decided(rules=[("r", "RefNotPermitted")]),
    ),
    Fold(
        "rt-one-listener-selects",
        "cilium/cilium#28186",
        [
            service(),
            gateway("edge", listener("one", 443, "HTTPS"), selecting({"matchLabels": {"a": "b"}})),
            asking(parents=[to_gateway(sectionName="one")]),
        ],
        decided(gateway=STICKY, refused={"r": ""}),
    ),
    refusal(
        "rt-selector-reads-namespace",
        "hashicorp/consul-api-gateway#117: the label is the route's, not its Namespace's",
        [
            _TEAM,
            service(),
            gateway("edge", selecting({"matchLabels": {"expose": "yes"}})),
            {**asking(), "metadata": {**asking()["metadata"], "labels": {"expose": "yes"}}},
        ],
        "NotAllowedByListeners",
    ),
    Fold(
        "rt-weights-zero",
        "gateway-api conformance HTTPRouteAllBackendsWeightZero",
        [service(), *FRONT, asking(rule={"backendRefs": [{"name": "cart", "port": 80, "weight": 0}]})],
        decided(),
    ),
]
