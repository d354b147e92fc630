"""The versions of one key in compressed segments.

A segment is one zstd frame (RFC 8878) of consecutive versions: a header, then their values one after the other. Rows of
one key differ in little, so that within a frame each is some matches into the one before. A *block* stands alone. A
*tail* segment, which is written before a block is full, has the last value of the segment before it as its dictionary:
the first one of a tail stands alone, and a tail is replaced by a block when it is long enough.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
from zstandard import DICT_TYPE_RAWCONTENT, ZstdCompressionDict, ZstdCompressor, ZstdDecompressor, ZstdError

_BLOCK_LEVEL = 6
_TAIL_LEVEL = 3
"""A tail is written again as a block; a block stays. (Measured: 10 and 3 us a row, a tenth of the bytes between.)"""

_LENGTH_BYTES = 4
_NO_VALUE = -1

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(tuple[list[int], list[int]]).decode


class Version(NamedTuple):
    """A record of a key: the journal offset that it follows from, and its value (None: a tombstone)."""

    version: int
    value: bytes | None


class SegmentDamaged(ValueError):
    """Bytes that are no segment, or not all of one."""


def pack_block(versions: Sequence[Version]) -> bytes:
    """A segment of these versions (one at least) that stands alone."""
    return ZstdCompressor(_BLOCK_LEVEL, write_checksum=True).compress(_content(versions))


def pack_tail(versions: Sequence[Version], before: bytes) -> bytes:
    """A segment of these versions (one at least), with the value `before` them, if there is one, as its dictionary."""
    dictionary = ZstdCompressionDict(before, dict_type=DICT_TYPE_RAWCONTENT) if before else None
    compressor = ZstdCompressor(_TAIL_LEVEL, dict_data=dictionary, write_checksum=True, write_dict_id=False)
    return compressor.compress(_content(versions))


def _content(versions: Sequence[Version]) -> bytes:
    numbers = [versions[0].version]
    numbers += [later.version - earlier.version for earlier, later in pairwise(versions)]
    lengths = [_NO_VALUE if each.value is None else len(each.value) for each in versions]
    header = _encode((numbers, lengths))
    values = [each.value for each in versions if each.value]
    return b"".join([len(header).to_bytes(_LENGTH_BYTES, "little"), header, *values])


def unpack(data: bytes, before: bytes = b"") -> list[Version]:
    """The versions in a segment. Raises SegmentDamaged."""
    dictionary = ZstdCompressionDict(before, dict_type=DICT_TYPE_RAWCONTENT) if before else None
    try:
        content = ZstdDecompressor(dict_data=dictionary).decompress(data)
        at = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
        numbers, lengths = _decode(content[_LENGTH_BYTES:at])
    except (ZstdError, msgspec.MsgspecError) as error:
        raise SegmentDamaged(str(error)) from error
    versions, version = [], 0
    for difference, length in zip(numbers, lengths, strict=True):
        version += difference
        if length == _NO_VALUE:
            versions.append(Version(version, None))
        else:
            versions.append(Version(version, content[at : at + length]))
            at += length
    return versions


def unpack_tail(segments: Sequence[bytes]) -> list[Version]:
    """The versions in a tail's segments, from its first on. Raises SegmentDamaged."""
    versions: list[Version] = []
    for data in segments:
        versions += unpack(data, versions[-1].value or b"" if versions else b"")
    return versions
