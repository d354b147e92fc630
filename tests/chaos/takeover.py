"""How long it took until somebody went on: from the log's own times and those of the kills."""

from tests.chaos.faults import Fault
from tests.chaos.logs import Written, commit_of
from tests.chaos.report import Report

SESSION_SECONDS = 10.0
"""The workers' group session: one that is away for longer loses its partitions to the other."""
AFTER_SECONDS = 5.0
"""How long a fault is felt after it is undone."""
MATTERS = {
    "kill watcher": ("watcher", "broker", "etcd", "kube-apiserver"),
    "kill worker": ("worker", "watcher", "broker"),
}


def measure(written: Written, faults: list[Fault], report: Report) -> None:
    """Adds the times to the report; those of a fault that was alone, and of all."""
    commits = sorted(
        ((record.at, commit_of(record)) for records in written.journal.values() for record in records),
        key=lambda each: each[0],
    )
    opened: dict[int, tuple[float, str]] = {}
    complete: dict[int, float] = {}
    for at, commit in commits:
        if commit["phase"] == "begin":
            opened.setdefault(commit["epoch"], (at, commit["writer"]))
        elif commit["phase"] == "end":
            complete[commit["epoch"]] = at
    report.counts["takeovers"] = sum(
        _pid(opened[epoch][1]) != _pid(opened[epoch - 1][1]) for epoch in opened if epoch - 1 in opened
    )
    first: list[tuple[float, bool]] = []
    whole: list[tuple[float, bool]] = []
    for fault in faults:
        if fault.kind != "kill watcher" or not fault.leader:
            continue
        epoch, at = min(((epoch, at) for epoch, (at, _) in opened.items() if at > fault.begun), default=(0, 0.0))
        if epoch:
            first.append((at - fault.begun, _alone(fault, at, faults)))
        if epoch in complete:
            whole.append((complete[epoch] - fault.begun, _alone(fault, complete[epoch], faults)))
    _both("watcher killed to the standby's first commit", first, report)
    _both("watcher killed to the standby's whole snapshot", whole, report)
    back: list[tuple[float, bool]] = []
    gone: list[tuple[float, bool]] = []
    for fault in faults:
        if fault.kind != "kill worker":
            continue
        seals = [
            at
            for partition in fault.partitions
            for at, _ in written.tables["backend", partition].sealed_at
            if at > fault.begun
        ]
        if seals:
            (back if fault.ended - fault.begun < SESSION_SECONDS else gone).append(
                (min(seals) - fault.begun, _alone(fault, min(seals), faults))
            )
    _both("worker killed and started again to its first new seal", back, report)
    _both("worker killed to the other one's first new seal", gone, report)


def _pid(writer: str) -> str:
    """Of HOST-PID-RANDOM."""
    return writer.split("-")[-2]


def _alone(fault: Fault, until: float, faults: list[Fault]) -> bool:
    """Whether nothing else was wrong up to then that it could have waited for."""
    matters = MATTERS[fault.kind]
    return not any(
        other is not fault
        and any(each in other.kind for each in matters)
        and other.begun < until
        and other.ended + AFTER_SECONDS > fault.begun
        for other in faults
    )


def _both(name: str, found: list[tuple[float, bool]], report: Report) -> None:
    report.measured(f"{name} (nothing else wrong)", [seconds for seconds, alone in found if alone])
    report.measured(f"{name} (all)", [seconds for seconds, _ in found])
