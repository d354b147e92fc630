"""Projects objects onto the Services that they affect: an object in, an event for each of those Services out.

Some projections depend on other objects: a Service's routing on its Namespace, and a route's on Gateways, ListenerSets,
ReferenceGrants, Namespaces, Services and other routes, a BackendTLSPolicy's on the Services that it targets, a
ServiceExport's on the ClusterProperty with the cluster's id and on its Namespace. When one of those changes, what
depends on it is projected again (`reproject`). A route's events are always made there, as they depend on all other
routes.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from streams.objects.fields import identify
from streams.objects.gateway_api.context import RouteContext
from streams.objects.gateway_api.operator_choices import NO_CHOICES, Choices, choices_of
from streams.objects.gateway_api.policies import TLSPolicies, read_tls_policy, read_traffic_policy
from streams.objects.gateway_api.references import ServiceKey
from streams.objects.gateway_api.routes import named_by, read_route
from streams.objects.multicluster import Exports
from streams.objects.normalize import SERVICE_NAME_LABEL, normalize
from streams.objects.resources import (
    CLUSTER_PROPERTY,
    CONTEXT_KINDS,
    ENDPOINT_SLICES,
    OPTIONAL_KINDS,
    ROUTE_KINDS,
    ROUTING_KINDS,
    SERVICE_EXPORT,
    SERVICES,
    TLS_POLICY,
)
from streams.wire.clusterset_records import DropPolicy
from streams.wire.event_encoding import Key, apply_event, with_routing
from streams.wire.routing_records import OperatorRouting

_NAMESPACE = "Namespace"
_CLUSTER_SCOPED = frozenset({_NAMESPACE, CLUSTER_PROPERTY.kind})


class ServiceEvents(NamedTuple):
    """An object's event for each Service that it affects; `bodies` are the events without their heads: an event with
    an equal body is no change."""

    events: Mapping[ServiceKey, bytes]
    uid: str
    version: str
    bodies: Mapping[ServiceKey, bytes] | None = None


class Projection(NamedTuple):
    """An object, and its events; None where it affects no Service, and nothing that does. `message` names what was
    left out of it because it can't be read."""

    key: Key
    uid: str
    version: str
    events: ServiceEvents | None
    message: str = ""


class ServiceProjector:
    """Reads objects, and holds those that other objects' projections depend on."""

    def __init__(
        self, cluster_domain: str, routing_defaults: Mapping[str, str] | None, drop: DropPolicy | None = None
    ) -> None:
        self._cluster_domain = cluster_domain
        self._context = RouteContext(routing_defaults)
        self._tls_policies = TLSPolicies(self._context.port_names)
        self._exports = Exports(drop)
        self._routes: dict[Key, Mapping[ServiceKey, bytes]] = {}
        """What each route last said of each Service."""
        self._own_choices: dict[Key, Choices] = {}
        self._operators: dict[Key, OperatorRouting] = {}
        self._outdated_namespaces: set[str] = set()

    def project(self, kind: str, item: Any) -> Projection:
        """The object's events. Raises MalformedObject."""
        if kind not in OPTIONAL_KINDS:
            return self._project_normalized(kind, item)
        meta = identify(item, kind not in _CLUSTER_SCOPED)
        key = (kind, meta.namespace, meta.name)
        message = ""
        if kind in CONTEXT_KINDS:
            self._context.take(*key, item)
            self._outdate(key)
            if kind == _NAMESPACE:
                message = self._exports.take_namespace(meta.name, item)
            events = ServiceEvents({}, meta.uid, meta.resource_version)
        elif kind == CLUSTER_PROPERTY.kind:
            self._exports.take_property(meta.name, item)
            events = ServiceEvents({}, meta.uid, meta.resource_version)
        elif kind == SERVICE_EXPORT.kind:
            bodies = {key[1:]: self._exports.take(key, item)}
            events = _service_events(key, meta.uid, meta.resource_version, bodies)
        elif kind in ROUTE_KINDS:
            self._context.take_route(read_route(kind, item))
            events = _service_events(key, meta.uid, meta.resource_version, self._routes.setdefault(key, {}))
        elif kind == TLS_POLICY.kind:
            self._tls_policies.take(key, read_tls_policy(item))
            events = _service_events(key, meta.uid, meta.resource_version, self._tls_policies.project(key))
        else:
            events = _service_events(key, meta.uid, meta.resource_version, read_traffic_policy(item))
        return Projection(key, meta.uid, meta.resource_version, events, message)

    def complete(self, kind: str) -> None:
        """All objects of the type have been listed."""
        if kind == "Gateway":
            self._context.list_gateways()

    def reject(self, key: Key) -> None:
        """The object can't be read."""
        if key[0] in CONTEXT_KINDS or key[0] == SERVICES.kind:
            self._context.reject(*key)

    def drop(self, key: Key) -> None:
        """The object is deleted."""
        if key[0] in CONTEXT_KINDS or key[0] == SERVICES.kind:
            self._context.take(*key, None)
            self._outdate(key)
            if key[0] == _NAMESPACE:
                self._exports.take_namespace(key[2], None)
        elif key[0] in ROUTE_KINDS:
            self._context.drop_route(key)
        elif key[0] == TLS_POLICY.kind:
            self._tls_policies.drop(key)
        elif key[0] == CLUSTER_PROPERTY.kind:
            self._exports.take_property(key[2], None)
        elif key[0] == SERVICE_EXPORT.kind:
            self._exports.drop(key)
        for index in (self._routes, self._own_choices, self._operators):
            index.pop(key, None)

    def reproject(
        self, objects: Mapping[Key, ServiceEvents], except_for: Container[Key]
    ) -> Iterator[tuple[Key, ServiceEvents]]:
        """The events of those `objects` that depend on what has changed since the last call."""
        namespaces, self._outdated_namespaces = self._outdated_namespaces, set()
        services = [key for key in objects if key[0] == SERVICES.kind and key[1] in namespaces] if namespaces else []
        for key in services:
            current = objects[key]
            if key not in except_for and self._operators.get(key) != self._operator(key):
                yield (
                    key,
                    current._replace(
                        events={service: self._with_routing(key, event) for service, event in current.events.items()}
                    ),
                )
        for key in self._context.take_outdated(except_for):
            current = objects[key]
            self._routes[key] = self._context.project(key)
            yield key, _service_events(key, current.uid, current.version, self._routes[key])
        for key in self._tls_policies.take_outdated(except_for):
            current = objects[key]
            yield key, _service_events(key, current.uid, current.version, self._tls_policies.project(key))
        for key, body in self._exports.take_outdated(except_for):
            current = objects[key]
            yield key, _service_events(key, current.uid, current.version, {key[1:]: body})

    def _project_normalized(self, kind: str, item: Any) -> Projection:
        normalized = normalize(kind, item, self._cluster_domain)
        if normalized is None:
            meta = identify(item)
            return Projection((kind, meta.namespace, meta.name), meta.uid, meta.resource_version, None)
        key, service = (kind, normalized.namespace, normalized.name), (normalized.namespace, normalized.service)
        uid, version = normalized.uid, normalized.resource_version
        event = apply_event(
            key,
            service,
            uid=uid,
            version=version,
            trigger=normalized.trigger,
            message=normalized.message,
            body=normalized.body,
        )
        if kind == SERVICES.kind:
            self._context.take(*key, item)
            self._outdate(key)
            self._own_choices.pop(key, None)
            own = choices_of(item["metadata"], "Service")
            if own is not NO_CHOICES:
                self._own_choices[key] = own
            event = self._with_routing(key, event)
        return Projection(key, uid, version, ServiceEvents({service: event}, uid, version), normalized.message)

    def _outdate(self, key: Key) -> None:
        if key[0] == _NAMESPACE:
            self._outdated_namespaces.add(key[2])
        elif key[0] == SERVICES.kind:
            self._tls_policies.outdate((key[1], key[2]))

    def _operator(self, key: Key) -> OperatorRouting | None:
        return self._context.operator(key[1], self._own_choices.get(key, NO_CHOICES))

    def _with_routing(self, key: Key, event: bytes) -> bytes:
        """A Service's event with its operator's routing choices."""
        routing, before = self._operator(key), self._operators.pop(key, None)
        if routing is not None:
            self._operators[key] = routing
        return event if before is None and routing is None else with_routing(event, routing)


def affected_services(key: Key, item: Any) -> Iterable[ServiceKey]:
    """The Services that an object that can't be read affects, as far as can be told ("" for a name that can't)."""
    kind, namespace, name = key
    if kind in ROUTING_KINDS and (named := named_by(kind, item)):
        return sorted(named)
    if kind in OPTIONAL_KINDS and kind != SERVICE_EXPORT.kind:
        return [(namespace, "")]
    if kind != ENDPOINT_SLICES.kind:
        return [(namespace, name)]
    meta = item.get("metadata") if isinstance(item, dict) else None
    labels = meta.get("labels") if isinstance(meta, dict) else None
    label = labels.get(SERVICE_NAME_LABEL) if isinstance(labels, dict) else None
    return [(namespace, label if isinstance(label, str) else "")]


def _service_events(key: Key, uid: str, version: str, bodies: Mapping[ServiceKey, bytes]) -> ServiceEvents:
    events = {
        service: apply_event(key, service, uid=uid, version=version, body=body) for service, body in bodies.items()
    }
    return ServiceEvents(events, uid, version, bodies)
