"""Many seeds in several processes; what failed is named with the one command that replays it."""

import argparse
import gc
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.simulation.faults import PLANTED, planted
from tests.simulation.report import ProgressFile, Report, code_state, replay
from tests.simulation.run import STEPS, Outcome, simulate
from tests.simulation.seeds import chunks, parse_seeds

_CHUNK = 10
_LINE_EVERY = 1000


def run_chunk(seeds: Sequence[int], steps: int, fault: str = "") -> list[Outcome]:
    """Some seeds in this process."""
    with planted(fault):
        outcomes = [simulate(seed, steps) for seed in seeds]
    if not gc.isenabled():
        gc.collect()
    return outcomes


def run_seeds(seeds: Sequence[int], steps: int = STEPS, processes: int = 0, fault: str = "") -> Iterator[list[Outcome]]:
    """All seeds, in order, in chunks as they are done. Processes are spawned: nothing is inherited."""
    work = partial(run_chunk, steps=steps, fault=fault)
    parts = chunks(seeds, _CHUNK)
    processes = min(processes or os.cpu_count() or 1, len(parts))
    if processes <= 1:
        yield from map(work, parts)
        return
    # No more at once than are worked on soon: an interrupted run ends when those are done.
    ahead: deque[Future[list[Outcome]]] = deque()
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_prepare_process) as pool:
        for part in parts:
            ahead.append(pool.submit(work, part))
            if len(ahead) > 2 * processes:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _prepare_process() -> None:
    # A run makes few cycles and many objects: collecting once for each chunk takes a fifth off.
    gc.freeze()
    gc.disable()
    # At once and silently, rather than with the chunk, or with a traceback: its seeds are run again.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 0 where every guarantee held, 1 where one was broken, 2 where it can't be run, 130 where it was
    interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:2000", help="one, or FIRST:END, several with commas (default 0:2000)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"turns of a run before it drains (default {STEPS})")
    parser.add_argument("--processes", type=int, default=0, help="default: one for each core")
    parser.add_argument("--plant", choices=sorted(PLANTED), default="", help="with this fault in the code")
    parser.add_argument("--progress", type=Path, metavar="FOLDER", help="keep there how far it is, and go on from it")
    parser.add_argument("--restart", action="store_true", help="from the first seed, whatever --progress has")
    chosen = parser.parse_args(arguments)
    try:
        seeds = parse_seeds(chosen.seeds)
        kept = _progress_file(chosen) if chosen.progress and len(seeds) > _CHUNK else None
        report = kept.load() if kept and not chosen.restart else Report()
    except ValueError as error:
        parser.error(str(error))
    again = _command(sys.argv[1:] if arguments is None else arguments)
    if report.done:
        print(f"going on after {report.done} of {len(seeds)} seeds, violations {len(report.failed)}", file=sys.stderr)
    try:
        _run(chosen, seeds, report, kept)
    except KeyboardInterrupt:
        print(f"\nstopped after {report.done} of {len(seeds)} seeds", file=sys.stderr)
        if kept:
            print(f"go on with: {again}", file=sys.stderr)
        return 130
    print(report.text(chosen.steps, chosen.plant))
    if kept:
        kept.forget()
    return 1 if report.failed else 0


def _run(chosen: argparse.Namespace, seeds: list[int], report: Report, kept: ProgressFile | None) -> None:
    code, left = code_state(), seeds[report.done :]
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("seeds"), TimeElapsedColumn(), TimeRemainingColumn())
    violations = TextColumn("violations {task.fields[violations]}")
    with Progress(*columns, violations, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=len(seeds), completed=report.done, violations=len(report.failed))
        lines = -1
        for outcomes in run_seeds(left, chosen.steps, chosen.processes, chosen.plant) if left else ():
            report.add(outcomes, code)
            if kept:
                kept.save(report)
            for outcome in outcomes:
                if outcome.problem:
                    # At once: a long run is left alone.
                    print(f"seed {outcome.seed}: {outcome.problem}")
                    print(f"    replay: {replay(outcome.seed, chosen.steps, chosen.plant)}", flush=True)
            bar.update(task, completed=report.done, violations=len(report.failed))
            if not console.is_terminal and report.done // _LINE_EVERY != lines:
                lines = report.done // _LINE_EVERY
                console.print(f"{report.done}/{len(seeds)} seeds, violations {len(report.failed)}", highlight=False)


def _progress_file(chosen: argparse.Namespace) -> ProgressFile:
    name = chosen.seeds.replace(":", "-").replace(",", "_")
    name += f"-steps{chosen.steps}" if chosen.steps != STEPS else ""
    return ProgressFile(chosen.progress, name + (f"-{chosen.plant}" if chosen.plant else ""))


def _command(arguments: Sequence[str]) -> str:
    return " ".join([".venv/bin/python -m tests.simulation", *(each for each in arguments if each != "--restart")])
