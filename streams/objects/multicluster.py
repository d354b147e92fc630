"""ServiceExports (KEP-1645) and the ClusterProperty that names the cluster (KEP-2149), as the journal carries them.

The id is the whole cluster's, but bears only on its exports: each one's event has it, and all are made again when it
changes.
"""

import re
from collections.abc import Container, Iterator, Mapping
from typing import Any

import msgspec

from streams.objects.fields import Json, MalformedObject, is_name, mapping, text, texts
from streams.wire.clusterset_records import MAX_DROP_SECONDS, DropPolicy, ExportContent
from streams.wire.event_encoding import Key

CLUSTER_ID_PROPERTY = "cluster.clusterset.k8s.io"
DROP_AFTER = "service-facets.io/drop-unavailable-after"
DROP_FLOOR = "service-facets.io/drop-unavailable-floor"
NEVER = "never"

_SECONDS = re.compile(r"(\d{1,7})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PERCENT = re.compile(r"(\d{1,3})%")
_HUNDRED = 100

_encode = msgspec.json.encode


class Exports:
    """A cluster's ServiceExports, and its id ("": it has none of its own). `drop` is the policy of exports that have
    none of their own."""

    def __init__(self, drop: DropPolicy | None = None) -> None:
        self._drop = drop
        self._cluster_id = ""
        self._contents: dict[Key, ExportContent] = {}
        self._outdated = False

    def take_property(self, name: str, item: Json | None) -> None:
        """Hold a ClusterProperty (None: it is deleted). Raises MalformedObject."""
        if name == CLUSTER_ID_PROPERTY:
            cluster_id = "" if item is None else _read_cluster_id(item)
            self._outdated = self._outdated or cluster_id != self._cluster_id
            self._cluster_id = cluster_id

    def take(self, key: Key, item: Json) -> bytes:
        """Hold a ServiceExport; returns its content. Raises MalformedObject."""
        self._contents[key] = _read_export(item, self._drop)
        return self._encode(key)

    def drop(self, key: Key) -> None:
        """The ServiceExport is deleted."""
        self._contents.pop(key, None)

    def take_outdated(self, except_for: Container[Key]) -> Iterator[tuple[Key, bytes]]:
        """The exports whose content has changed with the cluster's id since the last call."""
        outdated, self._outdated = self._outdated, False
        if outdated:
            yield from ((key, self._encode(key)) for key in self._contents if key not in except_for)

    def _encode(self, key: Key) -> bytes:
        return _encode(msgspec.structs.replace(self._contents[key], cluster_id=self._cluster_id))


def _read_export(item: Json, drop: DropPolicy | None) -> ExportContent:
    created = text(item["metadata"].get("creationTimestamp"), "metadata.creationTimestamp", "")
    spec = mapping(item.get("spec"), "spec")
    return ExportContent(
        created,
        labels=_texts(spec.get("exportedLabels"), "spec.exportedLabels"),
        annotations=_texts(spec.get("exportedAnnotations"), "spec.exportedAnnotations"),
        drop=_read_drop_policy(texts(item["metadata"], "annotations"), drop),
    )


def _read_drop_policy(annotations: Mapping[str, str], default: DropPolicy | None) -> DropPolicy | None:
    """The policy for when nothing is heard of the cluster. Raises MalformedObject."""
    after, floor = annotations.get(DROP_AFTER), annotations.get(DROP_FLOOR, "0%")
    if after is None:
        if DROP_FLOOR in annotations:
            raise MalformedObject(f"annotation {DROP_FLOOR} without {DROP_AFTER}")
        return default
    if after == NEVER:
        return None
    seconds = _SECONDS.fullmatch(after)
    if seconds is None or not 1 <= (count := int(seconds[1]) * _UNITS[seconds[2]]) <= MAX_DROP_SECONDS:
        raise MalformedObject(f"annotation {DROP_AFTER}: {after!r:.80} is neither {NEVER} nor from 1s to 30d, as 5m")
    percent = _PERCENT.fullmatch(floor)
    if percent is None or int(percent[1]) > _HUNDRED:
        raise MalformedObject(f"annotation {DROP_FLOOR}: {floor!r:.80} is not from 0% to 100%")
    return DropPolicy(count, int(percent[1]))


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
