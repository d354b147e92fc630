"""What both variants of the xDS protocol share: a client's subscriptions, its resources, and the responses in flight.

Written against the xDS protocol document (envoyproxy.io/docs, "xDS REST and gRPC protocol"). Of each type at most one
response is in flight: changes until the client has acknowledged it (ACK or NACK) are sent afterwards, in their newest
state. So a slow client gets fewer and newer states, and holds up nobody but itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from types import MappingProxyType
from typing import NamedTuple

from google.protobuf.message import Message

from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.client import Client
from streams.serve.xds.build.hosts import host_of
from streams.serve.xds.build.names import KINDS, TYPE_URLS, UNSERVED, Kind
from streams.serve.xds.build.resource import Absence, Resource
from streams.serve.xds.build.service_index import Key

MAX_NAMES = 100_000
"""How many resource names of one type a client may request."""


NOTHING: frozenset[str] = frozenset()
_NO_HOSTS: Mapping[Key, Set[str]] = MappingProxyType({})


class ProtocolViolation(Exception):
    """A request that violates the protocol; the stream ends with this text."""


class Answer(NamedTuple):
    """The answer to a response: `error` is a NACK's text, empty for an ACK; `names` are the resources in the
    response."""

    kind: Kind
    error: str
    names: tuple[str, ...]


class InFlight(NamedTuple):
    """A response in flight: its resources by name, None for a removal."""

    nonce: str
    resources: dict[str, Resource | None]


class Response(NamedTuple):
    """A serialized response; `kind` is None for a type that is not served."""

    kind: Kind | None
    body: bytes


class TypeState:
    """One resource type on one stream.

    `digests` has by name the digest of what the client was sent last, `unacked` the names whose last resource it has
    not acknowledged; `dirty` are the names to check again, `unknown` those whose state is not known yet; `removals` no
    longer exist, and wait for their turn to be removed. `owed` are names that the client requested and has no answer
    for; if a response is `due`, it is sent even if it is empty. `hosts` are, by Service, those of the `names` that are
    of single hosts of a set: what no wildcard includes.

    There is one for each type of each client: names and digests are the catalog's own strings, and sets that are
    usually empty share one empty set.
    """

    __slots__ = (
        "digests", "dirty", "due", "explicit", "hosts", "in_flight", "kind", "names", "owed", "removals", "started",
        "unacked", "unknown", "wildcard",
    )  # fmt: skip

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.started = False
        self.due = False
        self.explicit = False
        self.wildcard = False
        self.names: set[str] = set()
        self.hosts: Mapping[Key, Set[str]] = _NO_HOSTS
        self.digests: dict[str, str] = {}
        self.unacked = NOTHING
        self.dirty: set[str] = set()
        self.unknown = NOTHING
        self.owed = NOTHING
        self.removals = NOTHING
        self.in_flight: InFlight | None = None

    def wants(self, name: str) -> bool:
        """Whether the client is subscribed to a name."""
        return name in self.names or (self.wildcard and self.kind != "lds" and host_of(name) is None)

    def add_names(self, names: Set[str]) -> None:
        """Note that the client asks for these."""
        self.names |= names
        added: dict[Key, set[str]] = {}
        for name in names:
            if (host := host_of(name)) is not None:
                added.setdefault(host.service, set()).add(name)
        if added:
            self.hosts = {**self.hosts, **{key: own.union(self.hosts.get(key, ())) for key, own in added.items()}}

    def drop_names(self, names: Set[str]) -> None:
        """Note that the client no longer asks for these."""
        self.names -= names
        if names and self.hosts:
            left = {key: hosts - names for key, hosts in self.hosts.items()}
            self.hosts = {key: hosts for key, hosts in left.items() if hosts} or _NO_HOSTS

    def subscribed(self, catalog: Catalog, client: Client) -> set[str]:
        """All names that the client is currently subscribed to."""
        return self.names.union(catalog.names(self.kind, client)) if self.wildcard else set(self.names)

    def forget(self, names: Iterable[str]) -> None:
        """Note that the client no longer has these."""
        forgotten = frozenset(names)
        for name in forgotten:
            self.digests.pop(name, None)
        self.dirty -= forgotten
        self.unacked = (self.unacked - forgotten) or NOTHING
        self.unknown = (self.unknown - forgotten) or NOTHING
        self.owed = (self.owed - forgotten) or NOTHING
        self.removals = (self.removals - forgotten) or NOTHING

    def record_answer(self, flight: InFlight, error: str) -> Answer:
        """Note that the response in flight was accepted, or refused if there is an error."""
        self.in_flight = None
        if not error:
            self.unacked = self.unacked.difference(flight.resources) or NOTHING
        return Answer(self.kind, error, tuple(flight.resources))


class Stream:
    """One client's stream, in either variant. `touch` notes changes, `advance` yields the responses that are due;
    `take` (of the variant) takes a request."""

    __slots__ = ("_dropped", "_empty", "_known", "_nonce", "_refused", "_subscribed", "client", "types")

    def __init__(self, client: Client) -> None:
        self.client = client
        self.types: dict[Kind, TypeState] = {}
        self._nonce = 0
        self._refused = NOTHING
        self._subscribed: Set[str] = NOTHING
        self._dropped: Set[str] = NOTHING
        self._empty: tuple[Response, ...] = ()
        self._known = (-1, 0)

    def touch(self, names: Set[str]) -> bool:
        """Note names whose resources may have changed. Returns whether the client is subscribed to any."""
        # This and `due` run for each client at each change: with 500 clients they were half of the server's time.
        is_concerned = False
        for state in self.types.values():
            if names and state.wildcard and state.kind != "lds":
                state.dirty |= names
                is_concerned = True
            elif not state.names.isdisjoint(names):
                state.dirty |= state.names & names
                is_concerned = True
        return is_concerned

    def touch_hosts(self, key: Key) -> Set[str]:
        """Note that the hosts of a set may have changed. Returns the names of those that the client is subscribed
        to."""
        touched: Set[str] = NOTHING
        for state in self.types.values():
            if state.hosts and (own := state.hosts.get(key)):
                state.dirty |= own
                touched |= own
        return touched

    def hosts_of(self, key: Key) -> Set[str]:
        """The names of a set's hosts that the client is subscribed to."""
        return NOTHING.union(*(state.hosts.get(key, NOTHING) for state in self.types.values() if state.hosts))

    @property
    def waiting(self) -> bool:
        """Whether a response is in flight that the client has not answered."""
        return any(state.in_flight is not None for state in self.types.values())

    @property
    def due(self) -> bool:
        """Whether there may be something to send before the client answers the responses in flight."""
        for state in self.types.values():  # noqa: SIM110
            if state.in_flight is None and (state.dirty or state.removals):
                return True
        return False

    @property
    def backlog(self) -> int:
        """How many names are to be checked or removed. If `advance` sends nothing and leaves this as it was, nothing is
        settled."""
        return sum(len(state.dirty) + len(state.unknown) + len(state.removals) for state in self.types.values())

    def advance(self, catalog: Catalog) -> Iterator[Response]:
        """The responses that are due, make before break: CDS, EDS, LDS, RDS, then removals in reverse order, only when
        nothing that could refer to them is still to be sent."""
        empty, self._empty = self._empty, ()
        yield from empty
        if catalog.known != self._known:
            self._known = catalog.known
            for state in self.types.values():
                state.dirty |= state.unknown
                state.unknown = NOTHING
        states = [self.types[kind] for kind in TYPE_URLS if kind in self.types]
        for state in states:
            yield from self._make(state, catalog)
        for state in reversed(states):
            yield from self._break(state, catalog)
            if state.dirty or state.removals:
                return

    def unsent(self, names: Iterable[str]) -> bool:
        """Whether something of these names is still to be sent, or to become known."""
        for state in self.types.values():
            for name in names:
                if name in state.dirty or name in state.removals or name in state.unknown:
                    return True
        return False

    def unanswered(self, names: Iterable[str]) -> bool:
        """Whether the client has not acknowledged (or has refused) something of these names that it was sent."""
        for state in self.types.values():
            for name in names:
                if name in state.unacked and state.wants(name):
                    return True
        return False

    def take_new_subscriptions(self) -> Set[str]:
        """The names that the client has subscribed to since the last call, and is to be sent."""
        if not self._subscribed:
            return NOTHING
        subscribed, self._subscribed = self._subscribed, NOTHING
        return subscribed & set().union(*(state.dirty for state in self.types.values()))

    def take_dropped(self) -> Set[str]:
        """The names that the client has ceased to ask for since the last call, in one of the types at least."""
        if not self._dropped:
            return NOTHING
        dropped, self._dropped = self._dropped, NOTHING
        return dropped

    def note_dropped(self, names: Set[str]) -> None:
        """Note that the client no longer asks for these in one of the types."""
        self._dropped |= names

    def follows(self, names: Iterable[str]) -> bool:
        """Whether the client is subscribed to any of these names."""
        return any(state.wants(name) for name in names for state in self.types.values())

    def follows_service(self, key: Key, catalog: Catalog) -> bool:
        """Whether the client is subscribed to any name of a Service, be it of one of its hosts alone."""
        return self.follows(catalog.names_for(key, self.client)) or bool(self.hosts_of(key))

    # ---- for the variants -------------------------------------------------------------------------------

    def state_of(self, type_url: str) -> TypeState | None:
        """The state of a type; None for a known type that is not served."""
        kind = KINDS.get(type_url)
        if kind is not None:
            return self.types.setdefault(kind, TypeState(kind))
        if type_url in UNSERVED:
            return None
        served = ", ".join(TYPE_URLS.values())
        raise ProtocolViolation(f"type_url {type_url[:200]!r} is not known here; served are: {served}")

    def first_of_unserved(self, type_url: str) -> bool:
        """Whether this is the first request for a type that is not served."""
        first = type_url not in self._refused
        self._refused |= {type_url}
        return first

    def ask(self, state: TypeState, names: Set[str]) -> None:
        """Note that the client has requested these."""
        state.dirty |= names
        self._subscribed |= names

    def next_nonce(self) -> str:
        """A nonce that this stream has not used."""
        self._nonce += 1
        return str(self._nonce)

    def look(self, state: TypeState, catalog: Catalog) -> dict[str, Resource]:
        """Check the dirty names. Returns the resources that are new to the client, and adds those that no longer exist
        to `removals`."""
        changed: dict[str, Resource] = {}
        dirty, state.dirty = state.dirty, set()
        present, removed, unknown = set(), set(), set()
        for name in dirty:
            is_excluded = state.wildcard and name not in state.names and host_of(name) is not None
            resource = Absence.MISSING if is_excluded else catalog.resource(state.kind, name, self.client)
            if isinstance(resource, Resource):
                present.add(name)
                if state.digests.get(name) != resource.digest:
                    changed[name] = resource
            elif resource is Absence.UNKNOWN:
                unknown.add(name)
            elif name in state.digests or name in state.owed:
                removed.add(name)
        state.removals = (state.removals - present | removed) or NOTHING
        state.unknown = (state.unknown - dirty | unknown) or NOTHING
        state.owed = (state.owed - present) or NOTHING
        return changed

    def record_sent(self, state: TypeState, nonce: str, resources: dict[str, Resource | None]) -> None:
        """Note a response in flight. A changed cluster or listener stays warming until it is sent its endpoints or
        routes again, even if those are the same."""
        state.in_flight = InFlight(nonce, resources)
        state.unacked = state.unacked.union(resources) or NOTHING
        below = {"cds": "eds", "lds": "rds"}.get(state.kind)
        lower = self.types.get(below) if below else None  # type: ignore[call-overload]
        for name, resource in resources.items():
            if resource is None:
                state.digests.pop(name, None)
                continue
            if lower is not None and lower.wants(name) and state.digests.get(name) != resource.digest:
                lower.digests.pop(name, None)
                lower.dirty.add(name)
            state.digests[name] = resource.digest

    def _make(self, state: TypeState, catalog: Catalog) -> Iterator[Response]:
        raise NotImplementedError

    def _break(self, state: TypeState, catalog: Catalog) -> Iterator[Response]:
        raise NotImplementedError


def join_response(rest: Message, resources: Iterable[bytes]) -> bytes:
    """A response of these resources, each serialized as a response of its own, and of the rest. Concatenated messages
    are one message with the fields of both (protobuf.dev, "Encoding", "Last One Wins")."""
    return b"".join((rest.SerializeToString(), *resources))


def check_names(names: Iterable[str], count: int) -> None:
    """Refuse invalid names, and too many. Raises ProtocolViolation."""
    if count > MAX_NAMES:
        raise ProtocolViolation(f"{count} resource names are more than the {MAX_NAMES} that one client may ask for")
    for name in names:
        if not name or len(name) > 512 or not name.isprintable():
            raise ProtocolViolation(f"resource name {name[:80]!r} is empty, too long, or not printable")
