"""What server-side apply would change: an object as it is held, next to what the importer wants of it.

The importer's own fields are those that `managedFields` name for its field manager: what is among them and not wanted
any more has to go, what others own is theirs (Kubernetes, Server-Side Apply).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from streams.importer.names import MANAGER, Json

_TEXTS = ("labels", "annotations")
_LIST_KEYS = {"conditions": ("type",), "clusters": ("cluster",)}
_SERVICE_LIST_KEYS = {"ports": ("protocol", "port")}


def differences(held: Json | None, wanted: Json) -> Iterator[tuple[str, Any, Any]]:
    """The fields that differ: path, value held, value wanted (None: no such field). Nothing if an apply would be no
    change."""
    if held is None:
        yield from ((path, None, value) for path, value in _fields(wanted))
        return
    owned = _owned_fields(held, "status" if "status" in wanted else "")
    meta, wanted_meta = held["metadata"], wanted["metadata"]
    for field in _TEXTS:
        if field in wanted_meta:
            names = _names(owned, "f:metadata", f"f:{field}")
            yield from _compare(f"metadata.{field}", meta.get(field) or {}, wanted_meta[field], names)
    if "ownerReferences" in wanted_meta:
        yield from _compare_lists(
            "metadata.ownerReferences", meta.get("ownerReferences"), wanted_meta["ownerReferences"], ("uid",)
        )
    for field, value in wanted.items():
        if field in {"apiVersion", "kind", "metadata"}:
            continue
        if isinstance(value, dict):
            keys = _SERVICE_LIST_KEYS if wanted["kind"] == "Service" else _LIST_KEYS
            yield from _compare(field, held.get(field) or {}, value, _names(owned, f"f:{field}"), keys)
            yield from _no_longer_wanted(field, value, owned)
        elif held.get(field) != value and (held.get(field) or value):
            yield field, held.get(field), value


def others_conditions(held: Json) -> set[str]:
    """The types of the conditions in an object's status that others set."""
    types: set[str] = set()
    for entry in held["metadata"].get("managedFields") or ():
        if entry.get("manager") != MANAGER:
            keys = _names(entry.get("fieldsV1") or {}, "f:status", "f:conditions", prefix="k:")
            types.update(str(json.loads(key).get("type")) for key in keys)
    return types


def _compare(
    path: str,
    held: Mapping[str, Any],
    wanted: Mapping[str, Any],
    owned: Iterable[str],
    keys: Mapping[str, tuple[str, ...]] | None = None,
) -> Iterator[tuple[str, Any, Any]]:
    for name, value in wanted.items():
        if keys and name in keys:
            yield from _compare_lists(f"{path}.{name}", held.get(name), value, keys[name])
        elif held.get(name) != value:
            yield f"{path}.{name}", held.get(name), value
    for name in owned:
        if name not in wanted and name in held:
            yield f"{path}.{name}", held[name], None


def _compare_lists(path: str, held: Any, wanted: Any, keys: tuple[str, ...]) -> Iterator[tuple[str, Any, Any]]:
    """Lists whose items have keys: others' items, and their other fields, are theirs."""
    items = {tuple(item.get(key) for key in keys): item for item in held or ()}
    for item in wanted:
        named = tuple(item.get(key) for key in keys)
        before = items.get(named)
        if before is None or any(before.get(field) != value for field, value in item.items()):
            yield f"{path}[{'/'.join(map(str, named))}]", before, item


def _no_longer_wanted(path: str, wanted: Json, owned: Json) -> Iterator[tuple[str, Any, Any]]:
    """Items of lists with keys that are the importer's, and not wanted."""
    for name in (*_LIST_KEYS, *_SERVICE_LIST_KEYS):
        named = {
            _key_text(item, (_LIST_KEYS | _SERVICE_LIST_KEYS)[name])
            for item in wanted.get(name) or ()
            if isinstance(item, dict)
        }
        for key in _names(owned, f"f:{path}", f"f:{name}", prefix="k:"):
            if key not in named:
                yield f"{path}.{name}[{key}]", {}, None


def _key_text(item: Json, keys: tuple[str, ...]) -> str:
    """An item's key as `fieldsV1` has it: compact JSON, ordered by name."""
    values = {key: item.get(key) for key in sorted(keys)}
    texts = (f'"{key}":{value}' if isinstance(value, int) else f'"{key}":"{value}"' for key, value in values.items())
    return "{" + ",".join(texts) + "}"


def _owned_fields(item: Json, subresource: str) -> Json:
    for entry in item["metadata"].get("managedFields") or ():
        is_ours = entry.get("manager") == MANAGER and entry.get("operation") == "Apply"
        if is_ours and (entry.get("subresource") or "") == subresource:
            fields: Json = entry.get("fieldsV1") or {}
            return fields
    return {}


def _names(owned: Json, *path: str, prefix: str = "f:") -> list[str]:
    for step in path:
        owned = owned.get(step) or {}
    return [name.removeprefix(prefix) for name in owned if name.startswith(prefix)]


def _fields(wanted: Json) -> Iterator[tuple[str, Any]]:
    meta = wanted["metadata"]
    yield from ((f"metadata.{field}", meta[field]) for field in _TEXTS if meta.get(field))
    for field, value in wanted.items():
        if field not in {"apiVersion", "kind", "metadata"}:
            yield from (
                ((f"{field}.{name}", inner) for name, inner in value.items())
                if isinstance(value, dict)
                else [(field, value)]
            )
