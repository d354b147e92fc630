"""Faults of the xDS resources, planted to show that the checks see them: each leaves one rule out of the real code, or
makes one message as a client would refuse it. `seen_as` is how the check names it."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest.mock import patch

from streams.serve.xds.build import assignment as assignments
from streams.serve.xds.build import catalog, clusterset, endpoints, resources, service_resources
from streams.serve.xds.build.service import Service
from streams.serve.xds.protocol import stream
from tests.properties.xds_worlds import Step, check_followers, check_resources, check_unknown

Plant = Callable[[], AbstractContextManager[Any]]
Check = Callable[[list[Step]], None]


class Fault(NamedTuple):
    """How the fault gets in, and how it is seen: by which check, and what it says."""

    plant: Plant
    seen_as: str
    check: Check


PLANTED: dict[str, Fault] = {}


def _fault(seen_as: str, check: Check = check_resources) -> Callable[[Plant], Plant]:
    def register(plant: Plant) -> Plant:
        PLANTED[plant.__name__.strip("_").replace("_", "-")] = Fault(plant, seen_as, check)
        return plant

    return register


def _changed(module: Any, name: str, change: Callable[[Any], None]) -> AbstractContextManager[Any]:
    """With a change to each message that a function makes."""
    real = getattr(module, name)

    def build(*arguments: Any, **named: Any) -> Any:
        message = real(*arguments, **named)
        change(message)
        return message

    return patch.object(module, name, build)


# ---- endpoint sets -----------------------------------------------------------------------------------------


@_fault("an address twice")
def _two_clusters_have_one_address() -> AbstractContextManager[Any]:
    return patch.object(endpoints, "without_shared_addresses", lambda found, _: list(found))


@_fault("is (east|west)'s for")
def _the_first_cluster_has_a_shared_address_for_all() -> AbstractContextManager[Any]:
    real = endpoints.without_shared_addresses
    return patch.object(endpoints, "without_shared_addresses", lambda found, _: real(found, ""))


@_fault("not in the rows, or not for")
def _a_nodes_name_counts_in_every_cluster() -> AbstractContextManager[Any]:
    return patch.object(endpoints, "is_on_node", lambda endpoint, _, node: endpoint.source.node == node)


@_fault("no usable endpoint")
def _nothing_that_terminates_is_used() -> AbstractContextManager[Any]:
    return patch.object(endpoints, "all", lambda _: False, create=True)


@_fault("a Service that is not the client's|is not in the rows|cluster IPs")
def _every_client_gets_the_first_clusters_service() -> AbstractContextManager[Any]:
    real = catalog.Catalog.cluster_for

    def first(self: Any, name: str, _: Any) -> Any:
        return real(self, name, catalog.UNPLACED)

    return patch.object(catalog.Catalog, "cluster_for", first)


@_fault("is not in the rows|cluster IPs|is (east|west)'s for|an address twice|no usable endpoint|two servers differ")
def _services_of_one_name_are_merged() -> AbstractContextManager[Any]:
    real = catalog.Catalog._service

    def merged(self: Any, unit: Any) -> Service:
        found = real(self, unit)
        if found.locality is not None:
            return found
        of_all = self.index.services[unit.namespace, unit.name]
        return found._replace(clusters=tuple(facets for _, facets in sorted(of_all.items())))

    return patch.object(catalog.Catalog, "_service", merged)


@_fault("no resource although")
def _another_clusters_name_hides_the_own() -> AbstractContextManager[Any]:
    real = catalog.Catalog._rename

    def rename(self: Any, unit: Any) -> Any:
        names = real(self, unit)
        for name in names:
            for other in [cluster for cluster in self._names[name] if cluster not in {"", unit.cluster}]:
                self._names[name].pop(other)
                self._of_unit.pop(unit._replace(cluster=other), None)
        return names

    return patch.object(catalog.Catalog, "_rename", rename)


@_fault("not known to be empty", check_unknown)
def _unknown_passes_for_empty() -> AbstractContextManager[Any]:
    return patch.object(service_resources, "is_known", lambda _: True)


@_fault("not known to be empty")
def _a_set_without_healthy_endpoints_is_emptied() -> AbstractContextManager[Any]:
    def empty(message: Any) -> None:
        if all(entry.health_status != 1 for part in message.endpoints for entry in part.lb_endpoints):
            del message.endpoints[:]

    return _changed(assignments, "assignment", empty)


@_fault("priorities with holes")
def _priorities_as_ranked() -> AbstractContextManager[Any]:
    return patch.object(assignments, "enumerate", lambda levels: [(level, level) for level in levels], create=True)


@_fault("locality without weight")
def _weight_by_healthy_endpoints_alone() -> AbstractContextManager[Any]:
    return patch.object(assignments, "max", lambda _, healthy: healthy, create=True)


@_fault("locality twice")
def _a_locality_for_each_endpoint() -> AbstractContextManager[Any]:
    real = assignments._add_locality

    def one_each(message: Any, place: Any, members: list[Any], transport: Any, decision: Any) -> None:
        for member in members:
            real(message, place, [member], transport, decision)

    return patch.object(assignments, "_add_locality", one_each)


@_fault("locality without endpoints")
def _a_locality_of_no_endpoints() -> AbstractContextManager[Any]:
    def add(message: Any) -> None:
        message.endpoints.add().load_balancing_weight.value = 1

    return _changed(assignments, "assignment", add)


@_fault("one address in two forms")
def _addresses_as_they_are_written() -> AbstractContextManager[Any]:
    return patch.object(endpoints, "canonical", lambda address: address.replace("::", ":0::"))


@_fault("cluster_name is")
def _the_set_is_named_after_the_service() -> AbstractContextManager[Any]:
    def rename(message: Any) -> None:
        message.cluster_name = message.cluster_name.partition(":")[0]

    return _changed(assignments, "assignment", rename)


# ---- what else clients refuse ------------------------------------------------------------------------------


@_fault("a UDP endpoint for gRPC")
def _grpc_gets_udp_ports() -> AbstractContextManager[Any]:
    real = service_resources.ServiceResources.resource

    def resource(self: Any, kind: Any, name: str, named: Any, client: Any) -> Any:
        return real(self, kind, name, named, client._replace(grpc=False))

    return patch.object(service_resources.ServiceResources, "resource", resource)


@_fault("config source is not ADS")
def _endpoints_from_somewhere_else() -> AbstractContextManager[Any]:
    def clear(message: Any) -> None:
        message.eds_cluster_config.eds_config.ClearField("ads")

    return _changed(resources, "cluster", clear)


@_fault("ring size")
def _a_ring_larger_than_allowed() -> AbstractContextManager[Any]:
    def enlarge(message: Any) -> None:
        message.ring_hash_lb_config.minimum_ring_size.value *= 16 * 1024

    return _changed(resources, "cluster", enlarge)


@_fault("the last filter")
def _no_router_at_the_end() -> AbstractContextManager[Any]:
    real = resources.http_connection_manager_pb2.HttpConnectionManager

    def misplaced(message: Any) -> None:
        manager = real()
        message.api_listener.api_listener.Unpack(manager)
        manager.http_filters.add(name="after")
        message.api_listener.api_listener.Pack(manager)

    return _changed(resources, "listener", misplaced)


@_fault("domains")
def _a_domain_twice() -> AbstractContextManager[Any]:
    return _changed(resources, "routes", lambda message: message.virtual_hosts[0].domains.append("*"))


# ---- order, and equality of servers ------------------------------------------------------------------------


@_fault("a route to a cluster that the client doesn't have", check_followers)
def _routes_before_clusters() -> AbstractContextManager[Any]:
    return patch.object(stream, "TYPE_URLS", dict(reversed(stream.TYPE_URLS.items())))


@_fault("a client that was not told of a change: .*web-", check_followers)
def _who_asks_for_a_host_is_not_told() -> AbstractContextManager[Any]:
    return patch.object(stream.Stream, "touch_hosts", lambda *_: frozenset())


@_fault("is (east|west)'s for")
def _the_age_of_exports_is_not_asked() -> AbstractContextManager[Any]:
    def as_they_come(items: Iterable[Any], **_: Any) -> list[Any]:
        return list(items)

    return patch.object(clusterset, "sorted", as_they_come, create=True)


@_fault("two servers differ|not in the rows|not known to be empty|is (east|west)'s for")
def _a_service_is_built_once_and_for_all() -> AbstractContextManager[Any]:
    built: dict[int, dict[Any, Any]] = {}

    class Kept(dict[Any, Any]):
        def pop(self, *_: Any) -> None:  # type: ignore[override]
            return None

    real = catalog.Catalog.__init__

    def init(self: Any, partitions: int) -> None:
        real(self, partitions)
        self._resources = built.setdefault(id(self), Kept())

    return patch.object(catalog.Catalog, "__init__", init)
