"""Fast path for the initial list: the first rows of a Service that has no entry yet.

They are prepared while the rest of the list is still arriving, and are the bytes that the general path makes (a
property test compares the two). Where that is not certain, nothing is prepared, and the general path is taken.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

from streams.facets.changes import LocalName
from streams.facets.slice_text import Source, addresses_of
from streams.wire.records import Cause, Event
from streams.wire.routing_records import ServiceObject


class Staged(NamedTuple):
    """An object in an open snapshot: its last state that could be read (`good`) with its content (None where it was
    not read yet), and the newer rejection, if there is one."""

    good: Event | None
    bad: Event | None = None
    content: object = None


class InitialObjects(NamedTuple):
    """A Service's objects in its first snapshot, all of which can be read in full: nothing but the Service, its slices
    and its legacy Endpoints. `endpoint_causes` are those of slices and Endpoints, in the order in which a row names
    them."""

    service: ServiceObject
    service_content: bytes
    service_cause: Cause
    slices: dict[str, Source]
    legacy: tuple[Source, Event] | None
    endpoint_causes: list[Cause]


def initial_objects(objects: Mapping[LocalName, Staged]) -> InitialObjects | None:
    """The staged objects by role; None if the general path must be taken."""
    service: tuple[ServiceObject, bytes, Cause] | None = None
    legacy: tuple[Source, Event] | None = None
    slices: dict[str, Source] = {}
    causes: list[Cause] = []
    for (kind, _), (good, bad, content) in sorted(objects.items()):
        if good is None or bad is not None or content is None or good.service_namespace or good.message:
            return None
        cause = Cause(kind, good.name, good.uid, good.resource_version, good.trigger)
        if kind == "EndpointSlice" and isinstance(content, Source):
            slices[good.name] = content
            causes.append(cause)
        elif kind == "Endpoints" and isinstance(content, Source) and legacy is None:
            legacy = content, good
            causes.append(cause)
        elif kind == "Service" and isinstance(content, tuple) and service is None:
            service = content[1], content[0], cause
        else:
            return None
    if service is None:
        return None
    return InitialObjects(*service, slices, legacy, causes)


def is_claimed_twice(slices: Mapping[str, Source]) -> bool:
    """Whether a port of an address is, or might be, in two slices or twice in one."""
    claimed: dict[frozenset[bytes], set[bytes]] = {}
    for source in slices.values():
        addresses = _addresses_of(source)
        if addresses is None:
            return True
        same_ports = claimed.setdefault(source.groups[0].layout.claims, addresses)
        if same_ports is not addresses:
            if not same_ports.isdisjoint(addresses):
                return True
            same_ports |= addresses
    return len(claimed) > 1 and any(
        not claims.isdisjoint(other_claims) and not addresses.isdisjoint(other_addresses)
        for (claims, addresses), (other_claims, other_addresses) in combinations(claimed.items(), 2)
    )


def _addresses_of(source: Source) -> set[bytes] | None:
    """A slice's addresses; None where one is, or might be, there twice."""
    if len(source.groups) != 1:
        return None
    addresses = addresses_of(source.groups[0].text)
    distinct = set(addresses)
    return None if len(distinct) != len(addresses) else distinct
