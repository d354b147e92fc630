"""Attaches routes to a Gateway and its ListenerSets.

Of the listeners that a parentRef means (all of its object's, or those of a section or port) a route is attached to each
that takes its kind and namespace and has a hostname in common with it. Otherwise the reason is one of
NoMatchingParent, NotAllowedByListeners, NoMatchingListenerHostname, or Conflicted: the listener is in conflict with
another, or it is given to a route of another kind: of a GRPCRoute and an HTTPRoute with a common hostname the older
stays (GRPCRouteSpec.hostnames).
"""

from collections.abc import Iterable, Mapping, Sequence

from streams.objects.gateway_api.attachment import Attachment, Attachments, Binding, RequestClaims, refused
from streams.objects.gateway_api.hostnames import common_to
from streams.objects.gateway_api.listeners import Gateway, LabelsOf, ListenerSet, MergedListener, merge_listeners
from streams.objects.gateway_api.references import ServiceKey
from streams.objects.gateway_api.routes import Route
from streams.wire.routing_records import AttachedListener

_EXCLUSIVE = frozenset({"HTTPRoute", "GRPCRoute"})

_Places = dict[int, list[str]]
"""The hostnames for which a route gets requests, by listener (its index among the merged)."""


def attach_to_gateway(
    key: ServiceKey,
    gateway: Gateway,
    sets: Mapping[ServiceKey, ListenerSet],
    bindings: Iterable[Binding],
    labels_of: LabelsOf,
) -> Attachments:
    """The outcome of each binding to the Gateway, or to a ListenerSet of it."""
    merged = merge_listeners(key, gateway, sets, labels_of)
    attachments: Attachments = {}
    placed: list[tuple[Binding, _Places]] = []
    for binding in sorted(bindings, key=lambda binding: (binding.route.age, binding.place)):
        places = _places(binding, merged, labels_of)
        if isinstance(places, Attachment):
            attachments[binding.route.key, binding.place] = places
        else:
            placed.append((binding, places))
    claims = RequestClaims()
    holders: dict[int, list[tuple[str, list[str]]]] = {}
    for binding, places in placed:
        route = binding.route
        free = {place: hosts for place, hosts in places.items() if not _is_taken(route, hosts, holders.get(place, ()))}
        for place, hostnames in free.items():
            holders.setdefault(place, []).append((route.kind, hostnames))
        attachments[route.key, binding.place] = (
            Attachment(
                True,
                listeners=tuple(_attached(merged[place], hostnames) for place, hostnames in free.items()),
                shadowed=claims.claim(route, free.items()),
            )
            if free
            else refused("Conflicted", "an older route of another kind has the hostname")
        )
    return attachments


def attach_to_unknown(bindings: Iterable[Binding]) -> Attachments:
    """The outcome of bindings to a parent that can't be read: they count as attached."""
    attachments: Attachments = {}
    claims = RequestClaims()
    for binding in sorted(bindings, key=lambda binding: (binding.route.age, binding.place)):
        hostnames = sorted({hostname.lower() for hostname in binding.route.hostnames})
        listener = AttachedListener(binding.parent.section or "", binding.parent.port, "", hostnames)
        shadowed = claims.claim(binding.route, [(binding.parent, hostnames or [""])])
        attachments[binding.route.key, binding.place] = Attachment(True, listeners=(listener,), shadowed=shadowed)
    return attachments


def _places(binding: Binding, merged: Sequence[MergedListener], labels_of: LabelsOf) -> _Places | Attachment:
    """Where the route may be attached, or why nowhere."""
    route, parent = binding.route, binding.parent
    owner = parent.kind, (parent.namespace, parent.name)
    own = [place for place, merge in enumerate(merged) if merge.owner == owner]
    if not own and parent.kind == "ListenerSet":
        return refused("NoMatchingParent", "its Gateway does not allow the ListenerSet")
    relevant = [place for place in own if _is_meant(binding, merged[place])]
    if not relevant:
        return refused("NoMatchingParent", "no listener of this name and port")
    allowed = [place for place in relevant if _allows(merged[place], route, labels_of)]
    if not allowed:
        return refused("NotAllowedByListeners")
    common = {place: merged[place].listener.common_hostnames(route) for place in allowed}
    places = {place: hostnames for place, hostnames in common.items() if hostnames is not None}
    if not places:
        return refused("NoMatchingListenerHostname")
    served = {place: hostnames for place, hostnames in places.items() if not merged[place].conflict}
    if not served:
        first = merged[next(iter(places))]
        return refused("Conflicted", f"listener {first.listener.name}: {first.conflict}")
    return served


def _is_meant(binding: Binding, merge: MergedListener) -> bool:
    parent, listener = binding.parent, merge.listener
    return parent.section in {None, listener.name} and parent.port in {None, listener.port}


def _allows(merge: MergedListener, route: Route, labels_of: LabelsOf) -> bool:
    namespace = merge.owner[1][0]
    return merge.listener.takes(route.kind) and merge.listener.namespaces.allow(route.namespace, namespace, labels_of)


def _is_taken(route: Route, hostnames: Iterable[str], holders: Iterable[tuple[str, list[str]]]) -> bool:
    """Whether an older route of the other kind has one of the hostnames at a listener."""
    if route.kind not in _EXCLUSIVE:
        return False
    taken_names = [name for kind, names in holders if kind != route.kind and kind in _EXCLUSIVE for name in names]
    return any(common_to(hostname, name) is not None for hostname in hostnames for name in taken_names)


def _attached(merge: MergedListener, hostnames: list[str]) -> AttachedListener:
    listener = merge.listener
    return AttachedListener(
        listener.name, listener.port, listener.hostname.lower(), [] if hostnames == [""] else hostnames
    )
