"""Checkpoints: the contents of a partition's changelogs in a file, so that a restart reads only later records.

A checkpoint is a cache of the changelogs and nothing else. It names, for each table, the last record that it includes,
with that record's time and checksum; the log is then read from that record on. If the record doesn't exist, or is
another one (the topic was created again, or lost its end), or an offset after it is missing (compaction may have
removed tombstones), the checkpoint is ignored and everything is read.
"""

import os
from collections.abc import Iterable
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import msgspec

from streams.facets.changelog_records import unreadable
from streams.kafka.bulk_reader import Chunk
from streams.wire.keys import PROGRESS_PREFIX, SEAL_PREFIX
from streams.wire.records import FOLD_VERSION

_MAGIC = b"facets checkpoint 1\n"
_DIGEST_BYTES = 32


class UnusableCheckpoint(ValueError):
    """A checkpoint that is damaged, or of something else; the message says why."""


class Anchor(NamedTuple):
    """A record that identifies a log: its offset, its time (ms), and the CRC-32 of its key and value."""

    offset: int
    timestamp: int
    checksum: int


class Sieve(Protocol):
    """Filters out unreadable records."""

    def passes(self, table: str, offset: int, key: bytes, value: bytes | None, version: int) -> bool:
        """Whether the record can be read."""


class Image:
    """The contents of one partition's changelogs up to `ends` (for each table the offset after the last record): the
    newest row of each key with its version, None for a tombstone, and the newest seal of each cluster.

    `unsaved` counts the records taken since the last capture; `unproven` are the keys of those that were read from
    a log but not checked: any Kafka client may have written them.
    """

    def __init__(self, tables: Iterable[str]) -> None:
        self.tables = tuple(tables)
        self.ends = dict.fromkeys(self.tables, 0)
        self.rows: dict[str, dict[bytes, tuple[int, bytes | None]]] = {table: {} for table in self.tables}
        self.seals: dict[str, dict[bytes, tuple[int, bytes]]] = {table: {} for table in self.tables}
        self.unsaved = 0
        self.unproven: dict[str, set[bytes]] = {table: set() for table in self.tables}
        self._anchors: dict[str, Anchor] = {}
        self._last: dict[str, tuple[int, int, bytes, bytes | None]] = {}
        self._swept = dict.fromkeys(self.tables, -1)

    @property
    def size(self) -> int:
        """The number of rows in all tables."""
        return sum(map(len, self.rows.values()))

    def take(self, table: str, offset: int, timestamp: int, key: bytes, value: bytes | None, version: int) -> bool:
        """Take the record that is next in a table's log. False if it is of a lower version than the key's newest."""
        self.ends[table] = offset + 1
        self._last[table] = (offset, timestamp, key, value)
        self.unsaved += 1
        return self.learn(table, key, value, version)

    def extend(
        self,
        table: str,
        records: Chunk,
        late: dict[tuple[str, bytes], tuple[bytes | None, int]],
        skip: int = 0,
        sieve: Sieve | None = None,
    ) -> None:
        """Take the records that are next in a table's log, except the first `skip` and those that the sieve filters
        out. Adds to `late` those (value, version) that hide a row of a higher version: the last of their key in the
        log, but not the newest."""
        count = len(records) - skip
        if count <= 0:
            return
        unproven = self.unproven[table]
        for offset, key, value, version in islice(records, skip, None):
            if sieve is None:
                unproven.add(key)
            elif not sieve.passes(table, offset, key, value, version):
                continue
            if not self.learn(table, key, value, version):
                late[table, key] = (value, version)
            elif late:
                late.pop((table, key), None)
        self.unsaved += count
        self.ends[table] = records.offsets[-1] + 1
        self._last[table] = (records.offsets[-1], records.timestamps[-1], records.keys[-1], records.values[-1])

    def prove(self) -> str:
        """Check the unproven keys: why the first unreadable record can't be read, "" if all can."""
        for table, keys in self.unproven.items():
            for key in keys:
                version, value = self.seals[table].get(key) or self.rows[table].get(key) or (0, None)
                if why := unreadable(table, key, value, version):
                    return why
            keys.clear()
        return ""

    def learn(self, table: str, key: bytes, value: bytes | None, version: int) -> bool:
        """Take a record's content, without its place in the log. False as in `take`."""
        if key.startswith(SEAL_PREFIX):
            seals = self.seals[table]
            sealed = seals.get(key)
            if sealed is not None and sealed[0] > version:
                return value is None
            if value is not None:
                seals[key] = (version, value)
            elif key.startswith(PROGRESS_PREFIX):
                seals.pop(key, None)
            return True
        rows = self.rows[table]
        current = rows.get(key)
        if current is not None and current[0] > version:
            return False
        rows[key] = (version, value)
        return True

    def anchor(self, table: str) -> Anchor | None:
        """The last known record of a table's log; None if there is none."""
        last = self._last.get(table)
        if last is not None:
            offset, timestamp, key, value = last
            self._anchors[table] = Anchor(offset, timestamp, checksum(key, value))
        return self._anchors.get(table)

    def sweep(self) -> None:
        """Forget the tombstones that were present at the last sweep. They are kept only to recognize late records of
        replaced workers, so once a resume window is often enough."""
        for table, rows in self.rows.items():
            old = self._swept[table]
            self._swept[table] = max((version for version, _ in self.seals[table].values()), default=-1)
            for key in [key for key, (version, value) in rows.items() if value is None and version <= old]:
                del rows[key]


class _Body(msgspec.Struct, array_like=True):
    partition: int
    partitions: int
    fold: int
    tables: list[str]
    anchors: dict[str, Anchor]
    rows: dict[str, list[tuple[bytes, int, bytes | None]]]
    seals: dict[str, list[tuple[bytes, int, bytes]]]


_decode_body = msgspec.msgpack.Decoder(_Body).decode


class Capture(NamedTuple):
    """A copy of an image, to be written in another thread while the image changes."""

    anchors: dict[str, Anchor]
    rows: dict[str, dict[bytes, tuple[int, bytes | None]]]
    seals: dict[str, dict[bytes, tuple[int, bytes]]]


def capture(image: Image) -> Capture:
    """Copy the image, and reset its count of unsaved records. The rows' bytes are shared."""
    image.unsaved = 0
    return Capture(
        {table: anchor for table in image.tables if (anchor := image.anchor(table)) is not None},
        {table: dict(rows) for table, rows in image.rows.items()},
        {table: dict(seals) for table, seals in image.seals.items()},
    )


def encode(captured: Capture, partition: int, partitions: int) -> bytes:
    """The bytes of a checkpoint file."""
    body = msgspec.msgpack.encode(
        _Body(
            partition,
            partitions,
            FOLD_VERSION,
            list(captured.rows),
            captured.anchors,
            {table: [(key, *entry) for key, entry in rows.items()] for table, rows in captured.rows.items()},
            {table: [(key, *entry) for key, entry in seals.items()] for table, seals in captured.seals.items()},
        )
    )
    return b"%b%b%b" % (_MAGIC, blake2b(body, digest_size=_DIGEST_BYTES).digest(), body)


def decode(data: bytes, partition: int, partitions: int, tables: Iterable[str]) -> Image:
    """The image that a checkpoint file holds. Raises UnusableCheckpoint if it is damaged, or not of this partition,
    number of partitions, fold version and these tables."""
    start = len(_MAGIC) + _DIGEST_BYTES
    if not data.startswith(_MAGIC):
        raise UnusableCheckpoint("it is no checkpoint of this version")
    view = memoryview(data)
    if blake2b(view[start:], digest_size=_DIGEST_BYTES).digest() != view[len(_MAGIC) : start]:
        raise UnusableCheckpoint("it is damaged: its checksum is wrong")
    try:
        body = _decode_body(view[start:])
    except msgspec.MsgspecError as error:
        raise UnusableCheckpoint(f"it can't be read: {error}") from error
    expected: tuple[Any, ...] = (partition, partitions, FOLD_VERSION, list(tables))
    if (body.partition, body.partitions, body.fold, body.tables) != expected:
        raise UnusableCheckpoint(
            f"it is of partition {body.partition} of {body.partitions}, fold {body.fold} and tables "
            f"{', '.join(body.tables)}"
        )
    image = Image(body.tables)
    for table in body.tables:
        image.rows[table] = {key: (version, value) for key, version, value in body.rows[table]}
        image.seals[table] = {key: (version, value) for key, version, value in body.seals[table]}
        if (anchor := body.anchors.get(table)) is not None:
            image._anchors[table] = anchor
            image.ends[table] = anchor.offset + 1
    return image


def path_of(folder: Path, partition: int) -> Path:
    """The file of a partition's checkpoint."""
    return folder / "checkpoints" / f"{partition}.checkpoint"


def save(path: Path, captured: Capture, partition: int, partitions: int) -> int:
    """Write a checkpoint, atomically; returns its size in bytes. Raises OSError. Blocks: call it in a thread."""
    data = encode(captured, partition, partitions)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return len(data)


def restore(path: Path, partition: int, partitions: int, tables: Iterable[str]) -> Image | None:
    """The image in a checkpoint file, None if there is none. Raises UnusableCheckpoint. Blocks."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnusableCheckpoint(f"it can't be read: {error}") from error
    return decode(data, partition, partitions, tables)


def checksum(key: bytes, value: bytes | None) -> int:
    """CRC-32 of a record's key and value."""
    return crc32(value or b"", crc32(key))
