"""Ending a process for certain, whether it is our child or was started by a process that is gone."""

import contextlib
import gc
import os
import signal
import subprocess

import psutil

#: How long a process gets to end in order, and then to vanish after SIGKILL, in seconds.
GRACE_SECONDS = 30.0

Child = subprocess.Popen[bytes]


def wait_gone(pid: int, child: Child | None, seconds: float) -> bool:
    """Waits until the process has ended; False when it still runs after ``seconds``.

    ``child`` is our own handle where we started the process: its end is noted there, which leaves no zombie.
    """
    try:
        if child is not None and child.pid == pid:
            child.wait(seconds)
        else:
            process = psutil.Process(pid)
            # A zombie has ended; only its parent can have it forgotten.
            if process.status() != psutil.STATUS_ZOMBIE:
                process.wait(seconds)
    except psutil.NoSuchProcess:
        return True
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        return False
    return True


def end(pid: int, child: Child | None = None, grace: float = GRACE_SECONDS) -> None:
    """SIGTERM, and SIGKILL for one that has not ended after ``grace`` seconds; returns when it is gone.

    Raises:
        TimeoutError: it outlived SIGKILL, as a process that hangs in the kernel does.
    """
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
        if wait_gone(pid, child, grace):
            return
    raise TimeoutError(f"process {pid} outlived SIGKILL; it may hang on a disk or network file system")


def collect_seldom() -> None:
    """Let Python look for cyclic garbage less often, in a process that holds very many objects and makes no cycles to
    speak of: a first list would spend a third of its time on that."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
