"""The backend table: a Service's endpoint set, merged from its slices.

The set and its merge are in `endpoint_set`. Legacy Endpoints count only while the Service has no slice; as a row
names only what counts, they are kept in its companion.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from streams.facets import endpoint_set, initial_rows, overlay, row_parts, set_change, single_slice
from streams.facets.changes import ServiceChange
from streams.facets.claims import shadows_of
from streams.facets.endpoint_set import EMPTY_SET, EndpointSet
from streams.facets.initial_rows import InitialObjects
from streams.facets.reading import read_source_event
from streams.facets.row_parts import UNDIVIDED, KnownChanges, Parts
from streams.facets.set_change import NO_DIFFERENCE
from streams.facets.slice_text import LEGACY_PREFIX, Source
from streams.facets.table import CompanionUpdate, RowUpdate, Table
from streams.objects.resources import ROUTING_KINDS
from streams.wire.records import (
    Cause,
    Event,
    Group,
    Rejection,
    RowHead,
    ServiceReference,
    SliceGroup,
    SourceContent,
)
from streams.wire.row_codec import RowContext, encode_head

_encode = msgspec.json.encode
_decode_groups = msgspec.json.Decoder(list[Group]).decode
_decode_event = msgspec.json.Decoder(Event).decode


class _Row(RowHead, kw_only=True):
    service: ServiceReference | None
    groups: msgspec.Raw
    change: msgspec.Raw


_decode_row = msgspec.json.Decoder(_Row).decode

_ENDPOINT_KINDS = ("EndpointSlice", "Endpoints")
_REJECTED_KINDS = (*_ENDPOINT_KINDS, "Service")


class Legacy(NamedTuple):
    """A Service's legacy Endpoints; `version` is that of their companion record."""

    version: int
    source: Source


class BackendEntry(NamedTuple):
    """The backend table's entry; `service` is (uid, type), None while there is no Service. The legacy Endpoints are not
    in `endpoints`. `parts` are those in which the row is written, none where it is whole."""

    version: int | None
    service: tuple[str, str] | None
    endpoints: EndpointSet
    state: str
    reason: str
    rejected: tuple[Rejection, ...]
    legacy: Legacy | None = None
    parts: Parts = MappingProxyType({})

    @property
    def withdrawn(self) -> bool:
        """Whether the set is withheld because of the Service."""
        return _is_withheld(self.service)

    def counted(self) -> EndpointSet:
        """The set as in the row: with the legacy Endpoints."""
        if self.legacy is None:
            return self.endpoints
        counted = self.endpoints._replace(legacy=self.legacy.source)
        if counted.slices:
            return counted
        return counted._replace(shadows=shadows_of(counted.counted))


class BackendTable(Table[BackendEntry]):
    """Follows from the Service (whether it is there, and its type), its EndpointSlices and its legacy Endpoints. Rows
    of large Services are in parts, if it `divides` rows; that is only of how they are written."""

    name = "backend"
    kinds = frozenset({"Service", *_ENDPOINT_KINDS})
    nothing = BackendEntry(None, None, EMPTY_SET, "deleted", "", ())

    def __init__(self, *, divides: bool = True) -> None:
        self._divides = divides

    def read(self, row: bytes) -> BackendEntry:
        """See Table."""
        fields = _decode_row(row)
        service = (fields.service.uid, fields.service.type) if fields.service else None
        endpoints, rejected = endpoint_set.read_groups(fields.groups), tuple(fields.rejected)
        return BackendEntry(fields.version, service, endpoints, fields.state, fields.reason, rejected)

    def fold(
        self, ctx: RowContext, key: str, entry: BackendEntry, change: ServiceChange
    ) -> RowUpdate[BackendEntry] | None:
        """See Table."""
        service, causes = entry.service, []
        if (own := change.service) is not None:
            service = None if own.content is None else (own.content[1].uid, own.content[1].type)
            if service != entry.service:
                causes.append(own.cause)
        before, difference = entry.counted(), NO_DIFFERENCE
        slices = _changed_slices(before.slices, change, causes)
        legacy = next(change.of(("Endpoints",)), None)
        after = before._replace(legacy=before.legacy if legacy is None else legacy.content)
        # While there are slices, before and after, the Endpoints don't affect the set.
        if legacy is not None and after.legacy != before.legacy and not _any_remains(before.slices, slices):
            causes.append(legacy.cause)
        if causes:
            withdrawn = (_is_withheld(entry.service), _is_withheld(service))
            after, difference = endpoint_set.advance(before, slices, after.legacy, withdrawn=withdrawn)
        rejected = overlay.rejected_after(entry.rejected, change.marks, _REJECTED_KINDS)
        if service is not None:
            # Of a Service that was read, its type is all that counts here.
            rejected = tuple(rejection for rejection in rejected if rejection.kind != "Service")
        is_known = service is not None or bool(after.slices or rejected) or entry.version is not None
        state, reason = _state(service, after, ctx, rejected)
        if not is_known or (not causes and (state, reason, rejected) == (entry.state, entry.reason, entry.rejected)):
            return None
        others = ROUTING_KINDS if service is None else ROUTING_KINDS | {"Service"}
        causes += [cause for cause in change.rejections if cause.kind not in others]
        new = BackendEntry(ctx.offset, service, after.without_legacy(), state, reason, rejected, entry.legacy)
        return self._update(ctx, key, entry, new, causes, after, set_change.encode_difference(difference))

    def renew(self, ctx: RowContext, key: str, entry: BackendEntry) -> RowUpdate[BackendEntry]:
        """See Table."""
        new = entry._replace(version=ctx.offset)
        return self._update(ctx, key, entry, new, [], entry.counted(), set_change.NO_CHANGE)

    def with_parts(self, entry: BackendEntry, parts: Parts) -> BackendEntry:
        """See Table."""
        return entry._replace(parts=parts)

    def _update(
        self,
        ctx: RowContext,
        key: str,
        entry: BackendEntry,
        new: BackendEntry,
        causes: list[Cause],
        counted: EndpointSet,
        difference: bytes,
        known: KnownChanges | None = None,
    ) -> RowUpdate[BackendEntry]:
        """The row and its parts; `counted` is the new entry's set as in the row."""
        head = encode_head(
            ctx, key, entry.version, state=new.state, reason=new.reason, rejected=new.rejected, causes=causes
        )
        division = UNDIVIDED
        if self._divides:
            division = row_parts.divide(key, ctx.offset, entry.parts, entry, new, known)
        withdrawn = _is_withheld(new.service)
        content = row_parts.encode_content(ctx.offset, division.parts, counted, withdrawn=withdrawn)
        row = b'%b,"service":%b,%b,"change":%b}' % (head, _encode_service(new.service), content, difference)
        divided = new if division is UNDIVIDED else new._replace(parts=division.parts)
        return RowUpdate(divided, row, division.records)

    def objects(self, key: str, entry: BackendEntry) -> list[Cause]:
        """See Table."""
        name = key.rpartition("/")[2]
        causes = [] if entry.service is None else [Cause("Service", name, entry.service[0], "")]
        causes += [
            Cause("EndpointSlice", label, source.uid, source.resource_version)
            for label, source in sorted(entry.endpoints.slices.items())
        ]
        if entry.legacy is not None:
            source = entry.legacy.source
            causes.append(Cause("Endpoints", name, source.uid, source.resource_version))
        return causes

    def is_finished(self, entry: BackendEntry) -> bool:
        """See Table."""
        return entry.service is None and not entry.endpoints.slices and not entry.rejected

    # ---- fast paths ----------------------------------------------------------------------------------

    def current_object(self, entry: BackendEntry, event: Event) -> Source | None:
        """See Table."""
        return endpoint_set.current_slice(entry.endpoints, event)

    def is_current(self, entry: BackendEntry, event: Event) -> bool:
        """See Table."""
        return endpoint_set.is_current(entry.endpoints, event)

    def fold_single(
        self, ctx: RowContext, key: str, entry: BackendEntry, event: Event
    ) -> RowUpdate[BackendEntry] | None:
        """See Table."""
        if not _is_plainly_ready(ctx, entry) or (change := single_slice.advance(entry.endpoints, event)) is None:
            return None
        _, service, _, state, reason, rejected, legacy, _ = entry
        new = BackendEntry(ctx.offset, service, change.endpoints, state, reason, rejected, legacy)
        causes = [Cause(event.kind, event.name, event.uid, event.resource_version, event.trigger)]
        known = {event.name: change.group_change}
        return self._update(ctx, key, entry, new, causes, change.endpoints, change.difference, known)

    def prepare(self, key: str, objects: InitialObjects) -> bytes | None:
        """See Table: the row's `change`."""
        if _is_withheld(_service_of(objects)):
            return None
        added = []
        for label, source in objects.slices.items():
            group = source.groups[0]
            if group.text:
                added.append(set_change.encode_change(label, group.layout.lead, [group.text]))
        if not added or initial_rows.is_claimed_twice(objects.slices):
            return None
        return b'{"added":[%b],"removed":[],"updated":[]}' % b",".join(added)

    def fold_initial(
        self, ctx: RowContext, key: str, objects: InitialObjects, prepared: Any
    ) -> RowUpdate[BackendEntry]:
        """See Table."""
        endpoints = EndpointSet(objects.slices, None, {})
        new = BackendEntry(ctx.offset, _service_of(objects), endpoints, "ready", "", ())
        causes = [objects.service_cause, *objects.endpoint_causes]
        return self._update(ctx, key, self.nothing, new, causes, endpoints, prepared)

    def fold_initial_companion(
        self, ctx: RowContext, entry: BackendEntry, objects: InitialObjects
    ) -> CompanionUpdate[BackendEntry] | None:
        """See Table."""
        if objects.legacy is None:
            return None
        source, event = objects.legacy
        return CompanionUpdate(entry._replace(legacy=Legacy(ctx.offset, source)), _encode(event))

    # ---- the companion: legacy Endpoints --------------------------------------------------------------

    def fold_companion(
        self, ctx: RowContext, entry: BackendEntry, change: ServiceChange
    ) -> CompanionUpdate[BackendEntry] | None:
        """See Table."""
        legacy = next(change.of(("Endpoints",)), None)
        if legacy is None or (entry.legacy is not None and entry.legacy.version >= ctx.offset):
            return None
        if legacy.content is None:
            return None if entry.legacy is None else CompanionUpdate(entry._replace(legacy=None), None)
        return CompanionUpdate(entry._replace(legacy=Legacy(ctx.offset, legacy.content)), _encode(legacy.event))

    def with_companion(self, entry: BackendEntry, version: int, record: bytes) -> BackendEntry:
        """See Table."""
        return entry._replace(legacy=Legacy(version, read_source_event(_decode_event(record), None)))

    def without_row(self, entry: BackendEntry) -> BackendEntry | None:
        """See Table."""
        return None if entry.legacy is None else self.nothing._replace(legacy=entry.legacy)

    def companion_in_row(self, entry: BackendEntry, row: bytes) -> CompanionUpdate[BackendEntry] | None:
        """See Table."""
        if row_parts.is_head(self.name, row):  # There are slices.
            return None
        fields = _decode_row(row)
        event = _legacy_in(fields)
        if event is None or (entry.legacy is not None and entry.legacy.version >= fields.version):
            return None
        if event.op == "apply":
            legacy = Legacy(fields.version, read_source_event(event, None))
            return CompanionUpdate(entry._replace(legacy=legacy), _encode(event))
        return None if entry.legacy is None else CompanionUpdate(entry._replace(legacy=None), None)


def _changed_slices(
    slices: Mapping[str, Source], change: ServiceChange, causes: list[Cause]
) -> dict[str, Source | None]:
    """The slices that differ from those held (None where deleted); their causes are added to `causes`."""
    changed = {}
    for content, cause, _ in change.of(("EndpointSlice",)):
        if content != slices.get(cause.name):
            changed[cause.name] = content
            causes.append(cause)
    return changed


def _any_remains(slices: Mapping[str, Source], changes: Mapping[str, Source | None]) -> bool:
    """Whether any of the slices is left after the changes."""
    return any(changes.get(label, source) is not None for label, source in slices.items())


def _is_plainly_ready(ctx: RowContext, entry: BackendEntry) -> bool:
    """Whether the row depends on nothing but its slices."""
    return (
        entry.version is not None
        and entry.version < ctx.offset
        and entry.service is not None
        and entry.state == "ready"
        and not (entry.reason or entry.rejected or entry.endpoints.shadows or ctx.stale_since or ctx.lost)
    )


def _is_withheld(service: tuple[str, str] | None) -> bool:
    """Whether slices and Endpoints don't count: there is no Service, or an ExternalName (v1 ServiceSpec.type: "aliases
    this service to the specified externalName", with no endpoints; kubernetes #103804, #105986)."""
    return service is None or service[1] == "ExternalName"


def _service_of(objects: InitialObjects) -> tuple[str, str]:
    return objects.service.uid, objects.service.type


def _state(
    service: tuple[str, str] | None, endpoints: EndpointSet, ctx: RowContext, rejected: tuple[Rejection, ...]
) -> tuple[str, str]:
    """The row's state and reason: `empty` means known to be empty."""
    is_empty = endpoint_set.is_empty(endpoints)
    if unread := _unread(service, endpoints, rejected, is_empty=is_empty):
        return overlay.overlaid("unknown", overlay.explain(unread[0]), ctx, rejected)
    if service is None:
        return overlay.overlaid("deleted", "ServiceNotFound", ctx, rejected)
    if service[1] == "ExternalName":
        return overlay.overlaid("empty", "ExternalName", ctx, rejected)
    if not is_empty:
        return overlay.overlaid("ready", "", ctx, rejected)
    return overlay.overlaid("empty", "NoEndpoints" if endpoints.counted else "NoEndpointSlices", ctx, rejected)


def _unread(
    service: tuple[str, str] | None, endpoints: EndpointSet, rejected: tuple[Rejection, ...], *, is_empty: bool
) -> list[Rejection]:
    """The rejected objects without which it is not known what the Service has."""
    if service is None:
        return [rejection for rejection in rejected if rejection.kind == "Service"]
    if service[1] == "ExternalName":
        return []
    slices = endpoint_set.unread_slices(endpoints, rejected, none_left=is_empty)
    if endpoints.slices or not (is_empty or endpoints.legacy is None):
        return slices
    return slices + [rejection for rejection in rejected if rejection.kind == "Endpoints"]


def _encode_service(service: tuple[str, str] | None) -> bytes:
    return b"null" if service is None else b'{"uid":%b,"type":"%b"}' % (_encode(service[0]), service[1].encode())


def _legacy_in(row: _Row) -> Event | None:
    """The legacy Endpoints that a row shows: as an event that applies them, or deletes them where there are none;
    None where the row does not tell, because the set is withheld or there are slices."""
    groups = [group for group in _decode_groups(row.groups) if not group.partial]
    own = [group for group in groups if group.slice.startswith(LEGACY_PREFIX)]
    if row.service is None or row.service.type == "ExternalName" or len(own) != len(groups):
        return None
    shown = [SliceGroup(group.family, group.ports, [*group.endpoints, *group.shadowed]) for group in own]
    return Event(
        op="apply" if own else "delete",
        kind="Endpoints",
        namespace=row.namespace,
        name=row.name,
        service=row.name,
        uid=own[0].uid if own else "",
        resource_version=own[0].resource_version if own else "",
        object=msgspec.Raw(_encode(SourceContent(shown))),
    )
