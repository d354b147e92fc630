"""A lock with one owner process at a time: a locked file, with a note beside it that names the owner.

The kernel frees the lock however its owner ends, so a lock is never left behind; a note may be, and is then outdated.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Self

import orjson
import psutil
from filelock import FileLock, Timeout

_SAME_START_SECONDS = 1.0


class Owner:
    """An owner's note: its process, and `details` by name."""

    def __init__(
        self, pid: int, started: float, details: dict[str, str], children: dict[str, tuple[int, float]]
    ) -> None:
        self.pid = pid
        self.started = started
        self.details = details
        self.children = children

    @classmethod
    def this_process(cls, **details: str) -> Self:
        """The calling process, starting now."""
        return cls(os.getpid(), time.time(), details, {})

    @property
    def since(self) -> str:
        """When it started, in local time."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))

    def is_alive(self) -> bool:
        """Whether its process still runs (and its id has not been reused)."""
        try:
            return psutil.Process(self.pid).create_time() <= self.started + _SAME_START_SECONDS
        except psutil.Error:
            return False

    def note_child(self, name: str, pid: int) -> None:
        """Note a child process, so that it can be identified if it outlives its owner."""
        self.children[name] = (pid, psutil.Process(pid).create_time())

    def living_children(self) -> dict[str, psutil.Process]:
        """Its child processes that still run, by name."""
        living: dict[str, psutil.Process] = {}
        for name, (pid, created) in self.children.items():
            try:
                process = psutil.Process(pid)
                # Its process id may have been reused.
                if (
                    abs(process.create_time() - created) < _SAME_START_SECONDS
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    living[name] = process
            except psutil.NoSuchProcess:
                continue
        return living


class LockHeld(Exception):
    """Another process has the lock; `owner` if known."""

    def __init__(self, owner: Owner | None) -> None:
        super().__init__("the lock is held")
        self.owner = owner


def owner_of(path: Path) -> Owner | None:
    """The process that has the lock in a file, from its note; None if none has."""
    owner = _read_note(_note_of(path))
    return owner if owner is not None and owner.is_alive() else None


class ProcessLock:
    """A lock on a file, which need not exist, as a context manager."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self._note = _note_of(path)
        self._lock = FileLock(path, thread_local=False)
        self._owner = owner
        self.previous: Owner | None = None

    def __enter__(self) -> Self:
        """Take the lock, and read the note of its previous owner, if that did not release it. Raises LockHeld,
        OSError."""
        Path(self._lock.lock_file).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise LockHeld(_read_note(self._note)) from None
        self.previous = _read_note(self._note)
        self.write()
        return self

    def __exit__(self, *_: object) -> None:
        self._note.unlink(missing_ok=True)
        self._lock.release()

    def write(self) -> None:
        """Write the owner's note, atomically."""
        owner = self._owner
        note = {"pid": owner.pid, "started": owner.started, "details": owner.details, "children": owner.children}
        with tempfile.NamedTemporaryFile(dir=self._note.parent, delete=False) as file:
            file.write(orjson.dumps(note))
        os.replace(file.name, self._note)


def _note_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_note(path: Path) -> Owner | None:
    try:
        note = orjson.loads(path.read_bytes())
        children = {str(name): (int(pid), float(created)) for name, (pid, created) in note["children"].items()}
        return Owner(int(note["pid"]), float(note["started"]), dict(note["details"]), children)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
