"""Runs the worker process: the Faust app under a quiet Faust worker that a signal stops within a time limit."""

import logging
import warnings
from typing import Any

from streams.runtime import shutdown
from streams.worker.app import create_app
from streams.worker.faust_overrides import FacetWorker
from streams.worker.materializer import WorkerSettings


def run_worker(settings: WorkerSettings, loglevel: str = "INFO") -> int:
    """Run until it is told to stop; the exit code. Blocks."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    app = create_app(settings)
    # Faust's banner and its tables of partitions are for people at a terminal; ours is one line a rebalance.
    for name in ("faust", "mode", "streams.worker"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Late timers on a busy machine: nobody can act on them, and their consequences are logged elsewhere.
    logging.getLogger("mode.timers").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        worker: Any = FacetWorker(app, loglevel=loglevel, quiet=True, redirect_stdouts=False, override_logging=False)
        # It would write escape sequences into logs and pipes.
        worker.spinner = None
        try:
            worker.execute_from_commandline()
        except SystemExit as stop:
            shutdown.leave()
            return int(stop.code or 0)
    return 0
