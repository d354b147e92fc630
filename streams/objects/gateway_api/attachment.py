"""Where routes are attached: the outcome for each of their parents, and which rules never get a request there."""

from collections.abc import Hashable, Iterable
from typing import NamedTuple

from streams.objects.gateway_api.references import Parent
from streams.objects.gateway_api.routes import Route, Rule
from streams.wire.event_encoding import Key
from streams.wire.routing_records import AttachedListener


class Binding(NamedTuple):
    """A route and one of its parents, by its place."""

    route: Route
    place: int

    @property
    def parent(self) -> Parent:
        """The parent."""
        return self.route.parents[self.place]


class Attachment(NamedTuple):
    """The outcome of a binding (see `wire.routing_records.RouteParent`). `shadowed` are the rules, by place, that never
    get a request of this parent."""

    attached: bool
    reason: str = ""
    message: str = ""
    listeners: tuple[AttachedListener, ...] = ()
    ports: tuple[int, ...] = ()
    consumers: tuple[str, ...] = ()
    shadowed: frozenset[int] = frozenset()


Attachments = dict[tuple[Key, int], Attachment]
"""By route, and the parent's place in it."""


def refused(reason: str, message: str = "") -> Attachment:
    """The route is not attached; `reason` is a reason of the Gateway API's condition Accepted, where it has one."""
    return Attachment(False, reason, message)


class RequestClaims:
    """Decides which of several rules that match the same requests gets them: the first to claim them. Claims are made
    in the order of the API's precedence: the oldest route, then by namespace/name, then the order of rules."""

    def __init__(self) -> None:
        self._owners: dict[Hashable, tuple[Key, int]] = {}

    def claim(self, route: Route, places: Iterable[tuple[Hashable, Iterable[str]]]) -> frozenset[int]:
        """Claim the requests of all rules of a route at each place (a listener, or a port of a Service) and hostname
        there; the rules, by place, that get none."""
        pairs = [(place, hostname) for place, hostnames in places for hostname in hostnames]
        return frozenset(rule.place for rule in route.rules if pairs and not self._claim(route, rule, pairs))

    def _claim(self, route: Route, rule: Rule, pairs: Iterable[tuple[Hashable, str]]) -> bool:
        owner = route.key, rule.place
        requests = [(route.kind, place, hostname, match) for place, hostname in pairs for match in rule.identities]
        return owner in [self._owners.setdefault(request, owner) for request in requests]
