"""Record the demo's input: the list and watch traffic of two real control planes while their Services change.

    KUBEBUILDER_ASSETS="$(bash tests/e2e/control-plane.sh)" .venv/bin/python -m tests.support.controlplane.record

writes streams/local/recordings/{east,west}.jsonl.xz: a header line, then what a watcher was served. Nothing in it is
made up, and nothing is left out but metadata.managedFields, which are most of the bytes and none of the meaning.
"""

import argparse
import lzma
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from tests.support.controlplane.api import RESOURCES, Api
from tests.support.controlplane.demo_churn import populate, steps
from tests.support.controlplane.processes import ControlPlane
from tests.support.controlplane.workload import Workload

FOLDER = Path(__file__).resolve().parents[3] / "streams" / "local" / "recordings"
# The server ends a watch after timeoutSeconds; it sends a last bookmark two seconds before.
TAIL_SECONDS = 3
CLUSTERS = {
    "east": {"zones": ("east-1a", "east-1b", "east-1c"), "subnet": 0, "prefix": "east-"},
    "west": {"zones": ("west-2a", "west-2b"), "subnet": 64, "prefix": "west-"},
}


class Recording:
    """One cluster's traffic. Offsets are in ms since `begin`, taken when a line was received."""

    def __init__(self, api: Api, seconds: int) -> None:
        self._api = api
        self._seconds = seconds
        self._lock = threading.Lock()
        self._lists: dict[str, Any] = {}
        self._events: list[tuple[int, str, Any]] = []
        self._zero = 0.0

    def begin(self, pool: ThreadPoolExecutor) -> list[Any]:
        """List every resource, then watch each from its list's version; the futures end with the watches."""
        for path in RESOURCES.values():
            self._lists[path] = self._api.get(path)
        self._zero = time.monotonic()
        return [pool.submit(self._watch, path) for path in RESOURCES.values()]

    def _watch(self, path: str) -> None:
        query = {
            "resourceVersion": self._lists[path]["metadata"]["resourceVersion"],
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._seconds),
        }
        with self._api.stream(path, **query) as lines:
            for line in lines:
                offset = int((time.monotonic() - self._zero) * 1000)
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    raise RuntimeError(f"The watch of {path} failed: {event['object']}")
                with self._lock:
                    self._events.append((offset, path, event))

    def counts(self) -> dict[str, int]:
        """Events by type."""
        found: dict[str, int] = {}
        for _, _, event in self._events:
            found[event["type"]] = found.get(event["type"], 0) + 1
        return found

    def lines(self, header: dict[str, Any]) -> list[bytes]:
        """The file's lines, events in the order of their offsets and, within one resource, as they were served."""
        result = [header]
        for path, listed in self._lists.items():
            for item in listed["items"]:
                item["metadata"].pop("managedFields", None)
            result.append({"path": path, "list": listed})
        for offset, path, event in sorted(self._events, key=lambda each: each[0]):
            event["object"]["metadata"].pop("managedFields", None)
            result.append({"path": path, "ms": offset, "event": event})
        return [orjson.dumps(each) + b"\n" for each in result]


def churn(steps: list[Callable[[], None]], until: float) -> int:
    """Take the steps in turn, each to its end, until the clock (time.monotonic) says so. Returns how many."""
    taken = 0
    while time.monotonic() < until:
        steps[taken % len(steps)]()
        taken += 1
    return taken


def record(cluster: str, seconds: int, folder: Path) -> str:
    """Record one cluster into a file; returns a line on what was seen."""
    with ControlPlane(cluster) as plane, ThreadPoolExecutor() as pool:
        workload = Workload(plane.api, **CLUSTERS[cluster])  # type: ignore[arg-type]
        workload.add_nodes(2)
        populate(workload, dual_stack=cluster == "east")
        recording = Recording(plane.api_as("reader"), seconds + TAIL_SECONDS)
        recorded = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        watches = recording.begin(pool)
        taken = churn(steps(workload), time.monotonic() + seconds)
        for watch in watches:
            watch.result()
        version = plane.api.get("/version")["gitVersion"].removeprefix("v")
        header = {
            "format": 1,
            "cluster": cluster,
            "kubernetes": version,
            "recorded": recorded,
            "duration_ms": (seconds + TAIL_SECONDS) * 1000,
            "resources": [{"path": path, "kind": kind} for kind, path in RESOURCES.items()],
            "stripped": ["metadata.managedFields"],
        }
        lines = recording.lines(header)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{cluster}.jsonl.xz"
    path.write_bytes(lzma.compress(b"".join(lines), preset=9 | lzma.PRESET_EXTREME))
    return f"{path}: {path.stat().st_size} bytes, {taken} steps, events {recording.counts()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=75, help="how long the clusters change (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (default: %(default)s)")
    options = parser.parse_args()
    with ThreadPoolExecutor() as pool:
        for line in pool.map(lambda cluster: record(cluster, options.seconds, options.folder), CLUSTERS):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
