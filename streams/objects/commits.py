"""Commits as they go to the journal: their stamps, and how changes are split over them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import orjson

from streams.objects.gateway_api.references import ServiceKey
from streams.wire.partitioning import partition_of
from streams.wire.records import Phase

MAX_EVENTS = 500
MAX_BYTES = 1024 * 1024
"""A commit of more than this is split, but never between the changes of one Service."""

MAX_LINKED_BYTES = 12 * 1024 * 1024
"""Changes of linked Services are not split below this, so that a cut has all of them or none: a record can't take much
more."""


class JournalRecord(NamedTuple):
    """A record as it goes to the journal, with the number of events in it. The key says whose it is: the cluster's, or
    the watcher's own (empty). A commit has its `seq`."""

    partition: int
    value: bytes
    events: int
    key: bytes = b""
    seq: int = 0


class CommitWriter:
    """Stamps one cluster's commits. `seq` is the number of the last one; `frontier` is theirs once the cluster is
    synced; `source` says where the cluster is from, if it is not an API server (the demo)."""

    def __init__(self, cluster: str, *, epoch: int, writer: str, seq: int, partitions: int, source: str = "") -> None:
        self.cluster = cluster
        self.source = source
        self.epoch = epoch
        self.writer = writer
        self.seq = seq
        self.partitions = partitions
        self.frontier: dict[str, str] = {}
        self.stale_since = ""
        self.synced = False

    def empty(self, phase: Phase, at: str, partitions: Iterable[int] | None = None) -> list[JournalRecord]:
        """A commit without events to each of these partitions (all, if not given)."""
        self.seq += 1
        chosen = range(self.partitions) if partitions is None else partitions
        return [self._record(partition, phase, at, ()) for partition in chosen]

    def snapshot(self, changes: Iterable[tuple[ServiceKey, bytes]], at: str) -> Iterator[JournalRecord]:
        """Events of a snapshot. Its parts need no common number: nothing of them counts before its end."""
        by_partition: dict[int, list[list[bytes]]] = {}
        for service, event in changes:
            by_partition.setdefault(partition_of(*service, self.partitions), []).append([event])
        for partition, groups in sorted(by_partition.items()):
            for chunk in _split(groups):
                self.seq += 1
                yield self._record(partition, "snapshot", at, chunk)

    def changes(
        self, changes: Mapping[ServiceKey, list[bytes]], linked: set[ServiceKey], frontier: Mapping[str, str], at: str
    ) -> Iterator[JournalRecord]:
        """The changes of each Service, seen together. Those of `linked` Services share a number in all partitions: the
        last one, with which the commits reach the new `frontier`."""
        chunks = {
            partition: _chunks(*groups) for partition, groups in sorted(self._by_partition(changes, linked).items())
        }
        numbers = max(map(len, chunks.values()), default=0)
        for number in range(numbers):
            self.seq += 1
            if number == numbers - 1 and self.synced:
                self.advance(frontier)
            for partition, of_partition in chunks.items():
                index = number - (numbers - len(of_partition))
                if index >= 0:
                    yield self._record(partition, "live" if self.synced else "snapshot", at, of_partition[index])

    def advance(self, frontier: Mapping[str, str]) -> None:
        """The next commits have reached this frontier."""
        self.frontier = {**self.frontier, **frontier}

    def _by_partition(
        self, changes: Mapping[ServiceKey, list[bytes]], linked: set[ServiceKey]
    ) -> dict[int, tuple[list[list[bytes]], list[list[bytes]]]]:
        """By partition the events of each Service that is not linked, and of each that is."""
        by_partition: dict[int, tuple[list[list[bytes]], list[list[bytes]]]] = {}
        for service, events in changes.items():
            is_linked = self.synced and service in linked
            by_partition.setdefault(partition_of(*service, self.partitions), ([], []))[is_linked].append(events)
        return by_partition

    def _record(self, partition: int, phase: Phase, at: str, events: Iterable[bytes]) -> JournalRecord:
        listed = list(events)
        head = {
            "cluster": self.cluster,
            "epoch": self.epoch,
            "writer": self.writer,
            "seq": self.seq,
            "at": at,
            "phase": phase,
            "frontier": self.frontier if self.synced else {},
        }
        if self.stale_since:
            head["staleSince"] = self.stale_since
        if self.source:
            head["source"] = self.source
        value = orjson.dumps(head)
        if listed:
            value = b'%b,"events":[%b]}' % (value[:-1], b",".join(listed))
        return JournalRecord(partition, value, len(listed), self.cluster.encode(), self.seq)


def _chunks(groups: list[list[bytes]], linked: list[list[bytes]]) -> list[list[bytes]]:
    """The events of Services in chunks. Those that are linked with others' stay together, in the last one: it has the
    same number in every partition. Only what no record could take is split."""
    chunks = list(_split(groups))
    if sum(len(event) for group in linked for event in group) > MAX_LINKED_BYTES:
        return chunks + list(_split(linked))
    last = [event for group in linked for event in group]
    if last and chunks and len(chunks[-1]) + len(last) <= MAX_EVENTS:
        chunks[-1] = chunks[-1] + last
    elif last:
        chunks.append(last)
    return chunks


def _split(groups: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for group in groups:
        weight = sum(map(len, group))
        if chunk and (len(chunk) + len(group) > MAX_EVENTS or size + weight > MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk = chunk + group if chunk else list(group)
        size += weight
    if chunk:
        yield chunk
