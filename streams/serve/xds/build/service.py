"""One Service as its rows in one or several clusters say it: what the xDS resources are built from."""

from collections.abc import Container
from typing import Any, NamedTuple

import msgspec

from streams.subscription.delivery import Row
from streams.wire.records import AsOf, Cause, Group, ServicePort, ServiceType
from streams.wire.routing_records import SessionPersistence
from streams.wire.timestamps import read, write


class FrontendFacet(msgspec.Struct, rename="camel"):
    """What of a frontend row bears on xDS."""

    version: int
    state: str
    type: ServiceType
    cluster_ips: list[str] = msgspec.field(name="clusterIPs")
    ip_families: list[str]
    dns_name: str
    external_name: str | None
    headless: bool
    ports: list[ServicePort]
    session_affinity: str
    traffic_distribution: str | None
    internal_traffic_policy: str | None
    publish_not_ready_addresses: bool
    as_of: AsOf


class BackendFacet(msgspec.Struct, rename="camel"):
    """What of a backend row bears on xDS."""

    version: int
    state: str
    groups: list[Group]
    as_of: AsOf


class DirectionFacet(msgspec.Struct, rename="camel"):
    """A routing row's choice for one direction."""

    decision: str
    reason: str = ""
    session_persistence: SessionPersistence | None = None


class MeshFacet(DirectionFacet):
    """A routing row's choice in the mesh: the producer's, and by namespace the consumers'."""

    consumers: dict[str, DirectionFacet] = {}


class RoutingFacet(msgspec.Struct, rename="camel"):
    """What of a routing row bears on xDS."""

    version: int
    state: str
    gateway: DirectionFacet
    mesh: MeshFacet
    as_of: AsOf


_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    "frontend": msgspec.json.Decoder(FrontendFacet),
    "backend": msgspec.json.Decoder(BackendFacet),
    "routing": msgspec.json.Decoder(RoutingFacet),
}


class _Caused(msgspec.Struct):
    cause: list[Cause] = []


_decode_caused = msgspec.json.Decoder(_Caused).decode


def triggered(row: Row) -> str:
    """When the first of the things happened that led to a row; "" where no object says so, or in no way to be read."""
    times = []
    for cause in _decode_caused(row.value).cause:
        if cause.trigger:
            try:
                times.append(write(read(cause.trigger)))
            except ValueError:
                continue
    return min(times, default="")


class Facets(NamedTuple):
    """The rows of one Service in one cluster; None where none is held. A backend or frontend that is None while the
    other is there is unknown, not empty: rows of a Service are only ever deleted together."""

    cluster: str
    frontend: FrontendFacet | None = None
    backend: BackendFacet | None = None
    routing: RoutingFacet | None = None

    def with_row(self, row: Row) -> "Facets":
        """With this row in the place of the one held. `unknown` keeps what was known before: a set that may be out
        of date serves better than none. `stale` says so itself and carries the last set."""
        decoded = _decoders[row.table].decode(row.value)
        if decoded.state == "deleted":
            decoded = None
        elif decoded.state == "unknown":
            return self
        held: dict[str, Any] = {row.table: decoded}
        return self._replace(**held)

    def only(self, tables: Container[str]) -> "Facets":
        """Without the rows of other tables."""
        return Facets(
            self.cluster,
            self.frontend if "frontend" in tables else None,
            self.backend if "backend" in tables else None,
            self.routing if "routing" in tables else None,
        )

    @property
    def rows(self) -> list[FrontendFacet | BackendFacet | RoutingFacet]:
        """The rows that are held."""
        return [row for row in (self.frontend, self.backend, self.routing) if row is not None]

    @property
    def gone(self) -> bool:
        """Whether nothing is held any more."""
        return self.frontend is None and self.backend is None


class Service(NamedTuple):
    """One Service in every cluster that is followed, ordered by cluster."""

    namespace: str
    name: str
    clusters: tuple[Facets, ...]

    def of_name(self, dns_name: str) -> "Service":
        """Only the clusters in which the Service has this DNS name (their domains may differ)."""
        return self._replace(
            clusters=tuple(each for each in self.clusters if each.frontend and each.frontend.dns_name == dns_name)
        )
