"""A router that knows Kafka and `schemas/`, and nothing of this project: README, "From any language", line by line.

It imports nothing from `streams`; the same can be written in any language that has a Kafka client and JSON.
"""

import json
import zlib
from typing import Any

from kafka import KafkaConsumer, TopicPartition

SEAL = b"~seal/"
PART = b"~part/"
Key = tuple[str, str]


class Gap(Exception):
    """A row replaces a version that is not held: something was missed. Start again from an empty view."""


class PlainRouter:
    """`view` is by table and key the newest sealed row, decoded; `frontier` by partition and cluster how far it is."""

    def __init__(self, bootstrap: str, tables: tuple[str, ...]) -> None:
        self.tables = tables
        self.view: dict[Key, dict[str, Any]] = {}
        self.frontier: dict[tuple[int, str], dict[str, str]] = {}
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        # There is one partition number for a Service in all tables: they are read side by side.
        topics = {f"facets.{table}": table for table in tables}
        self.partitions = len(self._consumer.partitions_for_topic(next(iter(topics))) or ())
        self._table = {
            TopicPartition(topic, p): table for topic, table in topics.items() for p in range(self.partitions)
        }
        self._consumer.assign(list(self._table))
        self._consumer.seek_to_beginning()
        self._ends = self._consumer.end_offsets(list(self._table))
        self._held: dict[int, list[tuple[int, str, str, bytes | None]]] = {p: [] for p in range(self.partitions)}
        self._sealed: dict[tuple[str, int], int] = {}
        self._versions: dict[Key, int] = {}
        self._parts: dict[str, tuple[int, Any]] = {}
        self._applied = dict.fromkeys(range(self.partitions), -1)
        self.bootstrapped = False

    def partition_of(self, namespace: str, service: str) -> int:
        """Rule 1."""
        return zlib.crc32(f"{namespace}/{service}".encode()) % self.partitions

    def poll(self) -> None:
        """Take what has come."""
        for each, records in self._consumer.poll(timeout_ms=200).items():
            for record in records:
                self._take(self._table[each], each.partition, record)
        if not self.bootstrapped:
            self.bootstrapped = all(self._consumer.position(each) >= end for each, end in self._ends.items())

    def close(self) -> None:
        """Leave."""
        self._consumer.close()

    def _take(self, table: str, partition: int, record: Any) -> None:
        # Rule 2: the header `v` is the row's version, a seal's offset.
        version = int(dict(record.headers)["v"])
        if record.key.startswith(SEAL) and record.value is None:
            return  # Of a watcher that is no more.
        if record.key.startswith(SEAL):
            # Rule 3: rows up to an offset are applied when every table has a seal of that offset or a higher one.
            self._sealed[table, partition] = max(version, self._sealed.get((table, partition), -1))
            upto = min(self._sealed.get((each, partition), -1) for each in self.tables)
            if upto > self._applied[partition]:
                self._apply(partition, upto)
            # Rule 8: the frontier is the seal's.
            seal = json.loads(record.value)
            if seal["offset"] <= self._applied[partition]:
                self.frontier[partition, seal["cluster"]] = seal["frontier"]
        elif record.key.startswith(b"~") and not record.key.startswith(PART):
            return  # Rule 7: the worker's own (such as ~held/): not for routers.
        elif version > self._applied[partition]:
            self._held[partition].append((version, table, record.key.decode(), record.value))
        elif not self.bootstrapped:
            # A compacted log has rows from before the seals that are left of it.
            self._row(table, record.key.decode(), version, record.value)

    def _apply(self, partition: int, upto: int) -> None:
        held, self._held[partition] = self._held[partition], []
        for each in held:
            version, table, key, value = each
            if version > upto:
                self._held[partition].append(each)
            else:
                self._row(table, key, version, value)
        self._applied[partition] = upto

    def _row(self, table: str, key: str, version: int, value: bytes | None) -> None:
        if key.startswith("~part/"):
            if version > self._parts.get(key, (-1, None))[0]:
                self._parts[key] = version, None if value is None else json.loads(value)
            return
        at = (table, key)
        # Rule 4: a version that is not higher than the one held is a duplicate.
        if version <= self._versions.get(at, -1):
            return
        if value is None:
            # Rule 6: a tombstone ends a deleted Service.
            self._versions.pop(at, None)
            self.view.pop(at, None)
            return
        row = json.loads(value)
        # Rule 5: `previous` is the version held, or something was missed.
        if self.bootstrapped and row["previous"] != self._versions.get(at):
            raise Gap(f"{table} {key}: {row['previous']} is not {self._versions.get(at)}")
        self._versions[at] = version
        if row["state"] == "deleted":
            self.view.pop(at, None)
        elif self._is_whole(key, row):
            self.view[at] = row

    def _is_whole(self, key: str, row: dict[str, Any]) -> bool:
        """Rule 10: the groups of a row with `parts` are in their chunks. Whether all are there."""
        if "parts" not in row:
            return True
        row["groups"] = []
        for name, age in row.pop("parts").items():
            at = f"~part/{key}/{name}"
            part = self._part(at, row["version"] - age)
            ages = part["chunks"] if part else []
            chunks = [self._part(f"{at}/{number}", part["version"] - age) for number, age in enumerate(ages)]
            if not part or None in chunks:
                if self.bootstrapped:
                    raise Gap(f"{key}: a part of {name} that version {row['version']} names is not held")
                return False  # The newest row has its parts.
            same = {field: part[field] for field in ("slice", "uid", "resourceVersion")}
            row["groups"] += [same | group for chunk in chunks for group in chunk["groups"]]
        return True

    def _part(self, key: str, version: int) -> Any:
        held, value = self._parts.get(key, (-1, None))
        return value if held == version else None
