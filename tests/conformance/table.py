"""Questions to the routing table, as a router would ask them: where is a route attached, and who gets a request?"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import msgspec

from streams.facets.route_order import RuleOrder
from streams.wire.routing_records import HeldRoute, RequestMatch, RouteParent

ERROR = "error"
"""Where requests go that no backend may get: a router answers them itself, with a 500."""

Key = tuple[str, str, str]
Shares = dict[str, Fraction]


class Request(NamedTuple):
    """A request to a Gateway (`to` is its name, `sets` those of its ListenerSets) or to a Service in the mesh, by a
    client of this namespace. Namespaces are those of the conformance tests where none is given."""

    to: str
    host: str = ""
    path: str = "/"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    call: tuple[str, str] = ("", "")
    port: int = 80
    sets: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("HTTPRoute", "GRPCRoute")


class Table:
    """The routing rows of one cluster, by namespace/name."""

    def __init__(self, rows: Mapping[str, Any]) -> None:
        self.rows = rows
        self._routes: dict[str, dict[Key, HeldRoute]] = {
            name: {
                (route["kind"], route["namespace"], route["name"]): msgspec.convert(route, HeldRoute)
                for route in row["routes"]
            }
            for name, row in rows.items()
        }

    def parents(self, kind: str, namespace: str, name: str) -> list[RouteParent]:
        """The parents of a route, of which all rows must say the same."""
        listed = [
            routes[kind, namespace, name].parents
            for routes in self._routes.values()
            if (kind, namespace, name) in routes
        ]
        assert listed, f"no row has the {kind} {namespace}/{name}"
        assert all(parents == listed[0] for parents in listed), f"rows disagree about the {kind} {namespace}/{name}"
        return listed[0]

    def shares(self, request: Request, role: str = "backend", *, mesh: bool = False, client: str = "") -> Shares:
        """Who gets a request: the share of each Service (`namespace/name`), or of ERROR; none where no rule takes it.
        Of mirrors those that are told of it."""
        directions = {
            name: (row["mesh"].get("consumers", {}).get(client, row["mesh"]) if mesh else row["gateway"])
            for name, row in self.rows.items()
        }
        rule = self._rule(request, directions, _mesh_parents(request) if mesh else self._gateway_parents(request))
        if rule is None:
            return {}
        shares: Shares = {}
        told = set()
        for name, direction in directions.items():
            for entry in direction["rules"]:
                route = entry["route"]
                backend = (name, entry["role"], entry["port"])
                if (route["kind"], route["namespace"], route["name"], entry["rule"]) != rule or entry["role"] != role:
                    continue
                if backend not in told and entry["weight"]:
                    to = ERROR if entry["decision"] == "none" else name
                    shares[to] = shares.get(to, Fraction(0)) + Fraction(entry["weight"], entry["totalWeight"])
                told.add(backend)
        missing = 1 - sum(shares.values())
        return {**shares, ERROR: shares.get(ERROR, 0) + missing} if role == "backend" and missing else shares

    def _rule(
        self, request: Request, directions: Mapping[str, Any], parents_of: Callable[[HeldRoute], list[RouteParent]]
    ) -> tuple[str, str, str, int] | None:
        """The first rule that takes the request, in the order that the rows have."""
        order = RuleOrder()
        for name, direction in directions.items():
            shadowed = {_named(entry) for entry in direction["rules"] if entry["reason"] == "RuleShadowed"}
            listed = {_named(entry) for entry in direction["rules"]}
            for key, route in self._routes[name].items():
                parents = parents_of(route)
                for backend in route.backends if parents and key[0] in request.kinds else ():
                    if (*key, backend.rule) in listed:
                        order.add(route, backend, parents, shadowed=(*key, backend.rule) in shadowed)
        for placed in order.placed():
            route = placed.route
            of_rule = next(backend for backend in route.backends if backend.rule == placed.number)
            assert not isinstance(of_rule.matches, str)
            hostnames = [
                host
                for parent in parents_of(route)
                for at in parent.listeners
                for host in at.hostnames or [at.hostname]
            ]
            pairs = (
                [(match.hostname, of_rule.matches[match.match]) for match in placed.matches]
                if placed.matches
                else [(host, match) for host in hostnames or [""] for match in of_rule.matches]
            )
            if any(_host_matches(host, request.host) and _matches(match, request) for host, match in pairs):
                return route.kind, route.namespace, route.name, placed.number
        return None

    def _gateway_parents(self, request: Request) -> Callable[[HeldRoute], list[RouteParent]]:
        """A route's parents as far as they are the listener that the request comes to: the most specific."""
        listeners = {
            (parent.kind, parent.name, listener.name): listener.hostname
            for routes in self._routes.values()
            for route in routes.values()
            for parent in _of_gateway(route, request)
            for listener in parent.listeners
            if listener.port == request.port and _host_matches(listener.hostname, request.host)
        }
        chosen = max(listeners, key=lambda name: _dots(listeners[name]), default=None)

        def parents_of(route: HeldRoute) -> list[RouteParent]:
            narrowed = []
            for parent in _of_gateway(route, request):
                at = [listener for listener in parent.listeners if (parent.kind, parent.name, listener.name) == chosen]
                if at:
                    narrowed.append(msgspec.structs.replace(parent, listeners=at))
            return narrowed

        return parents_of


def _of_gateway(route: HeldRoute, request: Request) -> Iterator[RouteParent]:
    for parent in route.parents:
        is_set = parent.kind == "ListenerSet" and parent.name in request.sets
        if parent.attached and (is_set or (parent.kind == "Gateway" and parent.name == request.to)):
            yield parent


def _mesh_parents(request: Request) -> Callable[[HeldRoute], list[RouteParent]]:
    return lambda route: [
        parent
        for parent in route.parents
        if parent.attached and parent.kind == "Service" and parent.name == request.to and request.port in parent.ports
    ]


def _named(entry: Any) -> tuple[str, str, str, int]:
    route = entry["route"]
    return route["kind"], route["namespace"], route["name"], entry["rule"]


def _dots(hostname: str) -> tuple[int, int, int]:
    return (not hostname.startswith("*") and bool(hostname)), hostname.count("."), len(hostname)


def _host_matches(hostname: str, host: str) -> bool:
    if hostname.startswith("*."):
        return host.endswith(hostname[1:])
    return hostname in {"", host}


def _matches(match: RequestMatch, request: Request) -> bool:
    headers = {name.lower(): value for name, value in request.headers}
    if not all(headers.get(header.name) == header.value for header in match.headers):
        return False
    if match.grpc_method is not None:
        asked = (match.grpc_method.service, match.grpc_method.method)
        return all(wanted in {"", given} for wanted, given in zip(asked, request.call, strict=True))
    query = dict(request.query)
    return (
        match.method in {"", request.method}
        and all(query.get(parameter.name) == parameter.value for parameter in match.query_params)
        and (match.path is None or _path_matches(match.path.type, match.path.value, request.path))
    )


def _path_matches(kind: str, value: str, path: str) -> bool:
    if kind == "Exact":
        return path == value
    assert kind == "PathPrefix", kind
    return _elements(path)[: len(_elements(value))] == _elements(value)


def _elements(path: str) -> Iterable[Any]:
    return [element for element in path.split("/") if element]
