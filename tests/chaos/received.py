"""What a subscriber was given, read from its own log: the state that it has come to, and whether each item was due."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from streams.wire.partitioning import partition_of

Key = tuple[str, str]
"""Table, and CLUSTER/NAMESPACE/NAME."""


class Delivered(NamedTuple):
    """A row as it was delivered in a batch."""

    partition: int
    offset: int
    table: str
    key: str
    version: int
    value: str


class Received:
    """Replays a log. `complain` is told what must not be."""

    def __init__(self, name: str, partitions: int, complain: Callable[[str], None]) -> None:
        self.name = name
        self.batches = 0
        self.rows = 0
        self.snapshots: list[str] = []
        self.starts = 0
        self.at: dict[int, int] = {}
        """The journal offset that is applied, by partition."""
        self.state: dict[Key, tuple[int, str]] = {}
        self.first: tuple[dict[int, int], dict[Key, tuple[int, str]]] | None = None
        """The first snapshot: where it was taken, and what it held."""
        self.delivered: list[Delivered] = []
        self._partitions = partitions
        self._resumed = False
        self._complain = lambda what: complain(f"subscriber {name}: {what}")

    def read(self, path: Path) -> "Received":
        """Replay all complete lines of the file."""
        for line in lines(path):
            self._take(line)
        return self

    def _take(self, line: dict[str, Any]) -> None:
        if line["type"] == "started":
            self.starts += 1
            self._resumed = line["resumed"]
        elif line["type"] == "snapshot":
            self._snapshot(line)
        else:
            self._batch(line)

    def _snapshot(self, line: dict[str, Any]) -> None:
        reason = line["reason"]
        self.snapshots.append(reason)
        if (reason == "start") != (len(self.snapshots) == 1 or not self._resumed):
            self._complain(f"a snapshot with the reason {reason!r} after {len(self.snapshots) - 1} others")
        elif len(self.snapshots) > 1:
            self._complain(f"a snapshot ({reason}) inside the resume window: its changes could not be had one by one")
        seals: dict[int, int] = {}
        positions = orjson.loads(_decode(line["cursor"]))["applied"]
        for partition, offset in positions.items():
            seals[int(partition)] = offset
        self.at = seals
        self.state = {(row["table"], row["key"]): (row["version"], row["value"]) for row in line["rows"]}
        if len(self.state) != len(line["rows"]):
            self._complain("a snapshot has a row twice")
        if self.first is None:
            self.first = (dict(seals), dict(self.state))

    def _batch(self, line: dict[str, Any]) -> None:
        partition, offset = line["partition"], line["offset"]
        due = self.at.get(partition, -1) + 1
        # A progress record names several clusters: each has a batch of its seal alone.
        is_more = offset == due - 1 and not line["rows"]
        if offset != due and not is_more:
            what = "again" if offset < due else "but others are missing"
            self._complain(f"partition {partition}: the batch of offset {offset} came where {due} was due ({what})")
        self.at[partition] = offset
        self.batches += 1
        for row in line["rows"]:
            self._row(partition, offset, row)

    def _row(self, partition: int, offset: int, row: dict[str, Any]) -> None:
        self.rows += 1
        table, key, version, value = row["table"], row["key"], row["version"], row["value"]
        where = f"{table} {key} version {version} in the batch of {partition}/{offset}"
        if version != offset:
            self._complain(f"{where}: not of this offset")
        _, namespace, name = key.split("/")
        if partition_of(namespace, name, self._partitions) != partition:
            self._complain(f"{where}: of another partition")
        body = orjson.loads(value)
        held = self.state.get((table, key))
        previous = body["previous"]
        if held is not None and previous != held[0]:
            self._complain(f"{where}: follows {previous}, but {held[0]} is held")
        if held is not None and version <= held[0]:
            self._complain(f"{where}: came before")
        self.state[table, key] = (version, value)
        self.delivered.append(Delivered(partition, offset, table, key, version, value))

    def table(self) -> dict[Key, tuple[int, str]]:
        """The state without the rows of deleted Services, as a snapshot would be."""
        return {key: each for key, each in self.state.items() if orjson.loads(each[1])["state"] != "deleted"}


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The complete lines; the last may be half written."""
    with path.open("rb") as log:
        for line in log:
            if line.endswith(b"\n"):
                yield orjson.loads(line)


def _decode(cursor: str) -> bytes:
    return base64.urlsafe_b64decode(cursor)
