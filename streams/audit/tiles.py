"""The files of a log as C2SP tlog-tiles lays them out: their paths, and how entries are bundled."""

from collections.abc import Iterable

CHECKPOINT = "checkpoint"

HASH_BYTES = 32


def tile_path(level: int, index: int, width: int) -> str:
    """The path of a tile of hashes; of a partial one where the width is less than 256."""
    return f"tile/{level}/{_index_path(index)}{_suffix(width)}"


def bundle_path(index: int, width: int) -> str:
    """The path of an entry bundle."""
    return f"tile/entries/{_index_path(index)}{_suffix(width)}"


def pack_hashes(hashes: Iterable[bytes]) -> bytes:
    """A tile's bytes."""
    return b"".join(hashes)


def unpack_hashes(tile: bytes) -> list[bytes]:
    """A tile's hashes. Raises ValueError."""
    if len(tile) % HASH_BYTES:
        raise ValueError(f"a tile of {len(tile)} bytes")
    return [tile[start : start + HASH_BYTES] for start in range(0, len(tile), HASH_BYTES)]


def pack_entries(entries: Iterable[bytes]) -> bytes:
    """A bundle's bytes: each entry behind its length, a big-endian uint16."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unpack_entries(bundle: bytes) -> list[bytes]:
    """A bundle's entries. Raises ValueError."""
    entries, at = [], 0
    while at < len(bundle):
        begin, end = at + 2, at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        if end > len(bundle) or begin > len(bundle):
            raise ValueError("a bundle that ends inside an entry")
        entries.append(bundle[begin:end])
        at = end
    return entries


def _index_path(index: int) -> str:
    parts = [f"{index % 1000:03}"]
    while index := index // 1000:
        parts.append(f"x{index % 1000:03}")
    return "/".join(reversed(parts))


def _suffix(width: int) -> str:
    return "" if width == 256 else f".p/{width}"
