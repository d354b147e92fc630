"""The xDS server: ADS (and each type's own service), state of the world and delta, on grpc.aio.

A client's stream advances when something that it follows changes, and at its own pace: the next response is built from
the newest sealed state at that moment. So there is no queue that could grow, and no client waits for another.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Iterable, Mapping, Set
from functools import partial
from typing import Any, Literal, NamedTuple

import grpc
from envoy.service.discovery.v3 import discovery_pb2

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.serve.metrics import CLIENTS, ENDED, NACKS, PROPAGATION, RESPONSES
from streams.serve.xds.build.catalog import Catalog, Change, Changes
from streams.serve.xds.build.client import Client, namespace_of, place_of
from streams.serve.xds.build.names import TYPE_URLS, Kind
from streams.serve.xds.build.service_index import Key
from streams.serve.xds.protocol.ack_buffer import AckBuffer, Session
from streams.serve.xds.protocol.delta import DeltaStream
from streams.serve.xds.protocol.propagation import NEVER, Ledger, Move, epoch_seconds
from streams.serve.xds.protocol.sotw import SotwStream
from streams.serve.xds.protocol.stream import Answer, ProtocolViolation
from streams.subscription.freshness import Place, Silence
from streams.subscription.rows import Row

log = logging.getLogger("facets.xds")

Variant = Literal["sotw", "delta"]
"""State of the world, or incremental."""

_MAX_REQUEST_BYTES = 16 * 1024 * 1024
_GRACE_SECONDS = 1.0
_ADS = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_SERVICES: tuple[tuple[str, str, Kind | None], ...] = (
    (_ADS, "AggregatedResources", None),
    ("envoy.service.cluster.v3.ClusterDiscoveryService", "Clusters", "cds"),
    ("envoy.service.endpoint.v3.EndpointDiscoveryService", "Endpoints", "eds"),
    ("envoy.service.listener.v3.ListenerDiscoveryService", "Listeners", "lds"),
    ("envoy.service.route.v3.RouteDiscoveryService", "Routes", "rds"),
)


class XdsSettings(NamedTuple):
    """Where to listen, and the limits for clients. Times in seconds. `client_cluster` is the cluster of clients that
    name none."""

    host: str = "127.0.0.1"
    port: int = 18000
    max_clients: int = 1000
    answer_within: float = 60.0
    client_cluster: str = ""


class StreamEnded(Exception):
    """The server ends a stream. `reason` is its label in the metrics."""

    def __init__(self, reason: str, code: grpc.StatusCode, text: str, node: str = "") -> None:
        super().__init__(text)
        self.reason, self.code, self.node = reason, code, node


class Connection:
    """One client's stream as the server sees it. The RPC's own task reads; another one writes, and exists only while
    there is something to send. `deadline` ends the reading if the client does not read or answer a response."""

    __slots__ = (
        "agent", "context", "deadline", "failed", "has_work", "last_nack", "ledger", "nacks", "node", "number", "peer",
        "sent_at", "since", "stream", "variant", "writer", "writing_since",
    )  # fmt: skip

    def __init__(
        self, number: int, node: Any, variant: Variant, stream: SotwStream | DeltaStream, context: Any, deadline: Any
    ) -> None:
        self.number = number
        self.node: str = node.id
        self.variant: Variant = variant
        self.stream = stream
        self.context = context
        self.peer: str = context.peer()
        self.agent: str = sys.intern(node.user_agent_name)
        self.ledger = Ledger(stream)
        self.since = time.time()
        self.nacks = 0
        self.last_nack = ""
        self.deadline: asyncio.Timeout = deadline
        self.sent_at: dict[Kind, float] = {}
        self.writer: asyncio.Task[None] | None = None
        self.writing_since: float | None = None
        self.has_work = False
        self.failed: Exception | None = None


class _Timed(NamedTuple):
    """A change of a Service: the version before it, when it was triggered, and when it was committed."""

    key: Key
    before: int
    triggered: float
    committed: float


_Names = tuple[Set[str], tuple[str, ...]]
"""The same names, as a set and in order."""


class _Touched:
    """Changes, and the names that they touch for the clients of a cluster."""

    def __init__(self, changes: Changes, before: Mapping[Key, int]) -> None:
        self._changes = [
            (change, _Timed(key, before.get(key, NEVER), epoch_seconds(change.trigger), epoch_seconds(change.at)))
            for key, change in changes.items()
        ]
        self._clusters = {cluster for change in changes.values() for cluster in change.by_cluster}
        self._by_cluster: dict[str, list[tuple[Change, _Timed, _Names]]] = {}

    def for_clients_in(self, cluster: str) -> list[tuple[Change, _Timed, _Names]]:
        """The changes that make a difference to a cluster's clients."""
        # Most changes are of one cluster, and of Services that it does not export.
        if cluster and "" not in self._clusters and cluster not in self._clusters:
            return []
        if cluster not in self._by_cluster:
            self._by_cluster[cluster] = [
                (change, timed, (names, tuple(sorted(names))))
                for change, timed in self._changes
                if (names := change.names_for(cluster)) or change.of_hosts
            ]
        return self._by_cluster[cluster]


class XdsServer:
    """Holds the newest sealed state and serves it. `replace` and `apply` feed it; `start` and `stop` are the gRPC
    server's. What clients were sent and have acknowledged goes to `acks`, if there is one."""

    def __init__(
        self, settings: XdsSettings, partitions: int, *, follows_sets: bool = True, acks: AckBuffer | None = None
    ) -> None:
        self.settings = settings
        self.catalog = Catalog(partitions, follows_sets=follows_sets)
        self.connections: dict[int, Connection] = {}
        self.acks = acks
        self.port = 0
        self.silent: Mapping[Place, Silence] = {}
        self.ready = asyncio.Event()
        self._change_event = asyncio.Event()
        self._numbers = 0
        self._has_warned = False
        self._server: Any = None

    # ---- the state ------------------------------------------------------------------------------------

    def replace(self, rows: tuple[Row, ...], seals: Any) -> None:
        """Take a snapshot."""
        self._publish(self.catalog.replace(rows, seals), {}, wake_all=True)
        self._warn_of_unplaced()
        self.ready.set()

    def apply(self, rows: tuple[Row, ...], seal: Any, partition: int) -> None:
        """Take a sealed batch."""
        known = self.catalog.known
        before = {key: self.catalog.newest(key)[0] for key in {(row.namespace, row.name) for row in rows}}
        changes = self.catalog.apply(rows, seal, partition)
        is_more_known = self.catalog.known != known
        self._publish(changes, before, wake_all=is_more_known)
        if is_more_known:
            self._warn_of_unplaced()

    def set_silent(self, silent: Mapping[Place, Silence]) -> None:
        """Take the silent clusters, by partition. Clients keep their resources: an endpoint set that may be out of date
        serves better than none."""
        self.silent = silent

    def _publish(self, changes: Changes, before: dict[Key, int], *, wake_all: bool) -> None:
        touched = _Touched(changes, before)
        for connection in self.connections.values():
            stream = connection.stream
            for change, timed, (names, ordered) in touched.for_clients_in(stream.client.place.cluster):
                own = ordered if stream.touch(names) else ()
                if change.of_hosts:
                    own += tuple(sorted(stream.touch_hosts(timed.key)))
                if own:
                    # As in kube-proxy: what was triggered before the client connected is not late.
                    at = timed.triggered if timed.triggered >= connection.since else timed.committed
                    connection.ledger.record_change(timed.key, timed.before, at, own)
            if wake_all or stream.due:
                self._wake(connection)
        self._announce_change()

    async def wait_for_change(self) -> None:
        """Wait until the state changes, or what a client has of it."""
        await self._change_event.wait()

    def _announce_change(self) -> None:
        change_event, self._change_event = self._change_event, asyncio.Event()
        change_event.set()

    # ---- the server -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises FacetsError if the address is not available."""
        server = grpc.aio.server(
            maximum_concurrent_rpcs=None,
            options=[
                ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.enable_channelz", 0),  # Not readable here, and it takes 0.7 KiB a connection.
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ],
        )
        for name, stem, kind in _SERVICES:
            server.add_generic_rpc_handlers((self._handler(name, stem, kind),))
        at = f"{self.settings.host}:{self.settings.port}"
        try:
            self.port = server.add_insecure_port(at)
        except RuntimeError as error:
            raise FacetsError(
                f"the xDS server can't listen on {at}", "choose another --xds-port", ExitCode.UNAVAILABLE
            ) from error
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """End all streams and stop."""
        if self._server is not None:
            await self._server.stop(_GRACE_SECONDS)

    def _handler(self, name: str, stem: str, kind: Kind | None) -> Any:
        return grpc.method_handlers_generic_handler(
            name,
            {
                f"Stream{stem}": grpc.stream_stream_rpc_method_handler(
                    partial(self._serve, "sotw", kind), discovery_pb2.DiscoveryRequest.FromString
                ),
                f"Delta{stem}": grpc.stream_stream_rpc_method_handler(
                    partial(self._serve, "delta", kind), discovery_pb2.DeltaDiscoveryRequest.FromString
                ),
            },
        )

    # ---- one client -----------------------------------------------------------------------------------

    async def _serve(self, variant: Variant, kind: Kind | None, _: Any, context: Any) -> None:
        # Requests are read from the context: the iterator would keep each one until the next arrives.
        try:
            if len(self.connections) >= self.settings.max_clients:
                text = f"{self.settings.max_clients} clients are connected: --max-clients"
                raise StreamEnded("clients", grpc.StatusCode.RESOURCE_EXHAUSTED, text)
            await self._read(context, variant, kind)
        except StreamEnded as ended:
            ENDED.labels(ended.reason).inc()
            log.warning("%s: ended (%s)", ended.node or context.peer(), ended)
            await context.abort(ended.code, str(ended))

    async def _read(self, context: Any, variant: Variant, kind: Kind | None) -> None:
        """Take requests until the client ends the stream. Raises StreamEnded."""
        connection: Connection | None = None
        node = ""
        try:
            async with asyncio.timeout(self.settings.answer_within) as deadline:
                while (request := await context.read()) is not grpc.aio.EOF:
                    if connection is None:
                        node = request.node.id[:256]
                        connection = self._connect(request.node, variant, context, deadline)
                    self._take(connection, request, kind)
                    del request  # It would be kept until the next arrives, and the first one has all the names.
                if connection is not None and connection.writer is not None:
                    await connection.writer
            if connection is not None and connection.failed is not None:
                raise connection.failed
        except ProtocolViolation as error:
            raise StreamEnded("violation", grpc.StatusCode.INVALID_ARGUMENT, str(error), node) from error
        except TimeoutError as error:
            if connection is not None and connection.failed is not None:
                raise connection.failed from error
            text = "no request came"
            if connection is not None:
                text = f"no answer to a response within {self.settings.answer_within:g} s: read, and ACK or NACK"
            raise StreamEnded("unread", grpc.StatusCode.DEADLINE_EXCEEDED, text, node) from error
        finally:
            if connection is not None:
                self._disconnect(connection)

    def _connect(self, node: Any, variant: Variant, context: Any, deadline: asyncio.Timeout) -> Connection:
        client = client_of(node, self.settings.client_cluster)
        self._numbers += 1
        stream = SotwStream(client) if variant == "sotw" else DeltaStream(client)
        connection = Connection(self._numbers, node, variant, stream, context, deadline)
        self._expect(connection)
        self.connections[connection.number] = connection
        CLIENTS.labels(variant).inc()
        if self.acks is not None:
            place = client.place
            self.acks.connect(
                Session(
                    connection.node, connection.number, connection.since, variant, connection.agent, place.cluster,
                    place.zone, connection.peer,
                )
            )  # fmt: skip
        log.info("%s: connected (%s, %s)", connection.node, variant, connection.peer)
        self._warn_of_unplaced()
        cluster, followed = client.place.cluster, self.catalog.index.clusters
        if cluster and followed and cluster not in followed:
            log.warning(
                "%s: is in cluster %s, which is not followed: nothing is known of its own Services (followed: %s)",
                connection.node, cluster[:80], ", ".join(sorted(followed)),
            )  # fmt: skip
        return connection

    @property
    def unplaced(self) -> list[Connection]:
        """The clients of which nobody says in which cluster they are."""
        return [connection for connection in self.connections.values() if not connection.stream.client.place.cluster]

    def _warn_of_unplaced(self) -> None:
        """Warn, once, of clients that name no cluster although there are several."""
        if self._has_warned or len(self.catalog.index.clusters) < 2 or not (unplaced := self.unplaced):
            return
        self._has_warned = True
        log.warning(
            "%s: names no cluster; such clients get of each Service that of the first cluster by name that has it. Set "
            "node.metadata.cluster in the client's bootstrap (facets envoy-bootstrap --cluster NAME), or start facets "
            "serve with --client-cluster NAME",
            unplaced[0].node,
        )

    def _disconnect(self, connection: Connection) -> None:
        if connection.writer is not None:
            connection.writer.cancel()
        del self.connections[connection.number]
        self._announce_change()
        CLIENTS.labels(connection.variant).dec()
        if self.acks is not None:
            self.acks.disconnect(connection.node, connection.number, time.time())
        log.info("%s: disconnected (%s)", connection.node, connection.variant)

    def _take(self, connection: Connection, request: Any, kind: Kind | None) -> None:
        if kind is not None and not request.type_url:
            request.type_url = TYPE_URLS[kind]
        answer = connection.stream.take(request, self.catalog)
        if dropped := connection.stream.take_dropped():
            self._unfollow(connection, dropped)
        connection.ledger.subscribe(connection.stream.take_new_subscriptions(), self.catalog, time.time())
        if answer is not None:
            self._record_answer(connection, answer)
        self._wake(connection)

    def _unfollow(self, connection: Connection, names: Set[str]) -> None:
        """Forget the Services of which the client asks for nothing any more."""
        keys = {key for name in names if (key := self.catalog.service_of(name))}
        left = [key for key in keys if not connection.stream.follows_service(key, self.catalog)]
        connection.ledger.forget(left)
        if left and self.acks is not None:
            self.acks.unfollow(connection.node, left, time.time())

    def _record_answer(self, connection: Connection, answer: Answer) -> None:
        connection.sent_at.pop(answer.kind, None)
        self._expect(connection)
        if answer.error:
            connection.nacks += 1
            connection.last_nack = f"{answer.kind.upper()}: {answer.error[:1000]}"
            NACKS.labels(answer.kind).inc()
            some = ", ".join(answer.names[:5]) + (", ..." if len(answer.names) > 5 else "")
            log.warning("%s: refused %s (%s): %s", connection.node, answer.kind.upper(), some, answer.error[:1000])
        keys = {key for name in answer.names if (key := self.catalog.service_of(name))}
        self._settle(connection, keys)
        if answer.error and self.acks is not None:
            refused = [(key, entry.through) for key in keys if (entry := connection.ledger.behind.get(key)) is not None]
            self.acks.refuse(connection.node, answer.kind, answer.error, refused, time.time())

    def _settle(self, connection: Connection, keys: Iterable[Key]) -> None:
        moves: list[Move] = []
        for seconds in connection.ledger.settle(keys, self.catalog, time.time(), moves):
            PROPAGATION.observe(max(0.0, seconds))
        if moves and self.acks is not None:
            self.acks.move(connection.node, moves)
        self._announce_change()

    def _wake(self, connection: Connection) -> None:
        """Have the writer send what is due."""
        connection.has_work = True
        if connection.writer is None:
            connection.writer = asyncio.create_task(self._write(connection))

    async def _write(self, connection: Connection) -> None:
        """Send what is due, until there is no more work."""
        loop = asyncio.get_running_loop()
        try:
            while connection.has_work:
                connection.has_work = False
                backlog, is_unsettled = connection.stream.backlog, False
                for response in connection.stream.advance(self.catalog):
                    is_unsettled = connection.stream.due
                    if not is_unsettled:
                        # The last one. While it is written there may be changes, which are not in it.
                        self._settle(connection, connection.ledger.behind)
                        backlog = connection.stream.backlog
                    connection.writing_since = loop.time()
                    if response.kind is not None:
                        connection.sent_at[response.kind] = connection.writing_since
                        RESPONSES.labels(response.kind).inc()
                    self._expect(connection)
                    await connection.context.write(response.body)
                connection.writing_since = None
                # A wake-up in vain settles nothing, and must cost next to nothing.
                if is_unsettled or connection.stream.backlog != backlog:
                    self._expect(connection)
                    self._settle(connection, connection.ledger.behind)
        except Exception as error:
            connection.failed = error
            self._expect(connection)
        finally:
            connection.writer = None

    def _expect(self, connection: Connection) -> None:
        """Set the deadline for the client's next read or answer."""
        since = list(connection.sent_at.values())
        if connection.writing_since is not None:
            since.append(connection.writing_since)
        by = min(since) + self.settings.answer_within if since else None
        if connection.failed is not None:
            by = 0.0
        if by != connection.deadline.when() and not connection.deadline.expired():
            connection.deadline.reschedule(by)


def client_of(node: Any, client_cluster: str = "") -> Client:
    """What a client's node says of it; if it names no cluster, it is in `client_cluster`. Raises ProtocolViolation for
    a node without a usable id, or with an unknown kind of traffic."""
    if not node.id:
        raise ProtocolViolation("node.id is empty: set node.id in the client's bootstrap (Envoy: --service-node)")
    if len(node.id) > 256 or not node.id.isprintable():
        raise ProtocolViolation("node.id is longer than 256 characters, or not printable")
    fields = node.metadata.fields
    traffic = fields["traffic"].string_value if "traffic" in fields else "mesh"
    if traffic not in {"mesh", "gateway"}:
        raise ProtocolViolation(f"node.metadata.traffic is {traffic[:40]!r}: must be mesh or gateway")
    is_grpc = node.user_agent_name.startswith("gRPC")
    place = place_of(node)
    place = place._replace(cluster=place.cluster or client_cluster)
    return Client(place, traffic, is_grpc, namespace_of(node))  # type: ignore[arg-type]
