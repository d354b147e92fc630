"""Many clients of one server, at 100 changes a second: `facets serve` (xDS, and server-sent events), and istiod.

50 Services of 2 endpoints; each PATCH to the API server gives one of them an address that it never had. All clients
follow all of them: 500 incremental EDS clients, each on its own connection, acknowledging, then 1,000 of the
server-sent events. A change's time runs from before its PATCH to when the last client has it, or a later state of the
same Service: xDS sends what is newest and has no history. The clients are one process that decodes next to nothing
(`light`), so that the server is what is measured.

istiod comes first, as it is and without debounce, with the same clients and the same load, and none of our processes
beside it; then we, without istiod. Memory is what the resident size of the server grew by when the clients had
come, its CPU what that process used from the first change until the last client had the last. Then ours once more, with
one more client that never reads. Needs Go; istiod where there is one.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import psutil

from tests.bench.bench import Bench, Part, free_port
from tests.bench.figures import Figure, Goal, at_least, at_most
from tests.bench.light_clients import LightClients, has_go
from tests.bench.objects import NAMESPACE
from tests.bench.patches import Patches
from tests.bench.peers import istiod

PARTITIONS = 8
SERVICES = 50
ENDPOINTS = 2
RATE = 100
MEMORY_GOAL_KIB = 50
LAST_GOAL_MS = 1000
_DNS_NAMES = [f"s{i}.{NAMESPACE}.svc.cluster.local" for i in range(SERVICES)]
NAMES = [f"{name}:80" for name in _DNS_NAMES]
ISTIO_NAMES = [istiod.resource_name(name, 80) for name in _DNS_NAMES]
_NEVER_READS = "with one that never reads"


class Outcome(NamedTuple):
    """What one server did: milliseconds from each change to the last client, the share of changes that came to all,
    microseconds of its CPU for a change at a client, messages for each client, KiB of memory for a client, and the
    share of a core in use."""

    last: list[float]
    complete: float
    cpu: float
    messages: float
    memory: float
    core: float

    def percentile(self, share: float) -> float:
        """Of the times to the last client."""
        return float(np.percentile(self.last, share))


class Fleet(NamedTuple):
    """The clients of a kind: how many, and the name for figures."""

    kind: str
    name: str
    count: int


def run(bench: Bench) -> Iterator[Figure]:
    """istiod both ways, then ours."""
    if not has_go():
        bench.say("the clients are written in Go, and there is none: nothing is measured")
        return
    xds = Fleet("xds", "xDS", 50 if bench.quick else 500)
    sse = Fleet("sse", "SSE", 100 if bench.quick else 1000)
    binary = istiod.binary_if_any(bench)
    plane = bench.plane()
    plane.kill("kube-controller-manager")  # the slices are made by hand
    plane.api.post("/api/v1/namespaces", {"metadata": {"name": istiod.NAMESPACE}})
    patches = Patches(plane, SERVICES, ENDPOINTS)
    patches.prepare(bench.say)
    patches.make(RATE, 2 * SERVICES)  # each Service has had a turn
    theirs: dict[str, Outcome] = {}
    for peer in (istiod.DEFAULT, istiod.NO_DEBOUNCE) if binary else ():
        bench.say(f"starting {peer}")
        running = istiod.start(bench, binary, plane, peer)
        theirs[peer] = _measure(bench, patches, running.part, running.port, xds, ISTIO_NAMES, f"of {peer}")
        running.part.end()
    bootstrap = bench.kafka(PARTITIONS)
    bench.pipeline(bootstrap, plane)
    for fleet, names in ((xds, NAMES), (sse, [])):
        serve, port = _serve(bench, bootstrap, fleet)
        outcome = _measure(bench, patches, serve, port, fleet, names, "of ours")
        yield from _figures(fleet, outcome, theirs if fleet is xds else {}, bench)
        stuck = LightClients(bench, f"stuck-{fleet.kind}", port, 1, 1, names)
        beside = _measure(bench, patches, serve, port, fleet, names, f"of ours, {_NEVER_READS}")
        note = _note(fleet, bench)
        yield Figure(f"{fleet.name}: p99 beside one that never reads", beside.percentile(99), "ms",
                     outcome.percentile(99), "without it", note=note)  # fmt: skip
        yield Figure(f"{fleet.name}: changes that came to all beside it", beside.complete, "%",
                     goal=at_least(100), note=note)  # fmt: skip
        stuck.part.end()
        serve.end()


def _serve(bench: Bench, bootstrap: str, fleet: Fleet) -> tuple[Part, int]:
    ports = {"xds": free_port(), "sse": free_port()}
    serve = bench.facets(f"serve-{fleet.kind}", "serve", "--bootstrap-servers", bootstrap, "--xds-port",
                         str(ports["xds"]), "--http-port", str(ports["sse"]), "--max-http-clients",
                         "2000")  # fmt: skip
    serve.says("facets serve: xDS on")
    return serve, ports[fleet.kind]


def _measure(
    bench: Bench, patches: Patches, server: Part, port: int, fleet: Fleet, names: list[str], whose: str
) -> Outcome:
    """Raises RuntimeError if clients are left without the last state of a Service."""
    process = psutil.Process(server.pid)
    patches.make(RATE, 2 * SERVICES)  # warm
    bench.say(f"{fleet.count} {fleet.name} clients {whose} come")
    before = process.memory_info().rss
    clients = LightClients(bench, fleet.kind, port, fleet.count, SERVICES, names)
    grown = process.memory_info().rss - before
    changes = RATE * (5 if bench.quick else 20)
    bench.say(f"{changes} changes to {fleet.count} {fleet.name} clients {whose}")
    used = process.cpu_times()
    sent = patches.make(RATE, changes)
    arrivals = clients.finish(patches.last())
    busy = process.cpu_times()
    server.check()
    seconds = busy.user + busy.system - used.user - used.system
    late = []
    for change in sent:
        arrival = arrivals.get(change.turn)
        if arrival is None or arrival.clients < fleet.count:
            continue
        late.append(1000 * (arrival.last - change.at))
    missing = [turn for turn in patches.last() if turn not in arrivals or arrivals[turn].clients < fleet.count]
    if missing:
        raise RuntimeError(f"{len(missing)} Services' last states did not come to all {fleet.count} clients {whose}")
    took = max(arrival.last for arrival in arrivals.values()) - sent[0].at
    return Outcome(
        last=late,
        complete=100 * len(late) / len(sent),
        cpu=1e6 * seconds / (len(sent) * fleet.count),
        messages=clients.messages / fleet.count,
        memory=grown / fleet.count / 1024,
        core=100 * seconds / took,
    )


def _note(fleet: Fleet, bench: Bench) -> str:
    changes = RATE * (5 if bench.quick else 20)
    return (
        f"{fleet.count} clients, {changes} changes of {SERVICES} Services at {RATE}/s. The clients, the API server and "
        "the load share the cores with the server, and with ours the watcher, the worker and the broker."
    )


def _figures(fleet: Fleet, ours: Outcome, theirs: dict[str, Outcome], bench: Bench) -> Iterator[Figure]:
    note = _note(fleet, bench)
    peers: list[tuple[str, Outcome | None]] = list(theirs.items()) or [("", None)]

    def beside(what: str, unit: str, value: Callable[[Outcome], float], goal: Goal | None = None) -> Iterator[Figure]:
        for peer, other in peers:
            its = value(other) if other is not None else None
            yield Figure(f"{fleet.name}: {what}", value(ours), unit, its, peer, goal, note)

    yield from beside("memory a subscriber", "KiB", lambda one: one.memory, at_most(MEMORY_GOAL_KIB))
    yield from beside(f"changes that came to all, at {RATE}/s", "%", lambda one: one.complete, at_least(100))
    for share in (50, 99):
        goal = at_most(LAST_GOAL_MS) if share == 99 else None
        yield from beside(f"change to the last subscriber, p{share}", "ms",
                          partial(Outcome.percentile, share=share), goal)  # fmt: skip
    yield from beside("CPU of the server for a change at a client", "us", lambda one: one.cpu)
    yield from beside("core of the server in use", "%", lambda one: one.core)
    yield from beside("messages to a client", "", lambda one: one.messages)
