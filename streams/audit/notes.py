"""Signed notes (C2SP signed-note) with Ed25519, and the checkpoints of a log that they carry (C2SP tlog-checkpoint)."""

import re
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"
_MAX_CHARACTERS = 1_000_000
_SIGNATURE = "— "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NUMBER = re.compile(r"0|[1-9][0-9]*")


class NoteError(ValueError):
    """A note that is malformed, not signed by the key, or signed wrongly."""


class Checkpoint(NamedTuple):
    """A log's name, how many entries it has, and the root of its tree."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The text of the note."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


def verifier_key(name: str, public_key: Ed25519PublicKey) -> str:
    """A public key under a name as tools for signed notes take it (Go's `note.NewVerifier`)."""
    encoded = _ED25519 + public_key.public_bytes_raw()
    return f"{name}+{_key_id(name, public_key).hex()}+{b64encode(encoded).decode()}"


def sign_note(text: str, name: str, key: Ed25519PrivateKey) -> str:
    """The note: the text, which ends a line, signed under this name."""
    signature = _key_id(name, key.public_key()) + key.sign(text.encode())
    return f"{text}\n{_SIGNATURE}{name} {b64encode(signature).decode()}\n"


def open_note(note: str, name: str, public_key: Ed25519PublicKey) -> str:
    """The text of a note that this key has signed under this name; signatures by others are ignored. Raises
    NoteError."""
    text, signatures = _split(note)
    key_id = _key_id(name, public_key)
    ours = [signature for signer, signature in signatures if signer == name and signature[:4] == key_id]
    if not ours:
        raise NoteError("not signed by this key")
    for signature in ours:
        try:
            public_key.verify(signature[4:], text.encode())
        except InvalidSignature:
            raise NoteError("the signature is not of this text") from None
    return text


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """The signed note of a checkpoint; the key's name is the log's origin."""
    return sign_note(checkpoint.text(), checkpoint.origin, key)


def open_checkpoint(note: str, public_key: Ed25519PublicKey, origin: str = "") -> Checkpoint:
    """The checkpoint of a note that this key has signed under the checkpoint's origin, which is this one if it is
    given. Raises NoteError."""
    said = origin_of(note)
    if origin and said != origin:
        raise NoteError(f"a checkpoint of {said}, not of {origin}")
    return _parse(open_note(note, said, public_key))


def origin_of(note: str) -> str:
    """The origin that a note says it is of, before its signature is known to hold."""
    return note.partition("\n")[0]


def split_notes(text: str) -> list[str]:
    """Notes that were printed one behind the other: each ends with its signatures. Raises NoteError."""
    notes, lines, signed = [""], text.splitlines(keepends=True), False
    for line in lines:
        if signed and not line.startswith(_SIGNATURE):
            notes.append("")
        signed = line.startswith(_SIGNATURE)
        notes[-1] += line
    return notes


def _key_id(name: str, public_key: Ed25519PublicKey) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + public_key.public_bytes_raw()).digest()[:4]


def _split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The text, and the signatures by the names of their keys."""
    if len(note) > _MAX_CHARACTERS or _CONTROL.search(note):
        raise NoteError("not a signed note")
    text, blank, lines = note.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise NoteError("not a signed note: no signature after an empty line")
    return f"{text}\n", [_signature(line) for line in lines[:-1].split("\n")]


def _signature(line: str) -> tuple[str, bytes]:
    name, space, encoded = line.removeprefix(_SIGNATURE).partition(" ")
    if not line.startswith(_SIGNATURE) or not name or not space or "+" in name:
        raise NoteError("not a signed note: a line that is not a signature")
    return name, decode_base64(encoded)


def _parse(text: str) -> Checkpoint:
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines) or not _NUMBER.fullmatch(lines[1]):
        raise NoteError("not a checkpoint")
    root = decode_base64(lines[2])
    if len(root) != 32:
        raise NoteError("not a checkpoint: its root is not a SHA-256 hash")
    return Checkpoint(lines[0], int(lines[1]), root)


def decode_base64(text: str) -> bytes:
    """Bytes of canonical Base64. Raises NoteError."""
    try:
        decoded = b64decode(text, validate=True)
    except ValueError:
        decoded = b""
    if b64encode(decoded).decode() != text:
        raise NoteError(f"not Base64: {text[:60]!r}")
    return decoded
