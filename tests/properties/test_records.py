"""The decoders of what is read back, from disk and from the facet topics: known errors, and themselves again."""

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.facets.tables import FACET_TABLES
from streams.subscription.cursor import Cursor
from streams.subscription.delivery import Subscription
from streams.subscription.rows import Filter
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import decode_row
from streams.worker.checkpoint import Image, UnusableCheckpoint, capture, decode, encode
from tests.properties.folding import TABLES, fold, is_row
from tests.properties.journals import Journal, journals
from tests.properties.strategies import json_values


def image_of(journal: Journal) -> Image:
    image = Image(TABLES)
    for offset, write in enumerate(fold(journal.values)):
        if write.table in TABLES:
            image.take(write.table, offset, offset, write.key, write.value, write.version)
    return image


keys = (
    st.binary() | st.sampled_from((b"east/shop/cart", b"a/b", b"~", SEAL_PREFIX)) | st.binary().map(SEAL_PREFIX.__add__)
)
values = st.none() | st.binary() | json_values().map(orjson.dumps)


@given(st.lists(st.tuples(keys, values, st.integers(-2, 4)), max_size=4), st.booleans())
def test_what_is_no_facet_record_is_skipped(records: list[tuple[bytes, bytes | None, int]], live: bool) -> None:
    subscription = Subscription(("backend",), 1, Filter(), Cursor("", {}, {}) if live else None)
    for position, (key, value, version) in enumerate(records):
        assert list(subscription.feed("backend", 0, position, key, value, version)) == []
    if not live:
        assert subscription.complete()
        assert subscription.ready() == ()


@given(values.filter(lambda value: value is not None))
def test_what_is_no_row_is_a_known_error(value: bytes) -> None:
    for table in FACET_TABLES:
        with pytest.raises((ValueError, msgspec.MsgspecError)):
            table.read(value)


@given(journals())
def test_rows_are_read_back_as_they_were_written(journal: Journal) -> None:
    for write in fold(journal.values):
        if write.table not in TABLES or not is_row(write) or write.value is None:
            continue
        row = orjson.loads(write.value)
        assert decode_row(write.table, write.value)["version"] == row["version"] == write.version
        table = next(table for table in FACET_TABLES if table.name == write.table)
        held = table.read(write.value)
        assert held.version == write.version
        companion = table.companion_in_row(held, write.value)
        if companion is not None:
            assert any(group["slice"].startswith("Endpoints/") for group in row["groups"])


@given(journals())
def test_a_checkpoint_is_itself_again(journal: Journal) -> None:
    image = image_of(journal)
    again = decode(encode(capture(image), 3, 8), 3, 8, TABLES)
    assert (again.rows, again.seals, again.ends) == (image.rows, image.seals, image.ends)


@given(journals(), st.data())
def test_a_damaged_checkpoint_is_called_so(journal: Journal, data: st.DataObject) -> None:
    whole = encode(capture(image_of(journal)), 3, 8)
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    for broken in (flipped, whole[:at], whole + b"\0", data.draw(st.binary(max_size=200))):
        with pytest.raises(UnusableCheckpoint):
            decode(broken, 3, 8, TABLES)
