"""What routes and Services are read in: Gateways' listeners, ReferenceGrants, Namespaces and the cluster's defaults."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from streams.objects.fields import Json, MalformedObject, mapping, objects, optional_port, text, texts
from streams.objects.gateway_api import NO_CHOICES, Choices, Parent, Route, ServiceKey, choices_of
from streams.objects.resources import GATEWAY_API
from streams.wire.routing_records import OperatorChoice, OperatorRouting, RouteBackend, RouteContent, RouteParent

NAMESPACE_LABEL = "kubernetes.io/metadata.name"

_encode = msgspec.json.encode


class _Listener(NamedTuple):
    name: str
    port: int | None
    protocol: str
    allowed: str
    selector: Json
    kinds: tuple[str, ...]


_PROTOCOLS = {
    "HTTP": ("HTTPRoute", "GRPCRoute"),
    "HTTPS": ("HTTPRoute", "GRPCRoute"),
    "TLS": ("TLSRoute", "TCPRoute"),
    "TCP": ("TCPRoute",),
    "UDP": ("UDPRoute",),
}
"""What a listener takes by its protocol, where it names no kinds (Gateway API, ProtocolType); any other: everything."""


class RouteContext:
    """The context that routes and Services are read in: Gateways, ReferenceGrants, Namespaces and the cluster's
    defaults (`service` or `endpoint`, by direction). As long as nothing is known of any Gateway (`gateways_listed`),
    a route counts as attached to the one that it names."""

    def __init__(self, defaults: Mapping[str, str] | None = None) -> None:
        self._defaults = {
            direction: OperatorChoice(choice, "Cluster")  # type: ignore[arg-type]
            for direction, choice in (defaults or {}).items()
        }
        self.gateways_listed = False
        self._gateways: dict[ServiceKey, tuple[_Listener, ...]] = {}
        self._grants: dict[ServiceKey, tuple[frozenset[tuple[str, str]], frozenset[str]]] = {}
        self._namespaces: dict[ServiceKey, tuple[dict[str, str], Choices]] = {}

    def take(self, kind: str, namespace: str, name: str, item: Json | None) -> bool:
        """Hold a context object (None: it is gone); whether that can change anything. Raises MalformedObject."""
        holders: dict[str, dict[ServiceKey, Any]] = {
            "Namespace": self._namespaces,
            "Gateway": self._gateways,
            "ReferenceGrant": self._grants,
        }
        holder, key = holders[kind], (namespace, name)
        was = holder.get(key)
        if item is None:
            holder.pop(key, None)
            return was is not None
        if kind == "Gateway":
            self.gateways_listed = True
        if kind == "Namespace":
            metadata = item["metadata"]
            holder[key] = ({**texts(metadata, "labels"), NAMESPACE_LABEL: name}, choices_of(metadata, "Namespace"))
        else:
            holder[key] = _listeners(item) if kind == "Gateway" else _grant(item)
        return bool(holder[key] != was)

    def operator(self, namespace: str, own: Choices) -> OperatorRouting | None:
        """What holds for a Service: its own annotation, else its Namespace's, else the cluster's default."""
        _, others = self._namespaces.get(("", namespace), ({}, NO_CHOICES))
        if not (self._defaults or others.choices or others.invalid or own.choices or own.invalid):
            return None
        found = {**self._defaults, **others.choices, **own.choices}
        invalid = own.invalid or others.invalid
        return OperatorRouting(gateway=found.get("gateway"), mesh=found.get("mesh"), invalid=invalid)

    def project(self, route: Route) -> dict[ServiceKey, bytes]:
        """What the route says of each Service that it names, as the journal carries it."""
        parents = [self._parent(route, each) for each in route.parents]
        named: dict[ServiceKey, list[RouteBackend]] = {
            (each.namespace, each.name): [] for each in route.parents if each.kind == "Service"
        }
        for backend in route.backends:
            named.setdefault(backend.service, []).append(
                RouteBackend(
                    backend.rule,
                    backend.rule_name,
                    backend.matches,
                    backend.port,
                    backend.weight,
                    self._permitted(route, backend.service),
                    backend.persistence,
                )
            )
        return {service: _encode(RouteContent(route.created, parents, backends)) for service, backends in named.items()}

    def _permitted(self, route: Route, service: ServiceKey) -> bool:
        namespace, name = service
        if namespace == route.namespace:
            return True
        return any(
            at == namespace and (route.kind, route.namespace) in sources and (name in names or "" in names)
            for (at, _), (sources, names) in self._grants.items()
        )

    def _parent(self, route: Route, parent: Parent) -> RouteParent:
        reason = "" if parent.kind == "Service" else self._refusal(route, parent)
        return RouteParent(
            parent.kind,  # type: ignore[arg-type]
            parent.namespace,
            parent.name,
            parent.section,
            parent.port,
            not reason,
            reason,
        )

    def _refusal(self, route: Route, parent: Parent) -> str:
        """Why the Gateway does not take the route; the words are the Gateway API's condition reasons, as far as it
        has one."""
        listeners = self._gateways.get((parent.namespace, parent.name))
        if listeners is None:
            return "GatewayNotFound" if self.gateways_listed else ""
        matching = [
            each for each in listeners if parent.section in {None, each.name} and parent.port in {None, each.port}
        ]
        if not matching:
            return "NoMatchingParent"
        for listener in matching:
            kinds = listener.kinds or _PROTOCOLS.get(listener.protocol, (route.kind,))
            if route.kind in kinds and self._allowed(listener, route.namespace, parent.namespace):
                return ""
        return "NotAllowedByListeners"

    def _allowed(self, listener: _Listener, namespace: str, own: str) -> bool:
        if listener.allowed == "All":
            return True
        if listener.allowed == "Selector":
            labels, _ = self._namespaces.get(("", namespace), ({NAMESPACE_LABEL: namespace}, NO_CHOICES))
            return selects(listener.selector, labels)
        return listener.allowed == "Same" and namespace == own


def selects(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether a metav1.LabelSelector matches; an unknown operator matches nothing. Raises MalformedObject."""
    if any(labels.get(key) != value for key, value in mapping(selector.get("matchLabels"), "matchLabels").items()):
        return False
    for each in objects(selector.get("matchExpressions"), "matchExpressions"):
        key, operator = text(each.get("key"), "matchExpressions.key"), text(each.get("operator"), "operator")
        values = each.get("values") or []
        if not isinstance(values, list):
            raise MalformedObject(f"matchExpressions.values: {values!r:.80} is not a list")
        holds = {
            "In": key in labels and labels[key] in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not holds.get(operator, False):
            return False
    return True


def _listeners(item: Json) -> tuple[_Listener, ...]:
    found = []
    for i, each in enumerate(objects(mapping(item.get("spec"), "spec").get("listeners"), "spec.listeners")):
        at = f"spec.listeners[{i}]"
        allowed = mapping(each.get("allowedRoutes"), f"{at}.allowedRoutes")
        namespaces = mapping(allowed.get("namespaces"), f"{at}.allowedRoutes.namespaces")
        selector = mapping(namespaces.get("selector"), f"{at}.allowedRoutes.namespaces.selector")
        selects(selector, {})
        found.append(
            _Listener(
                text(each.get("name"), f"{at}.name"),
                optional_port(each.get("port"), f"{at}.port"),
                text(each.get("protocol"), f"{at}.protocol", ""),
                text(namespaces.get("from"), f"{at}.allowedRoutes.namespaces.from", "Same"),
                selector,
                tuple(
                    text(kind.get("kind"), f"{at}.allowedRoutes.kinds")
                    for kind in objects(allowed.get("kinds"), f"{at}.allowedRoutes.kinds")
                    if (kind.get("group") or GATEWAY_API) == GATEWAY_API
                ),
            )
        )
    return tuple(found)


def _grant(item: Json) -> tuple[frozenset[tuple[str, str]], frozenset[str]]:
    """Who may refer, as (kind, namespace), and to which Services ("" is all)."""
    spec = mapping(item.get("spec"), "spec")
    sources = frozenset(
        (text(each.get("kind"), "spec.from.kind"), text(each.get("namespace"), "spec.from.namespace"))
        for each in objects(spec.get("from"), "spec.from")
        if each.get("group") == GATEWAY_API
    )
    names = frozenset(
        text(each.get("name"), "spec.to.name", "")
        for each in objects(spec.get("to"), "spec.to")
        if (each.get("group") or "", each.get("kind")) == ("", "Service")
    )
    return sources, names
