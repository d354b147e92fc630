"""A feed, and the log that it is fed with."""

import json
from typing import Any

import msgspec

from streams.serve.http.feed import Feed
from streams.subscription.cursor import Cursor
from streams.subscription.rows import Row
from streams.wire.records import AsOf, Seal

_FRONTEND = {
    "uid": "", "type": "ClusterIP", "clusterIPs": [], "ipFamilies": [], "dnsName": "", "externalName": None,
    "headless": False, "ports": [], "selector": None, "sessionAffinity": "None", "sessionAffinityTimeoutSeconds": None,
    "trafficDistribution": None, "internalTrafficPolicy": None, "externalTrafficPolicy": None,
    "publishNotReadyAddresses": False,
}  # fmt: skip


def row(name: str, version: int, *, table: str = "backend", cluster: str = "east", state: str = "ready") -> Row:
    """A row that says nothing of its Service, but whole."""
    as_of = AsOf(1, 1, "2026-11-24T12:00:00.000Z", {})
    head = {"cluster": cluster, "namespace": "shop", "name": name, "version": version, "previous": None, "state": state}
    body = {**head, "reason": "", "asOf": msgspec.to_builtins(as_of), "cause": []}
    if table == "backend":
        body |= {"service": None, "groups": [], "change": {"added": [], "removed": [], "updated": []}}
    else:
        body |= {**_FRONTEND}
    return Row(table, cluster, "shop", name, version, json.dumps(body, separators=(",", ":")).encode())


class Log:
    """Two partitions of one changelog, as a server's subscriber delivers them. `at` is the number of the seal."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.applied = {0: -1, 1: -1}
        self.at = 1000

    @property
    def cursor(self) -> Cursor:
        positions = {(table, p): offset + 1 for table in ("frontend", "backend") for p, offset in self.applied.items()}
        return Cursor(str(self.at), dict(self.applied), positions)

    def start(self, *rows: Row, reason: str = "start") -> None:
        self.feed.replace(reason, rows, {(p, "east"): self.seal(p) for p in self.applied}, self.cursor)

    def seal(self, partition: int) -> Seal:
        frontier = {"services": str(100 + self.applied[partition])}
        return Seal("east", self.applied[partition], 1, "w", 1, str(self.at), "live", frontier, 1)

    def write(self, partition: int, *names: str, state: str = "ready") -> None:
        self.applied[partition] += 1
        self.at += 1
        rows = tuple(row(name, self.applied[partition], state=state) for name in names)
        self.feed.apply(partition, self.seal(partition), rows, self.cursor)


def names(events: list[tuple[str, str, dict[str, Any]]]) -> list[list[str]]:
    return [[each["name"] for each in data["rows"]] for kind, _, data in events if kind == "batch"]
