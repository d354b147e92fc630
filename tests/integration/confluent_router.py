"""A second router by README's rules, "From any language", on another client: librdkafka's. It holds all records until
they are sealed, and then puts the sets together; it imports nothing from `streams`."""

import json
import zlib
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

Endpoint = dict[str, Any]
Record = tuple[int, Any]
"""A version and the decoded value; None for a tombstone."""


class ConfluentRouter:
    """Follows the backend table alone, all of it."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "unused",
                "enable.auto.commit": False,
                # The sealed ones are applied in order: any of them may be a row of 16 MiB.
                "fetch.message.max.bytes": 32 * 1024 * 1024,
            }
        )
        topic = self._consumer.list_topics("facets.backend", timeout=30).topics["facets.backend"]
        self.partitions = len(topic.partitions)
        self._consumer.assign([TopicPartition("facets.backend", p, OFFSET_BEGINNING) for p in topic.partitions])
        self._waiting: dict[int, list[tuple[str, Record]]] = {p: [] for p in topic.partitions}
        self._records: dict[str, Record] = {}
        self.sealed = dict.fromkeys(topic.partitions, -1)

    def close(self) -> None:
        """Leave."""
        self._consumer.close()

    def poll(self) -> None:
        """Take what has come."""
        for message in self._consumer.consume(1000, timeout=0.2):
            assert message.error() is None, message.error()
            self._take(message)

    def sets(self) -> dict[str, list[Endpoint]]:
        """Each Service's sealed endpoints, by key; raises KeyError where a part that a row names is not there."""
        rows = {key: row for key, (_, row) in self._records.items() if not key.startswith("~") and row is not None}
        return {key: self._endpoints(key, row) for key, row in rows.items() if row["state"] != "deleted"}

    def partition_of(self, key: str) -> int:
        """Rule 1."""
        _, _, service = key.partition("/")
        return zlib.crc32(service.encode()) % self.partitions

    def _take(self, message: Message) -> None:
        headers, key, partition = dict(message.headers() or ()), message.key(), message.partition()
        assert key is not None
        assert partition is not None
        version, name, value = int(headers["v"] or b""), bytes(key).decode(), message.value()
        if name.startswith("~seal/"):
            # The tombstone of one says nothing.
            if value is not None:
                self.sealed[partition] = max(self.sealed[partition], version)
        elif not name.startswith("~") or name.startswith("~part/"):
            self._waiting[partition].append((name, (version, None if value is None else json.loads(value))))
        # Rules 3 and 4. (Of one table, all that is sealed is applied.)
        waiting, self._waiting[partition] = self._waiting[partition], []
        for each in waiting:
            if each[1][0] > self.sealed[partition]:
                self._waiting[partition].append(each)
            elif each[1][0] > self._records.get(each[0], (-1,))[0]:
                self._records[each[0]] = each[1]

    def _endpoints(self, key: str, row: Any) -> list[Endpoint]:
        groups = row["groups"] if "groups" in row else list(self._groups(key, row))
        return sorted(
            (
                {**endpoint, "family": group["family"], "ports": group["ports"], "slice": group["slice"]}
                for group in groups
                for endpoint in group["endpoints"]
            ),
            key=lambda endpoint: (endpoint["family"], endpoint["address"], endpoint["slice"]),
        )

    def _groups(self, key: str, row: Any) -> Any:
        """Rule 10."""
        for name, age in row["parts"].items():
            part = self._record(f"~part/{key}/{name}", row["version"] - age)
            for number, chunk_age in enumerate(part["chunks"]):
                chunk = self._record(f"~part/{key}/{name}/{number}", part["version"] - chunk_age)
                for group in chunk["groups"]:
                    yield {"slice": part["slice"], **group}

    def _record(self, key: str, version: int) -> Any:
        held, value = self._records.get(key, (-1, None))
        if held != version or value is None:
            raise KeyError(f"{key} of version {version}")
        return value
