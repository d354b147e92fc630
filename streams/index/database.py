"""The index's file: SQLite with a write-ahead log, so that readers and the one writer don't wait for each other, and
whatever ends the writer leaves the file as of its last transaction (https://sqlite.org/wal.html)."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.runtime.folders import data_dir

INDEX_VERSION = 1
"""Of the file's contents: an index of another version is built again."""

_PAGE_BYTES = 1024
"""Little of a small page stays empty, and a change writes few bytes. (Measured: 119 bytes a change, with pages of 4 KiB
134, of 32 KiB 174.)"""

_CHECKPOINT_PAGES = 16 * 1024
_CACHE_KIB = 128 * 1024
_BUSY_SECONDS = 60.0
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_SUFFIXES = ("", "-wal", "-shm")

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE partitions (
    partition INTEGER PRIMARY KEY, begin INTEGER, begin_at TEXT, next INTEGER, checksum INTEGER, latest TEXT,
    services INTEGER, series INTEGER
);
CREATE TABLE services (id INTEGER PRIMARY KEY, namespace TEXT, name TEXT);
CREATE UNIQUE INDEX services_by_name ON services (namespace, name);
CREATE TABLE series (id INTEGER PRIMARY KEY, service INTEGER, "table" TEXT, key TEXT);
CREATE INDEX series_by_service ON series (service);
CREATE TABLE blocks (id INTEGER PRIMARY KEY, series INTEGER, first INTEGER, last INTEGER, data BLOB);
CREATE UNIQUE INDEX blocks_by_series ON blocks (series, first);
CREATE TABLE tails (series INTEGER, first INTEGER, last INTEGER, data BLOB, PRIMARY KEY (series, first)) WITHOUT ROWID;
CREATE TABLE addresses (
    address BLOB, series INTEGER, since INTEGER, until INTEGER, PRIMARY KEY (address, series, since)
) WITHOUT ROWID;
CREATE TABLE newest (
    partition INTEGER, "table" TEXT, key BLOB, version INTEGER, value BLOB, PRIMARY KEY (partition, "table", key)
) WITHOUT ROWID;
CREATE TABLE points (
    partition INTEGER, first_at TEXT, first INTEGER, data BLOB, PRIMARY KEY (partition, first_at)
) WITHOUT ROWID;
CREATE TABLE signs (
    partition INTEGER, name TEXT, first INTEGER, first_at TEXT, last_at TEXT, writer TEXT, covered INTEGER,
    PRIMARY KEY (partition, name, first)
) WITHOUT ROWID;
CREATE TABLE clusters (
    partition INTEGER, name TEXT, seen INTEGER, since INTEGER, since_at TEXT, PRIMARY KEY (partition, name)
) WITHOUT ROWID;
"""


class IndexUnusable(Exception):
    """The file is missing, damaged, cut off, or of another version: it is to be built (again)."""


def default_path() -> Path:
    """Where `facets index` keeps the index, unless it is told."""
    return data_dir() / "index" / "facets.index"


def lock_path(path: Path) -> Path:
    """The lock of the process that keeps an index."""
    return Path(f"{path}.lock")


@contextmanager
def index_errors(path: Path) -> Iterator[None]:
    """Raises IndexUnusable for a damaged file, and FacetsError for what the machine refuses."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _DAMAGE or "no such" in str(error):
            raise IndexUnusable(f"the index {path} is damaged or cut off: {error}") from error
        if code == sqlite3.SQLITE_FULL:
            raise FacetsError(
                f"the index {path} can't be written: the disk is full",
                "free space, or name a file on another disk with --index (FACETS_INDEX); what was written is whole",
                ExitCode.IO_ERROR,
            ) from error
        raise FacetsError(
            f"the index {path} can't be used: {error}", "check its folder, and who owns it", ExitCode.IO_ERROR
        ) from error


def create(path: Path) -> None:
    """Make an empty file in place of what is there. Raises FacetsError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove(path)
    except OSError as error:
        raise FacetsError(
            f"the index {path} can't be made: {error.strerror or error}",
            "check its folder, or name another file with --index (FACETS_INDEX)",
            ExitCode.IO_ERROR,
        ) from error
    with index_errors(path):
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {INDEX_VERSION}; COMMIT;")
        finally:
            connection.close()


def remove(path: Path) -> None:
    """Delete the file and what SQLite keeps beside it. Raises OSError."""
    for suffix in _SUFFIXES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def connect(path: Path, *, writing: bool) -> sqlite3.Connection:
    """Open the file, for the thread that calls. Raises IndexUnusable, FacetsError."""
    if not path.exists():
        raise IndexUnusable(f"there is no index {path}")
    with index_errors(path):
        # A reader needs the shared memory beside the file, which `mode=ro` opens, but does not make.
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={'rw' if writing else 'ro'}",
            uri=True, isolation_level=None, timeout=_BUSY_SECONDS,
        )  # fmt: skip
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA cache_size = {-_CACHE_KIB}")
            if writing:
                # After a power failure the last transactions may be gone: they are made again.
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        except BaseException:
            connection.close()
            raise
    if version != INDEX_VERSION:
        connection.close()
        raise IndexUnusable(f"the index {path} is of version {version}, not {INDEX_VERSION}")
    return connection


def check_whole(connection: sqlite3.Connection, path: Path) -> None:
    """Read the file's structure. Raises IndexUnusable where it is damaged."""
    with index_errors(path):
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise IndexUnusable(f"the index {path} is damaged: {answer}")
