"""The Gateway API's objects as they bear on Services: routes with what their references come to, and policies.

A route names Services in two ways: as a backend of its rules, and (GAMMA) as a parent. Whether it is attached to a
Gateway follows from the Gateway's listeners, whether it may name a Service of another namespace from
ReferenceGrants, so these objects, with Namespaces, are context (`References`): they bear on no Service themselves,
but a change of one changes what a route says. Sources: gateway.networking.k8s.io/v1 HTTPRoute, Gateway
(AllowedRoutes), ReferenceGrant; GEP-1619 (session persistence); GAMMA (Service as parentRef).
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import orjson

from streams.core.normalize import Json, MalformedObject
from streams.core.resources import GATEWAY_API
from streams.core.routing_records import (
    OperatorChoice,
    OperatorRouting,
    PolicyContent,
    RouteBackend,
    RouteContent,
    RouteParent,
    SessionPersistence,
)

NAMESPACE_LABEL = "kubernetes.io/metadata.name"

ANNOTATIONS = {"gateway": "service-facets.io/gateway-routing", "mesh": "service-facets.io/mesh-routing"}
"""On a Service or a Namespace: `service` or `endpoint`, by direction."""

_LIMIT = 1024
_DURATION = re.compile("([0-9]{1,5}(h|m|s|ms)){1,4}")
_EVERYTHING = [{"path": {"type": "PathPrefix", "value": "/"}}]
_encode = msgspec.json.encode
_persistence = msgspec.json.Decoder(SessionPersistence)

ServiceKey = tuple[str, str]


class _Parent(NamedTuple):
    kind: str
    namespace: str
    name: str
    section: str | None
    port: int | None


class _Backend(NamedTuple):
    service: ServiceKey
    rule: int
    rule_name: str | None
    matches: str
    port: int | None
    weight: int
    persistence: SessionPersistence | None


class Route(NamedTuple):
    """A route as parsed; `References.bearing` tells what comes of its parents and backends."""

    kind: str
    namespace: str
    name: str
    created: str
    parents: tuple[_Parent, ...]
    backends: tuple[_Backend, ...]


class Choices(NamedTuple):
    """An operator's choices in the annotations of one object; `invalid` says what is wrong with one of them."""

    choices: Mapping[str, OperatorChoice]
    invalid: str = ""


class _Listener(NamedTuple):
    name: str
    port: int | None
    protocol: str
    allowed: str
    selector: Json
    kinds: tuple[str, ...]


NO_CHOICES = Choices({})

_PROTOCOLS = {
    "HTTP": ("HTTPRoute", "GRPCRoute"),
    "HTTPS": ("HTTPRoute", "GRPCRoute"),
    "TLS": ("TLSRoute", "TCPRoute"),
    "TCP": ("TCPRoute",),
    "UDP": ("UDPRoute",),
}
"""What a listener takes by its protocol, where it names no kinds (Gateway API, ProtocolType); any other: everything."""


class References:
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
            holder[key] = ({**_texts(metadata, "labels"), NAMESPACE_LABEL: name}, choices_of(metadata, "Namespace"))
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

    def bearing(self, route: Route) -> dict[ServiceKey, bytes]:
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

    def _parent(self, route: Route, parent: _Parent) -> RouteParent:
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

    def _refusal(self, route: Route, parent: _Parent) -> str:
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


def choices_of(metadata: Json, source: str) -> Choices:
    """The operator's choices in annotations. A word that is none counts for nothing, and is named."""
    annotations = _texts(metadata, "annotations")
    found: dict[str, OperatorChoice] = {}
    invalid = ""
    for direction, annotation in ANNOTATIONS.items():
        choice = annotations.get(annotation)
        if choice in {"service", "endpoint"}:
            found[direction] = OperatorChoice(choice, source)  # type: ignore[arg-type]
        elif choice is not None:
            invalid = f"{source} annotation {annotation}: {choice!r:.80} is neither service nor endpoint"
    return Choices(found, invalid) if found or invalid else NO_CHOICES


def read_route(kind: str, item: Json) -> Route:
    """A route of any kind. Raises MalformedObject."""
    meta, spec = item["metadata"], _mapping(item.get("spec"), "spec")
    namespace = meta["namespace"]
    parents = []
    for i, each in enumerate(_listed(spec.get("parentRefs"), "spec.parentRefs")):
        at = f"spec.parentRefs[{i}]"
        group = _text(each.get("group"), f"{at}.group", GATEWAY_API)
        target = _text(each.get("kind"), f"{at}.kind", "Gateway")
        if (group, target) not in {(GATEWAY_API, "Gateway"), ("", "Service")}:
            continue
        parents.append(
            _Parent(
                target,
                _text(each.get("namespace"), f"{at}.namespace", namespace),
                _text(each.get("name"), f"{at}.name"),
                _text(each.get("sectionName"), f"{at}.sectionName", "") or None,
                _port(each.get("port"), f"{at}.port"),
            )
        )
    hostnames = spec.get("hostnames")
    backends: list[_Backend] = []
    for i, rule in enumerate(_listed(spec.get("rules"), "spec.rules")):
        at = f"spec.rules[{i}]"
        name = _text(rule.get("name"), f"{at}.name", "") or None
        matches = _digest(hostnames, rule.get("matches") or (_EVERYTHING if kind == "HTTPRoute" else None))
        persistence = _session_persistence(rule.get("sessionPersistence"), f"{at}.sessionPersistence")
        for service, here, each in _services(rule, at, namespace):
            port = _port(each.get("port"), f"{here}.port")
            weight = _number(each.get("weight"), f"{here}.weight", 1, 1_000_000)
            backends.append(_Backend(service, i, name, matches, port, weight, persistence))
    return Route(kind, namespace, meta["name"], _created(meta), tuple(parents), tuple(backends))


def read_policy(item: Json) -> dict[ServiceKey, bytes]:
    """What an XBackendTrafficPolicy says, by Service that it targets. Raises MalformedObject."""
    meta, spec = item["metadata"], _mapping(item.get("spec"), "spec")
    persistence = _session_persistence(spec.get("sessionPersistence"), "spec.sessionPersistence")
    body = _encode(PolicyContent(_created(meta), persistence))
    return {
        (meta["namespace"], _text(each.get("name"), f"spec.targetRefs[{i}].name")): body
        for i, each in enumerate(_listed(spec.get("targetRefs"), "spec.targetRefs"))
        if (each.get("group") or "", each.get("kind")) == ("", "Service")
    }


def named_by(item: Any) -> set[ServiceKey]:
    """The Services that a route or policy names, as far as can be told of one that can't be read."""
    found: set[ServiceKey] = set()
    spec = item.get("spec") if isinstance(item, dict) else None
    meta = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(spec, dict) or not isinstance(meta, dict):
        return found
    rules = spec.get("rules")
    rules = rules if isinstance(rules, list) else []
    for listed in (spec.get("targetRefs"), *(rule.get("backendRefs") for rule in rules if isinstance(rule, dict))):
        for each in listed if isinstance(listed, list) else ():
            if isinstance(each, dict) and (each.get("group") or "", each.get("kind") or "Service") == ("", "Service"):
                key = (each.get("namespace") or meta.get("namespace"), each.get("name"))
                if all(isinstance(part, str) and part for part in key):
                    found.add(key)  # type: ignore[arg-type]
    return found


def selects(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether a metav1.LabelSelector matches; an unknown operator matches nothing. Raises MalformedObject."""
    if any(labels.get(key) != value for key, value in _mapping(selector.get("matchLabels"), "matchLabels").items()):
        return False
    for each in _listed(selector.get("matchExpressions"), "matchExpressions"):
        key, operator = _text(each.get("key"), "matchExpressions.key"), _text(each.get("operator"), "operator")
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


def _services(rule: Json, at: str, namespace: str) -> Iterable[tuple[ServiceKey, str, Json]]:
    for j, each in enumerate(_listed(rule.get("backendRefs"), f"{at}.backendRefs")):
        here = f"{at}.backendRefs[{j}]"
        group, kind = _text(each.get("group"), f"{here}.group", ""), _text(each.get("kind"), f"{here}.kind", "Service")
        if (group, kind) == ("", "Service"):
            at_namespace = _text(each.get("namespace"), f"{here}.namespace", namespace)
            yield (at_namespace, _text(each.get("name"), f"{here}.name")), here, each


def _digest(hostnames: Any, matches: Any) -> str:
    names = sorted(map(str, hostnames)) if isinstance(hostnames, list) else []
    return blake2b(orjson.dumps([names, matches], option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()


def _listeners(item: Json) -> tuple[_Listener, ...]:
    found = []
    for i, each in enumerate(_listed(_mapping(item.get("spec"), "spec").get("listeners"), "spec.listeners")):
        at = f"spec.listeners[{i}]"
        allowed = _mapping(each.get("allowedRoutes"), f"{at}.allowedRoutes")
        namespaces = _mapping(allowed.get("namespaces"), f"{at}.allowedRoutes.namespaces")
        selector = _mapping(namespaces.get("selector"), f"{at}.allowedRoutes.namespaces.selector")
        selects(selector, {})
        found.append(
            _Listener(
                _text(each.get("name"), f"{at}.name"),
                _port(each.get("port"), f"{at}.port"),
                _text(each.get("protocol"), f"{at}.protocol", ""),
                _text(namespaces.get("from"), f"{at}.allowedRoutes.namespaces.from", "Same"),
                selector,
                tuple(
                    _text(kind.get("kind"), f"{at}.allowedRoutes.kinds")
                    for kind in _listed(allowed.get("kinds"), f"{at}.allowedRoutes.kinds")
                    if (kind.get("group") or GATEWAY_API) == GATEWAY_API
                ),
            )
        )
    return tuple(found)


def _grant(item: Json) -> tuple[frozenset[tuple[str, str]], frozenset[str]]:
    """Who may refer, as (kind, namespace), and to which Services ("" is all)."""
    spec = _mapping(item.get("spec"), "spec")
    sources = frozenset(
        (_text(each.get("kind"), "spec.from.kind"), _text(each.get("namespace"), "spec.from.namespace"))
        for each in _listed(spec.get("from"), "spec.from")
        if each.get("group") == GATEWAY_API
    )
    names = frozenset(
        _text(each.get("name"), "spec.to.name", "")
        for each in _listed(spec.get("to"), "spec.to")
        if (each.get("group") or "", each.get("kind")) == ("", "Service")
    )
    return sources, names


def _session_persistence(value: Any, at: str) -> SessionPersistence | None:
    if value is None:
        return None
    asked = _mapping(value, at)
    kind = _text(asked.get("type"), f"{at}.type", "Cookie")
    config = _mapping(asked.get("cookieConfig"), f"{at}.cookieConfig")
    lifetime = _text(config.get("lifetimeType"), f"{at}.cookieConfig.lifetimeType", "Session")
    body = {
        "type": kind,
        "sessionName": _text(asked.get("sessionName"), f"{at}.sessionName", "") or None,
        "absoluteTimeout": _duration(asked.get("absoluteTimeout"), f"{at}.absoluteTimeout"),
        "idleTimeout": _duration(asked.get("idleTimeout"), f"{at}.idleTimeout"),
        "cookieLifetime": lifetime if kind == "Cookie" else None,
    }
    try:
        return _persistence.decode(orjson.dumps(body))
    except msgspec.ValidationError as error:
        raise MalformedObject(f"{at}: {error}") from None


def _duration(value: Any, at: str) -> str | None:
    if value is None or (isinstance(value, str) and _DURATION.fullmatch(value)):
        return value
    raise MalformedObject(f"{at}: {value!r:.80} is not a duration such as 1h30m")


def _created(meta: Json) -> str:
    return _text(meta.get("creationTimestamp"), "metadata.creationTimestamp", "")


def _texts(metadata: Json, field: str) -> dict[str, str]:
    found = metadata.get(field)
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _mapping(value: Any, at: str) -> Json:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedObject(f"{at}: {value!r:.80} is not an object")
    return value


def _listed(value: Any, at: str) -> Iterable[Json]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise MalformedObject(f"{at}: {value!r:.80} is not a list of objects")
    return value


def _text(value: Any, at: str, absent: str | None = None) -> str:
    if value is None and absent is not None:
        return absent
    if not isinstance(value, str) or len(value) > _LIMIT:
        raise MalformedObject(f"{at}: {value!r:.80} is not a string of at most {_LIMIT} characters")
    return value


def _number(value: Any, at: str, absent: int, most: int) -> int:
    if value is None:
        return absent
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise MalformedObject(f"{at}: {value!r:.80} is not a number from 0 to {most}")
    return value


def _port(value: Any, at: str) -> int | None:
    return None if value is None else _number(value, at, 0, 65535)
