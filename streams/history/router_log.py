"""The log of acknowledgements, folded: which version of each Service each router had at a time.

The records of several servers come in no common order, and a router may go from one server to another. So what counts
of a router and a Service is the newest step by its own time, not the last one read.
"""

from collections.abc import Collection, Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from streams.wire.ack_records import BEAT_SECONDS, AckBatch, ClientConnected, ServiceAcks, Variant
from streams.wire.timestamps import milliseconds, of_milliseconds

Key = tuple[str, str]
"""A Service's namespace and name."""

SILENT_MS = int(3 * BEAT_SECONDS * 1000)
"""A server that has written nothing for so long has ended."""

_decode = msgspec.json.Decoder(AckBatch).decode


def read_batch(value: bytes | None) -> AckBatch:
    """A record's content, checked so far that it can be folded. Raises ValueError."""
    try:
        batch = _decode(value or b"")
        milliseconds(batch.at)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    count = len(batch.nodes)
    if any(index >= count for index in _indices(batch)):
        raise ValueError("it names a node that is not among its nodes")
    for service in batch.services:
        if any(not len(each.nodes) == len(each.sent) == len(each.acked) for each in service.acked) or any(
            len(each.nodes) != len(each.sent) for each in service.sent
        ):
            raise ValueError(f"the lists of {service.namespace}/{service.name} are not in step")
    return batch


def _indices(batch: AckBatch) -> Iterator[int]:
    yield from (opened.node for opened in batch.connected)
    yield from (closed.node for closed in batch.disconnected)
    yield from (streamed.node for streamed in batch.streamed)
    for service in batch.services:
        yield from (refused.node for refused in service.refused)
        yield from (unfollowed.node for unfollowed in service.unfollowed)
        yield from (index for version in service.acked for index in version.nodes)
        yield from (index for version in service.sent for index in version.nodes)


def earliest(batch: AckBatch) -> int:
    """When the first step in a batch happened; of one without steps its own time."""
    offsets = [opened.at for opened in batch.connected] + [closed.at for closed in batch.disconnected]
    offsets += [at for service in batch.services for _, _, _, at, _ in _happened(service)]
    return milliseconds(batch.at) + min(offsets, default=0)


_What = Literal["connected", "sent", "acked", "refused", "unfollowed", "disconnected"]
_ORDER: tuple[_What, ...] = ("connected", "sent", "acked", "refused", "unfollowed", "disconnected")


def _happened(service: ServiceAcks) -> Iterator[tuple[_What, int, int, int, Any]]:
    """What happened, the node's index, the version, when, and more: when an acknowledged version had been sent, the
    type and the words of a refusal."""
    for acked in service.acked:
        for node, sent_at, acked_at in zip(acked.nodes, acked.sent, acked.acked, strict=True):
            yield "sent", node, acked.version, sent_at, None
            yield "acked", node, acked.version, acked_at, sent_at
    for sent in service.sent:
        for node, sent_at in zip(sent.nodes, sent.sent, strict=True):
            yield "sent", node, sent.version, sent_at, None
    for refused in service.refused:
        yield "refused", refused.node, refused.version, refused.at, (refused.type, refused.error)
    for unfollowed in service.unfollowed:
        yield "unfollowed", unfollowed.node, -1, unfollowed.at, None


class Refusal(NamedTuple):
    """A NACK: when (milliseconds since 1970), of which version, of which type of resources, and the router's words."""

    at: int
    version: int
    type: str
    error: str


class Held(NamedTuple):
    """What a router had of a Service. `acked` is the version that it had acknowledged, with the times at which that had
    been sent and was acknowledged; `sent` the newest that it had been sent, and when. Times are milliseconds since
    1970; a version of -1 is none. `refused` is a NACK that came after both."""

    acked: int = -1
    acked_at: int = 0
    acked_sent_at: int = 0
    sent: int = -1
    sent_at: int = 0
    refused: Refusal | None = None


class Router(NamedTuple):
    """A router as it was: by its newest connection, and whether one was open. `since` is when that one opened or, of a
    router that was gone, when its last one ended; `dropped` counts what its servers could not record."""

    node: str
    variant: Variant | None
    agent: str
    cluster: str
    zone: str
    server: str
    connected: bool
    since: int
    services: int
    dropped: int


class _Steps:
    """A router's newest steps with a Service."""

    __slots__ = ("acked", "refused", "sent", "unfollowed_at")

    def __init__(self) -> None:
        self.acked = (0, -1, 0)
        """When, the version, and when that was sent."""
        self.sent = (0, -1)
        self.refused: Refusal | None = None
        self.unfollowed_at = 0

    @property
    def is_followed(self) -> bool:
        refused_at = self.refused.at if self.refused is not None else 0
        return self.unfollowed_at < max(self.acked[0], self.sent[0], refused_at)

    def held(self) -> Held:
        acked_at, acked, acked_sent_at = self.acked
        sent_at, sent = self.sent
        refused = self.refused if self.refused is not None and self.refused.at >= max(acked_at, sent_at) else None
        return Held(acked, acked_at, acked_sent_at, sent, sent_at, refused)


class _Connections:
    """A router's connections, by server and session."""

    def __init__(self) -> None:
        self.opened: dict[tuple[str, int], tuple[int, ClientConnected]] = {}
        self.closed: dict[tuple[str, int], int] = {}


class RouterLog:
    """Takes the batches of one partition or of several; what happened after `until` (milliseconds since 1970) does not
    count. With `nodes` or `services` only these are kept."""

    def __init__(self, until: int, nodes: Collection[str] = (), services: Collection[Key] = ()) -> None:
        self._until = until
        self._nodes = frozenset(nodes)
        self._keys = frozenset(services)
        self._steps: dict[str, dict[Key, _Steps]] = {}
        self._connections: dict[str, _Connections] = {}
        self._streamed: dict[str, dict[int, tuple[int, int]]] = {}
        self._heard: dict[str, int] = {}
        self._dropped: dict[str, int] = {}
        self.partitions = 0
        self.names: set[str] = set()
        """All routers that are named, whichever are kept."""

    def take(self, batch: AckBatch, partition: int) -> None:
        """Take a batch of a partition, as `read_batch` gives it."""
        base = milliseconds(batch.at)
        for streamed in batch.streamed:
            at = base + streamed.at
            if (not self._nodes or batch.nodes[streamed.node] in self._nodes) and at <= self._until:
                of_node = self._streamed.setdefault(batch.nodes[streamed.node], {})
                of_node[partition] = max(of_node.get(partition, (0, -1)), (at, streamed.offset))
        if base <= self._until:
            self._heard[batch.server] = max(base, self._heard.get(batch.server, 0))
            self._dropped[batch.server] = self._dropped.get(batch.server, 0) + batch.dropped
        nodes = [node if not self._nodes or node in self._nodes else "" for node in batch.nodes]
        self.names.update(batch.nodes)
        for service in batch.services:
            if not self._keys or (service.namespace, service.name) in self._keys:
                self._take_service(base, nodes, service)
        for opened in batch.connected:
            at = base + opened.at
            if (node := nodes[opened.node]) and at <= self._until:
                self._connections_of(node).opened[batch.server, opened.session] = at, opened
        for closed in batch.disconnected:
            at = base + closed.at
            if (node := nodes[closed.node]) and at <= self._until:
                self._connections_of(node).closed[batch.server, closed.session] = at

    def versions(self, node: str) -> dict[Key, Held]:
        """What a router had of each Service that it followed."""
        return {key: steps.held() for key, steps in sorted(self._steps.get(node, {}).items()) if steps.is_followed}

    def streamed(self, node: str) -> dict[int, int]:
        """By partition, the journal offset through which an SSE client had been sent every row that it selects."""
        return {partition: offset for partition, (_, offset) in sorted(self._streamed.get(node, {}).items())}

    def holders(self, key: Key) -> dict[str, Held]:
        """What each router that followed a Service had of it."""
        return {
            node: steps.held()
            for node, of_node in sorted(self._steps.items())
            if (steps := of_node.get(key)) is not None and steps.is_followed
        }

    def routers(self) -> list[Router]:
        """The routers, by name."""
        return [self.router(node) for node in sorted({*self._steps, *self._connections})]

    def router(self, node: str) -> Router:
        """A router; of one that is not known nothing is said."""
        connections = self._connections.get(node, _Connections())
        services = sum(1 for steps in self._steps.get(node, {}).values() if steps.is_followed)
        dropped = sum(self._dropped.get(server, 0) for server in {server for server, _ in connections.opened})
        if not connections.opened:
            return Router(node, None, "", "", "", "", connected=False, since=0, services=services, dropped=dropped)
        ends = {place: self._end(place, connections) for place in connections.opened}
        place = max(connections.opened, key=lambda each: (not ends[each], ends[each] or connections.opened[each][0]))
        opened_at, opened = connections.opened[place]
        return Router(
            node, opened.variant, opened.agent, opened.cluster, opened.zone, place[0],
            connected=not ends[place], since=ends[place] or opened_at, services=services, dropped=dropped,
        )  # fmt: skip

    def _end(self, place: tuple[str, int], connections: _Connections) -> int:
        """When a connection ended; 0 if it had not. That of a server which is no more ended when it was last heard."""
        if place in connections.closed:
            return connections.closed[place]
        heard = max(self._heard.get(place[0], 0), connections.opened[place][0])
        return heard if self._until - heard > SILENT_MS else 0

    def _take_service(self, base: int, nodes: list[str], service: ServiceAcks) -> None:
        key, until = (service.namespace, service.name), self._until
        for what, index, version, offset, more in _happened(service):
            at, node = base + offset, nodes[index]
            if not node or at > until:
                continue
            steps = self._steps_of(node, key)
            if what == "acked":
                steps.acked = max(steps.acked, (at, version, base + more))
            elif what == "sent":
                steps.sent = max(steps.sent, (at, version))
            elif what == "unfollowed":
                steps.unfollowed_at = max(steps.unfollowed_at, at)
            elif steps.refused is None or steps.refused.at <= at:
                steps.refused = Refusal(at, version, *more)

    def _steps_of(self, node: str, key: Key) -> _Steps:
        of_node = self._steps.setdefault(node, {})
        steps = of_node.get(key)
        if steps is None:
            steps = of_node[key] = _Steps()
        return steps

    def _connections_of(self, node: str) -> _Connections:
        return self._connections.setdefault(node, _Connections())


class Step(NamedTuple):
    """One thing that happened with a router, of a Service or ("") of its connection. `detail` is, by `what`: the
    milliseconds until it acknowledged, the words of its refusal, the server or, of an SSE client, the partition of
    which it was sent all up to the journal offset `version`."""

    at: str
    what: _What
    namespace: str
    name: str
    version: int
    detail: str


class RouterSteps:
    """A router's last steps, at most `last`, `between` two times (RFC 3339; "" is none): of all Services, or with a
    namespace, or a name too, of these only, and then without its connections."""

    def __init__(
        self, node: str, service: tuple[str, str] = ("", ""), between: tuple[str, str] = ("", ""), last: int = 1000
    ) -> None:
        self._node = node
        self._namespace, self._name = service
        self._since, self._until = between
        self._last = last
        self._steps: set[Step] = set()
        self._dropped: dict[str, int] = {}
        self._servers: set[str] = set()
        self.partitions = 0
        self.names: set[str] = set()
        """All routers that are named."""

    def take(self, batch: AckBatch, partition: int) -> None:
        """Take a batch of a partition, as `read_batch` gives it."""
        self.names.update(batch.nodes)
        self._dropped[batch.server] = self._dropped.get(batch.server, 0) + batch.dropped
        if self._node not in batch.nodes:
            return
        self._servers.add(batch.server)
        # Connections are in all partitions.
        self._steps.update(step for step in self._in(batch, partition) if self._is_wanted(step.at))
        if len(self._steps) > 4 * self._last:
            self._steps = set(self.steps())

    @property
    def dropped(self) -> int:
        """How many steps the servers that it was connected to could not record, of any router."""
        return sum(self._dropped[server] for server in self._servers)

    def steps(self) -> list[Step]:
        """The steps, oldest first."""
        return sorted(self._steps, key=lambda step: (step.at, step.version, _ORDER.index(step.what)))[-self._last :]

    def _is_wanted(self, at: str) -> bool:
        return at >= self._since and (not self._until or at <= self._until)

    def _in(self, batch: AckBatch, partition: int) -> Iterator[Step]:
        index, base = batch.nodes.index(self._node), milliseconds(batch.at)
        for service in batch.services:
            if (not self._namespace or service.namespace == self._namespace) and (
                not self._name or service.name == self._name
            ):
                yield from _service_steps(service, index, base)
        if self._namespace or self._name:
            return
        for streamed in batch.streamed:
            if streamed.node == index:
                at = of_milliseconds(base + streamed.at)
                yield Step(at, "sent", "", "", streamed.offset, f"partition {partition}")
        for opened in batch.connected:
            if opened.node == index:
                yield Step(of_milliseconds(base + opened.at), "connected", "", "", -1, f"server {batch.server}")
        for closed in batch.disconnected:
            if closed.node == index:
                yield Step(of_milliseconds(base + closed.at), "disconnected", "", "", -1, f"server {batch.server}")


def _service_steps(service: ServiceAcks, index: int, base: int) -> Iterator[Step]:
    for what, node, version, at, more in _happened(service):
        if node != index:
            continue
        detail = f"{more[0].upper()}: {more[1]}" if what == "refused" else str(at - more) if what == "acked" else ""
        yield Step(of_milliseconds(base + at), what, service.namespace, service.name, version, detail)
