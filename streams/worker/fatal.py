"""Ends the worker at once: to continue after a fault could corrupt the tables."""

import asyncio
import logging
import os
from typing import NoReturn

from streams.errors import FacetsError
from streams.exit_codes import ExitCode

log = logging.getLogger("facets.work")


def fatal(text: str, *parts: object, code: ExitCode = ExitCode.FATAL) -> NoReturn:
    """Log and end the process at once."""
    log.critical(text, *parts)
    logging.shutdown()
    os._exit(code)


def fatal_error(error: FacetsError) -> NoReturn:
    """End the process at once because of an error that a person can act on."""
    fatal("%s: %s", error, error.remedy, code=error.exit_code)


def report_failure(task: "asyncio.Future[None]") -> None:
    """End the process if a task failed; for `add_done_callback`."""
    if not task.cancelled() and (error := task.exception()) is not None:
        if isinstance(error, FacetsError):
            fatal_error(error)
        log.error("a task of the worker failed", exc_info=error)
        fatal("stopping: a restart goes on from the last seal")
