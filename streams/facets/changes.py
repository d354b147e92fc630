"""One commit's change of one Service, typed: the input of every table's fold."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from streams.wire.event_encoding import Key
from streams.wire.records import Cause, Event, Rejection

LocalName = tuple[str, str]
"""An object's name within its Service: its kind, and its name, prefixed with its namespace (`NAMESPACE/NAME`) where
that is not the Service's."""


class ObjectChange(NamedTuple):
    """An object's new `content` (as `reading.read_event` gives it; None: deleted), and the cause that rows name.
    `event` is None where a complete snapshot does not name the object."""

    content: Any
    cause: Cause
    event: Event | None


class ServiceChange:
    """The objects of one Service that one commit changes, in the commit's order.

    `whole` says that rows are to be checked even if none of their objects has changed (the cluster's state has).
    `marks` are the objects that can't be read, or not in full (their Rejection), or can be read again (None);
    `rejections` name those that can't be read at all as causes.
    """

    __slots__ = ("marks", "objects", "rejections", "whole")

    def __init__(self, *, whole: bool = False) -> None:
        self.whole = whole
        self.objects: dict[Key, ObjectChange] = {}
        self.marks: dict[LocalName, Rejection | None] = {}
        self.rejections: list[Cause] = []

    def apply(self, event: Event, content: Any) -> None:
        """The event's object has this content now (None: deleted); its message names what was left out."""
        cause = Cause(
            event.kind, event.name, event.uid, event.resource_version, event.trigger, namespace_elsewhere(event)
        )
        self.objects[event.kind, event.namespace, event.name] = ObjectChange(content, cause, event)
        self.marks[local_name(event)] = (
            _rejection(event, event.message) if event.message and event.op == "apply" else None
        )

    def reject(self, event: Event, message: str, *, outdated: bool = False) -> None:
        """The event's object can't be read; `outdated`: because a state of it before was missed."""
        rejection = _rejection(event, message)
        rejection.outdated = outdated
        self.marks[local_name(event)] = rejection
        self.rejections.append(
            Cause(event.kind, event.name, event.uid, event.resource_version, "", namespace_elsewhere(event))
        )

    def delete(self, namespace: str, cause: Cause) -> None:
        """A complete snapshot does not name the object; `namespace` is the Service's."""
        self.objects[cause.kind, cause.namespace or namespace, cause.name] = ObjectChange(None, cause, None)

    @property
    def service(self) -> ObjectChange | None:
        """The change of the Service itself."""
        return next(self.of(("Service",)), None)

    def of(self, kinds: Iterable[str]) -> Iterator[ObjectChange]:
        """The changes of objects of these kinds, in the commit's order."""
        return (change for (kind, _, _), change in self.objects.items() if kind in kinds)

    def concerns(self, kinds: Iterable[str]) -> bool:
        """Whether rows that follow from objects of these kinds have to be checked: not if only objects of other kinds
        have changed."""
        if self.whole or self.rejections or not self.objects:
            return True
        return any(kind in kinds for kind, _, _ in self.objects)


def _rejection(event: Event, message: str) -> Rejection:
    return Rejection(event.kind, event.name, event.resource_version, message, namespace_elsewhere(event))


def namespace_elsewhere(event: Event) -> str:
    """The object's namespace if it is not the Service's, else ""."""
    return event.namespace if event.service_namespace else ""


def local_name(event: Event) -> LocalName:
    """The local name of the event's object."""
    return event.kind, f"{event.namespace}/{event.name}" if event.service_namespace else event.name


def local_name_of(reference: Cause | Rejection) -> LocalName:
    """The local name of an object that a row names."""
    return reference.kind, f"{reference.namespace}/{reference.name}" if reference.namespace else reference.name
