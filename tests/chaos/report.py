"""What a run has to say: counts, times, and violations with their seed."""

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any


class Report:
    """Collects; `violation` prints at once, for a run may be ended before its report."""

    def __init__(self, seed: int, minutes: float) -> None:
        self.seed = seed
        self.minutes = minutes
        self.quiet_points = 0
        self.violations: list[dict[str, Any]] = []
        self.counts: dict[str, Any] = {}
        self.faults: Counter[str] = Counter()
        self.fault_log: list[dict[str, Any]] = []
        self.times: dict[str, dict[str, Any]] = {}
        self._begun = time.monotonic()

    def violation(self, what: str, where: str) -> None:
        """Something that must not be."""
        at = round(time.monotonic() - self._begun, 1)
        self.violations.append({"what": what, "where": where, "at": at, "seed": self.seed})
        if len(self.violations) <= 50:
            print(f"VIOLATION after {at:.0f} s: {what}: {where[:2000]} (seed {self.seed})", file=sys.stderr, flush=True)

    def measured(self, name: str, seconds: list[float]) -> None:
        """Times by name: how many, the middle one and the longest, in seconds."""
        found = sorted(seconds)
        self.times[name] = (
            {"count": len(found), "p50": round(found[(len(found) - 1) // 2], 2), "max": round(found[-1], 2)}
            if found
            else {"count": 0}
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "minutes": self.minutes,
            "seconds": round(time.monotonic() - self._begun, 1),
            "faults": dict(sorted(self.faults.items())),
            "faultsInjected": self.faults.total(),
            "quietPoints": self.quiet_points,
            **self.counts,
            "times": self.times,
            "violations": self.violations,
            "faultLog": self.fault_log,
        }

    def write(self, path: Path) -> None:
        """The JSON file, and the text on stdout."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_dict(), indent=1) + "\n")
        print(f"seed {self.seed}, {time.monotonic() - self._begun:.0f} s")
        print(f"faults injected {self.faults.total()}")
        for kind, count in sorted(self.faults.items()):
            print(f"  {kind:<22} {count}")
        print(f"quiet points {self.quiet_points}")
        for name, value in self.counts.items():
            print(f"{name} {value if not isinstance(value, dict) else ''}".rstrip())
            if isinstance(value, dict):
                for each, count in value.items():
                    print(f"  {each:<22} {count}")
        for name, value in self.times.items():
            figures = f"p50 {value['p50']:.1f} s, max {value['max']:.1f} s" if value["count"] else "none"
            print(f"{name}: {value['count']} times, {figures}")
        print(f"violations {len(self.violations)}")
