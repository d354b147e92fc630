"""The journal's records: commits, and what watchers say of their progress."""

import msgspec

from streams.wire.records import ClusterProgress, Commit, Progress

_PROGRESS = b'{"phase":"progress"'

_decode_commit = msgspec.json.Decoder(Commit).decode
_decode_progress = msgspec.json.Decoder(Progress).decode
_encode = msgspec.json.Encoder().encode


def read_journal_record(value: bytes) -> Commit | Progress:
    """Raises msgspec.MsgspecError and RecursionError."""
    return _decode_progress(value) if value.startswith(_PROGRESS) else _decode_commit(value)


def progress_record(writer: str, at: str, clusters: list[ClusterProgress]) -> bytes:
    """A progress record's bytes."""
    return _encode(Progress(writer, at, clusters))
