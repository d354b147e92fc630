"""Clients of both variants of the xDS protocol, in memory."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)

from streams.serve.xds.build.client import Client
from streams.serve.xds.build.names import KINDS, TYPE_URLS, Kind
from streams.serve.xds.protocol.delta import DeltaStream
from streams.serve.xds.protocol.sotw import SotwStream
from streams.serve.xds.protocol.stream import Answer, Stream
from tests.support.xds_checks import MESSAGES
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
        _touch(self.stream, self.world, changed)
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


class Sotw:
    """A state-of-the-world client. It acknowledges what it gets, unless it is told to wait."""

    def __init__(self, world: World, client: Client = Client()) -> None:  # noqa: B008
        self.world, self.stream = world, SotwStream(client)
        self.names: dict[Kind, list[str]] = {}
        self.last: dict[Kind, DiscoveryResponse] = {}
        self.version: dict[Kind, str] = {}
        self.answers: list[Answer] = []

    def ask(self, kind: Kind, *names: str, ack: bool = True) -> list[Said]:
        self.names[kind] = list(names)
        self.send(kind)
        return self.read(ack=ack)

    def send(self, kind: Kind, nonce: str | None = None, error: str = "") -> None:
        last = self.last.get(kind)
        request = DiscoveryRequest(
            type_url=TYPE_URLS[kind],
            resource_names=self.names[kind],
            response_nonce=nonce if nonce is not None else last.nonce if last else "",
            version_info=self.version.get(kind, ""),
        )
        if error:
            request.error_detail.message = error
        answer = self.stream.take(request, self.world.catalog)
        if answer:
            self.answers.append(answer)

    def read(self, changed: Iterable[str] = (), *, ack: bool = True, error: str = "") -> list[Said]:
        """All responses that come, in order."""
        _touch(self.stream, self.world, changed)
        said: list[Said] = []
        while responses := received(DiscoveryResponse, self.stream, self.world):
            for each in responses:
                kind = KINDS[each.type_url]
                said.append(Said(kind, [_name_of(kind, one) for one in each.resources]))
                self.last[kind] = each
            if not ack:
                break
            for each in responses:
                kind = KINDS[each.type_url]
                if not error:
                    self.version[kind] = each.version_info
                self.send(kind, error=error)
        return said


def _name_of(kind: Kind, body: Any) -> str:
    message = MESSAGES[kind].FromString(body.value)
    return str(message.cluster_name if kind == "eds" else message.name)


def _touch(stream: Stream, world: World, changed: Iterable[str]) -> None:
    """Tell a stream what the world's last change has changed, as the server does."""
    if names := set(changed):
        stream.touch(names)
        for key in world.changed_hosts:
            stream.touch_hosts(key)


def received(response_type: type[Any], stream: Stream, world: World) -> list[Any]:
    """The responses that are due, as a client reads them."""
    return [response_type.FromString(each.body) for each in stream.advance(world.catalog)]
