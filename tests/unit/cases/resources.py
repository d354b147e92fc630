"""What routers get: the xDS resources of one cluster's objects, or of several clusters'."""

from typing import Any

from tests.support.routes import annotated
from tests.unit.cases.case import DRAINING, NAME, Object, Translate, endpoint, endpoint_slice, port, service
from tests.unit.cases.endpoint_sets import EXTERNAL, OPS, WEB
from tests.unit.xds.world import exported_cart

_DUAL: dict[str, Any] = {"clusterIPs": ["10.96.40.7", "fd00:96::7"], "ipFamilies": ["IPv4", "IPv6"]}
_LOCAL: dict[str, Any] = {"internalTrafficPolicy": "Local"}
_ON_BLUE, _ON_GREEN = {"nodeName": "blue"}, {"nodeName": "green"}
_DNS = [port("dns", 53, "UDP"), port("dns-tcp", 53), port("metrics", 9153)]
_DNS_SLICE = [port("dns", 5353, "UDP"), port("dns-tcp", 5354), port("metrics", 9153)]
_HTTP2: dict[str, Any] = {
    "typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "explicit_http_config": {"http2_protocol_options": {}}
        }
    }
}
_SET = "cart.shop.svc.clusterset.local:80"
_UNREADY = {"conditions": {"ready": False}}


def cluster(address: str, **fields: Any) -> list[Object]:
    """A cluster in which the Service has one endpoint."""
    return [service(), endpoint_slice(endpoint(address, **fields))]


def served(*addresses: str, name: str = NAME) -> dict[str, Any]:
    """The Service's endpoint set alone."""
    return {"eds": {name: list(addresses)}}


def served_and_exported(local: list[str], of_set: list[str]) -> dict[str, Any]:
    """The endpoint sets of the Service's own name, and of the clusterset's."""
    return {"eds": {NAME: local, _SET: of_set}}


def exported(**clusters: list[Object]) -> dict[str, list[Object]]:
    """Clusters that export the Service, all at the same time."""
    return {name: [*objects, exported_cart()] for name, objects in clusters.items()}


def _by_service(ip: str, address: str) -> list[Object]:
    return [annotated(service(ip=ip), mesh="service"), endpoint_slice(endpoint(address))]


def _hinted(address: str, zone: str) -> Object:
    return endpoint(address, zone=zone, hints={"forZones": [{"name": zone}]})


CASES = [
    Translate(
        "xds-port-added",
        "grpc/grpc-go#5710, envoyproxy/envoy#23445: a port is added, and both slices are there for a while",
        [
            service(ports=[port("web", 80), port("ops", 9102)]),
            endpoint_slice(endpoint("10.7.1.4", pod="a"), ports=[WEB]),
            endpoint_slice(endpoint("10.7.1.4", pod="a"), name="cart-b", ports=[WEB, OPS]),
        ],
        {
            "eds": {
                NAME: ["10.7.1.4:8080 HEALTHY"],
                "cart.shop.svc.cluster.local:9102": ["10.7.1.4:9102 HEALTHY"],
            }
        },
    ),
    Translate(
        "xds-same-cluster-ip",
        "linkerd/linkerd2#11429: two clusters with one range of cluster IPs, as installers default to; the client gets "
        "the Service of one cluster",
        {"east": _by_service("10.96.40.7", "10.7.1.4"), "west": _by_service("10.96.40.7", "10.8.1.4")},
        served("10.96.40.7:80 HEALTHY"),
    ),
    Translate(
        "xds-same-pod-ip",
        "istio/istio#14066: two clusters with one range of Pod IPs",
        exported(east=cluster("10.7.1.4", pod="a"), west=cluster("10.7.1.4", pod="b")),
        served_and_exported(["10.7.1.4:8080 HEALTHY"], ["10.7.1.4:8080 HEALTHY"]),
    ),
    Translate(
        "xds-odd-address-empties",
        "kubernetes/kubernetes#108074: one of two addresses has leading zeros",
        [service(), endpoint_slice(endpoint("10.007.001.005"), endpoint("10.7.1.6"))],
        served("10.7.1.5:8080 HEALTHY", "10.7.1.6:8080 HEALTHY"),
    ),
    Translate(
        "xds-local-terminating",
        "KEP-1669, example for Local: the fallback is within the policy's scope",
        [
            service(**_LOCAL),
            endpoint_slice(endpoint("10.7.1.4", conditions=DRAINING, **_ON_BLUE), endpoint("10.7.2.4", **_ON_GREEN)),
        ],
        served("10.7.1.4:8080 HEALTHY"),
        ("--node", "blue"),
    ),
    Translate(
        "xds-local-two-clusters",
        "submariner-io/lighthouse#1989: both clusters have a node of this name",
        exported(
            east=[service(**_LOCAL), endpoint_slice(endpoint("10.7.1.4", **_ON_BLUE))],
            west=[service(**_LOCAL), endpoint_slice(endpoint("10.8.1.4", **_ON_BLUE))],
        ),
        served_and_exported(["10.7.1.4:8080 HEALTHY"], ["10.7.1.4:8080 HEALTHY"]),
        ("--node", "blue"),
    ),
    Translate(
        "xds-draining-cluster",
        "KEP-1669: only where all endpoints terminate; of all clusters, that is",
        exported(east=cluster("10.7.1.4", conditions=DRAINING), west=cluster("10.8.1.4")),
        served_and_exported(["10.7.1.4:8080 HEALTHY"], ["10.7.1.4:8080 DRAINING", "10.8.1.4:8080 HEALTHY"]),
    ),
    Translate(
        "xds-h2c",
        "KEP-3726: appProtocol kubernetes.io/h2c is HTTP/2 with prior knowledge",
        [service(ports=[port("web", 80, appProtocol="kubernetes.io/h2c")]), endpoint_slice(endpoint("10.7.1.4"))],
        {"cds": {NAME: _HTTP2}},
    ),
    Translate(
        "xds-port-53-twice",
        "cilium/cilium#9207, kube-vip/kube-vip#859: TCP and UDP of one number; the name is TCP's",
        [service(ports=_DNS), endpoint_slice(endpoint("10.7.1.4"), ports=_DNS_SLICE)],
        {
            "eds": {
                "cart.shop.svc.cluster.local:53": ["10.7.1.4:5354 HEALTHY"],
                "cart.shop.svc.cluster.local:53/udp": ["udp/10.7.1.4:5353 HEALTHY"],
                "cart.shop.svc.cluster.local:9153": ["10.7.1.4:9153 HEALTHY"],
            }
        },
    ),
    Translate(
        "xds-host-network",
        "kubernetes/kubernetes#101935, istio/istio#24626: two Pods of one node, by different ports",
        [
            service(),
            endpoint_slice(endpoint("198.51.100.9", pod="a")),
            endpoint_slice(endpoint("198.51.100.9", pod="b"), name="cart-b", ports=[port("web", 8081)]),
        ],
        served("198.51.100.9:8080 HEALTHY", "198.51.100.9:8081 HEALTHY"),
    ),
    Translate(
        "xds-extname-dot",
        "istio/istio#28103, envoyproxy/envoy#13587: a rooted name, as given",
        [service(**{**EXTERNAL, "externalName": "cart.example.net."})],
        {
            "cds": {
                NAME: {
                    "type": "LOGICAL_DNS",
                    "load_assignment": {
                        "endpoints": [
                            {
                                "lb_endpoints": [
                                    {"endpoint": {"address": {"socket_address": {"address": "cart.example.net."}}}}
                                ]
                            }
                        ]
                    },
                }
            },
            "eds": {},
        },
    ),
    # ---- siblings of these -----------------------------------------------------------------------------
    Translate(
        "xds-port-renamed",
        "as xds-port-added: both slices, and the Service has its new name",
        [
            service(ports=[port("http", 80)]),
            endpoint_slice(endpoint("10.7.1.4", pod="a"), ports=[WEB]),
            endpoint_slice(endpoint("10.7.1.4", pod="a"), name="cart-b", ports=[port("http", 8080)]),
        ],
        served("10.7.1.4:8080 HEALTHY"),
    ),
    Translate(
        "xds-port-named-otherwise-elsewhere",
        "a Service port's name is its cluster's own, its number is common (MCS API, KEP-1645)",
        exported(
            east=cluster("10.7.1.4"),
            west=[service(ports=[port("http", 80)]), endpoint_slice(endpoint("10.8.1.4"), ports=[port("http", 81)])],
        ),
        served_and_exported(["10.7.1.4:8080 HEALTHY"], ["10.7.1.4:8080 HEALTHY", "10.8.1.4:81 HEALTHY"]),
    ),
    Translate(
        "xds-same-pod-ip-own-cluster",
        "as xds-same-pod-ip: a client's own cluster has the address",
        exported(east=cluster("10.7.1.4"), west=cluster("10.7.1.4", **_UNREADY)),
        served_and_exported(["10.7.1.4:8080 UNHEALTHY"], ["10.7.1.4:8080 UNHEALTHY"]),
        ("--client-cluster", "west"),
    ),
    Translate(
        "xds-same-pod-ip-spelt-otherwise",
        "as xds-same-pod-ip, of IPv6",
        exported(
            east=[service(), endpoint_slice(endpoint("fd00::1"), addressType="IPv6")],
            west=[service(), endpoint_slice(endpoint("FD00:0:0::0001"), addressType="IPv6")],
        ),
        served_and_exported(["fd00::1:8080 HEALTHY"], ["fd00::1:8080 HEALTHY"]),
    ),
    Translate(
        "xds-two-families",
        "gRFC A61, Envoy additional_addresses: a Pod with two addresses is one endpoint",
        [
            service(**_DUAL),
            endpoint_slice(endpoint("10.7.1.4", pod="a")),
            endpoint_slice(endpoint("fd00::1", pod="a"), name="cart-b", addressType="IPv6"),
        ],
        served("10.7.1.4:8080+fd00::1:8080 HEALTHY"),
    ),
    Translate(
        "xds-second-family-shared",
        "as xds-same-pod-ip: only the second address is in both clusters",
        exported(
            **{
                name: [
                    service(**_DUAL),
                    endpoint_slice(endpoint(address, pod=name)),
                    endpoint_slice(endpoint("fd00::1", pod=name), name="cart-b", addressType="IPv6"),
                ]
                for name, address in (("east", "10.7.1.4"), ("west", "10.8.1.4"))
            }
        ),
        served_and_exported(
            ["10.7.1.4:8080+fd00::1:8080 HEALTHY"], ["10.7.1.4:8080+fd00::1:8080 HEALTHY", "10.8.1.4:8080 HEALTHY"]
        ),
    ),
    Translate(
        "xds-client-of-no-cluster",
        "a client that doesn't name its cluster gets the Service of the first by name, never a mix (KEP-1645)",
        {"east": _by_service("10.96.40.7", "10.7.1.4"), "west": _by_service("10.97.40.7", "10.8.1.4")},
        served("10.96.40.7:80 HEALTHY"),
    ),
    Translate(
        "xds-cluster-ip-of-own-cluster",
        "a cluster IP is good only inside its cluster",
        {"east": _by_service("10.96.40.7", "10.7.1.4"), "west": _by_service("10.97.40.7", "10.8.1.4")},
        served("10.97.40.7:80 HEALTHY"),
        ("--client-cluster", "west"),
    ),
    Translate(
        "xds-client-of-a-third-cluster",
        "the same: a client of a third cluster has what is exported, by its endpoints",
        {
            **exported(east=_by_service("10.96.40.7", "10.7.1.4"), west=_by_service("10.97.40.7", "10.8.1.4")),
            "south": [],
        },
        {"eds": {_SET: ["10.7.1.4:8080 HEALTHY", "10.8.1.4:8080 HEALTHY"]}},
        ("--client-cluster", "south"),
    ),
    Translate(
        "xds-odd-cluster-ip-twice",
        "as fold-odd-cluster-ip: one address in two texts",
        [annotated(service(clusterIPs=["10.96.40.7", "010.096.040.007"]), mesh="service")],
        served("10.96.40.7:80 HEALTHY"),
    ),
    Translate(
        "xds-local-no-endpoint",
        "v1 ServiceSpec.internalTrafficPolicy: none on this node is none",
        [service(**_LOCAL), endpoint_slice(endpoint("10.7.1.4", **_ON_GREEN), endpoint("10.7.1.5"))],
        served(),
        ("--node", "blue"),
    ),
    Translate(
        "xds-local-own-cluster",
        "as xds-local-two-clusters, for a client that names its cluster",
        exported(
            east=[service(**_LOCAL), endpoint_slice(endpoint("10.7.1.4", **_ON_BLUE))],
            west=[service(**_LOCAL), endpoint_slice(endpoint("10.8.1.4", **_ON_BLUE))],
        ),
        served_and_exported(["10.8.1.4:8080 HEALTHY"], ["10.8.1.4:8080 HEALTHY"]),
        ("--node", "blue", "--client-cluster", "west"),
    ),
    Translate(
        "xds-all-terminate",
        "KEP-1669: those that terminate and still serve, if there are no others",
        [
            service(),
            endpoint_slice(
                endpoint("10.7.1.4", conditions=DRAINING),
                endpoint("10.7.1.5", conditions={"ready": False, "serving": False, "terminating": True}),
            ),
        ],
        served("10.7.1.4:8080 HEALTHY", "10.7.1.5:8080 UNHEALTHY"),
    ),
    Translate(
        "xds-hints",
        "KEP-2433: endpoints for the client's zone come first",
        [
            service(trafficDistribution="PreferClose"),
            endpoint_slice(_hinted("10.7.1.4", "z-a"), _hinted("10.7.1.5", "z-b")),
        ],
        served("10.7.1.5:8080 HEALTHY", "10.7.1.4:8080 HEALTHY"),
        ("--zone", "z-b"),
    ),
    Translate(
        "xds-udp-for-grpc",
        "gRPC connects by TCP only",
        [service(ports=_DNS[:2]), endpoint_slice(endpoint("10.7.1.4"), ports=_DNS_SLICE)],
        {"eds": {"cart.shop.svc.cluster.local:53": ["10.7.1.4:5354 HEALTHY"]}},
        ("--grpc",),
    ),
    Translate(
        "xds-sctp",
        "SCTP is not served",
        [service(ports=[port("web", 80, "SCTP")]), endpoint_slice(endpoint("10.7.1.4"))],
        {"cds": {}, "eds": {}, "rds": {}},
    ),
    Translate(
        "xds-fqdn",
        "discovery.k8s.io/v1 AddressType: FQDN has no meaning for kube-proxy, and is no address for Envoy",
        [
            service(),
            endpoint_slice(endpoint("10.7.1.4")),
            endpoint_slice(endpoint("a.example.net"), name="cart-b", addressType="FQDN"),
        ],
        served("10.7.1.4:8080 HEALTHY"),
    ),
    Translate(
        "xds-no-readable-address",
        "as xds-odd-address-empties: no empty set where nothing is known",
        exported(east=[service(), endpoint_slice(endpoint("nowhere"))], west=[service(), endpoint_slice()]),
        {"cds": {NAME: {"type": "EDS"}, _SET: {"type": "EDS"}}, "eds": {}},
    ),
    Translate(
        "xds-empty-beside-others",
        "a cluster whose file doesn't have the Service doesn't run it: the set is known to be empty",
        {"east": [service()], "west": [], "south": [service("till")]},
        {"eds": {NAME: [], "till.shop.svc.cluster.local:80": []}},
    ),
    Translate(
        "xds-extname-elsewhere",
        "KEP-1645, Service Types: an ExternalName is no part of the set",
        exported(east=[service(**EXTERNAL)], west=cluster("10.8.1.4")),
        {"cds": {NAME: {"type": "LOGICAL_DNS"}, _SET: {"type": "EDS"}}, "eds": {_SET: ["10.8.1.4:8080 HEALTHY"]}},
    ),
]
