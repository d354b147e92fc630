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

_LEVEL = 3
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


def pack(versions: Sequence[Version], before: bytes = b"") -> bytes:
    """A segment of these versions (one at least), with the value `before` them as its dictionary."""
    numbers = [versions[0].version]
    numbers += [later.version - earlier.version for earlier, later in pairwise(versions)]
    lengths = [_NO_VALUE if each.value is None else len(each.value) for each in versions]
    header = _encode((numbers, lengths))
    values = [each.value for each in versions if each.value]
    content = b"".join([len(header).to_bytes(_LENGTH_BYTES, "little"), header, *values])
    if not before:
        return ZstdCompressor(_LEVEL, write_checksum=True).compress(content)
    dictionary = ZstdCompressionDict(before, dict_type=DICT_TYPE_RAWCONTENT)
    return ZstdCompressor(_LEVEL, dict_data=dictionary, write_checksum=True, write_dict_id=False).compress(content)


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
