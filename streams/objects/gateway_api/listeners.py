"""Gateways and ListenerSets: their listeners, what each accepts, and which of them conflict."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from streams.objects.fields import Json, MalformedObject, mapping, objects, optional_port, text
from streams.objects.gateway_api.hostnames import intersection
from streams.objects.gateway_api.references import ServiceKey
from streams.objects.gateway_api.routes import Route
from streams.objects.resources import GATEWAY_API

LabelsOf = Callable[[str], Mapping[str, str]]
"""A Namespace's labels, by its name."""

_KINDS = {
    "HTTP": frozenset({"HTTPRoute", "GRPCRoute"}),
    "HTTPS": frozenset({"HTTPRoute", "GRPCRoute"}),
    "TLS": frozenset({"TLSRoute"}),
    "TCP": frozenset({"TCPRoute"}),
    "UDP": frozenset({"UDPRoute"}),
}
"""The kinds of route that a listener accepts by its protocol, if it names none (ProtocolType). An implementation's own
protocol (prefixed with its domain) may accept any kind, an unknown one accepts none."""

_WITH_HOSTNAMES = frozenset({"HTTP", "HTTPS", "TLS"})
_CLAIMS = {"HTTP": "HTTP", "HTTPS": "TLS", "TLS": "TLS"}
"""Protocols whose listeners may share a port if their hostnames differ; HTTPS and TLS both select by SNI."""


class Namespaces(NamedTuple):
    """Whose routes (RouteNamespaces) or ListenerSets (ListenerNamespaces) may be attached. `selector` None
    selects nothing."""

    source: str
    selector: Json | None

    def allow(self, namespace: str, own: str, labels_of: LabelsOf) -> bool:
        """Whether an object of a namespace may be attached to one in the namespace `own`."""
        if self.source == "Selector":
            return self.selector is not None and selects(self.selector, labels_of(namespace))
        return self.source == "All" or (self.source == "Same" and namespace == own)


class Listener(NamedTuple):
    """A listener; `kinds` None: those of its protocol. `hostname` "" matches any."""

    name: str
    port: int | None
    protocol: str
    hostname: str
    tls_mode: str
    namespaces: Namespaces
    kinds: frozenset[str] | None

    def takes(self, kind: str) -> bool:
        """Whether routes of this kind may be attached; listed kinds that the protocol doesn't support are ignored."""
        own = _KINDS.get(self.protocol, frozenset())
        if self.protocol == "TLS" and self.tls_mode == "Terminate":
            own = own | {"TCPRoute"}
        fits = kind in own or "/" in self.protocol
        return fits and (self.kinds is None or kind in self.kinds)

    def common_hostnames(self, route: Route) -> list[str] | None:
        """The hostnames for which the route gets requests here: [""] for any, None for none."""
        if self.protocol not in _WITH_HOSTNAMES and "/" not in self.protocol:
            return [""]
        return intersection(self.hostname, route.hostnames)


class Gateway(NamedTuple):
    """A Gateway: its own listeners, and whose ListenerSets it accepts."""

    listeners: tuple[Listener, ...]
    allowed: Namespaces


class ListenerSet(NamedTuple):
    """A ListenerSet; `gateway` is its parent's key, None where that is no Gateway."""

    gateway: ServiceKey | None
    created: str
    listeners: tuple[Listener, ...]


class MergedListener(NamedTuple):
    """A listener of a Gateway and its ListenerSets. `owner` is the kind and key of its object, `conflict` is the reason
    why it is conflicted ("": it is not)."""

    owner: tuple[str, ServiceKey]
    listener: Listener
    conflict: str


def merge_listeners(
    key: ServiceKey, gateway: Gateway, sets: Mapping[ServiceKey, ListenerSet], labels_of: LabelsOf
) -> list[MergedListener]:
    """All listeners of a Gateway, in the order of their precedence: its own, then those of the ListenerSets that it
    allows, the oldest first (GEP-1713). A listener is conflicted if one of another object takes precedence, or if one
    of its own object has the port for another protocol (GatewaySpec.listeners). Equal listeners of one object are not
    checked: the API's validation refuses them, and those that its older versions let pass are accepted."""
    allowed = [
        (("ListenerSet", set_key), listener_set.listeners)
        for set_key, listener_set in sorted(
            sets.items(), key=lambda item: (not item[1].created, item[1].created, "/".join(item[0]))
        )
        if listener_set.gateway == key and gateway.allowed.allow(set_key[0], key[0], labels_of)
    ]
    merged: list[MergedListener] = []
    for owner, listeners in ((("Gateway", key), gateway.listeners), *allowed):
        accepted = [other.listener for other in merged if not other.conflict]
        lost = [_conflict_with(listener, accepted) for listener in listeners]
        rest = [listener for listener, conflict in zip(listeners, lost, strict=True) if not conflict]
        for listener, conflict in zip(listeners, lost, strict=True):
            siblings = [other for other in rest if other.protocol != listener.protocol]
            merged.append(MergedListener(owner, listener, conflict or _conflict_with(listener, siblings)))
    return merged


def _conflict_with(listener: Listener, others: Iterable[Listener]) -> str:
    return next(filter(None, (_conflict(listener, other) for other in others)), "")


def _conflict(listener: Listener, other: Listener) -> str:
    if listener.port != other.port or (listener.protocol == "UDP") != (other.protocol == "UDP"):
        return ""
    shared = _CLAIMS.get(listener.protocol)
    if shared is not None and shared == _CLAIMS.get(other.protocol):
        return "HostnameConflict" if listener.hostname.lower() == other.hostname.lower() else ""
    is_exclusive = "TCP" in (listener.protocol, other.protocol) or listener.protocol == other.protocol
    return "ProtocolConflict" if is_exclusive else ""


def read_gateway(item: Json) -> Gateway:
    """A Gateway. Raises MalformedObject."""
    spec = mapping(item.get("spec"), "spec")
    allowed = mapping(spec.get("allowedListeners"), "spec.allowedListeners")
    return Gateway(_listeners(spec), _namespaces(allowed, "spec.allowedListeners", "None"))


def read_listener_set(item: Json) -> ListenerSet:
    """A ListenerSet. Raises MalformedObject."""
    meta, spec = item["metadata"], mapping(item.get("spec"), "spec")
    parent = mapping(spec.get("parentRef"), "spec.parentRef")
    target = (
        text(parent.get("group"), "spec.parentRef.group", GATEWAY_API),
        text(parent.get("kind"), "spec.parentRef.kind", "Gateway"),
    )
    key = (
        text(parent.get("namespace"), "spec.parentRef.namespace", meta["namespace"]),
        text(parent.get("name"), "spec.parentRef.name"),
    )
    created = text(meta.get("creationTimestamp"), "metadata.creationTimestamp", "")
    return ListenerSet(key if target == (GATEWAY_API, "Gateway") else None, created, _listeners(spec))


def _listeners(spec: Json) -> tuple[Listener, ...]:
    return tuple(
        _listener(listener, f"spec.listeners[{i}]")
        for i, listener in enumerate(objects(spec.get("listeners"), "spec.listeners"))
    )


def _listener(listener: Json, at: str) -> Listener:
    allowed = mapping(listener.get("allowedRoutes"), f"{at}.allowedRoutes")
    kinds = objects(allowed.get("kinds"), f"{at}.allowedRoutes.kinds")
    return Listener(
        text(listener.get("name"), f"{at}.name"),
        optional_port(listener.get("port"), f"{at}.port"),
        text(listener.get("protocol"), f"{at}.protocol", ""),
        text(listener.get("hostname"), f"{at}.hostname", ""),
        text(mapping(listener.get("tls"), f"{at}.tls").get("mode"), f"{at}.tls.mode", "Terminate"),
        _namespaces(allowed, f"{at}.allowedRoutes", "Same"),
        frozenset(_own_kinds(kinds, f"{at}.allowedRoutes.kinds")) if kinds else None,
    )


def _own_kinds(kinds: Iterable[Json], at: str) -> Iterable[str]:
    """The kinds that are of the Gateway API: another group's are no kinds of routes."""
    for i, kind in enumerate(kinds):
        name = text(kind.get("kind"), f"{at}[{i}].kind")
        if text(kind.get("group"), f"{at}[{i}].group", GATEWAY_API) == GATEWAY_API:
            yield name


def _namespaces(holder: Json, at: str, default: str) -> Namespaces:
    namespaces = mapping(holder.get("namespaces"), f"{at}.namespaces")
    selector: Any = namespaces.get("selector")
    if selector is not None:
        selects(mapping(selector, f"{at}.namespaces.selector"), {})
    return Namespaces(text(namespaces.get("from"), f"{at}.namespaces.from", default), selector)


def selects(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether a metav1.LabelSelector matches; an unknown operator matches nothing. Raises MalformedObject."""
    pairs = mapping(selector.get("matchLabels"), "matchLabels").items()
    holds = [labels.get(key) == value for key, value in pairs]
    for expression in objects(selector.get("matchExpressions"), "matchExpressions"):
        key, operator = (
            text(expression.get("key"), "matchExpressions.key"),
            text(expression.get("operator"), "operator"),
        )
        values = expression.get("values") or []
        if not isinstance(values, list):
            raise MalformedObject(f"matchExpressions.values: {values!r:.80} is not a list")
        results = {
            "In": key in labels and labels[key] in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        holds.append(results.get(operator, False))
    return all(holds)
