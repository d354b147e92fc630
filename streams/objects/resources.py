"""The resource types that are watched.

Services, EndpointSlices and legacy Endpoints are in every cluster, and nothing goes without them. The others are
optional: they are followed where the cluster serves them and lets the watcher read them, from when it does until it
no longer does. Adding a type here (and what is made of its objects) is all that it takes.
"""

import re
from typing import NamedTuple

GATEWAY_API = "gateway.networking.k8s.io"
GATEWAY_API_EXPERIMENTS = "gateway.networking.x-k8s.io"

_VERSION = re.compile(r"v1(?:(alpha|beta)([0-9]+))?")
"""The versions whose form is known: of v1, and those on the way to it."""


class Resource(NamedTuple):
    """`frontier` is its name in frontiers (`PLURAL.GROUP`), `path` its collection below the API server's root (of an
    optional one, as long as it is not known in which version it is served, ""). `schema` names the schema that it is
    served by, where the server says."""

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
"""Types that bear on no Service themselves, but on what routes and Services say."""

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

OPTIONAL = (*CONTEXT, *ROUTES, *POLICIES)

CONTEXT_KINDS = frozenset(each.kind for each in CONTEXT)
ROUTE_KINDS = frozenset(each.kind for each in ROUTES)
POLICY_KINDS = frozenset(each.kind for each in POLICIES)
ROUTING_KINDS = ROUTE_KINDS | POLICY_KINDS


def best_version(versions: list[str]) -> str | None:
    """Of the versions in which a type is served the most mature whose form is known, None if there is none."""
    known = [version for version in versions if _VERSION.fullmatch(version)]
    return max(known, key=_maturity, default=None)


def _maturity(version: str) -> tuple[int, int]:
    found = _VERSION.fullmatch(version)
    stage, number = found.groups() if found else (None, None)
    return {None: 2, "beta": 1, "alpha": 0}[stage], int(number or 0)
