"""An xDS client that follows everything, and notes what refers to something that it doesn't have.

"Eventual consistency considerations" of the xDS protocol: what is referred to comes first and goes last.
"""

from collections.abc import Collection, Iterable, Set
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)

from streams.serve.xds.build.client import Client
from streams.serve.xds.build.resource import Resource
from streams.serve.xds.protocol.delta import DeltaStream
from streams.serve.xds.protocol.sotw import SotwStream
from tests.support.xds_checks import Refused, check_resource

_URLS = {
    "cds": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "eds": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "lds": "type.googleapis.com/envoy.config.listener.v3.Listener",
    "rds": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}
_KINDS = {url: kind for kind, url in _URLS.items()}


class Follower:
    """Has all clusters, the listeners of `names`, and by them routes and endpoints; what no wildcard has (`hosts`) it
    asks for by name. With `grpc` it has the clusters that its routes name. It acknowledges what it gets."""

    def __init__(
        self, catalog: Any, names: list[str], client: Client, *, delta: bool, hosts: Collection[str] = ()
    ) -> None:
        self.catalog, self.client, self.delta = catalog, client, delta
        self.stream: Any = DeltaStream(client) if delta else SotwStream(client)
        self.resources: dict[str, dict[str, Any]] = {kind: {} for kind in _URLS}
        self._bodies: dict[tuple[str, str], bytes] = {}
        self._subscribed: dict[str, set[str]] = {}
        self._nonce: dict[str, str] = {}
        if not client.grpc:
            self._subscribe("cds", {"*", *hosts})
        self._subscribe("lds", {*names, *hosts})
        self.follow()

    def follow(self, changed: Set[str] = frozenset(), of_hosts: Iterable[tuple[str, str]] = ()) -> None:
        """Take all that comes after these names have changed, and the hosts of these sets. Raises Refused for what a
        client would refuse, and for what refers to nothing."""
        self.stream.touch(changed)
        for key in of_hosts:
            self.stream.touch_hosts(key)
        while bodies := [response.body for response in self.stream.advance(self.catalog)]:
            for body in bodies:
                self._take(body)
            self._subscribe_to_references()
        self._check_references(is_settled=True)
        self._check_newest()

    def _take(self, body: bytes) -> None:
        response: Any = (DeltaDiscoveryResponse if self.delta else DiscoveryResponse).FromString(body)
        kind = _KINDS[response.type_url]
        self._nonce[kind] = response.nonce
        if self.delta:
            bodies = [(entry.name, entry.resource.value) for entry in response.resources]
            removed = list(response.removed_resources)
        else:
            bodies = [(_name_in(kind, entry.value), entry.value) for entry in response.resources]
            names = {name for name, _ in bodies}
            removed = [name for name in self.resources[kind] if name not in names] if kind in {"cds", "lds"} else []
        for name, content in bodies:
            self.resources[kind][name] = check_resource(kind, name, content, grpc=self.client.grpc)
            self._bodies[kind, name] = content
        for name in removed:
            self.resources[kind].pop(name, None)
            if not self.delta:
                # There is no other way to remove these: they go with what refers to them.
                self.resources[{"cds": "eds", "lds": "rds"}[kind]].pop(name, None)
        self._check_references(is_settled=False)
        self._subscribe(kind, self._subscribed[kind], is_answer=True)

    def _subscribe_to_references(self) -> None:
        self._subscribe("rds", {_route_name(listener) for listener in self.resources["lds"].values()})
        if self.client.grpc:
            self._subscribe("cds", set(self._clusters_in_routes()))
        clusters = self.resources["cds"].items()
        self._subscribe("eds", {name for name, cluster in clusters if cluster.type == Cluster.EDS})

    def _subscribe(self, kind: str, names: set[str], *, is_answer: bool = False) -> None:
        before = self._subscribed.get(kind)
        if names == before and not is_answer:
            return
        if before is None and not names:
            return
        self._subscribed[kind] = names
        nonce = self._nonce.get(kind, "")
        request: Any
        if self.delta:
            added, removed = names - (before or set()), (before or set()) - names
            for name in removed:
                self.resources[kind].pop(name, None)
            request = DeltaDiscoveryRequest(
                type_url=_URLS[kind],
                resource_names_subscribe=sorted(added),
                resource_names_unsubscribe=sorted(removed),
                response_nonce=nonce if is_answer else "",
            )
        else:
            if before is not None and "*" not in names:
                for name in before - names:
                    self.resources[kind].pop(name, None)
            request = DiscoveryRequest(type_url=_URLS[kind], resource_names=sorted(names), response_nonce=nonce)
        self.stream.take(request, self.catalog)

    def _clusters_in_routes(self) -> list[str]:
        configurations = self.resources["rds"].values()
        return [
            route.route.cluster for routes in configurations for host in routes.virtual_hosts for route in host.routes
        ]

    def _check_references(self, *, is_settled: bool) -> None:
        """Routes refer to clusters. Once nothing more comes, listeners have routes; whether a cluster has endpoints is
        for the rows to say. A gRPC client asks for its clusters after it has the routes."""
        if is_settled or not self.client.grpc:
            for name in self._clusters_in_routes():
                if name not in self.resources["cds"]:
                    raise Refused(f"a route to a cluster that the client doesn't have: {name}")
        if is_settled:
            for listener in self.resources["lds"].values():
                if _route_name(listener) not in self.resources["rds"]:
                    raise Refused(f"a listener without its routes: {listener.name}")

    def _check_newest(self) -> None:
        """Of what the client has asked for and acknowledged it has the newest state."""
        for kind, names in self._subscribed.items():
            for name in names:
                newest = self.catalog.resource(kind, name, self.client)
                if isinstance(newest, Resource) and self._bodies.get((kind, name)) != newest.body.value:
                    raise Refused(f"a client that was not told of a change: {kind} {name}")


def _route_name(listener: Any) -> str:
    manager = HttpConnectionManager()
    listener.api_listener.api_listener.Unpack(manager)
    return manager.rds.route_config_name


def _name_in(kind: str, content: bytes) -> str:
    from tests.support.xds_checks import MESSAGES

    message = MESSAGES[kind].FromString(content)
    return str(message.cluster_name if kind == "eds" else message.name)
