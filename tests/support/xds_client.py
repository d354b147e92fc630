"""A client of the incremental xDS protocol, in memory."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
)

from streams.serve.xds.build.client import Client
from streams.serve.xds.build.names import KINDS, TYPE_URLS, Kind
from streams.serve.xds.protocol.delta import DeltaStream
from streams.serve.xds.protocol.stream import Answer, Stream
from tests.unit.xds.world import World


class Said(NamedTuple):
    """A response: its type, the names of what is in it, and of what is taken back."""

    kind: Kind
    names: list[str]
    removed: list[str] = []  # noqa: RUF012


class Delta:
    """An incremental client. It acknowledges what it gets, unless it is told to wait."""

    def __init__(self, world: World, client: Client = Client()) -> None:  # noqa: B008
        self.world, self.stream = world, DeltaStream(client)
        self.versions: dict[str, str] = {}
        self.answers: list[Answer] = []

    def ask(
        self, kind: Kind, *subscribe: str, drop: Iterable[str] = (), has: dict[str, str] | None = None, ack: bool = True
    ) -> list[Said]:
        request = DeltaDiscoveryRequest(
            type_url=TYPE_URLS[kind],
            resource_names_subscribe=subscribe,
            resource_names_unsubscribe=drop,
            initial_resource_versions=has or {},
        )
        self.stream.take(request, self.world.catalog)
        return self.read(ack=ack)

    def answer(self, response: DeltaDiscoveryResponse, error: str = "") -> None:
        request = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if error:
            request.error_detail.message = error
        answer = self.stream.take(request, self.world.catalog)
        if answer:
            self.answers.append(answer)

    def read(self, changed: Iterable[str] = (), *, ack: bool = True, error: str = "") -> list[Said]:
        self.stream.touch(set(changed))
        said: list[Said] = []
        while responses := received(DeltaDiscoveryResponse, self.stream, self.world):
            for each in responses:
                kind = KINDS[each.type_url]
                said.append(Said(kind, [one.name for one in each.resources], list(each.removed_resources)))
                self.versions |= {f"{kind} {one.name}": one.version for one in each.resources}
            self.unanswered = responses
            if not ack:
                break
            for each in responses:
                self.answer(each, error)
        return said


def received(response_type: type[Any], stream: Stream, world: World) -> list[Any]:
    """The responses that are due, as a client reads them."""
    return [response_type.FromString(each.body) for each in stream.advance(world.catalog)]
