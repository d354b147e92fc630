"""Ending the worker at once: one that goes on after a fault could tear a set."""

import logging
import os

from streams.exit_codes import ExitCode

log = logging.getLogger("facets.work")


def fatal(text: str, *parts: object, code: ExitCode = ExitCode.FATAL) -> None:
    """Log and end the process at once."""
    log.critical(text, *parts)
    logging.shutdown()
    os._exit(code)
