"""A real Apache Kafka for one machine: one KRaft node on loopback, with its data folder.

There is one broker for a data folder. Every process that uses it has a lease (a locked file, which the kernel frees
even if the process is killed); the last one to stop ends the broker, and `broker_keeper` ends it if none is left to do
so. A broker that outlives even its keeper is found by the next start. It listens on 127.0.0.1 only, without
authentication: any user of this machine can reach it.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.local import leases
from streams.local.kafka import keeper as broker_keeper
from streams.local.kafka.config import HOST, Ports, java_command, log4j_config, new_cluster_id, server_properties
from streams.local.kafka.jars import KAFKA_VERSION, Cancelled, JarsUnavailableError, ensure_jars
from streams.local.kafka.java import JavaNotFoundError, find_java
from streams.local.kafka.state import (
    BrokerFiles,
    BrokerState,
    choose_ports,
    describe,
    exclusive,
    find_process,
    port_is_free,
    size_of,
    tail,
)
from streams.runtime import folders, processes
from streams.runtime.progress import ProgressReport, TerminalProgress

_START_SECONDS = 120.0
_POLL_SECONDS = 0.1

_log = logging.getLogger(__name__)

#: Keepers of brokers that are left to other users: referenced, so that Python does not warn of a lost child.
_orphaned_keepers: list[processes.Child] = []

_KEEPER_SECONDS = 2.0
"""How long the keeper has to end after its broker."""


class KafkaUnavailable(FacetsError):
    """The embedded broker can't be started or reached."""

    exit_code = ExitCode.UNAVAILABLE


class EmbeddedKafka:
    """The broker of one data folder, as a context manager (plain or async) or by ``start`` and ``stop``.

    Args:
        data_dir: the folder for lasting data; ``FACETS_DATA_DIR`` or the platform's folder when not given.
        cache_dir: where Kafka's jars are kept; ``FACETS_CACHE_DIR`` or the platform's folder when not given.
        port: the clients' port on 127.0.0.1; when not given, that of the last run, or a free one.
        heap_mib: the JVM's maximum heap, in MiB.
        progress: called with each step and its fraction done; when not given, steps are shown on stderr.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        cache_dir: Path | None = None,
        port: int | None = None,
        heap_mib: int = 512,
        progress: ProgressReport | None = None,
    ) -> None:
        self._files = BrokerFiles.under(data_dir or folders.data_dir())
        self._cache_dir = cache_dir or folders.cache_dir()
        self._port = port
        self._heap_mib = heap_mib
        self._terminal = TerminalProgress() if progress is None else None
        self._progress: ProgressReport = progress or self._terminal or TerminalProgress()
        self._abort = threading.Event()
        self._spawning = threading.Lock()
        self._abandoned = False
        self._state: BrokerState | None = None
        self._keeper: processes.Child | None = None
        self._lease: FileLock | None = None
        self._log_start = 0

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` for Kafka clients. Raises RuntimeError before ``start``."""
        return f"{HOST}:{self._started.ports.broker}"

    @property
    def pid(self) -> int:
        """The JVM's process id. Raises RuntimeError before ``start``."""
        return self._started.pid

    @property
    def log_file(self) -> Path:
        """The broker's own log."""
        return self._files.log_file

    @property
    def _started(self) -> BrokerState:
        if self._state is None:
            raise RuntimeError("the embedded broker is not started")
        return self._state

    def start(self) -> None:
        """Starts the broker, or joins the one that already runs on this data folder; returns when it answers.

        The first start fetches Kafka (44 MB); later ones take about three seconds.

        Raises:
            KafkaUnavailable: no Java, no network for the first start, the port is taken, the broker ended or did not
                answer within two minutes, a folder can't be written.
        """
        if self._state is not None:
            return
        self._abort.clear()
        try:
            self._files.make()
            with self._exclusive():
                try:
                    state = self._join() or self._launch()
                    self._lease = leases.lease(self._files.users_dir, uuid.uuid4().hex)
                    self._lease.acquire(timeout=0)
                    self._state = state
                except BaseException:
                    self._abandon()
                    raise
        except (JavaNotFoundError, JarsUnavailableError) as error:
            raise KafkaUnavailable(str(error), error.remedy) from error
        except OSError as error:
            raise KafkaUnavailable(
                f"the data folder {self._files.root} can't be used: {error}",
                "free space, or name another with FACETS_DATA_DIR",
            ) from error
        finally:
            if self._terminal is not None:
                self._terminal.close()

    def restart(self) -> None:
        """Starts a broker that ended by itself again, at the same port. Raises KafkaUnavailable."""
        if self._state is not None:
            self._port = self._state.ports.broker
            with self._exclusive():
                self._give_up_lease()
            self._reap_keeper()
            self._state = None
        self.start()

    def stop(self, grace: float = processes.GRACE_SECONDS) -> None:
        """Releases the broker; its last user ends it: SIGTERM, and SIGKILL if it still runs after ``grace`` seconds."""
        if self._state is None:
            return
        with self._exclusive():
            self._give_up_lease()
            if leases.holders(self._files.users_dir):
                self._leave_to_others()
            # If it has crashed, its process id may have been reused.
            elif self.is_running():
                processes.end(self._state.pid, grace=grace)
        self._reap_keeper()
        self._state = None

    def kill(self) -> None:
        """Ends the broker with SIGKILL, like a crash, whoever else uses it. For tests of failure."""
        pid = self._started.pid
        if self.is_running():
            os.kill(pid, signal.SIGKILL)
        processes.wait_for_exit(pid, None, processes.GRACE_SECONDS)
        self._reap_keeper()
        self._give_up_lease()
        self._state = None

    def is_running(self) -> bool:
        """Whether the broker that was started or joined still runs."""
        if self._state is None:
            return False
        process = find_process(self._files)
        return process is not None and process.pid == self._state.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A thread can't be cancelled: tell it to end, and stop what it has started.
            self._abort.set()
            with contextlib.suppress(Exception):
                await starting
            self._abort.clear()
            await asyncio.to_thread(self.stop)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopping = asyncio.ensure_future(asyncio.to_thread(self.stop))
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await stopping
            raise

    def _exclusive(self) -> contextlib.AbstractContextManager[None]:
        return exclusive(self._files, self._progress, self._abort.is_set)

    def _join(self) -> BrokerState | None:
        """The broker that already runs on this folder, if one does."""
        process = find_process(self._files)
        if process is None:
            return None
        state = self._files.read_state()
        if state is None or state.pid != process.pid:
            # Its owner was killed before it could write its note.
            _log.warning(
                "A broker that nothing is known of (pid %d) holds %s. It is ended.", process.pid, self._files.root
            )
            processes.end(process.pid)
            return None
        if self._port is not None and state.ports.broker != self._port:
            raise KafkaUnavailable(
                f"the broker of {self._files.root} already runs on port {state.ports.broker}, not on {self._port}",
                "leave the port out to use it, or stop it first",
            )
        try:
            self._await_answer(state)
        except KafkaUnavailable as error:
            _log.warning("%s; it is ended and started anew", error)
            processes.end(process.pid)
            return None
        if not leases.holders(self._files.users_dir):
            _log.warning("The broker of an earlier run (pid %d) still ran, and is used again.", state.pid)
        return state

    def _launch(self) -> BrokerState:
        java = find_java().path
        jars = ensure_jars(self._cache_dir, self._progress, cancelled=self._abort.is_set)
        files = self._files
        files.clear_temporary()
        files.log4j_file.write_text(log4j_config(files.log_file), encoding="utf-8")

        def command(main: str) -> list[str]:
            return java_command(
                java,
                jars,
                heap_mib=self._heap_mib,
                log_dir=files.log_dir,
                tmp_dir=files.tmp_dir,
                log4j_file=files.log4j_file,
                main=main,
            )

        if not files.is_formatted():
            self._format(command("kafka.tools.StorageTool"))
        remembered = files.read_state()
        for last_try in (False, True):
            if self._port is not None and not port_is_free(self._port):
                raise KafkaUnavailable(
                    f"port {self._port} on {HOST} is taken by another program",
                    "name another port, or leave it out to have a free one chosen",
                )
            ports = choose_ports(self._port, remembered.ports if remembered and not last_try else None)
            files.properties_file.write_text(server_properties(ports, files.data), encoding="utf-8")
            self._progress(
                f"Starting Apache Kafka {KAFKA_VERSION} on {HOST}:{ports.broker} (log: {self.log_file})", None
            )
            try:
                return self._run([*command("kafka.Kafka"), str(files.properties_file)], ports)
            except KafkaUnavailable as error:
                self._abandon()
                # Another process took a port between our check and the broker's start.
                if last_try or self._port is not None or "Address already in use" not in str(error):
                    raise
        raise AssertionError("unreachable")

    def _run(self, command: list[str], ports: Ports) -> BrokerState:
        files = self._files
        self._log_start = size_of(self.log_file)

        self._abandoned = False

        order = broker_keeper.Order(
            command, str(files.root), str(files.lock_file), str(files.users_dir), processes.GRACE_SECONDS
        )

        def spawn() -> int | None:
            with self._spawning, files.console_file.open("wb") as console:
                if self._abandoned:
                    return None
                self._keeper, pid = broker_keeper.start(order, console.fileno())
                return pid

        # In a thread, as KeyboardInterrupt is raised in the main thread only: so every JVM that runs is known here. The
        # interrupt may come before the thread has begun, so the lock decides whether it still starts one.
        with ThreadPoolExecutor(1) as pool:
            pid = pool.submit(spawn).result()
        if pid is None:
            raise self._failure("could not be started")
        state = BrokerState(pid=pid, ports=ports)
        files.write_state(state)
        self._await_answer(state)
        return state

    def _format(self, tool: list[str]) -> None:
        """Creates the KRaft storage atomically: an interrupted format leaves none."""
        files = self._files
        shutil.rmtree(files.unfinished, ignore_errors=True)
        files.properties_file.write_text(server_properties(Ports(1, 2), files.unfinished), encoding="utf-8")
        result = subprocess.run(
            [*tool, "format", "--cluster-id", new_cluster_id(), "--config", str(files.properties_file)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        if result.returncode != 0:
            raise KafkaUnavailable(
                f"Kafka could not format {files.data}: {(result.stderr or result.stdout).strip()}",
                "free space, or name another folder with FACETS_DATA_DIR",
            )
        os.replace(files.unfinished, files.data)

    def _await_answer(self, state: BrokerState) -> None:
        """Returns when the broker of this very folder answers a DescribeCluster request."""
        expected = self._files.cluster_id()
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if processes.wait_for_exit(state.pid, None, 0):
                raise self._failure("ended while it started")
            if describe(state.ports.broker) == expected:
                return
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer within {_START_SECONDS:.0f} seconds")
            if self._abort.wait(_POLL_SECONDS):
                raise Cancelled

    def _failure(self, problem: str) -> KafkaUnavailable:
        output = tail(self._files.console_file, 20) + tail(self.log_file, 20, self._log_start)
        lines = "\n".join(f"  {line}" for line in output[-20:])
        return KafkaUnavailable(
            f"the embedded Kafka broker {problem}; its last lines:\n{lines}\nThe whole log: {self.log_file}",
            f"if its data is damaged, move {self._files.root} away (the journal in it is lost with it) and start again",
        )

    def _abandon(self) -> None:
        """Undoes a start that failed or was interrupted."""
        with self._spawning:
            self._abandoned = True
        if self._keeper is not None:
            # It passes the signal on to the broker, and ends when that has ended.
            processes.end(self._keeper.pid, self._keeper)
            self._reap_keeper()
        self._give_up_lease()

    def _reap_keeper(self) -> None:
        """Waits for the keeper of a broker that has ended, or ends it."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        if keeper.stdin is not None:
            keeper.stdin.close()
        if not processes.wait_for_exit(keeper.pid, keeper, _KEEPER_SECONDS):
            processes.end(keeper.pid, keeper, _KEEPER_SECONDS)

    def _leave_to_others(self) -> None:
        """Lets the keeper watch the other users' leases."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            if keeper.stdin is not None:
                keeper.stdin.close()
            _orphaned_keepers.append(keeper)

    def _give_up_lease(self) -> None:
        if self._lease is not None:
            self._lease.release()
            Path(self._lease.lock_file).unlink(missing_ok=True)
            self._lease = None


def find_running(data_dir: Path | None = None) -> str | None:
    """``host:port`` of the broker that runs on this data folder and answers; None when there is none."""
    files = BrokerFiles.under(data_dir or folders.data_dir())
    process, state = find_process(files), files.read_state()
    if process is None or state is None or process.pid != state.pid:
        return None
    return f"{HOST}:{state.ports.broker}" if describe(state.ports.broker) == files.cluster_id() else None
