"""Kafka's partitions as a model: append, compaction that respects its lag, retention."""

from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple


class Record(NamedTuple):
    """`version` is the record's header, `ms` the time of its append."""

    offset: int
    key: bytes
    value: bytes | None
    version: int
    ms: int


class Log:
    """One partition of a topic. `watch` is told of every append; `garbage` are the offsets of what no process of ours
    has written, of which it is not told."""

    def __init__(self, watch: Callable[[Record], None]) -> None:
        self.records: list[Record] = []
        self.begin = 0
        self.end = 0
        self.garbage: set[int] = set()
        self.polluted: set[bytes] = set()
        self._watch = watch
        self._kept_until: dict[int, int] = {}

    def append(self, key: bytes, value: bytes | None, version: int, ms: int) -> int:
        """The record's offset."""
        record = Record(self.end, key, value, version, ms)
        self.end += 1
        self.records.append(record)
        self._watch(record)
        return record.offset

    def pollute(self, key: bytes, value: bytes | None, version: int, ms: int) -> None:
        """Another client writes where only a worker may."""
        self.garbage.add(self.end)
        self.polluted.add(key)
        self.records.append(Record(self.end, key, value, version, ms))
        self.end += 1

    @property
    def hidden(self) -> bool:
        """Whether garbage is the newest of some key: what it hides is lost with the next compaction."""
        return bool(self.garbage) and any(
            offset in self.garbage for offset in {each.key: each.offset for each in self.records}.values()
        )

    def read(self, position: int) -> Record | None:
        """The first record at or after an offset."""
        if position >= self.end:
            return None
        at = bisect_left(self.records, position, key=lambda each: each.offset)
        return self.records[at] if at < len(self.records) else None

    def compact(self, ms: int, lag_ms: int, keep: int) -> None:
        """Of the records older than the lag (but for the last `keep`, the active segment) the newest of each key stays.
        A tombstone goes once it has been the newest for as long as the lag again (`delete.retention.ms`) since it was
        first compacted (KIP-534)."""
        last = len(self.records) - keep
        clean = [each for index, each in enumerate(self.records) if index < last and each.ms <= ms - lag_ms]
        newest = {each.key: each.offset for each in clean}
        gone = {each.offset for each in clean if newest[each.key] != each.offset}
        for each in clean:
            if each.value is None and each.offset not in gone:
                kept_until = self._kept_until.setdefault(each.offset, ms + lag_ms)
                if ms > kept_until:
                    gone.add(each.offset)
        if gone:
            self.records = [each for each in self.records if each.offset not in gone]

    def expire(self, offset: int) -> None:
        """Retention: what is before the offset goes."""
        self.begin = max(self.begin, min(offset, self.end))
        self.records = [each for each in self.records if each.offset >= self.begin]
