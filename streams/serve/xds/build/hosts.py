"""Names of single hosts of a headless set: HOSTNAME.CLUSTERID.SERVICE.NAMESPACE.svc.clusterset.local:PORT (KEP-1645,
specification, 2.4.1).

There may be many of them, so they are for clients that ask by name; no wildcard has any, and nothing is made of a host
before. A host is there while an endpoint has its hostname in the cluster with its id.
"""

from typing import NamedTuple

from msgspec import structs

from streams.facets.parsed_rows import BackendFacet
from streams.serve.xds.build.clusterset import SET_DOMAIN, ServiceSet
from streams.serve.xds.build.endpoints import has_endpoints
from streams.serve.xds.build.ports import PortId
from streams.serve.xds.build.service import Facets, Service
from streams.serve.xds.build.service_index import Key
from streams.serve.xds.build.service_resources import ServiceResources
from streams.wire.records import Group, SliceEndpoint


class HostName(NamedTuple):
    """The parts of a host's resource name. `set_name` is that of the set's same port."""

    hostname: str
    cluster_id: str
    service: Key
    set_name: str


def host_of(name: str) -> HostName | None:
    """What a host's resource name means; None for every other name. The first label is the hostname, the last two are
    the Service's name and namespace; what is between them is the id, which may have dots."""
    if SET_DOMAIN not in name:
        return None
    dns_name, colon, port = name.partition(":")
    if not dns_name.endswith(SET_DOMAIN):
        return None
    prefix = dns_name.removesuffix(SET_DOMAIN)
    if prefix.count(".") < 3:
        return None
    hostname, *id_labels, service, namespace = prefix.split(".")
    set_name = f"{service}.{namespace}{SET_DOMAIN}{colon}{port}"
    return HostName(hostname, ".".join(id_labels), (namespace, service), set_name)


class SetHosts:
    """The hosts of a set in one state, as their clients ask for them."""

    __slots__ = ("_resources", "_services")

    def __init__(self, service_set: ServiceSet, key: Key) -> None:
        self._services = _services_by_host(service_set, key)
        self._resources: dict[tuple[str, str], ServiceResources] = {}

    def resources(self, host: HostName, port: PortId) -> ServiceResources | None:
        """The resources of a host; None if it is not there, or has no endpoint with this port of the set."""
        at = host.hostname, host.cluster_id
        service = self._services.get(at)
        if service is None or not has_endpoints(service, port):
            return None
        if at not in self._resources:
            self._resources[at] = ServiceResources(service)
        return self._resources[at]


def _services_by_host(service_set: ServiceSet, key: Key) -> dict[tuple[str, str], Service]:
    """By hostname and cluster id, the set with nothing but the host's endpoints."""
    if not service_set.is_headless or service_set.properties is None:
        return {}
    whole = service_set.service(*key)
    ids = {export.cluster: export.id for export in service_set.properties.exports}
    services: dict[tuple[str, str], Service] = {}
    for facets in whole.clusters:
        for hostname, of_host in facets.derive(_facets_by_host).items():
            services[hostname, ids[facets.cluster]] = whole._replace(clusters=(of_host,))
    return services


def _facets_by_host(facets: Facets) -> dict[str, Facets]:
    """A cluster's part of the set, by hostname."""
    backends = _backends_by_host(facets.backend) if facets.backend is not None else {}
    return {hostname: facets._replace(backend=backend) for hostname, backend in backends.items()}


def _backends_by_host(backend: BackendFacet) -> dict[str, BackendFacet]:
    groups: dict[str, list[Group]] = {}
    for group in backend.groups:
        endpoints: dict[str, list[SliceEndpoint]] = {}
        for endpoint in group.endpoints:
            if endpoint.hostname:
                endpoints.setdefault(endpoint.hostname, []).append(endpoint)
        for hostname, own in endpoints.items():
            groups.setdefault(hostname, []).append(structs.replace(group, endpoints=own))
    return {hostname: structs.replace(backend, groups=own) for hostname, own in groups.items()}
