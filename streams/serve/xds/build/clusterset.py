"""A Service of the clusterset (KEP-1645), as its rows have it: the set, and what each cluster contributes.

For the resources it is a Service like any other, in the clusters that count in it: each has the set's properties, and
its own endpoints under those of the set's ports that it exposes. No cluster's own Service is asked, so that nothing of
one that is not exported gets in.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import structs

from streams.facets.parsed_rows import (
    BackendFacet,
    ContributionFacet,
    DirectionFacet,
    Facet,
    FrontendFacet,
    MeshFacet,
    RoutingFacet,
    SetFacet,
)
from streams.facets.service_set import DNS_ZONE, precedence
from streams.serve.xds.build.service import Service, SetPart
from streams.subscription.rows import Row
from streams.wire.clusterset_records import CLUSTER_ID, NO_PREFERENCE, Locality, SetExport, SetPort
from streams.wire.records import ServicePort, State

SET_DOMAIN = f".svc.{DNS_ZONE}"
"""How the DNS name of a set ends, and of its hosts."""


class Contribution(NamedTuple):
    """A cluster's contribution: the newest row that could be read (None: there was none), and whether a later one
    could not."""

    facet: ContributionFacet | None
    is_unknown: bool


class _Made(NamedTuple):
    """A cluster's part, and what it was made of."""

    properties: SetFacet
    contribution: ContributionFacet | None
    part: SetPart


class ServiceSet(NamedTuple):
    """The set (None: nobody exports), and the contributions by cluster. `made` are the parts of which the set's
    resources were built last, for the next ones."""

    properties: SetFacet | None = None
    contributions: Mapping[str, Contribution] = {}
    made: dict[str, _Made] | None = None

    def with_row(self, row: Row) -> "ServiceSet":
        """With this row in place of the previous one. As with a Service's own rows, a contribution that is `unknown`
        keeps the endpoints that it had."""
        facet: Any = row.facet
        made = {} if self.made is None else self.made
        if not row.cluster:
            return self._replace(properties=None if facet.state == "deleted" else facet, made=made)
        contributions = dict(self.contributions)
        before = contributions.pop(row.cluster, Contribution(None, is_unknown=False))
        if facet.state != "deleted":
            counting = before.facet if facet.tells_nothing else facet
            contributions[row.cluster] = Contribution(counting, facet.state == "unknown")
        return self._replace(contributions=contributions, made=made)

    def only(self, clusters: Iterable[str]) -> "ServiceSet":
        """Without the contributions of other clusters."""
        kept = {name: self.contributions[name] for name in clusters if name in self.contributions}
        return self._replace(contributions=kept)

    @property
    def is_absent(self) -> bool:
        """Whether there is no row of it."""
        return self.properties is None and not self.contributions

    @property
    def is_unknown(self) -> bool:
        """Whether a cluster's newest contribution is not known. It may have endpoints, or make the set."""
        return any(contribution.is_unknown for contribution in self.contributions.values())

    def is_partial_in(self, cluster_id: str) -> bool:
        """Whether endpoints of the cluster with this id may be missing: it counts, and not all could be read."""
        exports = self.properties.exports if self.properties is not None else ()
        counted = (self.contributions.get(each.cluster) for each in exports if each.counted and each.id == cluster_id)
        return any(each is None or each.facet is None or each.facet.is_partial for each in counted)

    @property
    def is_headless(self) -> bool:
        """Whether its hosts have names of their own."""
        return self.properties is not None and self.properties.type == "Headless"

    @property
    def rows(self) -> list[Facet]:
        """The rows that exist."""
        own: list[Facet | None] = [self.properties, *(each.facet for each in self.contributions.values())]
        return [row for row in own if row is not None]

    def ports(self) -> tuple[str, list[ServicePort]]:
        """The set's DNS name and its ports; none while no export is valid."""
        if self.properties is None or self.properties.type is None:
            return "", []
        return self.properties.dns_name, [_port(port, port.name) for port in self.properties.ports]

    def service(self, namespace: str, name: str) -> Service:
        """The Service in the clusters that count, by their precedence."""
        made = {} if self.made is None else self.made
        return Service(namespace, name, tuple(self._clusters(made)), self._locality())

    def _locality(self) -> Locality:
        if self.properties is None:
            return NO_PREFERENCE
        names = {f"{CLUSTER_ID}{export.id}": f"{CLUSTER_ID}{export.cluster}" for export in self.properties.exports}
        locality = self.properties.locality
        return structs.replace(locality, prefer=[names.get(place, place) for place in locality.prefer])

    def _clusters(self, made: dict[str, _Made]) -> Iterator[SetPart]:
        """By precedence; those of which nothing has changed are those that were `made` before."""
        properties = self.properties
        if properties is None:
            made.clear()
            return
        routing = _routing(properties)
        counted = [export for export in properties.exports if export.counted]
        for cluster in made.keys() - {export.cluster for export in counted}:
            del made[cluster]
        for export in sorted(counted, key=lambda export: precedence(export.created, export.id)):
            contribution = self.contributions.get(export.cluster)
            facet = contribution.facet if contribution is not None else None
            before = made.get(export.cluster)
            if before is None or before.properties is not properties or before.contribution is not facet:
                backend = None if facet is None else BackendFacet(*_head(facet), facet.groups)
                part = SetPart(export.cluster, _frontend(properties, export), backend, routing)
                before = made[export.cluster] = _Made(properties, facet, part)
            yield before.part


def is_set_name(name: str) -> bool:
    """Whether a resource name is one of the clusterset: SERVICE.NAMESPACE.svc.clusterset.local:PORT, or a host's."""
    return name.partition(":")[0].endswith(SET_DOMAIN)


def _frontend(properties: SetFacet, export: SetExport) -> FrontendFacet:
    """How the set is reached in one cluster: with the ports that it exposes. Each has the set's number, and the name
    that the cluster's endpoints have for it."""
    return FrontendFacet(
        *_head(properties),
        "ClusterIP",
        [],
        properties.ip_families,
        properties.dns_name,
        None,
        properties.type == "Headless",
        [_port(port, port.clusters[export.id]) for port in properties.ports if export.id in port.clusters],
        properties.session_affinity,
        properties.traffic_distribution,
        properties.internal_traffic_policy,
        False,
    )


def _routing(properties: SetFacet) -> RoutingFacet:
    """Nobody claims a ClusterSetIP, so clients go to the endpoints."""
    reason = "Headless" if properties.type == "Headless" else "NoClusterSetIP"
    return RoutingFacet(*_head(properties), DirectionFacet("endpoint", reason), MeshFacet("endpoint", reason))


def _port(port: SetPort, name: str) -> ServicePort:
    return ServicePort(name, port.port, port.protocol, port.app_protocol, "")


def _head(facet: Facet) -> tuple[int, int | None, State, str, tuple[str, ...], bool]:
    return facet.version, facet.previous, facet.state, facet.at, facet.triggers, facet.is_partial
