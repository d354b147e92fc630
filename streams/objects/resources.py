"""The resource types that are watched.

Services, EndpointSlices and legacy Endpoints are in every cluster, and nothing goes without them. The others are
optional: they are followed while the cluster serves them and lets the watcher read them. To add a type, add it here,
and the reader of its objects.
"""

import re
from typing import NamedTuple

GATEWAY_API = "gateway.networking.k8s.io"
GATEWAY_API_EXPERIMENTS = "gateway.networking.x-k8s.io"
MULTICLUSTER_API = "multicluster.x-k8s.io"
ABOUT_API = "about.k8s.io"

_VERSION = re.compile(r"v1(?:(alpha|beta)([0-9]+))?")
"""The versions that are supported: v1, and its alphas and betas."""


class Resource(NamedTuple):
    """`frontier` is its name in frontiers (`PLURAL.GROUP`), `path` its collection below the API server's root ("" for
    an optional type whose served version is not yet known). `schema` identifies the schema that it is served by, where
    the server tells it."""

    kind: str
    frontier: str
    path: str = ""
    namespaced: bool = True
    schema: str = ""

    @property
    def group(self) -> str:
        """The API group; "" is the core's."""
        return self.frontier.partition(".")[2]

    def served_as(self, version: str, schema: str = "") -> "Resource":
        """The resource in this version of its API, by this schema."""
        root = f"/apis/{self.group}" if self.group else "/api"
        return self._replace(path=f"{root}/{version}/{self.frontier.partition('.')[0]}", schema=schema)


SERVICES = Resource("Service", "services", "/api/v1/services")
ENDPOINT_SLICES = Resource(
    "EndpointSlice", "endpointslices.discovery.k8s.io", "/apis/discovery.k8s.io/v1/endpointslices"
)
ENDPOINTS = Resource("Endpoints", "endpoints", "/api/v1/endpoints")
RESOURCES = (SERVICES, ENDPOINT_SLICES, ENDPOINTS)

CONTEXT = (
    Resource("Namespace", "namespaces", namespaced=False),
    Resource("Gateway", f"gateways.{GATEWAY_API}"),
    Resource("ListenerSet", f"listenersets.{GATEWAY_API}"),
    Resource("ReferenceGrant", f"referencegrants.{GATEWAY_API}"),
)
"""Types that affect no Service themselves, but the events of routes and Services."""

ROUTES = (
    Resource("HTTPRoute", f"httproutes.{GATEWAY_API}"),
    Resource("GRPCRoute", f"grpcroutes.{GATEWAY_API}"),
    Resource("TLSRoute", f"tlsroutes.{GATEWAY_API}"),
    Resource("TCPRoute", f"tcproutes.{GATEWAY_API}"),
    Resource("UDPRoute", f"udproutes.{GATEWAY_API}"),
)
TRAFFIC_POLICY = Resource("XBackendTrafficPolicy", f"xbackendtrafficpolicies.{GATEWAY_API_EXPERIMENTS}")
TLS_POLICY = Resource("BackendTLSPolicy", f"backendtlspolicies.{GATEWAY_API}")
POLICIES = (TRAFFIC_POLICY, TLS_POLICY)

SERVICE_EXPORT = Resource("ServiceExport", f"serviceexports.{MULTICLUSTER_API}")
CLUSTER_PROPERTY = Resource("ClusterProperty", f"clusterproperties.{ABOUT_API}", namespaced=False)
"""Of these only the one that names the cluster is used; it affects the events of ServiceExports."""

OPTIONAL = (*CONTEXT, *ROUTES, *POLICIES, SERVICE_EXPORT, CLUSTER_PROPERTY)

OPTIONAL_KINDS = frozenset(resource.kind for resource in OPTIONAL)
CONTEXT_KINDS = frozenset(resource.kind for resource in CONTEXT)
ROUTE_KINDS = frozenset(resource.kind for resource in ROUTES)
POLICY_KINDS = frozenset(resource.kind for resource in POLICIES)
ROUTING_KINDS = ROUTE_KINDS | POLICY_KINDS


def best_version(versions: list[str]) -> str | None:
    """The most mature supported version of those in which a type is served; None if there is none."""
    supported = [version for version in versions if _VERSION.fullmatch(version)]
    return max(supported, key=_maturity, default=None)


def _maturity(version: str) -> tuple[int, int]:
    match = _VERSION.fullmatch(version)
    stage, number = match.groups() if match else (None, None)
    return {None: 2, "beta": 1, "alpha": 0}[stage], int(number or 0)
