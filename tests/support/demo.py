"""`facets up --demo` as a process: two recorded clusters, one of which goes and comes back."""

import json
import os
import re
import signal
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from tests.support.bound_process import start_bound

DEADLINE = 120
_PORTS = ("--web-port", "0", "--xds-port", "0", "--http-port", "0", "--watch-port", "0")


class Demo:
    """The demo, on a data folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "up.log"
        self.environment = {**os.environ, "FACETS_DATA_DIR": str(folder)}
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "streams.cli", "up", "--demo", *_PORTS]
            self._process = start_bound(command, stdout=log, stderr=log, env=self.environment, start_new_session=True)
        self._await_ready()

    @property
    def url(self) -> str:
        """The server's HTTP address."""
        return str(self.note()["details"]["HTTP"])

    @property
    def xds(self) -> str:
        """The server's address for routers."""
        found = re.search(r"xDS at ([\d.]+:\d+)", self.log.read_text(errors="replace"))
        assert found
        return found[1]

    def note(self) -> Any:
        """What it wrote down of itself."""
        return json.loads((self.folder / "up.json").read_bytes())

    def get(self, path: str) -> Any:
        """A JSON answer of the server."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=DEADLINE) as answer:
            return json.load(answer)

    def end_server(self) -> None:
        """Stop the server; `up` starts it again."""
        pid, _ = self.note()["children"]["server"]
        server = psutil.Process(pid)
        server.send_signal(signal.SIGTERM)
        server.wait(DEADLINE)

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()

    def _await_ready(self) -> None:
        limit = time.monotonic() + DEADLINE
        while True:
            assert self._process.poll() is None, self.log.read_text(errors="replace")
            assert time.monotonic() < limit, self.log.read_text(errors="replace")
            try:
                if self.get("/readyz")["ready"] and len(self.get("/v1/facets/backend")["items"]) > 20:
                    return
            except (OSError, KeyError, ValueError):
                pass
            time.sleep(0.1)
