"""The core without Kafka: Kubernetes objects or watch events in, facet rows out, through a journal in memory."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from streams.facets.table import Table
from streams.facets.tables import WHOLE_ROW_TABLES
from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.objects import slice_v1beta1
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.fields import MalformedObject, identify
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import OPTIONAL, RESOURCES, Resource, best_version
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import Seal

EPOCH_TIME = "1970-01-01T00:00:00.000Z"
_KINDS = {resource.kind: resource for resource in (*RESOURCES, *OPTIONAL)}
_OPERATIONS = {"ADDED": Kind.APPLY, "MODIFIED": Kind.APPLY, "DELETED": Kind.DELETE}


class UnknownInput(ValueError):
    """Something that is neither a Kubernetes object, nor a list of them, nor a watch event."""


class OfflineJournal:
    """One partition of a journal, folded as it is written: of one cluster, or of several."""

    def __init__(self, tables: Iterable[Table[Any]] = WHOLE_ROW_TABLES) -> None:
        self._fold = PartitionFold(0, tables)
        self._offset = 0

    def append(self, record: JournalRecord) -> list[Write]:
        """The tables' records that a commit makes."""
        writes = list(self._fold.step(self._offset, record.value))
        self._offset += 1
        return writes


class AuditFold:
    """Folds one cluster's objects in one partition. The time is always `at`, so equal input makes equal rows. `seal` is
    the newest. What clusters export together is folded of those that share a `journal`."""

    def __init__(
        self,
        cluster: str = "local",
        cluster_domain: str = "cluster.local",
        at: str = EPOCH_TIME,
        routing_defaults: Mapping[str, str] | None = None,
        journal: OfflineJournal | None = None,
    ) -> None:
        self._at = at
        self._collector = Collector(
            cluster,
            epoch=1,
            writer="fold",
            seq=0,
            partitions=1,
            resources=_KINDS.values(),
            cluster_domain=cluster_domain,
            routing_defaults=routing_defaults,
        )
        self._journal = journal or OfflineJournal()
        self._started = False
        self.unknown_kinds: dict[str, int] = {}
        self.seal: Seal | None = None

    def take(self, document: Any) -> Iterator[Write]:
        """Fold a List, a watch event or a bare object. Raises UnknownInput."""
        if isinstance(document, list):
            document = {"kind": "List", "items": document}
        if not isinstance(document, Mapping):
            raise UnknownInput(f"{document!r:.80} is not a JSON object")
        if _is_list(document):
            items = list(_items(document))
            yield from self._snapshot(items) if not self._started else self._events(items)
        elif "object" in document and str(document.get("type")) in {*_OPERATIONS, "BOOKMARK", "ERROR"}:
            if document["type"] == "ERROR":
                raise UnknownInput(f"the watch ended with an error: {_message(document['object'])}")
            if document["type"] != "BOOKMARK":
                yield from self._event(_OPERATIONS[document["type"]], document["object"])
        elif document.get("kind") == "Status" and document.get("status") == "Failure":
            raise UnknownInput(f"the API server's answer was an error: {_message(document)}")
        elif "kind" in document and "metadata" in document:
            yield from self._event(Kind.APPLY, document)
        else:
            raise UnknownInput(f"{document!r:.80} is neither a Kubernetes object or List nor a watch event")

    def finish(self) -> Iterator[Write]:
        """After the last document. Empty input makes no rows, but an empty snapshot."""
        if not self._started:
            yield from self._snapshot([])

    def _snapshot(self, items: Iterable[Any]) -> Iterator[Write]:
        self._started = True
        yield from self._write(self._collector.begin(self._at))
        for kind in _KINDS:
            self._collector.ingest(kind, ReflectorEvent(Kind.INIT, None, ""))
        for item in items:
            kind = self._kind(item)
            if kind:
                self._collector.ingest(kind, ReflectorEvent(Kind.INIT_APPLY, _placed(item, kind), ""))
        for kind in _KINDS:
            self._collector.ingest(kind, ReflectorEvent(Kind.INIT_DONE, None, ""))
        yield from self._write(self._collector.flush(self._at))

    def _events(self, items: Iterable[Any]) -> Iterator[Write]:
        for item in items:
            yield from self._event(Kind.APPLY, item)

    def _event(self, operation: Kind, item: Any) -> Iterator[Write]:
        yield from self.finish()
        kind = self._kind(item)
        if kind:
            item = _placed(item, kind)
            meta = item.get("metadata")
            version = str(meta.get("resourceVersion") or "") if isinstance(meta, dict) else ""
            event = ReflectorEvent(operation, item, version)
            try:
                identify(item, _KINDS[kind].namespaced)
            except MalformedObject as error:
                event = ReflectorEvent(Kind.MALFORMED, item, version, str(error))
            self._collector.ingest(kind, event)
            yield from self._write(self._collector.flush(self._at))

    def _kind(self, item: Any) -> str:
        kind = item.get("kind") if isinstance(item, Mapping) else None
        version = item.get("apiVersion") if isinstance(item, Mapping) else None
        if str(kind) in _KINDS and _reads(_KINDS[str(kind)], version):
            return str(kind)
        named = f"{kind} of {version}" if str(kind) in _KINDS else str(kind)
        self.unknown_kinds[named] = self.unknown_kinds.get(named, 0) + 1
        return ""

    def _write(self, records: Iterable[JournalRecord]) -> Iterator[Write]:
        for record in records:
            for write in self._journal.append(record):
                if not write.key.startswith(SEAL_PREFIX):
                    yield write
                elif write.value is not None:
                    self.seal = msgspec.json.decode(write.value, type=Seal)


def _is_list(document: Any) -> bool:
    """Whether it is a list of objects; an empty one's items may be null, as Go writes them."""
    return (
        isinstance(document, Mapping)
        and isinstance(document.get("items", ...), list | None)
        and str(document.get("kind", "List")).endswith("List")
    )


def _items(document: Mapping[str, Any]) -> Iterator[Any]:
    """The objects of a list, and of lists in it, in order."""
    pending: list[Any] = [document]
    while pending:
        item = pending.pop()
        if _is_list(item):
            pending.extend(_typed(element, item) for element in reversed(item["items"] or ()))
        else:
            yield item


def _placed(item: dict[str, Any], kind: str) -> dict[str, Any]:
    """The object in its namespace: as for kubectl, manifests that name none mean `default`."""
    meta = item.get("metadata")
    if not _KINDS[kind].namespaced or not isinstance(meta, dict) or meta.get("namespace"):
        return item
    return {**item, "metadata": {**meta, "namespace": "default"}}


def _message(status: Any) -> str:
    """The text of a metav1.Status."""
    return str(status.get("message") or status.get("reason") or "") if isinstance(status, Mapping) else ""


def _typed(item: Any, document: Mapping[str, Any]) -> Any:
    """An item of a list. Typed clients and API servers leave out its kind and apiVersion, as the list has them."""
    kind = str(document.get("kind", "List")).removesuffix("List")
    if not kind or not isinstance(item, dict):
        return item
    named = {"kind": kind, "apiVersion": document.get("apiVersion")}
    return {**named, **{field: value for field, value in item.items() if field not in named or value}}


def _reads(resource: Resource, version: Any) -> bool:
    """Whether objects of this apiVersion are read as the resource's (other groups have Services and Gateways, too);
    one without an apiVersion is taken for the resource's."""
    if not isinstance(version, str) or not version:
        return True
    group, _, name = version.rpartition("/")
    if group != resource.group:
        return False
    return name == "v1" or version == slice_v1beta1.API_VERSION or (resource in OPTIONAL and bool(best_version([name])))
