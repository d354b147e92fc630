"""Who gets an address's port where several endpoints claim it: one winner for each (family, address, Service port
name, protocol, port number).

Slices of different port lists share addresses whenever a Service's ports change: the new slice is there before the old
one goes. The subsets of legacy Endpoints may do the same. The loser keeps the ports that it does not lose.

Rules (kubernetes website #38174, kubernetes #135334, #101935):
- the same Pod (target uid) in two slices: the slice with the newer resourceVersion wins;
- different Pods: a serving, non-terminating one wins, then the newer.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from typing import NamedTuple

import msgspec

from streams.facets.slice_text import Group, Layout, Source, restricted
from streams.wire.records import SliceEndpoint

Lost = dict[tuple[int, bytes], Layout | None]
"""The endpoints of a source (their group's index, their bytes) that lost ports, with the layout of the ports that they
keep; None: they lost all. Never changed once it is in Shadows."""

Shadows = Mapping[str, Lost]
"""By a source's label."""


class Contender(NamedTuple):
    """An endpoint of a source's group, with what decides between it and others."""

    source: Source
    group_index: int
    group: Group
    endpoint: bytes


_endpoint_in = msgspec.json.Decoder(SliceEndpoint)


def shadows_of(sources: Mapping[str, Source], addresses: Set[bytes] | None = None) -> dict[str, Lost]:
    """The endpoints of these sources that lose ports to others; with `addresses`, those with one of them."""
    first: dict[bytes, Contender] = {}
    contested: dict[bytes, list[Contender]] = {}
    for source in sources.values():
        for index, group in enumerate(source.groups):
            if addresses is not None and addresses.isdisjoint(group.endpoints.values()):
                continue
            for endpoint, address in group.endpoints.items():
                if addresses is not None and address not in addresses:
                    continue
                contender = Contender(source, index, group, endpoint)
                holder = first.setdefault(address, contender)
                if holder is not contender:
                    contested.setdefault(address, [holder]).append(contender)
    shadows: dict[str, Lost] = {}
    for contenders in contested.values():
        for loser, kept in _losers(contenders):
            shadows.setdefault(loser.source.label, {})[loser.group_index, loser.endpoint] = kept
    return shadows


def shadows_after(
    before: Shadows, old: Mapping[str, Source], sources: Mapping[str, Source], changes: Collection[str]
) -> Shadows:
    """The same as `shadows_of(sources)`, from those before a change of the sources with these labels: for a large
    Service whose ports change, slice by slice."""
    changed = [by_label[label] for by_label in (old, sources) for label in changes if label in by_label]
    addresses = {address for source in changed for group in source.groups for address in group.endpoints.values()}
    shadows = shadows_of(sources, addresses)
    for label, lost in before.items():
        if label in changes:
            continue
        groups = sources[label].groups
        if all(addresses.isdisjoint(group.endpoints.values()) for group in groups):
            shadows[label] = lost
            continue
        for (index, endpoint), kept in lost.items():
            if groups[index].endpoints[endpoint] not in addresses:
                shadows.setdefault(label, {})[index, endpoint] = kept
    return shadows


def conflicts(slices: Mapping[str, Source], changes: Iterable[str], old: Mapping[str, Source]) -> bool:
    """Whether a changed slice claims a port of an address twice, or one that another slice holds. `old` are the slices
    before the change, in which nothing is claimed twice."""
    return any(_claims_again(slices, slices[label], old.get(label)) for label in changes if label in slices)


def _losers(contenders: list[Contender]) -> Iterator[tuple[Contender, Layout | None]]:
    """Of the endpoints with one address those that lose ports, with the ports that they keep."""
    lost: list[set[bytes]] = [set() for _ in contenders]
    contests: dict[tuple[int, ...], list[bytes]] = {}
    for claim in frozenset[bytes]().union(*(contender.group.layout.claims for contender in contenders)):
        rivals = [at for at, contender in enumerate(contenders) if claim in contender.group.layout.claims]
        if len(rivals) > 1:
            contests.setdefault(tuple(rivals), []).append(claim)
    for positions, claims in contests.items():
        best = _best([contenders[at] for at in positions])
        for at in positions:
            if contenders[at] is not best:
                lost[at].update(claims)
    for contender, claims_lost in zip(contenders, lost, strict=True):
        if claims_lost:
            layout = contender.group.layout
            kept = layout.claims - claims_lost
            yield contender, restricted(layout, kept) if kept else None


def _best(rivals: list[Contender]) -> Contender:
    pods: dict[str, tuple[tuple[int, bool, bool, str, bytes], Contender]] = {}
    for rival in rivals:
        endpoint = _endpoint_in.decode(rival.endpoint)
        live = endpoint.serving and not endpoint.terminating
        rank_key = (rival.source.revision, live, endpoint.ready, rival.source.label, rival.endpoint)
        pod = endpoint.target.uid if endpoint.target else ""
        if pod not in pods or rank_key > pods[pod][0]:
            pods[pod] = (rank_key, rival)
    return max(pods.values(), key=lambda ranked: (ranked[0][1], ranked[0]))[1]


def _claims_again(slices: Mapping[str, Source], source: Source, old: Source | None) -> bool:
    """Whether the slice claims a port of an address twice (or may: it has several groups), or, anew, one that another
    holds."""
    if len(source.groups) > 1:
        return True
    for group in source.groups:
        claims = group.layout.claims
        added = set(group.endpoints.values())
        if len(added) != len(group.endpoints):
            return True
        former = old.groups[0] if old is not None else None
        if former is not None and claims <= former.layout.claims:
            added.difference_update(former.endpoints.values())
        if added and any(
            not claims.isdisjoint(rival.layout.claims) and not added.isdisjoint(rival.endpoints.values())
            for other in slices.values()
            if other.label != source.label
            for rival in other.groups
        ):
            return True
    return False
