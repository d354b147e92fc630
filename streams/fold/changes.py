"""What one commit changes of one Service, on its way from the commit's events to the rows of the tables."""

from streams.facets.routing_rows import Name
from streams.facets.slice_text import Source
from streams.wire.records import Cause, Event, Rejection
from streams.wire.routing_records import HeldPolicy, HeldRoute, ServiceObject


class Delta:
    """What one commit changes of one Service. `marks` are the objects that were rejected, or are well again; `whole`
    says that every row is to be looked at, whatever changed."""

    __slots__ = ("bad", "legacy", "marks", "routing", "service", "slices", "whole")

    def __init__(self) -> None:
        self.whole = False
        self.service: tuple[tuple[bytes, ServiceObject] | None, Cause] | None = None
        self.routing: dict[Name, tuple[HeldRoute | HeldPolicy | None, Cause]] = {}
        self.slices: dict[str, tuple[Source | None, Cause]] = {}
        self.legacy: tuple[Source | None, Cause, bytes] | None = None
        self.marks: dict[tuple[str, str], Rejection | None] = {}
        self.bad: list[Cause] = []

    @property
    def bears_on_routing(self) -> bool:
        """Whether the routing row has to be looked at: not where only endpoints changed, which is most of the time."""
        if self.whole or self.service is not None or self.routing or self.bad:
            return True
        return not self.slices and self.legacy is None


def mark_of(event: Event) -> tuple[str, str]:
    """What an object is called beside others of its Service: of another namespace, with that."""
    return event.kind, f"{event.namespace}/{event.name}" if event.service_namespace else event.name


def mark_of_cause(cause: Cause | Rejection) -> tuple[str, str]:
    """The same of what a row names."""
    return cause.kind, f"{cause.namespace}/{cause.name}" if cause.namespace else cause.name


def any_left(slices: dict[str, Source], changes: dict[str, Source | None]) -> bool:
    """Whether a Service has slices after the changes."""
    return any(changes.get(label, source) is not None for label, source in slices.items())


def same(held: Source, event: Event) -> bool:
    """Whether the event's object is the one that is held."""
    return held.revision > 0 and (held.uid, held.resource_version) == (event.uid, event.resource_version)


def marked(
    held: tuple[Rejection, ...], marks: dict[tuple[str, str], Rejection | None], kinds: tuple[str, ...]
) -> tuple[Rejection, ...]:
    """The rejections of these kinds after the changes."""
    if not marks:
        return held
    now: dict[tuple[str, str], Rejection | None] = {mark_of_cause(each): each for each in held}
    now.update({mark: rejection for mark, rejection in marks.items() if mark[0] in kinds})
    return tuple(rejection for _, rejection in sorted(now.items()) if rejection is not None)
