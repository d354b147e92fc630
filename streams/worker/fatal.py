"""Ending the worker at once: one that goes on after a fault could tear a set."""

import asyncio
import logging
import os

from streams.exit_codes import ExitCode

log = logging.getLogger("facets.work")


def fatal(text: str, *parts: object, code: ExitCode = ExitCode.FATAL) -> None:
    """Log and end the process at once."""
    log.critical(text, *parts)
    logging.shutdown()
    os._exit(code)


def report_failure(task: "asyncio.Future[None]") -> None:
    """End the process because of what a task failed with; for `add_done_callback`."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a task of the worker failed", exc_info=error)
        fatal("stopping: a restart goes on from the last seal")
