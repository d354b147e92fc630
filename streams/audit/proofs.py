"""A proof that a record is in a log (C2SP tlog-proof): it is checked without the log, with the public key alone.

The extra data, from which the leaf is made again, is JSON: `entry` is the entry, `key` and `value` the record itself in
Base64, or null where it is null or (`value` alone, with `expired`) no longer in the journal. Nothing of it is believed
before its hashes fit.
"""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from streams.audit.entries import Entry, entry_of, read_entry
from streams.audit.merkle import leaf_hash, root_from_proof
from streams.audit.notes import Checkpoint, NoteError, decode_base64, open_checkpoint

_HEADER = "c2sp.org/tlog-proof@v1"


class Record(NamedTuple):
    """A journal record's own bytes."""

    key: bytes | None
    value: bytes | None


class Proven(NamedTuple):
    """What a proof shows: the log's checkpoint, the record's place in it, its entry, and the record itself (None where
    it had expired)."""

    checkpoint: Checkpoint
    leaf: int
    entry: Entry
    record: Record | None


def write_proof(entry: Entry, record: Record | None, index: int, proof: Sequence[bytes], note: str) -> str:
    """The proof's text, with the checkpoint's note."""
    extra: dict[str, Any] = {"entry": entry.encode().decode(), "expired": record is None}
    if record is not None:
        extra |= {"key": _base64(record.key), "value": _base64(record.value)}
    lines = [_HEADER, f"extra {b64encode(orjson.dumps(extra)).decode()}", f"index {index}"]
    lines += [b64encode(sibling).decode() for sibling in proof]
    return "\n".join([*lines, "", note])


def check_proof(text: str, public_key: Ed25519PublicKey) -> Proven:
    """What the proof shows. Raises ValueError where it shows nothing."""
    head, _, note = text.partition("\n\n")
    lines = head.split("\n")
    if lines[0] != _HEADER or len(lines) < 3 or not lines[1].startswith("extra ") or not lines[2].startswith("index "):
        raise NoteError(f"not a proof: it is to begin with {_HEADER}, extra and index")
    checkpoint = open_checkpoint(note, public_key)
    number = lines[2].removeprefix("index ")
    if not number.isdecimal() or str(int(number)) != number:
        raise NoteError("not a proof: its index is not a number")
    entry, record = _extra(decode_base64(lines[1].removeprefix("extra ")))
    siblings = [decode_base64(line) for line in lines[3:]]
    if root_from_proof(leaf_hash(entry.encode()), int(number), checkpoint.size, siblings) != checkpoint.root:
        raise NoteError("the record is not the one in the log: the proof does not lead to the signed root")
    if record is not None and entry_of(entry.offset, entry.timestamp, *record) != entry:
        raise NoteError("the record's bytes are not those in the log: they have another hash")
    return Proven(checkpoint, int(number), entry, record)


def _extra(encoded: bytes) -> tuple[Entry, Record | None]:
    extra: Any = orjson.loads(encoded)
    try:
        entry = read_entry(extra["entry"].encode())
        if extra["expired"]:
            return entry, None
        return entry, Record(*(None if extra[name] is None else decode_base64(extra[name]) for name in Record._fields))
    except (KeyError, TypeError, AttributeError):
        raise NoteError("not a proof: its extra data are not those of a journal record") from None


def _base64(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()
