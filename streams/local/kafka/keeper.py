"""The process between `facets` and the broker's JVM: it ends the broker when no process uses it any more.

One JSON line on its standard input tells it what to run. The input stays open as long as the process that started it
lives. When it is closed, the keeper waits until the last lease in the users' folder is free (other processes may have
joined the broker) and then ends the broker. On Linux the broker also ends with its keeper.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from filelock import FileLock

from streams.local.leases import holders
from streams.runtime.parent_death import bound

_LOOK_SECONDS = 0.5


class Order(NamedTuple):
    """What to run, and whose leases keep it running. `grace` is how long the broker has to stop, in seconds."""

    command: list[str]
    folder: str
    lock_file: str
    users_dir: str
    grace: float


def start(order: Order, console: int) -> "tuple[subprocess.Popen[bytes], int | None]":
    """Start a keeper and, through it, the broker; the keeper, and the broker's process id (None: it did not start).
    `console` is the file descriptor to which both write."""
    keeper = subprocess.Popen(
        [sys.executable, "-P", "-m", "streams.local.kafka.keeper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=console,
        # Its own session: `facets` handles Ctrl-C in the terminal, and stops everything in order.
        start_new_session=True,
    )
    line = b""
    if keeper.stdin is not None and keeper.stdout is not None:
        with keeper.stdout, contextlib.suppress(BrokenPipeError):
            keeper.stdin.write(json.dumps(order).encode() + b"\n")
            keeper.stdin.flush()
            line = keeper.stdout.readline()
    return keeper, int(line) if line else None


def main() -> None:
    """Run the broker that standard input asks for, until it ends; exits with its code as a shell would."""
    line = sys.stdin.buffer.readline()
    if not line:
        return
    order = Order(*json.loads(line))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _exit)
    broker = subprocess.Popen(
        # From the main thread, which lives as long as this process.
        bound(order.command),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
        cwd=order.folder,
    )

    def pass_on(number: int, _: FrameType | None) -> None:
        broker.terminate()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    sys.stdout.write(f"{broker.pid}\n")
    sys.stdout.flush()
    threading.Thread(target=_end_after_last_user, args=(order, broker), daemon=True).start()
    code = broker.wait()
    # Python would wait for the thread that may still read standard input.
    os._exit(128 - code if code < 0 else code)


def _exit(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)


def _end_after_last_user(order: Order, broker: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 4096):
        pass
    while True:
        # No process can join the broker while this lock is held.
        with FileLock(order.lock_file):
            if not holders(Path(order.users_dir)):
                broker.terminate()
                try:
                    broker.wait(order.grace)
                except subprocess.TimeoutExpired:
                    broker.kill()
                    broker.wait()
                return
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    main()
