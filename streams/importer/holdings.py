"""What a cluster has, by Service: from what its lists and watches say, and from the answers to what was written."""

from collections.abc import Iterator, Mapping

from streams.importer.names import EXPORTS, IMPORTS, NAMESPACES, SERVICE_NAME, SLICES, Json, is_own
from streams.importer.plan import Held
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import SERVICES, Resource

Key = tuple[str, str]
"""A Service's namespace and name."""

_Name = tuple[str, str]
"""An object's namespace and name."""


class Holdings:
    """The newest state of each object that was seen. `derived` says whether derived Services are followed."""

    def __init__(self, *, derived: bool) -> None:
        self.resources: tuple[Resource, ...] = (NAMESPACES, IMPORTS, EXPORTS, SLICES, *((SERVICES,) if derived else ()))
        self._objects: dict[str, dict[_Name, Json]] = {resource.kind: {} for resource in self.resources}
        self._slices: dict[Key, set[_Name]] = {}
        self._listed: dict[str, set[_Name] | None] = {resource.kind: None for resource in self.resources}
        self._waited_for = {resource.kind for resource in self.resources}

    @property
    def missing(self) -> list[str]:
        """The types whose first list is not complete."""
        return [resource.frontier for resource in self.resources if resource.kind in self._waited_for]

    def take(self, kind: str, events: list[ReflectorEvent]) -> set[Key]:
        """Take events of a type; returns the Services that they affect."""
        affected: set[Key] = set()
        for event in events:
            if event.kind is Kind.INIT:
                self._listed[kind] = set()
            elif event.kind is Kind.INIT_DONE:
                affected |= self._end_list(kind)
            elif event.kind is Kind.DELETE:
                affected |= self.drop(kind, *_name_of(event.item))
            elif event.kind in {Kind.INIT_APPLY, Kind.APPLY}:
                affected |= self.put(kind, event.item)
                if (listed := self._listed[kind]) is not None:
                    listed.add(_name_of(event.item))
        return affected

    def put(self, kind: str, item: Json) -> set[Key]:
        """Hold an object, unless a newer state of it is held."""
        name, affected = _name_of(item), set[Key]()
        before = self._objects[kind].get(name)
        if before is not None:
            if _version(item) < _version(before) and item["metadata"].get("uid") == before["metadata"].get("uid"):
                return set()
            affected |= self.drop(kind, *name)
        self._objects[kind][name] = item
        if kind == SLICES.kind and (service := _service_of(item)):
            self._slices.setdefault((name[0], service), set()).add(name)
        return affected | self._affected(kind, item)

    def drop(self, kind: str, namespace: str, name: str) -> set[Key]:
        """An object is gone."""
        item = self._objects[kind].pop((namespace, name), None)
        if item is None:
            return set()
        if kind == SLICES.kind and (service := _service_of(item)):
            names = self._slices[namespace, service]
            names.discard((namespace, name))
            if not names:
                del self._slices[namespace, service]
        return self._affected(kind, item)

    def keys(self) -> set[Key]:
        """The Services of which something is held."""
        named = {name for kind in (IMPORTS.kind, EXPORTS.kind) for name in self._objects[kind]}
        services = {
            (namespace, service)
            for (namespace, _), item in self._objects.get(SERVICES.kind, {}).items()
            if (service := _service_of(item))
        }
        return named | services | self._slices.keys()

    def held(self, key: Key, derived_name: str, refused: str = "") -> Held:
        """What is held of a Service."""
        namespace = self._objects[NAMESPACES.kind].get(("", key[0]))
        slices = {
            name: self._objects[SLICES.kind][each, name]
            for each, name in sorted(self._slices.get(key, ()))
            if is_own(self._objects[SLICES.kind][each, name])
        }
        service = self._objects.get(SERVICES.kind, {}).get((key[0], derived_name))
        return Held(
            _is_active(namespace),
            self._objects[IMPORTS.kind].get(key),
            self._objects[EXPORTS.kind].get(key),
            slices,
            service if is_own(service) else None,
            refused,
        )

    def imports(self) -> Mapping[Key, Json]:
        """The ServiceImports, whoever wrote them."""
        return self._objects[IMPORTS.kind]

    def has(self, kind: str, namespace: str, name: str) -> bool:
        """Whether an object is held."""
        return (namespace, name) in self._objects[kind]

    def _affected(self, kind: str, item: Json) -> set[Key]:
        namespace, name = _name_of(item)
        if kind == NAMESPACES.kind:
            return {(name, "")}
        if kind in {SLICES.kind, SERVICES.kind}:
            return {(namespace, service)} if (service := _service_of(item)) else set()
        return {(namespace, name)}

    def _end_list(self, kind: str) -> set[Key]:
        """What a complete list does not have is gone."""
        listed, self._listed[kind] = self._listed[kind], None
        self._waited_for.discard(kind)
        affected: set[Key] = set()
        for name in [name for name in self._objects[kind] if name not in (listed or ())]:
            affected |= self.drop(kind, *name)
        return affected


def in_namespaces(affected: set[Key], keys: set[Key]) -> Iterator[Key]:
    """The Services that are affected: a key without a name stands for all `keys` of its namespace."""
    yield from (key for key in affected if key[1])
    namespaces = {namespace for namespace, name in affected if not name}
    yield from (key for key in keys if key[0] in namespaces)


def _name_of(item: Json) -> _Name:
    meta = item["metadata"]
    return str(meta.get("namespace") or ""), str(meta["name"])


def _service_of(item: Json) -> str:
    return str((item["metadata"].get("labels") or {}).get(SERVICE_NAME) or "")


def _is_active(namespace: Json | None) -> bool:
    if namespace is None or namespace["metadata"].get("deletionTimestamp"):
        return False
    return (namespace.get("status") or {}).get("phase") != "Terminating"


def _version(item: Json) -> int:
    version = str(item["metadata"].get("resourceVersion") or "")
    return int(version) if version.isdecimal() else 0
