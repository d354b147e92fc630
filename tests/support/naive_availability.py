"""What README says of clusters of which nothing is heard, computed in the plainest way from the journal's records and
their times. Calls nothing of the code that it judges."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

Json = dict[str, Any]


class Facts(Protocol):
    """What `naive_decisions` needs to know of a cluster."""

    @property
    def ms(self) -> int:
        """When the last record came that shows that it is watched."""

    @property
    def is_current(self) -> bool:
        """Whether what is there of it is complete and up to date."""


class ClusterFacts:
    """When the last record of a cluster came (milliseconds since the epoch), whether it is listing, and whether what is
    there of it is complete and up to date."""

    def __init__(self) -> None:
        self.ms = 0
        self.is_listing = False
        self.is_current = False


def take_fact(facts: dict[str, ClusterFacts], commit: Json, now: int) -> None:
    """A commit came. (One of live changes inside a list is none.)"""
    cluster = facts.setdefault(commit["cluster"], ClusterFacts())
    if cluster.is_listing and commit["phase"] == "live":
        return
    cluster.ms = now
    cluster.is_listing = commit["phase"] in {"begin", "snapshot"}
    cluster.is_current = not cluster.is_listing and not commit.get("staleSince")


def decisions_in(row: Json | None) -> Json:
    """What a set says of the clusters that are not heard of."""
    return {each["cluster"]: each["unavailable"] for each in (row or {}).get("exports", ()) if "unavailable" in each}


def count_endpoints(row: Json) -> int:
    """How many endpoints the slices of a contribution have."""
    groups = [group for group in row["groups"] if not group.get("partial")]
    return sum(len(group["endpoints"]) + len(group.get("shadowed", ())) for group in groups)


def naive_decisions(
    exports: list[Json], before: Json, facts: Mapping[str, Facts], counts: dict[str, int], now: int
) -> Json:
    """What a set should say of its clusters at `now`; `counts` are the endpoints of those with a valid export."""
    concerned = [each for each in exports if each["valid"] == "Valid" and "drop" in each]
    result: Json = {}
    late = []
    for each in concerned:
        cluster, after = each["cluster"], each["drop"]["afterSeconds"] * 1000
        silent = now - facts[cluster].ms > after
        earlier = before.get(cluster)
        if earlier is None:
            stays = False
        elif earlier["action"] == "dropped":
            may_return = now - ms(earlier["decided"]) >= after and not silent and facts[cluster].is_current
            stays = not may_return
        else:
            stays = silent and now - ms(earlier["decided"]) < after
        if stays:
            result[cluster] = earlier
        elif silent:
            late.append(each)
    for each in late:
        out = {name for name, decision in result.items() if decision["action"] == "dropped"} | {each["cluster"]}
        remaining = sum(count for name, count in counts.items() if name not in out)
        total = sum(counts.values())
        too_few = remaining < total * each["drop"].get("floorPercent", 0) / 100
        result[each["cluster"]] = {
            "action": "kept" if too_few else "dropped",
            "since": text(facts[each["cluster"]].ms),
            "decided": text(now),
            "remaining": remaining,
            "endpoints": total,
        }
    return result


def ms(at: str) -> int:
    """A time in milliseconds since the epoch."""
    return round(datetime.fromisoformat(at).timestamp() * 1000)


def text(at: int) -> str:
    """The same as text."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at % 1000:03}Z"
