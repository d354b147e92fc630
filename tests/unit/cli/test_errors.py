"""What goes wrong outside of us reaches a person as a FacetsError: what it is about, and what to do."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import errors as aiokafka_errors
from click.testing import CliRunner
from kafka import errors as kafka_errors

from streams.cli import cli, explain
from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.kafka import range_reader
from streams.kafka.errors import BrokerError, BrokerUnreachable, broker_errors
from streams.local import pipeline_checks
from streams.local.kafka.broker import KafkaUnavailable
from streams.local.kafka.jars import JarsUnavailableError
from streams.local.kafka.java import JavaNotFoundError
from streams.local.local_data import SERVER_DETAIL, UP_LOCK, server_of_up
from streams.runtime.listening import listen
from streams.runtime.process_lock import Owner, ProcessLock
from streams.subscription.client import Subscriber

NOBODY = "127.0.0.1:9"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (kafka_errors.KafkaConnectionError("x"), BrokerUnreachable, f"no Kafka broker answers at {NOBODY}"),
        (aiokafka_errors.KafkaConnectionError("x"), BrokerUnreachable, f"no Kafka broker answers at {NOBODY}"),
        (aiokafka_errors.NodeNotReadyError(), BrokerUnreachable, "(NodeNotReadyError)"),
        (ConnectionRefusedError(111, "no"), BrokerUnreachable, "(ConnectionRefusedError)"),
        (kafka_errors.TopicAuthorizationFailedError(), BrokerError, "TopicAuthorizationFailedError"),
        (aiokafka_errors.TopicAuthorizationFailedError(), BrokerError, "TopicAuthorizationFailedError"),
    ],
)
def test_an_error_of_either_client_names_the_broker_and_the_remedy(
    error: Exception, kind: type[BrokerError], text: str
) -> None:
    with pytest.raises(kind) as raised, broker_errors(NOBODY):
        raise error
    assert text in str(raised.value)
    assert NOBODY in str(raised.value)
    assert (bool(raised.value.remedy), raised.value.exit_code) == (True, ExitCode.UNAVAILABLE)


def test_an_error_of_ours_passes_as_it_is() -> None:
    with pytest.raises(FacetsError, match=r"^mine$"), broker_errors(NOBODY):
        raise FacetsError("mine")


def test_what_reads_kafka_raises_none_of_its_clients_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise kafka_errors.KafkaTimeoutError("no answer")

    async def snapshot() -> None:
        async with Subscriber(NOBODY):
            pass

    with pytest.raises(BrokerUnreachable):
        asyncio.run(snapshot())
    # The real one leaves a thread and a socket behind where nobody answers.
    monkeypatch.setattr(range_reader, "KafkaConsumer", refuse)
    with pytest.raises(BrokerUnreachable):
        pipeline_checks.read_pipeline(NOBODY, 1, 10)


async def test_a_broker_that_refuses_later_is_no_foreign_error_either() -> None:
    subscriber = Subscriber(NOBODY, silent_after=None)

    async def refuse() -> None:
        raise aiokafka_errors.GroupAuthorizationFailedError

    subscriber._again = lambda *_: refuse()  # type: ignore[assignment, method-assign, return-value]
    with pytest.raises(BrokerError, match="GroupAuthorizationFailedError"):
        await anext(aiter(subscriber))


@pytest.mark.parametrize("kind", [KafkaUnavailable, JarsUnavailableError, JavaNotFoundError])
def test_what_this_machine_lacks_is_one_too(kind: type[FacetsError]) -> None:
    assert kind("no", "do").exit_code == ExitCode.UNAVAILABLE


def test_what_nobody_foresaw_is_not_explained_by_its_name() -> None:
    assert explain(kafka_errors.KafkaConnectionError("x")) is None
    known = explain(ExceptionGroup("both", [ValueError(), FacetsError("known")]))
    assert str(known) == "known"


def test_a_worker_on_a_port_that_is_taken_ends_with_a_line(taken: int) -> None:
    command = [sys.executable, "-m", "streams.cli", "work", "--bootstrap-servers", NOBODY, "--http-port", str(taken)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ExitCode.UNAVAILABLE
    assert f"the table views can't listen on 127.0.0.1:{taken}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_listens_is_nobody_elses() -> None:
    with listen("it", "127.0.0.1", 0) as mine, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(mine.getsockname())


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "256.0.0.1"])
def test_what_is_no_address_is_named(host: str) -> None:
    with pytest.raises(FacetsError, match=f"it can't listen on {host}:0") as raised:
        listen("it", host, 0)
    assert "--http-host" in raised.value.remedy


def test_the_server_that_is_asked_is_the_one_that_up_runs_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    monkeypatch.setenv("FACETS_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("FACETS_SERVER", raising=False)
    assert server_of_up() is None
    with ProcessLock(tmp_path / UP_LOCK, Owner.this_process(**{SERVER_DETAIL: NOBODY})):
        assert server_of_up() == NOBODY
        # Also where the commands take it from; this one is nowhere.
        result = CliRunner().invoke(cli, ["status"], standalone_mode=False)
        assert f"no `facets serve` answers at {NOBODY}" in str(result.exception)
        result = CliRunner().invoke(cli, ["status", "--server", "http://127.0.0.1:8"], standalone_mode=False)
        assert "answers at http://127.0.0.1:8 " in str(result.exception)
    assert server_of_up() is None


def test_a_server_of_an_up_that_was_killed_is_not_asked(tmp_path: Path) -> None:
    note = '{"pid": 999999999, "started": 1.0, "details": {"HTTP": "http://127.0.0.1:1"}, "children": {}}'
    (tmp_path / "up.json").write_text(note)
    assert server_of_up(tmp_path) is None
