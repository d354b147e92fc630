"""References that routes make: to their parents, and to the Services and ServiceImports that get their requests."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from streams.objects.fields import Json, integer, mapping, objects, optional_port, text
from streams.objects.resources import GATEWAY_API, MULTICLUSTER_API
from streams.wire.routing_records import BackendKind

ServiceKey = tuple[str, str]
"""A Service's namespace and name; also that of any other namespaced object of a known kind."""

Role = Literal["backend", "mirror", "auth"]

MAX_WEIGHT = 1_000_000
_BACKENDS: dict[tuple[str, str], BackendKind] = {
    ("", "Service"): "Service",
    (MULTICLUSTER_API, "ServiceImport"): "ServiceImport",
}
_PARENTS = {(GATEWAY_API, "Gateway"), (GATEWAY_API, "ListenerSet"), *_BACKENDS}


class Parent(NamedTuple):
    """A route's reference to its parent. `group` is the API group."""

    group: str
    kind: str
    namespace: str
    name: str
    section: str | None
    port: int | None

    @property
    def is_known(self) -> bool:
        """Whether it is of a kind that a route can be attached to."""
        return (self.group, self.kind) in _PARENTS


class Backend(NamedTuple):
    """A rule's reference to a receiver of requests, in some role. `weight` of `total_weight` is its share of the rule's
    requests."""

    group: str
    kind: str
    namespace: str
    name: str
    port: int | None
    weight: int
    total_weight: int
    role: Role


def backend_kind(group: Any, kind: Any) -> BackendKind | None:
    """What can get requests under this group and kind: a Service of the cluster, or a ServiceImport, the Service of all
    clusters that export it (GEP-1748). None for all others."""
    return _BACKENDS.get((group, kind)) if isinstance(group, str) and isinstance(kind, str) else None


def read_parents(value: Any, namespace: str) -> Iterator[Parent]:
    """The `parentRefs` of a route of this namespace. Raises MalformedObject."""
    for i, reference in enumerate(objects(value, "spec.parentRefs")):
        at = f"spec.parentRefs[{i}]"
        yield Parent(
            text(reference.get("group"), f"{at}.group", GATEWAY_API),
            text(reference.get("kind"), f"{at}.kind", "Gateway"),
            text(reference.get("namespace"), f"{at}.namespace", namespace),
            text(reference.get("name"), f"{at}.name"),
            text(reference.get("sectionName"), f"{at}.sectionName", "") or None,
            optional_port(reference.get("port"), f"{at}.port"),
        )


def read_backends(rule: Json, at: str, namespace: str) -> Iterator[Backend]:
    """All that a rule names: its `backendRefs`, and those of its filters and of its backends' filters.

    Raises MalformedObject.
    """
    listed = [
        (reference, f"{at}.backendRefs[{i}]")
        for i, reference in enumerate(objects(rule.get("backendRefs"), f"{at}.backendRefs"))
    ]
    weights = [integer(reference.get("weight"), f"{path}.weight", 1, 0, MAX_WEIGHT) for reference, path in listed]
    for (reference, path), weight in zip(listed, weights, strict=True):
        yield _backend(reference, path, namespace, weight, sum(weights), "backend")
    yield from _of_filters(rule.get("filters"), f"{at}.filters", namespace)
    for reference, path in listed:
        yield from _of_filters(reference.get("filters"), f"{path}.filters", namespace)


def _of_filters(value: Any, at: str, namespace: str) -> Iterator[Backend]:
    """The filters' backends. A mirror's share is its percent or fraction (HTTPRequestMirrorFilter)."""
    for i, item in enumerate(objects(value, at)):
        path = f"{at}[{i}].requestMirror"
        if item.get("requestMirror") is not None:
            mirror = mapping(item["requestMirror"], path)
            share, whole = _mirrored(mirror, path)
            reference = mapping(mirror.get("backendRef"), f"{path}.backendRef")
            yield _backend(reference, f"{path}.backendRef", namespace, share, whole, "mirror")
        path = f"{at}[{i}].externalAuth"
        if item.get("externalAuth") is not None:
            reference = mapping(mapping(item["externalAuth"], path).get("backendRef"), f"{path}.backendRef")
            yield _backend(reference, f"{path}.backendRef", namespace, 1, 1, "auth")


def _mirrored(mirror: Json, at: str) -> tuple[int, int]:
    if mirror.get("percent") is not None:
        return integer(mirror["percent"], f"{at}.percent", 100, 0, 100), 100
    if mirror.get("fraction") is not None:
        fraction = mapping(mirror["fraction"], f"{at}.fraction")
        whole = integer(fraction.get("denominator"), f"{at}.fraction.denominator", 100, 1)
        return integer(fraction.get("numerator"), f"{at}.fraction.numerator", 0, 0, whole), whole
    return 1, 1


def _backend(reference: Json, at: str, namespace: str, weight: int, total: int, role: Role) -> Backend:
    return Backend(
        text(reference.get("group"), f"{at}.group", ""),
        text(reference.get("kind"), f"{at}.kind", "Service"),
        text(reference.get("namespace"), f"{at}.namespace", namespace),
        text(reference.get("name"), f"{at}.name"),
        optional_port(reference.get("port"), f"{at}.port"),
        weight,
        total,
        role,
    )
