"""The routing table: whether requests for a Service go to its frontend or to its backend, and what routes ask for the
ServiceImport of its name. `routing_rules` decides."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import msgspec

from streams.facets import overlay
from streams.facets.backend_tls import backend_tls, policies_by_key
from streams.facets.changes import ServiceChange
from streams.facets.initial_rows import InitialObjects
from streams.facets.routing_rules import Subject, decide_gateway, decide_mesh, split
from streams.facets.table import RowUpdate, Table
from streams.objects.resources import ROUTE_KINDS, ROUTING_KINDS, TLS_POLICY, TRAFFIC_POLICY
from streams.wire.event_encoding import Key
from streams.wire.records import Cause, Rejection, ServiceType
from streams.wire.routing_records import (
    BackendTLS,
    ClustersetRouting,
    Direction,
    HeldPolicy,
    HeldRoute,
    OperatorRouting,
    RoutedService,
    RoutingRow,
    ServiceObject,
)
from streams.wire.row_codec import RowContext, encode_head

_encode = msgspec.json.encode
_decode_row = msgspec.json.Decoder(RoutingRow).decode
_NO_CHOICES = OperatorRouting()
_Object = TypeVar("_Object", HeldRoute, HeldPolicy, tuple[BackendTLS, ...])


class RoutingEntry(NamedTuple):
    """The routing table's entry. `service` is None while there is no Service; `tls` has an entry for each port (or all)
    that a BackendTLSPolicy names."""

    version: int | None
    service: RoutedService | None
    routes: Mapping[Key, HeldRoute]
    policies: Mapping[Key, HeldPolicy]
    tls: Mapping[Key, tuple[BackendTLS, ...]]
    state: str
    reason: str
    rejected: tuple[Rejection, ...]


class RoutingTable(Table[RoutingEntry]):
    """Follows from the Service, and from the routes and policies that name it or the ServiceImport of its name."""

    name = "routing"
    kinds = ROUTING_KINDS | {"Service"}
    nothing = RoutingEntry(None, None, {}, {}, {}, "deleted", "", ())

    def read(self, row: bytes) -> RoutingEntry:
        """See Table."""
        fields = _decode_row(row)
        routes = {(route.kind, route.namespace, route.name): route for route in fields.routes}
        policies = {(policy.kind, policy.namespace, policy.name): policy for policy in fields.policies}
        rejected = tuple(fields.rejected)
        tls = policies_by_key(fields.backend_tls)
        return RoutingEntry(
            fields.version, fields.service, routes, policies, tls, fields.state, fields.reason, rejected
        )

    def fold(
        self, ctx: RowContext, key: str, entry: RoutingEntry, change: ServiceChange
    ) -> RowUpdate[RoutingEntry] | None:
        """See Table."""
        service, causes = entry.service, []
        if (own := change.service) is not None:
            service = None if own.content is None else _routed(own.content[1])
            if service != entry.service:
                causes.append(own.cause)
        routes = _after(entry.routes, change, ROUTE_KINDS, causes)
        policies = _after(entry.policies, change, (TRAFFIC_POLICY.kind,), causes)
        tls = _after(entry.tls, change, (TLS_POLICY.kind,), causes)
        rejected = overlay.rejected_after(entry.rejected, change.marks, self.kinds)
        held = {*routes, *policies, *tls}
        state, reason = _state(service, bool(held), ctx, rejected, _unread(key, service, held, rejected))
        is_known = state != "deleted" or entry.version is not None
        if not is_known or (not causes and (state, reason, rejected) == (entry.state, entry.reason, entry.rejected)):
            return None
        causes += [cause for cause in change.rejections if cause.kind in self.kinds]
        new = RoutingEntry(ctx.offset, service, routes, policies, tls, state, reason, rejected)
        return RowUpdate(new, _encode_row(ctx, key, new, entry.version, causes, _encode_content(key, new)))

    def encode(self, ctx: RowContext, key: str, entry: RoutingEntry, previous: int | None) -> bytes:
        """See Table."""
        return _encode_row(ctx, key, entry, previous, [], _encode_content(key, entry))

    def objects(self, key: str, entry: RoutingEntry) -> list[Cause]:
        """See Table."""
        _, namespace, name = key.split("/")
        causes = [] if entry.service is None else [Cause("Service", name, entry.service.uid, "")]
        uids = {key: route.uid for key, route in entry.routes.items()}
        uids.update((key, policy.uid) for key, policy in entry.policies.items())
        uids.update((key, entries[0].uid) for key, entries in entry.tls.items())
        for (kind, at, named_by), uid in sorted(uids.items()):
            causes.append(Cause(kind, named_by, uid, "", "", at if at != namespace else ""))
        return causes

    def is_finished(self, entry: RoutingEntry) -> bool:
        """See Table."""
        return entry.state == "deleted"

    # ---- the fast path of the initial list ------------------------------------------------------------

    def prepare(self, key: str, objects: InitialObjects) -> tuple[RoutedService, bytes]:
        """See Table: the Service, and the row after its head."""
        service = _routed(objects.service)
        return service, _encode_content(key, self.nothing._replace(service=service))

    def fold_initial(
        self, ctx: RowContext, key: str, objects: InitialObjects, prepared: Any
    ) -> RowUpdate[RoutingEntry]:
        """See Table."""
        service, content = prepared
        state, reason = _state(service, False, ctx, (), [])
        new = RoutingEntry(ctx.offset, service, {}, {}, {}, state, reason, ())
        return RowUpdate(new, _encode_row(ctx, key, new, None, [objects.service_cause], content))


def _routed(service: ServiceObject) -> RoutedService:
    """The fields of a Service that affect the choice."""
    return RoutedService(
        service.uid,
        service.type,
        service.headless,
        bool(service.cluster_ips),
        service.session_affinity,
        service.routing or _NO_CHOICES,
    )


def _after(
    current: Mapping[Key, _Object], change: ServiceChange, kinds: Collection[str], causes: list[Cause]
) -> Mapping[Key, _Object]:
    """The routes or policies after the change; their causes are added to `causes`."""
    updated = dict(current)
    for key, (content, cause, _) in change.objects.items():
        if key[0] not in kinds:
            continue
        if content is None:
            if updated.pop(key, None) is not None:
                causes.append(cause)
        elif content != current.get(key):
            updated[key] = content
            causes.append(cause)
    return updated


def _unread(
    key: str, service: RoutedService | None, held: Collection[Key], rejected: tuple[Rejection, ...]
) -> list[Rejection]:
    """The rejected objects that have no good state; the Service comes first."""
    namespace = key.split("/")[1]
    unread = [
        rejection
        for rejection in rejected
        if (rejection.kind, rejection.namespace or namespace, rejection.name) not in held
        and (rejection.kind != "Service" or service is None)
    ]
    return sorted(unread, key=lambda rejection: rejection.kind != "Service")


def _state(
    service: RoutedService | None,
    is_named: bool,
    ctx: RowContext,
    rejected: tuple[Rejection, ...],
    unread: Sequence[Rejection],
) -> tuple[str, str]:
    """The row's state and reason: `empty` if the Service, or a ServiceImport of its name, is named (by a route, say),
    but there is no such Service in the cluster."""
    if unread:
        return overlay.overlaid("unknown", overlay.explain(unread[0]), ctx, rejected)
    if service is None:
        return overlay.overlaid("empty" if is_named else "deleted", "ServiceNotFound", ctx, rejected)
    invalid = service.operator.invalid
    return overlay.overlaid("ready", f"InvalidAnnotation: {invalid}" if invalid else "", ctx, rejected)


def _encode_row(
    ctx: RowContext, key: str, new: RoutingEntry, previous: int | None, causes: list[Cause], content: bytes
) -> bytes:
    head = encode_head(ctx, key, previous, state=new.state, reason=new.reason, rejected=new.rejected, causes=causes)
    return head + content


def _encode_content(key: str, new: RoutingEntry) -> bytes:
    """The row after its head."""
    service = new.service
    if service is not None and service.operator == _NO_CHOICES and not (new.routes or new.policies or new.tls):
        directions = _encode_undirected(service.type, service.headless, service.cluster_ip, service.session_affinity)
        if directions is not None:
            return b',"service":%b,%b}' % (_encode(service), directions)
    _, namespace, name = key.split("/")
    routes = [route for _, route in sorted(new.routes.items())]
    policies = [policy for _, policy in sorted(new.policies.items())]
    is_unreadable = service is None and any(rejection.kind == "Service" for rejection in new.rejected)
    subject, imported = split(Subject(namespace, name, service, routes, policies, is_unreadable))
    more = b',"backendTLS":%b' % _encode(backend_tls(new.tls.values())) if new.tls else b""
    if imported is not None:
        more += b',"clusterset":%b' % _encode(ClustersetRouting(decide_gateway(imported), decide_mesh(imported)))
    directions = _encode_directions(decide_gateway(subject), decide_mesh(subject), routes, policies)
    return b',"service":%b,%b%b}' % (_encode(service), directions, more)


def _encode_directions(
    gateway: Direction, mesh: Direction, routes: Sequence[HeldRoute], policies: Sequence[HeldPolicy]
) -> bytes:
    return b'"gateway":%b,"mesh":%b,"routes":%b,"policies":%b' % tuple(map(_encode, (gateway, mesh, routes, policies)))


# Most Services are alike in this.
@lru_cache(maxsize=256)
def _encode_undirected(kind: ServiceType, headless: bool, cluster_ip: bool, session_affinity: str) -> bytes | None:
    """The directions of a Service that no other object and no operator directs; None where they name the Service."""
    subject = Subject("", "", RoutedService("", kind, headless, cluster_ip, session_affinity, _NO_CHOICES))
    gateway, mesh = decide_gateway(subject), decide_mesh(subject)
    if gateway.because or mesh.because:
        return None
    return _encode_directions(gateway, mesh, [], [])
