"""Server-side apply and deletion as an API server does them, as far as the importer's objects go: a model of the
documented rules (Kubernetes, Server-Side Apply) for one field manager among others."""

from copy import deepcopy
from itertools import count
from typing import Any

from streams.importer.plan import Action, Held

Json = dict[str, Any]
MANAGER = "facets-import"
_SERVICE_NAME = "multicluster.kubernetes.io/service-name"
_KEYED = {"conditions": "type", "clusters": "cluster"}


class ModelCluster:
    """One cluster's objects of one Service. `writes` counts the requests that changed something."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Json] = {}
        self.active = True
        self.written: list[tuple[str, str, str]] = []
        self._versions = count(1)

    def put(self, kind: str, item: Json) -> Json:
        """Somebody writes an object."""
        meta = item["metadata"]
        version = next(self._versions)
        meta = {"uid": f"uid-{version}", "generation": 1, "namespace": "shop", **meta, "resourceVersion": str(version)}
        self.objects[kind, meta["name"]] = {**item, "kind": kind, "metadata": meta}
        return self.objects[kind, meta["name"]]

    def held(self, name: str = "cart", derived_name: str = "") -> Held:
        """What the importer sees of it."""
        marked = {
            key: item
            for key, item in self.objects.items()
            if item["metadata"].get("labels", {}).get("service-facets.io/imported-by") == MANAGER
        }
        return Held(
            self.active,
            self.objects.get(("ServiceImport", name)),
            self.objects.get(("ServiceExport", name)),
            {
                each: item
                for (kind, each), item in sorted(marked.items())
                if kind == "EndpointSlice" and item["metadata"]["labels"][_SERVICE_NAME] == name
            },
            marked.get(("Service", derived_name)),
        )

    def execute(self, action: Action) -> None:
        """One request of the importer's."""
        key = action.kind, action.name
        held = self.objects.get(key)
        if action.body is None:
            assert held is not None, f"{key} is deleted, and is not there"
            assert held["metadata"]["uid"] == action.before["metadata"]["uid"]  # type: ignore[index]
            del self.objects[key]
            self.written.append(("delete", *key))
            return
        body = deepcopy(action.body)
        if "ownerReferences" in body["metadata"]:
            owner = self.objects["ServiceImport", body["metadata"]["ownerReferences"][0]["name"]]
            body["metadata"]["ownerReferences"][0]["uid"] = owner["metadata"]["uid"]
        assert (held is None) == (action.before is None), f"{key} is not as it was seen"
        made = self._applied(key, held, body, action.status)
        assert made is not None, f"{key}: an apply that changes nothing"
        self.objects[key] = made
        self.written.append(("status" if action.status else "apply", *key))

    def _applied(self, key: tuple[str, str], held: Json | None, body: Json, status: bool) -> Json | None:
        before = held or {"kind": key[0], "metadata": {"name": key[1], "namespace": "shop", "generation": 1}}
        made = deepcopy(before)
        subresource = "status" if status else ""
        entries = made["metadata"].get("managedFields") or []
        owned = next((each["fieldsV1"] for each in entries if each.get("subresource", "") == subresource), {})
        for field, value in body.items():
            if field == "metadata":
                for texts in ("labels", "annotations"):
                    if texts in value:
                        names = owned.get("f:metadata", {}).get(f"f:{texts}", {})
                        _merge(made["metadata"].setdefault(texts, {}), value[texts], names)
                if "ownerReferences" in value:
                    made["metadata"]["ownerReferences"] = value["ownerReferences"]
            elif isinstance(value, dict):
                _merge(made.setdefault(field, {}), value, owned.get(f"f:{field}", {}))
            elif field not in {"apiVersion", "kind"}:
                made[field] = value
        if key[0] == "Service" and "clusterIPs" not in made["spec"]:
            made["spec"]["clusterIPs"] = [f"10.96.0.{number}" for number, _ in enumerate(made["spec"]["ipFamilies"], 9)]
        rest = [each for each in entries if each.get("subresource", "") != subresource]
        entry = {"manager": MANAGER, "operation": "Apply", "fieldsV1": _fields(body)}
        made["metadata"]["managedFields"] = [*rest, entry | ({"subresource": "status"} if status else {})]
        if made == before:
            return None
        version = next(self._versions)
        made["metadata"] |= {"resourceVersion": str(version)}
        made["metadata"].setdefault("uid", f"uid-{version}")
        return made


def _merge(held: Json, wanted: Json, owned: Json) -> None:
    for name in owned:
        field = name.removeprefix("f:")
        if field not in wanted:
            held.pop(field, None)
    for name, value in wanted.items():
        if name in _KEYED:
            key = _KEYED[name]
            ours = {item[key] for item in value}
            mine = owned.get(f"f:{name}", {})
            others = [
                item
                for item in held.get(name) or []
                if item[key] not in ours and f'k:{{"{key}":"{item[key]}"}}' not in mine
            ]
            held[name] = [*others, *value]
        else:
            held[name] = value


def _fields(body: Json) -> Json:
    fields: Json = {}
    for field, value in body.items():
        if field == "metadata":
            fields["f:metadata"] = {
                f"f:{texts}": {f"f:{name}": {} for name in value[texts]}
                for texts in ("labels", "annotations")
                if texts in value
            }
        elif isinstance(value, dict):
            fields[f"f:{field}"] = {
                f"f:{name}": {f'k:{{"{_KEYED[name]}":"{item[_KEYED[name]]}"}}': {} for item in inner}
                if name in _KEYED
                else {}
                for name, inner in value.items()
            }
        elif field not in {"apiVersion", "kind"}:
            fields[f"f:{field}"] = {}
    return fields
