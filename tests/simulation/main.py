"""Many seeds in several processes; what failed is named with the one command that replays it."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

from tests.simulation.faults import PLANTED, planted
from tests.simulation.run import STEPS, Outcome, simulate

_CHUNK = 25


class Report(NamedTuple):
    """What many seeds came to."""

    outcomes: list[Outcome]

    @property
    def failed(self) -> list[Outcome]:
        """The runs in which a guarantee was broken."""
        return [each for each in self.outcomes if each.problem]

    @property
    def faults(self) -> Counter[str]:
        """What happened in all runs, and how often."""
        faults: Counter[str] = Counter()
        for each in self.outcomes:
            faults.update(each.faults)
        return faults

    def text(self, steps: int = STEPS) -> str:
        """What was run, and what failed."""
        faults = self.faults
        lines = [
            f"{len(self.outcomes)} seeds, {faults.total()} faults, "
            f"{sum(each.checks for each in self.outcomes)} rows compared, "
            f"{sum(each.batches for each in self.outcomes)} batches delivered, violations {len(self.failed)}",
            "faults: " + ", ".join(f"{name} {count}" for name, count in sorted(faults.items())),
        ]
        for each in self.failed[:10]:
            lines += [f"seed {each.seed}: {each.problem}", f"    replay: {replay(each.seed, steps)}"]
        return "\n".join(lines)


def replay(seed: int, steps: int = STEPS, fault: str = "") -> str:
    """The command that runs one seed again."""
    command = f".venv/bin/python -m tests.simulation --seeds {seed}"
    if steps != STEPS:
        command += f" --steps {steps}"
    return command + (f" --plant {fault}" if fault else "")


def run_chunk(seeds: Sequence[int], steps: int, fault: str = "") -> list[Outcome]:
    """Some seeds in this process."""
    with planted(fault):
        return [simulate(seed, steps) for seed in seeds]


def run_seeds(seeds: Sequence[int], steps: int = STEPS, processes: int = 0, fault: str = "") -> Iterator[list[Outcome]]:
    """All seeds, in order, in chunks as they are done. Processes are spawned: nothing is inherited."""
    chunks = [seeds[at : at + _CHUNK] for at in range(0, len(seeds), _CHUNK)]
    work = partial(run_chunk, steps=steps, fault=fault)
    processes = min(processes or os.cpu_count() or 1, len(chunks))
    if processes <= 1:
        yield from map(work, chunks)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, chunks)


def parse_seeds(text: str) -> range:
    """`7` is one seed, `0:2000` those from 0 to 1999, `2000` alone none but itself. Raises ValueError."""
    first, colon, last = text.partition(":")
    start = int(first)
    return range(start, int(last) if colon else start + 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 0 where every guarantee held, 1 where one was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=parse_seeds, default=range(2000), help="one, or FIRST:END (default 0:2000)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"turns of a run before it drains (default {STEPS})")
    parser.add_argument("--processes", type=int, default=0, help="default: one for each core")
    parser.add_argument("--plant", choices=sorted(PLANTED), default="", help="with this fault in the code")
    chosen = parser.parse_args(arguments)
    report = Report([])
    quiet = not sys.stderr.isatty()
    try:
        for done in run_seeds(chosen.seeds, chosen.steps, chosen.processes, chosen.plant):
            report.outcomes.extend(done)
            for each in done:
                if each.problem:
                    print(f"seed {each.seed}: {each.problem}")
                    print(f"    replay: {replay(each.seed, chosen.steps, chosen.plant)}", flush=True)
            count = len(report.outcomes)
            if not quiet:
                print(f"\r{count}/{len(chosen.seeds)} seeds", end="", file=sys.stderr, flush=True)
            elif count % 1000 < _CHUNK:
                print(f"{count}/{len(chosen.seeds)} seeds", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(f"\nstopped after {len(report.outcomes)} seeds", file=sys.stderr)
        return 130
    if not quiet:
        print(file=sys.stderr)
    print(report._replace(outcomes=[each._replace(problem="") for each in report.outcomes]).text().splitlines()[1])
    print(report.text(chosen.steps).splitlines()[0])
    return 1 if report.failed else 0
