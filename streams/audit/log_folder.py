"""A log on disk, in the layout of C2SP tlog-tiles: the folder can be published as it is, by any web server.

What is in a full tile or bundle never changes. The checkpoint is written last, so that a run that was interrupted
leaves a log as large as before; what it had begun is written again, with the same bytes.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from streams.audit.merkle import TILE_WIDTH, HashReader, leaf_hash, perfect_root, tree_hash
from streams.audit.tiles import (
    CHECKPOINT,
    bundle_path,
    pack_entries,
    pack_hashes,
    tile_path,
    unpack_entries,
    unpack_hashes,
)
from streams.errors import FacetsError
from streams.exit_codes import ExitCode

VERIFIER_KEY = "verifier-key"
"""Beside the checkpoint: whoever trusts the log has its key from elsewhere."""


class LogDamaged(FacetsError):
    """A file of the log is missing, or is not as the log's size says."""

    exit_code = ExitCode.NEGATIVE


class LogFolder:
    """The log in a folder, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self) -> str | None:
        """The newest checkpoint's signed note; None where there is no log. Raises FacetsError."""
        try:
            return (self.path / CHECKPOINT).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise LogDamaged(f"{self.path / CHECKPOINT} can't be read: {error}", _RESTORE) from error

    def hash_reader(self, size: int) -> HashReader:
        """Reads the hashes of the tree with `size` leaves. Raises LogDamaged."""
        tiles: dict[tuple[int, int], list[bytes]] = {}

        def read(level: int, first: int, count: int) -> Sequence[bytes]:
            index, start = divmod(first, TILE_WIDTH)
            if (level, index) not in tiles:
                if len(tiles) > 64:
                    tiles.clear()
                tiles[level, index] = self._tile(level, index, size)
            return tiles[level, index][start : start + count]

        return read

    def root(self, size: int, within: int | None = None) -> bytes:
        """The root of the tree with the first `size` leaves, by the tiles of the tree that has `within`, or no more
        than these. Raises LogDamaged."""
        return tree_hash(self.hash_reader(size if within is None else within), 0, size)

    def entries(self, size: int, start: int = 0) -> Iterator[bytes]:
        """The entries from an index on, of a log of this size. Raises LogDamaged."""
        for index in range(start // TILE_WIDTH, -(-size // TILE_WIDTH)):
            width = min(TILE_WIDTH, size - index * TILE_WIDTH)
            bundle = self._read(bundle_path(index, width), bundle_path(index, TILE_WIDTH))
            try:
                entries = unpack_entries(bundle)[:width]
            except ValueError as error:
                raise _damaged(self.path / bundle_path(index, width)) from error
            if len(entries) < width:
                raise _damaged(self.path / bundle_path(index, width))
            yield from entries[max(0, start - index * TILE_WIDTH) :]

    def append(self, size: int, entries: Iterable[bytes]) -> int:
        """Write entries behind the first `size` ones; the new size. The checkpoint is not touched. Raises LogDamaged,
        OSError."""
        levels = [self._tail(level, size) for level in range(_levels(size))]
        bundle = list(self.entries(size, size - size % TILE_WIDTH)) if size % TILE_WIDTH else []
        for entry in entries:
            bundle.append(entry)
            size += 1
            self._add(levels, 0, size, leaf_hash(entry))
            if len(bundle) == TILE_WIDTH:
                self._write_full(bundle_path(size // TILE_WIDTH - 1, TILE_WIDTH), pack_entries(bundle))
                bundle = []
        for level, hashes in enumerate(levels):
            if hashes:
                index = (size >> 8 * level) // TILE_WIDTH
                self._write(tile_path(level, index, len(hashes)), pack_hashes(hashes))
        if bundle:
            self._write(bundle_path(size // TILE_WIDTH, len(bundle)), pack_entries(bundle))
        return size

    def publish(self, note: str, verifier_key: str) -> None:
        """Write the checkpoint in one step, once all that it signs is on the disk; and beside it its public key as
        tools for signed notes take it. Raises OSError."""
        self._write(VERIFIER_KEY, f"{verifier_key}\n".encode())
        os.sync()
        self._write(CHECKPOINT, note.encode())

    def _add(self, levels: list[list[bytes]], level: int, size: int, digest: bytes) -> None:
        """Add a hash to a level; where a tile is full, it is written, and its root is a hash of the next level."""
        if level == len(levels):
            levels.append([])
        levels[level].append(digest)
        if len(levels[level]) == TILE_WIDTH:
            self._write_full(tile_path(level, (size >> 8 * (level + 1)) - 1, TILE_WIDTH), pack_hashes(levels[level]))
            root = perfect_root(levels[level])
            levels[level] = []
            self._add(levels, level + 1, size, root)

    def _tail(self, level: int, size: int) -> list[bytes]:
        """The hashes of a level's last, partial tile."""
        index, width = divmod(size >> 8 * level, TILE_WIDTH)
        return self._tile(level, index, size) if width else []

    def _tile(self, level: int, index: int, size: int) -> list[bytes]:
        width = min(TILE_WIDTH, (size >> 8 * level) - index * TILE_WIDTH)
        tile = self._read(tile_path(level, index, width), tile_path(level, index, TILE_WIDTH))
        try:
            hashes = unpack_hashes(tile)[:width]
        except ValueError as error:
            raise _damaged(self.path / tile_path(level, index, width)) from error
        if len(hashes) < width:
            raise _damaged(self.path / tile_path(level, index, width))
        return hashes

    def _read(self, *paths: str) -> bytes:
        """The first of these files that is there: of what was partial, the full one may be left."""
        for path in paths:
            try:
                return (self.path / path).read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise LogDamaged(f"{self.path / path} can't be read: {error.strerror or error}", _RESTORE) from error
        raise LogDamaged(f"{self.path / paths[0]} is missing", _RESTORE)

    def _write_full(self, path: str, content: bytes) -> None:
        self._write(path, content)
        shutil.rmtree(self.path / f"{path}.p", ignore_errors=True)

    def _write(self, path: str, content: bytes) -> None:
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        written = target.with_name(f"{target.name}.new")
        written.write_bytes(content)
        written.replace(target)


_RESTORE = "restore the log's folder from a copy; without one, begin a new log in another --log folder"


def _levels(size: int) -> int:
    """How many levels have hashes."""
    return -(-size.bit_length() // 8)


def _damaged(path: Path) -> LogDamaged:
    return LogDamaged(f"{path} does not have what a log of this size has there", _RESTORE)
