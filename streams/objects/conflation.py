"""Events that wait to be read: of each object the newest state only, as the others would be written together with it.

A flood is cheap that way: most states of an object are never normalized.
"""

from streams.objects.reflector import Kind, ReflectorEvent

_Place = tuple[str, str, str, int]
"""What an event is about: resource type, namespace and name of an object ("" of a bookmark); the number makes those
apart that must not replace each other."""

_HELD = frozenset({Kind.APPLY, Kind.DELETE, Kind.BOOKMARK})


class Conflation:
    """In the order in which they came. A state is replaced by the object's next state or its deletion; a deletion
    stays, as what comes after it is another object."""

    def __init__(self) -> None:
        self._events: dict[_Place, tuple[str, ReflectorEvent]] = {}
        self._deletions = 0

    def __bool__(self) -> bool:
        return bool(self._events)

    def hold(self, kind: str, events: list[ReflectorEvent]) -> bool:
        """Take events of a resource type. False (and none is taken) if they have to be read in their own turn, as those
        of a list."""
        if any(event.kind not in _HELD for event in events):
            return False
        for event in events:
            meta = event.item["metadata"] if event.kind is not Kind.BOOKMARK else {}
            place = (kind, meta.get("namespace") or "", meta.get("name") or "", 0)
            self._events.pop(place, None)
            if event.kind is Kind.DELETE:
                self._deletions += 1
                place = (*place[:3], self._deletions)
            self._events[place] = kind, event
        return True

    def release(self) -> list[tuple[str, ReflectorEvent]]:
        """The events, each with its resource type; none is held any more."""
        events, self._events = list(self._events.values()), {}
        return events
