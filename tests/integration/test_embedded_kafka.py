"""The embedded broker, for real: a JVM on loopback."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from streams.local.kafka import java
from streams.local.kafka.broker import EmbeddedKafka, KafkaUnavailable, find_running
from streams.local.kafka.jars import jars_dir, pinned_jars
from streams.local.kafka.state import BrokerFiles, find_process
from streams.runtime import folders
from tests.support.brokers import stop_running


def silent(_step: str, _fraction: float | None) -> None:
    pass


def has_ended(pid: int) -> bool:
    """Whether a process has: a zombie, too, which its parent reaps when it has time."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def make_topic(servers: str, name: str, **configs: str) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=servers)) as admin:
        admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1, topic_configs=configs)])


def produce(servers: str, topic: str, *values: bytes, **options: object) -> None:
    with closing(KafkaProducer(bootstrap_servers=servers, acks="all", **options)) as producer:
        for future in [producer.send(topic, value) for value in values]:
            future.get(timeout=30)


def consume(servers: str, topic: str, count: int) -> list[bytes]:
    values: list[bytes] = []
    with closing(
        KafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest", consumer_timeout_ms=30_000)
    ) as consumer:
        for record in consumer:
            values.append(record.value)
            if len(values) == count:
                break
    return values


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data folder whose broker, if a test leaves one, is ended."""
    folder = tmp_path / "data"
    yield folder
    stop_running(folder)


@contextmanager
def script(data_dir: Path, body: str) -> Iterator[subprocess.Popen[str]]:
    """Runs a Python program that has ``broker``, in a session of its own as a terminal would."""
    program = (
        f"from pathlib import Path\nfrom streams.local.kafka.broker import EmbeddedKafka\n"
        f"broker = EmbeddedKafka(Path({str(data_dir)!r}))\n" + textwrap.dedent(body)
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            # Else a test that fails would wait for it for ever.
            process.kill()


WAIT_INSIDE = """
import signal
with broker:
    print(broker.pid, broker.bootstrap_servers, flush=True)
    signal.pause()
"""


def test_records_go_in_and_come_out(bootstrap_servers: str) -> None:
    make_topic(bootstrap_servers, "embedded.roundtrip")
    produce(bootstrap_servers, "embedded.roundtrip", b"one", b"two")
    assert consume(bootstrap_servers, "embedded.roundtrip", 2) == [b"one", b"two"]


def test_a_row_of_16_mib_goes_through(bootstrap_servers: str) -> None:
    make_topic(bootstrap_servers, "embedded.big", **{"max.message.bytes": str(17 * 1024 * 1024)})
    row = os.urandom(16 * 1024 * 1024)  # nothing that compression could make small
    produce(bootstrap_servers, "embedded.big", row, max_request_size=17 * 1024 * 1024)
    assert consume(bootstrap_servers, "embedded.big", 1) == [row]


def test_it_listens_on_loopback_only(kafka: EmbeddedKafka) -> None:
    listening = [c for c in psutil.Process(kafka.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {c.laddr.ip.removeprefix("::ffff:") for c in listening} == {"127.0.0.1"}


def test_data_and_port_are_kept_between_runs(data_dir: Path) -> None:
    with EmbeddedKafka(data_dir, progress=silent) as broker:
        first = broker.bootstrap_servers
        make_topic(first, "kept")
        produce(first, "kept", b"still here")
        pid = broker.pid
    assert has_ended(pid)
    assert find_running(data_dir) is None
    with EmbeddedKafka(data_dir, progress=silent) as broker:
        assert broker.bootstrap_servers == first
        assert consume(first, "kept", 1) == [b"still here"]


def test_a_crash_of_the_broker_loses_nothing(data_dir: Path) -> None:
    broker = EmbeddedKafka(data_dir, progress=silent)
    broker.start()
    make_topic(broker.bootstrap_servers, "crash")
    produce(broker.bootstrap_servers, "crash", b"acknowledged")
    broker.kill()
    assert not broker.is_running()
    with broker:
        assert consume(broker.bootstrap_servers, "crash", 1) == [b"acknowledged"]


def test_a_second_user_joins_and_the_last_one_ends_it(data_dir: Path) -> None:
    first, second = EmbeddedKafka(data_dir, progress=silent), EmbeddedKafka(data_dir, progress=silent)
    first.start()
    second.start()
    assert second.pid == first.pid
    first.stop()
    assert second.is_running()
    assert find_running(data_dir) == second.bootstrap_servers
    pid = second.pid
    second.stop()
    assert has_ended(pid)


def test_a_broker_ends_in_order_with_the_process_that_started_it(data_dir: Path) -> None:
    with script(data_dir, WAIT_INSIDE) as owner:
        assert owner.stdout is not None
        broker = psutil.Process(int(owner.stdout.readline().split()[0]))
        owner.kill()
    broker.wait(60)
    assert "shut down completed" in BrokerFiles.under(data_dir).log_file.read_text()


def _wake_ups(pid: int) -> int:
    """How often any thread of a process has slept and gone on."""
    found = [
        re.search(r"voluntary_ctxt_switches:\s*(\d+)", each.read_text())
        for each in Path(f"/proc/{pid}/task").glob("*/status")
    ]
    return sum(int(each[1]) for each in found if each)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_broker_outlives_the_process_that_started_it_while_another_uses_it(data_dir: Path) -> None:
    second = EmbeddedKafka(data_dir, progress=silent)
    with script(data_dir, WAIT_INSIDE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline().split()[0])
        second.start()
        keeper = psutil.Process(owner.pid).children()[0]
        owner.kill()
    # It wakes up only to look for users.
    seen = _wake_ups(keeper.pid)
    while _wake_ups(keeper.pid) < seen + 5:
        time.sleep(0.05)
    assert second.pid == pid
    make_topic(second.bootstrap_servers, "shared")
    second.stop()
    assert has_ended(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the parent-death signal")
def test_a_broker_ends_with_its_keeper_and_is_started_again_at_its_port(data_dir: Path) -> None:
    with EmbeddedKafka(data_dir, progress=silent) as broker:
        servers, process = broker.bootstrap_servers, psutil.Process(broker.pid)
        keeper = process.parent()
        assert keeper is not None
        keeper.kill()
        process.wait(30)
        assert not broker.is_running()
        broker.restart()
        assert broker.pid != process.pid
        assert broker.bootstrap_servers == servers
        make_topic(servers, "restarted")


@contextmanager
def orphan(data_dir: Path) -> Iterator[tuple[int, str]]:
    """A broker that outlived its owner, since its keeper hangs: process id and address."""
    with script(data_dir, WAIT_INSIDE) as owner:
        assert owner.stdout is not None
        pid, servers = owner.stdout.readline().split()
        keeper = psutil.Process(int(pid)).parent()
        assert keeper is not None
        keeper.suspend()
        owner.kill()
    try:
        yield int(pid), servers
    finally:
        keeper.kill()


def test_a_broker_that_outlived_its_owner_is_found_again(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    with orphan(data_dir) as (pid, servers):
        assert find_running(data_dir) == servers
        with EmbeddedKafka(data_dir, progress=silent) as broker:
            assert broker.pid == pid
        assert has_ended(pid)
    assert f"The broker of an earlier run (pid {pid}) still ran, and is used again." in caplog.messages


def test_an_orphan_that_was_never_noted_is_replaced(data_dir: Path) -> None:
    with orphan(data_dir) as (pid, _):
        BrokerFiles.under(data_dir).state_file.unlink()
        with EmbeddedKafka(data_dir, progress=silent) as broker:
            assert broker.pid != pid
            assert find_process(BrokerFiles.under(data_dir)) == psutil.Process(broker.pid)


def test_ctrl_c_ends_the_broker_cleanly(data_dir: Path) -> None:
    with script(data_dir, WAIT_INSIDE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline().split()[0])
        os.killpg(owner.pid, signal.SIGINT)
        _, errors = owner.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert has_ended(pid)
    assert "shut down completed" in BrokerFiles.under(data_dir).log_file.read_text()


@pytest.mark.parametrize(
    "how",
    ["with broker:\n    pass", "import asyncio\nasync def main():\n    async with broker: pass\nasyncio.run(main())"],
)
def test_ctrl_c_while_it_starts_leaves_nothing_behind(data_dir: Path, how: str) -> None:
    with script(data_dir, how) as owner:
        assert owner.stderr is not None
        # The step's line comes just before the JVM is started.
        for line in owner.stderr:
            if line.startswith("Starting Apache Kafka"):
                break
        os.killpg(owner.pid, signal.SIGINT)
        owner.communicate(timeout=60)
    assert owner.returncode != 0
    assert find_process(BrokerFiles.under(data_dir)) is None


async def test_the_async_form_starts_and_stops_it(data_dir: Path) -> None:
    async with EmbeddedKafka(data_dir, progress=silent) as broker:
        pid = broker.pid
        assert find_running(data_dir) == broker.bootstrap_servers
    assert has_ended(pid)


async def test_cancelling_the_async_start_leaves_nothing_behind(data_dir: Path) -> None:
    starting = asyncio.Event()
    loop = asyncio.get_running_loop()

    def progress(step: str, _fraction: float | None) -> None:
        if step.startswith("Starting"):
            loop.call_soon_threadsafe(starting.set)

    broker = EmbeddedKafka(data_dir, progress=progress)
    task = asyncio.ensure_future(broker.__aenter__())
    await starting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert find_process(BrokerFiles.under(data_dir)) is None


def test_a_remembered_port_that_is_taken_is_left(data_dir: Path) -> None:
    with EmbeddedKafka(data_dir, progress=silent) as broker:
        first = broker.bootstrap_servers
    with closing(socket.socket()) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(first.rpartition(":")[2])))
        other.listen()
        with EmbeddedKafka(data_dir, progress=silent) as broker:
            assert broker.bootstrap_servers != first


def test_a_named_port_that_is_taken_is_an_error(data_dir: Path) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(KafkaUnavailable, match=f"port {port} on 127.0.0.1 is taken by another program"):
            EmbeddedKafka(data_dir, port=port, progress=silent).start()


def test_without_java_the_remedy_is_named(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(java, "_from_wheel", lambda: None)
    with pytest.raises(KafkaUnavailable, match="no Java") as raised:
        EmbeddedKafka(data_dir, progress=silent).start()
    assert "apt-get install openjdk" in raised.value.remedy


def test_a_damaged_jar_is_found_and_without_network_named(
    kafka: EmbeddedKafka, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    jars_dir(cache).mkdir(parents=True)
    for jar in pinned_jars():
        os.symlink(jars_dir(folders.cache_dir()) / jar.filename, jars_dir(cache) / jar.filename)
    damaged = jars_dir(cache) / pinned_jars()[0].filename
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.unlink()
    damaged.write_bytes(content)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    steps: list[str] = []
    broker = EmbeddedKafka(data_dir, cache_dir=cache, progress=lambda step, _: steps.append(step))
    with pytest.raises(KafkaUnavailable, match=rf"{pinned_jars()[0].coordinates} could not be fetched") as raised:
        broker.start()
    assert "HTTPS_PROXY" in raised.value.remedy
    assert any(damaged.name in step and "is damaged (SHA-256" in step for step in steps)


def test_a_broker_that_dies_at_start_says_its_last_words(data_dir: Path) -> None:
    with EmbeddedKafka(data_dir, progress=silent):
        pass
    meta = BrokerFiles.under(data_dir).data / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(KafkaUnavailable, match=r"(?s)ended while it started.*node id 7.*The whole log: "):
        EmbeddedKafka(data_dir, progress=silent).start()
