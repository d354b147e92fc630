"""What it costs that nothing happens: processor time of each process, and bytes written, for 1, 10 and 100 clusters.

One `facets watch` follows the clusters of a fleet of API servers (`fleet`, which is not counted); a worker and a server
run beside it, on a real broker. Once all is in the tables, processor time and the topics' growth are taken over some
minutes in which nothing changes but resourceVersions. Bookmarks alone are told every five minutes, so the time is a
multiple of that; the checkpoints are the worker's own, on its disk.
"""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import psutil

from streams.wire.partitioning import DEFAULT_PARTITIONS
from streams.wire.records import JOURNAL, TABLES, topic_of
from tests.bench.bench import Bench, free_port
from tests.bench.figures import Figure, at_most
from tests.bench.scale import is_ready

DAY = 86_400
MANY = 100
_SETTLE_SECONDS = 30.0


class _Used(NamedTuple):
    """Processor seconds of each process, and the bytes of each topic."""

    cpu: dict[str, float]
    topics: Counter[str]


def run(bench: Bench) -> Iterator[Figure]:
    """By number of clusters."""
    for clusters in (1, 10) if bench.quick else (1, 10, MANY):
        with Bench(bench.name, bench.folder / f"{clusters}", bench.out, quick=bench.quick, say=bench.say) as own:
            yield from _measure(own, clusters, 60.0 if bench.quick else 300.0)


def _measure(bench: Bench, clusters: int, seconds: float) -> Iterator[Figure]:
    folder = bench.folder
    bootstrap = bench.kafka(DEFAULT_PARTITIONS)
    port, config = free_port(), folder / "kubeconfig"
    bench.start("fleet", "-m", "tests.bench.fleet", str(port), str(clusters), str(config)).says("Running on")
    worker = bench.facets("worker", "work", "--bootstrap-servers", bootstrap, "--http-port", str(free_port()),
                          "--instance", "idle", "--data-dir", str(folder / "data"))  # fmt: skip
    serve = bench.facets("serve", "serve", "--bootstrap-servers", bootstrap, "--http-port", str(free_port()),
                         "--xds-port", str(free_port()))  # fmt: skip
    names = [context["name"] for context in orjson.loads(config.read_bytes())["contexts"]]
    named = [argument for name in names for argument in ("--cluster", f"{name}={name}")]
    probe = free_port()
    watch = bench.facets("watch", "watch", "--bootstrap-servers", bootstrap, "--kubeconfig", str(config),
                         "--http-port", str(probe), *named)  # fmt: skip
    watch.until(lambda: is_ready(probe), "every cluster's first lists are in the journal", 300)
    processes = {
        "watch": psutil.Process(watch.pid), "worker": psutil.Process(worker.pid), "serve": psutil.Process(serve.pid),
        "broker": psutil.Process(bench.broker_pid),
    }  # fmt: skip
    bench.say(f"{clusters} clusters: {_SETTLE_SECONDS + seconds:.0f} s in which nothing happens")
    time.sleep(_SETTLE_SECONDS)
    before = _used(processes, folder)
    began = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    after = _used(processes, folder)
    for part in (watch, worker, serve):
        part.check()
    shares = {name: 100 * (after.cpu[name] - before.cpu[name]) / elapsed for name in processes}
    bytes_a_day = {name: (after.topics[name] - before.topics[name]) * DAY / elapsed for name in after.topics}
    tables = [bytes_a_day[topic_of(table)] for table in TABLES]
    cpu_goal, disk_goal = (at_most(10), at_most(1024)) if clusters == MANY else (None, None)
    yield Figure(f"idle, {clusters} clusters: CPU of all processes", sum(shares.values()), "% of a core", goal=cpu_goal,
                 note=", ".join(f"{name} {share:.1f}" for name, share in shares.items()) + ".")  # fmt: skip
    yield Figure(f"idle, {clusters} clusters: bytes a day", sum(bytes_a_day.values()) / 2**20, "MiB", goal=disk_goal,
                 note=f"Journal {bytes_a_day[JOURNAL] / 2**20:.0f}, each changelog {max(tables) / 2**20:.0f} at most; "
                 f"over {elapsed:.0f} s, one partition leader.")  # fmt: skip


def _used(processes: dict[str, psutil.Process], folder: Path) -> _Used:
    cpu = {}
    for name, process in processes.items():
        times = process.cpu_times()
        cpu[name] = times.user + times.system
    topics: Counter[str] = Counter()
    for path in (folder / "kafka").rglob("*.log"):
        topics[path.parent.name.rpartition("-")[0]] += path.stat().st_size
    return _Used(cpu, topics)
