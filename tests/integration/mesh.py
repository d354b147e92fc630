"""Real backends, real facet topics and a real xDS server, for tests with real routers."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web
from kafka import KafkaProducer

from streams.facets.tables import WORKER_TABLES
from streams.fold.fold import PartitionFold
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import OPTIONAL, RESOURCES
from streams.serve.http.sse import SseSettings
from streams.serve.run import ServeSettings, Serving, serve
from streams.serve.xds.server import XdsSettings
from streams.wire.records import topic_of
from tests.integration.journal import PARTITIONS, clean_topics

AT = "2026-11-24T12:00:00.000Z"
DEADLINE = 60
_ALL = (*RESOURCES, *OPTIONAL)
CART = "cart.shop.svc.cluster.local:80"
EXPORTED_CART = "cart.shop.svc.clusterset.local:80"


class Tables:
    """The facet topics of made-up clusters, `east` and others: what the fold makes of their objects, written to a real
    Kafka. Their commits are of the time `at`, and were taken by Kafka when `clock` says so (in seconds; without it they
    have no time)."""

    def __init__(self, bootstrap: str, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        clean_topics(bootstrap)
        self._producer = KafkaProducer(bootstrap_servers=bootstrap)
        self._collectors: dict[str, Collector] = {}
        self._folds = [PartitionFold(partition, WORKER_TABLES) for partition in range(PARTITIONS)]
        self._offsets = [0] * PARTITIONS
        self.at = AT
        self.version = 100
        self.last: list[JournalRecord] = []

    def start(self, *items: dict[str, Any], cluster: str = "east") -> None:
        """A cluster's snapshot."""
        collector = Collector(cluster, epoch=1, writer="mesh", seq=0, partitions=PARTITIONS, resources=_ALL)
        self._collectors[cluster] = collector
        self._write(collector.begin(self.at))
        for resource in _ALL:
            collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
        for item in items:
            collector.ingest(item["kind"], ReflectorEvent(Kind.INIT_APPLY, self._stamped(item), ""))
        for resource in _ALL:
            collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, str(self.version)))
        self._write(collector.flush(self.at))

    def put(self, *items: dict[str, Any], cluster: str = "east") -> int:
        """Apply objects in one commit; the resourceVersion of the last."""
        return self._change(Kind.APPLY, items, cluster)

    def drop(self, *items: dict[str, Any], cluster: str = "east") -> int:
        """Delete objects in one commit; the resourceVersion of the last."""
        return self._change(Kind.DELETE, items, cluster)

    def _change(self, kind: Kind, items: Iterable[dict[str, Any]], cluster: str) -> int:
        collector = self._collectors[cluster]
        for item in items:
            stamped = self._stamped(item)
            collector.ingest(item["kind"], ReflectorEvent(kind, stamped, str(self.version)))
        self._write(collector.flush(self.at))
        return self.version

    def beat(self, partitions: Iterable[int] | None = None) -> None:
        """An empty commit of each cluster, in these partitions or in all."""
        for collector in self._collectors.values():
            self._write(collector.heartbeat(self.at, partitions))

    def close(self) -> None:
        self._producer.close()

    def _stamped(self, item: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        return {**item, "metadata": {**item["metadata"], "resourceVersion": str(self.version)}}

    def _write(self, records: Iterable[JournalRecord]) -> None:
        self.last = list(records)
        appended = round(self._clock() * 1000) if self._clock else 0
        for record in self.last:
            offset = self._offsets[record.partition]
            self._offsets[record.partition] += 1
            for write in self._folds[record.partition].step(offset, record.value, appended):
                self._producer.send(
                    topic_of(write.table),
                    write.value,
                    key=write.key,
                    partition=record.partition,
                    headers=[("v", str(write.version).encode())],
                )
        self._producer.flush()


class Backend:
    """An HTTP server on an address of its own, that answers with its address."""

    def __init__(self, runner: web.AppRunner, address: str) -> None:
        self.address = address
        self._runner = runner

    @classmethod
    async def start(cls, address: str, port: int) -> Self:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(text=address)

        app = web.Application()
        app.router.add_get("/{tail:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
        await runner.setup()
        await web.TCPSite(runner, address, port).start()
        return cls(runner, address)

    async def stop(self) -> None:
        await self._runner.cleanup()


async def eventually(check: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask until it is so."""
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                if await check():
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE} s: {what}") from None


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Mesh:
    """The tables, the server, and its HTTP side."""

    def __init__(self, tables: Tables, serving: Serving) -> None:
        self.tables = tables
        self.xds_port = serving.xds_port
        self.http_port = serving.http_port

    async def get(self, path: str) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.http_port}{path}") as answer,
        ):
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def text(self, path: str) -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.http_port}{path}") as answer,
        ):
            assert answer.status == 200
            return await answer.text()

    async def put(self, *items: dict[str, Any], service: str = "cart", cluster: str = "east") -> None:
        """Apply objects, and wait until every router has acknowledged them."""
        version = await asyncio.to_thread(self.tables.put, *items, cluster=cluster)
        await self._acked(version, items[-1], service, cluster)

    async def drop(self, *items: dict[str, Any], service: str = "cart", cluster: str = "east") -> None:
        """Delete objects, and wait until every router has acknowledged that."""
        version = await asyncio.to_thread(self.tables.drop, *items, cluster=cluster)
        await self._acked(version, items[-1], service, cluster)

    async def _acked(self, version: int, item: dict[str, Any], service: str, cluster: str) -> None:
        answer = await self.get(
            f"/v1/acked?cluster={cluster}&resourceVersion={version}&namespace=shop&service={service}"
            f"&timeout={DEADLINE}&resource={resource_of(item)}"
        )
        assert answer["acked"], answer


def resource_of(item: dict[str, Any]) -> str:
    return next(resource.frontier for resource in _ALL if resource.kind == item["kind"])


@contextlib.asynccontextmanager
async def running(
    bootstrap: str,
    *items: dict[str, Any],
    clock: Callable[[], float] | None = None,
    kind: type[Tables] = Tables,
    **sse: Any,
) -> AsyncIterator[Mesh]:
    """The tables with these objects, and a server of them, both by `clock` if there is one; `sse` are settings of
    /v1/changes."""
    tables = await asyncio.to_thread(kind, bootstrap, clock)
    try:
        await asyncio.to_thread(tables.start, *items)
        async with serving(bootstrap, tables, clock=clock, **sse) as mesh:
            yield mesh
    finally:
        await asyncio.to_thread(tables.close)


@contextlib.asynccontextmanager
async def serving(
    bootstrap: str,
    tables: Tables,
    *,
    clock: Callable[[], float] | None = None,
    past_index: Path | None = None,
    **sse: Any,
) -> AsyncIterator[Mesh]:
    """A server of the tables."""
    stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = ServeSettings(
        bootstrap,
        XdsSettings(port=0),
        http_port=0,
        sse=SseSettings(**sse),
        clock=clock or time.time,
        past_index=past_index,
    )
    server = asyncio.create_task(serve(settings, stop, started.set_result))
    try:
        async with asyncio.timeout(DEADLINE):
            await asyncio.wait({server, started}, return_when=asyncio.FIRST_COMPLETED)
        if server.done():
            server.result()
        yield Mesh(tables, started.result())
    finally:
        stop.set()
        await server


def service(name: str = "cart", port: int = 80, **spec: Any) -> dict[str, Any]:
    """A ClusterIP Service in `shop`."""
    base = {"type": "ClusterIP", "clusterIP": "127.0.9.1", "ports": [{"name": "http", "port": port}]}
    return {
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}"},
        "spec": {**base, **spec},
    }


def endpoint_slice(name: str, owner: str, port: int, addresses: dict[str, str]) -> dict[str, Any]:
    """A slice of `owner`; each address is `ready`, `draining` or `down`."""
    conditions = {
        "ready": {"ready": True},
        "draining": {"ready": False, "serving": True, "terminating": True},
        "down": {"ready": False, "serving": False},
    }
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "labels": {"kubernetes.io/service-name": owner},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [each], "conditions": conditions[how]} for each, how in addresses.items()],
    }
