"""From a PATCH to the API server to the endpoint in a router's hands: an EDS client of `facets serve` next to a raw
watch and to an EDS client of istiod, in one run.

One EndpointSlice of 10 endpoints is patched at a fixed rate, each time with another address, among 100 Services. All
follow the same control plane and hear of the same changes, at the same time, on the same cores: the raw watch (as an
informer begins: each event decoded), the incremental ADS client of ours (`facets watch`, `work` and `serve` run as
users run them), and the same client of istiod, first without debounce, then as it is. Where there is no istiod and no
Go to build it, the raw watch alone is beside us. The endpoints name no Pods, as istiod holds back those whose Pod it
does not know.

A latency is from the moment before the PATCH is sent until the client has that state or a newer one. EDS has no
history, so a server may leave states out: how many came is a figure of its own. The benchmark fails if a client is left
without the last state, if the raw watch has missed one, or if a change is not exactly once in the journal.

The stages are of our own programs, which note the time with the clock's full resolution (`traced`); each is from the
end of the one before. Only the acknowledgement is beside them: the server does not wait for it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import sleep, time
from typing import NamedTuple

from streams.serve.xds.build.names import resource_name
from tests.bench import plots
from tests.bench.bench import SHARED, Bench, Part, free_port
from tests.bench.figures import Figure, at_most_times
from tests.bench.objects import NAMESPACE, SLICES, Object, create, endpoints, marker, service_with_slice
from tests.bench.peers import istiod
from tests.bench.stages import OURS, Traces, stages
from tests.support.controlplane import ControlPlane

PARTITIONS = 8
SERVICES = 100
ENDPOINTS = 10
WARM_UP = 40
RATES = ((4, 60), (33, 30))
"""Changes a second, and for how many seconds."""
DNS_NAME = f"s0.{NAMESPACE}.svc.cluster.local"
RAW_WATCH = "raw watch"
GOALS = {RAW_WATCH: 1.7, istiod.NO_DEBOUNCE: 1.5, istiod.DEFAULT: 1 / 5}
"""What the median may be at most, next to a peer's."""
_SHARES = (50, 90, 99)


class Change(NamedTuple):
    """A PATCH: the address that it brings, the resourceVersion that it got, and when it was sent (unix time)."""

    state: str
    version: str
    at: float


class Client(NamedTuple):
    """A client's process, and the file that it writes."""

    part: Part
    file: Path


class Changes:
    """Changes of Service 0, each with an address that it never had."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._turn = 0

    def make(self, rate: float, count: int) -> list[Change]:
        """So many, at a fixed rate, whatever the answers take."""
        turns = range(self._turn + 1, self._turn + count + 1)
        self._turn += count
        sent = patch(self._plane, rate, (endpoints(0, ENDPOINTS, turn=turn, pods=False) for turn in turns))
        return [Change(marker(turn), version, at) for turn, (version, at) in zip(turns, sent, strict=True)]


def run(bench: Bench) -> Iterator[Figure]:
    """Beside each peer, both rates."""
    binary = istiod.binary_if_any(bench)
    bootstrap = bench.kafka(PARTITIONS)
    plane = bench.plane()
    plane.kill("kube-controller-manager")  # the slices are made by hand
    for name in (NAMESPACE, istiod.NAMESPACE):
        plane.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
    create(plane, [each for i in range(SERVICES) for each in service_with_slice(i, ENDPOINTS)], bench.say)
    traces = Traces(bench.folder / "watch.trace", bench.folder / "serve.trace")
    port = _start_ours(bench, bootstrap, plane, traces)
    raw = _client(bench, RAW_WATCH, "raw-watch", str(plane.kubeconfig))
    ours = _client(bench, OURS, "eds", str(port), resource_name(DNS_NAME, 80))
    changes = Changes(plane)
    drawn: dict[int, dict[str, list[float]]] = {rate: {} for rate, _ in RATES}
    for peer in (istiod.NO_DEBOUNCE, istiod.DEFAULT) if binary else ("",):
        beside, theirs = None, []
        if peer:
            bench.say(f"starting {peer}")
            beside = istiod.start(bench, binary, plane, peer)
            theirs = [_client(bench, peer, "eds", str(beside.port), istiod.resource_name(DNS_NAME, 80))]
        changes.make(20, WARM_UP)
        for rate, seconds in RATES:
            count = rate * (10 if bench.quick else seconds)
            bench.say(f"{count} changes at {rate}/s" + f" beside {peer}" * bool(peer))
            sent = changes.make(rate, count)
            late, came = {}, {}
            for client in (raw, ours, *theirs):
                name = client.part.name
                received = _received(client, sent)
                late[name] = delays(sent, received)
                came[name] = 100 * sum(change.state in received for change in sent) / len(sent)
            if came[RAW_WATCH] < 100:
                raise RuntimeError(f"the raw watch had {came[RAW_WATCH]:.2f} % of {count} changes")
            note = f"{count} changes of one slice of {ENDPOINTS} endpoints" + _beside(peer, binary) + f". {SHARED}"
            yield from _compare(rate, late, came, note, with_watch=peer != istiod.DEFAULT)
            if peer != istiod.DEFAULT:
                passed = stages(bootstrap, traces, [(each.version, each.at) for each in sent], late[OURS])
                yield from _stage_figures(bench, rate, passed, note)
            drawn[rate] |= {f"{name} beside {peer}" if name != peer and peer else name: late[name] for name in late}
        if beside is not None:
            theirs[0].part.end()
            beside.part.end()
    for rate, series in drawn.items():
        plots.distribution(bench.out / f"latency-{rate}.svg", series, f"PATCH to client at {rate} changes/s", "ms")


def patch(plane: ControlPlane, rate: float, sets: Iterable[list[Object]]) -> list[tuple[str, float]]:
    """Give Service 0 these endpoints one after the other, at a fixed rate, whatever the answers take: the
    resourceVersion that each got, and when its PATCH was sent (unix time)."""
    sent = []
    began = time()
    for i, each in enumerate(sets):
        sleep(max(0.0, began + i / rate - time()))
        at = time()
        answer = plane.api.patch(f"{SLICES}/s0-0", {"endpoints": each})
        sent.append((answer["metadata"]["resourceVersion"], at))
    return sent


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def delays(sent: Sequence[Change], came: Mapping[str, float]) -> list[float]:
    """Milliseconds from each state's PATCH until the client had that state or a newer one; infinite where neither
    came. `sent` is in order; `came` has by state when it came."""
    out = []
    at = math.inf
    for change in reversed(sent):
        at = min(at, came.get(change.state, math.inf))
        out.append(1000 * (at - change.at))
    return out[::-1]


def _start_ours(bench: Bench, bootstrap: str, plane: ControlPlane, traces: Traces) -> int:
    bench.say("starting the worker, the watcher and the server")
    bench.worker(bootstrap)
    watcher = bench.start("watcher", "-m", "tests.bench.traced", str(traces.watch), "-v", "watch",
                          "--bootstrap-servers", bootstrap, "--kubeconfig", str(plane.kubeconfig),
                          "--cluster", "east")  # fmt: skip
    watcher.says("objects are in the journal")
    port = free_port()
    serve = bench.start("serve", "-m", "tests.bench.traced", str(traces.serve), "serve", "--bootstrap-servers",
                        bootstrap, "--xds-port", str(port), "--http-port", "0")  # fmt: skip
    serve.says("xDS on")
    return port


def _client(bench: Bench, name: str, kind: str, source: str, *resource: str) -> Client:
    file = bench.folder / f"{istiod.key(name)}.txt"
    part = bench.start(name, "-m", "tests.bench.clients", kind, source, str(file), *resource)
    part.until(lambda: file.exists() and "ready" in file.read_text(), "it is ready")
    return Client(part, file)


def _received(client: Client, sent: Sequence[Change]) -> dict[str, float]:
    """When each state came to a client first, once it has the last one. Raises TimeoutError if that doesn't come."""
    last = sent[-1].state
    client.part.until(lambda: f" {last}\n" in client.file.read_text()[-4096:], f"{last} came", 30)
    came: dict[str, float] = {}
    for line in client.file.read_text().splitlines():
        at, *state = line.split()
        if state:
            came.setdefault(state[0], float(at))
    return came


def _beside(peer: str, binary: str) -> str:
    return f"; beside us run a raw watch and {peer} ({istiod.version_of(binary)})" if peer else ""


def _compare(
    rate: int, late: Mapping[str, Sequence[float]], came: Mapping[str, float], note: str, *, with_watch: bool
) -> Iterator[Figure]:
    for peer in late:
        if peer == OURS or (peer == RAW_WATCH and not with_watch):
            continue
        for share in _SHARES:
            mine, other = (percentile(late[name], share / 100) for name in (OURS, peer))
            goal = at_most_times(GOALS[peer]) if share == 50 else None
            yield Figure(f"EDS latency at {rate}/s, p{share}", mine, "ms", other, peer, goal, note)
        yield Figure(f"EDS states delivered at {rate}/s", came[OURS], "%", came[peer], peer, None, note)


def _stage_figures(bench: Bench, rate: int, passed: Mapping[str, Sequence[float]], note: str) -> Iterator[Figure]:
    for name, values in passed.items():
        for share in _SHARES:
            yield Figure(f"stage at {rate}/s: {name}, p{share}", percentile(values, share / 100), "ms", note=note)
    plots.stages(bench.out / f"stages-{rate}.svg",
                 {name: percentile(values, 0.5) for name, values in passed.items()},
                 f"Median time by stage at {rate} changes/s", "ms")  # fmt: skip
