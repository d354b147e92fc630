"""Whatever three clusters export, change and take back, a client gets of the clusterset's names what KEP-1645 says, and
under a Service's own name that of its own cluster alone."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from msgspec import structs

from streams.serve.xds.build import assignment as assignments
from streams.serve.xds.build import clusterset, endpoints, hosts
from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.client import Client
from streams.serve.xds.build.clusterset import ServiceSet
from streams.serve.xds.build.hosts import SetHosts
from streams.serve.xds.build.service import Service
from tests.properties.clustersets import History
from tests.properties.xds_clustersets import check_clusterset_names, check_host_names, check_own_names, histories
from tests.support.xds_checks import Refused


@given(histories)
def test_clusterset_names_have_the_endpoints_of_those_that_export(drawn: History) -> None:
    check_clusterset_names(drawn)


@given(histories)
def test_a_services_own_name_has_the_endpoints_of_the_clients_cluster_alone(drawn: History) -> None:
    check_own_names(drawn)


@given(histories)
def test_a_hosts_name_has_the_endpoints_of_that_host_in_that_cluster(drawn: History) -> None:
    check_host_names(drawn)


@given(histories)
def test_a_set_that_is_joined_from_its_clusters_parts_is_as_one_that_is_built(drawn: History) -> None:
    real = assignments._join

    def join(*of: Any) -> bytes:
        joined = real(*of)
        assert not joined or joined == assignments.assignment(*of).SerializeToString(deterministic=True)
        return joined

    with patch.object(assignments, "_join", join):
        check_clusterset_names(drawn)


# ---- planted faults ---------------------------------------------------------------------------------------


def _services_are_merged_without_an_export() -> AbstractContextManager[Any]:
    real = Catalog._service

    def merged(self: Catalog, unit: Any) -> Service:
        service_set = real(self, unit)
        if service_set.locality is None or not service_set.clusters:
            return service_set
        name = service_set.clusters[0].frontend.dns_name  # type: ignore[union-attr]
        exporting = {facets.cluster for facets in service_set.clusters}
        others = [
            facets._replace(frontend=structs.replace(facets.frontend, dns_name=name), routing=None)
            for cluster, facets in sorted(self.index.services.get((unit.namespace, unit.name), {}).items())
            if cluster not in exporting and facets.frontend is not None and facets.frontend.type != "ExternalName"
        ]
        return service_set._replace(clusters=(*service_set.clusters, *others))

    return patch.object(Catalog, "_service", merged)


def _an_unexport_takes_nothing_away() -> AbstractContextManager[Any]:
    real = ServiceSet.with_row

    def with_row(self: ServiceSet, row: Any) -> ServiceSet:
        after = real(self, row)
        if self.properties is None:
            return after
        fewer = after.properties is None or len(after.properties.exports) < len(self.properties.exports)
        return self if fewer else after

    return patch.object(ServiceSet, "with_row", with_row)


def _the_first_name_wins_and_not_the_oldest_export() -> AbstractContextManager[Any]:
    return patch.object(clusterset, "precedence", lambda _, cluster_id: cluster_id)


def _nobodys_own_endpoints_come_first() -> AbstractContextManager[Any]:
    real = endpoints.without_shared_addresses
    return patch.object(endpoints, "without_shared_addresses", lambda candidates, _: real(candidates, ""))


def _ports_go_to_all_clusters() -> AbstractContextManager[Any]:
    real = clusterset._frontend

    def frontend(properties: Any, export: Any) -> Any:
        for port in properties.ports:
            port.clusters.setdefault(export.id, port.name)
        return real(properties, export)

    return patch.object(clusterset, "_frontend", frontend)


def _the_sets_names_of_ports_are_looked_up_in_the_endpoints() -> AbstractContextManager[Any]:
    return patch.object(clusterset, "_port", lambda port, _: _real_port(port, port.name))


def _own_names_are_merged() -> AbstractContextManager[Any]:
    real = Catalog._service

    def merged(self: Catalog, unit: Any) -> Service:
        found = real(self, unit)
        of_all = self.index.services.get((unit.namespace, unit.name), {})
        return found if found.locality is not None else found._replace(clusters=tuple(of_all.values()))

    return patch.object(Catalog, "_service", merged)


def _another_clusters_service_stands_in() -> AbstractContextManager[Any]:
    real = Catalog.cluster_for

    def cluster_for(self: Catalog, name: str, client: Client) -> Any:
        own = real(self, name, client)
        return own if own in self._names.get(name, {}) else real(self, name, Client())

    return patch.object(Catalog, "cluster_for", cluster_for)


def _hosts_of_a_name_are_one_in_all_clusters() -> AbstractContextManager[Any]:
    """As if the hostname alone named a host: another cluster's answers."""
    real = hosts._services_by_host

    def services(service_set: Any, key: Any) -> Any:
        found = real(service_set, key)
        first: dict[str, Any] = {}
        for (hostname, _), service in found.items():
            first.setdefault(hostname, service)
        ids = [export.id for export in service_set.properties.exports] if service_set.properties else []
        return {(hostname, cluster_id): service for hostname, service in first.items() for cluster_id in ids}

    return patch.object(hosts, "_services_by_host", services)


def _hosts_are_named_by_their_clusters_name() -> AbstractContextManager[Any]:
    real = ServiceSet.service

    def service(self: ServiceSet, *key: str) -> Service:
        for export in self.properties.exports if self.properties else ():
            export.id = export.cluster
        return real(self, *key)

    return patch.object(ServiceSet, "service", service)


def _a_host_has_its_clusters_other_endpoints() -> AbstractContextManager[Any]:
    real = hosts._backends_by_host
    return patch.object(hosts, "_backends_by_host", lambda backend: dict.fromkeys(real(backend), backend))


def _hosts_of_a_cluster_ip_have_names() -> AbstractContextManager[Any]:
    return patch.object(ServiceSet, "is_headless", True)


def _hosts_are_kept_as_they_were() -> AbstractContextManager[Any]:
    real = Catalog._rename

    def rename(self: Catalog, unit: Any) -> Any:
        before = self._hosts.get(unit.service)
        names = real(self, unit)
        # As a server has it that was asked before.
        self._hosts[unit.service] = before or SetHosts(self.index.set_of(unit.service), unit.service)
        return names

    return patch.object(Catalog, "_rename", rename)


_real_port = clusterset._port
_PLANTED: list[Callable[[], AbstractContextManager[Any]]] = [
    _services_are_merged_without_an_export,
    _an_unexport_takes_nothing_away,
    _the_first_name_wins_and_not_the_oldest_export,
    _nobodys_own_endpoints_come_first,
    _ports_go_to_all_clusters,
    _the_sets_names_of_ports_are_looked_up_in_the_endpoints,
]


_PLANTED_IN_OWN = [_own_names_are_merged, _another_clusters_service_stands_in]
_PLANTED_IN_HOSTS = [
    _hosts_of_a_name_are_one_in_all_clusters,
    _hosts_are_named_by_their_clusters_name,
    _a_host_has_its_clusters_other_endpoints,
    _hosts_of_a_cluster_ip_have_names,
    _hosts_are_kept_as_they_were,
]


@pytest.mark.parametrize(
    "plant",
    _PLANTED + _PLANTED_IN_OWN + _PLANTED_IN_HOSTS,
    ids=lambda plant: plant.__name__.strip("_").replace("_", "-"),
)
def test_a_planted_fault_is_seen(plant: Callable[[], AbstractContextManager[Any]]) -> None:
    @seed(1)
    @settings(max_examples=500, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    @given(histories)
    def violated(drawn: History) -> None:
        if plant in _PLANTED_IN_HOSTS:
            check_host_names(drawn)
        elif plant in _PLANTED_IN_OWN:
            check_own_names(drawn)
        else:
            check_clusterset_names(drawn)

    with plant(), pytest.raises(Refused):
        violated()
