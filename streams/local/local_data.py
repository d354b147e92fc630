"""The contents of this machine's data folder, and whether a process of ours uses it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.local.kafka.state import BrokerFiles, find_process
from streams.runtime.folders import data_dir
from streams.runtime.process_lock import LockHeld, Owner, ProcessLock, owner_of

UP_LOCK = "up.lock"
"""Held by the `facets up` that runs on the folder."""

SERVER_DETAIL = "HTTP"
"""The lock's detail that has its server's HTTP address."""

_PARTS = ("kafka", "work", "index")
"""The parts that facets creates; anything else in the folder is not ours."""


def server_of_up(folder: Path | None = None) -> str | None:
    """The HTTP address of the server that `facets up` runs on this data folder; None if none does."""
    owner = owner_of((folder or data_dir()) / UP_LOCK)
    return owner.details.get(SERVER_DETAIL) if owner is not None else None


@contextmanager
def claimed(folder: Path) -> Iterator[list[Path]]:
    """The existing parts of the folder, locked against other processes of ours. Raises FacetsError if one runs on
    it."""
    owner = Owner.this_process()
    with ExitStack() as stack:
        locks = [folder / UP_LOCK, *sorted(folder.glob("work/*/worker-*.lock"))]
        for lock in locks:
            try:
                stack.enter_context(ProcessLock(lock, owner))
            except LockHeld as error:
                user = "`facets up`" if lock.name == UP_LOCK else f"the worker {lock.parent.name}"
                raise _in_use(folder, user, error.owner.pid if error.owner else None) from None
            except OSError as error:
                raise FacetsError(
                    f"the data folder {folder} can't be used: {error.strerror or error}",
                    "check who owns it", ExitCode.IO_ERROR,
                ) from error  # fmt: skip
        broker = find_process(BrokerFiles.under(folder))
        if broker is not None:
            raise _in_use(folder, "a Kafka broker", broker.pid)
        yield [folder / name for name in _PARTS if (folder / name).exists()]


def size_of(path: Path) -> int:
    """Bytes in a file, or in all files below a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def _in_use(folder: Path, user: str, pid: int | None) -> FacetsError:
    process = f" (process {pid})" if pid is not None else ""
    return FacetsError(
        f"{user}{process} runs on {folder}",
        "end it first" + (f": kill {pid}" if pid is not None else ""),
        ExitCode.NEGATIVE,
    )
