"""The Gateway API's objects as they bear on Services: routes with what their references come to, and policies.

A route names Services in two ways: as a backend of its rules, and (GAMMA) as a parent. Whether it is attached to a
Gateway follows from the Gateway's listeners, whether it may name a Service of another namespace from
ReferenceGrants, so these objects, with Namespaces, are context (`objects.route_context`): they bear on no Service
themselves, but a change of one changes what a route says. Sources: gateway.networking.k8s.io/v1 HTTPRoute, Gateway
(AllowedRoutes), ReferenceGrant; GEP-1619 (session persistence); GAMMA (Service as parentRef).
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import orjson

from streams.objects.fields import Json, MalformedObject, integer, mapping, objects, optional_port, text, texts
from streams.objects.resources import GATEWAY_API
from streams.wire.routing_records import (
    OperatorChoice,
    PolicyContent,
    SessionPersistence,
)

ANNOTATIONS = {"gateway": "service-facets.io/gateway-routing", "mesh": "service-facets.io/mesh-routing"}
"""On a Service or a Namespace: `service` or `endpoint`, by direction."""

_DURATION = re.compile("([0-9]{1,5}(h|m|s|ms)){1,4}")
_EVERYTHING = [{"path": {"type": "PathPrefix", "value": "/"}}]
_encode = msgspec.json.encode
_persistence = msgspec.json.Decoder(SessionPersistence)

ServiceKey = tuple[str, str]


class Parent(NamedTuple):
    """A Gateway or Service that a route names as its parent."""

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
    """A route as parsed; `RouteContext.project` tells what comes of its parents and backends."""

    kind: str
    namespace: str
    name: str
    created: str
    parents: tuple[Parent, ...]
    backends: tuple[_Backend, ...]


class Choices(NamedTuple):
    """An operator's choices in the annotations of one object; `invalid` says what is wrong with one of them."""

    choices: Mapping[str, OperatorChoice]
    invalid: str = ""


NO_CHOICES = Choices({})


def choices_of(metadata: Json, source: str) -> Choices:
    """The operator's choices in annotations. A word that is none counts for nothing, and is named."""
    annotations = texts(metadata, "annotations")
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
    meta, spec = item["metadata"], mapping(item.get("spec"), "spec")
    namespace = meta["namespace"]
    parents = []
    for i, each in enumerate(objects(spec.get("parentRefs"), "spec.parentRefs")):
        at = f"spec.parentRefs[{i}]"
        group = text(each.get("group"), f"{at}.group", GATEWAY_API)
        target = text(each.get("kind"), f"{at}.kind", "Gateway")
        if (group, target) not in {(GATEWAY_API, "Gateway"), ("", "Service")}:
            continue
        parents.append(
            Parent(
                target,
                text(each.get("namespace"), f"{at}.namespace", namespace),
                text(each.get("name"), f"{at}.name"),
                text(each.get("sectionName"), f"{at}.sectionName", "") or None,
                optional_port(each.get("port"), f"{at}.port"),
            )
        )
    hostnames = spec.get("hostnames")
    backends: list[_Backend] = []
    for i, rule in enumerate(objects(spec.get("rules"), "spec.rules")):
        at = f"spec.rules[{i}]"
        name = text(rule.get("name"), f"{at}.name", "") or None
        matches = _digest(hostnames, rule.get("matches") or (_EVERYTHING if kind == "HTTPRoute" else None))
        persistence = _session_persistence(rule.get("sessionPersistence"), f"{at}.sessionPersistence")
        for service, here, each in _services(rule, at, namespace):
            port = optional_port(each.get("port"), f"{here}.port")
            weight = integer(each.get("weight"), f"{here}.weight", 1, 0, 1_000_000)
            backends.append(_Backend(service, i, name, matches, port, weight, persistence))
    return Route(kind, namespace, meta["name"], _created(meta), tuple(parents), tuple(backends))


def read_policy(item: Json) -> dict[ServiceKey, bytes]:
    """What an XBackendTrafficPolicy says, by Service that it targets. Raises MalformedObject."""
    meta, spec = item["metadata"], mapping(item.get("spec"), "spec")
    persistence = _session_persistence(spec.get("sessionPersistence"), "spec.sessionPersistence")
    body = _encode(PolicyContent(_created(meta), persistence))
    return {
        (meta["namespace"], text(each.get("name"), f"spec.targetRefs[{i}].name")): body
        for i, each in enumerate(objects(spec.get("targetRefs"), "spec.targetRefs"))
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


def _services(rule: Json, at: str, namespace: str) -> Iterable[tuple[ServiceKey, str, Json]]:
    for j, each in enumerate(objects(rule.get("backendRefs"), f"{at}.backendRefs")):
        here = f"{at}.backendRefs[{j}]"
        group, kind = (
            text(each.get("group"), f"{here}.group", ""),
            text(each.get("kind"), f"{here}.kind", "Service"),
        )
        if (group, kind) == ("", "Service"):
            at_namespace = text(each.get("namespace"), f"{here}.namespace", namespace)
            yield (at_namespace, text(each.get("name"), f"{here}.name")), here, each


def _digest(hostnames: Any, matches: Any) -> str:
    names = sorted(map(str, hostnames)) if isinstance(hostnames, list) else []
    return blake2b(orjson.dumps([names, matches], option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()


def _session_persistence(value: Any, at: str) -> SessionPersistence | None:
    if value is None:
        return None
    asked = mapping(value, at)
    kind = text(asked.get("type"), f"{at}.type", "Cookie")
    config = mapping(asked.get("cookieConfig"), f"{at}.cookieConfig")
    lifetime = text(config.get("lifetimeType"), f"{at}.cookieConfig.lifetimeType", "Session")
    body = {
        "type": kind,
        "sessionName": text(asked.get("sessionName"), f"{at}.sessionName", "") or None,
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
    return text(meta.get("creationTimestamp"), "metadata.creationTimestamp", "")
