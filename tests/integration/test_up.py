"""`facets up` for real: what it starts ends with it, what ends under it is started again, and it runs once."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil

from streams.kafka.journal_reader import JournalReader
from streams.local.kafka.broker import EmbeddedKafka
from streams.local.kafka.state import BrokerFiles
from streams.runtime.parent_death import bound
from streams.subscription.client import Batch, Subscriber
from tests.support.brokers import stop_running

DEADLINE = 120
FACETS = [sys.executable, "-m", "streams.cli"]
ANY_PORTS = ["--web-port", "0", "--xds-port", "0", "--http-port", "0", "--watch-port", "0"]
DEMO = ("--demo", "--speed", "3")


class Up:
    """`facets up --demo` on a data folder of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.environment = {**os.environ, "FACETS_DATA_DIR": str(folder)}
        self.log, self.rows = folder / "up.log", folder / "up.rows"
        with self.log.open("wb") as log, self.rows.open("wb") as rows:
            self.process = subprocess.Popen(
                bound([*FACETS, "up", *(arguments or DEMO), *ANY_PORTS]), stdout=rows, stderr=log,
                env=self.environment, start_new_session=True,
            )  # fmt: skip

    def await_that(self, what: str, condition: Callable[[], bool]) -> None:
        limit = time.monotonic() + DEADLINE
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log.read_text()}"
            assert time.monotonic() < limit, f"not within {DEADLINE} s: {what}\n{self.log.read_text()}"
            time.sleep(0.05)

    def note(self) -> Any:
        """What it wrote down of itself."""
        return orjson.loads((self.folder / "up.json").read_bytes())

    def children(self) -> dict[str, psutil.Process]:
        return {name: psutil.Process(pid) for name, (pid, _) in self.note()["children"].items()}

    async def await_change(self) -> None:
        """Until a cluster changes from now on."""
        async with asyncio.timeout(DEADLINE), Subscriber(self.note()["details"]["Kafka"]) as subscriber:
            async for item in subscriber:
                if isinstance(item, Batch):
                    return

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*FACETS, *command], env=self.environment, capture_output=True, text=True, check=False, timeout=DEADLINE
        )


@contextmanager
def running(folder: Path) -> Iterator[Up]:
    folder.mkdir()
    up = Up(folder)
    try:
        up.await_that("a change is printed", lambda: up.rows.stat().st_size > 0)
        yield up
    finally:
        up.process.kill()
        up.process.wait()
        stop_running(folder)


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def test_it_runs_once_survives_its_broker_and_stops_in_time(tmp_path: Path) -> None:
    with running(tmp_path / "data") as up:
        second = up.run("up", "--demo")
        assert second.returncode == 69
        assert f"`facets up` already runs here (process {up.process.pid}, since " in second.stderr
        assert "FACETS_DATA_DIR=FOLDER facets up" in second.stderr

        worker = up.run("work", "--instance", "up", "--http-port", free_port())
        assert worker.returncode == 75
        assert f"a worker named up already runs here (process {up.children()['worker'].pid}, since " in worker.stderr

        broker = up.children()["broker"]
        broker.kill()
        up.await_that("the broker runs again", lambda: "the embedded broker runs again at" in up.log.read_text())
        assert f"the embedded Kafka broker (process {broker.pid}) ended by itself; starting" in up.log.read_text()
        asyncio.run(up.await_change())

        children = up.children()
        assert children["broker"] != broker
        began = time.monotonic()
        up.process.send_signal(signal.SIGHUP)
        assert up.process.wait(DEADLINE) == 0, up.log.read_text()
        assert time.monotonic() - began < 15
        for line in ("SIGHUP: stopping", "Stopping: watcher, worker, server, subscriber, broker, index"):
            assert line in up.log.read_text()
        assert not any(each.is_running() for each in children.values())
        assert_ended(up.folder)


def assert_ended(folder: Path) -> None:
    """The demo's clusters have ended, as the journal says it."""
    with EmbeddedKafka(folder) as broker:
        reader = JournalReader(broker.bootstrap_servers)
        try:
            assert all(reader.standing(cluster).closed for cluster in ("east", "west"))
        finally:
            asyncio.run(reader.close())


def test_nothing_outlives_it_when_it_is_killed(tmp_path: Path) -> None:
    with running(tmp_path / "data") as up:
        children = up.children()
        assert set(children) == {"broker", "worker", "server", "index"}
        up.process.kill()
        up.process.wait()
        psutil.wait_procs(children.values(), timeout=60)
        assert not any(each.is_running() for each in children.values())
        assert "shut down completed" in BrokerFiles.under(up.folder).log_file.read_text()
        assert_forgotten_by_the_next(up.folder)


def assert_forgotten_by_the_next(folder: Path) -> None:
    """A start that is no demo finds the clusters of one that was killed, and says that it ends them."""
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        f"{{apiVersion: v1, kind: Config, current-context: mine, clusters: [{{name: mine, cluster: {{server: "
        f"'http://127.0.0.1:{free_port()}'}}}}], contexts: [{{name: mine, context: {{cluster: mine, user: me}}}}], "
        "users: [{name: me, user: {}}]}"
    )
    up = Up(folder, "--kubeconfig", str(kubeconfig))
    try:
        up.await_that("they are forgotten", lambda: "its clusters east, west are forgotten" in up.log.read_text())
        up.await_that("the tables say so", lambda: "ended" in up.run("clusters", "--all").stdout)
        up.await_that("nothing of them is left", lambda: not up.run("clusters", "-o", "name").stdout)
        refused = up.run("reset", "--yes")
        assert (refused.returncode, f"process {up.process.pid}" in refused.stderr) == (1, True)
    finally:
        up.process.terminate()
        up.process.wait(DEADLINE)
    assert up.run("reset", "--yes").returncode == 0
    assert not (folder / "kafka").exists()
