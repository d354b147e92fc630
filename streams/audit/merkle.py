"""The Merkle tree of RFC 6962, section 2.1, over the hashes that tiles hold (C2SP tlog-tiles): a tile of level l has up
to 256 hashes of perfect subtrees with 256**l leaves each."""

from collections.abc import Callable, Sequence
from hashlib import sha256

TILE_WIDTH = 256

EMPTY_ROOT = sha256(b"").digest()

HashReader = Callable[[int, int, int], Sequence[bytes]]
"""Reads hashes of a level: (level, index of the first, how many). They never cross the end of a tile."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of an entry as a leaf."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """The root over a power of two of neighbouring hashes."""
    while len(hashes) > 1:
        hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


def tree_hash(read: HashReader, begin: int, end: int) -> bytes:
    """MTH(D[begin:end]), where `begin` is a multiple of the power of two at or above the range's length."""
    count = end - begin
    if not count:
        return EMPTY_ROOT
    half = _half(count)
    if half * 2 == count or count == 1:
        height = count.bit_length() - 1
        level, inside = divmod(height, 8)
        return perfect_root(read(level, begin >> 8 * level, 1 << inside))
    return node_hash(tree_hash(read, begin, begin + half), tree_hash(read, begin + half, end))


def inclusion_proof(read: HashReader, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]): from the leaf's sibling up to the root's child."""
    proof: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _half(end - begin)
        if index < middle:
            proof.append(tree_hash(read, middle, end))
            end = middle
        else:
            proof.append(tree_hash(read, begin, middle))
            begin = middle
    return proof[::-1]


def root_from_proof(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that a proof leads to from a leaf's hash. Raises ValueError where it has not the length that it must
    have."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    sides: list[bool] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _half(end - begin)
        is_left = index < middle
        sides.append(is_left)
        begin, end = (begin, middle) if is_left else (middle, end)
    if len(proof) != len(sides):
        raise ValueError(f"a proof of leaf {index} in a tree of {size} has {len(sides)} hashes, not {len(proof)}")
    root = leaf
    for sibling, is_left in zip(proof, reversed(sides), strict=True):
        root = node_hash(root, sibling) if is_left else node_hash(sibling, root)
    return root


def _half(count: int) -> int:
    """The largest power of two below `count`, which is 2 or more; 0 for 1."""
    return 1 << (count - 1).bit_length() - 1 if count > 1 else 0
