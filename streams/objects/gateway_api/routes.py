"""Routes of all kinds, parsed, and the Services and ServiceImports that they name."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from streams.objects.fields import Json, array, mapping, objects, text
from streams.objects.gateway_api.matches import canonical_matches, identity
from streams.objects.gateway_api.references import (
    Backend,
    Parent,
    ServiceKey,
    backend_kind,
    read_backends,
    read_parents,
)
from streams.objects.gateway_api.session_persistence import read_session_persistence
from streams.objects.resources import TRAFFIC_POLICY
from streams.wire.event_encoding import Key
from streams.wire.routing_records import RequestMatch, SessionPersistence


class Rule(NamedTuple):
    """A rule of a route, by its place in it; `identities` are those of its matches."""

    place: int
    name: str | None
    matches: tuple[RequestMatch, ...]
    identities: tuple[bytes, ...]
    backends: tuple[Backend, ...]
    persistence: SessionPersistence | None


class Route(NamedTuple):
    """A route. `context.RouteContext` resolves its parents and backends."""

    kind: str
    namespace: str
    name: str
    created: str
    hostnames: tuple[str, ...]
    parents: tuple[Parent, ...]
    rules: tuple[Rule, ...]

    @property
    def key(self) -> Key:
        """Its kind, namespace and name."""
        return self.kind, self.namespace, self.name

    @property
    def age(self) -> tuple[bool, str, str, str]:
        """Sort key of precedence: the oldest first, then by namespace/name; unknown age counts as youngest."""
        return not self.created, self.created, f"{self.namespace}/{self.name}", self.kind


def read_route(kind: str, item: Json) -> Route:
    """A route of any kind. Raises MalformedObject."""
    meta, spec = item["metadata"], mapping(item.get("spec"), "spec")
    namespace = meta["namespace"]
    hostnames = [
        text(hostname, f"spec.hostnames[{i}]")
        for i, hostname in enumerate(array(spec.get("hostnames"), "spec.hostnames"))
    ]
    rules = objects(spec.get("rules"), "spec.rules")
    if kind == "HTTPRoute" and spec.get("rules") is None:
        rules = [{}]  # The API's default: a rule that takes everything.
    return Route(
        kind,
        namespace,
        meta["name"],
        text(meta.get("creationTimestamp"), "metadata.creationTimestamp", ""),
        tuple(dict.fromkeys(hostnames)),
        tuple(read_parents(spec.get("parentRefs"), namespace)),
        tuple(_rule(kind, namespace, i, rule) for i, rule in enumerate(rules)),
    )


def _rule(kind: str, namespace: str, index: int, rule: Json) -> Rule:
    at = f"spec.rules[{index}]"
    matches = tuple(canonical_matches(kind, rule.get("matches"), f"{at}.matches"))
    return Rule(
        index,
        text(rule.get("name"), f"{at}.name", "") or None,
        matches,
        tuple(map(identity, matches)),
        tuple(read_backends(rule, at, namespace)),
        read_session_persistence(rule, at),
    )


def named_by(kind: str, item: Any) -> set[ServiceKey]:
    """The Services that a route or policy names, and the names of ServiceImports, as far as can be told of one that
    can't be read."""
    spec = item.get("spec") if isinstance(item, dict) else None
    meta = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(spec, dict) or not isinstance(meta, dict):
        return set()
    named = set()
    for reference, default in _references(kind, spec):
        if backend_kind(reference.get("group") or "", reference.get("kind") or default) is not None:
            key = (reference.get("namespace") or meta.get("namespace"), reference.get("name"))
            if all(isinstance(part, str) and part for part in key):
                named.add(key)
    return named  # type: ignore[return-value]


def _references(kind: str, spec: Json) -> Iterator[tuple[Json, str]]:
    """Possible references to Services and ServiceImports, each with its default kind. Of the policies only an
    XBackendTrafficPolicy targets the latter."""
    for target in _dicts(spec.get("targetRefs")):
        if kind == TRAFFIC_POLICY.kind or target.get("kind") == "Service":
            yield target, ""
    yield from ((reference, "Gateway") for reference in _dicts(spec.get("parentRefs")))
    for rule in _dicts(spec.get("rules")):
        backends = list(_dicts(rule.get("backendRefs")))
        yield from ((reference, "Service") for reference in backends)
        for holder in (rule, *backends):
            for filtered in _dicts(holder.get("filters")):
                for field in ("requestMirror", "externalAuth"):
                    named = filtered.get(field)
                    yield from (
                        (reference, "Service")
                        for reference in _dicts([named.get("backendRef")] if isinstance(named, dict) else None)
                    )


def _dicts(value: Any) -> Iterable[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
