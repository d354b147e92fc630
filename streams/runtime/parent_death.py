"""Makes processes end with their parent, however that ends: after SIGKILL it can't tell them itself.

Linux has the parent-death signal (prctl(2), PR_SET_PDEATHSIG). Its parent is the *thread* that forked, so the process
must be started from a thread that outlives it. Elsewhere, and where no thread lives that long, a pipe is used: it is
closed when the last process at its other end is gone, whatever killed it.
"""

import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1

PIPE_VARIABLE = "FACETS_ENDS_WITH_STDIN"
"""Set in the environment of a `facets` process whose standard input is a pipe from its parent."""


def signal_on_parent_death(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process `number` when its parent ends; does nothing on other systems than Linux.

    `parent` is the parent's process id: if it has already ended, the signal is sent at once. Raises OSError.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes  # noqa: PLC0415  (every command imports this module)

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def bound(command: list[str]) -> list[str]:
    """The command, as a process that the kernel kills when the calling process (its starting thread) ends. Its
    process id stays the same. On other systems than Linux, the command is returned unchanged."""
    if not sys.platform.startswith("linux"):
        return command
    return [sys.executable, "-P", "-m", "streams.runtime.parent_death", str(os.getpid()), *command]


def pipe_environment(environment: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a `facets` process that is started with a pipe as standard input, and ends with it."""
    return {**(os.environ if environment is None else environment), PIPE_VARIABLE: "1"}


def end_with_stdin() -> None:
    """If the environment says so, send this process SIGTERM when its standard input ends."""
    if os.environ.pop(PIPE_VARIABLE, "") != "1":
        return

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-death", daemon=True).start()


if __name__ == "__main__":
    signal_on_parent_death(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  (a command line as it was given, and no shell)
