"""The standard streams of the `facets` command, and failures to write the output."""

import asyncio
import io
import os
import stat
import sys
from collections.abc import Coroutine
from typing import Any

from streams.errors import FacetsError
from streams.exit_codes import ExitCode

_MODES = {0: os.O_RDONLY, 1: os.O_RDONLY, 2: os.O_WRONLY}
"""How to open the null device in place of a closed stream. Writing to such a standard output fails, as it would without
one: a command that prints its answer must not succeed if nobody gets it."""


class OutputFailed(FacetsError):
    """Standard output can't be written: the disk is full, or it is closed."""

    exit_code = ExitCode.IO_ERROR


class ReaderLeft(FacetsError):
    """The reader of standard output has exited (`| head`): there is nothing left to do, and nothing to report."""

    exit_code = ExitCode.OK


class _Output(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError as error:
            raise ReaderLeft("the reader of standard output has exited") from error
        except OSError as error:
            raise OutputFailed(
                f"can't write to standard output: {error.strerror}", "free space, or redirect it elsewhere"
            ) from error


def prepare_standard_streams() -> None:
    """Open closed streams, so that no socket gets their numbers; a failed write then raises OutputFailed or
    ReaderLeft."""
    for number, mode in _MODES.items():
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken: this one, as those below it are open.
            os.open(os.devnull, mode)
    sys.stdin = sys.stdin or io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stderr = sys.stderr or io.TextIOWrapper(io.BufferedWriter(io.FileIO(2, "w", closefd=False)))
    before = sys.stdout
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(1, "w", closefd=False)),
        encoding=before.encoding if before else "utf-8",
        errors=before.errors if before else "strict",
        line_buffering=os.isatty(1),
    )


async def until_reader_leaves(main: Coroutine[Any, Any, None]) -> None:
    """Run until the reader of our output's pipe exits: a process with nothing to write would never notice."""
    task = asyncio.ensure_future(main)
    output = sys.__stdout__.fileno() if sys.__stdout__ is not None else -1
    pipe = output >= 0 and stat.S_ISFIFO(os.fstat(output).st_mode)
    loop = asyncio.get_running_loop()
    reader_left = asyncio.Event()
    if pipe:
        loop.add_reader(output, reader_left.set)
    watch = asyncio.ensure_future(reader_left.wait())
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        if pipe:
            loop.remove_reader(output)
        watch.cancel()
        task.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


def discard_output() -> None:
    """Discard standard output: what is still buffered would fail again at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
