"""The ring that all HTTP clients read: what each of them gets, in what order, and from which cursors it goes on."""

import json
import random
from typing import Any

import pytest

from streams.serve.http.encoding import Selection, frontiers
from streams.serve.http.feed import Feed, Lost, Reader
from streams.subscription.cursor import Cursor
from streams.subscription.rows import Filter
from tests.support.feed_log import Log, names, row

ALL = Selection(frozenset({"frontend", "backend"}))


def parse(text: bytes) -> list[tuple[str, str, dict[str, Any]]]:
    """Kind, id and data of events, as an EventSource reads them."""
    found = []
    for block in text.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields["event"], fields.get("id", ""), json.loads(fields["data"])))
    return found


def read(feed: Feed, reader: Reader) -> list[tuple[str, str, dict[str, Any]]]:
    return parse(feed.read(reader, 1 << 20))


@pytest.fixture
def log() -> Log:
    made = Log(Feed(2))
    made.start(row("cart", -1), row("tea", -1), row("cart", -1, table="frontend"))
    return made


def test_a_snapshot_comes_in_parts_and_only_the_last_has_an_id(log: Log) -> None:
    events = [each for text in log.feed.snapshot().events("start", ALL, 1) for each in parse(text)]
    assert [(data["first"], data["last"], len(data["rows"])) for _, _, data in events] == [
        (True, False, 1), (False, False, 1), (False, True, 1),
    ]  # fmt: skip
    assert [bool(cursor) for _, cursor, _ in events] == [False, False, True]
    assert Cursor.decode(events[-1][1]) == log.cursor
    only = Selection(frozenset({"frontend"}), Filter(namespaces=frozenset({"none"})))
    ((kind, cursor, data),) = [each for text in log.feed.snapshot().events("start", only, 1) for each in parse(text)]
    assert (kind, bool(cursor), data["rows"], data["last"]) == ("snapshot", True, [], True)


def test_a_batch_is_encoded_once_for_all_who_want_it_all(log: Log) -> None:
    readers = [log.feed.reader(ALL, log.feed.next) for _ in range(2)]
    one = log.feed.reader(Selection(ALL.tables, Filter(services=frozenset({"tea"}))), log.feed.next)
    log.write(0, "cart", "tea")
    texts = [log.feed.read(each, 1 << 20) for each in readers]
    assert texts[0] is texts[1]
    assert names(read(log.feed, one)) == [["tea"]]
    log.write(0, "cart")
    assert log.feed.read(one, 1 << 20) == b""
    assert names(read(log.feed, readers[0])) == [["cart"]]


def test_a_late_snapshot_and_the_ring_after_it_add_up(log: Log) -> None:
    first = log.feed.snapshot()
    log.write(0, "cart")
    log.write(1, "tea", state="deleted")
    assert log.feed.snapshot() is first
    assert names(read(log.feed, log.feed.reader(ALL, first.place))) == [["cart"], ["tea"]]
    assert [json.loads(each.text)["name"] for each in log.feed.rows(ALL)] == ["cart", "cart"]
    assert [json.loads(each.text)["version"] for each in log.feed.row("backend", "shop", "cart")] == [0]


def test_a_slow_reader_loses_its_place_and_its_cursor_is_older_than_the_ring() -> None:
    log = Log(Feed(2, ring_events=3))
    log.start()
    slow = log.feed.reader(ALL, log.feed.next)
    cursor = log.cursor
    for i in range(3):
        log.write(0, f"s{i}")
    assert log.feed.resumable(cursor, ALL)
    log.write(0, "s3")
    with pytest.raises(Lost):
        log.feed.read(slow, 1)
    assert not log.feed.resumable(cursor, ALL)
    # Time may stand still; what is gone from the ring is gone.
    assert not log.feed.resumable(cursor._replace(at=log.feed.at), ALL)
    assert not log.feed.covers(cursor.applied)
    assert log.feed.covers({**cursor.applied, 0: cursor.applied[0] + 1})


def test_the_ring_is_bounded_in_bytes_too() -> None:
    log = Log(Feed(2, ring_bytes=5000))
    log.start()
    reader = log.feed.reader(ALL, log.feed.next)
    for i in range(20):
        log.write(0, f"s{i}")
    with pytest.raises(Lost):
        log.feed.read(reader, 1)
    assert log.feed.next == 20


def test_what_is_made_for_filters_counts_too() -> None:
    log = Log(Feed(2, ring_bytes=50_000))
    log.start()
    names = [f"s{i}" for i in range(50)]
    place = log.feed.next
    log.write(0, *names)
    for name in names:
        one = log.feed.reader(Selection(ALL.tables, Filter(services=frozenset({name}))), place)
        assert name.encode() in log.feed.read(one, 1)
    log.write(0, "last")
    with pytest.raises(Lost):
        log.feed.read(log.feed.reader(ALL, place), 1)


def test_another_snapshot_takes_every_place(log: Log) -> None:
    reader = log.feed.reader(ALL, log.feed.next)
    log.start(row("new", 5), reason="gap")
    with pytest.raises(Lost):
        log.feed.read(reader, 1)
    assert (log.feed.reason, reader.generation == log.feed.generation) == ("gap", False)


def test_cursors_that_the_ring_can_not_vouch_for(log: Log) -> None:
    log.write(0, "cart")
    log.write(1, "tea")
    now = log.cursor
    assert log.feed.resumable(now, ALL)
    assert not log.feed.resumable(now._replace(at="0999"), ALL)
    assert not log.feed.resumable(now._replace(at="2000"), ALL)
    assert not log.feed.resumable(now._replace(applied={0: 9, 1: 0}), ALL)
    backend = {each: at for each, at in now.positions.items() if each[0] == "backend"}
    assert not log.feed.resumable(now._replace(positions=backend), ALL)
    assert log.feed.resumable(now._replace(positions=backend), Selection(frozenset({"backend"})))


@pytest.mark.parametrize("seed", range(30))
def test_resuming_anywhere_on_any_server_gives_each_row_once(seed: int) -> None:
    """Two servers deliver the same two partitions in orders of their own; a client goes from one to the other, by the
    id that it has."""
    chance = random.Random(seed)
    logs = [Log(Feed(2)), Log(Feed(2))]
    for log in logs:
        log.start()
    order = [[0] * 10 + [1] * 10, [0] * 10 + [1] * 10]
    for log, each in zip(logs, order, strict=True):
        chance.shuffle(each)
        for partition in each:
            # Time is the journal's, the same on both.
            log.at = 1000
            log.write(partition, f"p{partition}-{log.applied[partition] + 1}")
            if chance.random() < 0.3:
                log.feed.beat()
    seen: list[str] = []
    reader = logs[0].feed.reader(ALL, 0)
    cursor = ""
    while len(seen) < 20:
        log = chance.choice(logs)
        if cursor:
            had = Cursor.decode(cursor)
            assert log.feed.resumable(had, ALL)
            reader = log.feed.resume(ALL, had)
        else:
            reader = log.feed.reader(ALL, 0)
        for _ in range(chance.randrange(1, 6)):
            for kind, at, data in parse(log.feed.read(reader, 1)):
                cursor = at
                if kind == "batch":
                    seen += [each["name"] for each in data["rows"]]
    assert len(seen) == len(set(seen)) == 20


def test_the_frontier_is_that_of_the_slowest_partition(log: Log) -> None:
    log.write(0, "cart")
    log.write(0, "cart")
    assert frontiers(log.feed.seals, 2) == {"east": {"services": "99"}}
    assert frontiers({(0, "east"): log.seal(0)}, 2) == {}
    reader = log.feed.reader(ALL, log.feed.next)
    log.feed.beat()
    ((kind, cursor, data),) = read(log.feed, reader)
    assert (kind, cursor, data["frontiers"]) == ("heartbeat", log.cursor.encode(), {"east": {"services": "99"}})
