"""Ending the worker at once: one that goes on after a fault could tear a set."""

import logging
import os

log = logging.getLogger("facets.work")

FATAL_EXIT = 70
"""Exit code of a worker that stops rather than go on wrong (sysexits: internal software error)."""


def fatal(text: str, *parts: object, code: int = FATAL_EXIT) -> None:
    """Log and end the process at once."""
    log.critical(text, *parts)
    logging.shutdown()
    os._exit(code)
