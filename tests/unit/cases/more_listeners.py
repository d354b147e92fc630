"""Listeners and ListenerSets: siblings of what was reported (`routes`)."""

from typing import Any

from tests.support.routes import (
    Object,
    gateway,
    listener,
    listener_set,
    namespace,
    to_gateway,
    to_listener_set,
)
from tests.unit.cases.case import Fold, service
from tests.unit.cases.route_cases import (
    FRONT,
    OLD,
    STICKY,
    asking,
    decided,
    for_kinds,
    refusal,
    selecting,
)

_TEAM = namespace("shop", {"team": "x"})
_EDGE_TAKES_SETS = gateway("edge", listener("http"), allowed={"from": "Same"})


def _attached(case: str, source: str, given: list[Object], **more: Any) -> Fold:
    return Fold(case, source, given, decided(gateway=STICKY, refused={"r": ""}), **more)


def _expression(key: str, operator: str, *values: str) -> Object:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


CASES = [
    # ---- listeners -------------------------------------------------------------------------------------
    refusal(
        "rt-selector-null",
        "as rt-selector-absent",
        [_TEAM, service(), gateway("edge", selecting(None)), asking()],
        "NotAllowedByListeners",
    ),
    _attached(
        "rt-selector-empty",
        "metav1.LabelSelector: an empty one matches all",
        [_TEAM, service(), gateway("edge", selecting({})), asking()],
    ),
    _attached(
        "rt-selector-not-in-absent",
        "metav1.LabelSelector: NotIn holds where the key is absent",
        [
            _TEAM,
            service(),
            gateway("edge", selecting(_expression("zone", "NotIn", "a"))),
            asking(),
        ],
    ),
    refusal(
        "rt-selector-unknown-operator",
        "metav1.LabelSelectorOperator: what can't be evaluated selects nothing",
        [
            _TEAM,
            service(),
            gateway("edge", selecting(_expression("team", "Gt", "1"))),
            asking(),
        ],
        "NotAllowedByListeners",
    ),
    _attached("rt-kinds-empty", "AllowedRoutes.kinds: empty means the protocol's", [service(), for_kinds(), asking()]),
    _attached(
        "rt-kinds-null-group",
        "RouteGroupKind.group: the Gateway API's by default",
        [service(), for_kinds({"kind": "HTTPRoute", "group": None}), asking()],
    ),
    _attached(
        "rt-kinds-own-beside-foreign",
        "gateway-api conformance GatewayInvalidRouteKind: the valid ones count",
        [service(), for_kinds({"group": "policy.linkerd.io", "kind": "HTTPRoute"}, {"kind": "HTTPRoute"}), asking()],
    ),
    refusal(
        "rt-kinds-core-group",
        "as rt-kinds-foreign-namesake: the core group is another",
        [service(), for_kinds({"group": "", "kind": "HTTPRoute"}), asking()],
        "NotAllowedByListeners",
    ),
    refusal(
        "rt-kinds-of-other-protocol",
        "Listener.allowedRoutes: a kind that the protocol can't carry",
        [service(), for_kinds({"kind": "TCPRoute"}), asking(kind="TCPRoute", asks=False)],
        "NotAllowedByListeners",
    ),
    refusal(
        "rt-hostname-bare-for-wildcard",
        "HTTPRouteSpec.hostnames: *.example.net does not match example.net",
        [service(), gateway("edge", listener("http", hostname="*.example.net")), asking(hostnames=["example.net"])],
        "NoMatchingListenerHostname",
    ),
    _attached(
        "rt-hostname-deep-for-wildcard",
        "the same: it matches a.b.example.net, in any case",
        [service(), gateway("edge", listener("http", hostname="*.Example.net")), asking(hostnames=["a.B.example.NET"])],
    ),
    refusal(
        "rt-hostname-of-tlsroute",
        "gateway-api conformance TLSRouteHostnameIntersection",
        [
            service(),
            gateway("edge", listener("tls", 443, "TLS", hostname="a.example.net")),
            asking(kind="TLSRoute", asks=False, hostnames=["b.example.net"]),
        ],
        "NoMatchingListenerHostname",
    ),
    refusal(
        "rt-hostname-of-named-listener",
        "gateway-api conformance HTTPRouteListenerHostnameMatching",
        [
            service(),
            gateway("edge", listener("a", hostname="a.example.net"), listener("b", 81, hostname="b.example.net")),
            asking(parents=[to_gateway(sectionName="a")], hostnames=["b.example.net"]),
        ],
        "NoMatchingListenerHostname",
    ),
    Fold(
        "rt-grpc-and-http-other-hostnames",
        "as rt-grpc-and-http-one-listener, with nothing in common",
        [
            service(),
            *FRONT,
            asking("g", None, "GRPCRoute", created=OLD, asks=False, hostnames=["a.example.net"]),
            asking("h", hostnames=["b.example.net"]),
        ],
        decided(gateway=STICKY, refused={"g": "", "h": ""}),
    ),
    Fold(
        "rt-grpc-and-http-by-wildcard",
        "the same, where a wildcard has the other's",
        [
            service(),
            *FRONT,
            asking("g", None, "GRPCRoute", created=OLD, asks=False, hostnames=["*.example.net"]),
            asking("h", hostnames=["b.example.net"]),
        ],
        decided(refused={"g": "", "h": "Conflicted"}),
    ),
    Fold(
        "rt-grpc-and-http-one-age",
        "the same: by namespace/name where they are of one age",
        [service(), *FRONT, asking("b", None, "GRPCRoute", asks=False), asking("a")],
        decided(gateway=STICKY, refused={"b": "Conflicted", "a": ""}),
    ),
    # ---- ListenerSets ----------------------------------------------------------------------------------
    refusal(
        "rt-set-not-allowed",
        "GEP-1713: a Gateway allows no ListenerSets by default",
        [service(), *FRONT, listener_set("s", "edge", listener("x", 81)), asking(parents=[to_listener_set("s")])],
        "NoMatchingParent",
    ),
    _attached(
        "rt-set-allowed",
        "GEP-1713",
        [
            service(),
            _EDGE_TAKES_SETS,
            listener_set("s", "edge", listener("x", 81)),
            asking(parents=[to_listener_set("s")]),
        ],
    ),
    refusal(
        "rt-set-conflict",
        "GEP-1713: the Gateway's own listener takes precedence",
        [service(), _EDGE_TAKES_SETS, listener_set("s", "edge", listener("x")), asking(parents=[to_listener_set("s")])],
        "Conflicted",
    ),
    refusal(
        "rt-set-is-no-gateway",
        "GEP-1713: a route to the Gateway is not attached to its ListenerSets",
        [
            service(),
            gateway("edge", listener("http", hostname="a.example.net"), allowed={"from": "Same"}),
            listener_set("s", "edge", listener("x", 81, hostname="b.example.net")),
            asking(hostnames=["b.example.net"]),
        ],
        "NoMatchingListenerHostname",
    ),
]
