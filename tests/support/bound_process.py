"""Processes that tests start, and that end with them, even if those are killed."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from streams.runtime.parent_death import bound

# A bound process ends with the thread that started it: this one lives until the interpreter ends.
_starter = ThreadPoolExecutor(1, thread_name_prefix="bound-process")


def start_bound(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
    """`subprocess.Popen(command, **options)`, bound to the life of this process (on Linux)."""
    return _starter.submit(subprocess.Popen, bound(command), **options).result()
