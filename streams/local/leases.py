"""Leases: locked files in a folder, one for each user of a thing. The kernel frees them when their process ends."""

from pathlib import Path

from filelock import FileLock, Timeout


def lease(folder: Path, name: str) -> FileLock:
    """A user's lease, not yet taken. Held by the open file, whichever thread of the process gives it up."""
    return FileLock(folder / name, thread_local=False)


def holders(folder: Path) -> list[str]:
    """The names of all leases that are held; forgets those whose process has ended."""
    names = []
    for path in sorted(folder.iterdir()):
        candidate = lease(folder, path.name)
        try:
            candidate.acquire(timeout=0)
        except Timeout:
            names.append(path.name)
        else:
            candidate.release()
            path.unlink(missing_ok=True)
    return names
