"""What a first list is mostly of, on a short way: a Service that nothing is held of yet, with its slices.

It makes the bytes that the fold's long way makes (a property test compares the two), and gives up wherever it might
not: then the long way is gone.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from streams.facets.endpoint_set import Backend, encode_change, encode_groups
from streams.facets.routing_rows import HeldRouting, routed, routing_content, routing_state
from streams.facets.rows import Context, Frontend, HeldBackend, frontend_row, row_head, service_json
from streams.facets.slice_text import BORDER, Source
from streams.wire.records import Cause, Event
from streams.wire.routing_records import RoutedService, ServiceObject

_ADDRESSES = re.compile(re.escape(BORDER) + rb'([^"]*)"').findall
"""The addresses in a group's text that has no escapes."""


class Staged(NamedTuple):
    """An object in an open snapshot: its last good state, the rejection where there is a newer, bad one, and what the
    good one was read as (None where it could not be, or was not)."""

    good: Event | None
    bad: Event | None = None
    read: object = None


class StagedService:
    """A Service in an open snapshot: its objects by (kind, name), and what they come to, if that is known already."""

    __slots__ = ("first", "objects")

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Staged] = {}
        self.first: First | None = None


class First(NamedTuple):
    """What is written of a Service that nothing is held of, but for what the snapshot's end says: of each row the state
    (`version` and the like are not yet known), its cause, and the bytes after its head."""

    content: bytes
    said: ServiceObject
    slices: dict[str, Source]
    legacy: tuple[Source, Event] | None
    cause: list[Cause]
    backend_cause: list[Cause]
    backend_content: bytes
    routing: RoutedService
    routing_content: bytes


class FirstRows(NamedTuple):
    """The first rows of a Service, with what is held of them."""

    frontend: Frontend
    frontend_row: bytes
    backend: HeldBackend
    backend_row: bytes
    routing: HeldRouting
    routing_row: bytes


def prepare(key: str, objects: Mapping[tuple[str, str], Staged]) -> First | None:
    """What these objects come to, of a Service that nothing is held of; None for the long way."""
    service: tuple[ServiceObject, bytes, Cause] | None = None
    legacy: tuple[Source, Event] | None = None
    slices: dict[str, Source] = {}
    causes: list[Cause] = []
    for (kind, _), (good, bad, read) in sorted(objects.items()):
        if good is None or bad is not None or read is None or good.service_namespace:
            return None
        cause = Cause(kind, good.name, good.uid, good.resource_version, good.trigger)
        if kind == "EndpointSlice" and isinstance(read, Source):
            slices[good.name] = read
            causes.append(cause)
        elif kind == "Endpoints" and isinstance(read, Source) and legacy is None:
            legacy = read, good
            causes.append(cause)
        elif kind == "Service" and isinstance(read, tuple) and service is None:
            service = read[1], read[0], cause
        else:
            return None
    if service is None or not any(source.groups[0].text for source in slices.values()) or _claimed_twice(slices):
        return None
    said, content, why = service
    groups = {label: source.groups[0] for label, source in slices.items()}
    added = [encode_change(label, group.layout.lead, [group.text]) for label, group in groups.items() if group.text]
    routing = routed(said)
    return First(
        content,
        said,
        slices,
        legacy,
        [why],
        [why, *causes],
        b',"service":%b,"groups":[%b],"change":{"added":[%b],"removed":[],"updated":[]}}'
        % (
            service_json(said.uid, said.type),
            encode_groups(Backend(slices, None, {}), withdrawn=False),
            b",".join(added),
        ),
        routing,
        routing_content(key, HeldRouting(None, routing, {}, {}, "", "", ())),
    )


def first_rows(ctx: Context, key: str, first: First) -> FirstRows | None:
    """The rows, at the snapshot's end; None for the long way."""
    if ctx.stale_since or ctx.lost:
        return None
    said, cause = first.said, first.cause
    frontend = Frontend(ctx.offset, True, first.content, "ready", "", ())
    backend = HeldBackend(ctx.offset, (said.uid, said.type), Backend(first.slices, None, {}), "ready", "", ())
    state, reason = routing_state(first.routing, False, ctx, ())
    routing = HeldRouting(ctx.offset, first.routing, {}, {}, state, reason, ())
    return FirstRows(
        frontend,
        frontend_row(ctx, key, frontend, None, cause),
        backend,
        row_head(ctx, key, None, backend, first.backend_cause) + first.backend_content,
        routing,
        row_head(ctx, key, None, routing, cause) + first.routing_content,
    )


def _claimed_twice(slices: Mapping[str, Source]) -> bool:
    """Whether an endpoint is in two slices, or twice in one (or might be)."""
    claimed: dict[bytes, set[bytes]] = {}
    for source in slices.values():
        if len(source.groups) != 1:
            return True
        (group,) = source.groups
        if b"\\" in group.text:
            return True
        addresses = _ADDRESSES(group.text)
        kind = claimed.setdefault(group.layout.kind, set())
        before = len(kind)
        kind.update(addresses)
        if len(kind) != before + len(addresses):
            return True
    return False
