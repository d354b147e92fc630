"""Summarizes repeated log lines: a thousand clients that disconnect at once are a few lines and one number.

Lines are of one kind when logger, level and message template are the same. Of each kind the first `BURST` lines in
`WINDOW_SECONDS` are written; the rest are counted, and a summary at the end of the window has their number and the last
of them. DEBUG lines are never summarized.
"""

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Protocol

WINDOW_SECONDS = 10.0
BURST = 20
"""Enough for one line for each resource type of a cluster."""

_MAX_KINDS = 512
"""The number of kinds that are tracked at once; other packages may make their templates at run time."""

_NUMBERS = re.compile(r"\d+")

Kind = tuple[str, int, str, type[BaseException] | None]


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""


Schedule = Callable[[float, Callable[[], None]], Timer]
"""Calls the function after some seconds, in any thread."""


class _Window:
    """The lines of one kind since `begin`. `last` is the newest of those that were not written."""

    __slots__ = ("begin", "count", "last")

    def __init__(self, begin: float) -> None:
        self.begin = begin
        self.count = 0
        self.last: logging.LogRecord | None = None


class RepeatSummary(logging.Handler):
    """Passes records on to `target`, and summarizes repeated ones. `flush`, which logging.shutdown calls at the end of
    the process, writes pending summaries."""

    def __init__(
        self,
        target: logging.Handler,
        *,
        clock: Callable[[], float] = time.monotonic,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__()
        self._target = target
        self._clock = clock
        self._schedule = schedule or _daemon_timer
        self._windows: dict[Kind, _Window] = {}
        self._timer: Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it. Called with this handler's lock held."""
        if record.levelno <= logging.DEBUG:
            self._target.handle(record)
            return
        now = self._clock()
        kind = _kind(record)
        window = self._windows.get(kind)
        if window is not None and now - window.begin >= WINDOW_SECONDS:
            self._close(window, now)
            window = None
        if window is None:
            if len(self._windows) >= _MAX_KINDS:
                self._close_due(now)
            if len(self._windows) >= _MAX_KINDS:
                self._target.handle(record)
                return
            window = self._windows[kind] = _Window(now)
        window.count += 1
        if window.count <= BURST:
            self._target.handle(record)
            return
        window.last = record
        if self._timer is None:
            self._timer = self._schedule(window.begin + WINDOW_SECONDS - now, self._on_timer)

    def flush(self) -> None:
        """Write all pending summaries, even if their window is not over."""
        self.acquire()
        try:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            now = self._clock()
            for window in self._windows.values():
                self._close(window, now)
            self._windows.clear()
        finally:
            self.release()
        self._target.flush()

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        super().close()

    def _on_timer(self) -> None:
        self.acquire()
        try:
            self._timer = None
            now = self._clock()
            self._close_due(now)
            owed = [window.begin for window in self._windows.values() if window.last is not None]
            if owed:
                self._timer = self._schedule(max(min(owed) + WINDOW_SECONDS - now, 0.0), self._on_timer)
        finally:
            self.release()

    def _close_due(self, now: float) -> None:
        for kind, window in list(self._windows.items()):
            if now - window.begin >= WINDOW_SECONDS:
                self._close(window, now)
                del self._windows[kind]

    def _close(self, window: _Window, now: float) -> None:
        """Write the window's summary, if lines were left out."""
        record, window.last = window.last, None
        if record is None:
            return
        seconds = max(now - window.begin, 1.0)
        message = "… %d more like this in %.0f s, the last: %s"
        values = (window.count - BURST, seconds, record.getMessage())
        summary = logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, message, values, None)
        self._target.handle(summary)


def _kind(record: logging.LogRecord) -> Kind:
    template = str(record.msg)
    if not record.args:
        # The message may have been formatted by the caller.
        template = _NUMBERS.sub("#", template)
    return record.name, record.levelno, template, record.exc_info[0] if record.exc_info else None


def _daemon_timer(seconds: float, call: Callable[[], None]) -> Timer:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
    return timer
