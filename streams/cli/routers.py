"""What routers had, for the commands: the log of acknowledgements read up to a time, and printed."""

from collections.abc import Collection
from datetime import UTC, datetime
from functools import partial
from typing import Any

from streams.cli.output import remark
from streams.history.acks import fold_acks
from streams.history.collectors import AddressHoldings, RowsThrough
from streams.history.queries import Until
from streams.history.router_log import RouterLog, Step
from streams.index.past import Past
from streams.subscription.rows import Filter
from streams.wire.timestamps import milliseconds, of_milliseconds, write


def step_line(step: Step) -> str:
    """A router's step as a line."""
    about = f"{step.namespace}/{step.name}" if step.name else step.detail
    more = f"  version {step.version}" if step.version >= 0 else ""
    if step.what == "acked":
        more += f"  {step.detail} ms after it was sent"
    elif step.what == "refused":
        more += f"  {step.detail}"
    return f"{step.at}  {step.what:12}  {about}{more}"


def had_by(holdings: AddressHoldings, log: RouterLog, clusters: Collection[str]) -> list[dict[str, Any]]:
    """Of each router that followed a Service which has, or had, the address: whether it had it too."""
    found = []
    for key in holdings.services():
        for node, held in log.holders(key).items():
            router = log.router(node)
            seen = [place for place in holdings.places(key) if place[1] in {"", router.cluster} or not router.cluster]
            seen = [place for place in seen if not clusters or not place[1] or place[1] in clusters]
            has = any(holdings.has(place, held.acked) for place in seen)
            is_there = any(holdings.has(place) for place in seen)
            if has or is_there:
                found.append(
                    {
                        "router": node, "cluster": router.cluster, "namespace": key[0], "name": key[1],
                        "had": ("yes" if is_there else "still") if has else "not yet", "version": held.acked,
                        "acked": of_milliseconds(held.acked_at), "sent": of_milliseconds(held.sent_at),
                        "connected": router.connected,
                    }
                )  # fmt: skip
    return found


def seen_by(past: Past, bootstrap: str, node: str, at: str, selection: Filter, table: str) -> RowsThrough:
    """The rows of a table as a router had acknowledged them by a time ("": by now). Prints remarks. Raises FacetsError,
    UnknownName for a router that is not known."""
    log = RouterLog(milliseconds(at or write(datetime.now(UTC))), (node,))
    remark(fold_acks(bootstrap, log, at, node))
    versions = {key: held.acked for key, held in log.versions(node).items()}
    router = log.router(node)
    if not router.connected:
        remark([f"router {node} was not connected{f' since {of_milliseconds(router.since)}' if router.since else ''}"])
    make_collector = partial(RowsThrough, versions, router.cluster, log.streamed(node), log.partitions)
    seen, *others = past.collect(make_collector, Until(at=at), selection, (table,))
    for other in others:
        seen.add(other)
    return seen
