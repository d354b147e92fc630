"""Processes that tests start, and that end with them, even if those are killed."""

import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from streams.runtime.parent_death import bound

# A bound process ends with the thread that started it: this one lives until the interpreter ends.
_starter = ThreadPoolExecutor(1, thread_name_prefix="bound-process")


def start_bound(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
    """`subprocess.Popen(command, **options)`, bound to the life of this process (on Linux)."""
    return _starter.submit(subprocess.Popen, bound(command), **options).result()


def run_bound(command: list[str], folder: Path, log_path: Path, *, seconds: float, grace: float) -> int:
    """Run a command in a folder to its end, and print its log. Raises subprocess.TimeoutExpired after `seconds`; the
    command then has `grace` seconds to end what it has started itself. Returns its exit code."""
    with log_path.open("w+") as log:
        run = start_bound(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            return run.wait(seconds)
        finally:
            if run.poll() is None:
                run.send_signal(signal.SIGTERM)
                run.wait(grace)
            log.seek(0)
            print(log.read())
