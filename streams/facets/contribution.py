"""The clusterset table's rows of one cluster: what it contributes to the Services that it exports.

Nothing is held of a Service that is not exported: the journal has all of its objects once more when its ServiceExport
is new (`objects/collector`). `service_set` has what contributions make together.
"""

from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from streams.facets import endpoint_set, overlay, row_parts
from streams.facets.changes import ServiceChange
from streams.facets.endpoint_set import EMPTY_SET, EndpointSet
from streams.facets.initial_rows import InitialObjects
from streams.facets.row_parts import UNDIVIDED, Parts
from streams.facets.service_set import can_be_exported
from streams.facets.slice_text import Source
from streams.facets.table import RowUpdate, Table
from streams.objects.resources import ENDPOINT_SLICES, SERVICE_EXPORT, SERVICES
from streams.wire.clusterset_records import ClusterExport, ExportedPort, ExportedService
from streams.wire.records import Cause, Event, Rejection, RowHead
from streams.wire.routing_records import ServiceObject
from streams.wire.row_codec import RowContext, encode_head

_encode = msgspec.json.encode

NOT_EXPORTED = "NotExported"


class _Row(RowHead, kw_only=True):
    export: ClusterExport | None
    service: ExportedService | None
    groups: msgspec.Raw


_decode_row = msgspec.json.Decoder(_Row).decode


class ContributionEntry(NamedTuple):
    """The table's entry. Without an export there is nothing else in it (but a ServiceExport that can't be read).
    `parts` are those in which the row is written, none where it is whole."""

    version: int | None
    export: ClusterExport | None
    service: ExportedService | None
    endpoints: EndpointSet
    state: str
    reason: str
    rejected: tuple[Rejection, ...]
    parts: Parts = MappingProxyType({})

    @property
    def withdrawn(self) -> bool:
        """Whether the endpoints are withheld because of the Service."""
        return not can_be_exported(self.service)


class ContributionTable(Table[ContributionEntry]):
    """Follows from a ServiceExport and, while there is one, from the Service and its EndpointSlices. (A Service's
    legacy Endpoints are not exported: KEP-1645 knows slices alone, into which Kubernetes mirrors Endpoints.) Rows with
    many endpoints are in parts, if it `divides` rows."""

    name = "clusterset"
    kinds = frozenset({SERVICE_EXPORT.kind, SERVICES.kind, ENDPOINT_SLICES.kind})
    is_selective = True
    since = 8
    nothing = ContributionEntry(None, None, None, EMPTY_SET, "deleted", "", ())

    def __init__(self, *, divides: bool = True) -> None:
        self._divides = divides

    def read(self, row: bytes) -> ContributionEntry:
        """See Table."""
        fields = _decode_row(row)
        endpoints, rejected = endpoint_set.read_groups(fields.groups), tuple(fields.rejected)
        return ContributionEntry(
            fields.version, fields.export, fields.service, endpoints, fields.state, fields.reason, rejected
        )

    def holds(self, entry: ContributionEntry, kind: str) -> bool:
        """See Table."""
        return kind == SERVICE_EXPORT.kind or entry.export is not None

    def takes_up(self, entry: ContributionEntry, kinds: frozenset[str]) -> bool:
        """See Table."""
        return entry.export is None and SERVICE_EXPORT.kind in kinds

    def fold(
        self, ctx: RowContext, key: str, entry: ContributionEntry, change: ServiceChange
    ) -> RowUpdate[ContributionEntry] | None:
        """See Table."""
        export, causes = entry.export, []
        if (changed := next(change.of((SERVICE_EXPORT.kind,)), None)) is not None and changed.content != export:
            export = changed.content
            causes.append(changed.cause)
        followed = self.kinds if export is not None else (SERVICE_EXPORT.kind,)
        rejected = tuple(
            rejection
            for rejection in overlay.rejected_after(entry.rejected, change.marks, followed)
            if rejection.kind in followed
        )
        service, endpoints = None, EMPTY_SET
        if export is not None:
            service, endpoints = _exported(entry, change, causes)
        state, reason = _state(export, service, endpoints, ctx, rejected)
        if entry.version is None and export is None and not rejected:
            return None
        if not causes and (state, reason, rejected) == (entry.state, entry.reason, entry.rejected):
            return None
        causes += [cause for cause in change.rejections if cause.kind in followed]
        new = ContributionEntry(ctx.offset, export, service, endpoints, state, reason, rejected)
        return self._update(ctx, key, entry, new, causes)

    def renew(self, ctx: RowContext, key: str, entry: ContributionEntry) -> RowUpdate[ContributionEntry]:
        """See Table."""
        return self._update(ctx, key, entry, entry._replace(version=ctx.offset), [])

    def with_parts(self, entry: ContributionEntry, parts: Parts) -> ContributionEntry:
        """See Table."""
        return entry._replace(parts=parts)

    def _update(
        self, ctx: RowContext, key: str, entry: ContributionEntry, new: ContributionEntry, causes: list[Cause]
    ) -> RowUpdate[ContributionEntry]:
        """The row and its parts."""
        head = encode_head(
            ctx, key, entry.version, state=new.state, reason=new.reason, rejected=new.rejected, causes=causes
        )
        division = row_parts.divide(key, ctx.offset, entry.parts, entry, new) if self._divides else UNDIVIDED
        content = row_parts.encode_content(ctx.offset, division.parts, new.endpoints, withdrawn=new.withdrawn)
        row = b'%b,"export":%b,"service":%b,%b}' % (head, _encode(new.export), _encode(new.service), content)
        return RowUpdate(new._replace(parts=division.parts), row, division.records)

    def objects(self, key: str, entry: ContributionEntry) -> list[Cause]:
        """See Table."""
        if entry.export is None:
            return []
        name = key.rpartition("/")[2]
        causes = [Cause(SERVICE_EXPORT.kind, name, entry.export.uid, "")]
        if entry.service is not None:
            causes.append(Cause(SERVICES.kind, name, entry.service.uid, ""))
        return causes + [
            Cause(ENDPOINT_SLICES.kind, label, source.uid, source.resource_version)
            for label, source in sorted(entry.endpoints.slices.items())
        ]

    def is_finished(self, entry: ContributionEntry) -> bool:
        """See Table."""
        return entry.export is None and not entry.rejected

    # ---- fast paths ----------------------------------------------------------------------------------

    def current_object(self, entry: ContributionEntry, event: Event) -> Source | None:
        """See Table."""
        return endpoint_set.current_slice(entry.endpoints, event)

    def is_current(self, entry: ContributionEntry, event: Event) -> bool:
        """See Table."""
        return endpoint_set.is_current(entry.endpoints, event)

    def prepare(self, key: str, objects: InitialObjects) -> tuple[()]:
        """See Table: `objects` has no ServiceExport."""
        return ()

    def fold_initial(self, ctx: RowContext, key: str, objects: InitialObjects, prepared: Any) -> None:
        """See Table."""


def _exported(
    entry: ContributionEntry, change: ServiceChange, causes: list[Cause]
) -> tuple[ExportedService | None, EndpointSet]:
    """The Service and the endpoints after the change; what differs is added to `causes`."""
    service = entry.service
    if (own := change.service) is not None:
        service = None if own.content is None else _service(own.content[1])
        if service != entry.service:
            causes.append(own.cause)
    slices: dict[str, Source | None] = {}
    for content, cause, _ in change.of((ENDPOINT_SLICES.kind,)):
        if content != entry.endpoints.slices.get(cause.name):
            slices[cause.name] = content
            causes.append(cause)
    withdrawn = (not can_be_exported(entry.service), not can_be_exported(service))
    if not slices and withdrawn[0] == withdrawn[1]:
        return service, entry.endpoints
    return service, endpoint_set.advance(entry.endpoints, slices, None, withdrawn=withdrawn)[0]


def _service(service: ServiceObject) -> ExportedService:
    ports = [ExportedPort(port.name, port.port, port.protocol, port.app_protocol) for port in service.ports]
    return ExportedService(
        service.uid,
        service.type,
        service.headless,
        ports,
        service.session_affinity,
        service.session_affinity_timeout_seconds,
        service.internal_traffic_policy,
        service.traffic_distribution,
        service.ip_families,
    )


def _state(
    export: ClusterExport | None,
    service: ExportedService | None,
    endpoints: EndpointSet,
    ctx: RowContext,
    rejected: tuple[Rejection, ...],
) -> tuple[str, str]:
    """The row's state and reason."""
    if export is None:
        if rejected:
            return overlay.overlaid("unknown", overlay.explain(rejected[0]), ctx, rejected)
        return overlay.overlaid("deleted", NOT_EXPORTED, ctx, ())
    is_empty = endpoint_set.is_empty(endpoints)
    if unread := _unread(service, endpoints, rejected, is_empty=is_empty):
        return overlay.overlaid("unknown", overlay.explain(unread[0]), ctx, rejected)
    if service is None:
        return overlay.overlaid("empty", "NoService", ctx, rejected)
    if not can_be_exported(service):
        return overlay.overlaid("empty", "InvalidServiceType", ctx, rejected)
    if is_empty:
        return overlay.overlaid("empty", "NoEndpoints" if endpoints.slices else "NoEndpointSlices", ctx, rejected)
    return overlay.overlaid("ready", "", ctx, rejected)


def _unread(
    service: ExportedService | None, endpoints: EndpointSet, rejected: tuple[Rejection, ...], *, is_empty: bool
) -> list[Rejection]:
    """The rejected objects without which it is not known what the Service has, as in a backend row."""
    if service is None:
        return [rejection for rejection in rejected if rejection.kind == SERVICES.kind]
    if not can_be_exported(service):
        return []
    return endpoint_set.unread_slices(endpoints, rejected, none_left=is_empty)
