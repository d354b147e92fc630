"""The parts that chaos is made of: a control plane, a broker, and our processes, started again when they end."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from streams.kafka.admin import ensure
from streams.local.kafka.broker import EmbeddedKafka
from streams.wire.records import TABLES
from tests.support.bound_process import start_bound
from tests.support.controlplane import ControlPlane
from tests.support.controlplane.processes import BINARIES

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 6
CLUSTER = "chaos"
LEASE_SECONDS = 5
STALE_SECONDS = 12
SHOP = ("shop", "churn-a")
"""What the subscriber with a filter wants."""

FOLDING = "folding"
"""The subscriber that folds the journal. It is not killed: it would begin with a snapshot."""


class Part:
    """One of our processes. While `held`, a fault keeps it down or stopped and nobody starts it again."""

    def __init__(self, name: str, kind: str, command: list[str]) -> None:
        self.name = name
        self.kind = kind
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.held = False

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0


def quiet_port() -> int:
    """A free port that no outgoing connection is given: a client that keeps dialling a dead server's port in that
    range can end up connected to itself, and the server can't come back."""
    for port in range(20000 + os.getpid() % 5000, 32000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port between 20000 and 32000")


class Cluster:
    """Everything that runs, as a context manager. `watcher_options` and the like are fixed: a run is a run."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="facets-chaos-"))
        self.plane = ControlPlane(CLUSTER)
        self.plane_lock = threading.RLock()
        self.broker = EmbeddedKafka(self.folder / "broker", port=quiet_port(), progress=lambda *_: None)
        self.parts: dict[str, Part] = {}
        self.own_ends: Counter[str] = Counter()
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    # ---- start and end ---------------------------------------------------------------------------------

    def __enter__(self) -> "Cluster":
        try:
            self.plane.start()
            self.broker.start()
            self.bootstrap = self.broker.bootstrap_servers
            ensure(self.bootstrap, partitions=PARTITIONS)
            self._define()
            for part in self.parts.values():
                self._start(part)
            self._supervisor.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything, ours first; what does not end in order is killed."""
        self._ending.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        with self._lock:
            for part in self.parts.values():
                if part.process is not None:
                    self._send(part.process, signal.SIGCONT)
                    self._send(part.process, signal.SIGTERM)
            deadline = time.monotonic() + 15
            for part in self.parts.values():
                if part.process is not None:
                    try:
                        part.process.wait(max(0.0, deadline - time.monotonic()))
                    except subprocess.TimeoutExpired:
                        part.process.kill()
                        part.process.wait()
        with self.plane_lock:
            self.plane.stop()
        self.broker.stop()

    def _define(self) -> None:
        facets = [sys.executable, "-m", "streams.cli"]
        for name in ("watch-a", "watch-b"):
            self._add(name, "watcher", [
                *facets, "watch", "--bootstrap-servers", self.bootstrap, "--kubeconfig", str(self.plane.kubeconfig),
                "--cluster", CLUSTER, "--lease", "--lease-duration", str(LEASE_SECONDS),
                "--stale-after", str(STALE_SECONDS),
            ])  # fmt: skip
        for name in ("work-a", "work-b"):
            self._add(name, "worker", [
                *facets, "work", "--bootstrap-servers", self.bootstrap, "--instance", name,
                "--http-port", str(quiet_port() + 1 + len(self.parts)),
            ])  # fmt: skip
        follow = [sys.executable, "-m", "tests.chaos.subscriber", self.bootstrap, str(self.folder)]
        self._add("all", "subscriber", [*follow, "all", ",".join(TABLES)])
        self._add("shop", "subscriber", [*follow, "shop", "backend", ",".join(SHOP)])
        self._add("often", "subscriber", [*follow, "often", ",".join(TABLES)])
        self._add(FOLDING, "subscriber", [*follow, "--fold-journal", FOLDING, ",".join(TABLES)])

    def _add(self, name: str, kind: str, command: list[str]) -> None:
        self.parts[name] = Part(name, kind, command)

    def _start(self, part: Part) -> None:
        with (self.folder / f"{part.name}.log").open("ab") as log:
            part.process = start_bound(
                part.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, start_new_session=True,
                env={**os.environ, "FACETS_DATA_DIR": str(self.folder)},
            )  # fmt: skip

    def _supervise(self) -> None:
        """Start again what ended by itself, as any service manager would, a second later."""
        again: dict[str, float] = {}
        while not self._ending.wait(0.2):
            with self._lock:
                for part in self.parts.values():
                    if part.held or part.process is None or part.process.poll() is None:
                        again.pop(part.name, None)
                    elif part.name not in again:
                        self.own_ends[f"{part.kind} exit {part.process.returncode}"] += 1
                        again[part.name] = time.monotonic() + 1
                    elif time.monotonic() > again[part.name]:
                        self._start(part)
                        del again[part.name]

    # ---- what faults do to it --------------------------------------------------------------------------

    def kill(self, part: Part) -> None:
        """SIGKILL, and keep it down."""
        with self._lock:
            part.held = True
            if part.process is not None:
                self._send(part.process, signal.SIGKILL)
                part.process.wait()

    def stop(self, part: Part) -> None:
        """SIGSTOP: it hangs."""
        with self._lock:
            part.held = True
            if part.process is not None:
                self._send(part.process, signal.SIGSTOP)

    def resume(self, part: Part) -> None:
        """Start what was killed, go on with what was stopped."""
        with self._lock:
            if self._ending.is_set():
                return
            if part.process is None or part.process.poll() is not None:
                self._start(part)
            else:
                self._send(part.process, signal.SIGCONT)
            part.held = False

    @staticmethod
    def _send(process: "subprocess.Popen[bytes]", how: signal.Signals) -> None:
        if process.poll() is None:
            process.send_signal(how)

    def mend_plane(self) -> None:
        """All three components run, and the API server answers."""
        with self.plane_lock:
            for component in BINARIES:
                process = self.plane._running.get(component)
                if process is None or process.poll() is not None:
                    self.plane.kill(component)
                    self.plane._start(component)
            self.plane._await_ready()

    # ---- what is seen of it ----------------------------------------------------------------------------

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def of_kind(self, kind: str) -> list[Part]:
        return [part for part in self.parts.values() if part.kind == kind]

    def leader(self) -> Part | None:
        """The watcher that has opened the highest epoch, by the watchers' own words."""
        best: tuple[int, Part | None] = (0, None)
        for part in self.of_kind("watcher"):
            for opened in re.findall(r"epoch (\d+) opened", self.log(part.name)):
                best = max(best, (int(opened), part), key=lambda each: each[0])
        return best[1]

    def epoch(self) -> int:
        """The highest epoch that a watcher has opened."""
        logs = [self.log(part.name) for part in self.of_kind("watcher")]
        return max((int(found) for log in logs for found in re.findall(r"epoch (\d+) opened", log)), default=0)

    def held_by(self, part: Part) -> list[int]:
        """The partitions that a worker has assigned last, by its own words."""
        found = re.findall(r"assigned partitions \[([\d, ]*)\]", self.log(part.name))
        return [int(each) for each in found[-1].split(",") if each.strip()] if found else []

    def count(self, kind: str, text: str) -> int:
        """How often the logs of these parts say it."""
        return sum(self.log(part.name).count(text) for part in self.of_kind(kind))
