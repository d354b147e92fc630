"""Planted faults of the routing table: a rule of routes left out (README, "Service routing or endpoint routing"), or of
what depends on what (`streams.objects.projection`)."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import msgspec

from streams.facets import routing
from streams.facets.routing_rules import Subject, decide_gateway, decide_mesh
from streams.objects.commits import CommitWriter, JournalRecord
from streams.objects.gateway_api.context import RouteContext
from streams.objects.gateway_api.grants import Grants
from streams.objects.projection import ServiceEvents, ServiceProjector
from streams.objects.reflector import Kind, ReflectorEvent
from streams.wire.partitioning import partition_of
from streams.wire.routing_records import Direction, HeldRoute, MeshDirection, RouteParent
from tests.simulation.planting import fault, instead_at
from tests.simulation.world import ROUTE_KINDS, Object

# ---- which routes count ------------------------------------------------------------------------------------


@fault(2, "a gateway's route may name a Service of another namespace without a grant", since=4)
def _grant_not_asked_of_a_gateways_route() -> AbstractContextManager[Any]:
    return patch.object(Grants, "permits", lambda *_: True)


@fault(2, "a route of the mesh needs a grant to name a Service of another namespace")
def _grant_demanded_of_a_mesh_route() -> AbstractContextManager[Any]:
    def decide(subject: Subject) -> MeshDirection:
        granted = [
            msgspec.structs.replace(route, backends=[backend for backend in route.backends if backend.permitted])
            for route in subject.routes
        ]
        return decide_mesh(subject._replace(routes=granted))

    return patch.object(routing, "decide_mesh", decide)


def _with_parents(route: HeldRoute, **changed: Any) -> HeldRoute:
    def parent_of(parent: RouteParent) -> RouteParent:
        return msgspec.structs.replace(parent, **changed) if parent.kind == "Service" else parent

    return msgspec.structs.replace(route, parents=[parent_of(parent) for parent in route.parents])


@fault(2, "a consumer's route counts for the clients of every namespace")
def _consumers_route_counted_for_every_client() -> AbstractContextManager[Any]:
    def decide(subject: Subject) -> MeshDirection:
        return decide_mesh(
            subject._replace(routes=[_with_parents(route, namespace=route.namespace) for route in subject.routes])
        )

    return patch.object(routing, "decide_mesh", decide)


@fault(2, "the producer's routes count for clients of a namespace that has routes of its own")
def _producers_route_counted_for_consumers() -> AbstractContextManager[Any]:
    def decide(subject: Subject) -> MeshDirection:
        mesh = decide_mesh(subject)
        consumers = {namespace: _merged(mesh, own) for namespace, own in mesh.consumers.items()}
        return msgspec.structs.replace(mesh, consumers=consumers)

    def _merged(producer: MeshDirection, own: Direction) -> Direction:
        return own if producer.session_persistence is None else Direction(
            producer.decision, producer.reason, producer.because, producer.session_persistence, own.rules
        )  # fmt: skip

    return patch.object(routing, "decide_mesh", decide)


@fault(2, "routes of the mesh count for gateways, too")
def _mesh_routes_counted_for_gateways() -> AbstractContextManager[Any]:
    def decide(subject: Subject) -> Direction:
        return decide_gateway(
            subject._replace(routes=[_with_parents(route, kind="Gateway") for route in subject.routes])
        )

    return patch.object(routing, "decide_gateway", decide)


# ---- what depends on what ----------------------------------------------------------------------------------


def _context_that_takes(take: Any) -> AbstractContextManager[Any]:
    """`take` is given the real one first."""
    real = RouteContext.take

    def patched(self: RouteContext, kind: str, namespace: str, name: str, item: Object | None) -> None:
        take(lambda body: real(self, kind, namespace, name, body), self, kind, name, item)

    return patch.object(RouteContext, "take", patched)


@fault(4, "routes stay attached to a Gateway that is deleted")
def _deleted_gateways_routes_still_attached() -> AbstractContextManager[Any]:
    def take(real: Any, _: RouteContext, kind: str, name: str, item: Object | None) -> None:
        if kind != "Gateway" or item is not None:
            real(item)

    return _context_that_takes(take)


@fault(4, "a Namespace's labels are read once: a listener that selects by them goes by what they were", since=74)
def _namespace_label_change_not_followed() -> AbstractContextManager[Any]:
    first: dict[tuple[RouteContext, str], Any] = {}

    def take(real: Any, context: RouteContext, kind: str, name: str, item: Object | None) -> None:
        if kind == "Namespace" and item is not None:
            labels = first.setdefault((context, name), item["metadata"].get("labels", {}))
            item = {**item, "metadata": {**item["metadata"], "labels": labels}}
        real(item)

    return _context_that_takes(take)


@fault(4, "a Service that loses its cluster IP keeps the routes that are attached to it", since=322)
def _headless_service_keeps_its_routes() -> AbstractContextManager[Any]:
    def take(real: Any, _: RouteContext, kind: str, name: str, item: Object | None) -> None:
        if kind != "Service" or item is None or item["spec"].get("clusterIP") != "None":
            real(item)

    return _context_that_takes(take)


@fault(4, "what a Namespace's annotation chooses reaches only Services that change after it", since=12)
def _namespace_annotation_reaches_no_held_service() -> AbstractContextManager[Any]:
    real = ServiceProjector.reproject

    def reproject(self: ServiceProjector, *args: Any) -> Iterator[tuple[Any, ServiceEvents]]:
        return ((key, events) for key, events in real(self, *args) if key[0] != "Service")

    return patch.object(ServiceProjector, "reproject", reproject)


# ---- several Services --------------------------------------------------------------------------------------


def _reprojected(change: Any) -> AbstractContextManager[Any]:
    """`change` is given what a route told each Service, and what it tells now; gives what is told instead."""
    real = ServiceProjector.reproject

    def reproject(self: ServiceProjector, objects: Any, except_for: Any) -> Iterator[tuple[Any, ServiceEvents]]:
        for key, new in real(self, objects, except_for):
            old = objects[key]
            if key[0] in ROUTE_KINDS and new.bodies is not None:
                bodies = change(old.bodies or {}, new.bodies)
                events = change(old.events, new.events)
                yield key, new._replace(events=events, bodies=bodies)
            else:
                yield key, new

    return patch.object(ServiceProjector, "reproject", reproject)


@fault(4, "of the Services that a route names only one is told what has become of it", since=5)
def _one_service_of_a_linked_change_told() -> AbstractContextManager[Any]:
    def change(old: dict[Any, bytes], new: dict[Any, bytes]) -> dict[Any, bytes]:
        told = next(iter(new), None)
        return {service: body if service == told else old.get(service, body) for service, body in new.items()}

    return _reprojected(change)


@fault(4, "where a route's backendRef moves, the Service that it named is not told")
def _old_backend_not_told() -> AbstractContextManager[Any]:
    return _reprojected(lambda old, new: {**old, **new})


@fault(2, "what bears on Services of several partitions is told under two numbers: at a cut some of them have it")
def _linked_change_under_two_numbers() -> AbstractContextManager[Any]:
    real = CommitWriter.changes

    def changes(self: CommitWriter, changed: Any, *rest: Any) -> Iterator[JournalRecord]:
        first = {key: events for key, events in changed.items() if partition_of(*key, self.partitions) == 0}
        others = {key: events for key, events in changed.items() if key not in first}
        for part in (first, others):
            yield from real(self, part, *rest)

    return patch.object(CommitWriter, "changes", changes)


# ---- relists -----------------------------------------------------------------------------------------------


@fault(6, "routes that were deleted while nobody watched are not forgotten at the relist", since=152)
def _routes_of_a_relist_not_forgotten() -> AbstractContextManager[Any]:
    return instead_at(
        Kind.INIT_DONE, lambda item: ReflectorEvent(Kind.INIT_APPLY, item, ""), kinds=ROUTE_KINDS, missing=True
    )
