"""The parts of the embedded broker that need no JVM."""

import io
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from streams.local import leases
from streams.local.kafka.broker import EmbeddedKafka, KafkaUnavailable, find_running
from streams.local.kafka.config import (
    MAX_MESSAGE_BYTES,
    Ports,
    java_command,
    log4j_config,
    new_cluster_id,
    server_properties,
)
from streams.local.kafka.state import (
    BrokerFiles,
    BrokerState,
    choose_ports,
    describe,
    find_process,
    port_is_free,
    tail,
)
from streams.runtime import folders, processes
from streams.runtime.progress import TerminalProgress
from tests.support.brokers import stop_running


def properties() -> dict[str, str]:
    text = server_properties(Ports(1111, 2222), Path("/data"))
    return dict(line.split("=", 1) for line in text.splitlines())


def test_every_listener_is_on_loopback() -> None:
    settings = properties()
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:1111,CONTROLLER://127.0.0.1:2222"
    assert settings["advertised.listeners"] == "PLAINTEXT://127.0.0.1:1111"
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:2222"


def test_rows_of_16_mib_are_accepted() -> None:
    settings = properties()
    assert MAX_MESSAGE_BYTES > 16 * 1024 * 1024
    assert settings["message.max.bytes"] == settings["replica.fetch.max.bytes"] == str(MAX_MESSAGE_BYTES)


def test_topics_are_never_made_by_chance_and_need_one_copy() -> None:
    settings = properties()
    assert settings["auto.create.topics.enable"] == "false"
    assert {value for name, value in settings.items() if name.endswith((".replication.factor", ".min.isr"))} == {"1"}
    assert settings["group.initial.rebalance.delay.ms"] == "0"
    assert settings["compression.type"] == "producer"


def test_the_log_rolls() -> None:
    text = log4j_config(Path("/data/log/broker.log"))
    assert "appender.file.fileName=/data/log/broker.log\n" in text
    assert "size.size=10MB" in text
    assert "shutdownHook=disable" in text


def test_the_heap_is_limited() -> None:
    command = java_command(
        Path("/java"),
        [Path("/a.jar"), Path("/b.jar")],
        heap_mib=300,
        log_dir=Path("/log"),
        tmp_dir=Path("/tmp"),
        log4j_file=Path("/log4j2.properties"),
        main="kafka.Kafka",
    )
    assert command[0] == "/java"
    assert "-Xmx300m" in command
    assert command[-3:] == ["-cp", "/a.jar:/b.jar", "kafka.Kafka"]


def test_cluster_ids_are_what_kafka_takes() -> None:
    ids = {new_cluster_id() for _ in range(500)}
    assert len(ids) == 500
    assert all(len(text) == 22 and not text.startswith("-") for text in ids)


def test_the_state_note_survives_a_round_and_a_bad_one_counts_as_none(tmp_path: Path) -> None:
    files = BrokerFiles.under(tmp_path)
    files.make()
    assert files.read_state() is None
    state = BrokerState(12, Ports(34, 56))
    files.write_state(state)
    assert files.read_state() == state
    for bad in ("", "[]", "{}", '{"pid": "x"}', "null"):
        files.state_file.write_text(bad)
        assert files.read_state() is None


def test_the_folder_is_for_this_user_only(tmp_path: Path) -> None:
    files = BrokerFiles.under(tmp_path)
    files.make()
    assert files.root.stat().st_mode & 0o077 == 0


def test_a_lease_ends_with_its_process(tmp_path: Path) -> None:
    files = BrokerFiles.under(tmp_path)
    files.make()
    program = (
        "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire();"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(files.users_dir / "other")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert leases.holders(files.users_dir) == ["other"]
        other.kill()
        other.wait()
        assert leases.holders(files.users_dir) == []
    assert list(files.users_dir.iterdir()) == []


def test_a_process_id_that_went_to_another_program_is_not_the_broker(tmp_path: Path) -> None:
    files = BrokerFiles.under(tmp_path)
    files.make()
    files.write_state(BrokerState(os.getpid(), Ports(1, 2)))
    assert find_process(files) is None
    assert find_running(tmp_path) is None
    assert stop_running(tmp_path) is False


def test_ports_that_are_remembered_are_taken_again_if_free() -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        free = choose_ports(None, None)
        assert not port_is_free(taken)
        assert choose_ports(None, Ports(taken, free.controller)).controller == free.controller
        assert choose_ports(None, Ports(taken, free.controller)).broker != taken
        assert choose_ports(4321, free) == Ports(4321, free.controller)


def test_what_answers_on_the_port_but_is_no_kafka_is_not_taken_for_one() -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert describe(other.getsockname()[1]) is None


def test_tail_reads_only_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")
    start = path.stat().st_size
    with path.open("a") as file:
        file.write("one\ntwo\nthree\n")
    assert tail(path, 2, start) == ["two", "three"]
    assert tail(path, 9, start) == ["one", "two", "three"]
    assert tail(path, 9, 10_000) == ["old", "one", "two", "three"]
    assert tail(tmp_path / "none", 5) == []


def test_before_start_there_is_no_address(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path)
    with pytest.raises(RuntimeError, match="not started"):
        _ = broker.bootstrap_servers
    assert not broker.is_running()
    broker.stop()


def test_a_data_folder_that_cannot_be_made_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, not a folder")
    with pytest.raises(KafkaUnavailable, match="the data folder") as raised:
        EmbeddedKafka(tmp_path / "data").start()
    assert "FACETS_DATA_DIR" in raised.value.remedy


def test_folders_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACETS_CACHE_DIR", str(tmp_path / "c"))
    monkeypatch.setenv("FACETS_DATA_DIR", str(tmp_path / "d"))
    assert (folders.cache_dir(), folders.data_dir()) == (tmp_path / "c", tmp_path / "d")
    monkeypatch.delenv("FACETS_CACHE_DIR")
    monkeypatch.delenv("FACETS_DATA_DIR")
    assert folders.cache_dir().name == folders.data_dir().name == "service-facets"


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    program = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        processes.end(child.pid, child, grace=0.2)
        assert not psutil.pid_exists(child.pid)


def test_progress_under_a_pipe_is_one_line_a_step() -> None:
    out = io.StringIO()
    progress = TerminalProgress(Console(file=out))
    for fraction in (0.0, 0.5, 1.0):
        progress("Fetching", fraction)
    progress("Starting", None)
    progress.close()
    assert out.getvalue() == "Fetching\nStarting\n"


def test_progress_on_a_terminal_is_a_bar() -> None:
    out = io.StringIO()
    progress = TerminalProgress(Console(file=out, force_terminal=True, width=80))
    for fraction in (0.0, 0.5, 1.0):
        progress("Fetching", fraction)
    assert "100%" in out.getvalue()
