"""The deadline of a stop: whatever hangs, the process ends, and says what it waited for."""

import asyncio
import logging
import signal
import subprocess
import sys

import pytest

from streams.exit_codes import ExitCode
from streams.runtime import shutdown

_HANGS = """
import logging, signal, sys, threading, time
logging.basicConfig(level=logging.INFO)
from streams.runtime import shutdown
shutdown.handle_signals(lambda: print("asked to stop", flush=True), limit={limit})
print("ready", flush=True)
with shutdown.waiting_for("a broker that is gone"):
    while True:
        time.sleep(0.05)
"""


def hanging(limit: float, *before: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [*before, sys.executable, "-c", _HANGS.format(limit=limit)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_that_hangs_is_ended_and_says_what_it_waited_for(how: signal.Signals) -> None:
    with hanging(0.2) as process:
        process.send_signal(how)
        out, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.STOPPED_UNFINISHED
    assert out == "asked to stop\n"
    assert f"{how.name}: stopping" in err
    assert "gave up waiting for a broker that is gone (0 s)" in err


def test_a_second_interrupt_ends_at_once_and_an_echo_of_the_first_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr(shutdown, "_deadline", shutdown._Deadline())
    monkeypatch.setattr(shutdown._deadline, "_watch", lambda *_: None)
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)}
    stops: list[int] = []
    try:
        shutdown.handle_signals(lambda: stops.append(1))
        for each in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(each)
        assert (stops, ended) == ([1], [])
        assert shutdown._deadline.began is not None
        shutdown._deadline.began -= 2
        signal.raise_signal(signal.SIGHUP)
        assert ended == []
        signal.raise_signal(signal.SIGINT)
        assert ended == [128 + signal.SIGINT]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def test_under_nohup_a_hangup_is_ignored() -> None:
    with hanging(0.2, "nohup") as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert "SIGTERM: stopping" in err
    assert "SIGHUP" not in err


async def test_what_can_not_be_closed_is_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutdown, "_deadline", shutdown._Deadline())

    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    async def fails() -> None:
        raise ConnectionError("refused")

    with caplog.at_level(logging.WARNING):
        await shutdown.closed("a client that reconnects", cancels_itself(), 60)
        await shutdown.closed("a client without a broker", fails(), 60)
        assert not shutdown._deadline.gave_up
        await shutdown.closed("a lock that is held", asyncio.Event().wait(), 0)
    assert shutdown._deadline.gave_up
    assert [record.getMessage() for record in caplog.records] == [
        "while waiting for a client without a broker: ConnectionError: refused",
        "gave up waiting for a lock that is held after 0 s",
    ]
