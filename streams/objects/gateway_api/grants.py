"""ReferenceGrants: which routes may name Services of another namespace. Each is additive, and none is needed within a
namespace; routes in a mesh need none at all (GEP-1294, Namespace boundaries), which the fold accounts for."""

from typing import NamedTuple

from streams.objects.fields import Json, mapping, objects, text
from streams.objects.gateway_api.references import ServiceKey
from streams.objects.resources import GATEWAY_API


class Grant(NamedTuple):
    """Who may refer, as (kind, namespace), and to which Services ("" is all)."""

    sources: frozenset[tuple[str, str]]
    names: frozenset[str]


class Grants:
    """A cluster's ReferenceGrants."""

    def __init__(self) -> None:
        self._by_namespace: dict[str, dict[str, Grant]] = {}

    def take(self, key: ServiceKey, item: Json | None) -> bool:
        """Hold a grant (None: it is deleted); whether that can change anything. Raises MalformedObject."""
        namespace, name = key
        grant = None if item is None else _read(item)
        grants = self._by_namespace.setdefault(namespace, {})
        before = grants.pop(name, None)
        if grant is not None:
            grants[name] = grant
        return grant != before

    def permits(self, kind: str, namespace: str, service: ServiceKey) -> bool:
        """Whether a route of this kind and namespace may name the Service."""
        target, name = service
        return target == namespace or any(
            (kind, namespace) in grant.sources and not grant.names.isdisjoint((name, ""))
            for grant in self._by_namespace.get(target, {}).values()
        )


def _read(item: Json) -> Grant:
    spec = mapping(item.get("spec"), "spec")
    sources = frozenset(
        (text(source.get("kind"), "spec.from.kind"), text(source.get("namespace"), "spec.from.namespace"))
        for source in objects(spec.get("from"), "spec.from")
        if source.get("group") == GATEWAY_API
    )
    names = frozenset(
        text(target.get("name"), "spec.to.name", "")
        for target in objects(spec.get("to"), "spec.to")
        if (target.get("group") or "", target.get("kind")) == ("", "Service")
    )
    return Grant(sources, names)
