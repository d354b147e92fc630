"""What `facets top` knows: the rows of every Service, what changed of them lately, and what the server says of routers
and clusters. Times are in seconds of any clock that only goes on, and are arguments."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Json = Mapping[str, Any]

RATE_SECONDS = 10.0
"""Over how long changes are counted."""

_REMEMBERED = 20


class Key(NamedTuple):
    """A Service of a cluster."""

    cluster: str
    namespace: str
    name: str


class Change(NamedTuple):
    """A row that came while it was looked at: its time, and in words what changed and which objects did it."""

    at: str
    what: str
    cause: str


class Board:
    """The state, which events and answers of the server change."""

    def __init__(self) -> None:
        self.services: dict[Key, dict[str, Json]] = {}
        """Each Service's rows by their tables."""
        self.stale: Json = {}
        self.clusters: list[Json] = []
        self.routers: list[Json] = []
        self.propagated: dict[tuple[str, str], Json] = {}
        """By namespace and name, which router has which version."""
        self.is_complete = False
        self._pending: dict[Key, dict[str, Json]] = {}
        self._recent: deque[tuple[float, Key]] = deque()
        self._rates: Counter[Key] = Counter()
        self._changes: dict[Key, deque[Change]] = {}
        self._texts: dict[Key, str] = {}

    def apply(self, event: str, data: Json, now: float) -> None:
        """Take an event of /v1/changes."""
        if event == "snapshot":
            self._take_snapshot(data)
        elif event == "heartbeat":
            self.stale = data["stale"]
        elif event == "batch":
            for row in data["rows"]:
                self._take_row(row, now)

    def report(self, propagation: Json, clusters: Iterable[Json]) -> None:
        """Take the answers of /v1/propagation and /v1/clusters."""
        self.routers = list(propagation["clients"])
        self.propagated = {(each["namespace"], each["name"]): each for each in propagation["services"]}
        self.clusters = list(clusters)

    def count_down(self, now: float) -> None:
        """Forget the changes that are too old to be counted."""
        while self._recent and self._recent[0][0] <= now - RATE_SECONDS:
            _, key = self._recent.popleft()
            self._rates[key] -= 1
            if not self._rates[key]:
                del self._rates[key]

    @property
    def changes_a_second(self) -> float:
        """Of all Services together."""
        return len(self._recent) / RATE_SECONDS

    def rate(self, key: Key) -> float:
        """A Service's changes a second."""
        return self._rates.get(key, 0) / RATE_SECONDS

    def changes(self, key: Key) -> list[Change]:
        """What was seen of a Service, newest first."""
        return list(reversed(self._changes.get(key, ())))

    def state(self, key: Key) -> str:
        """The worst state of a Service's rows; stale while nothing is heard of its cluster."""
        states = {row["state"] for row in self.services[key].values()}
        silent = self.stale.get(key.cluster)
        if silent is not None and "unknown" not in states:
            partition = self.propagated.get((key.namespace, key.name), {}).get("partition")
            if partition is None or partition in silent["partitions"]:
                return "stale"
        return next((state for state in ("unknown", "stale", "empty") if state in states), "ready")

    def behind(self, key: Key) -> list[Json]:
        """The routers that have not acknowledged a Service's newest version."""
        standings = self.propagated.get((key.namespace, key.name), {}).get("clients", ())
        return [standing for standing in standings if standing["behind"]]

    def text(self, key: Key) -> str:
        """What a filter looks for of a Service, beside its state: names, addresses, Pods, nodes, zones, decisions."""
        if key not in self._texts:
            self._texts[key] = " ".join(_words(key, self.services[key])).lower()
        return self._texts[key]

    def _take_snapshot(self, data: Json) -> None:
        """A snapshot replaces everything, once it is whole."""
        if data["first"]:
            self._pending = {}
        for row in data["rows"]:
            if row["state"] != "deleted":
                self._pending.setdefault(_key(row), {})[row["table"]] = row
        if data["last"]:
            self.services, self._pending, self._texts = self._pending, {}, {}
            self.is_complete = True

    def _take_row(self, row: Json, now: float) -> None:
        key, table = _key(row), row["table"]
        before = self.services.get(key, {}).get(table)
        self._texts.pop(key, None)
        self._recent.append((now, key))
        self._rates[key] += 1
        causes = ", ".join(f"{cause['kind']} {cause['name']}" for cause in row["cause"])
        self._changes.setdefault(key, deque(maxlen=_REMEMBERED)).append(
            Change(row["asOf"]["at"], _difference(table, before, row), causes or "the cluster itself")
        )
        if row["state"] != "deleted":
            self.services.setdefault(key, {})[table] = row
        elif key in self.services:
            self.services[key].pop(table, None)
            if not self.services[key]:
                del self.services[key]


def _key(row: Json) -> Key:
    return Key(row["cluster"], row["namespace"], row["name"])


def _difference(table: str, before: Json | None, row: Json) -> str:
    if row["state"] == "deleted":
        return f"{table} deleted"
    if table == "backend":
        change = row["change"]
        return f"endpoints +{len(change['added'])} -{len(change['removed'])} ~{len(change['updated'])}"
    if table == "routing":
        return "routing " + ", ".join(f"{way} {row[way]['decision']}" for way in ("gateway", "mesh"))
    return f"{table} {'changed' if before is not None else 'is new'}"


def _words(key: Key, rows: Mapping[str, Json]) -> Iterable[str]:
    yield from key
    if frontend := rows.get("frontend"):
        yield from (
            frontend["type"],
            *frontend["clusterIPs"],
            frontend["dnsName"] or "",
            frontend["externalName"] or "",
        )
    for endpoint in rows.get("backend", {}).get("endpoints", ()):
        target = endpoint["target"] or {"name": ""}
        yield from (endpoint["address"], endpoint["zone"] or "", endpoint["node"] or "", target["name"])
    if routing := rows.get("routing"):
        for way in ("gateway", "mesh"):
            yield from (routing[way]["decision"], routing[way]["reason"])
