"""`--log-format json`: every line of stderr is one JSON object, whoever writes it; the option is taken anywhere."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from streams.cli import cli
from streams.runtime.log_setup import configure_logging, requested_format


def facets(tmp_path: Path, *arguments: str, code: int, **environment: str) -> list[dict[str, Any]]:
    """The lines of stderr of a command that ends with this code, each decoded."""
    return run([sys.executable, "-m", "streams.cli", *arguments], tmp_path, code, environment)


def run(command: list[str], tmp_path: Path, code: int, environment: dict[str, str]) -> list[dict[str, Any]]:
    done = subprocess.run(
        command, capture_output=True, timeout=120, check=False, env={"FACETS_DATA_DIR": str(tmp_path), **environment}
    )
    assert done.returncode == code, done.stderr.decode()
    lines = [orjson.loads(line) for line in done.stderr.splitlines()]
    assert lines
    for line in lines:
        assert isinstance(line, dict)
        assert {"at", "level", "logger", "message"} <= line.keys()
    return lines


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--log-format", "json", "get", "backend"], 69, "broker"),
        (["get", "backend", "--log-format", "json"], 69, "broker"),
        (["--log-format", "json", "nonsense"], 2, "no such command"),
        (["nonsense", "--log-format", "json"], 2, "no such command"),
        (["watch", "--nonsense", "--log-format", "json"], 2, "--nonsense"),
        (["watch", "--log-format", "json", "--bootstrap-servers", "x:1", "--kubeconfig", "/none"], 78, "kubeconfig"),
    ],
)
def test_errors(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    (line,) = facets(tmp_path, *arguments, code=code)
    assert line["level"] == "ERROR"
    assert message in line["message"]
    assert line["remedy"]


def test_the_environment_asks_for_it_too(tmp_path: Path) -> None:
    facets(tmp_path, "get", "backend", code=69, FACETS_LOG_FORMAT="json")


def test_an_option_counts_more_than_the_environment(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streams.cli", "get", "backend", "--log-format", "text"]
    environment = {"FACETS_DATA_DIR": str(tmp_path), "FACETS_LOG_FORMAT": "json"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.stderr.startswith("facets: error:")


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logging and environment as they were."""
    root, stderr = logging.getLogger(), sys.stderr
    handlers, level = root.handlers[:], root.level
    for name in ("FACETS_VERBOSE", "FACETS_LOG_FORMAT"):
        monkeypatch.setenv(name, "")
    yield
    configure_logging(0, "text")
    root.handlers[:], sys.stderr = handlers, stderr
    root.setLevel(level)


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        (["schemas", "--check"], logging.CRITICAL),
        (["-v", "schemas", "--check"], logging.WARNING),
        (["schemas", "-v", "--check"], logging.WARNING),
        (["-v", "schemas", "--check", "-v"], logging.DEBUG),
    ],
)
def test_verbose_is_taken_in_both_places(arguments: list[str], level: int, restored: None) -> None:
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert logging.getLogger("kafka").level == level


def test_warnings_prints_threads_and_what_nobody_caught(tmp_path: Path) -> None:
    code = """
import sys, threading, warnings, logging, subprocess, click
from streams.runtime.log_setup import configure_logging
configure_logging(0, "json")
warnings.warn("old")
print("printed", file=sys.stderr)
click.echo("echoed", err=True)
logging.getLogger("x").warning("two\\nlines")
logging.getLogger("x").warning("surrogate \\udcff")
thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()
class Broken:
    def __del__(self): raise ValueError("in del")
Broken()
sys.stderr.write("no end")
raise RuntimeError("uncaught")
"""
    lines = run([sys.executable, "-c", code], tmp_path, 1, {})
    messages = [line["message"] for line in lines]
    for part in ["old", "printed", "echoed", "two\nlines", "surrogate", "division by zero", "in del", "no end"]:
        assert any(
            part in message or part in line.get("error", "") for message, line in zip(messages, lines, strict=True)
        ), part
    (uncaught,) = (line for line in lines if "uncaught exception: uncaught" in line["message"])
    assert uncaught["level"] == "CRITICAL"
    assert "RuntimeError" in uncaught["error"]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], "text"),
        (["watch"], "text"),
        (["watch", "--log-format"], "text"),
        (["--log-format", "xml"], "text"),
        (["-v", "--log-format", "json", "watch"], "json"),
        (["watch", "-n", "shop", "--log-format=json"], "json"),
        (["--log-format", "text", "watch", "--log-format", "json"], "json"),
    ],
)
def test_the_format_is_known_before_the_command_line_is(
    arguments: list[str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FACETS_LOG_FORMAT", raising=False)
    assert requested_format(arguments) == wanted
