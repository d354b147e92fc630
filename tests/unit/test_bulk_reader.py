"""Unpacking what a fetch answers: every codec, cut-off and damaged answers, an offset inside a batch."""

from typing import NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.facets.changelog_records import BAD_VERSION, NO_VERSION
from streams.kafka.bulk_reader import VERSION_HEADER, split, unpack

PARTITION = TopicPartition("facets.backend", 3)
NO_COMPRESSION, GZIP, LZ4, ZSTD = 0, 1, 3, 4


class Said(NamedTuple):
    key: bytes | None
    value: bytes | None
    version: int | None


def batch(first: int, said: list[Said], codec: int) -> bytes:
    """As a producer makes it and a broker numbers it."""
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1 << 30,
    )  # fmt: skip
    for i, (key, value, version) in enumerate(said):
        stamp = [] if version is None else [("other", b"x"), (VERSION_HEADER, b"%d" % version)]
        assert builder.append(i, 1000 + first + i, key, value, stamp) is not None
    return first.to_bytes(8, "big") + bytes(builder.build())[8:]


records = st.builds(
    Said, st.none() | st.binary(max_size=9), st.none() | st.binary(max_size=300), st.none() | st.integers(0, 10**18 - 1)
)
batches = st.lists(
    st.tuples(st.lists(records, min_size=1, max_size=6), st.sampled_from([NO_COMPRESSION, GZIP, LZ4, ZSTD])),
    min_size=1, max_size=5,
)  # fmt: skip


@given(batches, st.data())
@settings(max_examples=200, deadline=None)
def test_what_was_written_is_read_from_any_offset_on(
    written: list[tuple[list[Said], int]], data: st.DataObject
) -> None:
    fetched, offset, expected = b"", 7, []
    for said, codec in written:
        fetched += batch(offset, said, codec)
        for key, value, version in said:
            expected.append((offset, key or b"", value, -1 if version is None else version))
            offset += 1
        # As where compaction has taken whole batches.
        offset += data.draw(st.integers(0, 3))
    start = data.draw(st.integers(7, expected[-1][0]))
    cut_off = batch(offset, [Said(b"k", b"v" * 50, 1)], ZSTD)[: data.draw(st.integers(0, 80))]
    chunk = unpack(PARTITION, start, split(PARTITION, fetched + cut_off))
    assert list(chunk) == [each for each in expected if each[0] >= start]
    assert chunk.timestamps == [1000 + each for each in chunk.offsets]
    assert len(chunk) == len(chunk.offsets)
    assert chunk.next == expected[-1][0] + 1


@pytest.mark.parametrize("codec", [NO_COMPRESSION, ZSTD])
def test_a_damaged_batch_is_refused(codec: int) -> None:
    whole = batch(0, [Said(b"key", b"value" * 20, 1)], codec)
    for at in range(21, len(whole)):
        damaged = whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
        with pytest.raises(CorruptRecordException):
            unpack(PARTITION, 0, split(PARTITION, damaged))


def test_what_is_no_batch_is_refused() -> None:
    with pytest.raises(CorruptRecordException, match="no record batch of version 2 at offset 0"):
        split(PARTITION, bytes(100))


@pytest.mark.parametrize("stamp", [b"none", b"", b"-1", b"1_0", b" 7", "\u0663".encode(), b"9" * 19, None])
def test_a_stamp_that_is_no_version_is_marked(stamp: bytes | None) -> None:
    data = batch(5, [Said(b"a/b/c", b"{}", 12345), Said(b"a/b/c", b"{}", None)], NO_COMPRESSION)
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    builder.append(0, 0, b"a/b/c", b"{}", [(VERSION_HEADER, stamp)])
    chunk = unpack(PARTITION, 0, split(PARTITION, data + (7).to_bytes(8, "big") + bytes(builder.build())[8:]))
    assert chunk.versions == [12345, NO_VERSION, BAD_VERSION]
