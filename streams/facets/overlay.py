"""What overrides a row's own state: a lost or unreachable cluster, and objects that can't be read."""

from collections.abc import Collection, Mapping

import msgspec

from streams.facets.changes import LocalName, local_name_of
from streams.wire.records import Rejection
from streams.wire.row_codec import RowContext

LOST = "JournalExpired: waiting for the next complete snapshot"


def overlaid(state: str, reason: str, ctx: RowContext, rejected: tuple[Rejection, ...]) -> tuple[str, str]:
    """State and reason, overridden by the cluster's state or by rejected objects. What was never known (`unknown`)
    can't be out of date."""
    if ctx.lost and state != "deleted":
        return "unknown", LOST
    if state not in {"deleted", "unknown"} and ctx.stale_since:
        return "stale", f"ClusterUnreachable: since {ctx.stale_since}"
    if rejected and state != "unknown":
        text = explain(rejected[0])
        return state, f"{reason}; {text}" if reason else text
    return state, reason


def explain(rejection: Rejection) -> str:
    """The reason of a row with a rejected object."""
    return f"ObjectRejected: {rejection.kind} {rejection.name} at {rejection.resource_version}: {rejection.message}"


def rejected_after(
    rejections: tuple[Rejection, ...], marks: Mapping[LocalName, Rejection | None], kinds: Collection[str]
) -> tuple[Rejection, ...]:
    """The rejected objects of these kinds after a change, ordered by name."""
    if not marks:
        return rejections
    current: dict[LocalName, Rejection | None] = {local_name_of(rejection): rejection for rejection in rejections}
    for name, rejection in marks.items():
        if name[0] in kinds:
            before = current.get(name)
            # What is held stays outdated until the object can be read again.
            if rejection is not None and before is not None and before.outdated:
                rejection = msgspec.structs.replace(rejection, outdated=True)  # noqa: PLW2901
            current[name] = rejection
    return tuple(rejection for _, rejection in sorted(current.items()) if rejection is not None)
