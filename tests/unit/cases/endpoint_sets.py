"""Endpoint sets and frontends: addresses, ports, types of Services, and what of them can be read."""

from typing import Any

from tests.support.routes import gateway, listener, route, rule, to_gateway
from tests.unit.cases.case import (
    CART,
    DRAINING,
    Fold,
    Object,
    endpoint,
    endpoint_slice,
    event,
    legacy,
    port,
    service,
)

WEB, OPS = port("web", 8080), port("ops", 9102)
EXTERNAL: dict[str, Any] = {
    "type": "ExternalName", "externalName": "cart.example.net", "clusterIP": "", "clusterIPs": None,
}  # fmt: skip
_BY_NAME: dict[str, dict[str, Any]] = {
    "backend": {CART: {"state": "empty", "reason": "ExternalName", "endpoints": []}},
    "routing": {CART: {"mesh": {"decision": "dns"}, "gateway": {"decision": "dns"}}},
}
_TWO_ADDRESSES = {
    "backend": {CART: {"state": "ready", "endpoints": [{"address": "10.7.1.5"}, {"address": "10.7.1.6"}]}}
}
_TCP = {"protocol": "TCP", "appProtocol": None}


def backend(*of: Object, state: str = "ready", **fields: Any) -> dict[str, Any]:
    """Rows in which the Service has exactly these endpoints."""
    return {"backend": {CART: {"state": state, "endpoints": list(of), **fields}}}


def at(address: str, *ports: str, **fields: Any) -> Object:
    """An endpoint with exactly the ports of these names."""
    return {"address": address, "ports": [{"name": name} for name in ports], **fields}


def _target(kind: str, **fields: Any) -> Object:
    return {"targetRef": {"kind": kind, "name": "blue", "uid": "u", **fields}}


_KUBELET = ("kube-system/kubelet",)
_FOR_KUBELET: dict[str, Any] = {"namespace": "kube-system", "owner": "kubelet"}

CASES = [
    Fold(
        "fold-extname-leftovers",
        "kubernetes/kubernetes#103804, #103576: made ExternalName, its slice and Endpoints left and mirrored",
        [
            event("ADDED", service()),
            event("ADDED", legacy({"addresses": [{"ip": "10.7.1.4"}], "ports": [WEB]})),
            event("ADDED", endpoint_slice(endpoint("10.7.1.4", pod="a"))),
            event("MODIFIED", service(**EXTERNAL), 1010),
            event("ADDED", endpoint_slice(endpoint("10.7.1.4"), name="cart-mirrored"), 1012),
        ],
        _BY_NAME,
    ),
    Fold(
        "fold-extname-with-selector",
        "kubernetes/kubernetes#105986, #114814: before 1.27 the controller made slices for it",
        [service(**EXTERNAL, selector={"app": "cart"}), endpoint_slice(endpoint("10.7.1.4", pod="a"))],
        _BY_NAME,
    ),
    Fold(
        "fold-one-odd-address",
        "kubernetes/kubernetes#108074, KEP-4858: old API servers took leading zeros",
        [service(), endpoint_slice(endpoint("10.007.001.005"), endpoint("10.7.1.6"))],
        _TWO_ADDRESSES,
    ),
    Fold(
        "fold-mapped-address",
        "KEP-4858: and IPv4-mapped addresses as IPv4",
        [service(), endpoint_slice(endpoint("::ffff:10.7.1.5"), endpoint("10.7.1.6"))],
        _TWO_ADDRESSES,
    ),
    Fold(
        "fold-odd-cluster-ip",
        "kubernetes/kubernetes#107552, openshift/kuryr-kubernetes#671: a cluster IP with leading zeros",
        [
            service(ip="172.030.099.099"),
            endpoint_slice(endpoint("10.7.1.4")),
            gateway("edge", listener("http")),
            route("r", [to_gateway()], [rule("cart")]),
        ],
        {
            "frontend": {CART: {"state": "ready", "clusterIPs": ["172.30.99.99"]}},
            **backend(at("10.7.1.4", "web")),
            "routing": {CART: {"state": "ready", "gateway": {"decision": "endpoint", "reason": "Default"}}},
        },
    ),
    Fold(
        "fold-node-target",
        "prometheus-operator#1400, #1933: the kubelet Service's targets are Nodes, which have no namespace",
        [
            service("kubelet", namespace="kube-system", clusterIP="None", clusterIPs=["None"]),
            endpoint_slice(endpoint("198.51.100.9", **_target("Node")), **_FOR_KUBELET),
        ],
        {
            "backend": {
                "kube-system/kubelet": {
                    "endpoints": [{"target": {"kind": "Node", "namespace": "", "name": "blue", "uid": "u"}}]
                }
            }
        },
        _KUBELET,
    ),
    Fold(
        "fold-ports-null-ready",
        "zalando/skipper#3151: of two Deployments only one has the named port",
        [service(), endpoint_slice(endpoint("10.7.1.4")), endpoint_slice(endpoint("10.7.1.8"), name="b", ports=None)],
        backend(at("10.7.1.4", "web"), at("10.7.1.8")),
    ),
    Fold(
        "fold-nil-port-and-name",
        "traefik/traefik#13481, noironetworks/aci-containers#1770: a port without name and number, conditions {}",
        [
            service(ports=[{"port": 80}]),
            endpoint_slice(
                {"addresses": ["10.7.1.4"], "conditions": {}},
                ports=[{"name": None, "port": None, "protocol": None}],
            ),
        ],
        backend({"ready": True, "ports": [{"name": "", "port": None, **_TCP}]}),
    ),
    # ---- siblings of these -----------------------------------------------------------------------------
    Fold(
        "fold-extname-and-back",
        "as fold-extname-leftovers: the slices are held, and count again",
        [
            event("ADDED", service(**EXTERNAL)),
            event("ADDED", endpoint_slice(endpoint("10.7.1.4"))),
            event("MODIFIED", service(), 1010),
        ],
        backend(at("10.7.1.4", "web")),
    ),
    Fold(
        "fold-extname-with-cluster-ip",
        "v1 ServiceSpec.clusterIP: ignored where the type is ExternalName",
        [service(**{**EXTERNAL, "clusterIP": "10.96.40.7"}), endpoint_slice(endpoint("10.7.1.4"))],
        {**_BY_NAME, "frontend": {CART: {"clusterIPs": []}}},
    ),
    Fold(
        "fold-extname-legacy-only",
        "as fold-extname-leftovers, with Endpoints alone",
        [service(**EXTERNAL), legacy({"addresses": [{"ip": "10.7.1.4"}], "ports": [WEB]})],
        _BY_NAME,
    ),
    Fold(
        "fold-one-unreadable-address",
        "as fold-one-odd-address, where nobody can read it: the row names it, and has the others",
        [service(), endpoint_slice(endpoint("10.7.1"), endpoint("10.7.1.6"))],
        backend(at("10.7.1.6", "web"), rejected=[{"kind": "EndpointSlice", "name": "cart-a"}]),
        message="endpoints[0].addresses[0]",
    ),
    Fold(
        "fold-no-readable-address",
        "the same, where none is left: not known, not empty",
        [service(), endpoint_slice(endpoint("10.7.1"))],
        backend(state="unknown"),
        message="endpoints[0].addresses[0]",
    ),
    Fold(
        "fold-other-family-in-slice",
        "discovery.k8s.io/v1 EndpointSlice.addressType: addresses are of this type",
        [service(), endpoint_slice(endpoint("10.7.1.4"), endpoint("fd00::1"), addressType="IPv6")],
        backend(at("fd00::1", "web"), rejected=[{"kind": "EndpointSlice"}]),
        message="'10.7.1.4' is not of the family IPv6",
    ),
    Fold(
        "fold-one-spelling-of-ipv6",
        "RFC 5952: one address has many texts",
        [
            service(),
            endpoint_slice(endpoint("FD00:0::0001", pod="a"), addressType="IPv6"),
            endpoint_slice(endpoint("fd00::1", pod="a"), name="cart-b", addressType="IPv6"),
        ],
        backend(at("fd00::1", "web")),
    ),
    Fold(
        "fold-odd-cluster-ips-of-two-families",
        "as fold-odd-cluster-ip",
        [service(clusterIP="010.096.040.007", clusterIPs=["010.096.040.007", "FD00:96::0008"])],
        {"frontend": {CART: {"state": "ready", "clusterIPs": ["10.96.40.7", "fd00:96::8"]}}},
    ),
    Fold(
        "fold-unreadable-cluster-ip",
        "kubernetes/kubernetes#107552: what can't be read costs that IP",
        [service(clusterIPs=["10.96.40.7", "nowhere"]), endpoint_slice(endpoint("10.7.1.4"))],
        {
            "frontend": {CART: {"state": "ready", "clusterIPs": ["10.96.40.7"], "rejected": [{"kind": "Service"}]}},
            **backend(at("10.7.1.4", "web")),
        },
        message="spec.clusterIPs[1]",
    ),
    Fold(
        "fold-node-target-legacy",
        "as fold-node-target, in legacy Endpoints",
        [service(), legacy({"addresses": [{"ip": "10.7.1.4", **_target("Node")}], "ports": [WEB]})],
        backend({"target": {"kind": "Node", "namespace": ""}}),
    ),
    Fold(
        "fold-node-target-with-namespace",
        "as fold-node-target, where something wrote a namespace",
        [service(), endpoint_slice(endpoint("10.7.1.4", **_target("Node", namespace="shop")))],
        backend({"target": {"kind": "Node", "namespace": ""}}),
    ),
    Fold(
        "fold-pod-target-without-namespace",
        "an endpoint's Pod is in the slice's namespace",
        [service(), endpoint_slice(endpoint("10.7.1.4", **_target("Pod")))],
        backend({"target": {"kind": "Pod", "namespace": "shop"}}),
    ),
    Fold(
        "fold-ports-move-between-slices",
        "kubernetes/website#23084: three slices while a port is added and one goes; each port once",
        [
            service(ports=[port("web", 80), port("ops", 9102)]),
            endpoint_slice(endpoint("10.7.1.4", pod="a"), name="one", version=1001, ports=[WEB]),
            endpoint_slice(endpoint("10.7.1.4", pod="a"), name="two", version=1002, ports=[WEB, OPS]),
            endpoint_slice(endpoint("10.7.1.4", pod="a"), name="three", version=1003, ports=[OPS]),
        ],
        backend(at("10.7.1.4", "ops", slice="three"), at("10.7.1.4", "web", slice="two")),
    ),
    Fold(
        "fold-address-twice-in-slice",
        "an address of two Pods: the one that serves has it",
        [
            service(),
            endpoint_slice(endpoint("10.7.1.4", pod="a", conditions={"ready": False}), endpoint("10.7.1.4", pod="b")),
        ],
        backend({"address": "10.7.1.4", "ready": True, "target": {"name": "b"}}),
    ),
    Fold(
        "fold-subsets-share-address",
        "v1 Endpoints: subsets of different ports share addresses",
        [
            service(),
            legacy(
                {"addresses": [{"ip": "10.7.1.4"}], "ports": [WEB]},
                {"addresses": [{"ip": "10.7.1.4"}], "ports": [WEB, OPS]},
            ),
        ],
        backend(at("10.7.1.4", "web"), at("10.7.1.4", "ops")),
    ),
    Fold(
        "fold-subset-ready-and-not",
        "v1 Endpoints: one address in both lists of a subset",
        [
            service(),
            legacy({"addresses": [{"ip": "10.7.1.4"}], "notReadyAddresses": [{"ip": "10.7.1.4"}], "ports": [WEB]}),
        ],
        backend(at("10.7.1.4", "web", ready=True)),
    ),
    Fold(
        "fold-subsets-null",
        "as in-endpoints-null, of legacy Endpoints",
        [service(), {**legacy(), "subsets": None}],
        backend(state="empty", reason="NoEndpoints"),
    ),
    Fold(
        "fold-legacy-odd-addresses",
        "as fold-one-odd-address, of legacy Endpoints",
        [service(), legacy({"addresses": [{"ip": "010.7.1.05"}, {"ip": "::ffff:10.7.1.6"}], "ports": [WEB]})],
        _TWO_ADDRESSES,
    ),
    Fold(
        "fold-legacy-beside-slices",
        "kubernetes/kubernetes KEP-0752: Endpoints count only where there are no slices",
        [service(), legacy({"addresses": [{"ip": "10.7.1.9"}], "ports": [WEB]}), endpoint_slice()],
        backend(state="empty", reason="NoEndpoints"),
    ),
    Fold(
        "fold-conditions-null",
        "discovery.k8s.io/v1 EndpointConditions: what their absence means",
        [
            service(),
            endpoint_slice(
                {"addresses": ["10.7.1.4"], "conditions": None, "hints": None, "zone": None, "targetRef": None},
                {"addresses": ["10.7.1.5"], "conditions": {"ready": False}},
                {"addresses": ["10.7.1.6"], "conditions": DRAINING},
            ),
        ],
        backend(
            {"ready": True, "serving": True, "terminating": False},
            {"ready": False, "serving": False, "terminating": False},
            {"ready": False, "serving": True, "terminating": True},
        ),
    ),
    Fold(
        "fold-sctp",
        "v1 ServicePort.protocol: SCTP is not served, and the row says so",
        [service(ports=[port("web", 80), port("assoc", 81, "SCTP")])],
        {"frontend": {CART: {"unserved": [{"name": "assoc", "port": 81, "protocol": "SCTP"}]}}},
    ),
    Fold(
        "fold-unreadable-service",
        "as fold-odd-cluster-ip: never missing; what its slices say counts",
        [service(type="Teapot"), endpoint_slice(endpoint("10.7.1.4"))],
        {
            "frontend": {CART: {"state": "unknown"}},
            "routing": {CART: {"mesh": {"decision": "none", "reason": "ServiceUnreadable"}}},
        },
        message="spec.type",
    ),
    Fold(
        "fold-slice-of-other-namespace",
        "kubernetes.io/service-name: a Service of the slice's own namespace",
        [service(), endpoint_slice(endpoint("10.7.1.4"), namespace="other")],
        backend(state="empty", reason="NoEndpointSlices"),
    ),
]
