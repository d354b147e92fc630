"""The parts, all real: control planes, Kafka, watchers, a worker, a server, Envoy, and the clients that send requests.

The namespace is ours alone, so every part has its usual port.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

import aiohttp
import orjson

from streams.kafka.admin import ensure
from streams.local.kafka.broker import EmbeddedKafka
from streams.serve.xds.build.bootstrap import Router, envoy_bootstrap, grpc_bootstrap
from tests.routers.backends import Backends
from tests.routers.load import DEADLINE, Load
from tests.support.bound_process import start_bound
from tests.support.controlplane import ControlPlane, Workload, service_exports

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 4
XDS_PORT, HTTP_PORT = 18000, 8080
ENVOYS = {"envoy": (10000, 9901), "envoy-sotw": (10001, 9902)}
"""Listener and admin port of each Envoy: one speaks incremental xDS, one state of the world."""
ROUTERS = (*ENVOYS, "grpc")
"""gRPC's client speaks state of the world."""
_SUBNETS = {"east": 0, "west": 64}


class Stage:
    """All parts, as a context manager; `violations` is what must not be, in words. `rate` is how many requests each
    client sends in a second to each Service port."""

    def __init__(self, folder: Path, clusters: tuple[str, ...], rate: float) -> None:
        self.folder = folder
        self._rate = rate
        self.violations: list[str] = []
        self.planes = {name: ControlPlane(name) for name in clusters}
        self.workloads: dict[str, Workload] = {}
        self.backends = Backends()
        self.loads = {name: Load(name, _target(name), self.violations) for name in ROUTERS}
        self._parts: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._start_servers)
            self.http = aiohttp.ClientSession()
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for load in self.loads.values():
            await load.end()
        await self.http.close()
        await self.backends.close()
        await asyncio.to_thread(self._close)

    def _start_servers(self) -> None:
        with ThreadPoolExecutor() as pool:
            broker = pool.submit(self._start_broker)
            for name, workload in zip(self.planes, pool.map(self._start_cluster, self.planes), strict=True):
                self.workloads[name] = workload
            self.bootstrap = broker.result()

    def _start_broker(self) -> str:
        broker = EmbeddedKafka(self.folder / "kafka", progress=lambda *_: None)
        self._stack.enter_context(broker)
        ensure(broker.bootstrap_servers, partitions=PARTITIONS)
        return broker.bootstrap_servers

    def _start_cluster(self, name: str) -> Workload:
        plane = self.planes[name]
        self._stack.callback(plane.stop)
        plane.start()
        workload = Workload(plane.api, subnet=_SUBNETS[name], prefix=f"{name}-n")
        workload.add_nodes()
        workload.add_namespace("shop")
        service_exports.install(plane.api)
        return workload

    async def start_facets(self) -> None:
        """Start the worker, the watcher of each cluster, and once their rows are there the server."""
        self._facets("work", "work", "--http-port", "6066", "--instance", "routers")
        await asyncio.gather(*map(self.start_watcher, self.planes))
        await self.start_server()

    async def start_server(self) -> None:
        """Start the server; returns when it is ready."""
        self._facets("serve", "serve", "--xds-port", str(XDS_PORT), "--http-port", str(HTTP_PORT))
        await self.until(lambda: self._answers(HTTP_PORT, "/readyz"), "the server is ready")

    async def start_watcher(self, cluster: str) -> None:
        """Start a cluster's watcher; returns when all its objects are in the journal."""
        name = f"watch-{cluster}"
        log = self.folder / f"{name}.log"
        begin = log.stat().st_size if log.exists() else 0
        self._facets(name, "-v", "watch", "--kubeconfig", str(self.planes[cluster].kubeconfig), "--cluster", cluster)

        async def is_live() -> bool:
            return "objects are in the journal" in log.read_text()[begin:]

        await self.until(is_live, f"{cluster} is in the journal")

    async def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End one of our processes, in order or as a crash would."""
        part = self._parts.pop(name)
        part.send_signal(how)
        assert await asyncio.to_thread(part.wait, DEADLINE) == (0 if how is signal.SIGTERM else -how)

    async def forget(self, cluster: str) -> None:
        """End a cluster, as its operator does."""
        await self.facets("clusters", "forget", cluster, "--force")

    async def facets(self, *arguments: str) -> str:
        """Run a command to its end; what it prints. Raises RuntimeError if it fails."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streams.cli", *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=self._environment(), cwd=ROOT,
        )  # fmt: skip
        output = (await process.communicate())[0].decode()
        if process.returncode:
            raise RuntimeError(f"facets {' '.join(arguments)}: exit code {process.returncode}: {output}")
        return output

    async def start_routers(self) -> None:
        """Start the routers with their clients; none sends a request yet."""
        server = ("127.0.0.1", XDS_PORT)
        for name, (port, admin) in ENVOYS.items():
            router = Router(server, name, listen=("127.0.0.1", port), admin=("127.0.0.1", admin), delta=name == "envoy")
            config = self.folder / f"{name}.json"
            config.write_bytes(orjson.dumps(envoy_bootstrap(router)))
            binary = str(Path(sys.executable).parent / "envoy")
            options = ("--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning")
            self._start(name, [binary, "-c", str(config), *options])
        for name, (_, admin) in ENVOYS.items():
            await self.until(partial(self._answers, admin, "/ready"), f"{name} is ready")
        bootstrap = self.folder / "xds.json"
        bootstrap.write_bytes(orjson.dumps(grpc_bootstrap(Router(server, "grpc"))))
        for load in self.loads.values():
            await load.start(self.folder, self._rate, {"GRPC_XDS_BOOTSTRAP": str(bootstrap)})

    async def get(self, path: str, **query: str) -> Any:
        """An answer of the server."""
        url = f"http://127.0.0.1:{HTTP_PORT}{path}"
        async with self.http.get(url, params=query, timeout=aiohttp.ClientTimeout(2 * DEADLINE)) as answer:
            if answer.status != 200:
                raise RuntimeError(f"{path} {query}: {answer.status} {await answer.text()}")
            return await answer.json()

    async def envoy_stats(self, contains: str) -> dict[str, int]:
        """The sums over all Envoys of their own counters and gauges whose name contains this."""
        sums: Counter[str] = Counter()
        for _, admin in ENVOYS.values():
            async with self.http.get(f"http://127.0.0.1:{admin}/stats", params={"filter": contains}) as answer:
                lines = (await answer.text()).splitlines()
            for name, _, value in (line.rpartition(": ") for line in lines):
                sums[name] += int(value) if value.isdecimal() else 0
        return sums

    async def until(self, holds: Callable[[], Any], what: str) -> None:
        """Ask until it is so; nothing tells of what is asked here. Raises TimeoutError, and RuntimeError if a part has
        ended."""
        try:
            async with asyncio.timeout(2 * DEADLINE):
                while not await holds():
                    self.check()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise TimeoutError(f"not within {2 * DEADLINE:g} s: {what}") from None

    def check(self) -> None:
        """Raise RuntimeError if a part has ended by itself."""
        for name, part in self._parts.items():
            if part.poll() is not None:
                raise RuntimeError(f"{name} ended with {part.returncode}:\n{self.log(name)[-3000:]}")

    def log(self, name: str) -> str:
        """A part's log."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    async def _answers(self, port: int, path: str) -> bool:
        try:
            async with self.http.get(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def _facets(self, name: str, *arguments: str) -> None:
        self._start(name, [sys.executable, "-m", "streams.cli", *arguments])

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._parts[name] = start_bound(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=self._environment(),
                start_new_session=True,
            )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "FACETS_DATA_DIR": str(self.folder), "FACETS_BOOTSTRAP_SERVERS": self.bootstrap}

    def _close(self) -> None:
        for part in self._parts.values():
            part.terminate()
        for part in self._parts.values():
            try:
                part.wait(15)
            except subprocess.TimeoutExpired:
                part.kill()
                part.wait()
        self._stack.close()


def _target(router: str) -> Callable[[str], str]:
    """A function that gives the target, and authority, of a resource's requests through a router."""
    if router in ENVOYS:
        return lambda resource: f"127.0.0.1:{ENVOYS[router][0]} {resource}"
    return lambda resource: f"xds:///{resource}"
