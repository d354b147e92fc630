"""What a first list is mostly of, on a short way: a Service that nothing is held of yet, with its slices.

It makes the bytes that the fold's long way makes (a property test compares the two), and gives up wherever it might
not: then the long way is gone.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from streams.core.backend import Backend, encode_groups
from streams.core.records import Cause, Event
from streams.core.routing_records import ServiceObject
from streams.core.routing_rows import HeldRouting, routed, routing_row, routing_state
from streams.core.rows import Context, Frontend, HeldBackend, frontend_row, row_head, service_json
from streams.core.slices import Source, address_of, pieces

_encode = msgspec.json.encode


class Staged(NamedTuple):
    """An object in an open snapshot: its last good state, the rejection where there is a newer, bad one, and what the
    good one was read as (None where it could not be, or was not)."""

    good: Event | None
    bad: Event | None = None
    read: object = None


class FirstRows(NamedTuple):
    """The first rows of a Service, with what is held of them; `legacy` are the legacy Endpoints to be held."""

    frontend: Frontend
    frontend_row: bytes
    backend: HeldBackend
    backend_row: bytes
    routing: HeldRouting
    routing_row: bytes
    legacy: tuple[Source, Event] | None


def first_rows(ctx: Context, key: str, objects: Mapping[tuple[str, str], Staged]) -> FirstRows | None:
    """The rows of a Service that nothing is held of, at the snapshot's end; None for the long way."""
    if ctx.stale_since or ctx.lost:
        return None
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
        elif kind == "Service" and isinstance(read, tuple) and service is None:
            service = read[1], read[0], cause
        else:
            return None
    if service is None or not any(source.groups[0].text for source in slices.values()) or _claimed_twice(slices):
        return None
    said, content, why = service
    backend_causes = [why, *causes]
    if legacy is not None:
        event = legacy[1]
        backend_causes.append(Cause(event.kind, event.name, event.uid, event.resource_version, event.trigger))
    frontend = Frontend(ctx.offset, True, content, "ready", "", ())
    held = HeldBackend(ctx.offset, (said.uid, said.type), Backend(slices, None, {}), "ready", "", ())
    choice = routed(said)
    routing = HeldRouting(ctx.offset, choice, {}, {}, *routing_state(choice, False, ctx, ()), ())
    added = b",".join(
        [
            b'{"slice":%b%b%b]}' % (_encode(label), source.groups[0].layout.lead, source.groups[0].text)
            for label, source in slices.items()
            if source.groups[0].text
        ]
    )
    return FirstRows(
        frontend,
        frontend_row(ctx, key, frontend, None, [why]),
        held,
        b'%b,"service":%b,"groups":[%b],"change":{"added":[%b],"removed":[],"updated":[]}}'
        % (
            row_head(ctx, key, None, held, backend_causes),
            service_json(said.uid, said.type),
            encode_groups(held.backend, withdrawn=False),
            added,
        ),
        routing,
        routing_row(ctx, key, routing, None, [why]),
        legacy,
    )


def _claimed_twice(slices: Mapping[str, Source]) -> bool:
    """Whether an endpoint is in two slices, or twice in one."""
    claimed: dict[bytes, set[bytes]] = {}
    for source in slices.values():
        if len(source.groups) != 1:
            return True
        (group,) = source.groups
        addresses = [address_of(each) for each in pieces(group.text)]
        kind = claimed.setdefault(group.layout.kind, set())
        before = len(kind)
        kind.update(addresses)
        if len(kind) != before + len(addresses):
            return True
    return False
