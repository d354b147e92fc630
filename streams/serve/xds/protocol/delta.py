"""The incremental variant: only changes are sent, and removals are explicit."""

from collections.abc import Collection, Iterator, Set

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from envoy.service.discovery.v3.discovery_pb2 import Resource as ResourceMessage

from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.names import FULL_STATE, TYPE_URLS, WILDCARD
from streams.serve.xds.build.resource import Resource, digest_of
from streams.serve.xds.protocol.stream import NOTHING, Answer, Response, Stream, TypeState, check_names, join_response


class DeltaStream(Stream):
    """One client's DeltaAggregatedResources."""

    __slots__ = ()

    def take(self, request: DeltaDiscoveryRequest, catalog: Catalog) -> Answer | None:
        """Take a request. Returns its answer to the previous response, if it has one. Raises ProtocolViolation."""
        subscribe, unsubscribe = request.resource_names_subscribe, request.resource_names_unsubscribe
        check_names(subscribe, len(subscribe) + len(unsubscribe) + len(request.initial_resource_versions))
        state = self.state_of(request.type_url)
        if state is None:
            self._answer_unserved(request)
            return None
        answer = _acknowledgement(state, request)
        is_first = not state.started
        if is_first:
            state.started = True
            versions = request.initial_resource_versions
            state.digests = {catalog.own(name): digest_of(version) for name, version in versions.items()}
        if (WILDCARD in subscribe or (is_first and not subscribe)) and state.kind in FULL_STATE:
            self._subscribe_to_all(state, catalog)
        names = {catalog.own(name) for name in subscribe if name != WILDCARD}
        if not is_first:
            # Subscribed to again: the client may have dropped them ("Subscribing to Resources").
            state.forget(names)
        state.add_names(names)
        self._owe(state, names)
        self._unsubscribe(state, unsubscribe)
        if is_first and not state.wildcard:
            state.forget(set(state.digests) - state.names)
        return answer

    def _answer_unserved(self, request: DeltaDiscoveryRequest) -> None:
        """A known type that is not served has no resources: say so once, and for each name requested."""
        if request.resource_names_subscribe or self.first_of_unserved(request.type_url):
            empty = DeltaDiscoveryResponse(
                type_url=request.type_url,
                nonce=self.next_nonce(),
                removed_resources=[name for name in request.resource_names_subscribe if name != WILDCARD],
            )
            self._empty += (Response(None, empty.SerializeToString()),)

    def _subscribe_to_all(self, state: TypeState, catalog: Catalog) -> None:
        """A wildcard subscription. Resources that the client has from an earlier stream may no longer exist."""
        state.wildcard = state.due = True
        self.ask(state, state.subscribed(catalog, self.client) | state.digests.keys())

    def _owe(self, state: TypeState, names: Set[str]) -> None:
        state.owed = (state.owed | names) or NOTHING
        self.ask(state, names)

    def _unsubscribe(self, state: TypeState, names: Collection[str]) -> None:
        if WILDCARD in names:
            state.wildcard = state.due = False
            self.note_dropped(state.digests.keys() - state.names)
            state.forget((state.digests.keys() | state.dirty | state.unknown | state.removals) - state.names)
        dropped = state.names.intersection(names)
        state.drop_names(dropped)
        state.forget(dropped)
        if dropped:
            self.note_dropped(dropped)
        if state.wildcard:
            # The wildcard may still include them: the client is told either way.
            self._owe(state, dropped)

    def _make(self, state: TypeState, catalog: Catalog) -> Iterator[Response]:
        if state.in_flight is not None or not (state.dirty or state.due):
            return
        if state.wildcard and not catalog.is_settled_for(self.client, drops=False):
            return
        changed = self.look(state, catalog)
        # Removing what the client never had breaks nothing: it can be sent at once.
        unsent = {name for name in state.removals if name not in state.digests}
        state.removals = (state.removals - unsent) or NOTHING
        if changed or unsent or state.due:
            state.due = False
            yield self._respond(state, changed, unsent)

    def _break(self, state: TypeState, catalog: Catalog) -> Iterator[Response]:
        if state.in_flight is None and state.removals:
            removed, state.removals = state.removals, NOTHING
            yield self._respond(state, {}, removed)

    def _respond(self, state: TypeState, changed: dict[str, Resource], removed: Set[str]) -> Response:
        nonce = self.next_nonce()
        state.owed = (state.owed - removed) or NOTHING
        self.record_sent(state, nonce, {**changed, **dict.fromkeys(removed)})
        ordered = sorted(changed.values(), key=lambda resource: resource.name)
        rest = DeltaDiscoveryResponse(removed_resources=sorted(removed), type_url=TYPE_URLS[state.kind], nonce=nonce)
        return Response(state.kind, join_response(rest, map(_encode, ordered)))


def _acknowledgement(state: TypeState, request: DeltaDiscoveryRequest) -> Answer | None:
    """The request's answer to the response in flight, which it names by its nonce. (Only the nonce is bound to a
    response: names are taken from every request.)"""
    if state.in_flight is None or request.response_nonce != state.in_flight.nonce:
        return None
    error = request.error_detail.message or "refused" if request.HasField("error_detail") else ""
    return state.record_answer(state.in_flight, error)


def _encode(resource: Resource) -> bytes:
    if not resource.in_delta:
        entry = ResourceMessage(name=resource.name, version=resource.version, resource=resource.body)
        resource.in_delta = DeltaDiscoveryResponse(resources=[entry]).SerializeToString()
    return resource.in_delta
