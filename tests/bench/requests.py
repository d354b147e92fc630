"""Real requests: from the PATCH that makes an endpoint ready to the first answer of it through Envoy, and from the
PATCH that takes it away to the last one.

The Service `probe` has two endpoints, real HTTP servers on the addresses of Pods (in a network namespace); one of them
is always ready, the other turns ready and not ready. A client sends requests through an Envoy of ours and through one
of istiod's, which differ in nothing but the server and the resource's name: each takes the endpoints of one cluster
from it by incremental ADS. Requests go one after the other, at most one a millisecond, and Envoy goes round the ready
endpoints, so an answer tells of a change some 2 ms after Envoy has it. First one change after the other, then the same
while 50 other Services change, 33 times a second, which both servers watch.

A request that fails, or a change that no answer tells of within 30 s, fails the benchmark. Needs root or user
namespaces; istiod where there is one. (The form is gateway-api-bench's, where a new route, not a new endpoint, is
waited for.)
"""

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

from streams.serve.xds.build.names import resource_name
from tests.bench.bench import SHARED, Bench, Part, free_port
from tests.bench.figures import Figure
from tests.bench.latency import percentile
from tests.bench.objects import NAMESPACE, SLICES, service
from tests.bench.patches import Patches
from tests.bench.peers import istiod
from tests.bench.request_parts import BACKEND_PORT, Requests, start_backends, start_envoy
from tests.support import network_namespace
from tests.support.controlplane import ControlPlane

OURS = "Service Facets"
SERVICE = "probe"
DNS_NAME = f"{SERVICE}.{NAMESPACE}.svc.cluster.local"
STAYS, TURNS = "10.244.0.10", "10.244.0.11"
MODES = ("one by one", "while others churn at 33/s")
CHURN_RATE, CHURN_SERVICES = 33, 50
WITHIN_SECONDS = 30.0
_FOLLOWED_BY = 40
"""So many answers of the other endpoint in a row: the one that turns would have had half of them."""
_SHARES = (50, 99)


def run(bench: Bench) -> Iterator[Figure]:
    """Both directions, in both modes, next to istiod both ways."""
    report = bench.folder / "requests.json"
    count = 10 if bench.quick else 60
    bench.say(f"{2 * count} changes of an endpoint, in each mode")
    try:
        command = network_namespace.command("tests.bench.requests", "--count", str(count), "--report", str(report))
    except network_namespace.NoNamespace as error:
        bench.say(f"nothing is measured: {error}")
        return
    bench.program("requests", *command).finish(3000)
    for peer, modes in json.loads(report.read_text()).items():
        for mode, directions in modes.items():
            for direction, took in directions.items():
                note = f"{len(took[OURS])} changes of an endpoint {mode}, through an Envoy each. {SHARED}"
                for share in _SHARES:
                    mine = percentile(took[OURS], share / 100)
                    theirs = percentile(took[peer], share / 100) if peer else None
                    yield Figure(f"request: {direction}, {mode}, p{share}", mine, "ms", theirs, peer, note=note)


class Probe:
    """The Service, and the requests to it through each Envoy, by the name of who programs it."""

    def __init__(self, plane: ControlPlane, requests: dict[str, Requests]) -> None:
        self._plane = plane
        self._requests = requests

    @staticmethod
    def prepare(plane: ControlPlane) -> None:
        """Make the Service, with one endpoint ready."""
        path, body = service(SERVICE)
        plane.api.post(path, body)
        plane.api.post(
            SLICES,
            {
                "metadata": {
                    "name": SERVICE,
                    "labels": {
                        "kubernetes.io/service-name": SERVICE,
                        "endpointslice.kubernetes.io/managed-by": "staff",
                    },
                },
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": BACKEND_PORT, "protocol": "TCP"}],
                "endpoints": _endpoints(ready=False),
            },
        )

    async def measure(self, count: int) -> dict[str, dict[str, list[float]]]:
        """So many changes in each direction: by direction and name, the milliseconds that each took."""
        took: dict[str, dict[str, list[float]]] = {
            direction: {name: [] for name in self._requests} for direction in ("first answer", "last answer")
        }
        for _ in range(count):
            for ready, direction in ((True, "first answer"), (False, "last answer")):
                if ready:
                    for requests in self._requests.values():
                        requests.clear()
                at = time.time()
                await asyncio.to_thread(self._turn, ready)
                for name, end in zip(self._requests, await self._ends(ready), strict=True):
                    took[direction][name].append(1000 * (end - at))
                await asyncio.sleep(0.1)
        return took

    async def _ends(self, ready: bool) -> list[float]:
        if ready:
            return await asyncio.gather(
                *(requests.first_of(TURNS, WITHIN_SECONDS) for requests in self._requests.values())
            )
        return await asyncio.gather(
            *(requests.last_of(TURNS, _FOLLOWED_BY, WITHIN_SECONDS) for requests in self._requests.values())
        )

    def _turn(self, ready: bool) -> None:
        self._plane.api.patch(f"{SLICES}/{SERVICE}", {"endpoints": _endpoints(ready=ready)})


def _endpoints(*, ready: bool) -> list[dict[str, Any]]:
    states = {STAYS: True, TURNS: ready}
    return [
        {"addresses": [address], "conditions": {"ready": own, "serving": own, "terminating": False}}
        for address, own in states.items()
    ]


def inside(bench: Bench, count: int) -> dict[str, Any]:
    """In the network namespace: by peer, mode, direction and name the milliseconds."""
    binary = istiod.binary_if_any(bench)
    start_backends(bench, (STAYS, TURNS))
    bootstrap = bench.kafka(8)
    plane = bench.plane()
    plane.kill("kube-controller-manager")  # the slices are made by hand
    plane.api.post("/api/v1/namespaces", {"metadata": {"name": istiod.NAMESPACE}})
    patches = Patches(plane, CHURN_SERVICES, 10)
    patches.prepare(bench.say)
    Probe.prepare(plane)
    ours = start_envoy(bench, "envoy", _serve(bench, bootstrap, plane), resource_name(DNS_NAME, 80))
    outcome: dict[str, Any] = {}
    for peer in (istiod.NO_DEBOUNCE, istiod.DEFAULT) if binary else ("",):
        ports = {OURS: ours}
        running: list[Part] = []
        if peer:
            beside = istiod.start(bench, binary, plane, peer)
            ports[peer] = start_envoy(
                bench, f"envoy-{istiod.key(peer)}", beside.port, istiod.resource_name(DNS_NAME, 80)
            )
            running.append(beside.part)
        outcome[peer] = uvloop.run(_both_modes(bench, plane, patches, ports, count, slow=peer == istiod.DEFAULT))
        for part in running:
            part.end()
    return outcome


async def _both_modes(
    bench: Bench, plane: ControlPlane, patches: Patches, ports: dict[str, int], count: int, *, slow: bool
) -> dict[str, Any]:
    requests = {name: Requests(port) for name, port in ports.items()}
    for each in requests.values():
        each.start()
    probe = Probe(plane, requests)
    quiet, churning = MODES
    try:
        await probe.measure(3)  # warm
        bench.say(quiet)
        outcome = {quiet: await probe.measure(count)}
        bench.say(churning)
        stop = threading.Event()
        churn = asyncio.create_task(asyncio.to_thread(_churn, patches, stop))
        try:
            await asyncio.sleep(1)
            # istiod as it is takes up to 10 s for a change then.
            outcome[churning] = await probe.measure(max(5, count // 6) if slow else count)
        finally:
            stop.set()
            await churn
    finally:
        for each in requests.values():
            await each.end()
    return outcome


def _churn(patches: Patches, stop: threading.Event) -> None:
    while not stop.is_set():
        patches.make(CHURN_RATE, CHURN_RATE)


def _serve(bench: Bench, bootstrap: str, plane: ControlPlane) -> int:
    bench.pipeline(bootstrap, plane)
    port = free_port()
    serve = bench.facets("serve", "serve", "--bootstrap-servers", bootstrap, "--xds-port", str(port),
                         "--http-port", "0")  # fmt: skip
    serve.says("xDS on")
    return port


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.requests", description=__doc__)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--inside", action="store_true", required=True)
    chosen = parser.parse_args()
    network_namespace.enter()
    with (
        tempfile.TemporaryDirectory(prefix="facets-requests-") as folder,
        Bench("requests", Path(folder), Path(folder), quick=False, say=print) as bench,
    ):
        outcome = inside(bench, chosen.count)
    chosen.report.write_text(json.dumps(outcome) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
