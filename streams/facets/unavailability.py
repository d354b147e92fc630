"""Clusters of which nothing is heard: when their endpoints leave the sets that they export to, and come back.

All is decided by the journal's time (when Kafka took the records), so that whoever folds the journal decides the same,
at the same offset. A cluster is heard of with each record that shows its watcher alive. The policy is that of its
ServiceExport (`DropPolicy`); without one the endpoints stay, as other tables' rows do.

Endpoints that were dropped stay so for the policy's time at least, and come back once the cluster is heard of and its
state is complete: they go and come at most once in that time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from streams.wire.clusterset_records import DropPolicy, Unavailability
from streams.wire.timestamps import of_milliseconds, read

Decisions = Mapping[str, Unavailability]
"""By cluster; none for the others."""

NO_DECISIONS: Decisions = {}


class Signal(NamedTuple):
    """What is known of a cluster: when Kafka took the last record that shows its watcher alive ("": not known), and
    whether a complete snapshot of it is in, and up to date."""

    heard: str
    is_complete: bool


class Exporter(NamedTuple):
    """A cluster with a valid export, and how many endpoints it has in the set."""

    cluster: str
    policy: DropPolicy | None
    count_endpoints: Callable[[], int]


def decide(
    exporters: Sequence[Exporter], before: Decisions, signal_of: Callable[[str], Signal], now: int
) -> dict[str, Unavailability]:
    """The decisions at `now`, milliseconds since the epoch."""
    decisions: dict[str, Unavailability] = {}
    undecided: list[Exporter] = []
    for exporter in exporters:
        if exporter.policy is None:
            continue
        earlier, signal = before.get(exporter.cluster), signal_of(exporter.cluster)
        if not is_due(exporter.policy, earlier, signal, now):
            if earlier is not None:
                decisions[exporter.cluster] = earlier
        elif is_due(exporter.policy, None, signal, now):
            undecided.append(exporter)
    for exporter in undecided:
        decisions[exporter.cluster] = _decide_one(exporter, exporters, decisions, signal_of(exporter.cluster), now)
    return decisions


def is_due(policy: DropPolicy, decision: Unavailability | None, signal: Signal, now: int) -> bool:
    """Whether the decision about a cluster, as it was made before, is another one at `now`."""
    after = policy.after_seconds * 1000
    is_heard = not signal.heard or now - milliseconds(signal.heard) <= after
    if decision is None:
        return not is_heard
    is_over = now - milliseconds(decision.decided) >= after
    if decision.action == "dropped":
        return is_over and is_heard and signal.is_complete
    return is_over or is_heard


def next_time(policy: DropPolicy, decision: Unavailability | None, signal: Signal) -> int | None:
    """From when on (milliseconds since the epoch) the decision about a cluster may be another one as time passes; None
    where it depends on the cluster alone."""
    after = policy.after_seconds * 1000
    if decision is None:
        return milliseconds(signal.heard) + after + 1 if signal.heard else None
    return milliseconds(decision.decided) + after


def milliseconds(at: str) -> int:
    """An RFC 3339 time, in milliseconds since the epoch."""
    return round(read(at).timestamp() * 1000)


def _decide_one(
    exporter: Exporter, exporters: Sequence[Exporter], decisions: Decisions, signal: Signal, now: int
) -> Unavailability:
    """Whether the endpoints of a cluster that is not heard of are dropped, after these decisions about others."""
    counts = {other.cluster: other.count_endpoints() for other in exporters}
    total = sum(counts.values())
    dropped = {cluster for cluster, decision in decisions.items() if decision.action == "dropped"}
    remaining = sum(count for cluster, count in counts.items() if cluster not in dropped | {exporter.cluster})
    floor = exporter.policy.floor_percent if exporter.policy else 0
    return Unavailability(
        "kept" if remaining * 100 < floor * total else "dropped",
        signal.heard,
        of_milliseconds(now),
        remaining,
        total,
    )
