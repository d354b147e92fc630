"""From a Pod's deletion to the end of its preStop hook, which waits until no router sends new requests to it.

In a network namespace (tests/routers) the Pods of a Service are replaced one by one on a real control plane, each with
a real backend that ends half a second after its hook has returned, with the requests that were under way. Two Envoys
(incremental, and state of the world) and gRPC's own client send requests to it all the time, 60 a second each. The hook
is `GET /v1/wait` (or `facets wait`), with what it takes until the API server, the controller that makes slices, the
pipeline and all three routers have done their part; beside it `sleep 15`. A request counts as one after the hook if its
client began it then.
"""

import json
from collections.abc import Iterator

from tests.bench.bench import SHARED, Bench
from tests.bench.figures import Figure, at_least, at_most
from tests.bench.latency import percentile


def run(bench: Bench) -> Iterator[Figure]:
    """The same rolling replacement with each hook."""
    count, sleeps = (8, 1) if bench.quick else (40, 4)
    report = bench.folder / "gate.json"
    bench.say(f"{count} Pods are replaced with each hook")
    options = ("--replacements", str(count), "--sleeps", str(sleeps), "--report", str(report))
    bench.start("gate", "-m", "tests.routers.gate", *options).finish()
    outcome = json.loads(report.read_text())
    note = f"{count} replacements of a Pod of three under load, with three routers. {SHARED}"
    slept = 1000 * percentile(outcome["sleep"]["seconds"], 0.5)
    for hook, name in (("wait", "GET /v1/wait"), ("command", "facets wait")):
        delays = [1000 * seconds for seconds in outcome[hook]["seconds"]]
        for share in (50, 99):
            took = percentile(delays, share / 100)
            yield Figure(f"gate: to the end of the hook, {name}, p{share}", took, "ms", slept, "sleep 15", None, note)
        requests = outcome[hook]["requests"]
        yield Figure(f"gate: requests during it, {name}", requests, "", None, "", at_least(1))
        ours, theirs = outcome[hook]["failed"], outcome["sleep"]["failed"]
        yield Figure(f"gate: failed requests, {name}", ours, "", theirs, "sleep 15", at_most(0))
        yield Figure(f"gate: Pods that got a request after it, {name}", outcome[hook]["late"], "", None, "", at_most(0))
