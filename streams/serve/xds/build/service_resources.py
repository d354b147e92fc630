"""The resources of one Service in one state, as its clients ask for them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from google.protobuf.any_pb2 import Any as AnyMessage

from streams.facets.parsed_rows import Facet, RoutingFacet
from streams.serve.xds.build import resources
from streams.serve.xds.build.assignment import encoded_assignment
from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.decision import Decision, consumer_namespace, decide
from streams.serve.xds.build.endpoints import Address, Clusters, is_known, shared_addresses
from streams.serve.xds.build.names import TYPE_URLS, Kind
from streams.serve.xds.build.ports import PortId
from streams.serve.xds.build.ranking import RelevantPlace, relevant_place
from streams.serve.xds.build.resource import Absence, Resource
from streams.serve.xds.build.service import Service
from streams.wire.keys import RowKey
from streams.wire.routing_records import Traffic


class PortName(NamedTuple):
    """What a resource name means: a port of a Service in a cluster, or of a set."""

    name: str
    unit: RowKey
    port: PortId


class _Answer(NamedTuple):
    """A Service in the clusters that have this port, how it is reached, on what of a client's place its endpoints
    depend, and for which cluster's routes and consumer namespace this holds ("" for all without routes of their
    own)."""

    service: Service
    decision: Decision | None
    relevant: RelevantPlace
    router: str
    namespace: str


class ServiceResources:
    """Builds what is asked for, once for all clients that get the same. `imports` are by cluster the routing rows with
    what its routes ask for at a set. `shared` are by resource name the addresses that several clusters have."""

    __slots__ = ("_answers", "_imports", "_resources", "_service", "shared")

    def __init__(self, service: Service, imports: Mapping[str, RoutingFacet] = MappingProxyType({})) -> None:
        self.shared: dict[str, dict[Address, Clusters]] = {}
        self._service = service
        self._imports = imports
        self._answers: dict[tuple[str, Traffic, str, str], _Answer] = {}
        self._resources: dict[tuple[Any, ...], Resource | Absence] = {}

    def resource(self, kind: Kind, name: str, named: PortName, client: Client) -> Resource | Absence:
        """The resource of this name as the client gets it."""
        port = named.port
        if port.transport == "UDP" and (client.grpc or kind in {"lds", "rds"}):
            return Absence.MISSING  # Datagrams have no routes, and gRPC no use for them.
        router = self._router(client.place.cluster)
        answer = self._answer(name, named, client.traffic, router, client.namespace)
        service, decision, relevant, router, namespace = answer
        if decision is None:
            return Absence.MISSING
        place = client.place
        if kind != "eds" or decision.route == "service":
            place = Place()
        else:
            place = relevant.of(place, [facets.cluster for facets in service.clusters])
        variant = (kind, name, client.traffic, router, namespace, client.grpc and kind == "rds", decision.route, place)
        if variant not in self._resources:
            made = _make(kind, name, service, port, decision, client._replace(place=place))
            self._resources[variant] = made
        return self._resources[variant]

    def _router(self, cluster: str) -> str:
        """The cluster whose routes count for a client of this one: its own; for those that name none, the first by name
        whose routes name the set."""
        if not cluster:
            return min(self._imports, default="")
        return cluster if cluster in self._imports else ""

    def _answer(self, name: str, named: PortName, traffic: Traffic, router: str, namespace: str) -> _Answer:
        if (name, traffic, router, namespace) in self._answers:
            return self._answers[name, traffic, router, namespace]
        service = self._service.with_port(named.port)._replace(import_routing=self._imports.get(router))
        consumer = consumer_namespace(service, traffic, namespace)
        if consumer != namespace:
            # One answer for all clients without routes of their own.
            return self._answer(name, named, traffic, router, consumer)
        decision = decide(service, traffic, consumer)
        if shared := shared_addresses(service, named.port):
            self.shared[name] = shared
        answer = _Answer(service, decision, relevant_place(service, named.port), router, namespace)
        self._answers[name, traffic, router, namespace] = answer
        return answer


def _make(
    kind: Kind, name: str, service: Service, port: PortId, decision: Decision, client: Client
) -> Resource | Absence:
    message: Any
    if kind == "eds":
        return _make_endpoints(name, service, port, decision, client.place)
    if kind == "cds":
        message = resources.cluster(name, service, port, decision)
    elif kind == "lds":
        message = resources.listener(name, decision)
    else:
        message = resources.routes(name, decision, grpc=client.grpc)
    content: bytes = message.SerializeToString(deterministic=True)
    return Resource(name, _newest(service, with_backend=False), AnyMessage(type_url=TYPE_URLS[kind], value=content))


def _make_endpoints(name: str, service: Service, port: PortId, decision: Decision, place: Place) -> Resource | Absence:
    if decision.route == "dns":
        return Absence.MISSING
    with_backend = decision.route == "endpoint"
    content, is_empty = encoded_assignment(name, service, port, decision, place)
    if with_backend and is_empty and not is_known(service):
        return Absence.UNKNOWN
    body = AnyMessage(type_url=TYPE_URLS["eds"], value=content)
    return Resource(name, _newest(service, with_backend=with_backend), body, is_empty=is_empty)


def _newest(service: Service, *, with_backend: bool) -> int:
    rows: list[Facet | None] = [service.import_routing]
    for facets in service.clusters:
        rows += facets.frontend, facets.routing, facets.backend if with_backend else None
    return max(row.version for row in rows if row is not None)
