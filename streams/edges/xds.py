"""The xDS server: ADS (and each type's own service), state of the world and delta, on grpc.aio.

Each client's stream is looked at when something that it follows changes, and at its own pace: what is sent next is
made from the newest sealed state at that moment. So there is no queue that could grow, and no client that waits for
another one.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple

import grpc
from envoy.service.discovery.v3 import discovery_pb2

from streams.core.errors import FacetsError
from streams.core.subscription import Row
from streams.core.xds.catalog import Catalog, Changes, Client, Key
from streams.core.xds.delta import DeltaStream
from streams.core.xds.endpoints import locality_of
from streams.core.xds.names import KINDS, TYPE_URLS, Kind
from streams.core.xds.propagation import NEVER, Ledger, made_at
from streams.core.xds.protocol import Answer, ProtocolViolation
from streams.core.xds.sotw import SotwStream
from streams.edges.serve_metrics import CLIENTS, ENDED, NACKS, PROPAGATION, RESPONSES

log = logging.getLogger("facets.xds")

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
    """Where to listen, and what one client may take. Times in seconds."""

    host: str = "127.0.0.1"
    port: int = 18000
    max_clients: int = 1000
    answer_within: float = 60.0


class Connection:
    """One client's stream as the server sees it."""

    def __init__(self, number: int, node: Any, variant: str, stream: SotwStream | DeltaStream, peer: str) -> None:
        self.number = number
        self.node: str = node.id
        self.variant = variant
        self.stream = stream
        self.peer = peer
        self.agent: str = node.user_agent_name
        self.ledger = Ledger(stream)
        self.since = time.time()
        self.nacks = 0
        self.last_nack = ""
        self.wake = asyncio.Event()
        self.sent_at: dict[Kind, float] = {}
        self.ended = False
        self.violation = ""


class XdsServer:
    """Holds the newest sealed state and serves it. `replace` and `apply` feed it; `start` and `stop` are the gRPC
    server's."""

    def __init__(self, settings: XdsSettings, partitions: int) -> None:
        self.settings = settings
        self.catalog = Catalog(partitions)
        self.connections: dict[int, Connection] = {}
        self.port = 0
        self.ready = asyncio.Event()
        self._moved = asyncio.Event()
        self._numbers = 0
        self._server: Any = None

    # ---- the state ------------------------------------------------------------------------------------

    def replace(self, rows: tuple[Row, ...], seals: Any) -> None:
        """Take a snapshot."""
        self._publish(self.catalog.replace(rows, seals), {}, wake_all=True)
        self.ready.set()

    def apply(self, rows: tuple[Row, ...], seal: Any, partition: int) -> None:
        """Take a sealed batch."""
        complete = self.catalog.complete
        before = {key: self.catalog.newest(key)[0] for key in {(row.namespace, row.name) for row in rows}}
        changes = self.catalog.apply(rows, seal, partition)
        self._publish(changes, before, wake_all=self.catalog.complete != complete)

    def _publish(self, changes: Changes, before: dict[Key, int], *, wake_all: bool) -> None:
        timed = [(key, change.names, made_at(change.trigger), made_at(change.at)) for key, change in changes.items()]
        for each in self.connections.values():
            concerned = wake_all
            for key, names, triggered, made in timed:
                # As kube-proxy holds it: what was triggered before there was anybody to tell is not late.
                at = triggered if triggered >= each.since else made
                each.ledger.changed(key, before.get(key, NEVER), at, names)
                concerned |= each.stream.touch(names)
            if concerned:
                each.wake.set()
        self._move()

    async def moved(self) -> None:
        """Wait until the state, or what a client has of it, is another."""
        await self._moved.wait()

    def _move(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    # ---- the server -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises FacetsError if the address can't be had."""
        server = grpc.aio.server(
            maximum_concurrent_rpcs=None,
            options=[
                ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ],
        )
        for name, stem, kind in _SERVICES:
            server.add_generic_rpc_handlers((self._handler(name, stem, kind),))
        at = f"{self.settings.host}:{self.settings.port}"
        try:
            self.port = server.add_insecure_port(at)
        except RuntimeError as error:
            raise FacetsError(f"the xDS server can't listen on {at}", "choose another --xds-port", 69) from error
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """End all streams and stop."""
        if self._server is not None:
            await self._server.stop(_GRACE_SECONDS)

    def _handler(self, name: str, stem: str, kind: Kind | None) -> Any:
        async def stream(requests: AsyncIterator[Any], context: Any) -> None:
            await self._serve(requests, context, "sotw", kind)

        async def delta(requests: AsyncIterator[Any], context: Any) -> None:
            await self._serve(requests, context, "delta", kind)

        return grpc.method_handlers_generic_handler(
            name,
            {
                f"Stream{stem}": grpc.stream_stream_rpc_method_handler(
                    stream,
                    discovery_pb2.DiscoveryRequest.FromString,
                    discovery_pb2.DiscoveryResponse.SerializeToString,
                ),
                f"Delta{stem}": grpc.stream_stream_rpc_method_handler(
                    delta,
                    discovery_pb2.DeltaDiscoveryRequest.FromString,
                    discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
                ),
            },
        )

    # ---- one client -----------------------------------------------------------------------------------

    async def _serve(self, requests: AsyncIterator[Any], context: Any, variant: str, kind: Kind | None) -> None:
        if len(self.connections) >= self.settings.max_clients:
            ENDED.labels("clients").inc()
            log.warning("%s: refused, %d clients are connected", context.peer(), len(self.connections))
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self.settings.max_clients} clients are connected: --max-clients"
            )
        self._numbers += 1
        number = self._numbers
        try:
            async with asyncio.timeout(self.settings.answer_within):
                first = await anext(aiter(requests), None)
        except TimeoutError:
            ENDED.labels("unread").inc()
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no request came")
        if first is None:
            return
        try:
            client = client_of(first.node)
        except ProtocolViolation as error:
            await self._violated(context, str(error), first.node.id)
            return
        stream = SotwStream(client) if variant == "sotw" else DeltaStream(client)
        each = Connection(number, first.node, variant, stream, context.peer())
        self.connections[number] = each
        CLIENTS.labels(variant).inc()
        log.info("%s: connected (%s, %s)", each.node, variant, each.peer)
        reader = asyncio.create_task(self._read(each, first, requests, kind))
        try:
            reason = await self._write(each, context)
            if reason == "violation":
                await self._violated(context, each.violation, each.node)
            elif reason == "unread":
                ENDED.labels("unread").inc()
                text = f"no answer to a response within {self.settings.answer_within:g} s: read, and ACK or NACK"
                log.warning("%s: ended (%s)", each.node, text)
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, text)
        finally:
            reader.cancel()
            del self.connections[number]
            self._move()
            CLIENTS.labels(variant).dec()
            log.info("%s: gone (%s)", each.node, variant)

    async def _violated(self, context: Any, text: str, node: str) -> None:
        ENDED.labels("violation").inc()
        log.warning("%s: ended (%s)", node[:256] or context.peer(), text)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)

    async def _read(self, each: Connection, first: Any, requests: AsyncIterator[Any], kind: Kind | None) -> None:
        try:
            self._take(each, first, kind)
            async for request in requests:
                self._take(each, request, kind)
        except ProtocolViolation as error:
            each.violation = str(error)
        finally:
            each.ended = True
            each.wake.set()

    def _take(self, each: Connection, request: Any, kind: Kind | None) -> None:
        if kind is not None and not request.type_url:
            request.type_url = TYPE_URLS[kind]
        answer = each.stream.take(request, self.catalog)
        each.ledger.asked(each.stream.dirty, self.catalog, time.time())
        if answer is not None:
            self._answered(each, answer)
        each.wake.set()

    def _answered(self, each: Connection, answer: Answer) -> None:
        each.sent_at.pop(answer.kind, None)
        if answer.error:
            each.nacks += 1
            each.last_nack = f"{answer.kind.upper()}: {answer.error[:1000]}"
            NACKS.labels(answer.kind).inc()
            some = ", ".join(answer.names[:5]) + (", ..." if len(answer.names) > 5 else "")
            log.warning("%s: refused %s (%s): %s", each.node, answer.kind.upper(), some, answer.error[:1000])
        keys = {key for name in answer.names if (key := self.catalog.service_of(name))}
        self._settle(each, keys)

    def _settle(self, each: Connection, keys: Iterable[Key]) -> None:
        for took in each.ledger.settle(keys, self.catalog, time.time()):
            PROPAGATION.observe(max(0.0, took))
        self._move()

    async def _write(self, each: Connection, context: Any) -> str:
        """Send what is due, as long as the client reads; why it ended."""
        loop = asyncio.get_running_loop()
        while not each.ended:
            each.wake.clear()
            backlog, sent = each.stream.backlog, False
            try:
                async with asyncio.timeout(self.settings.answer_within):
                    for response in each.stream.advance(self.catalog):
                        sent = True
                        if response.type_url in KINDS:
                            kind = KINDS[response.type_url]
                            each.sent_at[kind] = loop.time()
                            RESPONSES.labels(kind).inc()
                        await context.write(response)
            except TimeoutError:
                return "unread"
            # While a response is on its way each change wakes the client in vain: that must cost next to nothing.
            if sent or each.stream.backlog != backlog:
                self._settle(each, each.ledger.behind)
            oldest = min(each.sent_at.values(), default=None)
            try:
                async with asyncio.timeout_at(None if oldest is None else oldest + self.settings.answer_within):
                    await each.wake.wait()
            except TimeoutError:
                return "unread"
        return "violation" if each.violation else "gone"


def client_of(node: Any) -> Client:
    """What a client says of itself. Raises ProtocolViolation for a node that has no usable id, or names a kind of
    traffic that there is not."""
    if not node.id:
        raise ProtocolViolation("node.id is empty: set node.id in the client's bootstrap (Envoy: --service-node)")
    if len(node.id) > 256 or not node.id.isprintable():
        raise ProtocolViolation("node.id is longer than 256 characters, or not printable")
    fields = node.metadata.fields
    traffic = fields["traffic"].string_value if "traffic" in fields else "mesh"
    if traffic not in {"mesh", "gateway"}:
        raise ProtocolViolation(f"node.metadata.traffic is {traffic[:40]!r}: it must be mesh or gateway")
    return Client(locality_of(node), traffic, node.user_agent_name.startswith("gRPC"))  # type: ignore[arg-type]
