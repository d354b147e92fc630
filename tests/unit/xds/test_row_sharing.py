"""What `facets serve` does once for all clients: a row is parsed once, a cursor is text when a client gets it."""

from collections import Counter
from typing import Any

import msgspec
import pytest

from streams.facets import changelog_records, parsed_rows
from streams.serve.http.encoding import Selection, print_row
from streams.serve.http.feed import Feed
from streams.serve.xds.build.client import Client
from streams.subscription import delivery, rows
from streams.subscription.cursor import Cursor
from streams.subscription.delivery import Batch
from streams.subscription.rows import Row
from streams.wire.records import TABLES
from tests.unit.xds.world import CART, World, endpoint, service, slice_of

ALL = Selection(frozenset(TABLES))


class Counted:
    """How often a whole row is parsed, by table and version."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads: Counter[tuple[str, bytes]] = Counter()
        real = parsed_rows.read_row

        def read_row(table: str, value: bytes) -> Any:
            self.reads[table, value] += 1
            return real(table, value)

        def forbidden(*_: object) -> None:
            raise AssertionError("decoded beside")

        # All that reads rows reads them by this.
        monkeypatch.setattr(changelog_records, "read_row", read_row)
        monkeypatch.setattr(rows, "read_row", read_row)
        monkeypatch.setattr(rows, "decode_row", forbidden)
        monkeypatch.setattr(delivery, "stamp_of", forbidden)


def feed_of(batch: Batch) -> Feed:
    feed = Feed(1)
    feed.replace("start", (), {}, Cursor("", {}, {}))
    feed.apply(0, batch.seal, batch.rows, Cursor(batch.seal.at, {0: batch.seal.offset}, {}))
    return feed


def test_a_row_is_parsed_once_for_xds_events_and_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    counted = Counted(monkeypatch)
    # Parsed to be checked, delivered, applied to the catalog ...
    world.put(service(), slice_of(*(endpoint(f"10.1.0.{i}") for i in range(15))))
    batch = world.batches[-1]
    assert {row.table for row in batch.rows} == set(TABLES)
    assert len(world.get("eds", CART).endpoints[0].lb_endpoints) == 15
    assert world.version("cds", CART)
    # ... sent as an event, looked up, and looked up again.
    feed = Feed(1)
    feed.replace("start", (), {}, Cursor("", {}, {}))
    reader = feed.reader(ALL, feed.next)
    feed.apply(0, batch.seal, batch.rows, Cursor(batch.seal.at, {0: batch.seal.offset}, {}))
    assert b"10.1.0.14" in feed.read(reader, 1)
    for table in TABLES:
        assert feed.row(table, "shop", "cart") == feed.row(table, "shop", "cart")
    assert set(counted.reads.values()) == {1}
    assert {table for table, _ in counted.reads} == set(TABLES)


def test_a_judgement_of_silence_parses_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    counted = Counted(monkeypatch)
    world.put(service(), slice_of(endpoint("10.1.0.1")))
    for row in world.batches[-1].rows:
        silent = row.with_silence("WatcherSilent: x")
        assert silent.facet is row.facet
        assert b'"state":"stale","reason":"WatcherSilent: x"' in print_row(silent)
    assert set(counted.reads.values()) == {1}


def test_rows_of_a_snapshot_share_what_the_catalog_holds() -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.1")))
    rows = [row for row in world.batches[-1].rows if row.table == "backend"]
    world.catalog.replace(world.batches[-1].rows, world.catalog.seals)
    (facets,) = world.catalog.index.services["shop", "cart"].values()
    assert facets.backend is rows[0].facet


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value,
        lambda value: value.replace(b',"groups":', b', "groups": ', 1),
        lambda value: value.replace(b'{"cluster"', b'{\n"cluster"', 1),
        lambda value: value[:-1] + b',"newer":{"groups":[]}}',
        lambda value: value.replace(b'"reason":""', b'"reason":"\\"groups\\":[]"', 1),
        lambda value: value.replace(b'"10.1.0.1"', b'"a\\"b"'),
    ],
    ids=["as-written", "spaced", "broken-line", "unknown-field", "groups-in-a-string", "escaped-address"],
)
def test_a_row_is_printed_as_when_it_is_decoded_whole(change: Any) -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.1"), endpoint("10.1.0.2", ready=False)))
    world.put(slice_of(endpoint("10.1.0.1", ready=False), endpoint("10.1.0.3")))
    for batch in world.batches:
        for row in batch.rows:
            changed = Row(*row[:5], change(row.value))
            text = print_row(changed)
            assert msgspec.json.decode(text) == {"table": row.table, **changed.decode()}
            assert b"\n" not in text
            assert next(iter(msgspec.json.decode(text))) == "table"


def test_no_cursor_is_text_before_a_client_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.1")))
    encoded: list[Cursor] = []
    real = Cursor.encode
    monkeypatch.setattr(Cursor, "encode", lambda self: (encoded.append(self), real(self))[1])
    feed = feed_of(world.batches[-1])
    feed.beat()
    assert world.catalog.resource("eds", CART, Client())
    assert encoded == []
    readers = [feed.reader(ALL, 0) for _ in range(3)]
    texts = [feed.read(reader, 1 << 20) for reader in readers]
    assert texts[0].count(b"\nid: ") == 2
    # Each event's once, for all who get it.
    assert len(encoded) == 2
