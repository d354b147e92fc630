"""All that reads what the fold writes, run over it: whatever a row says, each of them must be able to take it."""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec
import orjson
from jsonschema import Draft202012Validator

from streams.fold.table import Write
from streams.serve.http.encoding import Selection, print_in_batch, print_row
from streams.serve.http.feed import Feed
from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.names import TYPE_URLS
from streams.serve.xds.protocol.propagation import epoch_seconds
from streams.subscription.cursor import Cursor
from streams.subscription.delivery import Batch, Subscription
from streams.subscription.rows import Filter
from streams.wire.keys import COMPANION_PREFIX, PART_PREFIX, SEAL_PREFIX
from streams.wire.records import TABLES, decode_row
from streams.worker.checkpoint import Image, capture, decode, encode
from tests.properties.folding import logs_of, restarted

_SCHEMAS = Path(__file__).parents[2] / "schemas"
_CLIENTS = tuple(Client(Place("z1", "n1"), traffic, grpc) for traffic in ("mesh", "gateway") for grpc in (False, True))


def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(orjson.loads((_SCHEMAS / f"{name}.json").read_bytes()))


_VALIDATORS = {
    name: _validator(name)
    for name in (*TABLES, "backend-head", "backend-part", "backend-chunk", "seal", "event", "deadletter")
}


def read_by_all(writes: Sequence[Write]) -> None:
    """Raises whatever a reader raises."""
    for write in writes:
        _decoded(write)
    items = list(_subscribed(writes))
    _from_a_snapshot(writes)
    _restored(writes)
    _served_by_xds(items)
    _served_by_http(items)


@lru_cache(20_000)  # Most of what a journal makes, the next one makes, too.
def _decoded(write: Write) -> None:
    """By any JSON parser, as the schema says, under the key that it names, and in a terminal's line."""
    write.key.decode()
    if write.value is None:
        return
    read = json.loads(write.value)
    assert orjson.loads(write.value) == read
    if write.key.startswith(SEAL_PREFIX):
        name = "seal"
    elif write.key.startswith(COMPANION_PREFIX):
        name = "event"
    elif write.key.startswith(PART_PREFIX):
        name = "backend-part" if "chunks" in read else "backend-chunk"
    elif write.table == "backend" and "parts" in read:
        name = "backend-head"
    else:
        name = write.table
    _VALIDATORS[name].validate(read)
    if name in TABLES:
        assert write.key.decode() == "/".join(read[part] for part in ("cluster", "namespace", "name"))
        assert write.key.decode().isprintable()
        decode_row(write.table, write.value)


def _records(writes: Iterable[Write]) -> Iterable[Write]:
    return (write for write in writes if write.table in TABLES)


def _subscribed(writes: Sequence[Write]) -> Iterable[Batch]:
    """By a subscriber that was there from the beginning."""
    subscription = Subscription(TABLES, 1, Filter(), Cursor("", {}, {}))
    positions = dict.fromkeys(TABLES, 0)
    for write in _records(writes):
        position = positions[write.table]
        positions[write.table] += 1
        for batch in subscription.feed(write.table, 0, position, write.key, write.value, write.version):
            for row in batch.rows:
                row.decode()
            yield batch
    assert Cursor.decode(subscription.cursor.encode()) == subscription.cursor


def _from_a_snapshot(writes: Sequence[Write]) -> None:
    """By one that comes afterwards."""
    subscription = Subscription(TABLES, 1, Filter())
    positions = dict.fromkeys(TABLES, 0)
    for write in _records(writes):
        position = positions[write.table]
        positions[write.table] += 1
        subscription.gather(write.table, 0, [(position, write.key, write.value, write.version)])
    assert subscription.complete()
    for row in subscription.ready():
        row.decode()


def _restored(writes: Sequence[Write]) -> None:
    """By a worker that comes back, from the topics and from a checkpoint: they are the same, and it goes on."""
    image = Image(TABLES)
    ends = dict.fromkeys(TABLES, 0)
    for write in _records(writes):
        image.take(write.table, ends[write.table], 0, write.key, write.value, write.version)
        ends[write.table] += 1
    again = decode(encode(capture(image), 0, 1), 0, 1, TABLES)
    assert (again.rows, again.seals) == (image.rows, image.seals)
    fold, _, _ = restarted(logs_of(writes))
    for cluster in fold.clusters.values():
        for key in cluster.keys:
            for table in fold.tables:
                table.entry(key)


def _served_by_xds(items: Sequence[Batch]) -> None:
    catalog = Catalog(1)
    for batch in items:
        for key, change in catalog.apply(batch.rows, batch.seal, 0).items():
            epoch_seconds(change.trigger)
            epoch_seconds(change.at)
            for name in catalog.names_of(key):
                for kind in TYPE_URLS:
                    for client in _CLIENTS:
                        catalog.resource(kind, name, client)


def _served_by_http(items: Sequence[Batch]) -> None:
    """As server-sent events: what came live, a snapshot after it, and the heartbeat."""
    feed, everything = Feed(1), Selection(frozenset(TABLES))
    feed.replace("start", (), {}, Cursor("", {}, {}))
    reader = feed.reader(everything, feed.next)
    for batch in items:
        for row in batch.rows:
            whole = {"table": row.table, **row.decode()}
            assert print_row(row) == msgspec.json.encode(whole)
            changes = {name: value for name, value in whole.items() if name != "endpoints"}
            assert print_in_batch(print_row(row), "changes") == msgspec.json.encode(changes)
        feed.apply(0, batch.seal, batch.rows, Cursor(batch.seal.at, {0: batch.seal.offset}, {}))
        feed.beat()
        _check_events(feed.read(reader, 1))
    _check_events(*feed.snapshot().events("start", everything, 1))


def _check_events(*texts: bytes) -> None:
    for text in texts:
        for event in filter(None, text.split(b"\n\n")):
            fields = [line.partition(b": ") for line in event.split(b"\n")]
            assert {name for name, _, _ in fields} <= {b"event", b"id", b"data"}, text
            (data,) = (value for name, _, value in fields if name == b"data")
            orjson.loads(data)
