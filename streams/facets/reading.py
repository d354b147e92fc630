"""Reads the objects that the journal's events carry: one reader for each kind that the tables use."""

from collections.abc import Callable
from typing import Any

import msgspec

from streams.facets.backend_tls import tls_entries
from streams.facets.slice_text import LEGACY_PREFIX, Source, read_patched_source, read_source
from streams.objects.fields import MalformedObject
from streams.objects.resources import ENDPOINT_SLICES, ROUTE_KINDS, SERVICE_EXPORT, TLS_POLICY, TRAFFIC_POLICY
from streams.wire.clusterset_records import ClusterExport, ExportContent
from streams.wire.records import Event
from streams.wire.routing_records import (
    BackendTLS,
    BackendTLSContent,
    HeldPolicy,
    HeldRoute,
    PolicyContent,
    RouteContent,
    ServiceObject,
)
from streams.wire.validation import check_identity, check_service

_encode = msgspec.json.encode
_decode_service = msgspec.json.Decoder(ServiceObject).decode
_decode_route = msgspec.json.Decoder(RouteContent).decode
_decode_policy = msgspec.json.Decoder(PolicyContent).decode
_decode_export = msgspec.json.Decoder(ExportContent).decode
_decode_tls = msgspec.json.Decoder(BackendTLSContent).decode


def read_event(event: Event, current: Any = None) -> Any:
    """The content of an event's object, None if it is deleted. `current` is the object's current content, where that
    helps to read the new one.

    Raises MalformedObject, msgspec.MsgspecError, ValueError.
    """
    check_identity(event)
    reader = _READERS.get(event.kind)
    if reader is None:
        raise MalformedObject(f"no facet is made of the kind {event.kind!r}")
    if event.op == "patch" and event.kind != ENDPOINT_SLICES.kind:
        raise MalformedObject(f"no patch is made of the kind {event.kind!r}")
    return None if event.op == "delete" else reader(event, current)


def read_source_event(event: Event, current: Source | None) -> Source:
    """An EndpointSlice, or legacy Endpoints."""
    label = event.name if event.kind == ENDPOINT_SLICES.kind else LEGACY_PREFIX + event.name
    if event.op == "patch":
        return read_patched_source(label, event.uid, event.resource_version, bytes(event.object), current, event.base)
    return read_source(label, event.uid, event.resource_version, bytes(event.object), current)


def _read_service(event: Event, _: Any) -> tuple[bytes, ServiceObject]:
    """A Service's canonical content, as in a frontend row, and the Service as in the journal."""
    service = _decode_service(event.object)
    check_service(service)
    # Without its routing, a ServiceObject is written as a ServiceContent is.
    content = service if service.routing is None else msgspec.structs.replace(service, routing=None)
    return _encode(content), service


def _read_route(event: Event, _: Any) -> HeldRoute:
    route = _decode_route(event.object)
    return HeldRoute(
        event.kind,
        event.namespace,
        event.name,
        event.uid,
        route.created,
        route.parents,
        route.backends,
        route.unresolved,
    )


def _read_policy(event: Event, _: Any) -> HeldPolicy:
    policy = _decode_policy(event.object)
    return HeldPolicy(
        event.kind,
        event.namespace,
        event.name,
        event.uid,
        policy.created,
        policy.session_persistence,
        policy.reason,
        policy.targets,
    )


def _read_tls_policy(event: Event, _: Any) -> tuple[BackendTLS, ...]:
    return tls_entries(event, _decode_tls(event.object))


def _read_export(event: Event, _: Any) -> ClusterExport:
    export = _decode_export(event.object)
    return ClusterExport(**msgspec.structs.asdict(export), uid=event.uid)


_READERS: dict[str, Callable[[Event, Any], Any]] = {
    "Service": _read_service,
    "EndpointSlice": read_source_event,
    "Endpoints": read_source_event,
    **dict.fromkeys(ROUTE_KINDS, _read_route),
    TRAFFIC_POLICY.kind: _read_policy,
    TLS_POLICY.kind: _read_tls_policy,
    SERVICE_EXPORT.kind: _read_export,
}
