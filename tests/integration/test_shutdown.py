"""Every process that runs for ever stops within 15 s of a signal without its broker, and says what it gave up."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.exit_codes import ExitCode
from streams.local.demo_server import DemoServer
from streams.local.kafka.broker import EmbeddedKafka
from streams.runtime.parent_death import bound
from tests.integration.journal import Churn, clean_topics, publish

PROMISED_SECONDS = 15
DEADLINE = 90


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A broker of the test's own, to take away."""
    with EmbeddedKafka(tmp_path / "broker") as kafka:
        yield kafka
        # It can't be asked to end in order any more.
        kafka.kill()


class Process:
    """A `facets` command in a process, with its log."""

    def __init__(self, folder: Path, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.process = process

    @classmethod
    async def start(cls, folder: Path, *command: str) -> "Process":
        with (folder / f"{command[0]}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *bound([sys.executable, "-m", "streams.cli", *command]), stdout=log, stderr=log,
                env={**os.environ, "FACETS_DATA_DIR": str(folder)},
            )  # fmt: skip
        return cls(folder, command[0], process)

    async def says(self, text: str) -> None:
        async with asyncio.timeout(DEADLINE):
            while text not in self.log.read_text():
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.05)

    async def stop(self, how: signal.Signals) -> float:
        """Send the signal; how long it took to end."""
        started = time.monotonic()
        self.process.send_signal(how)
        try:
            async with asyncio.timeout(DEADLINE):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            raise
        return time.monotonic() - started


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_without_a_broker_every_process_stops_in_time(
    broker: EmbeddedKafka, tmp_path: Path, how: signal.Signals
) -> None:
    bootstrap = ("--bootstrap-servers", broker.bootstrap_servers)
    await asyncio.to_thread(clean_topics, broker.bootstrap_servers)
    # So much that the worker has rows under way when the broker goes.
    churn = Churn(seed=1, services=200)
    backlog = [record for _ in range(3000) for record in churn.change()]
    await asyncio.to_thread(publish, broker.bootstrap_servers, [*churn.start(), *backlog])
    async with DemoServer(speed=20) as demo:
        watch, serve = [
            await Process.start(tmp_path, *command, *bootstrap)
            for command in (
                ("watch", "--kubeconfig", str(demo.kubeconfig), "--cluster", "other=east"),
                ("serve", "--xds-port", "0", "--http-port", "0"),
            )
        ]
        await watch.says("objects are in the journal")
        await serve.says("xDS on")
        work = await Process.start(tmp_path, "work", "--http-port", free_port(), *bootstrap)
        await work.says("assigned partitions")
        os.kill(broker.pid, how)
        # Until it is noticed: what is under way then is what is hard to end.
        await watch.says("the journal has not acknowledged a")
        took = await asyncio.gather(work.stop(signal.SIGTERM), watch.stop(signal.SIGINT), serve.stop(signal.SIGHUP))
    for process, seconds in zip((work, watch, serve), took, strict=True):
        log = process.log.read_text()
        print(process.name, seconds, process.process.returncode, log)
        assert seconds < PROMISED_SECONDS, f"{process.name} took {seconds:.0f} s\n{log}"
        assert process.process.returncode in {0, ExitCode.STOPPED_UNFINISHED}, log
        assert "stopping, which takes" in log
        assert (process.process.returncode == ExitCode.STOPPED_UNFINISHED) == ("gave up waiting for" in log), log
        assert "Traceback" not in log
