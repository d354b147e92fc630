"""Routing rows as bytes: written from what is held of a Service, and read back into it after a restart."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from streams.facets.routing_rules import Subject, decide
from streams.facets.rows import Context, overlaid, row_head
from streams.objects.resources import ROUTE_KINDS
from streams.wire.records import Cause, Event, Rejection
from streams.wire.routing_records import (
    HeldPolicy,
    HeldRoute,
    OperatorRouting,
    PolicyContent,
    RouteContent,
    RoutedService,
    RoutingRow,
    ServiceObject,
)

_encode = msgspec.json.encode
_row_in = msgspec.json.Decoder(RoutingRow)
_route_in = msgspec.json.Decoder(RouteContent)
_policy_in = msgspec.json.Decoder(PolicyContent)

Name = tuple[str, str, str]
"""An object's kind, namespace and name."""


class HeldRouting(NamedTuple):
    """A routing row as held. `service` is None while there is no Service."""

    version: int | None
    service: RoutedService | None
    routes: Mapping[Name, HeldRoute]
    policies: Mapping[Name, HeldPolicy]
    state: str
    reason: str
    rejected: tuple[Rejection, ...]


NO_ROUTING = HeldRouting(None, None, {}, {}, "deleted", "", ())


def routed(service: ServiceObject) -> RoutedService:
    """What of a Service bears on the choice."""
    return RoutedService(
        service.uid,
        service.type,
        service.headless,
        bool(service.cluster_ips),
        service.session_affinity,
        service.routing or OperatorRouting(),
    )


def read_object(event: Event) -> HeldRoute | HeldPolicy:
    """The route or policy of an event. Raises msgspec.ValidationError."""
    head = (event.kind, event.namespace, event.name, event.uid)
    if event.kind in ROUTE_KINDS:
        route = _route_in.decode(event.object)
        return HeldRoute(*head, route.created, route.parents, route.backends)
    policy = _policy_in.decode(event.object)
    return HeldPolicy(*head, policy.created, policy.session_persistence)


def read_routing(value: bytes) -> tuple[HeldRouting, str]:
    """A routing row's state, and the time of the commit that made it."""
    row = _row_in.decode(value)
    held = HeldRouting(
        row.version,
        row.service,
        {(each.kind, each.namespace, each.name): each for each in row.routes},
        {(each.kind, each.namespace, each.name): each for each in row.policies},
        row.state,
        row.reason,
        tuple(row.rejected),
    )
    return held, row.as_of.at


def routing_state(
    service: RoutedService | None, named: bool, ctx: Context, rejected: tuple[Rejection, ...]
) -> tuple[str, str]:
    """State and reason: `empty` where the Service is only `named` (by a route, say), but not there."""
    if service is None:
        return overlaid("empty" if named else "deleted", "ServiceNotFound", ctx, rejected)
    invalid = service.operator.invalid
    return overlaid("ready", f"InvalidAnnotation: {invalid}" if invalid else "", ctx, rejected)


def routing_row(ctx: Context, key: str, new: HeldRouting, previous: int | None, cause: list[Cause]) -> bytes:
    """The wire bytes of a routing row."""
    return row_head(ctx, key, previous, new, cause) + routing_content(key, new)


def routing_content(key: str, new: HeldRouting) -> bytes:
    """A routing row after its head."""
    _, namespace, name = key.split("/")
    routes = [held for _, held in sorted(new.routes.items())]
    policies = [held for _, held in sorted(new.policies.items())]
    subject = Subject(namespace, name, new.service, routes, policies)
    return b',"service":%b,"gateway":%b,"mesh":%b,"routes":%b,"policies":%b}' % (
        _encode(new.service),
        _encode(decide(subject, "gateway")),
        _encode(decide(subject, "mesh")),
        _encode(routes),
        _encode(policies),
    )
