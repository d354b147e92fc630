"""Ends a process for certain, whether it is our child or an orphan."""

import contextlib
import gc
import os
import signal
import subprocess
import time

import psutil

#: How long a process has to end after SIGTERM, and again after SIGKILL, in seconds.
GRACE_SECONDS = 30.0

_LOOK_SECONDS = 0.2
"""How often it is looked whether another one's child has become a zombie."""

Child = subprocess.Popen[bytes]


def wait_for_exit(pid: int, child: Child | None, seconds: float) -> bool:
    """Waits until the process has ended; False when it still runs after ``seconds``.

    ``child`` is our own handle where we started the process: waiting on it leaves no zombie.
    """
    try:
        if child is not None and child.pid == pid:
            child.wait(seconds)
        else:
            _wait_for_another_ones(psutil.Process(pid), seconds)
    except psutil.NoSuchProcess:
        return True
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        return False
    return True


def _wait_for_another_ones(process: psutil.Process, seconds: float) -> None:
    """Wait for a process that is not our child. Raises psutil.TimeoutExpired."""
    until = time.monotonic() + seconds
    # A zombie has ended; only its parent can reap it, and may not do so as long as we wait.
    while process.status() != psutil.STATUS_ZOMBIE:
        left = max(0.0, until - time.monotonic())
        try:
            process.wait(min(left, _LOOK_SECONDS))
        except psutil.TimeoutExpired:
            if left <= _LOOK_SECONDS:
                raise
        else:
            return


def end(pid: int, child: Child | None = None, grace: float = GRACE_SECONDS) -> None:
    """Ends a process by SIGTERM, or by SIGKILL after ``grace`` seconds; returns when it has ended.

    Raises:
        TimeoutError: it outlived SIGKILL, as a process that hangs in the kernel may.
    """
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
        if wait_for_exit(pid, child, grace):
            return
    raise TimeoutError(f"process {pid} outlived SIGKILL; it may hang on a disk or network file system")


def tune_gc() -> None:
    """Make cyclic garbage collection rare, for a process with very many objects and hardly any cycles: it would take a
    third of an initial list's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
