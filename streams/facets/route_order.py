"""The order in which a router must try the rules of routes, as the Gateway API defines it: the longest hostname, the
most specific match, the oldest route, namespace/name, the order of rules (HTTPRouteRule.matches,
GRPCRouteRule.matches)."""

from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

from streams.objects.gateway_api.hostnames import specificity
from streams.objects.gateway_api.matches import precedence
from streams.wire.routing_records import (
    AttachedListener,
    BackendTLS,
    HeldPolicy,
    HeldRoute,
    PlacedMatch,
    RequestMatch,
    RouteBackend,
    RouteParent,
)

H = TypeVar("H", HeldRoute, HeldPolicy, BackendTLS)

_KINDS = ("GRPCRoute", "HTTPRoute", "TLSRoute", "TCPRoute", "UDPRoute")
"""Routes of different kinds never match the same requests; the more specific kind comes first."""

_ANY = AttachedListener("")


def in_age_order(objects: Iterable[H]) -> list[H]:
    """The oldest first, then by namespace/name; unknown age counts as youngest."""
    return sorted(objects, key=age)


def age(item: HeldRoute | HeldPolicy | BackendTLS) -> tuple[Any, ...]:
    """The sort key of `in_age_order`."""
    return not item.created, item.created, f"{item.namespace}/{item.name}", getattr(item, "kind", "")


class PlacedRule(NamedTuple):
    """A rule in its place in the order; `matches` are those to try there, empty for all of them."""

    route: HeldRoute
    number: int
    matches: list[PlacedMatch]


class RuleOrder:
    """Puts rules into the order in which a router must try them: by listener, the one with the most specific hostname
    first, then hostname, match, the route's age, and the order of rules. A rule stands in several places if another's
    matches have to be tried between its own."""

    def __init__(self) -> None:
        self._rules: dict[tuple[str, str, str, int], tuple[HeldRoute, list[tuple[Any, PlacedMatch]], bool]] = {}

    def add(self, route: HeldRoute, backend: RouteBackend, parents: Iterable[RouteParent], *, shadowed: bool) -> None:
        """Add a rule that counts at these parents of its route. A shadowed one stands where its first match would."""
        # A journal of fold version 1 has only a digest of the matches.
        matches = [RequestMatch()] if isinstance(backend.matches, str) else backend.matches
        hosts = {
            (specificity(listener.hostname), specificity(hostname), hostname)
            for parent in parents
            for listener in parent.listeners or [_ANY]
            for hostname in listener.hostnames or [listener.hostname]
        }
        kind = _KINDS.index(route.kind) if route.kind in _KINDS else len(_KINDS)
        pairs = [
            ((listener, host, kind, precedence(match), age(route), backend.rule), PlacedMatch(hostname, i))
            for listener, host, hostname in hosts
            for i, match in enumerate(matches)
        ]
        self._rules[route.kind, route.namespace, route.name, backend.rule] = route, pairs, shadowed

    def placed(self) -> list[PlacedRule]:
        """The rules in order."""
        live = sorted(
            (
                (key, match, name)
                for name, (_, pairs, shadowed) in self._rules.items()
                if not shadowed
                for key, match in pairs
            ),
            key=lambda pair: (pair[0], pair[1].hostname, pair[1].match),
        )
        runs = [(name, list(run)) for name, run in groupby(live, key=lambda pair: pair[2])]
        places = Counter(name for name, _ in runs)
        ordered = [
            (run[0][0], self._placed(name, [match for _, match, _ in run] if places[name] > 1 else []))
            for name, run in runs
        ]
        ordered += [
            (min(key for key, _ in pairs), self._placed(name, []))
            for name, (_, pairs, shadowed) in self._rules.items()
            if shadowed
        ]
        return [placed for _, placed in sorted(ordered, key=lambda item: item[0])]

    def _placed(self, name: tuple[str, str, str, int], matches: list[PlacedMatch]) -> PlacedRule:
        return PlacedRule(self._rules[name][0], name[3], matches)
