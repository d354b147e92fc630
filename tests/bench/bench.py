"""What a benchmark is given: where it runs, how much it is to do, and a way to say how far it is."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NamedTuple, Self

from streams.kafka.admin import ensure
from streams.local.kafka.broker import EmbeddedKafka
from tests.bench.figures import Figure
from tests.support.bound_process import start_bound
from tests.support.controlplane import ControlPlane

ROOT = Path(__file__).resolve().parents[2]
SHARED = "The load, the broker and the API server run on the same cores as what is measured."


class Benchmark(NamedTuple):
    """A module `tests.bench.<module>` with `run(bench) -> Iterator[Figure]`. It yields a figure as soon as it has
    it: what was yielded before a failure counts."""

    name: str
    module: str
    about: str

    def run(self, bench: "Bench") -> Iterator[Figure]:
        """The figures, as they come."""
        module: ModuleType = import_module(f"tests.bench.{self.module}")
        yield from module.run(bench)


class Bench:
    """One benchmark's run: a folder that is gone afterwards, and parts that are ended whatever happens.

    `quick` asks for less of everything; `out` is the folder for plots; `say` shows what is under way.
    """

    def __init__(self, name: str, folder: Path, out: Path, *, quick: bool, say: Callable[[str], None]) -> None:
        self.name = name
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.out = out
        self.quick = quick
        self.say = say
        self.broker_pid = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def kafka(self, partitions: int) -> str:
        """Start an empty broker with our topics; its address."""
        self.say("starting Kafka")
        broker = self._stack.enter_context(EmbeddedKafka(self.folder / "kafka", progress=lambda *_: None))
        ensure(broker.bootstrap_servers, partitions=partitions)
        self.broker_pid = broker.pid
        return broker.bootstrap_servers

    def plane(self) -> ControlPlane:
        """Start a control plane."""
        self.say("starting a Kubernetes control plane")
        return self._stack.enter_context(ControlPlane("bench"))

    def program(self, name: str, *command: str, environment: Mapping[str, str] | None = None) -> "Part":
        """Start a program that is ended with the benchmark; `environment` adds to this process's."""
        part = Part(name, list(command), self.folder, environment)
        self._stack.callback(part.end)
        return part

    def start(self, name: str, *command: str) -> "Part":
        """Start a process of Python, by module (`-m` and its name first)."""
        return self.program(name, sys.executable, *command)

    def facets(self, name: str, *arguments: str) -> "Part":
        """Start a `facets` command as users do."""
        return self.start(name, "-m", "streams.cli", *arguments)

    def pipeline(self, bootstrap: str, plane: ControlPlane) -> None:
        """Start a worker and the control plane's watcher; returns when all objects are in the journal."""
        self.say("starting the worker and the watcher")
        self.worker(bootstrap)
        watcher = self.facets("watcher", "-v", "watch", "--bootstrap-servers", bootstrap,
                              "--kubeconfig", str(plane.kubeconfig), "--cluster", "east")  # fmt: skip
        watcher.says("objects are in the journal")

    def worker(self, bootstrap: str) -> "Part":
        """Start a worker."""
        return self.facets("worker", "work", "--bootstrap-servers", bootstrap, "--http-port", str(free_port()),
                           "--instance", "bench", "--data-dir", str(self.folder / "data"))  # fmt: skip


class Part:
    """A process with a log."""

    def __init__(
        self, name: str, command: list[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        # What one of the same name said before is not this one's.
        self._begin = len(self.text()) if self.log.exists() else 0
        with self.log.open("ab") as log:
            # Its own session: Ctrl-C is for the benchmark, which ends its parts in order.
            self.process = start_bound(
                command,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def check(self) -> None:
        """Raise if it has ended, with its last words."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {self.text()[-3000:]}")

    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")

    def says(self, text: str, seconds: float = 120, after: int = 0) -> None:
        """Wait until its log says so, from a position on. Raises TimeoutError, and RuntimeError if it ends."""
        begin = max(after, self._begin)
        self.until(lambda: text in self.text()[begin:], f"it said {text!r}", seconds)

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 120) -> None:
        """Wait until something holds. Raises TimeoutError, and RuntimeError if the process ends before."""
        deadline = time.monotonic() + seconds
        while not holds():
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: not within {seconds:g} s that {what}: {self.text()[-3000:]}")
            time.sleep(0.02)

    def finish(self, seconds: float = 600) -> None:
        """Wait for its end. Raises RuntimeError unless it ended well."""
        code = self.process.wait(seconds)
        if code:
            raise RuntimeError(f"{self.name} ended with {code}: {self.text()[-3000:]}")

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End it in order, and with force after a while."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
