"""From a PATCH to the API server to the endpoint in an EDS client's hands: `facets serve` next to istiod, in one run.

Both follow the same control plane and hear of the same changes: one EndpointSlice of 10 endpoints is patched at a fixed
rate, each time with another address, among 100 Services. The same client program follows the Service on an ADS stream
at each of them. istiod runs first as it is, then without debounce; ours runs beside it all the time, so that both
share the cores. It is built from Istio's Go module (peers/istiod.sh), and runs outside of the cluster with neither
certificates, injection nor Istio's own resources: it has endpoints to serve, and nothing else.

A latency is from the moment before the PATCH is sent until the client has that state or a newer one of the same
Service. EDS has no history, so a server may leave states out: how many came is a figure of its own. The endpoints name
no Pods, as istiod holds back those whose Pod it does not know.
"""

import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from streams.serve.xds.build.names import resource_name
from tests.bench import plots
from tests.bench.bench import SHARED, Bench, Part, free_port
from tests.bench.figures import Figure, at_most_times
from tests.bench.latency import Received, await_last, patch, percentile, received
from tests.bench.objects import NAMESPACE, Object, create, endpoints, marker, service, slice_
from tests.support.controlplane import ControlPlane

BUILD = Path(__file__).parent / "peers" / "istiod.sh"
PARTITIONS = 8
SERVICES = 100
ENDPOINTS = 10
WARM_UP = 40
DNS_NAME = f"s0.{NAMESPACE}.svc.cluster.local"
QUIET = {
    "ENABLE_CA_SERVER": "false",
    "PILOT_CERT_PROVIDER": "none",
    "INJECTION_WEBHOOK_CONFIG_NAME": "",
    "VALIDATION_WEBHOOK_CONFIG_NAME": "",
}
"""What has nothing to do with endpoints, switched off."""
NO_DEBOUNCE = {"PILOT_ENABLE_EDS_DEBOUNCE": "false", "PILOT_DEBOUNCE_AFTER": "0s", "PILOT_DEBOUNCE_MAX": "0s"}
DEFAULT_GOAL = 1 / 5


class Client(NamedTuple):
    """An EDS client's process, and the file that it writes."""

    part: Part
    file: Path


def run(bench: Bench) -> Iterator[Figure]:
    """Both ways of istiod, each at both rates."""
    bench.say("finding or building istiod")
    binary = _binary()
    bootstrap = bench.kafka(PARTITIONS)
    plane = bench.plane()
    plane.kill("kube-controller-manager")  # the slices are made by hand
    for name in (NAMESPACE, "istio-system"):
        plane.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
    create(plane, [each for i in range(SERVICES) for each in _service(i)], bench.say)
    bench.say("starting the worker, the watcher and the server")
    bench.facets("worker", "work", "--bootstrap-servers", bootstrap, "--http-port", str(free_port()),
                 "--instance", "bench", "--data-dir", str(bench.folder / "data"))  # fmt: skip
    watcher = bench.facets("watcher", "-v", "watch", "--bootstrap-servers", bootstrap,
                           "--kubeconfig", str(plane.kubeconfig), "--cluster", "east")  # fmt: skip
    watcher.says("objects are in the journal")
    port = free_port()
    bench.facets("serve", "serve", "--bootstrap-servers", bootstrap, "--xds-port", str(port), "--http-port", "0")
    ours = _client(bench, "eds", port, resource_name(DNS_NAME, 80))
    turn = 0

    def changes(rate: float, count: int) -> list[tuple[str, float]]:
        nonlocal turn
        turns = range(turn + 1, turn + count + 1)
        turn += count
        sent = patch(plane, rate, (_no_pods(endpoints(0, ENDPOINTS, turn=each)) for each in turns))
        return [(marker(each), at) for each, (_, at) in zip(turns, sent, strict=True)]

    drawn: dict[int, dict[str, list[float]]] = {4: {}, 33: {}}
    for peer, environment in (("istiod", {}), ("istiod, no debounce", NO_DEBOUNCE)):
        bench.say(f"starting {peer}")
        key = peer.replace(", ", "-").replace(" ", "-")
        istiod, port = _istiod(bench, binary, plane, key, environment)
        theirs = _client(bench, f"eds-{key}", port, f"outbound|80||{DNS_NAME}")
        changes(20, WARM_UP)
        for rate, seconds in ((4, 60), (33, 30)):
            count = rate * (10 if bench.quick else seconds)
            bench.say(f"{count} changes at {rate}/s to Service Facets and {peer}")
            sent = changes(rate, count)
            for each in (ours, theirs):
                await_last(*each, sent[-1][0])
            came = [received(each.file) for each in (ours, theirs)]
            mine, other = (delays(sent, each) for each in came)
            drawn[rate] |= {f"Service Facets beside {peer}": mine, peer: other}
            note = (
                f"{count} changes of one slice of {ENDPOINTS} endpoints, until an EDS client of `facets serve`, and "
                f"one of {Path(binary).name}, has the state or a newer one. Both hear of the same changes. {SHARED}"
            )
            yield from _compare(peer, rate, sent, came, (mine, other), note)
        theirs.part.end()
        istiod.end()
    for rate, series in drawn.items():
        plots.distribution(bench.out / f"eds-{rate}.svg", series, f"PATCH to EDS client at {rate} changes/s", "ms")


def delays(sent: Sequence[tuple[str, float]], came: Mapping[str, Received]) -> list[float]:
    """Milliseconds from each state's PATCH until the client had that state or a newer one; infinite where neither
    came. `sent` is in order."""
    out = []
    at = math.inf
    for state, began in reversed(sent):
        if state in came:
            at = min(at, came[state].at)
        out.append(1000 * (at - began))
    return out[::-1]


def _compare(
    peer: str,
    rate: int,
    sent: Sequence[tuple[str, float]],
    came: Sequence[Mapping[str, Received]],
    late: tuple[list[float], list[float]],
    note: str,
) -> Iterator[Figure]:
    for share in (50, 90, 99):
        mine, other = (percentile(each, share / 100) for each in late)
        goal = at_most_times(DEFAULT_GOAL) if peer == "istiod" and share == 50 else None
        yield Figure(f"EDS latency at {rate}/s, p{share}", mine, "ms", other, peer, goal, note)
    mine, other = (100 * sum(state in each for state, _ in sent) / len(sent) for each in came)
    yield Figure(f"EDS states delivered at {rate}/s", mine, "%", other, peer, None, note)


def _service(number: int) -> tuple[tuple[str, Object], tuple[str, Object]]:
    path, body = slice_(number, ENDPOINTS)
    return service(f"s{number}"), (path, body | {"endpoints": _no_pods(body["endpoints"])})


def _no_pods(made: list[Object]) -> list[Object]:
    return [{name: value for name, value in each.items() if name != "targetRef"} for each in made]


def _binary() -> str:
    built = subprocess.run(["bash", BUILD], stdout=subprocess.PIPE, text=True, check=False)
    if built.returncode:
        raise RuntimeError(f"there is no istiod: {BUILD.name} says why above")
    return built.stdout.strip()


def _istiod(
    bench: Bench, binary: str, plane: ControlPlane, name: str, environment: Mapping[str, str]
) -> tuple[Part, int]:
    port = free_port()
    istiod = bench.program(
        *(name, binary, "discovery", "--kubeconfig", str(plane.kubeconfig), "--grpcAddr", f"127.0.0.1:{port}"),
        *("--httpAddr", f"127.0.0.1:{free_port()}", "--monitoringAddr", f"127.0.0.1:{free_port()}"),
        *("--secureGRPCAddr", "", "--httpsAddr", "", "--ctrlz_port", "0"),
        environment={**QUIET, **environment},
    )
    istiod.says("starting gRPC discovery service")
    return istiod, port


def _client(bench: Bench, name: str, port: int, resource: str) -> Client:
    file = bench.folder / f"{name}.txt"
    part = bench.start(name, "-m", "tests.bench.clients", "eds", str(port), str(file), resource)
    part.until(lambda: file.exists() and "ready" in file.read_text(), f"it has {resource}")
    return Client(part, file)
