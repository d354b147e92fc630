"""Stops a process on a signal within a time limit, whatever is unreachable.

An absent broker, a socket without an answer, a thread that can't be cancelled: each has its own time-out, and together
they take minutes. So the process has one deadline: from the signal on it logs what it is still waiting for, and when
the time is up it ends the process and logs what it gave up. Nothing is lost: the journal and the seals tell where the
next process resumes.
"""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from streams.exit_codes import ExitCode

log = logging.getLogger("facets")

STOP_SECONDS = 12.0
"""From the request to the end. 15 s are promised; the rest is for the exit itself."""

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_REPORT_SECONDS = 3.0
_SAME_REQUEST_SECONDS = 1.0
_FINAL_SECONDS = 2.0


class _Deadline:
    """The process's deadline: one, as signals and exit are global."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.steps: dict[object, tuple[str, float]] = {}
        self.gave_up = False

    def begin(self, reason: str, limit: float) -> None:
        """Start it, once."""
        if self.began is not None:
            return
        self.began = time.monotonic()
        if hasattr(signal, "setitimer"):
            # If even the thread is blocked (a full pipe, a library that never yields), the kernel ends the process.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, limit + _FINAL_SECONDS)
        arguments = (self.began, reason, limit)
        threading.Thread(target=self._watch, args=arguments, name="facets-shutdown", daemon=True).start()

    def _watch(self, began: float, reason: str, limit: float) -> None:
        # Logged here: a signal handler may have interrupted logging.
        if reason:
            log.info("%s: stopping, which takes %.0f s at most", reason, limit)
        while (remaining := began + limit - time.monotonic()) > 0:
            time.sleep(min(_REPORT_SECONDS, remaining))
            if remaining > _REPORT_SECONDS:
                log.warning("stopping: still waiting for %s", self._pending())
        log.error("stopping: not done in %.0f s; gave up waiting for %s", limit, self._pending())
        os._exit(ExitCode.STOPPED_UNFINISHED)

    def _pending(self) -> str:
        now = time.monotonic()
        steps = [f"{step} ({now - since:.0f} s)" for step, since in list(self.steps.values())]
        return ", ".join(steps) or "connections to close"


_deadline = _Deadline()


def handle_signals(stop: Callable[[], object], limit: float = STOP_SECONDS) -> None:
    """From now on SIGINT, SIGTERM and SIGHUP call `stop` once, and the process ends within `limit` seconds.

    `stop` runs in the main thread as a signal handler. Another SIGINT or SIGTERM ends the process at once; within a
    second it is the same request (`timeout` and terminals send it to the process and to its group). SIGHUP stays
    ignored where it was, as `nohup` wants. Call from the main thread.
    """

    def handle(number: int, _: FrameType | None) -> None:
        if _deadline.began is None:
            _deadline.begin(signal.Signals(number).name, limit)
            stop()
        elif number in {signal.SIGINT, signal.SIGTERM} and time.monotonic() - _deadline.began > _SAME_REQUEST_SECONDS:
            os._exit(128 + number)

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle)


def set_on_signals(stop: asyncio.Event, limit: float = STOP_SECONDS) -> None:
    """As `handle_signals`, for a process that ends when `stop` is set. Call inside the event loop."""
    loop = asyncio.get_running_loop()

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)

    handle_signals(wake, limit)


def begin(limit: float = STOP_SECONDS) -> None:
    """Start the deadline without a signal, as the process ends by itself. Call from the main thread."""
    _deadline.begin("", limit)


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Names what the block waits for, for the log if the process is stopping."""
    step = object()
    _deadline.steps[step] = (what, time.monotonic())
    try:
        yield
    finally:
        del _deadline.steps[step]


def give_up(what: str, seconds: float) -> None:
    """Log that this is no longer waited for."""
    log.warning("gave up waiting for %s after %g s", what, seconds)
    _deadline.gave_up = True


def leave() -> None:
    """The last step of a process that runs until a signal: if something was given up, exit at once, with
    STOPPED_UNFINISHED, as threads that still wait for it would be joined otherwise."""
    if _deadline.gave_up:
        logging.shutdown()
        os._exit(ExitCode.STOPPED_UNFINISHED)


async def closed(what: str, closing: Coroutine[Any, Any, object], seconds: float) -> None:
    """Wait for `closing`, at most this long; what can't be closed in time is abandoned, and logged.

    It runs in a task of its own, as clients that are closed while they reconnect cancel themselves.
    """
    task = asyncio.ensure_future(closing)
    try:
        with waiting_for(what):
            done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        task.cancel()
    if not done:
        give_up(what, seconds)
    elif not task.cancelled() and (error := task.exception()) is not None:
        log.warning("while waiting for %s: %s: %s", what, type(error).__name__, error)
