"""Leases: locked files in a folder, one for each user of a resource. The kernel frees them when their process ends."""

from pathlib import Path

from filelock import FileLock, Timeout


def lease(folder: Path, name: str) -> FileLock:
    """A user's lease, not yet acquired. Any thread of the process may release it."""
    return FileLock(folder / name, thread_local=False)


def holders(folder: Path) -> list[str]:
    """The names of all leases in use; deletes those whose process has ended."""
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
