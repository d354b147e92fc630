"""The embedded broker's files, and how to find its process on this machine."""

import json
import os
import shutil
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from streams.local.kafka.config import HOST, Ports
from streams.local.kafka.jars import Cancelled
from streams.runtime.progress import ProgressReport

_LOCK_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class BrokerState:
    """The broker that was started last: its process id and ports."""

    pid: int
    ports: Ports


@dataclass(frozen=True, slots=True)
class BrokerFiles:
    """The files of one broker, all under ``root``."""

    root: Path

    @classmethod
    def under(cls, data_dir: Path) -> "BrokerFiles":
        # Resolved: the path also identifies a running broker.
        return cls((data_dir / "kafka").resolve())

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def unfinished(self) -> Path:
        return self.root / "data.unfinished"

    @property
    def log_dir(self) -> Path:
        return self.root / "log"

    @property
    def log_file(self) -> Path:
        return self.log_dir / "broker.log"

    @property
    def console_file(self) -> Path:
        """The JVM's own output; truncated at each start."""
        return self.log_dir / "console.log"

    @property
    def tmp_dir(self) -> Path:
        return self.root / "tmp"

    @property
    def users_dir(self) -> Path:
        return self.root / "users"

    @property
    def lock_file(self) -> Path:
        return self.root / "broker.lock"

    @property
    def properties_file(self) -> Path:
        return self.root / "server.properties"

    @property
    def log4j_file(self) -> Path:
        return self.root / "log4j2.properties"

    @property
    def state_file(self) -> Path:
        return self.root / "broker.json"

    def make(self) -> None:
        """Creates the folders, readable by this user only, as they contain clusters' data."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.log_dir, self.tmp_dir, self.users_dir):
            folder.mkdir(exist_ok=True)

    def clear_temporary(self) -> None:
        """Empties the temporary folder. Only while no broker runs."""
        shutil.rmtree(self.tmp_dir, ignore_errors=True)
        self.tmp_dir.mkdir(exist_ok=True)

    def is_formatted(self) -> bool:
        return (self.data / "meta.properties").is_file()

    def cluster_id(self) -> str | None:
        """The KRaft cluster id that the storage was formatted with."""
        try:
            text = (self.data / "meta.properties").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return next((line.partition("=")[2] for line in text.splitlines() if line.startswith("cluster.id=")), None)

    def read_state(self) -> BrokerState | None:
        """The last start's note; None when there is none or it can't be read (a new one is then made)."""
        try:
            note = json.loads(self.state_file.read_text(encoding="utf-8"))
            return BrokerState(int(note["pid"]), Ports(int(note["port"]), int(note["controllerPort"])))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_state(self, state: BrokerState) -> None:
        """Replaces the note atomically."""
        note = {"pid": state.pid, "port": state.ports.broker, "controllerPort": state.ports.controller}
        with tempfile.NamedTemporaryFile("w", dir=self.root, delete=False, encoding="utf-8") as file:
            json.dump(note, file)
        os.replace(file.name, self.state_file)


@contextmanager
def exclusive(files: BrokerFiles, progress: ProgressReport, cancelled: Callable[[], bool]) -> Iterator[None]:
    """Locks the data folder: no other process starts or stops its broker meanwhile.

    Raises:
        TimeoutError: another process has held it for five minutes.
        Cancelled: ``cancelled()`` became true.
    """
    lock = FileLock(files.lock_file)
    deadline = time.monotonic() + _LOCK_SECONDS
    reported = False
    while True:
        try:
            # The lock is polled; short waits keep Ctrl-C prompt.
            lock.acquire(timeout=0.5, poll_interval=0.05)
            break
        except Timeout:
            if cancelled():
                raise Cancelled from None
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process holds {files.lock_file}; end it") from None
            if not reported:
                reported = True
                progress(f"Waiting for another process that starts or stops Kafka in {files.root}", None)
    try:
        yield
    finally:
        lock.release()


def find_process(files: BrokerFiles) -> psutil.Process | None:
    """The JVM that runs the broker of these files, identified by its settings file.

    The noted process id is tried first, then every process: if the starting process was killed before it wrote the
    note, the broker still uses the data.
    """
    state = files.read_state()
    if state is not None:
        try:
            noted = psutil.Process(state.pid)
        except psutil.NoSuchProcess:
            pass
        else:
            if _runs(noted, files):
                return noted
    return next((process for process in psutil.process_iter() if _runs(process, files)), None)


def _runs(process: psutil.Process, files: BrokerFiles) -> bool:
    try:
        command = process.cmdline()
        return command[-2:] == ["kafka.Kafka", str(files.properties_file)] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def describe(port: int) -> str | None:
    """The cluster id of the Kafka broker on this loopback port; None when none answers."""
    try:
        with closing(socket.create_connection((HOST, port), timeout=1)):
            pass
    except OSError:
        return None
    from kafka.admin import KafkaAdminClient  # noqa: PLC0415  (a tenth of a second that finding no broker need not cost)
    from kafka.errors import KafkaError  # noqa: PLC0415

    try:
        with closing(
            KafkaAdminClient(bootstrap_servers=f"{HOST}:{port}", bootstrap_timeout_ms=2000, request_timeout_ms=2000)
        ) as admin:
            answer = admin.describe_cluster()
    except (KafkaError, OSError):
        return None
    cluster_id = answer["cluster_id"]
    return str(cluster_id) if answer["brokers"] else None


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with closing(socket.socket()) as probe:
        # As a JVM's server socket does: closing connections of the last run don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose_ports(broker_port: int | None, remembered: Ports | None) -> Ports:
    """The given port for the broker; else the remembered ports if still free, else free ones."""
    with closing(socket.socket()) as first, closing(socket.socket()) as second:
        # Both sockets stay bound until both ports are chosen, so that they differ.
        first.bind((HOST, 0))
        second.bind((HOST, 0))
        broker, controller = first.getsockname()[1], second.getsockname()[1]
    if remembered is not None and port_is_free(remembered.broker):
        broker = remembered.broker
    if remembered is not None and port_is_free(remembered.controller):
        controller = remembered.controller
    return Ports(broker_port if broker_port is not None else broker, controller)


def size_of(path: Path) -> int:
    """The file's size in bytes; 0 when it doesn't exist."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def tail(path: Path, count: int, start: int = 0) -> list[str]:
    """The last lines of a file after byte ``start``; none when it can't be read."""
    try:
        with path.open("rb") as file:
            # A file that is shorter now has been replaced.
            file.seek(start if start <= size_of(path) else 0)
            return [line.decode(errors="replace").rstrip("\n") for line in deque(file, maxlen=count)]
    except OSError:
        return []
