"""What objects say of Services: an object in, an event for each Service that it bears on out.

What some say depends on others: a route on Gateways, ReferenceGrants and Namespaces, a Service's routing on its
Namespace. When one of those changes, what depends on it is said again (`reconsider`).
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from streams.objects.gateway_api import (
    NO_CHOICES,
    Choices,
    Route,
    ServiceKey,
    choices_of,
    named_by,
    read_policy,
    read_route,
)
from streams.objects.normalize import SERVICE_NAME_LABEL, identify, normalize
from streams.objects.resources import CONTEXT_KINDS, ENDPOINT_SLICES, ROUTE_KINDS, ROUTING_KINDS, SERVICES
from streams.objects.route_context import References
from streams.wire.event_encoding import Key, apply_event, with_routing
from streams.wire.routing_records import OperatorRouting

_NAMESPACE = "Namespace"


class Said(NamedTuple):
    """What an object says, as an event for each Service that it bears on; `bodies` are the events without their heads,
    where one with an equal body is no news."""

    events: Mapping[ServiceKey, bytes]
    uid: str
    version: str
    bodies: Mapping[ServiceKey, bytes] | None = None


class Bearings:
    """Reads objects, and holds what others depend on."""

    def __init__(self, cluster_domain: str, routing_defaults: Mapping[str, str] | None) -> None:
        self._cluster_domain = cluster_domain
        self._references = References(routing_defaults)
        self._routes: dict[Key, Route] = {}
        self._own: dict[Key, Choices] = {}
        self._operators: dict[Key, OperatorRouting] = {}
        self._routes_outdated = False
        self._outdated_namespaces: set[str] = set()

    def read(self, kind: str, item: Any) -> tuple[Key, Said | None]:
        """What the object says; None where it bears on no Service and on nothing that does. Raises MalformedObject."""
        if kind not in CONTEXT_KINDS and kind not in ROUTING_KINDS:
            return self._read_normalized(kind, item)
        meta = identify(item, kind != _NAMESPACE)
        key, uid, version = (kind, meta["namespace"], meta["name"]), meta["uid"], meta["resourceVersion"]
        if kind in CONTEXT_KINDS:
            if self._references.take(*key, item):
                self._outdate(key)
            return key, Said({}, uid, version)
        if kind in ROUTE_KINDS:
            self._routes[key] = read_route(kind, item)
            return key, _said(key, uid, version, self._references.bearing(self._routes[key]))
        return key, _said(key, uid, version, read_policy(item))

    def listed(self, kind: str) -> None:
        """All that there is of the type has been read."""
        if kind == "Gateway" and not self._references.gateways_listed:
            self._references.gateways_listed = self._routes_outdated = True

    def drop(self, key: Key) -> None:
        """The object is gone."""
        if key[0] in CONTEXT_KINDS and self._references.take(*key, None):
            self._outdate(key)
        for held in (self._routes, self._own, self._operators):
            held.pop(key, None)

    def reconsider(self, objects: Mapping[Key, Said], passed: Container[Key]) -> Iterator[tuple[Key, Said]]:
        """What `objects` say now, of those that depend on what has changed since the last time; `passed` are left as
        they are."""
        namespaces, self._outdated_namespaces = self._outdated_namespaces, set()
        routes, self._routes_outdated = self._routes_outdated, False
        services = [key for key in objects if key[0] == SERVICES.kind and key[1] in namespaces] if namespaces else []
        for key in services:
            said = objects[key]
            if key not in passed and self._operators.get(key) != self._operator(key):
                yield key, said._replace(events={each: self._set(key, event) for each, event in said.events.items()})
        for key, route in self._routes.items() if routes else ():
            if key not in passed:
                yield key, _said(key, objects[key].uid, objects[key].version, self._references.bearing(route))

    def _read_normalized(self, kind: str, item: Any) -> tuple[Key, Said | None]:
        normalized = normalize(kind, item, self._cluster_domain)
        meta = item["metadata"]
        key, uid, version = (kind, meta["namespace"], meta["name"]), meta["uid"], meta["resourceVersion"]
        if normalized is None:
            return key, None
        service = (normalized.namespace, normalized.service)
        event = apply_event(key, service, uid=uid, version=version, trigger=normalized.trigger, body=normalized.body)
        if kind == SERVICES.kind:
            self._own.pop(key, None)
            own = choices_of(meta, "Service")
            if own is not NO_CHOICES:
                self._own[key] = own
            event = self._set(key, event)
        return key, Said({service: event}, uid, version)

    def _outdate(self, key: Key) -> None:
        self._routes_outdated = True
        if key[0] == _NAMESPACE:
            self._outdated_namespaces.add(key[2])

    def _operator(self, key: Key) -> OperatorRouting | None:
        return self._references.operator(key[1], self._own.get(key, NO_CHOICES))

    def _set(self, key: Key, event: bytes) -> bytes:
        """A Service's event with what its operator sets for its routing."""
        routing, was = self._operator(key), self._operators.pop(key, None)
        if routing is not None:
            self._operators[key] = routing
        return event if was is None and routing is None else with_routing(event, routing)


def services_of(key: Key, item: Any) -> Iterable[ServiceKey]:
    """The Services that an object that can't be read bears on, as far as can be told ("" for a name that can't)."""
    kind, namespace, name = key
    if kind in ROUTING_KINDS and (named := named_by(item)):
        return sorted(named)
    if kind in CONTEXT_KINDS or kind in ROUTING_KINDS:
        return [(namespace, "")]
    if kind != ENDPOINT_SLICES.kind:
        return [(namespace, name)]
    meta = item.get("metadata") if isinstance(item, dict) else None
    labels = meta.get("labels") if isinstance(meta, dict) else None
    label = labels.get(SERVICE_NAME_LABEL) if isinstance(labels, dict) else None
    return [(namespace, label if isinstance(label, str) else "")]


def _said(key: Key, uid: str, version: str, bodies: Mapping[ServiceKey, bytes]) -> Said:
    events = {each: apply_event(key, each, uid=uid, version=version, body=body) for each, body in bodies.items()}
    return Said(events, uid, version, bodies)
