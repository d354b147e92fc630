"""How long it took until somebody went on: from the log's own times and those of the kills."""

from tests.chaos.faults import Fault
from tests.chaos.logs import Written, _commit
from tests.chaos.report import Report


def measure(written: Written, faults: list[Fault], report: Report) -> None:
    """Adds the times to the report; those of a fault that was alone, and of all."""
    commits = sorted(
        ((record.at, _commit(record)) for records in written.journal.values() for record in records),
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
        after = [(epoch, at) for epoch, (at, _) in opened.items() if at > fault.begun]
        if not after:
            continue
        epoch, at = min(after)
        first.append((at - fault.begun, _alone(fault, at, faults)))
        if epoch in complete:
            whole.append((complete[epoch] - fault.begun, _alone(fault, complete[epoch], faults)))
    _both("watcher killed to the standby's first commit", first, report)
    _both("watcher killed to the standby's whole snapshot", whole, report)
    again: list[tuple[float, bool]] = []
    for fault in faults:
        if fault.kind != "kill worker" or not fault.partitions:
            continue
        sealed = []
        for partition in fault.partitions:
            log = written.tables["backend", partition]
            sealed.append(min((at for at, _ in log.sealed_at if at > fault.begun), default=None))
        at_first = [at for at in sealed if at is not None]
        if at_first:
            again.append((min(at_first) - fault.begun, _alone(fault, min(at_first), faults)))
    _both("worker killed to the first new seal of its partitions", again, report)


def _pid(writer: str) -> str:
    """Of HOST-PID-RANDOM."""
    return writer.split("-")[-2]


def _alone(fault: Fault, until: float, faults: list[Fault]) -> bool:
    """Whether nothing else was wrong up to then."""
    return not any(
        other is not fault and other.kind != "kill subscriber" and other.begun < until and other.ended > fault.begun
        for other in faults
    )


def _both(name: str, found: list[tuple[float, bool]], report: Report) -> None:
    report.measured(f"{name} (no other fault)", [seconds for seconds, alone in found if alone])
    report.measured(f"{name} (all)", [seconds for seconds, _ in found])
