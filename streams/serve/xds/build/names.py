"""Type URLs and resource names."""

from typing import Literal

Kind = Literal["cds", "eds", "lds", "rds"]

TYPE_URLS: dict[Kind, str] = {
    "cds": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "eds": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "lds": "type.googleapis.com/envoy.config.listener.v3.Listener",
    "rds": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}
"""The served types, in build order: what is referred to comes before what refers to it (xDS protocol, "Eventual
consistency considerations")."""

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
"""Types that Envoy may request from its only ADS server: known, but never served here."""

WILDCARD = "*"
FULL_STATE: frozenset[Kind] = frozenset({"cds", "lds"})
"""In state-of-the-world a response of these types has all resources, and only these types have wildcard
subscriptions."""


def resource_name(dns_name: str, port: int) -> str:
    """`SERVICE.NAMESPACE.svc.CLUSTER-DOMAIN:PORT`: the same for all four types."""
    return f"{dns_name}:{port}"
