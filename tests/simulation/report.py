"""What many seeds came to, in a form that can be written down and gone on with."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import msgspec

from tests.simulation.run import STEPS, Outcome

ROOT = Path(__file__).parents[2]


class Failure(msgspec.Struct):
    """A seed in which a guarantee was broken."""

    seed: int
    problem: str


class Report(msgspec.Struct):
    """The sums of all runs; `done` counts the seeds, `code` those that each state of the code was run with."""

    done: int = 0
    checks: int = 0
    batches: int = 0
    faults: dict[str, int] = msgspec.field(default_factory=dict)
    failed: list[Failure] = msgspec.field(default_factory=list)
    code: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, outcomes: Iterable[Outcome], code: str = "") -> None:
        """Count these runs in."""
        for outcome in outcomes:
            self.done += 1
            self.checks += outcome.checks
            self.batches += outcome.batches
            for name, count in outcome.faults.items():
                self.faults[name] = self.faults.get(name, 0) + count
            self.code[code] = self.code.get(code, 0) + 1
            if outcome.problem:
                self.failed.append(Failure(outcome.seed, outcome.problem))

    def text(self, steps: int = STEPS, fault: str = "") -> str:
        """What was run, and what failed."""
        lines = [
            "faults: " + ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items())),
            f"{self.done} seeds, {sum(self.faults.values())} faults, {self.checks} rows compared, "
            f"{self.batches} batches delivered, violations {len(self.failed)}",
        ]
        if len(self.code) > 1:
            parts = ", then ".join(f"{count} with {code}" for code, count in self.code.items())
            lines.append(f"the code changed meanwhile: {parts}; --restart runs all of them with what it is now")
        for failure in self.failed:
            lines += [f"seed {failure.seed}: {failure.problem}", f"    replay: {replay(failure.seed, steps, fault)}"]
        return "\n".join(lines)


def replay(seed: int, steps: int = STEPS, fault: str = "") -> str:
    """The command that runs one seed again."""
    command = f".venv/bin/python -m tests.simulation --seeds {seed}"
    if steps != STEPS:
        command += f" --steps {steps}"
    return command + (f" --plant {fault}" if fault else "")


def code_state() -> str:
    """Names the state of the code that a run follows from, beside its seed."""
    digest = sha256()
    for folder in ("streams", "tests/simulation"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


class ProgressFile:
    """Where the report of a run that is not through yet is kept, so that the run can be interrupted and continued."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.json"

    def load(self) -> Report:
        """What was run already; an empty report where nothing was. Raises ValueError."""
        if not self.path.exists():
            return Report()
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Report)
        except msgspec.MsgspecError as error:
            raise ValueError(f"{self.path} can't be read ({error}): delete it, or run with --restart") from error

    def save(self, report: Report) -> None:
        """Keep the report, whatever may end this process meanwhile."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".new")
        beside.write_bytes(msgspec.json.encode(report))
        beside.replace(self.path)

    def forget(self) -> None:
        """The run is through, or begins anew."""
        self.path.unlink(missing_ok=True)
