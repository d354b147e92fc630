"""A gate: whether an address is gone from, or is in, a Service's endpoint set as each connected router has it.

An address counts where new requests may go to it. One that is not healthy, or drains (it terminates but still serves),
does not: a Pod that waits for this in its preStop hook is listed as draining until the hook returns. Sticky sessions
may still go there.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from envoy.config.core.v3.health_check_pb2 import HealthStatus
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.clusterset import is_set_name
from streams.serve.xds.build.resource import Absence, Resource
from streams.serve.xds.build.service_index import Key
from streams.serve.xds.server import Connection, XdsServer

_IN_USE = (HealthStatus.UNKNOWN, HealthStatus.HEALTHY)
"""Both Envoy and gRPC send requests to these alone (gRFC A27), but for sticky sessions."""


class Target(NamedTuple):
    """What is waited for: the address, at one of the ports (none: at any), in one cluster ("": any), to be there or
    not."""

    address: IPv4Address | IPv6Address
    ports: tuple[int, ...]
    cluster: str
    present: bool


class RouterState(NamedTuple):
    """What is known of a router that follows the Service: the newest version that it acknowledged (-1: none), and
    whether the set that it acknowledged is as is waited for."""

    number: int
    node: str
    acked: int
    passed: bool


class Gate:
    """The gate of one Service, in the clusters that have it and in the clusterset. Evaluate it at every change;
    `sealed` is whether the newest sealed sets are as is waited for, `routers` those that follow the Service (for an
    address to be present: that are given the endpoints of a cluster that has it).

    Sealed sets change faster than they are looked at here, so a router has only passed when it acknowledged the version
    at which its own set was last found changed, or a newer one.
    """

    def __init__(self, server: XdsServer, key: Key, target: Target) -> None:
        self.sealed = False
        self.routers: list[RouterState] = []
        self._server = server
        self._key = key
        self._target = target
        self._since: dict[int, tuple[tuple[str, ...], int]] = {}
        self._parsed: dict[str, bool] = {}

    def evaluate(self) -> None:
        """Look at the server's state as it is now."""
        catalog = self._server.catalog
        names = catalog.names_of(self._key)
        views = [("", [name for name in names if is_set_name(name)])]
        views += [
            (cluster, [name for name in names if not is_set_name(name)]) for cluster in catalog.clusters_with(self._key)
        ]
        has = {cluster: self._set_of(catalog, _client_in(cluster), of_view)[1] for cluster, of_view in views}
        is_anywhere = None if None in has.values() else any(has.values())
        self.sealed = is_anywhere is self._target.present
        clusters = {cluster for cluster, of_cluster in has.items() if of_cluster}
        waits_for_all = not (self.sealed and self._target.present)
        states = (
            self._router(catalog, connection, None if waits_for_all else clusters)
            for connection in self._server.connections.values()
        )
        self.routers = [state for state in states if state is not None]

    def _router(self, catalog: Catalog, connection: Connection, clusters: set[str] | None) -> RouterState | None:
        """A router that follows the Service. One whose own cluster is not among `clusters` can't get the address by the
        Service's own name: that is another Service there. Nor can it by the name of another host than has it."""
        standing = connection.ledger.standing(self._key, catalog, 0.0)
        if standing is None:
            return None
        client = connection.stream.client
        names = [
            name
            for name in catalog.names_for(self._key, client)
            if connection.stream.follows((name,))
            and (clusters is None or is_set_name(name) or catalog.cluster_for(name, client) in clusters)
        ]
        hosts = sorted(connection.stream.hosts_of(self._key))
        names += [name for name in hosts if clusters is None or self._set_of(catalog, client, (name,))[1] is not False]
        if not names and clusters is not None:
            return None
        versions, has = self._set_of(catalog, client, names)
        known = self._since.get(connection.number)
        if known is None or known[0] != versions:
            known = self._since[connection.number] = versions, catalog.newest(self._key)[0]
        passed = has is self._target.present and standing.acked >= known[1]
        return RouterState(connection.number, connection.node, standing.acked, passed)

    def _set_of(self, catalog: Catalog, client: Client, names: Iterable[str]) -> tuple[tuple[str, ...], bool | None]:
        """The versions of endpoint sets as the client gets them, and whether the address is in one; None if that is not
        known."""
        answers = [catalog.resource("eds", name, client) for name in names]
        sets = [answer for answer in answers if isinstance(answer, Resource)]
        has = None if Absence.UNKNOWN in answers else any(self._has(answer) for answer in sets)
        return tuple(answer.version for answer in sets), has

    def _has(self, resource: Resource) -> bool:
        if resource.version not in self._parsed:
            if len(self._parsed) > 1000:
                self._parsed.clear()
            self._parsed[resource.version] = self._find(ClusterLoadAssignment.FromString(resource.body.value))
        return self._parsed[resource.version]

    def _find(self, assignment: ClusterLoadAssignment) -> bool:
        for locality in assignment.endpoints:
            for endpoint in locality.lb_endpoints:
                at = endpoint.endpoint.address.socket_address
                cluster = endpoint.metadata.filter_metadata["facets"].fields["cluster"].string_value
                if (
                    self._is_address(at.address)
                    and (not self._target.ports or at.port_value in self._target.ports)
                    and self._target.cluster in {"", cluster}
                    and endpoint.health_status in _IN_USE
                ):
                    return True
        return False

    def _is_address(self, text: str) -> bool:
        try:
            return ip_address(text) == self._target.address
        except ValueError:
            return False  # A DNS name.


def _client_in(cluster: str) -> Client:
    return Client(Place(cluster=cluster))
