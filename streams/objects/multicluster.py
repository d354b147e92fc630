"""ServiceExports (KEP-1645) and the ClusterProperty that names the cluster (KEP-2149), as the journal carries them.

The id is the whole cluster's, and a Namespace has a policy for its exports, but both bear on exports only: each one's
event has what holds for it, and those concerned are made again when it changes.
"""

import re
from collections.abc import Container, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from streams.objects.fields import Json, MalformedObject, is_name, mapping, text, texts
from streams.wire.clusterset_records import (
    CLUSTER_ID,
    MAX_DROP_SECONDS,
    MAX_PREFERRED,
    OWN_CLUSTER,
    OWN_NODE,
    OWN_ZONE,
    DropPolicy,
    ExportContent,
)
from streams.wire.event_encoding import Key

CLUSTER_ID_PROPERTY = "cluster.clusterset.k8s.io"
IMPORTED_BY = "service-facets.io/imported-by"
"""The label of what `facets import` makes of the clusterset in a cluster. It is no Service of that cluster's own."""
DROP_AFTER = "service-facets.io/drop-unavailable-after"
DROP_FLOOR = "service-facets.io/drop-unavailable-floor"
NEVER = "never"
PREFER = "service-facets.io/prefer"

_SECONDS = re.compile(r"(\d{1,7})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PERCENT = re.compile(r"(\d{1,3})%")
_HUNDRED = 100
_PLACES = (OWN_NODE, OWN_ZONE, OWN_CLUSTER)

_encode = msgspec.json.encode


class _Own(NamedTuple):
    """A ServiceExport by itself; `policy` is None where it has none of its own."""

    content: ExportContent
    policy: "_Policy | None"


class _Policy(NamedTuple):
    """What annotations say of when nothing is heard of the cluster; `drop` is None for never."""

    drop: DropPolicy | None


class Exports:
    """A cluster's ServiceExports, its id ("": it has none of its own), and its Namespaces' policies. `drop` is that of
    exports of which neither they themselves nor their Namespaces say anything."""

    def __init__(self, drop: DropPolicy | None = None) -> None:
        self._default = _Policy(drop)
        self._cluster_id = ""
        self._exports: dict[Key, _Own] = {}
        self._namespaces: dict[str, _Policy] = {}
        self._outdated: set[Key] = set()

    def take_property(self, name: str, item: Json | None) -> None:
        """Hold a ClusterProperty (None: it is deleted). Raises MalformedObject."""
        if name == CLUSTER_ID_PROPERTY:
            cluster_id = "" if item is None else _read_cluster_id(item)
            if cluster_id != self._cluster_id:
                self._outdated.update(self._exports)
            self._cluster_id = cluster_id

    def take_namespace(self, name: str, item: Json | None) -> str:
        """Hold a Namespace's policy (None: the Namespace is deleted). If it can't be read, the one before goes on
        counting, and what is wrong is returned."""
        try:
            policy = None if item is None else _read_policy(texts(item["metadata"], "annotations"))
        except MalformedObject as error:
            return str(error)
        if policy != self._namespaces.get(name):
            self._outdated.update(
                key for key, export in self._exports.items() if key[1] == name and export.policy is None
            )
        self._namespaces.pop(name, None)
        if policy is not None:
            self._namespaces[name] = policy
        return ""

    def take(self, key: Key, item: Json) -> bytes:
        """Hold a ServiceExport; returns its content. Raises MalformedObject."""
        self._exports[key] = _read_export(item)
        return self._encode(key)

    def drop(self, key: Key) -> None:
        """The ServiceExport is deleted."""
        self._exports.pop(key, None)
        self._outdated.discard(key)

    def take_outdated(self, except_for: Container[Key]) -> Iterator[tuple[Key, bytes]]:
        """The exports whose content has changed since the last call with what is not their own."""
        outdated, self._outdated = self._outdated, set()
        yield from ((key, self._encode(key)) for key in sorted(outdated) if key not in except_for)

    def _encode(self, key: Key) -> bytes:
        export = self._exports[key]
        policy = export.policy or self._namespaces.get(key[1]) or self._default
        return _encode(msgspec.structs.replace(export.content, cluster_id=self._cluster_id, drop=policy.drop))


def _read_export(item: Json) -> _Own:
    created = text(item["metadata"].get("creationTimestamp"), "metadata.creationTimestamp", "")
    spec = mapping(item.get("spec"), "spec")
    content = ExportContent(
        created,
        labels=_texts(spec.get("exportedLabels"), "spec.exportedLabels"),
        annotations=_texts(spec.get("exportedAnnotations"), "spec.exportedAnnotations"),
        prefer=_read_preference(texts(item["metadata"], "annotations").get(PREFER, "")),
    )
    return _Own(content, _read_policy(texts(item["metadata"], "annotations")))


def _read_policy(annotations: Mapping[str, str]) -> _Policy | None:
    """The policy for when nothing is heard of the cluster; None where nothing is said. Raises MalformedObject."""
    after, floor = annotations.get(DROP_AFTER), annotations.get(DROP_FLOOR, "0%")
    if after is None:
        if DROP_FLOOR in annotations:
            raise MalformedObject(f"annotation {DROP_FLOOR} without {DROP_AFTER}")
        return None
    if after == NEVER:
        return _Policy(None)
    seconds = _SECONDS.fullmatch(after)
    if seconds is None or not 1 <= (count := int(seconds[1]) * _UNITS[seconds[2]]) <= MAX_DROP_SECONDS:
        raise MalformedObject(f"annotation {DROP_AFTER}: {after!r:.80} is neither {NEVER} nor from 1s to 30d, as 5m")
    percent = _PERCENT.fullmatch(floor)
    if percent is None or int(percent[1]) > _HUNDRED:
        raise MalformedObject(f"annotation {DROP_FLOOR}: {floor!r:.80} is not from 0% to 100%")
    return _Policy(DropPolicy(count, int(percent[1])))


def _read_preference(value: str) -> list[str]:
    """What clients of the set try first, in order. Raises MalformedObject."""
    preferred = list(filter(None, map(str.strip, value.split(","))))
    for selector in preferred:
        if selector not in _PLACES and not (
            selector.startswith(CLUSTER_ID) and is_name(selector.removeprefix(CLUSTER_ID))
        ):
            raise MalformedObject(
                f"annotation {PREFER}: {selector!r:.80} is none of {', '.join(_PLACES)} and {CLUSTER_ID}ID"
            )
    if len(preferred) > MAX_PREFERRED:
        raise MalformedObject(f"annotation {PREFER} has more than {MAX_PREFERRED} places")
    if len(set(preferred)) < len(preferred):
        raise MalformedObject(f"annotation {PREFER} names a place twice: {value!r:.80}")
    return preferred


def _texts(value: Any, at: str) -> dict[str, str]:
    """A map of strings, ordered by key."""
    for key, entry in mapping(value, at).items():
        if not isinstance(entry, str):
            raise MalformedObject(f"{at}[{key:.80}]: {entry!r:.80} is not a string")
    return dict(sorted(mapping(value, at).items()))


def _read_cluster_id(item: Json) -> str:
    """The id: a DNS subdomain (KEP-2149; KEP-1645 puts it into DNS names)."""
    value = mapping(item.get("spec"), "spec").get("value")
    if not is_name(value):
        raise MalformedObject(f"spec.value: {value!r:.80} is not a cluster's id: a DNS name in lower case")
    return str(value)
