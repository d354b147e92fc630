"""Allows one live worker of a name on a machine: two would keep replacing each other in their group.

The lock is not visible on other machines or from other data folders: there the newer worker replaces the older one,
which ends (`streams.worker.instance_guard`).
"""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.runtime.process_lock import LockHeld, Owner, ProcessLock


def lock_path(folder: Path, cluster_id: str, group: str) -> Path:
    """The lock's file: in the instance's own folder, one for each Kafka cluster and consumer group."""
    return folder / f"worker-{hashlib.sha256(f'{cluster_id}/{group}'.encode()).hexdigest()[:12]}.lock"


@contextlib.contextmanager
def instance_lock(folder: Path, instance: str, cluster_id: str, group: str) -> Iterator[None]:
    """Hold the name while the block runs. Raises FacetsError if another worker has it, or the file can't be created."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(ProcessLock(lock_path(folder, cluster_id, group), Owner.this_process()))
        except LockHeld as error:
            owner = error.owner
            raise FacetsError(
                f"a worker named {instance} already runs here"
                + (f" (process {owner.pid}, since {owner.since})" if owner else ""),
                "give this one a name of its own with --instance (and an --http-port), or end the other"
                + (f": kill {owner.pid}" if owner else ""),
                ExitCode.GAVE_UP,
            ) from None
        except OSError as error:
            raise FacetsError(
                f"the worker's folder {folder} can't be used: {error.strerror or error}",
                "free space, or name another with --data-dir or FACETS_DATA_DIR",
                ExitCode.IO_ERROR,
            ) from error
        yield
