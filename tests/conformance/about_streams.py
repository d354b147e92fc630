"""Conformance tests about TCP, UDP and TLS."""

from tests.conformance.checks import (
    APP,
    INFRA,
    WEB,
    Expectation,
    Step,
    attached,
    decision,
    expect,
    named_nowhere,
    refused,
    rule_reason,
    sends,
)
from tests.conformance.table import ERROR
from tests.support.routes import Object, route, to_gateway

TCP, UDP, TLS = ("TCPRoute",), ("UDPRoute",), ("TLSRoute",)


def _younger(kind: str, name: str, parent: str, section: str, backend: str, port: int) -> Object:
    """The route that the test itself adds, once the first is older than it."""
    parents = [to_gateway(parent, sectionName=section)]
    return route(name, parents, [{"backendRefs": [{"name": backend, "port": port}]}], kind, namespace=INFRA)


_PROBE_KINDS = [
    ("tlsroute-listener-passthrough-supported-kinds", "gateway-tlsroute-passthrough-supported-kind"),
    ("tlsroute-listener-terminate-supported-kinds", "gateway-tlsroute-terminate-supported"),
]


def _takes(kind: str, parent: str) -> Step:
    """A route of ours that asks whether a Gateway takes its kind."""
    probe = route(
        "probe",
        [to_gateway(parent, namespace=INFRA)],
        [{"backendRefs": [{"name": "tls-backend", "port": 443}]}],
        kind,
        namespace=INFRA,
    )
    return Step(
        [attached("probe", kind=kind)],
        added=[{**probe, "spec": {**probe["spec"], "hostnames": ["terminate.example.com"]}}],
    )


_INTERSECTING = [
    ("gw-tlsroute-exact-hostname-x-1", "abc.example.com", "tls-backend"),
    ("gw-tlsroute-exact-hostname-x-1", "non.matching.com", None),
    ("gw-tlsroute-more-specific-wc-hostname-x-2", "abc.example.com", "tls-backend"),
    ("gw-tlsroute-more-specific-wc-hostname-x-2", "other.example.com", "tls-backend-2"),
    ("gw-tlsroute-more-specific-wc-hostname-x-2", "non.matching.com", None),
    ("gw-tlsroute-less-specific-wc-hostname-x-3", "abc.example.com", "tls-backend"),
    ("gw-tlsroute-less-specific-wc-hostname-x-3", "other.example.com", "tls-backend-2"),
    ("gw-tlsroute-less-specific-wc-hostname-x-3", "non.matching.com", None),
    ("gw-tlsroute-empty-hostname-x-4", "abc.example.com", "tls-backend"),
    ("gw-tlsroute-empty-hostname-x-4", "other.example.com", "tls-backend-2"),
    ("gw-tlsroute-empty-hostname-x-4", "non.matching.org", None),
]

_HOW = ("by-port", "by-section", "by-section-and-port")

STREAMS: dict[str, Expectation] = {
    "TCPRouteInvalidBackendRefNonexistent": expect(
        "tcproute-invalid-backendref-nonexistent", decision("nonexistent-service", "none", "ServiceNotFound")
    ),
    "TCPRouteInvalidCrossNamespaceBackendRef": expect(
        "tcproute-invalid-cross-namespace-backend-ref",
        rule_reason(f"{WEB}/tcp-invalid-xns-backend", "tcp-invalid-cross-namespace-backend-ref", "RefNotPermitted"),
        sends("tcp-invalid-cross-namespace-backend-ref-gateway", ERROR, port=9321, kinds=TCP),
    ),
    "TCPRouteInvalidNonTCPListener": expect(
        "tcproute-invalid-non-tcp-listener", refused("tcp-route", "NotAllowedByListeners", kind="TCPRoute")
    ),
    "TCPRouteMultipleRoutesAttachment": expect(
        "tcproute-multiple-routes-attachment",
        attached("tcproute-attach-older", kind="TCPRoute"),
        then=[
            Step(
                [
                    attached("tcproute-attach-older", kind="TCPRoute"),
                    attached("tcproute-attach-newer", kind="TCPRoute"),
                    rule_reason("tcp-attach-backend-2", "tcproute-attach-newer", "RuleShadowed"),
                    sends("tcp-multi-route-attach-gateway", "tcp-attach-backend-1", port=9310, kinds=TCP),
                ],
                younger=[
                    _younger(
                        "TCPRoute",
                        "tcproute-attach-newer",
                        "tcp-multi-route-attach-gateway",
                        "tcp",
                        "tcp-attach-backend-2",
                        3000,
                    )
                ],
            )
        ],
    ),
    "TCPRouteParentRefAttachAll": expect(
        "tcproute-parentref-attach-all",
        attached("tcp-route-attach-all", "one", "two", "three", "four", kind="TCPRoute"),
        *(sends("tcp-attach-all-gateway", "tcp-echo-attach-all", port=port, kinds=TCP) for port in range(9310, 9314)),
    ),
    "TCPRouteParentRefPortAndSectionName": expect(
        "tcproute-parentref-port-and-section-name",
        attached("tcp-route-by-port", "one", kind="TCPRoute"),
        attached("tcp-route-by-section", "two", kind="TCPRoute"),
        attached("tcp-route-by-section-and-port", "three", kind="TCPRoute"),
        *(
            sends("tcp-multi-listener-gateway", f"tcp-echo-{name}", port=port, kinds=TCP)
            for port, name in ((9300, "one"), (9301, "two"), (9302, "three"))
        ),
    ),
    "TCPRouteReferenceGrant": expect(
        "tcproute-reference-grant",
        sends("tcp-reference-grant-gateway", "tcp-reference-grant-backend", namespace=WEB, port=9320, kinds=TCP),
        then=[
            Step(
                [rule_reason(f"{WEB}/tcp-reference-grant-backend", "tcp-reference-grant", "RefNotPermitted")],
                deleted=[("ReferenceGrant", WEB, "tcp-reference-grant")],
            )
        ],
    ),
    "TCPRouteWeightedRouting": expect(
        "tcproute-weighted-routing",
        sends("tcp-weighted-gateway", {"tcp-backend-v1": 0.7, "tcp-backend-v2": 0.3}, port=9300, kinds=TCP),
    ),
    "UDPRoute": expect("udproute-simple", sends("udp-gateway", "coredns", port=5300, kinds=UDP)),
    "UDPRouteInvalidBackendRefNonexistent": expect(
        "udproute-invalid-backendref-nonexistent",
        decision("nonexistent-service", "none", "ServiceNotFound"),
        sends("udp-gateway-invalid-backend", ERROR, port=5300, kinds=UDP),
    ),
    "UDPRouteInvalidCrossNamespaceBackendRef": expect(
        "udproute-invalid-cross-namespace-backend-ref",
        sends("udp-gateway-invalid-cross-namespace-backend-ref", ERROR, port=5300, kinds=UDP),
        rule_reason(
            f"{APP}/udp-echo-no-reference-grant", "udp-route-invalid-cross-namespace-backend-ref", "RefNotPermitted"
        ),
    ),
    "UDPRouteMultipleRoutesAttachment": expect(
        "udproute-multiple-routes-attachment",
        attached("udproute-attach-older", kind="UDPRoute"),
        then=[
            Step(
                [
                    attached("udproute-attach-newer", kind="UDPRoute"),
                    rule_reason("udp-attach-backend-2", "udproute-attach-newer", "RuleShadowed"),
                    sends("udp-multi-route-attach-gateway", "udp-attach-backend-1", port=5301, kinds=UDP),
                ],
                younger=[
                    _younger(
                        "UDPRoute",
                        "udproute-attach-newer",
                        "udp-multi-route-attach-gateway",
                        "udp",
                        "udp-attach-backend-2",
                        8080,
                    )
                ],
            )
        ],
    ),
    "UDPRouteNotAllowedByListeners": expect(
        "udproute-not-allowed-by-listeners",
        refused("udproute-not-allowed-by-listeners", "NotAllowedByListeners", kind="UDPRoute"),
    ),
    "UDPRouteParentRefAttachAllListeners": expect(
        "udproute-parentref-attach-all-listeners",
        attached("udp-route-attach-all", "udp-1", "udp-2", "udp-3", kind="UDPRoute"),
        *(
            sends("udp-attach-all-listeners-gateway", "udp-echo-attach-all", port=port, kinds=UDP)
            for port in range(5310, 5313)
        ),
    ),
    "UDPRouteParentRefPortAndSectionName": expect(
        "udproute-parentref-port-and-section-name",
        *(attached(f"udp-route-{how}", how, kind="UDPRoute") for how in _HOW),
        *(
            sends("udp-multi-listener-gateway", f"udp-echo-{how}", port=5300 + number, kinds=UDP)
            for number, how in enumerate(_HOW)
        ),
    ),
    "UDPRouteReferenceGrant": expect(
        "udproute-reference-grant",
        sends("udp-gateway-reference-grant", "udp-echo-reference-grant", namespace=APP, port=5300, kinds=UDP),
        then=[
            Step(
                [rule_reason(f"{APP}/udp-echo-reference-grant", "udp-route-reference-grant", "RefNotPermitted")],
                deleted=[("ReferenceGrant", APP, "udp-reference-grant")],
            )
        ],
    ),
    "UDPRouteWeightedRouting": expect(
        "udproute-weighted-routing",
        sends("udp-weighted-gateway", {"udp-backend-v1": 0.7, "udp-backend-v2": 0.3}, port=5300, kinds=UDP),
    ),
    "TLSRouteHostnameIntersection": expect(
        "tlsroute-hostname-intersection",
        *(sends(to, backend, host=host, port=443, kinds=TLS) for to, host, backend in _INTERSECTING),
    ),
    "TLSRouteInvalidBackendRefNonexistent": expect(
        "tlsroute-invalid-backendref-nonexistent",
        decision("nonexistent", "none", "ServiceNotFound"),
        attached("invalid-backend-ref-nonexistent", kind="TLSRoute"),
    ),
    "TLSRouteInvalidBackendRefUnknownKind": expect(
        "tlsroute-invalid-backendref-unknown-kind",
        named_nowhere("invalid-backend-ref-unknown-kind", kind="TLSRoute"),
        note="the route names no Service, so it is in no row",
    ),
    "TLSRouteInvalidNoMatchingListenerHostname": expect(
        "tlsroute-invalid-no-matching-listener-hostname",
        refused("tlsroute-hostname-mismatch-1", "NoMatchingListenerHostname", kind="TLSRoute"),
        refused("tlsroute-hostname-mismatch-2", "NoMatchingListenerHostname", kind="TLSRoute"),
    ),
    "TLSRouteInvalidNoMatchingListener": expect(
        "tlsroute-invalid-no-matching-listener",
        refused("tlsroute-not-allowed-protocol-http", "NotAllowedByListeners", kind="TLSRoute"),
        refused("tlsroute-not-allowed-protocol-https", "NotAllowedByListeners", kind="TLSRoute"),
        refused("tlsroute-no-matching-section-name", "NoMatchingParent", kind="TLSRoute"),
    ),
    "TLSRouteInvalidReferenceGrant": expect(
        "tlsroute-invalid-reference-grant",
        rule_reason(f"{APP}/tls-backend", "gateway-conformance-infra-test", "RefNotPermitted"),
    ),
    "TLSRouteListenerPassthroughSupportedKinds": expect(
        _PROBE_KINDS[0][0], then=[_takes("TLSRoute", _PROBE_KINDS[0][1])], note="supportedKinds, by a route of ours"
    ),
    "TLSRouteListenerTerminateSupportedKinds": expect(
        _PROBE_KINDS[1][0], then=[_takes("TLSRoute", _PROBE_KINDS[1][1])], note="supportedKinds, by a route of ours"
    ),
    "TLSRouteMixedTerminationSameNamespace": expect(
        "tlsroute-mixed-termination-same-namespace",
        attached("gateway-conformance-mixed-passthroughroute", "tls-passthrough", kind="TLSRoute"),
        attached("gateway-conformance-mixed-terminateroute", "tls-terminate", kind="TLSRoute"),
        sends("gateway-tlsroute-mixed-termination", "tcp-backend", host="abc.example.com", port=8883, kinds=TLS),
        sends("gateway-tlsroute-mixed-termination", "tcp-backend", host="tls.example.com", port=8883, kinds=TLS),
    ),
    "TLSRouteSimpleSameNamespace": expect(
        "tlsroute-simple-same-namespace",
        sends("gateway-tlsroute", "tcp-backend", host="abc.example.com", port=443, kinds=TLS),
    ),
    "TLSRouteTerminateSimpleSameNamespace": expect(
        "tlsroute-terminate-simple-same-namespace",
        sends("gateway-tlsroute-terminate", "tcp-backend", host="tls.example.com", port=8443, kinds=TLS),
    ),
}
