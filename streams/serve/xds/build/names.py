"""Type URLs and resource names."""

from typing import Literal

Kind = Literal["cds", "eds", "lds", "rds"]

TYPE_URLS: dict[Kind, str] = {
    "cds": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "eds": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "lds": "type.googleapis.com/envoy.config.listener.v3.Listener",
    "rds": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}
"""What is served, in the order in which it is made: what is referred to comes before what refers to it
(xDS protocol, "Eventual consistency considerations")."""

KINDS: dict[str, Kind] = {url: kind for kind, url in TYPE_URLS.items()}

UNSERVED = frozenset(
    f"type.googleapis.com/envoy.{name}"
    for name in (
        "config.core.v3.TypedExtensionConfig",
        "config.route.v3.ScopedRouteConfiguration",
        "config.route.v3.VirtualHost",
        "extensions.transport_sockets.tls.v3.Secret",
        "service.runtime.v3.Runtime",
    )
)
"""Types that Envoy may ask of its only ADS server: known, and there are none of them here."""

WILDCARD = "*"
FULL_STATE: frozenset[Kind] = frozenset({"cds", "lds"})
"""In state-of-the-world a response of these has all there is, and only these can be subscribed to as a whole."""


def resource_name(dns_name: str, port: int) -> str:
    """`SERVICE.NAMESPACE.svc.CLUSTER-DOMAIN:PORT`: the same for all four types."""
    return f"{dns_name}:{port}"
