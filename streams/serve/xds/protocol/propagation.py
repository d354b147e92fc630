"""Propagation: for each client the Services whose newest state it has not acknowledged yet.

Only what is behind is stored; a client that follows a Service and is not behind has acknowledged its newest version.
Times are given by the caller, as seconds since the epoch.
"""

from collections.abc import Iterable
from typing import NamedTuple

from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.service_index import Key
from streams.serve.xds.protocol.stream import Stream
from streams.wire.timestamps import read

NEVER = -1
"""The acknowledged version of a client that has acknowledged none."""

Move = tuple[Key, int, float, float]
"""A step of a client: the Service, the version up to which it was sent everything, since when, and when it had
acknowledged that (0: not yet)."""


class Behind:
    """A Service of which a client has not acknowledged the newest version.

    `acked` is the newest version that it has acknowledged, `through` the newest that it was sent; `changes` counts the
    versions since `acked`, `unsent` those since `through`; `since` and `unsent_since` are the times of the oldest of
    these; `sent_at` is when `through` was sent. `names` are the Service's resources, including removed ones: their
    removal has to be acknowledged too.
    """

    __slots__ = ("acked", "changes", "names", "sent_at", "since", "through", "unsent", "unsent_since")

    def __init__(self, acked: int, since: float) -> None:
        self.names: tuple[str, ...] = ()
        self.acked = self.through = acked
        self.changes = self.unsent = 0
        self.since = self.unsent_since = self.sent_at = since

    def add(self, names: tuple[str, ...]) -> None:
        """Add names of the Service's resources."""
        if not self.names:
            self.names = names
        if self.names == names:
            return
        known = set(self.names)
        more = tuple(name for name in names if name not in known)
        if more:
            self.names += more

    def send_through(self, version: int, now: float) -> bool:
        """Note that the client was sent everything up to this version. Returns whether it is another than before."""
        is_new = version != self.through
        if is_new:
            self.sent_at = now
        self.through, self.unsent = version, 0
        return is_new

    def acknowledge(self) -> None:
        """Note that the client has acknowledged everything that it was sent."""
        self.acked, self.changes, self.since = self.through, self.unsent, self.unsent_since


class Standing(NamedTuple):
    """A client's standing with a Service; `behind` in versions, `seconds` since the oldest of them."""

    sent: int
    acked: int
    behind: int
    seconds: float


class Ledger:
    """What one client has not acknowledged yet."""

    __slots__ = ("_stream", "behind")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.behind: dict[Key, Behind] = {}

    def record_change(self, key: Key, before: int, at: float, names: tuple[str, ...]) -> None:
        """Note a new version of a Service that the client follows, of the time `at`; `before` is the previous
        version."""
        entry = self.behind.get(key)
        if entry is None:
            entry = self.behind[key] = Behind(before, at)
        entry.add(names)
        if not entry.unsent:
            entry.unsent_since = at
        entry.changes += 1
        entry.unsent += 1

    def subscribe(self, names: Iterable[str], catalog: Catalog, at: float) -> None:
        """Note the client's subscription to these names."""
        by_service: dict[Key, list[str]] = {}
        for name in names:
            if (key := catalog.service_of(name)) is not None:
                by_service.setdefault(key, []).append(name)
        for key, own in by_service.items():
            entry = self.behind.get(key)
            if entry is None:
                entry = self.behind[key] = Behind(NEVER, at)
            # Usually all of the Service's names: share the catalog's tuple.
            service_names = catalog.names_for(key, self._stream.client)
            if not entry.names and not set(own).isdisjoint(service_names):
                entry.names = service_names
            entry.add(tuple(own))

    def settle(self, keys: Iterable[Key], catalog: Catalog, now: float, moves: list[Move]) -> list[float]:
        """Update these Services after responses were sent or answered. Returns, for each Service that is now
        acknowledged, the seconds since its oldest unacknowledged version (not for a new client's first resources).
        The steps that this is for the client are added to `moves`."""
        seconds: list[float] = []
        for key in tuple(keys):
            entry = self.behind.get(key)
            if entry is None:
                continue
            is_sent = not self._stream.unsent(entry.names)
            is_new = is_sent and entry.send_through(catalog.newest(key)[0], now)
            if self._stream.unanswered(entry.names):
                if is_new:
                    moves.append((key, entry.through, now, 0.0))
                continue
            if entry.through != entry.acked:
                moves.append((key, entry.through, entry.sent_at, now))
            if entry.acked != NEVER and entry.through > entry.acked:
                seconds.append(now - entry.since)
            entry.acknowledge()
            if is_sent and entry.through >= 0:
                del self.behind[key]
        if not self.behind:
            self.behind = {}  # A dict never gives back what it grew to.
        return seconds

    def forget(self, keys: Iterable[Key]) -> None:
        """Note that the client asks for nothing of these Services any more."""
        for key in keys:
            self.behind.pop(key, None)

    def standing(self, key: Key, catalog: Catalog, now: float) -> Standing | None:
        """The client's standing with a Service; None if it doesn't follow it."""
        entry = self.behind.get(key)
        if entry is not None:
            return Standing(entry.through, entry.acked, max(1, entry.changes), max(0.0, now - entry.since))
        if not self._stream.follows_service(key, catalog):
            return None
        newest, _ = catalog.newest(key)
        return Standing(newest, newest, 0, 0.0)


def epoch_seconds(text: str) -> float:
    """A record's time in seconds since the epoch; 0 if there is none."""
    return read(text).timestamp() if text else 0.0
