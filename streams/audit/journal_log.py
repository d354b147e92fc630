"""The logs of a journal: one a partition, with its records as they were taken, up to what is sealed."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from streams.audit.entries import Entry, entry_of, read_entry
from streams.audit.log_folder import LogDamaged, LogFolder
from streams.audit.merkle import EMPTY_ROOT, inclusion_proof
from streams.audit.notes import Checkpoint, NoteError, open_checkpoint, sign_checkpoint, verifier_key
from streams.audit.proofs import Record, check_proof, write_proof
from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.kafka.bulk_reader import stamp_of
from streams.kafka.range_reader import RangeExpired, RangeReader
from streams.runtime.process_lock import LockHeld, Owner, ProcessLock
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import JOURNAL, topic_of

_TAIL = 256
_VERIFY = "facets audit verify names the first record that differs"


class LogGap(FacetsError):
    """The log can't be extended without leaving records out, or contradicting what it has signed."""

    exit_code = ExitCode.NEGATIVE


class NotLogged(FacetsError):
    """The log does not have a record."""

    exit_code = ExitCode.NOT_KNOWN


class Extended(NamedTuple):
    """A log after it was extended: its checkpoint and that as a signed note, and how many records are new."""

    checkpoint: Checkpoint
    note: str
    added: int


class JournalLog:
    """The log of a partition of the journal in a Kafka cluster, below a folder that has those of all."""

    def __init__(self, folder: Path, cluster_id: str, partition: int) -> None:
        self.partition = partition
        self.origin = f"service-facets.io/audit/{cluster_id}/{JOURNAL}/{partition}"
        self.folder = LogFolder(folder / cluster_id / JOURNAL / str(partition))

    def checkpoint(self, public_key: Ed25519PublicKey) -> Checkpoint | None:
        """The newest checkpoint; None where there is no log yet. Raises LogDamaged where this key did not sign it."""
        note = self.folder.note()
        if note is None:
            return None
        try:
            return open_checkpoint(note, public_key, self.origin)
        except NoteError as error:
            raise LogDamaged(
                f"the checkpoint in {self.folder.path} can't be trusted: {error}",
                "check --key or --public-key; or restore the folder from a copy",
            ) from error

    def entries(self, size: int, start: int = 0) -> Iterator[Entry]:
        """The entries from an index on, in a log of this size. Raises LogDamaged."""
        for index, encoded in enumerate(self.folder.entries(size, start), start):
            try:
                yield read_entry(encoded)
            except ValueError as error:
                raise LogDamaged(
                    f"entry {index} of the log in {self.folder.path} is not one of a journal record",
                    "restore the log's folder from a copy",
                ) from error

    def first_offset(self, size: int) -> int:
        """The offset of the log's first record. Raises LogDamaged."""
        return next(self.entries(size)).offset

    def extend(self, reader: RangeReader, sealed_end: int, key: Ed25519PrivateKey) -> Extended | None:
        """Add the records before `sealed_end`, and sign; None where there is nothing to sign. The log that is there
        must have its signed root, and its last record must still be the journal's. Raises FacetsError."""
        before = self.checkpoint(key.public_key()) or Checkpoint(self.origin, 0, EMPTY_ROOT)
        if before.size and self.folder.root(before.size) != before.root:
            raise LogDamaged(
                f"the log in {self.folder.path} does not have the root that was signed", f"restore it; {_VERIFY}"
            )
        begins, ends = reader.bounds(JOURNAL, [self.partition])
        start = begins[self.partition]
        if before.size:
            start = self.first_offset(before.size) + before.size
            self._check_continues(reader, before.size, start, begins[self.partition], ends[self.partition])
        end = min(max(start, sealed_end), ends[self.partition])
        if end == start:
            note = self.folder.note()
            return None if note is None else Extended(before, note, 0)
        size = self.folder.append(before.size, (entry.encode() for entry in self.journal(reader, start, end)))
        checkpoint = Checkpoint(self.origin, size, self.folder.root(size))
        note = sign_checkpoint(checkpoint, key)
        self.folder.publish(note, verifier_key(self.origin, key.public_key()))
        return Extended(checkpoint, note, size - before.size)

    def journal(
        self, reader: RangeReader, start: int, end: int, topic: str = JOURNAL, *, whole: bool = True
    ) -> Iterator[Entry]:
        """The entries of the journal's records as it has them now."""
        for record in reader.records(topic, self.partition, start, end, whole=whole):
            yield entry_of(record.offset, record.timestamp, record.key, record.value)

    def _check_continues(self, reader: RangeReader, size: int, start: int, begin: int, end: int) -> None:
        if begin > start:
            raise LogGap(
                f"partition {self.partition}: offsets {start} to {begin - 1} have expired since the last checkpoint: "
                "the log would have a gap",
                "keep this log, and begin another in another --log folder; checkpoint more often than records expire",
            )
        if end < start:
            raise LogGap(
                f"partition {self.partition} of the journal ends at offset {end - 1}; offsets up to {start - 1} are in "
                "its log: they are gone, or it is another journal",
                _VERIFY,
            )
        if begin == start:
            return
        (last,) = self.entries(size, size - 1)
        try:
            same = list(self.journal(reader, start - 1, start)) == [last]
        except RangeExpired:
            same = False
        if not same:
            raise LogGap(
                f"partition {self.partition}: offset {start - 1} is not what it was at the last checkpoint: nothing is "
                "signed on top of it",
                _VERIFY,
            )


def prove(log: JournalLog, reader: RangeReader, public_key: Ed25519PublicKey, offset: int) -> str:
    """A proof that the record at an offset is in the log, with the record itself as far as it is retained. Raises
    FacetsError: LogDamaged also where the log or the record is not what was signed."""
    checkpoint, note = log.checkpoint(public_key), log.folder.note()
    if checkpoint is None or note is None:
        raise NotLogged(f"partition {log.partition} has no log", "facets audit checkpoint begins one")
    first = log.first_offset(checkpoint.size)
    index = offset - first
    if not 0 <= index < checkpoint.size:
        raise NotLogged(
            f"offset {offset} is not in the log of partition {log.partition}, which has {first} to "
            f"{first + checkpoint.size - 1}",
            "facets audit checkpoint adds what has been sealed since" if index > 0 else "",
        )
    entry = next(log.entries(checkpoint.size, index))
    siblings = inclusion_proof(log.folder.hash_reader(checkpoint.size), index, checkpoint.size)
    record = next(_retained(log, reader, offset), None)
    proof = write_proof(entry, record, index, siblings, note)
    try:
        check_proof(proof, public_key)
    except ValueError as error:
        raise LogDamaged(f"offset {offset} can't be proven: {error}", _VERIFY) from error
    return proof


def _retained(log: JournalLog, reader: RangeReader, offset: int) -> Iterator[Record]:
    begins, ends = reader.bounds(JOURNAL, [log.partition])
    if begins[log.partition] <= offset < ends[log.partition]:
        for record in reader.records(JOURNAL, log.partition, offset, offset + 1):
            yield Record(record.key, record.value)


def locked(folder: Path) -> ProcessLock:
    """The lock of who extends the logs in a folder."""
    return ProcessLock(folder / "audit.lock", Owner.this_process())


def lock_held(error: LockHeld, folder: Path) -> FacetsError:
    """The error for a lock that another process has."""
    process = f" (process {error.owner.pid})" if error.owner else ""
    return FacetsError(
        f"another `facets audit checkpoint`{process} works in {folder}", "wait for it", ExitCode.NEGATIVE
    )


def sealed_ends(reader: RangeReader, tables: Collection[str], partitions: int) -> dict[int, int]:
    """The journal offset of each partition before which all of these tables have sealed everything; 0 where one has
    sealed nothing. Raises BrokerError."""
    ends = [_sealed_ends(reader, topic_of(table), partitions) for table in tables]
    return {partition: min(each[partition] for each in ends) for partition in range(partitions)}


def _sealed_ends(reader: RangeReader, topic: str, partitions: int) -> dict[int, int]:
    begins, ends = reader.bounds(topic, range(partitions))
    return {p: _sealed_end(reader, topic, p, begins[p], ends[p]) for p in range(partitions)}


def _sealed_end(reader: RangeReader, topic: str, partition: int, begin: int, end: int) -> int:
    """Seals stand behind their rows: the newest is near the end, unless a snapshot is being written there."""
    start, count = end, _TAIL
    while start > begin:
        start, before = max(begin, end - count), start
        seals = [
            stamp_of(record.headers)
            for record in reader.records(topic, partition, start, before)
            if record.key is not None and record.key.startswith(SEAL_PREFIX)
        ]
        if seals:
            return max(seals) + 1
        count *= 4
    return 0
