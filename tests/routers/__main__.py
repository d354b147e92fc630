"""`python -m tests.routers --minutes 2 [--seed N]`: real routers while two real clusters change. Exit code 1 when a
router refused something, a request failed or went where it must not, or a change was not seen.

Needs KUBEBUILDER_ASSETS (`make chaos` sets it), and a network namespace (`tests.support.network_namespace`).
"""

import argparse
import asyncio
import json
import logging
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.routers.drive import Drive
from tests.routers.gate import Rollout
from tests.routers.stage import ROOT, ROUTERS, Stage
from tests.support import network_namespace

_RATE = 30.0


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.routers", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2, help="for how long (default: %(default)s)")
    parser.add_argument(
        "--replacements", type=int, default=5, help="Pods that are then replaced behind a gate (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, help="choose the same changes again (their timing is the machine's)")
    parser.add_argument("--report", type=Path, default=ROOT / "build" / "routers.json", help="default: %(default)s")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


async def run(minutes: float, replacements: int, seed: int, folder: Path) -> dict[str, Any]:
    """Drive, and report."""
    async with Stage(folder, ("east", "west"), _RATE) as stage:
        drive = Drive(stage, seed)
        gate: dict[str, Any] = {}
        try:
            await drive.prepare()
            await drive.run(minutes * 60)
            rollout = Rollout(stage, drive.cart["east"])
            for name, hook in (("wait", rollout.wait), ("command", rollout.wait_by_command)):
                gate[name] = await rollout.replace(hook, replacements)
        except Exception as error:
            stage.violations.append(f"the run ended early: {error!r}")
            logging.exception("the run ended early")
        return await report(stage, drive) | {"gate": gate}


async def report(stage: Stage, drive: Drive) -> dict[str, Any]:
    """What was done, and what came of it."""
    await drive.count_nacks()
    rejected = await stage.envoy_stats("update_rejected")
    return {
        "changes": dict(sorted(drive.changes.items())),
        "restarts": dict(drive.restarts),
        "seen": dict(drive.seen),
        "setsAcked": {name: len(versions) for name, versions in drive.acked.items()},
        "requests": {name: load.requests for name, load in stage.loads.items()},
        "failed": {name: load.failed for name, load in stage.loads.items()},
        "misrouted": {name: load.misrouted for name, load in stage.loads.items()},
        "addressesAnswered": {
            name: len({address for answered in load.answered.values() for address in answered})
            for name, load in stage.loads.items()
        },
        "nacks": dict(drive.nacks),
        "rejectedByEnvoy": sum(rejected.values()),
        "updatesOfEnvoy": sum((await stage.envoy_stats("update_success")).values()),
        "refusedInLogOfGrpc": stage.log("load-grpc").count("will NACK"),
        "violations": stage.violations,
    }


def summary(outcome: dict[str, Any]) -> str:
    """One line."""
    by_router = {
        name: ", ".join(f"{router} {outcome[name][router]}" for router in ROUTERS)
        for name in ("requests", "failed", "misrouted", "nacks", "setsAcked", "addressesAnswered")
    }
    return (
        f"routers: {sum(outcome['changes'].values())} changes ({len(outcome['changes'])} kinds), "
        f"{sum(outcome['restarts'].values())} restarts; "
        f"sets acknowledged: {by_router['setsAcked']}; requests: {by_router['requests']}; "
        f"failed: {by_router['failed']}; "
        f"to a withdrawn address: {by_router['misrouted']}; addresses that answered: {by_router['addressesAnswered']}; "
        f"NACKs: {by_router['nacks']} (Envoy's own count {outcome['rejectedByEnvoy']}, gRPC's log "
        f"{outcome['refusedInLogOfGrpc']}); violations: {len(outcome['violations'])}"
    )


def inside(chosen: argparse.Namespace) -> int:
    """The run, in the namespace."""
    network_namespace.enter()
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(2**31)
    print(f"routers: {chosen.minutes:g} minutes, seed {seed}", file=sys.stderr, flush=True)
    folder = Path(tempfile.mkdtemp(prefix="facets-routers-"))
    outcome = asyncio.run(run(chosen.minutes, chosen.replacements, seed, folder))
    outcome |= {"seed": seed, "minutes": chosen.minutes}
    chosen.report.parent.mkdir(parents=True, exist_ok=True)
    chosen.report.write_text(json.dumps(outcome, indent=1) + "\n")
    for violation in outcome["violations"][:50]:
        print(f"VIOLATION: {violation}", file=sys.stderr)
    print(summary(outcome), flush=True)
    if outcome["violations"]:
        print(f"logs and data: {folder} (seed {seed})")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def main() -> int:
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr, level=logging.WARNING)
    # Whoever ends us ends what we have started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = options()
    if not chosen.inside:
        network_namespace.exec_inside("tests.routers")
    return inside(chosen)


if __name__ == "__main__":
    sys.exit(main())
