"""The key that signs checkpoints: Ed25519, in PEM files as OpenSSL reads and writes them."""

import os
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from streams.errors import FacetsError
from streams.exit_codes import ExitCode

_OTHERS = 0o077


def public_path(path: Path) -> Path:
    """Where the public key of a key file is."""
    return path.with_name(f"{path.name}.pub")


def make_key(path: Path) -> Ed25519PublicKey:
    """Make a key, readable by this user alone, with the public key beside it. Raises FacetsError: a key that is there
    is never replaced."""
    key = Ed25519PrivateKey.generate()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public_path(path).write_bytes(public_pem(key.public_key()))
    except FileExistsError:
        raise FacetsError(
            f"{path} exists: what it has signed can be checked with it alone", "give another file: --key FILE",
            ExitCode.IO_ERROR,
        ) from None  # fmt: skip
    except OSError as error:
        raise FacetsError(
            f"no key can be written to {path}: {error.strerror or error}", "give another file: --key FILE",
            ExitCode.IO_ERROR,
        ) from error  # fmt: skip
    return key.public_key()


def read_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a file. Raises FacetsError, also where others may read the file."""
    content = _read(path, "key", "facets audit key makes one")
    if path.stat().st_mode & _OTHERS:
        raise FacetsError(
            f"{path} can be read by others: what it signs proves nothing", f"chmod 600 {path}", ExitCode.FORBIDDEN
        )
    key: object = None
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = load_pem_private_key(content, None)
    if not isinstance(key, Ed25519PrivateKey):
        raise FacetsError(
            f"{path} is not an Ed25519 key in PEM without a password", "facets audit key makes one", ExitCode.BAD_DATA
        )
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The public key in a file. Raises FacetsError."""
    content = _read(path, "public key", "facets audit key makes one beside the key; give another with --public-key")
    key: object = None
    with suppress(ValueError, UnsupportedAlgorithm):
        key = load_pem_public_key(content)
    if not isinstance(key, Ed25519PublicKey):
        raise FacetsError(
            f"{path} is not an Ed25519 public key in PEM", "give the key that signed the log: --public-key FILE",
            ExitCode.BAD_DATA,
        )  # fmt: skip
    return key


def public_pem(key: Ed25519PublicKey) -> bytes:
    """A public key as it is handed to who checks."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _read(path: Path, what: str, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FacetsError(f"there is no {what} in {path}", remedy, ExitCode.UNKNOWN_NAME) from None
    except OSError as error:
        raise FacetsError(
            f"the {what} in {path} can't be read: {error.strerror or error}", remedy, ExitCode.IO_ERROR
        ) from error
