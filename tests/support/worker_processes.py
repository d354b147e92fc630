"""Workers as processes, and what they have sealed."""

import json
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.wire.records import JOURNAL, TABLES, topic_of
from tests.integration.journal import PARTITIONS, read_topic, sealed_to
from tests.support.bound_process import start_bound

DEADLINE = 60


class Worker:
    """A worker process, with the address of its views."""

    def __init__(
        self, bootstrap: str, folder: Path, instance: str, program: tuple[str, ...] = ("-m", "streams.cli")
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = folder / f"{instance}.log"
        with self.log.open("ab") as log:
            self.process = start_bound(
                [
                    *(sys.executable, *program, "work", "--bootstrap-servers", bootstrap),
                    *("--http-port", str(self.port), "--instance", instance, "--data-dir", str(folder)),
                ],
                stdout=log,
                stderr=log,
            )

    def get(self, path: str) -> Any:
        """An answer of the views, None while there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    def kill(self, how: signal.Signals = signal.SIGKILL) -> int:
        self.process.send_signal(how)
        return self.process.wait(DEADLINE)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[Worker]]:
    running: list[Worker] = []
    yield running
    for worker in running:
        if worker.process.poll() is None:
            worker.kill()


def await_sealed(bootstrap: str, workers: list[Worker]) -> None:
    """Wait until the live workers have folded all of the journal."""
    ends = dict.fromkeys(range(PARTITIONS), 0)
    for record in read_topic(bootstrap, JOURNAL):
        ends[record.partition] = record.offset + 1
    limit = time.monotonic() + DEADLINE
    while time.monotonic() < limit:
        reached: dict[int, int] = {}
        for worker in workers:
            status = worker.get("/v1/status") if worker.process.poll() is None else None
            for partition, at in (status or {"partitions": {}})["partitions"].items():
                reached[int(partition)] = max(reached.get(int(partition), 0), at["nextOffset"] or 0)
        # What is folded is not yet written.
        if reached == ends and all(sealed_to(bootstrap, topic_of(table)) == ends for table in TABLES):
            return
        time.sleep(0.05)
    raise AssertionError(f"not folded within {DEADLINE} s: {reached} of {ends}\n{workers[-1].log.read_text()}")
