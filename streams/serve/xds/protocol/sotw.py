"""The state-of-the-world variant: each response of clusters or listeners has all of them."""

import hashlib
from collections.abc import Iterator

from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.client import Client
from streams.serve.xds.build.names import FULL_STATE, TYPE_URLS, WILDCARD, Kind
from streams.serve.xds.build.resource import Absence, Resource
from streams.serve.xds.protocol.stream import NOTHING, Answer, Response, Stream, TypeState, check_names, join_response


class SotwStream(Stream):
    """One client's StreamAggregatedResources."""

    __slots__ = ("_last_nonce", "_world")

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._world: dict[Kind, dict[str, Resource]] = {kind: {} for kind in FULL_STATE}
        self._last_nonce: dict[Kind, str] = {}

    def take(self, request: DiscoveryRequest, catalog: Catalog) -> Answer | None:
        """Take a request. Returns its answer to the previous response, if it has one. Raises ProtocolViolation."""
        check_names(request.resource_names, len(request.resource_names))
        state = self.state_of(request.type_url)
        if state is None:
            if self.first_of_unserved(request.type_url):
                empty = DiscoveryResponse(version_info="0", type_url=request.type_url, nonce=self.next_nonce())
                self._empty += (Response(None, empty.SerializeToString()),)
            return None
        answer = None
        if request.response_nonce:
            if request.response_nonce != self._last_nonce.get(state.kind):
                return None  # Stale: the client has since been sent another response, and will answer that.
            if state.in_flight is not None:
                error = request.error_detail.message or "refused" if request.HasField("error_detail") else ""
                answer = state.record_answer(state.in_flight, error)
        self._subscribe(state, [catalog.own(name) for name in request.resource_names], catalog)
        return answer

    def _subscribe(self, state: TypeState, names: list[str], catalog: Catalog) -> None:
        was_wildcard, asked = state.wildcard, {name for name in names if name != WILDCARD}
        state.explicit = state.explicit or bool(names)
        added, dropped = asked - state.names, state.names - asked
        state.add_names(added)
        state.drop_names(dropped)
        state.wildcard = state.kind in FULL_STATE and (WILDCARD in names or not state.explicit)
        if state.wildcard and not was_wildcard:
            added |= state.subscribed(catalog, self.client)
        if added or not state.started:
            state.due = True
            # A new subscription is always answered: the client may have dropped the resource meanwhile.
            state.forget(added)
            self.ask(state, added)
        if state.wildcard:
            # What is still included stays.
            dropped = {name for name in dropped if not state.wants(name)}
        else:
            dropped |= state.digests.keys() - state.names
        if dropped:
            self.note_dropped(dropped)
            state.forget(dropped)
            world = self._world.get(state.kind, {})
            for name in dropped:
                world.pop(name, None)
        state.started = True

    def _make(self, state: TypeState, catalog: Catalog) -> Iterator[Response]:
        if state.in_flight is not None or not (state.dirty or state.due):
            return
        if state.kind not in FULL_STATE:
            state.due = False
            changed = self.look(state, catalog)
            # The protocol can't remove these types: they are just not sent any more.
            state.forget(state.removals)
            if changed:
                yield self._respond(state, changed)
            return
        if not catalog.is_settled_for(self.client, drops=True) and (
            state.wildcard or self._is_any_unknown(state, catalog)
        ):
            return
        changed = self.look(state, catalog)
        if not changed and not (state.due and (state.wildcard or state.names - state.unknown)):
            return
        state.due = False
        self._world[state.kind].update(changed)
        yield self._respond(state, self._world[state.kind])

    def _is_any_unknown(self, state: TypeState, catalog: Catalog) -> bool:
        """Whether a name that the client is subscribed to may be one of a Service that is not known yet.

        A response without a listener or cluster deletes it ("Deleting Resources"), also for a client that asks by name,
        and that may have it from another server. So nothing is sent until the state is settled; not for longer, as a
        name that stays unknown must not hold up the others. Routes and endpoint sets are not deleted by absence, in the
        incremental variant nothing is: there each name is answered as soon as it is known.
        """
        return any(catalog.resource(state.kind, name, self.client) is Absence.UNKNOWN for name in state.names)

    def _break(self, state: TypeState, catalog: Catalog) -> Iterator[Response]:
        if state.in_flight is not None or not state.removals:
            return
        world = self._world[state.kind]
        for name in state.removals:
            world.pop(name, None)
        removed = dict.fromkeys(state.removals)
        state.removals = NOTHING
        yield self._respond(state, world, removed)

    def _respond(
        self, state: TypeState, resources: dict[str, Resource], removed: dict[str, None] | None = None
    ) -> Response:
        nonce = self.next_nonce()
        self._last_nonce[state.kind] = nonce
        self.record_sent(state, nonce, {**resources, **(removed or {})})
        content = "\n".join(f"{name} {digest}" for name, digest in sorted(state.digests.items()))
        ordered = sorted(resources.values(), key=lambda resource: resource.name)
        version = hashlib.sha256(content.encode()).hexdigest()[:16]
        rest = DiscoveryResponse(version_info=version, type_url=TYPE_URLS[state.kind], nonce=nonce)
        return Response(state.kind, join_response(rest, map(_encode, ordered)))


def _encode(resource: Resource) -> bytes:
    if not resource.in_sotw:
        resource.in_sotw = DiscoveryResponse(resources=[resource.body]).SerializeToString()
    return resource.in_sotw
