"""Clusters of which nothing is heard: when their endpoints leave the sets that they export to, and come back.

All is decided by the journal's time (when Kafka took the records), so that whoever folds the journal decides the same,
at the same offset. A cluster is heard of with each record that shows its watcher alive; while that has lost the API
server, only with records of the cluster itself. The policy is that of its ServiceExport (`DropPolicy`); without one the
endpoints stay, as other tables' rows do.

Endpoints that were dropped stay so for the policy's time at least, and come back once the cluster is heard of and its
state is complete: they go and come at most once in that time.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from streams.wire.clusterset_records import DropPolicy, Unavailability
from streams.wire.timestamps import milliseconds, of_milliseconds

Decisions = Mapping[str, Unavailability]
"""By cluster; none for the others."""

NO_DECISIONS: Decisions = {}


class Signal(NamedTuple):
    """What is known of a cluster: when Kafka took the last record that shows it alive ("": not known), and whether a
    complete snapshot of it is in, and up to date."""

    heard: str
    is_complete: bool


def decide(
    policies: Mapping[str, DropPolicy | None],
    before: Decisions,
    signal_of: Callable[[str], Signal],
    count_endpoints: Callable[[str], int],
    now: int,
) -> dict[str, Unavailability]:
    """The decisions at `now`, milliseconds since the epoch. `policies` are those of all clusters with a valid export,
    in order; `count_endpoints` says how many endpoints one of them has in the set."""
    decisions: dict[str, Unavailability] = {}
    undecided: dict[str, DropPolicy] = {}
    for cluster, policy in policies.items():
        if policy is None:
            continue
        earlier, signal = before.get(cluster), signal_of(cluster)
        if not is_due(policy, earlier, signal, now):
            if earlier is not None:
                decisions[cluster] = earlier
        elif is_due(policy, None, signal, now):
            undecided[cluster] = policy
    counts = {cluster: count_endpoints(cluster) for cluster in policies} if undecided else {}
    for cluster, policy in undecided.items():
        action, remaining, total = _choose_action(cluster, policy, counts, decisions)
        heard = signal_of(cluster).heard
        decisions[cluster] = Unavailability(action, heard, of_milliseconds(now), remaining, total)
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


def _choose_action(
    cluster: str, policy: DropPolicy, counts: Mapping[str, int], decisions: Decisions
) -> tuple[Literal["dropped", "kept"], int, int]:
    """What becomes of the endpoints of a cluster that is not heard of, after these decisions about others; how many
    remain without them, and of how many."""
    total = sum(counts.values())
    without = {name for name, decision in decisions.items() if decision.action == "dropped"} | {cluster}
    remaining = sum(count for name, count in counts.items() if name not in without)
    return "kept" if remaining * 100 < policy.floor_percent * total else "dropped", remaining, total
