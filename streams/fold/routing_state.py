"""The routing table's part of the fold: what a commit's changes make of a Service's routing row."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from streams.facets.routing_rows import HeldRouting, Name, routing_row, routing_state
from streams.facets.rows import Context
from streams.fold.partition_state import PartitionState, Write
from streams.objects.resources import POLICY_KINDS, ROUTE_KINDS, ROUTING_KINDS
from streams.wire.records import Cause, Rejection
from streams.wire.routing_records import HeldPolicy, HeldRoute, RoutedService

_Held = TypeVar("_Held", HeldRoute, HeldPolicy)
Changes = Mapping[Name, tuple[HeldRoute | HeldPolicy | None, Cause]]

MARKED_KINDS = ("Service", *sorted(ROUTING_KINDS))
"""Kinds whose rejected objects mark a routing row."""


class RoutingState(PartitionState):
    """A partition's routing rows. A slice's change never gets here."""

    def _routing_row(
        self,
        ctx: Context,
        key: str,
        service: tuple[RoutedService | None, Cause] | None,
        changes: Changes,
        rejected: tuple[Rejection, ...],
        bad: list[Cause],
    ) -> Iterator[Write]:
        """`service` is what it is now, None where nothing is said of it; `rejected` what marks the row, with `bad` the
        ones that are new."""
        old = self._routing(key)
        if old.version is not None and old.version >= ctx.offset:
            return
        now, cause = old.service, []
        if service is not None:
            now, why = service
            if now != old.service:
                cause.append(why)
        routes = _changed(old.routes, changes, ROUTE_KINDS, cause)
        policies = _changed(old.policies, changes, POLICY_KINDS, cause)
        if now is None:
            # Nothing is kept of a Service that is not there.
            rejected = tuple(each for each in rejected if each.kind != "Service")
        state, reason = routing_state(now, bool(routes or policies or rejected), ctx, rejected)
        known = state != "deleted" or old.version is not None
        if not known or (not cause and (state, reason, rejected) == (old.state, old.reason, old.rejected)):
            return
        cause += [why for why in bad if why.kind in MARKED_KINDS]
        new = HeldRouting(ctx.offset, now, routes, policies, state, reason, rejected)
        self._routings[key] = new
        yield Write("routing", key.encode(), routing_row(ctx, key, new, old.version, cause), ctx.offset)
        if state == "deleted":
            self._expire_later("routing", key, ctx)


def _changed(
    held: Mapping[Name, _Held], changes: Changes, kinds: frozenset[str], cause: list[Cause]
) -> Mapping[Name, _Held]:
    """What is held after the changes; what led to it is added to `cause`."""
    now = dict(held)
    for name, (new, why) in changes.items():
        if name[0] not in kinds:
            continue
        old = held.get(name)
        if new is None:
            if now.pop(name, None) is not None:
                cause.append(why)
        elif new != old:
            now[name] = new  # type: ignore[assignment]
            cause.append(why)
    return now
