"""ReferenceGrants: which routes may name Services and ServiceImports of another namespace. Each is additive, and none
is needed within a namespace; routes in a mesh need none at all (GEP-1294, Namespace boundaries), which the fold
accounts for. One that could never be read permits nothing, but what its namespace permits is then not known."""

from typing import Literal, NamedTuple

from streams.objects.fields import Json, mapping, objects, text
from streams.objects.gateway_api.references import ServiceKey, backend_kind
from streams.objects.resources import GATEWAY_API
from streams.wire.routing_records import BackendKind


class Grant(NamedTuple):
    """Who may refer, as (kind, namespace), and to what, by kind and name ("" is all of the kind)."""

    sources: frozenset[tuple[str, str]]
    targets: frozenset[tuple[BackendKind, str]]


class Grants:
    """A cluster's ReferenceGrants."""

    def __init__(self) -> None:
        self._by_namespace: dict[str, dict[str, Grant]] = {}
        self._unreadable: dict[str, set[str]] = {}

    def take(self, key: ServiceKey, item: Json | None) -> bool:
        """Hold a grant (None: it is deleted); whether that can change anything. Raises MalformedObject."""
        namespace, name = key
        grant = None if item is None else _read(item)
        was_unreadable = self._mark(key, is_unreadable=False)
        grants = self._by_namespace.setdefault(namespace, {})
        before = grants.pop(name, None)
        if grant is not None:
            grants[name] = grant
        return was_unreadable or grant != before

    def reject(self, key: ServiceKey) -> bool:
        """A grant can't be read: its last good state stays. Whether that can change anything. One without a name is no
        object that an API server holds: nothing would ever take it back."""
        namespace, name = key
        if not name:
            return False
        is_held = name in self._by_namespace.get(namespace, {})
        return not is_held and not self._mark(key, is_unreadable=True)

    def permits(self, kind: str, namespace: str, target: ServiceKey, target_kind: BackendKind = "Service") -> bool:
        """Whether a route of this kind and namespace may name the Service or ServiceImport, as far as is known."""
        owner, name = target
        return owner == namespace or any(
            (kind, namespace) in grant.sources
            and not grant.targets.isdisjoint(((target_kind, name), (target_kind, "")))
            for grant in self._by_namespace.get(owner, {}).values()
        )

    def refusal(
        self, kind: str, namespace: str, target: ServiceKey, target_kind: BackendKind = "Service"
    ) -> Literal["", "GrantUnreadable"]:
        """Why it is not known whether the route may name the Service or ServiceImport ("": it is known)."""
        is_known = self.permits(kind, namespace, target, target_kind) or not self._unreadable.get(target[0])
        return "" if is_known else "GrantUnreadable"

    def _mark(self, key: ServiceKey, *, is_unreadable: bool) -> bool:
        """Whether the grant was unreadable before."""
        namespace, name = key
        names = self._unreadable.setdefault(namespace, set())
        was_unreadable = name in names
        (names.add if is_unreadable else names.discard)(name)
        return was_unreadable


def _read(item: Json) -> Grant:
    spec = mapping(item.get("spec"), "spec")
    sources = frozenset(
        (text(source.get("kind"), "spec.from.kind"), text(source.get("namespace"), "spec.from.namespace"))
        for source in objects(spec.get("from"), "spec.from")
        if source.get("group") == GATEWAY_API
    )
    targets = frozenset(
        (kind, text(target.get("name"), "spec.to.name", ""))
        for target in objects(spec.get("to"), "spec.to")
        if (kind := backend_kind(target.get("group") or "", target.get("kind"))) is not None
    )
    return Grant(sources, targets)
