"""Where requests for a Service must go, and why, recomputed from the API server's state alone, in the plainest way
(README, "Service routing or endpoint routing").

Nothing here comes from the code under test. It knows only what `gateway_workload` makes: Gateways of one listener,
rules with matches of their own, no hostname that both kinds of routes have. What objects that can't be read do to the
choice depends on what the watcher happened to see of them: of such a Service only the marks are told.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tests.simulation.naive import Revisions
from tests.simulation.world import NAMESPACE, ROUTE_KINDS, ROUTING_KINDS, ApiServer, Object, is_bad

_DEPENDENCIES = ("Service", *ROUTING_KINDS)
_POLICY = "XBackendTrafficPolicy"

Name = tuple[str, str, str]
"""Kind, namespace and name."""
_Counts = Callable[["Route", Object], bool]
"""Whether a route counts at a parent for the clients in question."""


class Route(NamedTuple):
    """A route, and its parents at which it is attached."""

    name: Name
    item: Object
    attached: tuple[Object, ...]

    @property
    def age(self) -> tuple[str, str, str]:
        """The oldest is first, then by namespace/name."""
        kind, namespace, name = self.name
        return self.item["metadata"]["creationTimestamp"], f"{namespace}/{name}", kind


class Choice(NamedTuple):
    """A decision with its reason, and the name of the session that it asks for."""

    decision: str
    reason: str
    session: str | None = None


class Direction(NamedTuple):
    """The choice of one direction, and what each rule that names the Service comes to."""

    choice: Choice
    rules: list[tuple[Name, int, str, str]]


class Routing(NamedTuple):
    """What a routing row says of a Service, or must say."""

    gateway: Direction
    mesh: Direction
    consumers: dict[str, Direction]
    routes: list[Name]


class Marks(NamedTuple):
    """The objects that can't be read that a row must name as rejected, and those that it may name."""

    due: set[Name]
    allowed: set[Name]


def signature(server: ApiServer, at: Revisions) -> tuple[int, ...]:
    """Equal where nothing that any routing row follows from was written in between."""
    return tuple(server.changes(kind, at[kind]) for kind in _DEPENDENCIES if kind in at)


class World:
    """A cluster's objects at revisions of its resource types."""

    def __init__(self, server: ApiServer, at: Revisions) -> None:
        self.server = server
        self.at = at
        self._objects = {
            kind: {name_of(kind, item): item for item in server.listed(kind, at[kind])}
            for kind in _DEPENDENCIES
            if kind in at
        }
        self._bad = [name for items in self._objects.values() for name, item in items.items() if is_bad(item)]
        self._labels = {
            name: item["metadata"].get("labels", {}) for (_, _, name), item in self._of("Namespace") if not is_bad(item)
        }
        self._routes = [
            Route(name, item, tuple(parent for parent in item["spec"]["parentRefs"] if self._attached(name, parent)))
            for kind in ROUTE_KINDS
            for name, item in self._of(kind)
            if not is_bad(item)
        ]
        self._routes.sort(key=lambda route: route.age)
        self._expected: dict[tuple[str, str | None], Routing | None] = {}

    def _of(self, kind: str) -> Iterable[tuple[Name, Object]]:
        return self._objects.get(kind, {}).items()

    def _get(self, kind: str, namespace: str, name: str) -> Object | None:
        return self._objects.get(kind, {}).get((kind, namespace, name))

    def service(self, name: str) -> Object | None:
        """The Service as it is."""
        return self._get("Service", NAMESPACE, name)

    # ---- attachment ----------------------------------------------------------------------------------

    def _attached(self, route: Name, parent: Object) -> bool:
        if parent.get("kind") == "Service":
            return self._fits(route, parent) and not self._outranked(route, parent)
        gateway = self._get("Gateway", parent["namespace"], parent["name"])
        if gateway is None or is_bad(gateway):
            return False
        (listener,) = gateway["spec"]["listeners"]
        allowed = listener.get("allowedRoutes", {})
        kinds = [each["kind"] for each in allowed.get("kinds", ())]
        namespaces = allowed.get("namespaces", {})
        kind, namespace, _ = route
        return (
            parent.get("sectionName") in (None, listener["name"])
            and (not kinds or kind in kinds)
            and {
                "Same": namespace == parent["namespace"],
                "All": True,
                "Selector": self._selected(namespace, namespaces.get("selector", {})),
            }[namespaces.get("from", "Same")]
        )

    def _selected(self, namespace: str, selector: Object) -> bool:
        labels = self._labels.get(namespace, {})
        return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())

    def _fits(self, route: Name, parent: Object) -> bool:
        """Whether the Service can have routes, and the port that is named."""
        service = self._get("Service", parent["namespace"], parent["name"])
        if service is None or is_bad(service):
            return False
        spec = service["spec"]
        if spec.get("type") == "ExternalName" or spec.get("clusterIP") == "None":
            return False
        (port,) = spec["ports"]
        return bool(parent.get("port", port["port"]) == port["port"])

    def _outranked(self, route: Name, parent: Object) -> bool:
        """Whether a GRPCRoute of the same namespace has the port that this HTTPRoute is for."""
        kind, namespace, _ = route
        return kind == "HTTPRoute" and any(
            other[1] == namespace and not is_bad(item) and _same(own, parent) and self._fits(other, own)
            for other, item in self._of("GRPCRoute")
            for own in _parents(item)
        )

    # ---- who counts ----------------------------------------------------------------------------------

    def expected(self, name: str, service: Object | None) -> Routing | None:
        """What the Service's row must say, where the Service is this (None: not there); None where something that
        can't be read has a say in it."""
        key = name, service["metadata"]["resourceVersion"] if service is not None else None
        if key not in self._expected:
            self._expected[key] = self._expect(name, service)
        return self._expected[key]

    def _expect(self, name: str, service: Object | None) -> Routing | None:
        named = [route for route in self._routes if name in services_named(route.item)]
        if self._is_in_doubt(name, named):
            return None
        consumers = {
            namespace
            for route in named
            for parent in _services(route.attached)
            for namespace in self._consumers_at(parent)
            if _is_producer(route, parent) or namespace == route.name[1]
        }
        return Routing(
            self._direction(name, service, "gateway", named, lambda _, parent: parent.get("kind") != "Service"),
            self._direction(name, service, "mesh", named, _is_producer),
            {
                namespace: self._direction(name, service, "mesh", named, self._seen_from(namespace))
                for namespace in sorted(consumers)
            },
            sorted(route.name for route in named),
        )

    def _consumers_at(self, parent: Object) -> set[str]:
        """The namespaces with attached routes of their own for a Service of another."""
        return {
            route.name[1]
            for route in self._routes
            if route.name[1] != parent["namespace"] and any(_same(own, parent) for own in route.attached)
        }

    def _seen_from(self, namespace: str) -> _Counts:
        def counts(route: Route, parent: Object) -> bool:
            if parent.get("kind") != "Service":
                return False
            if _is_producer(route, parent):
                return namespace not in self._consumers_at(parent)
            return route.name[1] == namespace

        return counts

    # ---- the choice ----------------------------------------------------------------------------------

    def _direction(
        self, name: str, service: Object | None, traffic: str, routes: list[Route], counts: _Counts
    ) -> Direction:
        session: str | None = None
        rules = []
        for route in routes:
            if not any(counts(route, parent) for parent in route.attached):
                continue
            for index, rule in enumerate(route.item["spec"]["rules"]):
                for backend in rule["backendRefs"]:
                    if backend["name"] != name:
                        continue
                    own = rule.get("sessionPersistence", {}).get("sessionName")
                    if traffic == "gateway" and not self._granted(route.name, name):
                        rules.append((route.name, index, "none", "RefNotPermitted"))
                        continue
                    if session is None and backend["weight"] > 0:
                        session = own
                    rules.append((route.name, index, *self._choose(name, service, traffic, own)[:2]))
        return Direction(self._choose(name, service, traffic, session), sorted(rules))

    def _granted(self, route: Name, service: str) -> bool:
        kind, namespace, _ = route
        return namespace == NAMESPACE or any(
            (source["kind"], source["namespace"]) == (kind, namespace) and target.get("name", service) == service
            for _, grant in self._of("ReferenceGrant")
            if not is_bad(grant)
            for source in grant["spec"]["from"]
            for target in grant["spec"]["to"]
        )

    def _choose(self, name: str, service: Object | None, traffic: str, session: str | None) -> Choice:
        if service is None:
            return Choice("none", "ServiceNotFound")
        spec = service["spec"]
        if spec.get("type") == "ExternalName":
            return Choice("dns", "ExternalName")
        if spec.get("clusterIP") == "None":
            return Choice("endpoint", "Headless")
        if session is not None:
            return Choice("endpoint", "SessionPersistence", session)
        if (session := self._session_of_policy(name)) is not None:
            return Choice("endpoint", "BackendTrafficPolicy", session)
        if spec.get("sessionAffinity") == "ClientIP":
            return Choice("endpoint", "SessionAffinity")
        annotation = f"service-facets.io/{traffic}-routing"
        namespace = self._get("Namespace", "", NAMESPACE) or {"metadata": {}}
        for item, reason in ((service, "ServiceAnnotation"), (namespace, "NamespaceAnnotation")):
            if annotation in item["metadata"].get("annotations", {}):
                return Choice(item["metadata"]["annotations"][annotation], reason)
        return Choice("endpoint", "Default")

    def _session_of_policy(self, service: str) -> str | None:
        asking = [
            (item["metadata"]["creationTimestamp"], name, item["spec"]["sessionPersistence"]["sessionName"])
            for name, item in self._of(_POLICY)
            if service in services_named(item) and "sessionPersistence" in item["spec"]
        ]
        return min(asking)[2] if asking else None

    # ---- what can't be read --------------------------------------------------------------------------

    def is_named(self, name: str) -> bool:
        """Whether a route or policy that can be read names the Service."""
        return any(
            name in services_named(item)
            for kind in (*ROUTE_KINDS, _POLICY)
            for _, item in self._of(kind)
            if not is_bad(item)
        )

    def marks(self, name: str) -> Marks:
        """The bad routes and policies that the row must or may name: what such a one named when it could be read, it
        names still, as far as the watcher saw it."""
        due, allowed = set(), set()
        for bad in self._bad:
            if bad[0] in (*ROUTE_KINDS, _POLICY):
                names = [name in services_named(item) for item in self._versions(bad)]
                if all(names):
                    due.add(bad)
                if any(names):
                    allowed.add(bad)
        return Marks(due, allowed)

    def _versions(self, bad: Name) -> list[Object]:
        kind, namespace, name = bad
        versions = self.server.versions(kind, f"{namespace}/{name}", 0, self.at[kind])
        return [item for _, item in versions if item is not None]

    def _is_in_doubt(self, name: str, routes: list[Route]) -> bool:
        parents = {(each.get("kind", "Gateway"), each["name"]) for route in routes for each in _parents(route.item)}
        for kind, _, bad in self._bad:
            if kind in ("Gateway", "ReferenceGrant") and any(parent == "Gateway" for parent, _ in parents):
                return True
            if kind == "Service" and (bad == name or (kind, bad) in parents):
                return True
        for each in self._bad:
            if each[0] in (*ROUTE_KINDS, _POLICY):
                for item in self._versions(each):
                    theirs = {(own.get("kind", "Gateway"), own["name"]) for own in _parents(item)}
                    if name in services_named(item) or not theirs.isdisjoint(parents):
                        return True
        return False


def name_of(kind: str, item: Object) -> Name:
    """An object's kind, namespace and name."""
    return kind, item["metadata"].get("namespace", ""), item["metadata"]["name"]


def services_named(item: Object) -> set[str]:
    """The Services that a route or policy names: as parents, as backends or as targets."""
    spec = item["spec"]
    backends = [backend["name"] for rule in spec.get("rules", ()) for backend in rule["backendRefs"]]
    return {*backends, *(each["name"] for each in _services([*_parents(item), *spec.get("targetRefs", ())]))}


def _parents(item: Object) -> list[Object]:
    parents: list[Object] = item["spec"].get("parentRefs", [])
    return parents


def _services(references: Iterable[Object]) -> list[Object]:
    return [each for each in references if each.get("kind") == "Service"]


def _same(one: Object, other: Object) -> bool:
    return one.get("kind") == other.get("kind") == "Service" and one["name"] == other["name"]


def _is_producer(route: Route, parent: Object) -> bool:
    return parent.get("kind") == "Service" and route.name[1] == parent["namespace"]


def from_row(row: Any) -> Routing:
    """What a routing row says, in the same form."""
    mesh = row["mesh"]
    return Routing(
        _from_direction(row["gateway"]),
        _from_direction(mesh),
        {namespace: _from_direction(each) for namespace, each in mesh.get("consumers", {}).items()},
        sorted((each["kind"], each["namespace"], each["name"]) for each in row["routes"]),
    )


def _from_direction(direction: Any) -> Direction:
    session = None
    if direction["reason"] in {"SessionPersistence", "BackendTrafficPolicy"}:
        session = direction["sessionPersistence"]["sessionName"]
    rules = {
        (tuple(rule["route"][field] for field in ("kind", "namespace", "name")), rule["rule"], rule["decision"],
         rule["reason"])
        for rule in direction["rules"]
    }  # fmt: skip
    return Direction(Choice(direction["decision"], direction["reason"], session), sorted(rules))
