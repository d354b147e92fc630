"""Parents in the mesh, grants and backends: siblings of what was reported (`routes`)."""

from typing import Any

from tests.support.routes import (
    Object,
    gateway,
    grant,
    listener,
    to_gateway,
    to_service,
)
from tests.unit.cases.case import CART, Fold, event, port, service
from tests.unit.cases.route_cases import (
    FRONT,
    OLD,
    PLAIN,
    STICKY,
    TO_CART,
    TWO_PORTS,
    asking,
    choice,
    decided,
    mirror,
    refusal,
)

_FROM_STAND = gateway("edge", listener("http"), namespace="stand")


def _mesh_parent(case: str, source: str, of: Object, parent: Object, *, kind: str = "HTTPRoute") -> Fold:
    return refusal(case, source, [of, asking(parents=[parent], kind=kind)], "NoMatchingParent")


def _grant(case: str, source: str, item: Object) -> Fold:
    """A grant that does not permit the route of `stand`."""
    return Fold(
        case, source, [service(), _FROM_STAND, item, asking(of="stand")], decided(rules=[("r", "RefNotPermitted")])
    )


def _spec(item: Object, **fields: Any) -> Object:
    return {**item, "spec": {**item["spec"], **fields}}


CASES = [
    # ---- the mesh --------------------------------------------------------------------------------------
    _mesh_parent("rt-parent-port", "GEP-1294, conformance MeshPorts", service(), to_service(port=81)),
    _mesh_parent("rt-parent-section", "conformance MeshPorts", service(), to_service(sectionName="ops")),
    _mesh_parent(
        "rt-parent-section-of-other-port", "both must name one port", TWO_PORTS, to_service(sectionName="web", port=81)
    ),
    _mesh_parent("rt-parent-sctp", "HTTP goes over TCP", service(ports=[port("web", 80, "SCTP")]), to_service()),
    _mesh_parent("rt-parent-tcp-for-udproute", "UDPRoutes have UDP ports", service(), to_service(), kind="UDPRoute"),
    Fold(
        "rt-parent-extname",
        "GEP-1294: an ExternalName has no frontend",
        [
            service(type="ExternalName", externalName="cart.example.net", clusterIP="", clusterIPs=None),
            asking(parents=TO_CART),
        ],
        decided(gateway=("dns", "ExternalName"), mesh=("dns", "ExternalName"), refused={"r": "NoMatchingParent"}),
    ),
    Fold(
        "rt-consumer-of-one-port",
        "GEP-1294: for the other port the producer's route still counts",
        [
            TWO_PORTS,
            asking("p", TO_CART, created=OLD),
            asking("c", [to_service(namespace="shop", port=80)], of="buyer", asks=False),
        ],
        decided(mesh=STICKY, consumers={"buyer": STICKY}),
    ),
    Fold(
        "rt-mesh-and-gateway-parents",
        "GEP-1294: each parent by its own rule",
        [service(), _FROM_STAND, asking(parents=[*TO_CART, to_gateway()], of="stand")],
        {
            "routing": {
                CART: {
                    "gateway": {**choice(PLAIN), "rules": [{"reason": "RefNotPermitted"}]},
                    "mesh": {**choice(PLAIN), "consumers": {"stand": choice(STICKY)}},
                }
            }
        },
    ),
    Fold(
        "rt-mesh-hostnames",
        "gateway-api conformance MeshFrontendHostname: they say nothing in the mesh",
        [service(), asking(parents=TO_CART, hostnames=["elsewhere.example.net"])],
        decided(mesh=STICKY, refused={"r": ""}),
    ),
    Fold(
        "rt-grpc-of-one-port",
        "as rt-grpc-and-http-one-service: the HTTPRoute keeps the other port",
        [TWO_PORTS, asking("g", [to_service(port=80)], "GRPCRoute", asks=False), asking("h", TO_CART)],
        {
            "routing": {
                CART: {
                    "mesh": choice(STICKY),
                    "routes": [{"parents": [{"ports": [80]}]}, {"parents": [{"ports": [81]}]}],
                }
            }
        },
    ),
    Fold(
        "rt-http-tls-and-tcp",
        "as rt-grpc-and-http-one-service: HTTP before TLS before TCP",
        [
            service(),
            asking("t", TO_CART, "TCPRoute", created=OLD, asks=False),
            asking("l", TO_CART, "TLSRoute", created=OLD, asks=False),
            asking("h", TO_CART),
        ],
        decided(mesh=STICKY, refused={"h": "", "t": "Conflicted", "l": "Conflicted"}),
    ),
    # ---- grants ----------------------------------------------------------------------------------------
    _grant("rt-grant-of-other-kind", "ReferenceGrantFrom.kind", grant("g", [("GRPCRoute", "stand")])),
    _grant(
        "rt-grant-of-other-group",
        "ReferenceGrantFrom.group",
        _spec(grant("g", []), **{"from": [{"group": "", "kind": "HTTPRoute", "namespace": "stand"}]}),
    ),
    _grant(
        "rt-grant-to-other-kind",
        "ReferenceGrantTo.kind",
        _spec(grant("g", [("HTTPRoute", "stand")]), to=[{"group": "", "kind": "Secret"}]),
    ),
    _grant(
        "rt-grant-in-other-namespace",
        "a ReferenceGrant is of the namespace that is referred to",
        grant("g", [("HTTPRoute", "stand")], namespace="stand"),
    ),
    Fold(
        "rt-grant-unreadable",
        "not readable at first sight is unknown: the route may be permitted, and is not known to be",
        [
            service(),
            _FROM_STAND,
            _spec(grant("g", []), **{"from": 7}),
            asking(of="stand", parents=[to_gateway()]),
        ],
        decided(rules=[("r", "GrantUnreadable")]),
        message="spec.from",
    ),
    Fold(
        "rt-grant-unreadable-beside-another",
        "the same, where another grant permits it",
        [
            service(),
            _FROM_STAND,
            _spec(grant("g", []), **{"from": 7}),
            grant("h", [("HTTPRoute", "stand")]),
            asking(of="stand"),
        ],
        decided(gateway=STICKY, rules=[("r", "SessionPersistence")]),
        message="spec.from",
    ),
    Fold(
        "rt-grant-unreadable-later",
        "the same: its last good state counts",
        [
            event("ADDED", item, version)
            for version, item in enumerate(
                [
                    service(),
                    _FROM_STAND,
                    grant("g", [("HTTPRoute", "stand")]),
                    asking(of="stand"),
                    _spec(grant("g", []), **{"from": 7}),
                ],
                1,
            )
        ],
        decided(gateway=STICKY, rules=[("r", "SessionPersistence")]),
        message="spec.from",
    ),
    Fold(
        "rt-grant-unreadable-in-the-mesh",
        "the same: mesh routes need no grant",
        [service(), _spec(grant("g", []), **{"from": 7}), asking(parents=TO_CART, of="stand")],
        decided(consumers={"stand": STICKY}),
        message="spec.from",
    ),
    Fold(
        "rt-grant-unreadable-deleted",
        "the same: once it is gone, nothing permits the route",
        [
            event("ADDED", service(), 1),
            event("ADDED", _FROM_STAND, 2),
            event("ADDED", _spec(grant("g", []), **{"from": 7}), 3),
            event("ADDED", asking(of="stand"), 4),
            event("DELETED", grant("g", []), 5),
        ],
        decided(rules=[("r", "RefNotPermitted")]),
        message="spec.from",
    ),
    # ---- references ------------------------------------------------------------------------------------
    refusal(
        "rt-group-by-default",
        "ParentReference.group: the Gateway API's by default, which has no Service",
        [service(), asking(parents=[{"kind": "Service", "name": "cart"}])],
        "InvalidKind",
    ),
    refusal(
        "rt-parent-of-other-group",
        "istio has a Gateway, too",
        [service(), asking(parents=[to_gateway(group="networking.istio.io")])],
        "InvalidKind",
    ),
    Fold(
        "rt-mirror-of-core-group",
        "as rt-group-core, of a mirror",
        [service(), service("shadow"), *FRONT, asking(asks=False, rule=mirror("shadow", group="core"))],
        decided(of="shop/shadow", rules=[("r", "InvalidKind")]),
        services=(CART, "shop/shadow"),
    ),
    Fold(
        "rt-mirror-missing",
        "as rt-mirror-only: the Service is not there",
        [service(), *FRONT, asking(asks=False, rule=mirror("ghost"))],
        {
            "routing": {
                "shop/ghost": {"gateway": {**choice(("none", "ServiceNotFound")), "rules": [{"role": "mirror"}]}}
            }
        },
    ),
    Fold(
        "rt-mirror-without-grant",
        "as rt-mirror-only: of another namespace",
        [
            service(),
            service("shadow", namespace="stand"),
            *FRONT,
            asking(asks=False, rule=mirror("shadow", namespace="stand")),
        ],
        decided(of="stand/shadow", rules=[("r", "RefNotPermitted")]),
        services=(CART, "stand/shadow"),
    ),
    Fold(
        "rt-weight-zero-beside-others",
        "as rt-weights-zero, for one of two backends",
        [
            service(),
            service("till"),
            *FRONT,
            asking(rule={"backendRefs": [{"name": "cart", "port": 80, "weight": 0}, {"name": "till", "port": 80}]}),
        ],
        decided(),
        services=(CART, "shop/till"),
    ),
]
