"""Folds several partitions at once, in a process for each core: a fold keeps one core busy."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, TypeVar

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.history.collectors import RowCollector
from streams.history.coverage import Coverage
from streams.history.partition_replay import PartitionReplay, replay_partition
from streams.kafka.range_reader import RangeReader
from streams.runtime.parent_death import signal_on_parent_death

_REPORT_SECONDS = 0.2

_Collector = TypeVar("_Collector", bound=RowCollector)
_Job = TypeVar("_Job")
_Result = TypeVar("_Result")

Report = Callable[[int], None]
"""Gets the number of records done."""


class _Stopped(Exception):
    """The parent needs no result any more."""


class _Shared:
    """What a process of the pool shares with its parent, once it has begun."""

    bootstrap: str
    done: Any
    stopping: Any


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def replay_in_processes(
    bootstrap: str,
    replays: Sequence[PartitionReplay],
    make_collector: Callable[[], _Collector],
    processes: int,
    report: Report,
) -> dict[int, tuple[Coverage, _Collector]]:
    """By partition its coverage and its collector. `report` gets the number of records folded in all partitions, now
    and then. Raises FacetsError."""
    replay = partial(_replay, make_collector)
    results = run_in_processes(bootstrap, replays, replay, processes, report)
    return {replay.partition: result for replay, result in zip(replays, results, strict=True)}


def run_in_processes(
    bootstrap: str,
    jobs: Sequence[_Job],
    work: Callable[[str, _Job, Report], _Result],
    processes: int,
    report: Report,
) -> list[_Result]:
    """What `work` returns for each job, given Kafka's address and a `report` of its own; it is pickled, as are jobs and
    results. `report` gets the sum of what the jobs report, now and then; what it raises ends them all. Raises
    FacetsError."""
    # A forked process would share the broker connections of this one.
    context = multiprocessing.get_context("spawn")
    done: Any = context.Array("q", len(jobs))
    stopping = context.Event()
    initial = bootstrap, done, stopping, os.getpid()
    with ProcessPoolExecutor(processes, context, _begin, initial) as pool:
        try:
            futures = [pool.submit(_work, work, job, slot) for slot, job in enumerate(jobs)]
            for _ in _until_done(set(futures)):
                report(sum(done))
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise FacetsError(
                "a process that folds the journal has ended before its time",
                "a replay of everything holds all rows: the kernel may have run out of memory (dmesg)",
                ExitCode.UNAVAILABLE,
            ) from error
        except BaseException:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _until_done(pending: set[Future[Any]]) -> Iterator[None]:
    """Yields now and then until all are done, or one has failed."""
    while pending:
        done, pending = wait(pending, _REPORT_SECONDS, FIRST_COMPLETED)
        for future in done:
            future.result()
        yield


def _begin(bootstrap: str, done: Any, stopping: Any, parent: int) -> None:
    """In a process of the pool: it ends with its parent, which alone is told of Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal_on_parent_death(parent)
    _Shared.bootstrap, _Shared.done, _Shared.stopping = bootstrap, done, stopping


def _work(work: Callable[[str, _Job, Report], _Result], job: _Job, slot: int) -> _Result:
    def report(done: int) -> None:
        _Shared.done[slot] = done
        if _Shared.stopping.is_set():
            raise _Stopped

    return work(_Shared.bootstrap, job, report)


def _replay(
    make_collector: Callable[[], _Collector], bootstrap: str, replay: PartitionReplay, report: Report
) -> tuple[Coverage, _Collector]:
    collector = make_collector()
    with RangeReader(bootstrap) as reader:
        return replay_partition(replay, reader, collector, report), collector
