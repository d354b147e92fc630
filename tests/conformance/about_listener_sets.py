"""Conformance tests about ListenerSets. Where a test reads only the status of a ListenerSet, a route of ours asks."""

from collections.abc import Iterable

from tests.conformance.checks import INFRA, V1, V2, V3, Check, Expectation, Step, attached, expect, refused, sends
from tests.support.routes import Object, route, rule, to_listener_set

_REFUSED = "NoMatchingParent"


def _probes(*sets: tuple[str, str, str, str], kind: str = "HTTPRoute") -> Step:
    """A route of ours for each ListenerSet: its namespace, name, a listener, and why the route is not attached."""
    backend = {"name": V1, "namespace": INFRA, "port": 8080}
    items: list[Object] = []
    checks: list[Check] = []
    for number, (namespace, name, section, reason) in enumerate(sets):
        parent = to_listener_set(name, namespace=namespace, sectionName=section)
        items.append(route(f"probe-{number}", [parent], [rule(backend)], kind, namespace=INFRA))
        check = (
            refused(f"probe-{number}", reason, kind=kind) if reason else attached(f"probe-{number}", section, kind=kind)
        )
        checks.append(check)
    return Step(checks, added=items)


def _conflicts(kind: str, tcp: bool) -> Step:
    """Both tests of conflicts have the same four ListenerSets."""
    prefix = f"listenerset-with-{kind}-conflict-with"
    with_gateway, with_set = f"{kind}-conflict-with-gateway-listener", f"{kind}-conflict-with-listener-set-listener"
    conflicted = "NotAllowedByListeners" if tcp else "Conflicted"
    return _probes(
        (INFRA, f"{prefix}-gateway-1", "listener-set-1-listener", ""),
        (INFRA, f"{prefix}-gateway-1", with_gateway, conflicted),
        (INFRA, f"{prefix}-gateway-1", with_set, ""),
        (INFRA, f"{prefix}-gateway-2", with_gateway, conflicted),
        (INFRA, f"{prefix}-listener-set-1", "listener-set-2-listener", ""),
        (INFRA, f"{prefix}-listener-set-1", with_set, conflicted),
        (INFRA, f"{prefix}-listener-set-2", with_set, conflicted),
    )


_PROTOCOLS = "listenerset-with-protocol-conflict-with"
_TCP_CONFLICTS = _probes(
    (INFRA, f"{_PROTOCOLS}-gateway-1", "protocol-conflict-with-gateway-listener", "Conflicted"),
    (INFRA, f"{_PROTOCOLS}-gateway-2", "protocol-conflict-with-gateway-listener", "Conflicted"),
    (INFRA, f"{_PROTOCOLS}-listener-set-2", "protocol-conflict-with-listener-set-listener", "Conflicted"),
    kind="TCPRoute",
)

_SETS = ("listener-set-http-routing-1", "listener-set-http-routing-2")
_GATEWAY = "gateway-with-listener-sets-http-routing"
_ALL_HOSTS = [
    "gateway-listener-1.com", "gateway-listener-2.com",
    *(f"{name}-listener-{number}.com" for name in _SETS for number in (1, 2)),
]  # fmt: skip


def _routed(path: str, backend: str, hosts: Iterable[str]) -> list[Check]:
    """Requests for the path reach the backend at these hosts alone."""
    wanted = set(hosts)
    return [
        sends(_GATEWAY, backend if host in wanted else None, host=host, path=path, sets=_SETS) for host in _ALL_HOSTS
    ]


_ROUTES = "listenerset-test-allowed-routes-namespaces"
_CROSS = "listenerset-test-allowed-routes-cross-ns"
_SAMPLE = "listener-set-listener-allowed-routes"

LISTENER_SETS: dict[str, Expectation] = {
    "ListenerSetAllowedNamespaceNone": expect(
        "listenerset-allowed-namespace-none",
        then=[_probes((INFRA, "listenerset-not-allowed", "listener-set-listener", _REFUSED))],
    ),
    "ListenerSetDefaultNotAllowed": expect(
        "listenerset-default-not-allowed",
        then=[
            _probes((INFRA, "listenerset-default-not-allowed", "listenerset-default-not-allowed-listener", _REFUSED))
        ],
    ),
    "ListenerSetAllowedNamespaceSame": expect(
        "listenerset-allowed-namespace-same",
        then=[
            _probes(
                (INFRA, "listenerset-in-same-namespace", "listenerset-in-same-namespace-listener", ""),
                (
                    "gateway-api-listenerset-not-allowed-ns",
                    "listenerset-in-different-namespace",
                    "listenerset-in-different-namespace-listener",
                    _REFUSED,
                ),
            )
        ],
    ),
    "ListenerSetAllowedNamespaceSelector": expect(
        "listenerset-allowed-namespace-selector",
        then=[
            _probes(
                (
                    "gateway-api-listenerset-selector-allowed-ns",
                    "listenerset-in-selected-namespace",
                    "listenerset-in-selected-namespace-listener",
                    "",
                ),
                (
                    "gateway-api-listenerset-selector-not-allowed-ns",
                    "listenerset-not-in-selected-namespace",
                    "listenerset-not-in-selected-namespace-listener",
                    _REFUSED,
                ),
            )
        ],
    ),
    "ListenerSetAllowedRoutesNamespaces": expect(
        "listenerset-allowed-routes-namespaces",
        attached("route-in-same-namespace", f"{_SAMPLE}-all", f"{_SAMPLE}-same"),
        attached(
            "route-in-selected-namespace",
            f"{_SAMPLE}-all",
            f"{_SAMPLE}-selector",
            namespace="gateway-api-routes-allowed-ns",
        ),
        attached("route-not-in-selected-namespace", f"{_SAMPLE}-all", namespace="gateway-api-routes-not-allowed-ns"),
        attached("route-in-listenerset-namespace", namespace="gateway-api-ls-cross-ns"),
        refused("route-in-gateway-namespace", "NotAllowedByListeners"),
        *(
            sends(
                "gateway-with-listener-sets-test-allowed-routes", backend, host=host, path=path, sets=(_ROUTES, _CROSS)
            )
            for host, path, backend in (
                (f"{_SAMPLE}-all.com", "/route-in-same-namespace", V1),
                (f"{_SAMPLE}-same.com", "/route-in-same-namespace", V1),
                (f"{_SAMPLE}-selector.com", "/route-in-same-namespace", None),
                (f"{_SAMPLE}-all.com", "/route-in-selected-namespace", V2),
                (f"{_SAMPLE}-same.com", "/route-in-selected-namespace", None),
                (f"{_SAMPLE}-selector.com", "/route-in-selected-namespace", V2),
                (f"{_SAMPLE}-all.com", "/route-not-in-selected-namespace", V3),
                (f"{_SAMPLE}-selector.com", "/route-not-in-selected-namespace", None),
                (f"{_SAMPLE}-cross-ns-same.com", "/route-in-listenerset-namespace", V1),
                (f"{_SAMPLE}-cross-ns-same.com", "/route-in-gateway-namespace", None),
            )
        ),
    ),
    "ListenerSetAllowedRoutesSupportedKinds": expect(
        "listenerset-allowed-routes-supported-kinds",
        then=[
            _probes(
                (
                    INFRA,
                    "listenerset-test-allowed-routes-supported-kinds",
                    "listener-set-listener-allowed-routes-tls-only",
                    "NotAllowedByListeners",
                )
            )
        ],
    ),
    "ListenerSetDualParentRefIndependence": expect(
        "listenerset-dual-parentref-independence",
        attached("route-dual-parentref-both"),
        attached("route-dual-parentref-both", parent=1),
        refused("route-dual-parentref-one", _REFUSED),
        attached("route-dual-parentref-one", parent=1),
        *(
            sends("gateway-dual-parentref", backend, host=host, path=path, sets=("ls-dual-parentref",))
            for host, path, backend in (
                ("gw-dual.com", "/dualboth", V1),
                ("ls-dual.com", "/dualboth", V1),
                ("ls-dual.com", "/dualone", V2),
                ("gw-dual.com", "/dualone", None),
            )
        ),
    ),
    "ListenerSetGatewayParentSectionNameNotFound": expect(
        "listenerset-gateway-parent-section-name-not-found",
        attached("route-via-listenerset", "ls-only-listener"),
        refused("route-via-gateway", _REFUSED),
        sends(
            "gateway-section-name",
            V1,
            host="ls-section-name.com",
            path="/goodsection",
            sets=("listenerset-section-name",),
        ),
        sends(
            "gateway-section-name", None, host="gw-section.com", path="/badsection", sets=("listenerset-section-name",)
        ),
    ),
    "ListenerSetHostnameConflict": expect("listenerset-hostname-conflict", then=[_conflicts("hostname", tcp=False)]),
    "ListenerSetProtocolConflict": expect(
        "listenerset-protocol-conflict", then=[_conflicts("protocol", tcp=True), _TCP_CONFLICTS]
    ),
    "ListenerSetHTTPRouting": expect(
        "listenerset-http-routing",
        *_routed("/route", V1, _ALL_HOSTS),
        *_routed("/gateway-route", V2, _ALL_HOSTS[:2]),
        *_routed("/gateway-section-route", V3, _ALL_HOSTS[:1]),
        *_routed(f"/{_SETS[0]}-route", V2, _ALL_HOSTS[2:4]),
        *_routed(f"/{_SETS[0]}-section-route", V3, _ALL_HOSTS[2:3]),
        *_routed(f"/{_SETS[1]}-route", V2, _ALL_HOSTS[4:]),
    ),
    "ListenerSetRouteStatusScopedToParentRef": expect(
        "listenerset-route-status-scoped-to-parentref",
        attached("route-parentref-gwonly", "gw-parentref-listener"),
        attached("route-parentref-lsonly", "listenerset-parentref-listener"),
    ),
}
