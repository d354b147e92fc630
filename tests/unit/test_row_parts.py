"""Rows of large Services in parts: what a change writes, when a row is in parts, and what becomes of one whose parts
are not all there."""

from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from streams.facets.row_parts import find_newest, is_head, join_row
from streams.facets.tables import WHOLE_ROW_TABLES
from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.subscription.cursor import Cursor
from streams.subscription.delivery import Batch, ChangelogGap, Subscription
from streams.subscription.facet_records import Compacted
from streams.subscription.rows import EVERYTHING, Row
from streams.wire.keys import PART_PREFIX, SEAL_PREFIX
from streams.wire.records import FOLD_VERSION
from streams.worker import changelog
from tests.support.journal_values import commit, service, written
from tests.support.parts import PlainParts

KEY = b"east/shop/cart"
Event = dict[str, Any]
Log = list[Write]


def slice_event(index: int, version: int, count: int = 100, unready: int = -1) -> Event:
    """A slice of so many endpoints, one of which may be unready."""
    endpoints = [
        {
            "address": f"10.{index}.{i // 256}.{i % 256}", "ready": i != unready, "serving": True, "terminating": False,
            "zone": f"zone-{i % 3}", "node": f"node-{i % 97}", "hints": None,
            "target": {"kind": "Pod", "namespace": "shop", "name": f"cart-5d9c7b6f4-{i}", "uid": f"9c1f-{index}-{i}"},
        }
        for i in range(count)
    ]  # fmt: skip
    endpoints.sort(key=orjson.dumps)
    port = {"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": None}
    return {
        "op": "apply", "kind": "EndpointSlice", "namespace": "shop", "name": f"cart-{index}", "service": "cart",
        "uid": f"u-{index}", "resourceVersion": str(version),
        "object": {"groups": [{"family": "IPv4", "ports": [port], "endpoints": endpoints}]},
    }  # fmt: skip


def deleted(event: Event, version: int) -> Event:
    return {**event, "op": "delete", "resourceVersion": str(version), "object": None}


def live(seq: int, *events: Event) -> bytes:
    whole = orjson.loads(commit("live", seq))
    whole["events"] = [{name: value for name, value in event.items() if value is not None} for event in events]
    return orjson.dumps(whole)


def opening(*events: Event) -> list[bytes]:
    """The journal's first snapshot: a Service with these slices."""
    listed = orjson.loads(commit("snapshot", 2, "cart"))
    listed["events"] += events
    return [commit("begin", 1), orjson.dumps(listed), commit("end", 3)]


def log_of(writes: Iterable[Write]) -> Log:
    return [write for write in writes if write.table == "backend"]


def made(fold: PartitionFold, value: bytes) -> Log:
    """The backend's records of one more commit, without its seal."""
    writes = log_of(fold.step(fold.next_offset or 0, value))
    assert writes[-1].key.startswith(SEAL_PREFIX)
    return writes[:-1]


def kinds(writes: Iterable[Write]) -> list[tuple[int, bool]]:
    """For each record how deep its key is, and whether it is a tombstone."""
    return [(write.key.count(b"/"), write.value is None) for write in writes]


ROW, PART, CHUNK = 2, 4, 5


@pytest.mark.parametrize(
    ("slices", "count", "most"), [(1, 100, 4_000), (50, 100, 6_000), (1, 1000, 5_000), (100, 100, 8_000)]
)
def test_a_change_of_one_endpoint_writes_its_chunk_its_slices_part_and_the_row(
    slices: int, count: int, most: int
) -> None:
    fold, whole = PartitionFold(0), PartitionFold(0, WHOLE_ROW_TABLES)
    values = opening(*(slice_event(index, 5, count) for index in range(slices)))
    log, wanted = log_of(written(fold, values)), log_of(written(whole, values))
    changed = live(4, slice_event(0, 6, count, unready=42))
    writes, (row,) = made(fold, changed), made(whole, changed)
    assert kinds(writes) == [(CHUNK, False), (PART, False), (ROW, False)]
    # Before compression.
    assert sum(len(write.value or b"") for write in writes) < most < len(row.value or b"") / 5
    assert orjson.loads(writes[-1].value or b"")["change"] == orjson.loads(row.value or b"")["change"]
    assert snapshot_of(log)[0].value == wanted[-2].value
    assert snapshot_of([*log, *writes])[0].value == row.value
    # As a worker's look-ups have it.
    newest = {write.key: write.value for write in [*log, *writes] if write.value is not None}
    assert join_row("backend", newest[KEY], find_newest(newest, KEY.decode())).row == row.value


def test_a_small_services_row_is_the_one_record_that_it_was() -> None:
    values = [*opening(slice_event(0, 5, 20), slice_event(1, 5, 20)), live(4, slice_event(0, 6, 20, unready=7))]
    assert written(PartitionFold(0), values) == written(PartitionFold(0, WHOLE_ROW_TABLES), values)


def test_a_row_goes_into_parts_and_out_of_them_and_leaves_none() -> None:
    fold, plain = PartitionFold(0), PlainParts()
    log = log_of(written(fold, opening(slice_event(0, 5, 40))))
    assert [write.key for write in log if write.key.startswith(PART_PREFIX)] == []
    steps = {
        4: (slice_event(1, 6, 40), True),
        5: (deleted(slice_event(1, 6), 7), True),  # Not at once: it may come again.
        6: (slice_event(0, 8, 20), False),
        7: (slice_event(0, 9, 200), True),
        8: (deleted(service("cart", 9), 10), True),  # Its slice is kept, and may count again.
        9: (deleted(slice_event(0, 9), 11), False),
    }
    for seq, (event, is_in_parts) in steps.items():
        writes = made(fold, live(seq, event))
        log += writes
        for write in writes:
            plain.take(write.key.decode(), write.value, write.version)
        row = writes[-1].value or b""
        assert (seq, is_head("backend", row)) == (seq, is_in_parts)
        assert plain.left_over(KEY.decode()) == set()
    assert (
        {write.key for write in log if write.value is not None}
        > {write.key for write in log if write.value is None}
        == {write.key for write in log if write.key.startswith(PART_PREFIX)}
    )


# ---- what is not all there -----------------------------------------------------------------------------


def of_tables(log: Log, others: Iterable[Write] = ()) -> dict[str, list[tuple[int, bytes, bytes | None, int]]]:
    records: dict[str, list[tuple[int, bytes, bytes | None, int]]] = {}
    for write in (*log, *others):
        of_table = records.setdefault(write.table, [])
        of_table.append((len(of_table), write.key, write.value, write.version))
    return records


def snapshot_of(log: Log) -> tuple[Row, ...]:
    """The backend's rows, as somebody reads them who comes now."""
    subscription = Subscription(("backend",), 1, EVERYTHING)
    last = max(write.version for write in log)
    seal = next((write for write in log if write.key.startswith(SEAL_PREFIX)), None)
    sealed = orjson.dumps({**orjson.loads(seal.value or b""), "offset": last}) if seal else b""
    records = [*of_tables(log).get("backend", []), (len(log), b"~seal/east", sealed, last)]
    subscription.gather("backend", 0, records)
    assert not subscription.doubtful()
    assert subscription.complete()
    return subscription.ready()


def without(log: Log, lost: bytes) -> Log:
    """As compaction, or a hand, would leave it: no record of this key."""
    return [write for write in log if write.key != lost]


TWO_SLICES = opening(slice_event(0, 5, 60), slice_event(1, 5, 60))


@pytest.mark.parametrize("lost", [b"~part/east/shop/cart/cart-1", b"~part/east/shop/cart/cart-1/2"])
def test_a_row_without_one_of_its_parts_is_unknown_until_the_slice_comes_whole(lost: bytes) -> None:
    log = log_of(written(PartitionFold(0), TWO_SLICES))
    torn = without(log, lost)
    assert len(torn) == len(log) - 1
    (row,) = snapshot_of(torn)
    shown = row.decode()
    assert shown["state"] == "unknown"
    assert "EndpointSlice cart-1" in shown["reason"]
    assert [(each["name"], each["outdated"]) for each in shown["rejected"]] == [("cart-1", True)]
    assert {each["slice"] for each in shown["endpoints"]} == {"cart-0"}
    assert row.facet.state == "unknown"
    # The next worker says so in the table, and whoever folds the journal makes the same.
    fold, again = PartitionFold(0), PartitionFold(0)
    for worker in (fold, again):
        for write in (*torn, *(each for each in written(PartitionFold(0), TWO_SLICES) if each.table != "backend")):
            if write.table != "deadletter":
                worker.load(write.table, write.key, write.value, write.version)
        worker.recover()
    values = [commit("live", 4), live(5, slice_event(0, 6, 60, unready=3)), live(6, slice_event(1, 7, 60))]
    states = []
    for value in values:
        writes = made(fold, value)
        assert writes == made(again, value)
        torn += writes
        (row,) = snapshot_of(torn)
        states.append((row.decode()["state"], row.decode()["previous"], len(row.decode()["endpoints"])))
    assert states == [("unknown", 2, 60), ("unknown", 3, 60), ("ready", 4, 120)]


def test_parts_without_a_row_are_no_row_and_do_no_harm() -> None:
    fold = PartitionFold(0)
    values = opening(slice_event(0, 5, 60), slice_event(1, 5, 60))
    log = log_of(written(fold, values))
    assert snapshot_of(without(log, KEY)) == ()
    later = PartitionFold(0)
    for write in written(PartitionFold(0), values):
        if write.key != KEY or write.table != "backend":
            later.load(write.table, write.key, write.value, write.version)
    resume, _ = later.recover()
    assert resume == 3
    assert KEY.decode() not in {table.name: table for table in later.tables}["backend"]


def test_a_subscriber_that_misses_a_part_has_a_gap() -> None:
    fold = PartitionFold(0)
    log = log_of(written(fold, TWO_SLICES))
    rest = log_of(fold.step(3, live(4, slice_event(0, 6, 60, unready=3))))
    subscription = Subscription(("backend",), 1, EVERYTHING)
    subscription.gather("backend", 0, of_tables(log)["backend"])
    assert subscription.complete()
    subscription.ready()
    with pytest.raises(ChangelogGap, match="names parts that are not there: cart-0"):
        fed(subscription, rest[1:], len(log) + 1)


def fed(subscription: Subscription, log: Log, start: int) -> list[Batch]:
    return [
        batch
        for position, write in enumerate(log, start)
        for batch in subscription.feed("backend", 0, position, write.key, write.value, write.version)
    ]


def test_a_cursors_subscriber_has_the_parts_of_before_it_read() -> None:
    fold = PartitionFold(0)
    log = log_of(written(fold, TWO_SLICES))
    # As every cursor is: also one of before there were parts.
    cursor = Cursor("", {0: 2}, {("backend", 0): len(log)})
    rest = log_of(fold.step(3, live(4, slice_event(0, 6, 60, unready=3))))
    alone = Subscription(("backend",), 1, EVERYTHING, cursor)
    assert [alone.lacks_parts("backend", 0, write.key, write.value) for write in rest] == [False, False, True, False]
    with pytest.raises(Compacted):
        fed(alone, rest, len(log))
    resumed = Subscription(("backend",), 1, EVERYTHING, cursor)
    fed(resumed, rest[:2], len(log))
    resumed.load_parts("backend", 0, of_tables([*log, *rest[:2]])["backend"])
    (batch,) = fed(resumed, rest[2:], len(log) + 2)
    assert len(batch.rows[0].decode()["endpoints"]) == 120
    assert not resumed.lacks_parts("backend", 0, rest[2].key, rest[2].value)


def test_a_snapshot_waits_where_compaction_took_parts_from_below_the_cut() -> None:
    """A worker ended between two tables, and stayed away for longer than the window."""
    fold = PartitionFold(0)
    writes = written(fold, [*TWO_SLICES, live(4, slice_event(0, 6, 60, unready=3))])
    backend, frontend = log_of(writes), [write for write in writes if write.table == "frontend"]
    newest = {write.key: write for write in backend if write.version < 3}
    for write in backend:
        if write.version == 3 and write.key.startswith(PART_PREFIX):
            newest[write.key] = write
    kept = [*newest.values(), *(write for write in backend if write.version == 3 and write.key == KEY)]
    subscription = Subscription(("frontend", "backend"), 1, EVERYTHING)
    subscription.gather("frontend", 0, of_tables([], frontend)["frontend"])
    subscription.gather("backend", 0, of_tables(kept)["backend"])
    assert not subscription.complete()
    subscription.gather("backend", 0, [(99, write.key, write.value, 3) for write in backend if write.version == 3][-1:])
    assert subscription.complete()
    (row,) = (row for row in subscription.ready() if row.table == "backend")
    assert (row.version, row.decode()["state"], len(row.decode()["endpoints"])) == (3, "ready", 120)


def test_a_whole_row_of_an_earlier_version_is_read_on_and_written_in_parts() -> None:
    before = written(PartitionFold(0, WHOLE_ROW_TABLES), TWO_SLICES)
    fold = PartitionFold(0)
    for write in before:
        value = write.value and write.value.replace(b'"fold":%d' % FOLD_VERSION, b'"fold":5')
        fold.load(write.table, write.key, value, write.version)
    fold.recover()
    log = log_of(before)
    renewed = made(fold, commit("live", 4))
    assert is_head("backend", renewed[-1].value or b"")
    # One who was there before the upgrade, and one who comes after it.
    subscription = Subscription(("backend",), 1, EVERYTHING)
    subscription.gather("backend", 0, of_tables(log)["backend"])
    assert subscription.complete()
    (old,) = subscription.ready()
    seal = Write("backend", b"~seal/east", (log[-1].value or b"").replace(b'"offset":2', b'"offset":3'), 3)
    (batch,) = fed(subscription, [*renewed, seal], len(log))
    (new,) = snapshot_of([*log, *renewed])
    assert new == batch.rows[0]
    assert new.decode()["endpoints"] == old.decode()["endpoints"]
    assert (new.decode()["previous"], new.decode()["cause"]) == (2, [])


# ---- one batch -----------------------------------------------------------------------------------------


def lane(*writes: Write) -> Any:
    made = changelog._Lane(None, "facets.backend", 0, None)  # type: ignore[arg-type]
    for write in writes:
        made.put(write)
    return made


def test_a_row_and_its_parts_are_in_one_batch() -> None:
    def unit(size: int, version: int) -> list[Write]:
        parts = [Write("backend", b"~part/east/shop/cart/a/%d" % i, b"x" * size, version) for i in range(3)]
        return [*parts, Write("backend", KEY, b"{}", version)]

    small, large, seal = unit(10, 1), unit(900_000, 2), Write("backend", b"~seal/east", b"{}", 3)
    waiting = lane(*small, *small, *large, seal, *small)
    assert waiting._take_batch() == [*small, *small]
    assert waiting._take_batch() == large
    assert waiting._take_batch() == [seal, *small]
    assert waiting._take_batch() == []
