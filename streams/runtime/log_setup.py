"""Sets up logging to stderr, in every process: as text, or (`--log-format json`) as one JSON object a line.

In JSON, other output becomes log records too: Python's warnings, uncaught exceptions, and whatever is printed to
stderr. A JSON line has `at` (RFC 3339, UTC), `level`, `logger`, `message`, and optionally
`error` (a traceback) and `remedy`.
"""

import atexit
import io
import logging
import os
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

import orjson

from streams.runtime.log_summary import RepeatSummary

FORMAT_VARIABLE = "FACETS_LOG_FORMAT"
"""The log format of this process and its children."""

VERBOSE_VARIABLE = "FACETS_VERBOSE"
"""The number of `-v` options, likewise."""

LogFormat = Literal["text", "json"]

_CLIENTS = ("kafka", "aiokafka", "kubernetes", "aiohttp", "urllib3", "asyncio")
"""Loggers that repeat each failed attempt; our own loggers report what matters once."""

log = logging.getLogger("facets")

# The original stderr, if it was replaced.
_stderr: TextIO | None = None


class JsonFormatter(logging.Formatter):
    """A record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        remedy = getattr(record, "remedy", "")
        if remedy:
            line["remedy"] = remedy
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(_printable(line), default=str).decode()


class StderrLines(io.TextIOBase):
    """A stderr whose lines become log records (logger `stderr`)."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, handler: logging.Handler, stream: TextIO) -> None:
        super().__init__()
        self._handler = handler
        self._stream = stream
        self._rest = ""
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Write text; each line that it completes becomes a record."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._emit(line)
        return len(text)

    def writable(self) -> bool:
        """Always."""
        return True

    def isatty(self) -> bool:
        """Never: no colours and no bars in JSON."""
        return False

    def fileno(self) -> int:
        """The real stderr's, for child processes."""
        return self._stream.fileno()

    def end(self) -> None:
        """Write the last, incomplete line."""
        with self._lock:
            rest, self._rest = self._rest, ""
        self._emit(rest)

    def _emit(self, line: str) -> None:
        if line.strip():
            self._handler.handle(logging.LogRecord("stderr", logging.INFO, "", 0, line.rstrip(), None, None))


def requested_format(arguments: Sequence[str]) -> LogFormat:
    """The format that the command line or the environment asks for, wherever it stands, so that even
    usage errors are reported in it."""
    import argparse  # noqa: PLC0415

    scanner = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    scanner.add_argument("--log-format", nargs="?")
    log_format = scanner.parse_known_args(arguments)[0].log_format or os.environ.get(FORMAT_VARIABLE)
    return "json" if log_format == "json" else "text"


def configure_logging(verbose: int, log_format: LogFormat) -> None:
    """Set up this process's logging; may be called again."""
    global _stderr  # noqa: PLW0603 - stderr is the process's
    if isinstance(sys.stderr, StderrLines) and _stderr is not None:
        sys.stderr.end()
        sys.stderr = _stderr
    stream = sys.stderr
    handler = logging.StreamHandler(stream)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
        if _stderr is None:
            atexit.register(_end_stderr)
        _stderr = stream
        sys.stderr = StderrLines(handler, stream)
        sys.excepthook, threading.excepthook, sys.unraisablehook = _uncaught, _uncaught_in_thread, _unraisable
        # gRPC's core writes to the file descriptor, past Python; its errors are raised as exceptions too.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        sys.excepthook = sys.__excepthook__
        threading.excepthook, sys.unraisablehook = threading.__excepthook__, sys.__unraisablehook__
    logging.captureWarnings(log_format == "json")
    everything = verbose > 1
    logging.basicConfig(
        level=logging.DEBUG if everything else logging.INFO,
        handlers=[handler if everything else RepeatSummary(handler)],
        force=True,
    )
    for name in _CLIENTS:
        logging.getLogger(name).setLevel((logging.CRITICAL, logging.WARNING, logging.DEBUG)[min(verbose, 2)])


def report_error(problem: str, remedy: str = "") -> None:
    """Report the error that ends a command, as text or as a JSON object."""
    if isinstance(sys.stderr, StderrLines):
        log.error("%s", problem, extra={"remedy": remedy})
        return
    sys.stderr.write(f"facets: error: {problem}\n" + (f"  remedy: {remedy}\n" if remedy else ""))


def _end_stderr() -> None:
    if isinstance(sys.stderr, StderrLines):
        sys.stderr.end()


def _printable(line: dict[str, Any]) -> dict[str, Any]:
    """The strings as valid UTF-8: file names may have lone surrogates."""
    return {name: value.encode(errors="backslashreplace").decode() for name, value in line.items()}


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("uncaught exception: %s", error or kind.__name__, exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _unraisable(unraisable: Any) -> None:
    error = unraisable.exc_value
    log.error(
        "%s: %r", unraisable.err_msg or "exception ignored in", unraisable.object,
        exc_info=(type(error), error, error.__traceback__) if error is not None else None,
    )  # fmt: skip
