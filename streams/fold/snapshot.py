"""An open snapshot: a cluster's objects listed so far, which replace the current ones when it ends."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from streams.facets.changes import LocalName, ServiceChange, local_name, local_name_of
from streams.facets.initial_rows import InitialObjects, Staged, initial_objects
from streams.facets.reading import read_event
from streams.fold.table import TableState
from streams.wire.records import Event

_PATCHED = "a patch in a snapshot, which has whole objects"
_MAX_PREPARED_OBJECTS = 8
"""A Service with more objects has its rows prepared once, at the end, and not again with each commit."""


class PreparedRows:
    """The parts of a Service's first rows that are made before the snapshot ends."""

    __slots__ = ("by_table", "objects")

    def __init__(self, objects: InitialObjects, by_table: Sequence[Any]) -> None:
        self.objects = objects
        self.by_table = by_table


class StagedService:
    """A Service in an open snapshot: its objects, and its first rows as far as they are prepared."""

    __slots__ = ("objects", "prepared")

    def __init__(self) -> None:
        self.objects: dict[LocalName, Staged] = {}
        self.prepared: PreparedRows | None = None


class OpenSnapshot:
    """What a snapshot's commits have named so far, by Service. `known` are the Services of which any table has an
    entry."""

    def __init__(self, tables: Sequence[TableState[Any]], known: Collection[str]) -> None:
        self._tables = tables
        self._known = known
        self._services: dict[str, StagedService] = {}

    def stage(self, events: Iterable[tuple[str, Event]], offset: int) -> None:
        """Take the events of the commit at this offset, each with its Service's key. Objects are read at once, while
        the rest of the list is still arriving."""
        touched: dict[str, tuple[StagedService, bool]] = {}
        for key, event in events:
            if (known := touched.get(key)) is None:
                service = self._services.get(key)
                if service is None:
                    service = self._services[key] = StagedService()
                known = touched[key] = service, self.is_first(key)
            service, is_first = known
            self._stage(service.objects, () if is_first else self._tables, key, event, offset)
        for key, (service, is_first) in touched.items():
            small = is_first and len(service.objects) <= _MAX_PREPARED_OBJECTS
            service.prepared = self._prepare(key, service.objects) if small else None

    def keys(self) -> Iterator[str]:
        """The Services that the snapshot names."""
        return iter(self._services)

    def take(self, key: str) -> StagedService:
        """Take a Service's objects out of the snapshot."""
        return self._services.pop(key, None) or StagedService()

    def is_first(self, key: str) -> bool:
        """Whether no table has an entry for the Service yet."""
        return key not in self._known

    def prepared(self, key: str, service: StagedService) -> PreparedRows | None:
        """The prepared rows of a Service; None if the general path must be taken."""
        return service.prepared or self._prepare(key, service.objects)

    def _prepare(self, key: str, staged: dict[LocalName, Staged]) -> PreparedRows | None:
        objects = initial_objects(staged)
        if objects is None:
            return None
        by_table = [table.rules.prepare(key, objects) for table in self._tables]
        return None if None in by_table else PreparedRows(objects, by_table)

    @staticmethod
    def _stage(
        objects: dict[LocalName, Staged], tables: Sequence[TableState[Any]], key: str, event: Event, offset: int
    ) -> None:
        """`tables` are those that may have the object."""
        name = local_name(event)
        if event.op == "patch":
            event = msgspec.structs.replace(event, op="reject", message=_PATCHED)
        if event.op == "delete":
            objects.pop(name, None)
        elif event.op == "reject":
            objects[name] = objects.get(name, Staged(None))._replace(bad=event)
        else:
            content = None
            if not tables or not is_current(tables, key, event):
                # An unreadable object is read again at the snapshot's end, and dead-lettered then.
                with suppress(msgspec.MsgspecError, ValueError):
                    content = read_event(event, current_object(tables, key, event, offset))
                if content is not None and event.kind == "EndpointSlice":
                    # The content has all of it; the bytes would keep the whole commit in memory.
                    event.object = msgspec.Raw()
            objects[name] = Staged(event, None, content)


def current_object(tables: Iterable[TableState[Any]], key: str, event: Event, offset: int) -> Any:
    """The current content of the event's object, as it was before the commit at this offset if any table has that, if
    it makes reading its new state faster."""
    written = None
    for table in tables:
        if table.follows(key, event.kind):
            current = table.rules.current_object(table.entry(key), event)
            if current is not None and not table.is_done(key, offset):
                return current
            written = current if written is None else written
    return written


def is_current(tables: Iterable[TableState[Any]], key: str, event: Event) -> bool:
    """Whether every table that uses the event's object has it with the same uid and resourceVersion, in full."""
    if event.message:
        return False
    concerned = [table for table in tables if table.follows(key, event.kind)]
    return bool(concerned) and all(table.rules.is_current(table.entry(key), event) for table in concerned)


def is_written(tables: Iterable[TableState[Any]], key: str, event: Event, offset: int) -> bool:
    """Whether every table that uses the event's object has the Service's row of the commit at this offset, or a later
    one: after a restart, commits are read again from the lowest seal on."""
    return all(table.is_done(key, offset) for table in tables if table.follows(key, event.kind))


def takes_up(tables: Iterable[TableState[Any]], key: str, named: Iterable[LocalName]) -> bool:
    """Whether a table is to hold all of the Service's objects, and does not yet."""
    kinds = frozenset(kind for kind, _ in named)
    return any(table.rules.takes_up(table.entry(key), kinds) for table in tables if table.rules.is_selective)


def forget_unnamed(
    change: ServiceChange,
    key: str,
    tables: Iterable[TableState[Any]],
    named: Collection[LocalName],
    unlisted: Collection[str],
) -> None:
    """Add the deletion of objects that a complete snapshot does not name, except of kinds that could not be listed."""
    namespace = key.split("/")[1]
    for table in tables:
        for cause in table.rules.objects(key, table.entry(key)):
            if local_name_of(cause) not in named and cause.kind not in unlisted:
                change.delete(namespace, cause)


def rejections_to_clear(
    key: str, tables: Iterable[TableState[Any]], unlisted: Collection[str]
) -> dict[LocalName, None]:
    """The objects that rows name as rejected: a complete snapshot names again those that still are."""
    return {
        local_name_of(rejection): None
        for table in tables
        for rejection in table.entry(key).rejected
        if rejection.kind not in unlisted
    }
