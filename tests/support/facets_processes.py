"""`facets` processes on a broker, with a log and a data folder of their own."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.bound_process import start_bound

DEADLINE = 60


class Facets:
    """`facets` processes with their logs."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.folder = folder
        self.bootstrap = bootstrap
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = start_bound(
                [sys.executable, "-m", "streams.cli", *arguments, "--bootstrap-servers", self.bootstrap],
                stdout=log,
                stderr=log,
                env={**os.environ, "FACETS_DATA_DIR": str(self.folder)},
            )

    def end(self, name: str, how: signal.Signals) -> int:
        process = self.running.pop(name)
        process.send_signal(how)
        return process.wait(DEADLINE)

    def logs(self) -> str:
        return "\n".join(f"== {path.name}\n{path.read_text()[-4000:]}" for path in sorted(self.folder.glob("*.log")))


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
