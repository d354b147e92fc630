"""One cluster's Gateways, ListenerSets, ReferenceGrants, Namespaces, Services and routes, and the resulting
attachments of each route.

Routes that name a common Gateway or Service depend on each other: an older one may take a younger one's requests.
Changes mark routes as outdated (`take_outdated`); attachments are recomputed for whole Gateways and Services, on
demand.
"""

from collections.abc import Container, Iterable, Mapping
from typing import Any

import msgspec

from streams.objects.fields import Json, texts
from streams.objects.gateway_api.attachment import Attachment, Attachments, Binding, refused
from streams.objects.gateway_api.gateway_attachment import attach_to_gateway, attach_to_unknown
from streams.objects.gateway_api.grants import Grants
from streams.objects.gateway_api.listeners import Gateway, ListenerSet, read_gateway, read_listener_set
from streams.objects.gateway_api.mesh_attachment import (
    ServiceParent,
    attach_to_import,
    attach_to_service,
    read_service_parent,
)
from streams.objects.gateway_api.operator_choices import NO_CHOICES, Choices, choices_of
from streams.objects.gateway_api.references import Backend, Parent, ServiceKey, backend_kind
from streams.objects.gateway_api.routes import Route, Rule
from streams.wire.event_encoding import Key
from streams.wire.routing_records import (
    BACKEND_KINDS,
    BackendKind,
    OperatorChoice,
    OperatorRouting,
    RouteBackend,
    RouteContent,
    RouteParent,
    UnresolvedReference,
)

NAMESPACE_LABEL = "kubernetes.io/metadata.name"

_encode = msgspec.json.encode
_Subject = Key
"""Attachments are computed for it as a whole: a Gateway, a Service, a ServiceImport, or a ListenerSet that has no
Gateway."""


class RouteContext:
    """The objects that routes and Services are read with, and the cluster's defaults (`service` or `endpoint`, by
    direction). As long as nothing is known of any Gateway (`gateways_listed`), a route counts as attached to the one
    that it names, and so it does for a Gateway, ListenerSet or Service that is there but could never be read."""

    def __init__(self, defaults: Mapping[str, str] | None = None) -> None:
        self._defaults = {
            direction: OperatorChoice(choice, "Cluster")  # type: ignore[arg-type]
            for direction, choice in (defaults or {}).items()
        }
        self.gateways_listed = False
        self._gateways: dict[ServiceKey, Gateway] = {}
        self._listener_sets: dict[ServiceKey, ListenerSet] = {}
        self._grants = Grants()
        self._namespaces: dict[str, tuple[dict[str, str], Choices]] = {}
        self._services: dict[ServiceKey, ServiceParent] = {}
        self._routes: dict[Key, Route] = {}
        self._by_parent: dict[Key, set[Key]] = {}
        """The routes that name a parent, by its kind, namespace and name."""
        self._attachments: dict[_Subject, Attachments] = {}
        self._outdated: set[Key] = set()
        self._unreadable: set[Key] = set()
        """The context objects that can't be read and have no last good state."""

    # ---- in ------------------------------------------------------------------------------------------

    def take(self, kind: str, namespace: str, name: str, item: Json | None) -> None:
        """Hold a context object (None: it is deleted). Raises MalformedObject."""
        key = namespace, name
        self._mark(kind, key, is_unreadable=False)
        match kind:
            case "Namespace":
                self._take_namespace(name, item)
            case "ReferenceGrant":
                if self._grants.take(key, item):
                    self._outdate_references(namespace)
            case "Gateway":
                if item is not None:
                    self.list_gateways()
                self._replace(self._gateways, key, None if item is None else read_gateway(item), [(kind, *key)])
            case "ListenerSet":
                new = None if item is None else read_listener_set(item)
                old = self._listener_sets.get(key)
                gateways = {subject.gateway for subject in (new, old) if subject is not None and subject.gateway}
                subjects = [(kind, *key), *(("Gateway", *gateway) for gateway in gateways)]
                self._replace(self._listener_sets, key, new, subjects)
            case "Service":
                parent = None if item is None else read_service_parent(item)
                self._replace(self._services, key, parent, [(kind, *key)])

    def reject(self, kind: str, namespace: str, name: str) -> None:
        """A context object can't be read: its last good state stays."""
        key = namespace, name
        if kind == "ReferenceGrant":
            if self._grants.reject(key):
                self._outdate_references(namespace)
            return
        is_held = key in self._gateways if kind == "Gateway" else key in self._listener_sets
        self._mark(kind, key, is_unreadable=not (key in self._services if kind == "Service" else is_held))

    def list_gateways(self) -> None:
        """From now on the cluster's Gateways are known."""
        if not self.gateways_listed:
            self.gateways_listed = True
            self._outdate_gateways()

    def take_route(self, route: Route) -> bool:
        """Hold a route; whether it has changed."""
        old = self._routes.get(route.key)
        if old == route:
            return False
        self.drop_route(route.key)
        self._routes[route.key] = route
        for parent in route.parents:
            self._by_parent.setdefault(_parent_key(parent), set()).add(route.key)
        self._outdate(self._subjects(route))
        self._outdated.add(route.key)
        return True

    def drop_route(self, key: Key) -> None:
        """The route is deleted."""
        route = self._routes.pop(key, None)
        if route is None:
            return
        self._outdate(self._subjects(route))
        self._outdated.discard(key)
        for parent in route.parents:
            routes = self._by_parent.get(_parent_key(parent))
            if routes is not None:
                routes.discard(key)
                if not routes:
                    del self._by_parent[_parent_key(parent)]

    def take_outdated(self, except_for: Container[Key]) -> list[Key]:
        """The routes whose events may have changed since the last call; the exceptions stay outdated."""
        outdated = sorted(key for key in self._outdated if key in self._routes and key not in except_for)
        self._outdated = {key for key in self._outdated if key in self._routes and key in except_for}
        return outdated

    # ---- out -----------------------------------------------------------------------------------------

    def operator(self, namespace: str, own: Choices) -> OperatorRouting | None:
        """An operator's choices for a Service: its own annotation, else its Namespace's, else the cluster's default."""
        _, inherited = self._namespaces.get(namespace, ({}, NO_CHOICES))
        if not (self._defaults or inherited.choices or inherited.invalid or own.choices or own.invalid):
            return None
        choices = {**self._defaults, **inherited.choices, **own.choices}
        invalid = own.invalid or inherited.invalid
        return OperatorRouting(gateway=choices.get("gateway"), mesh=choices.get("mesh"), invalid=invalid)

    def port_names(self, service: ServiceKey) -> frozenset[str] | None:
        """The names of a Service's ports; None where there is no Service that could be read."""
        parent = self._services.get(service)
        return None if parent is None else frozenset(name for name, _, _ in parent.ports)

    def project(self, key: Key) -> dict[ServiceKey, bytes]:
        """What a route says of each Service that it names, as the journal carries it; of a ServiceImport under the same
        name."""
        route = self._routes[key]
        attachments = [self._attachment(route, index) for index in range(len(route.parents))]
        parents = [_parent(*bound) for bound in zip(route.parents, attachments, strict=True)]
        named: dict[ServiceKey, list[RouteBackend]] = {
            (parent.namespace, parent.name): []
            for parent in route.parents
            if parent.kind == "Service" or backend_kind(parent.group, parent.kind) is not None
        }
        unresolved: list[UnresolvedReference] = []
        for rule in route.rules:
            shadowed = [index for index, attachment in enumerate(attachments) if rule.place in attachment.shadowed]
            for backend in rule.backends:
                kind = backend_kind(backend.group, backend.kind)
                if kind is None and backend.kind != "Service":
                    group, unknown, namespace, name = backend[:4]
                    unresolved.append(UnresolvedReference(rule.place, group, unknown, namespace, name, "InvalidKind"))
                    continue
                named.setdefault((backend.namespace, backend.name), []).append(
                    self._backend(route, rule, backend, kind, shadowed)
                )
        return {
            service: _encode(RouteContent(route.created, parents, backends, unresolved))
            for service, backends in named.items()
        }

    def _backend(
        self, route: Route, rule: Rule, backend: Backend, kind: BackendKind | None, shadowed: list[int]
    ) -> RouteBackend:
        """`kind` is None for a `Service` of another group."""
        reference = route.kind, route.namespace, (backend.namespace, backend.name), kind or "Service"
        return RouteBackend(
            rule.place,
            rule.name,
            list(rule.matches),
            backend.port,
            backend.weight,
            self._grants.permits(*reference),
            rule.persistence if backend.role == "backend" else None,
            backend.role,
            backend.total_weight,
            shadowed,
            self._grants.refusal(*reference) if kind is not None else "InvalidKind",
            kind or "Service",
        )

    # ---- attachments ---------------------------------------------------------------------------------

    def _attachment(self, route: Route, index: int) -> Attachment:
        parent = route.parents[index]
        if not parent.is_known:
            return refused("InvalidKind", f"no route is attached to a {parent.kind} of the group {parent.group!r}")
        subject = self._subject(parent)
        if subject not in self._attachments:
            self._attachments[subject] = self._attach(subject)
        return self._attachments[subject][route.key, index]

    def _attach(self, subject: _Subject) -> Attachments:
        kind, key = subject[0], (subject[1], subject[2])
        if kind == "Service" and subject not in self._unreadable:
            return attach_to_service(key, self._services.get(key), self._bindings([subject]))
        if kind == "ServiceImport":
            return attach_to_import(key, self._bindings([subject]))
        gateway = self._gateways.get(key) if kind == "Gateway" else None
        sets = {
            set_key: listener_set
            for set_key, listener_set in self._listener_sets.items()
            if kind == "Gateway" and listener_set.gateway == key
        }
        bindings = self._bindings([subject, *(("ListenerSet", *set_key) for set_key in sets)])
        if subject in self._unreadable:
            return attach_to_unknown(bindings)
        if gateway is not None:
            return attach_to_gateway(key, gateway, sets, bindings, self._labels)
        if not self.gateways_listed:
            return attach_to_unknown(bindings)
        return {
            (binding.route.key, binding.place): refused("GatewayNotFound")
            if kind == "Gateway"
            else refused("NoMatchingParent", "there is no such ListenerSet")
            for binding in bindings
        }

    def _bindings(self, parents: Iterable[Key]) -> list[Binding]:
        """All routes that name one of the parents, once for each reference."""
        parent_keys = set(parents)
        routes = {key for parent in parent_keys for key in self._by_parent.get(parent, ())}
        return [
            Binding(route, index)
            for route in (self._routes[key] for key in sorted(routes))
            for index, parent in enumerate(route.parents)
            if parent.is_known and _parent_key(parent) in parent_keys
        ]

    def _subject(self, parent: Parent) -> _Subject:
        if parent.kind == "ListenerSet":
            listener_set = self._listener_sets.get((parent.namespace, parent.name))
            if listener_set is not None and listener_set.gateway is not None:
                return "Gateway", *listener_set.gateway
        return _parent_key(parent)

    def _subjects(self, route: Route) -> list[_Subject]:
        return [self._subject(parent) for parent in route.parents if parent.is_known]

    def _labels(self, namespace: str) -> Mapping[str, str]:
        labels, _ = self._namespaces.get(namespace, ({NAMESPACE_LABEL: namespace}, NO_CHOICES))
        return labels

    # ---- what is outdated ----------------------------------------------------------------------------

    def _take_namespace(self, name: str, item: Json | None) -> None:
        labels, _ = self._namespaces.pop(name, ({NAMESPACE_LABEL: name}, NO_CHOICES))
        if item is not None:
            metadata = item["metadata"]
            choices = choices_of(metadata, "Namespace")
            self._namespaces[name] = {**texts(metadata, "labels"), NAMESPACE_LABEL: name}, choices
        if labels != self._labels(name):
            self._outdate_gateways()

    def _mark(self, kind: str, key: ServiceKey, *, is_unreadable: bool) -> None:
        if ((kind, *key) in self._unreadable) == is_unreadable:
            return
        if is_unreadable:
            self._unreadable.add((kind, *key))
        else:
            self._unreadable.discard((kind, *key))
        self._outdate([(kind, *key)])

    def _replace(self, objects: dict[ServiceKey, Any], key: ServiceKey, new: Any, subjects: Iterable[_Subject]) -> None:
        if objects.get(key) == new:
            return
        objects.pop(key, None)
        if new is not None:
            objects[key] = new
        self._outdate(subjects)

    def _outdate_references(self, namespace: str) -> None:
        self._outdated.update(route.key for route in self._routes.values() if _names_from_elsewhere(route, namespace))

    def _outdate_gateways(self) -> None:
        self._outdate({key for key in (*self._by_parent, *self._attachments) if key[0] not in BACKEND_KINDS})

    def _outdate(self, subjects: Iterable[_Subject]) -> None:
        """Forget the attachments to these, and note the routes that have them."""
        for subject in list(subjects):
            for route_key, _ in self._attachments.pop(subject, ()):
                self._outdated.add(route_key)
            self._outdated.update(self._by_parent.get(subject, ()))


def _parent_key(parent: Parent) -> Key:
    return parent.kind, parent.namespace, parent.name


def _names_from_elsewhere(route: Route, namespace: str) -> bool:
    return route.namespace != namespace and any(
        backend.namespace == namespace for rule in route.rules for backend in rule.backends
    )


def _parent(parent: Parent, attachment: Attachment) -> RouteParent:
    return RouteParent(
        parent.kind,
        parent.namespace,
        parent.name,
        parent.section,
        parent.port,
        attachment.attached,
        attachment.reason,
        attachment.message,
        None if parent.is_known else parent.group,
        list(attachment.listeners),
        list(attachment.ports),
        list(attachment.consumers),
    )
