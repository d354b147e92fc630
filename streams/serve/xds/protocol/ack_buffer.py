"""What clients were sent and have acknowledged, from the streams' hands until it is written to `facets.acks`.

A stream adds its steps as they are, one append for all that it settles at once; they are sorted by partition, Service
and version only when a batch is taken. The buffer is bounded: what does not fit is dropped and counted, as no stream
may wait for Kafka.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from streams.serve.xds.build.names import Kind
from streams.serve.xds.build.service_index import Key
from streams.serve.xds.protocol.propagation import Move
from streams.wire.ack_records import (
    AckBatch,
    AckedVersion,
    ClientConnected,
    ClientDisconnected,
    RefusedVersion,
    SentVersion,
    ServiceAcks,
    StreamedThrough,
    Unfollowed,
    Variant,
)
from streams.wire.partitioning import partition_of
from streams.wire.timestamps import write

MOST_STEPS = 200_000
"""How many steps may wait; some 90 bytes each."""

STEPS_AT_ONCE = 4000
"""About how many are taken as one batch: some five milliseconds' work."""

_MAX_ERROR = 300
_MAX_TEXT = 200


class Session(NamedTuple):
    """A client's connection to this server, with its number there. `at` is in seconds since the epoch."""

    node: str
    number: int
    at: float
    variant: Variant
    agent: str = ""
    cluster: str = ""
    zone: str = ""
    peer: str = ""
    selection: str = ""


class _Moved(NamedTuple):
    node: str
    moves: Sequence[Move]


class _Refused(NamedTuple):
    node: str
    kind: Kind
    error: str
    refused: Sequence[tuple[Key, int]]
    at: float


class _Unfollowed(NamedTuple):
    node: str
    keys: Sequence[Key]
    at: float


class _Disconnected(NamedTuple):
    node: str
    number: int
    at: float


class _Streamed(NamedTuple):
    node: str
    offsets: Sequence[tuple[int, int]]
    """By partition, the journal offset through which the client was sent everything."""
    at: float


_Step = _Moved | _Refused | _Unfollowed | Session | _Disconnected | _Streamed


class AckBuffer:
    """`server` is the name of this process, that no other has. Times are given in seconds since the epoch."""

    def __init__(self, server: str, partitions: int, most: int = MOST_STEPS) -> None:
        self.server = server
        self.waiting = 0
        """How many steps wait."""
        self.dropped = 0
        """How many were dropped since this was last taken."""
        self.sessions: dict[tuple[Variant, int], Session] = {}
        """The clients that are connected."""
        self._partitions = partitions
        self._most = most
        self._steps: deque[tuple[int, _Step]] = deque()
        self._untold = dict.fromkeys(range(partitions), 0)

    def move(self, node: str, moves: Sequence[Move]) -> None:
        """What a client was sent, or has acknowledged."""
        self._add(len(moves), _Moved(node, moves))

    def refuse(self, node: str, kind: Kind, error: str, refused: Sequence[tuple[Key, int]], at: float) -> None:
        """A client's NACK of a response, with the newest version of each Service in it that the client was sent."""
        self._add(len(refused), _Refused(node, kind, error[:_MAX_ERROR], refused, at))

    def unfollow(self, node: str, keys: Sequence[Key], at: float) -> None:
        """Services of which a client no longer asks for anything."""
        self._add(len(keys), _Unfollowed(node, keys, at))

    def stream(self, node: str, offsets: Sequence[tuple[int, int]], at: float) -> None:
        """An SSE client has been sent everything up to these journal offsets, by partition."""
        self._add(len(offsets), _Streamed(node, offsets, at))

    def connect(self, session: Session) -> None:
        """A client has connected."""
        self.sessions[_kind_of(session.variant), session.number] = session
        self._add(self._partitions, session)

    def disconnect(self, node: str, number: int, at: float, variant: Variant = "delta") -> None:
        """A client is gone."""
        self.sessions.pop((_kind_of(variant), number), None)
        self._add(self._partitions, _Disconnected(node, number, at))

    def _add(self, count: int, step: _Step) -> None:
        if self.waiting + count > self._most:
            self.dropped += count
            for partition in self._untold:
                self._untold[partition] += count
            return
        self.waiting += count
        self._steps.append((count, step))

    def restore(self, partition: int, batch: AckBatch) -> int:
        """Count a batch as dropped that could not be written; how many steps it had."""
        count = steps_in(batch)
        self.dropped += count
        self._untold[partition] += batch.dropped + count
        return count

    def take(self, now: float, about: int = STEPS_AT_ONCE, *, all_partitions: bool = False) -> dict[int, AckBatch]:
        """The oldest steps, about so many, as a batch for each partition that they are of, or that is yet to hear of
        dropped ones; or for all partitions, so that they hear of this server."""
        sorter = _Sorter(self.server, self._partitions, now)
        taken = 0
        while self._steps and taken < about:
            count, step = self._steps.popleft()
            taken += count
            sorter.add(step)
        self.waiting -= taken
        for partition, untold in self._untold.items():
            if untold or all_partitions:
                sorter.part(partition).batch.dropped += untold
                self._untold[partition] = 0
        return sorter.finish()


def _kind_of(variant: Variant) -> Variant:
    """SSE clients are numbered apart from xDS clients."""
    return "sse" if variant == "sse" else "delta"


def steps_in(batch: AckBatch) -> int:
    """How many steps a batch has."""
    count = len(batch.connected) + len(batch.disconnected) + len(batch.streamed)
    for service in batch.services:
        count += sum(len(version.nodes) for version in service.acked) + sum(len(each.nodes) for each in service.sent)
        count += len(service.refused) + len(service.unfollowed)
    return count


class _Service:
    """The steps of one Service: `acked` by version, `sent` by version and node (when)."""

    __slots__ = ("acked", "record", "sent")

    def __init__(self, key: Key) -> None:
        self.record = ServiceAcks(*key, [], [], [], [])
        self.acked: dict[int, AckedVersion] = {}
        self.sent: dict[int, dict[int, int]] = {}

    def finish(self) -> None:
        self.record.acked = list(self.acked.values())
        self.record.sent = [
            SentVersion(version, list(nodes), list(nodes.values())) for version, nodes in self.sent.items() if nodes
        ]


class _Part:
    """The batch of one partition."""

    def __init__(self, server: str, at: str) -> None:
        self.batch = AckBatch(server, at, [], [], [], [], [])
        self._nodes: dict[str, int] = {}

    def node(self, node: str) -> int:
        index = self._nodes.get(node)
        if index is None:
            index = self._nodes[node] = len(self._nodes)
            self.batch.nodes.append(node)
        return index


class _Sorter:
    """Sorts steps into a batch for each partition. Milliseconds are counted from `now`, and begun ones do not count, as
    in all times of records."""

    def __init__(self, server: str, partitions: int, now: float) -> None:
        self.parts: dict[int, _Part] = {}
        self._partitions = partitions
        self._server = server
        self._base = int(now * 1000)
        self._at = write(datetime.fromtimestamp(self._base / 1000, UTC))
        self._services: dict[Key, tuple[_Part, _Service]] = {}

    def part(self, partition: int) -> _Part:
        part = self.parts.get(partition)
        if part is None:
            part = self.parts[partition] = _Part(self._server, self._at)
        return part

    def add(self, step: _Step) -> None:
        match step:
            case _Moved(node, moves):
                self._add_moves(node, moves)
            case _Refused(node, kind, error, refused, at):
                for key, version in refused:
                    part, service = self._service(key)
                    service.record.refused.append(
                        RefusedVersion(version, part.node(node), self._milliseconds(at), kind, error)
                    )
            case _Unfollowed(node, keys, at):
                for key in keys:
                    part, service = self._service(key)
                    service.record.unfollowed.append(Unfollowed(part.node(node), self._milliseconds(at)))
            case _Streamed(node, offsets, at):
                for partition, offset in offsets:
                    part = self.part(partition)
                    part.batch.streamed.append(StreamedThrough(part.node(node), offset, self._milliseconds(at)))
            case _:
                self._add_everywhere(step)

    def finish(self) -> dict[int, AckBatch]:
        for _, service in self._services.values():
            service.finish()
        return {partition: part.batch for partition, part in sorted(self.parts.items())}

    def _add_everywhere(self, step: Session | _Disconnected) -> None:
        at = self._milliseconds(step.at)
        for part in map(self.part, range(self._partitions)):
            node = part.node(step.node)
            if isinstance(step, _Disconnected):
                part.batch.disconnected.append(ClientDisconnected(node, step.number, at))
                continue
            part.batch.connected.append(
                ClientConnected(
                    node, step.number, at, step.variant, step.agent[:_MAX_TEXT], step.cluster, step.zone, step.peer,
                    step.selection[:_MAX_TEXT],
                )
            )  # fmt: skip

    def _add_moves(self, node: str, moves: Iterable[Move]) -> None:
        base = self._base
        for key, version, sent_at, acked_at in moves:
            part, service = self._service(key)
            index = part.node(node)
            sent = int(sent_at * 1000) - base
            if not acked_at:
                service.sent.setdefault(version, {})[index] = sent
                continue
            if version in service.sent:
                service.sent[version].pop(index, None)
            acked = service.acked.get(version)
            if acked is None:
                acked = service.acked[version] = AckedVersion(version, [], [], [])
            acked.nodes.append(index)
            acked.sent.append(sent)
            acked.acked.append(int(acked_at * 1000) - base)

    def _service(self, key: Key) -> tuple[_Part, _Service]:
        known = self._services.get(key)
        if known is None:
            part, service = self.part(partition_of(*key, self._partitions)), _Service(key)
            part.batch.services.append(service.record)
            known = self._services[key] = part, service
        return known

    def _milliseconds(self, at: float) -> int:
        return int(at * 1000) - self._base
