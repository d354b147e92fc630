"""Chaos on the real parts: `python -m tests.chaos --minutes 10 [--seed N]`. Exit code 1 when a guarantee was broken.

Needs KUBEBUILDER_ASSETS (`make chaos` sets it). Everything that it starts is ended again, at the end and on Ctrl-C.
"""

import argparse
import logging
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from tests.chaos.churn import Churn
from tests.chaos.cluster import ROOT, Cluster
from tests.chaos.faults import NO_WORKER_SECONDS, SOON_SECONDS, Faults
from tests.chaos.logs import check_logs
from tests.chaos.quiet import check
from tests.chaos.report import Report
from tests.chaos.takeover import measure
from tests.support.controlplane import MissingAssets, Workload
from tests.support.controlplane.demo_churn import populate

QUIET_EVERY = 150.0
SETTLE_SECONDS = 120.0


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long faults are injected (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="choose the same faults again (their timing is the machine's)")
    parser.add_argument("--report", type=Path, default=ROOT / "build" / "chaos.json", help="default: build/chaos.json")
    parser.add_argument("--keep", action="store_true", help="keep logs and data, as is done after a violation")
    return parser.parse_args()


class Progress:
    """A line on stderr now and then."""

    def __init__(self, minutes: float, report: Report, faults: Faults, cluster: Cluster, churn: Churn) -> None:
        self._parts = (report, faults, cluster, churn)
        self._begun = time.monotonic()
        self._seconds = minutes * 60
        self._every = 10 if sys.stderr.isatty() else 30
        self._next = self._begun

    def wait(self, seconds: float) -> None:
        """Let time pass, and show it."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.show()
            time.sleep(min(left, 1.0))

    def show(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every
        report, faults, cluster, churn = self._parts
        print(
            f"chaos {now - self._begun:4.0f}/{self._seconds:.0f} s: {faults.injected.total()} faults, "
            f"epoch {cluster.epoch()}, {churn.acts} acts ({churn.failed} failed), "
            f"{report.quiet_points} quiet points, violations {len(report.violations)}",
            file=sys.stderr,
            flush=True,
        )


def storm(faults: Faults, progress: Progress, seconds: float, left: float) -> None:
    """Faults for so long, while the cluster changes."""
    end = time.monotonic() + seconds
    if seconds > 2 * NO_WORKER_SECONDS and not faults.injected["no worker for 60 s"]:
        faults.no_worker()
        progress.wait(NO_WORKER_SECONDS + 2 * SOON_SECONDS)
        faults.settle(SETTLE_SECONDS)
    for kill, pause in faults.measured():
        kill()
        progress.wait(pause)
    while (now := time.monotonic()) < end:
        faults.inject(left - (seconds - (end - now)))
        progress.wait(min(faults.pause(), end - time.monotonic()))


def run(minutes: float, seed: int, report: Report, cluster: Cluster) -> None:
    chance = random.Random(seed)
    work = Workload(cluster.plane.api)
    work.add_nodes()
    populate(work, dual_stack=True)
    churn = Churn(work, chance.randrange(2**32))
    churn.prepare()
    churn.mark()
    faults = Faults(cluster, chance.randrange(2**32), minutes * 60, lambda what: report.violation("trouble", what))
    progress = Progress(minutes, report, faults, cluster, churn)
    churn.start()
    report.faults = faults.injected
    try:
        # All must be there, and well, before the first fault.
        check(cluster, churn, report)
        end = time.monotonic() + minutes * 60
        while (left := end - time.monotonic()) > 1:
            churn.go_on()
            rounds = max(1, round(left / QUIET_EVERY))
            storm(faults, progress, left / rounds * (0.85 if rounds > 1 else 1), left)
            faults.settle(SETTLE_SECONDS)
            churn.hold()
            check(cluster, churn, report)
            progress.show()
    finally:
        faults.end()
        churn.end()
    report.counts["acts of churn"] = churn.acts
    report.counts["watches that had to list again"] = cluster.count("watcher", "listing again")
    report.counts["ended by itself, started again"] = dict(sorted(cluster.own_ends.items()))
    report.fault_log = [fault._asdict() for fault in faults.done]
    written = check_logs(cluster, report)
    measure(written, faults.done, report)


def main() -> int:
    chosen = options()
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(2**31)
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr, level=logging.WARNING)
    # Refused connections are what is wanted here.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    logging.getLogger("chaos.faults").setLevel(os.environ.get("CHAOS_LOG", "WARNING"))
    # Whoever ends us ends what we have started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"chaos: {chosen.minutes:g} minutes, seed {seed}", file=sys.stderr, flush=True)
    report = Report(seed, chosen.minutes)
    try:
        cluster = Cluster()
    except MissingAssets as error:
        print(error, file=sys.stderr)
        return 69
    interrupted = False
    try:
        with cluster:
            run(chosen.minutes, seed, report, cluster)
    except KeyboardInterrupt:
        interrupted = True
        print("chaos: interrupted; everything is ended", file=sys.stderr)
    except BaseException:
        print(f"chaos: logs and data are in {cluster.folder} (seed {seed})", file=sys.stderr)
        raise
    report.write(chosen.report)
    if report.violations or chosen.keep:
        print(f"logs and data: {cluster.folder}")
    else:
        shutil.rmtree(cluster.folder, ignore_errors=True)
    return 1 if report.violations else 130 if interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
